//! `FF_RESOLVE_FULL_TLS_CHAIN`: certificates that the server does not present and the machine does not know, up to the root.

use std::time::Duration;

use reqwest::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout;
use tracing::{debug, warn};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::AuthorityInfoAccessSyntax;
use x509_cert::ext::pkix::name::GeneralName;

use super::chain::{Names, root_of};

/// Most certificates that are fetched, as in the peer.
const HOPS: usize = 15;
/// For one of them, as in the peer.
const ONE: Duration = Duration::from_secs(15);
/// For all of them: a job waits for it.
const ALL: Duration = Duration::from_secs(30);
/// A certificate is far smaller.
const MOST_BYTES: usize = 256 * 1024;

/// Follows the issuer addresses of the last certificate of `chain` until one vouches for itself or has its root among `roots`.
/// Where it ends early the chain stays as far as it goes, and the process log says why.
///
/// What is fetched (commonly over plain HTTP) is taken only if the leaf verifies up to it, so nobody on the way can slip in an
/// authority.
pub(crate) async fn complete(
    chain: &mut Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
    http: &Client,
) {
    let following = async {
        for _ in 0..HOPS {
            let Some(last) = chain.last() else { return };
            if Names::of(last).is_none_or(|names| names.is_self_issued()) {
                return;
            }
            let Some(issuer) = fetch_issuer(chain, http).await else {
                return;
            };
            let root = root_of(&issuer, roots);
            chain.push(issuer);
            if let Some(root) = root {
                chain.push(root);
                return;
            }
        }
    };
    if timeout(ALL, following).await.is_err() {
        warn!("the issuers of the server's certificate could not all be fetched in {ALL:?}");
    }
}

/// The issuer of the last certificate, from the first of its addresses that has it.
async fn fetch_issuer(
    chain: &[CertificateDer<'static>],
    http: &Client,
) -> Option<CertificateDer<'static>> {
    for url in issuer_urls(chain.last()?) {
        match timeout(ONE, fetch(http, &url)).await {
            Ok(Ok(issuer)) if vouches(&issuer, chain) => return Some(issuer),
            Ok(Ok(_)) => warn!(url, "the certificate found is not the issuer: not used"),
            Ok(Err(error)) => warn!(url, error, "the issuer's certificate could not be fetched"),
            Err(_) => warn!(url, "the issuer's certificate did not come in {ONE:?}"),
        }
    }
    debug!("the server's certificate chain ends without a root");
    None
}

/// `caIssuers` addresses of a certificate (RFC 5280 §4.2.2.1), http and https.
fn issuer_urls(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let access = parsed
        .tbs_certificate()
        .get_extension::<AuthorityInfoAccessSyntax>();
    let Ok(Some((_, access))) = access else {
        return Vec::new();
    };
    let issuers = access
        .0
        .iter()
        .filter(|entry| entry.access_method == CA_ISSUERS);
    let urls = issuers.filter_map(|entry| match &entry.access_location {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    });
    urls.filter(|url| url.starts_with("http://") || url.starts_with("https://"))
        .collect()
}

const CA_ISSUERS: x509_cert::der::asn1::ObjectIdentifier =
    x509_cert::der::asn1::ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

async fn fetch(http: &Client, url: &str) -> Result<CertificateDer<'static>, String> {
    let text = |error: reqwest::Error| error.without_url().to_string();
    let response = http.get(url).send().await.map_err(text)?;
    let mut response = response.error_for_status().map_err(text)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(text)? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(format!("longer than {MOST_BYTES} bytes"));
        }
    }
    if body.starts_with(b"-----BEGIN") {
        return CertificateDer::from_pem_slice(&body).map_err(|error| error.to_string());
    }
    let certificate = CertificateDer::from(body);
    match EndEntityCert::try_from(&certificate) {
        Ok(_) => Ok(certificate),
        Err(error) => Err(format!("not a certificate: {error}")),
    }
}

/// Whether the leaf verifies over the rest of the chain up to `issuer`.
fn vouches(issuer: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return false;
    };
    let (Ok(leaf), Ok(anchor)) = (
        EndEntityCert::try_from(leaf),
        anchor_from_trusted_cert(issuer),
    ) else {
        return false;
    };
    let algorithms = rustls::crypto::ring::default_provider()
        .signature_verification_algorithms
        .all;
    leaf.verify_for_usage(
        algorithms,
        &[anchor],
        intermediates,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    )
    .is_ok()
}
