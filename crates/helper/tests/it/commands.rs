//! The commands that scripts call by the names of the peer's helper.

use std::{fs, path::Path, process::Command};

use crate::support::{PROGRAM, Reply, Store};

fn run(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_cache_is_archived_and_extracted_by_commands() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    fs::create_dir_all(project.join("vendor")).unwrap();
    fs::write(project.join("vendor/a"), "x").unwrap();
    let file = "../cache/key/cache.zip";
    let (ok, text) = run(
        &project,
        &[
            "cache-archiver",
            "--file",
            file,
            "--timeout",
            "10",
            "--path",
            "vendor",
            "--metadata",
            "cachekey:k",
        ],
    );
    assert!(ok && text.contains("stored only locally"), "{text}");
    let metadata = fs::read_to_string(dir.path().join("cache/key/metadata.json")).unwrap();
    assert_eq!(metadata, r#"{"cachekey":"k"}"#);
    fs::remove_dir_all(project.join("vendor")).unwrap();
    let (ok, text) = run(&project, &["cache-extractor", "-file", file]);
    assert!(ok, "{text}");
    assert!(project.join("vendor/a").exists());
    let (ok, text) = run(&project, &["cache-extractor", "--file", "../none.zip"]);
    assert!(
        !ok && text.contains("WARNING: Cache file does not exist"),
        "{text}"
    );
    let (ok, text) = run(
        &project,
        &["cache-extractor", "--file", file, "--gocloud-url", "s3://x"],
    );
    assert!(
        !ok && text.contains("--gocloud-url is not supported"),
        "{text}"
    );
}

#[test]
fn artifacts_are_sent_and_fetched_by_commands() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "content").unwrap();
    let store =
        Store::start(|request, _| Reply::status(if request.method == "POST" { 201 } else { 404 }));
    let url = store.url("/");
    let credentials = ["--url", &url, "--token", "t0ken", "--id", "7"];
    let args = [
        &["artifacts-uploader"],
        &credentials[..],
        &["--path=a", "--artifact-format=raw"],
    ]
    .concat();
    let (ok, text) = run(dir.path(), &args);
    assert!(ok && text.contains("201 Created"), "{text}");
    assert!(
        store.seen()[0]
            .body
            .windows(7)
            .any(|bytes| bytes == b"content")
    );
    let (ok, text) = run(
        dir.path(),
        &[&["artifacts-downloader"], &credentials[..]].concat(),
    );
    assert!(!ok && text.contains("FATAL: file does not exist"), "{text}");
    let (ok, text) = run(dir.path(), &["artifacts-downloader", "--url", &url]);
    assert!(
        !ok && text.contains("FATAL: Missing runner credentials"),
        "{text}"
    );
    let (ok, text) = run(
        dir.path(),
        &[
            "artifacts-downloader",
            "--url",
            &url,
            "--token",
            "t",
            "--id",
            "x",
        ],
    );
    assert!(!ok && text.contains("FATAL: Missing build ID"), "{text}");
}

#[test]
fn directories_are_opened_and_services_waited_for_by_commands() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    let (ok, _) = run(dir.path(), &["cache-init", "cache", "none"]);
    assert!(ok);
    let mode = fs::metadata(dir.path().join("cache"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o777);
    assert!(!run(dir.path(), &["cache-init"]).0);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (ok, text) = run(dir.path(), &["health-check", "-p", &port]);
    assert!(ok && text.contains("dial succeeded on localhost"), "{text}");
    let (ok, text) = run(dir.path(), &["health-check"]);
    assert!(!ok && text.contains("No HOST or PORT found"), "{text}");
}

#[test]
fn services_are_up_once_one_of_their_addresses_takes_connections() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    // Bound and not listening: nobody else gets the port.
    let shut = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let shut = shut.local_addr().unwrap().to_string();
    let both = format!("{shut},{open}");
    let (ok, text) = run(dir.path(), &["await-services", "30", &open, &both]);
    assert!(ok, "{text}");
    for line in ["0\n", "1\n"] {
        assert!(text.contains(line), "{text}");
    }
    let (ok, text) = run(dir.path(), &["await-services", "1", &open, &shut]);
    assert!(
        !ok && text.contains("0\n") && text.contains("1 of 2 did not answer"),
        "{text}"
    );
    let dialing = format!("1 dialing {shut}: ");
    assert_eq!(text.matches(&dialing).count(), 1, "{text}");
    let (ok, text) = run(dir.path(), &["await-services", "1", "web:80"]);
    assert!(!ok && text.contains("is not ADDRESS:PORT"), "{text}");
}

#[test]
fn every_command_explains_itself_and_refuses_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "artifacts-uploader",
        "artifacts-downloader",
        "cache-archiver",
        "cache-extractor",
        "cache-init",
        "health-check",
        "proxy-exec",
    ] {
        let (ok, text) = run(dir.path(), &[name, "--help"]);
        assert!(
            ok && text.contains(&format!("usage: gantry-helper {name}")),
            "{text}"
        );
        let (ok, text) = run(dir.path(), &[name, "--surprise"]);
        assert!(
            !ok && text.contains("flag provided but not defined: -surprise"),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_command_is_told_as_the_peer_tells_it() {
    let output = Command::new(PROGRAM).arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("FATAL: Command serve not found."), "{text}");
    for (name, why) in [("read-logs", "Kubernetes"), ("steps", "no native steps")] {
        let (ok, text) = run(Path::new("/"), &[name, "--path", "x"]);
        assert!(!ok && text.contains(why), "{text}");
    }
}

#[test]
fn the_version_has_the_six_lines_of_the_peer() {
    let (ok, text) = run(Path::new("/"), &["--version"]);
    assert!(ok);
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split_once(':').unwrap())
        .collect();
    let names: Vec<_> = lines.iter().map(|line| line.0).collect();
    assert_eq!(
        names,
        [
            "Version",
            "Git revision",
            "Git branch",
            "GO version",
            "Built",
            "OS/Arch"
        ]
    );
    let own = concat!(
        env!("CARGO_PKG_VERSION"),
        " (compatible with GitLab Runner 19."
    );
    assert!(lines[0].1.trim().starts_with(own), "{text}");
    assert_eq!(lines[2].1.trim(), "19-4-stable");
}

#[test]
fn a_command_is_run_in_place_of_the_helper_which_may_leave_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let temp = dir.path().join("project.tmp");
    let output = Command::new(PROGRAM)
        .args([
            "proxy-exec",
            "--bootstrap",
            "sh",
            "-c",
            "echo $$ $0 $1; exit 3",
            "--bootstrap",
            "b",
        ])
        .env("RUNNER_TEMP_PROJECT_DIR", &temp)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with(" --bootstrap b\n"), "{text}");
    let copy = temp.join("gitlab-runner-helper");
    let output = Command::new(&copy)
        .args(["proxy-exec", "/nonexistent/shell"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("cannot run /nonexistent/shell: No such file"),
        "{text}"
    );
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 1);
}

#[test]
fn a_negative_time_limit_of_a_cache_is_the_usual_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let archive = [
        "cache-archiver",
        "--file",
        "c.zip",
        "--path",
        "a",
        "--timeout",
    ];
    let (ok, text) = run(dir.path(), &[&archive[..], &["-5"]].concat());
    assert!(ok, "{text}");
    let (ok, text) = run(dir.path(), &[&archive[..], &["soon"]].concat());
    assert!(
        !ok && text.contains("invalid value \"soon\" for flag -timeout"),
        "{text}"
    );
}
