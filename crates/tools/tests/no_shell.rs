//! The carried helper in a container of an image that holds nothing but the helper needs: no shell, no libraries.

use std::process::{Command, Output};

use gantry_tools::{PROGRAM, helper_for};

const IMAGE: &str = "gantry.test/no-shell:1";

fn docker(engine: &str, arguments: &[&str]) -> Output {
    Command::new("docker")
        .args(["--host", engine])
        .args(arguments)
        .output()
        .expect("the docker command")
}

fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_carried_helper_runs_in_an_image_without_a_shell() {
    let Ok(engine) = std::env::var("GANTRY_TEST_ENGINE") else {
        eprintln!("skipped: GANTRY_TEST_ENGINE names no engine; ./dev test sets it");
        return;
    };
    let arch = printed(&docker(
        &engine,
        &["version", "--format", "{{.Server.Arch}}"],
    ));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(PROGRAM);
    std::fs::write(&program, helper_for(&arch).unwrap().bytes().unwrap()).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();

    let name = format!("gantry-tools-test-{}", std::process::id());
    let create = [
        "create",
        "--name",
        &name,
        "--network",
        "none",
        "--entrypoint",
        "/gantry-helper",
        IMAGE,
        "--version",
    ];
    printed(&docker(&engine, &create));
    let copy = docker(
        &engine,
        &[
            "cp",
            &program.display().to_string(),
            &format!("{name}:/{PROGRAM}"),
        ],
    );
    let run = docker(&engine, &["start", "--attach", &name]);
    let removed = docker(&engine, &["rm", "--force", &name]);

    printed(&copy);
    let words = printed(&run);
    assert!(
        words.starts_with("Version:") && words.contains(env!("CARGO_PKG_VERSION")),
        "{words}"
    );
    printed(&removed);
}
