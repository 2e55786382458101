//! `docs/config.md` is what the table of keys says.

use std::{env, fs, path::Path};

#[test]
fn the_page_of_all_keys_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let page = gantry_config::keys::document();
    if env::var_os("GANTRY_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = page
        .lines()
        .zip(written.lines().chain(std::iter::repeat("(nothing)")))
        .find(|(new, old)| new != old);
    assert!(
        page == written,
        "docs/config.md is not what the table of keys says, first at {differs:?}; run\n\
         GANTRY_WRITE_DOCS=1 cargo test -p gantry-config --test document"
    );
}
