//! The commands that scripts call by the names of the peer's helper.

use std::{fs, path::Path, process::Command};

use crate::support::{PROGRAM, Reply, Store};

fn run(dir: &Path, args: &[&str]) -> (bool, String) {
    run_in(dir, args, &[])
}

fn run_in(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(PROGRAM)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
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
            r#"{"CacheKey":"k"}"#,
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
        "read-logs",
        "steps",
    ] {
        let (ok, text) = run(dir.path(), &["help", name]);
        assert!(
            ok && text.contains(&format!("gantry-helper {name}")),
            "{text}"
        );
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
    let (ok, text) = run(Path::new("/"), &["steps", "serve"]);
    assert!(!ok && text.contains("no native steps"), "{text}");
    let (ok, text) = run(Path::new("/"), &["--debug"]);
    assert!(ok && text.contains("usage: gantry-helper"), "{text}");
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

#[test]
fn what_the_commands_say_is_as_loud_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let archive = [
        "cache-archiver",
        "--file",
        "c.zip",
        "--path",
        "a",
        "--path",
        "none",
    ];
    for (before, level, info, warning) in [
        (&[][..], "", true, true),
        (&["--debug"], "", true, true),
        (&["--log-level", "warn"], "", false, true),
        (&["-l=error"], "debug", false, false),
        (&[], "warning", false, true),
        // That of an application.
        (&[], "verbose", true, true),
    ] {
        let (ok, text) = run_in(
            dir.path(),
            &[before, &archive].concat(),
            &[("LOG_LEVEL", level)],
        );
        assert!(ok, "{text}");
        assert_eq!(
            text.contains("a: found 1"),
            info,
            "{before:?} {level}: {text}"
        );
        assert_eq!(
            text.contains("none: no matching"),
            warning,
            "{before:?} {level}: {text}"
        );
    }
    let (ok, text) = run(dir.path(), &["--log-level=error", "cache-extractor"]);
    assert!(!ok && text.contains("FATAL: Missing cache file"), "{text}");
}

#[test]
fn a_switch_with_its_value_apart_is_warned_of_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let (ok, text) = run(
        dir.path(),
        &[
            "--debug",
            "false",
            "cache-archiver",
            "--untracked",
            "false",
            "--file",
            "c.zip",
            "--path",
            "a",
            "b",
        ],
    );
    assert!(ok && dir.path().join("c.zip").exists(), "{text}");
    for line in [
        "WARNING: boolean parameters must be passed in the command line with --debug=false",
        "WARNING: boolean parameters must be passed in the command line with --untracked=false",
        "WARNING: cache-archiver: ignored, since no flag takes it: \"b\"",
        "a: found 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn flags_count_for_more_than_the_variables_of_the_job() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "content").unwrap();
    let store = Store::start(|_, _| Reply::status(201));
    let url = store.url("/");
    let environment = [
        ("CI_SERVER_URL", &url[..]),
        ("CI_JOB_TOKEN", "t0ken"),
        ("CI_JOB_ID", "7"),
        ("ARTIFACT_COMPRESSION_LEVEL", "fast"),
        ("TRANSFER_METER_FREQUENCY", ""),
    ];
    let upload = ["artifacts-uploader", "--path", "a"];
    let (ok, text) = run_in(dir.path(), &upload, &environment);
    assert!(ok && !text.contains("invalid"), "{text}");
    let sent = String::from_utf8_lossy(&store.seen()[0].body).into_owned();
    assert!(sent.contains("filename=\"artifacts.zip\""), "{sent}");
    let (ok, text) = run_in(
        dir.path(),
        &[
            &upload[..],
            &[
                "--compression-level",
                "tight",
                "--transfer-meter-frequency=1s",
            ],
        ]
        .concat(),
        &environment,
    );
    assert!(ok, "{text}");
    assert!(
        text.contains("compression level \"tight\" is invalid"),
        "{text}"
    );
    assert!(text.contains("\rUploading artifacts"), "{text}");
    let staging = [
        "artifacts-downloader",
        "--archiver-staging-dir=/nonexistent",
    ];
    let (ok, text) = run_in(dir.path(), &staging, &environment);
    assert!(
        !ok && text.contains("cannot write to /nonexistent"),
        "{text}"
    );
}

#[test]
fn what_is_missing_or_makes_no_sense_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let cache = ["cache-archiver", "--file=c.zip", "--path=a"];
    let artifacts = [
        "artifacts-uploader",
        "--url=http://127.0.0.1:1",
        "--token=t",
        "--path=a",
    ];
    for (args, environment, text) in [
        (
            &["cache-archiver", "--path=a"][..],
            &[][..],
            "Missing cache file (--file)",
        ),
        (
            &["artifacts-downloader", "--url=x"],
            &[],
            "Missing runner credentials (--token)",
        ),
        (
            &["artifacts-downloader"],
            &[],
            "Missing runner credentials (--url and --token)",
        ),
        (&artifacts, &[], "Missing build ID (--id)"),
        (&artifacts, &[("CI_JOB_ID", "0")], "Missing build ID (--id)"),
        (
            &artifacts,
            &[("CI_JOB_ID", "seven")],
            "invalid value \"seven\" of the variable CI_JOB_ID for flag -id: a whole number is needed",
        ),
        (
            &[&artifacts[..], &["--id=1", "--tls-ca-file=/nonexistent"]].concat(),
            &[],
            "--tls-ca-file: cannot read /nonexistent: No such file",
        ),
        (
            &[&cache[..], &["--metadata=cachekey:k"]].concat(),
            &[],
            "invalid value \"cachekey:k\" for flag -metadata (or CACHE_METADATA): a JSON object with texts is needed",
        ),
        (
            &[&cache[..], &["--url=http://127.0.0.1:1", "--header=X-Key"]].concat(),
            &[],
            "invalid value for flag -header: \"X-Key\" has no colon",
        ),
        (
            &cache,
            &[("CACHE_CHUNK_SIZE", "-1")],
            "invalid value \"-1\" of the variable CACHE_CHUNK_SIZE",
        ),
        (&["read-logs"], &[], "read-logs: --path is missing"),
    ] {
        let (ok, told) = run_in(dir.path(), args, environment);
        assert!(
            !ok && told.contains("FATAL: ") && told.contains(text),
            "{args:?}: {told}"
        );
    }
}

#[test]
fn metadata_of_a_cache_come_by_flag_variable_or_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    fs::write(
        dir.path().join("env"),
        "AWS_REGION=\"x\"\nCACHE_METADATA=\"{\\\"cachekey\\\":\\\"of a file\\\"}\"\n",
    )
    .unwrap();
    let of_variable = [("CACHE_METADATA", r#"{"cachekey":"of a variable"}"#)];
    for (n, (more, environment, key)) in [
        (&["--env-file=env"][..], &[][..], "of a file"),
        (&["--env-file=env"], &of_variable, "of a variable"),
        (
            &[r#"--metadata={"cachekey":"of a flag"}"#],
            &of_variable,
            "of a flag",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("--file=c{n}/c.zip");
        let args = [&["cache-archiver", "--path=a", &file][..], more].concat();
        let (ok, text) = run_in(dir.path(), &args, environment);
        assert!(ok, "{text}");
        let metadata = fs::read_to_string(dir.path().join(format!("c{n}/metadata.json"))).unwrap();
        assert_eq!(metadata, format!(r#"{{"cachekey":"{key}"}}"#));
    }
    let (ok, text) = run(
        dir.path(),
        &[
            "cache-archiver",
            "--path=a",
            "--file=d.zip",
            "--env-file=none",
        ],
    );
    assert!(
        ok && text.contains("WARNING: cannot read the env file none"),
        "{text}"
    );
}

#[test]
fn the_program_goes_by_the_name_it_is_called_by() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("gitlab-runner-helper");
    std::os::unix::fs::symlink(PROGRAM, &name).unwrap();
    let output = Command::new(&name)
        .args(["cache-init", "-h"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("usage: gitlab-runner-helper cache-init [flags] PATH…"),
        "{text}"
    );
}

#[test]
fn a_log_is_followed_from_before_it_is_there_until_it_is_gone() {
    use std::io::{BufRead, BufReader, Write};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut child = Command::new(PROGRAM)
        .args([
            "read-logs",
            "--wait-file-timeout=1h",
            "--offset=4",
            "--path",
        ])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(Result::unwrap);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"one\ntwo\n").unwrap();
    assert_eq!(next().as_deref(), Some("8 two"));
    file.write_all(b"thr").unwrap();
    assert_eq!(next().as_deref(), Some("11 thr"));
    file.write_all(b"ee\n").unwrap();
    assert_eq!(next().as_deref(), Some("14 ee"));
    fs::remove_file(&path).unwrap();
    assert_eq!(next(), None);
    assert_eq!(child.wait().unwrap().code(), Some(100));

    let (ok, text) = run(
        dir.path(),
        &["read-logs", "--path=none", "--wait-file-timeout=0s"],
    );
    assert!(
        !ok && text.contains("error reading logs none: timeout waiting for file"),
        "{text}"
    );
}

#[test]
fn a_log_that_nobody_reads_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "one\n").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(PROGRAM)
        .args(["read-logs", "--path"])
        .arg(&path)
        .stdout(writer)
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
}
