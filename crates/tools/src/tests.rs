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

/// A file of the given content, and helpers with it named for an architecture.
fn named(arch: &str, content: &[u8]) -> (tempfile::NamedTempFile, Helpers) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let helpers = Helpers::with_files([(arch.to_owned(), file.path().to_owned())]);
    (file, helpers)
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
fn a_missing_architecture_names_the_setting_and_what_there_is() {
    let error = helper_for("sparc64").unwrap_err().to_string();
    for part in [
        "\"sparc64\"",
        EMBEDDED[0].arch,
        "[gantry.helper_binary] sparc64 = ",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[rstest]
#[case("amd64", "x86_64")]
#[case("x86_64", "amd64")]
fn a_named_file_wins_over_the_carried_helper(#[case] written: &str, #[case] reported: &str) {
    let program = elf(62, LOAD);
    let (_file, helpers) = named(written, &program);
    let helper = helpers.helper_for(reported).unwrap();
    assert_eq!(helper.bytes().unwrap(), program);
    assert_eq!(helper.sha256(), sha256_hex(&program));
}

#[test]
fn a_named_file_adds_an_architecture_and_leaves_the_others() {
    let (_file, helpers) = named("arm64", &elf(183, LOAD));
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
    let (file, helpers) = named("arm64", &content);
    let error = helpers.helper_for("arm64").unwrap_err().to_string();
    let path = file.path().display().to_string();
    for part in [reason, &path, "helper_binary.arm64"] {
        assert!(error.contains(part), "{part} in {error}");
    }
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
    let (file, helpers) = named("amd64", &elf(62, LOAD));
    let helper = helpers.helper_for("amd64").unwrap();
    fs::write(file.path(), elf(62, 6)).unwrap();
    assert!(matches!(helper.bytes(), Err(ToolsError::Changed { .. })));
}

#[test]
fn a_named_file_that_is_not_there_is_an_error_and_not_the_carried_helper() {
    let (file, helpers) = named(EMBEDDED[0].arch, b"");
    let path = file.path().to_owned();
    file.close().unwrap();
    let error = helpers.helper_for(EMBEDDED[0].arch).unwrap_err();
    assert!(
        matches!(&error, ToolsError::Read { path: named, .. } if *named == path),
        "{error}"
    );
}
