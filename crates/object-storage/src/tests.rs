//! What the tests of all storages share.

mod keys;
mod servers;

use std::collections::BTreeMap;

use url::Url;

pub(crate) fn client() -> reqwest::Client {
    // A client cannot be made without a TLS provider.
    gantry_gitlab::outside_client().unwrap()
}

/// The items of a query.
pub(crate) fn query(url: &str) -> BTreeMap<String, String> {
    let url = Url::parse(url).unwrap();
    url.query_pairs().into_owned().collect()
}
