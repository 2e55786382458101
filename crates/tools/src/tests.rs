use rstest::rstest;

use super::elf::ElfError;
use super::*;

/// The head of an ELF file with one program header of the given kind.
fn elf(machine: u16, program_header: u32) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32] = 64;
    file[54] = 56;
    file[56] = 1;
    file[64..68].copy_from_slice(&program_header.to_le_bytes());
    file
}

const LOAD: u32 = 1;
const INTERP: u32 = 3;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[rstest]
#[case("x86_64", "amd64")]
#[case("amd64", "amd64")]
#[case("aarch64", "arm64")]
#[case("armv7l", "arm")]
#[case("s390x", "s390x")]
#[case("pdp11", "pdp11")]
fn engine_names_of_an_architecture_come_to_one(#[case] reported: &str, #[case] name: &str) {
    assert_eq!(canonical_arch(reported), name);
}

#[test]
fn the_carried_helper_unpacks_to_the_static_program_that_its_hash_names() {
    for name in [EMBEDDED[0].arch, "x86_64"]
        .iter()
        .filter(|name| canonical_arch(name) == EMBEDDED[0].arch)
    {
        let helper = helper_for(name).unwrap();
        let bytes = helper.bytes().unwrap();
        assert_eq!(helper.arch(), EMBEDDED[0].arch);
        assert_eq!(helper.sha256(), sha256_hex(&bytes));
        assert_eq!(elf::static_program(&bytes), Ok(EMBEDDED[0].arch));
    }
}

#[test]
fn no_path_of_the_builder_is_in_the_carried_helper() {
    let bytes = helper_for(EMBEDDED[0].arch).unwrap().bytes().unwrap();
    let here = env!("CARGO_MANIFEST_DIR")
        .strip_suffix("/crates/tools")
        .unwrap()
        .as_bytes();
    assert!(!bytes.windows(here.len()).any(|window| window == here));
}

#[test]
fn a_missing_architecture_names_the_setting_and_the_file() {
    let dir = folder(&[]);
    let error = Helpers::with_dir(dir.path())
        .helper_for("sparc64")
        .unwrap_err()
        .to_string();
    for part in [
        "\"sparc64\"",
        EMBEDDED[0].arch,
        "gantry-helper-sparc64",
        "helper_dir under [gantry]",
        &*dir.path().display().to_string(),
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn a_helper_of_the_folder_wins_over_the_carried_one() {
    let program = elf(62, LOAD);
    let dir = folder(&[("gantry-helper-amd64", &program)]);
    let helper = Helpers::with_dir(dir.path()).helper_for("x86_64").unwrap();
    assert_eq!(helper.bytes().unwrap(), program);
    assert_eq!(helper.sha256(), sha256_hex(&program));
}

#[test]
fn a_folder_adds_an_architecture_and_leaves_the_others() {
    let dir = folder(&[("gantry-helper-arm64", &elf(183, LOAD))]);
    let helpers = Helpers::with_dir(dir.path());
    assert_eq!(helpers.helper_for("aarch64").unwrap().arch(), "arm64");
    assert_eq!(
        helpers.helper_for(EMBEDDED[0].arch).unwrap(),
        helper_for(EMBEDDED[0].arch).unwrap()
    );
}

#[rstest]
#[case::script(b"#!/bin/sh\n".to_vec(), "not an ELF program")]
#[case::empty(vec![], "not an ELF program")]
#[case::cut_header(elf(183, LOAD)[..40].to_vec(), "not an ELF program")]
#[case::cut_table(elf(183, LOAD)[..64].to_vec(), "not an ELF program")]
#[case::dynamic(elf(183, INTERP), "dynamically linked")]
#[case::other_machine(elf(62, LOAD), "a program for amd64")]
#[case::unknown_machine(elf(4242, LOAD), "unknown machine (number 4242)")]
fn an_unfit_file_is_named_with_what_is_wrong_with_it(
    #[case] content: Vec<u8>,
    #[case] reason: &str,
) {
    let dir = folder(&[("gantry-helper-arm64", &content)]);
    let error = Helpers::with_dir(dir.path())
        .helper_for("arm64")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(reason) && error.contains("gantry-helper-arm64"),
        "{error}"
    );
}

#[test]
fn a_table_far_outside_the_file_is_an_error_and_no_panic() {
    let mut program = elf(62, LOAD);
    program[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(elf::static_program(&program), Err(ElfError::NotElf));
}

#[test]
fn a_big_endian_program_is_read_too() {
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    program[19] = 22;
    assert_eq!(elf::static_program(&program), Ok("s390x"));
}

#[test]
fn a_file_that_changed_after_it_was_chosen_is_refused() {
    let dir = folder(&[("gantry-helper-amd64", &elf(62, LOAD))]);
    let helper = Helpers::with_dir(dir.path()).helper_for("amd64").unwrap();
    fs::write(dir.path().join("gantry-helper-amd64"), elf(62, 6)).unwrap();
    assert!(matches!(helper.bytes(), Err(ToolsError::Changed { .. })));
}

#[rstest]
#[case("../../etc/passwd")]
#[case("a/b")]
#[case("")]
fn an_architecture_that_is_no_name_never_reaches_the_file_system(#[case] arch: &str) {
    // `gantry-helper-a/b` exists, so only the check keeps it out.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("gantry-helper-a")).unwrap();
    fs::write(dir.path().join("gantry-helper-a/b"), "x").unwrap();
    fs::write(dir.path().join("gantry-helper-"), "x").unwrap();
    let found = Helpers::with_dir(dir.path()).helper_for(arch);
    assert!(
        matches!(found, Err(ToolsError::Missing { .. })),
        "{found:?}"
    );
}

#[test]
fn an_unreadable_file_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("gantry-helper-arm64")).unwrap();
    let found = Helpers::with_dir(dir.path()).helper_for("arm64");
    assert!(matches!(found, Err(ToolsError::Read { .. })), "{found:?}");
}
