use super::{FILE_NAME, SystemId, make, read_or_make};
use rstest::rstest;
use std::fs;
use std::path::Path;

const NO_MACHINE_ID: [&str; 0] = [];

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[rstest]
#[case("s_0123456789ab", true)]
#[case("r_aZ0123456789\n", true)]
#[case("  s_0123456789ab  ", true)]
#[case("x_0123456789ab", false)]
#[case("s_0123456789a", false)]
#[case("s_0123456789abc", false)]
#[case("s_0123456789a-", false)]
#[case("s_0123456789é", false)]
#[case("", false)]
fn system_id_has_a_form(#[case] text: &str, #[case] valid: bool) {
    assert_eq!(SystemId::from_text(text).is_some(), valid);
}

#[test]
fn an_id_of_the_peer_is_kept_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    fs::write(&file, "r_AbCdEfGhIjKl\n").unwrap();
    let known = read_or_make(&folder.path().join("config.toml"), &NO_MACHINE_ID).unwrap();
    assert_eq!(known.id.as_str(), "r_AbCdEfGhIjKl");
    assert!(known.not_kept.is_none());
    assert_eq!(fs::read(&file).unwrap(), b"r_AbCdEfGhIjKl\n");
}

#[test]
fn a_machine_gives_the_id_the_peer_would_make() {
    // HMAC-SHA256 with the machine id as key, computed independently.
    let id = make(Some("0123456789abcdef0123456789abcdef"), &mut rand::rng());
    assert_eq!(id.as_str(), "s_ee3af03959fe");
}

#[rstest]
#[case::first("one\n", Some("two"), Some("one"))]
#[case::blank_is_none(" \n", Some("two"), Some("two"))]
#[case::none("", None, None)]
fn the_first_machine_id_that_is_not_blank_counts(
    #[case] first: &str,
    #[case] second: Option<&str>,
    #[case] used: Option<&str>,
) {
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("first"), folder.path().join("second")];
    fs::write(&files[0], first).unwrap();
    second
        .into_iter()
        .for_each(|text| fs::write(&files[1], text).unwrap());
    let known = read_or_make(&folder.path().join("config.toml"), &files).unwrap();
    match used {
        Some(used) => assert_eq!(known.id, make(Some(used), &mut rand::rng())),
        None => assert!(known.id.as_str().starts_with("r_")),
    }
}

#[test]
fn a_made_id_is_written_for_its_owner_alone_and_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("etc");
    let config = folder.join("config.toml");
    let first = read_or_make(&config, &NO_MACHINE_ID).unwrap();
    assert!(first.not_kept.is_none());
    assert_eq!(
        fs::read_to_string(folder.join(FILE_NAME)).unwrap(),
        first.id.as_str()
    );
    assert_eq!(
        (mode(&folder), mode(&folder.join(FILE_NAME))),
        (0o700, 0o600)
    );
    assert_eq!(names(&folder), [FILE_NAME]);
    assert_eq!(read_or_make(&config, &NO_MACHINE_ID).unwrap().id, first.id);
}

#[rstest]
#[case(b"nonsense".as_slice())]
#[case(b"".as_slice())]
#[case(b"s_\xff".as_slice())]
fn what_is_no_id_is_replaced(#[case] content: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    fs::write(&file, content).unwrap();
    let known = read_or_make(&folder.path().join("config.toml"), &NO_MACHINE_ID).unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), known.id.as_str());
}

#[test]
fn random_ids_differ() {
    assert_ne!(make(None, &mut rand::rng()), make(None, &mut rand::rng()));
    assert!(SystemId::from_text(make(None, &mut rand::rng()).as_str()).is_some());
}

#[test]
fn an_id_that_cannot_be_written_is_used_and_the_file_named() {
    // A link to nowhere in place of the folder: not even root can write there.
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("etc");
    std::os::unix::fs::symlink(parent.path().join("nowhere"), &folder).unwrap();
    let known = read_or_make(&folder.join("config.toml"), &NO_MACHINE_ID).unwrap();
    assert!(SystemId::from_text(known.id.as_str()).is_some());
    let not_kept = known.not_kept.unwrap();
    assert_eq!(
        (not_kept.action, not_kept.path.as_path()),
        ("write", folder.join(FILE_NAME).as_path())
    );
}

#[test]
fn a_draft_of_a_killed_process_does_not_block_the_next() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder
            .path()
            .join(format!("{FILE_NAME}.{}.new", std::process::id())),
        "s_012345678901234567890",
    )
    .unwrap();
    let known = read_or_make(&folder.path().join("config.toml"), &NO_MACHINE_ID).unwrap();
    assert!(known.not_kept.is_none());
    assert_eq!(
        fs::read_to_string(folder.path().join(FILE_NAME)).unwrap(),
        known.id.as_str()
    );
    assert_eq!(names(folder.path()), [FILE_NAME]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(FILE_NAME)).unwrap();
    let error = read_or_make(&folder.path().join("config.toml"), &NO_MACHINE_ID).unwrap_err();
    assert_eq!(
        (error.action, error.path),
        ("read", folder.path().join(FILE_NAME))
    );
}
