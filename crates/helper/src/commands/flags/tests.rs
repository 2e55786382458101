use super::*;
use crate::commands::spec::COMMANDS;

fn command(name: &str) -> &'static Command {
    Command::named(name).unwrap()
}

fn parsed_in(name: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<Flags, String> {
    let variable = |name: &str| {
        let found = environment.iter().find(|(known, _)| *known == name)?;
        Some(found.1.to_owned())
    };
    let args = args.iter().map(OsString::from).collect();
    Flags::parse(command(name), args, &variable).map_err(|failed| failed.text.unwrap())
}

fn parsed(name: &str, args: &[&str]) -> Result<Flags, String> {
    parsed_in(name, args, &[])
}

/// cli §2, each row: flag, variable, what counts without both, a value that is good, one that is not.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const CREDENTIALS: [Row; 6] = [
    (
        "url",
        "CI_SERVER_URL",
        "",
        "https://gitlab.example.com",
        None,
    ),
    ("token", "CI_JOB_TOKEN", "", "secret", None),
    ("id", "CI_JOB_ID", "", "7", Some("seven")),
    ("tls-ca-file", "CI_SERVER_TLS_CA_FILE", "", "/ca.pem", None),
    (
        "tls-cert-file",
        "CI_SERVER_TLS_CERT_FILE",
        "",
        "/cert.pem",
        None,
    ),
    (
        "tls-key-file",
        "CI_SERVER_TLS_KEY_FILE",
        "",
        "/key.pem",
        None,
    ),
];
const SELECTION: [Row; 4] = [
    ("path*", "", "", "dist", None),
    ("exclude*", "", "", "dist/tmp", None),
    ("untracked", "", "", "true", Some("maybe")),
    ("verbose", "", "", "true", Some("2")),
];
const METER: [Row; 1] = [(
    "transfer-meter-frequency",
    "TRANSFER_METER_FREQUENCY",
    "",
    "5s",
    Some("often"),
)];
const UPLOADER: [Row; 19] = [
    ("name", "", "artifacts", "results", None),
    ("expire-in", "", "", "1 week", None),
    ("artifact-format", "", "", "gzip", None),
    ("artifact-type", "", "", "junit", None),
    (
        "compression-level",
        "ARTIFACT_COMPRESSION_LEVEL",
        "",
        "fast",
        None,
    ),
    ("timeout", "", "1h0m0s", "30m", Some("60")),
    ("response-header-timeout", "", "10m0s", "90s", Some("-1s")),
    ("ci-debug-trace", "CI_DEBUG_TRACE", "", "true", Some("yes")),
    ("generate-artifacts-metadata", "", "", "1", Some("on")),
    ("runner-id", "", "", "12", Some("x")),
    ("repo-url", "", "", "https://gitlab.example.com/g/p", None),
    ("repo-digest", "", "", "abc", None),
    ("job-name", "", "", "build", None),
    ("executor-name", "", "", "docker", None),
    ("runner-name", "", "", "blue", None),
    ("started-at", "", "", "2026-01-01T00:00:00Z", None),
    ("ended-at", "", "", "2026-01-01T00:00:00Z", None),
    ("schema-version", "", "", "v1", None),
    ("metadata-parameter*", "", "", "CI", None),
];
const DOWNLOADER: [Row; 6] = [
    (
        "direct-download",
        "FF_USE_DIRECT_DOWNLOAD",
        "",
        "true",
        Some("yes"),
    ),
    ("retry", "", "2", "5", Some("-1")),
    ("retry-time", "", "1s", "2m", Some("2")),
    (
        "archiver-staging-dir",
        "ARCHIVER_STAGING_DIR",
        "",
        "/var/tmp",
        None,
    ),
    ("concurrency", "", "", "4", Some("many")),
    ("chunk-size", "", "", "1048576", Some("1M")),
];
const CACHE: [Row; 10] = [
    ("file", "", "", "cache.zip", None),
    ("url", "", "", "https://store.example.com/cache", None),
    ("gocloud-url", "", "", "s3://bucket/cache", None),
    ("timeout", "", "10", "-5", Some("5m")),
    ("env-file", "", "", "env", None),
    (
        "transfer-buffer-size",
        "CACHE_TRANSFER_BUFFER_SIZE",
        "",
        "4096",
        Some("-1"),
    ),
    ("chunk-size", "CACHE_CHUNK_SIZE", "", "4096", Some("-1")),
    ("concurrency", "CACHE_CONCURRENCY", "", "16", Some("-1")),
    ("retry", "", "", "1", Some("x")),
    ("retry-time", "", "", "1s", Some("x")),
];
const ARCHIVER: [Row; 7] = [
    ("alternate-file", "", "", "other.zip", None),
    ("check-url", "", "", "https://store.example.com/head", None),
    ("header*", "", "", "X-A: b", None),
    (
        "metadata",
        "CACHE_METADATA",
        "",
        r#"{"cachekey":"k"}"#,
        None,
    ),
    (
        "compression-level",
        "CACHE_COMPRESSION_LEVEL",
        "",
        "slow",
        None,
    ),
    (
        "compression-format",
        "CACHE_COMPRESSION_FORMAT",
        "",
        "tarzstd",
        None,
    ),
    (
        "max-uploaded-archive-size",
        "CACHE_MAX_UPLOADED_ARCHIVE_SIZE",
        "",
        "1000",
        Some("1 GB"),
    ),
];
const EXTRACTOR: [Row; 4] = [
    (
        "alternate-url",
        "",
        "",
        "https://store.example.com/other",
        None,
    ),
    ("alternate-gocloud-url", "", "", "s3://bucket/other", None),
    ("head-url", "", "", "https://store.example.com/head", None),
    (
        "alternate-head-url",
        "",
        "",
        "https://store.example.com/head",
        None,
    ),
];
const PROXY_EXEC: [Row; 2] = [
    ("bootstrap", "", "", "true", Some("perhaps")),
    (
        "temp-dir",
        "RUNNER_TEMP_PROJECT_DIR",
        "",
        "/builds/p.tmp",
        None,
    ),
];
const READ_LOGS: [Row; 3] = [
    ("path", "", "", "log", None),
    ("offset", "", "", "10", Some("-10")),
    ("wait-file-timeout", "", "1s", "1m", Some("soon")),
];

const TABLE: [(&str, &[&[Row]]); 9] = [
    (
        "artifacts-uploader",
        &[&CREDENTIALS, &SELECTION, &UPLOADER, &METER],
    ),
    ("artifacts-downloader", &[&CREDENTIALS, &DOWNLOADER, &METER]),
    ("cache-archiver", &[&CACHE, &SELECTION, &ARCHIVER, &METER]),
    ("cache-extractor", &[&CACHE, &EXTRACTOR, &METER]),
    ("cache-init", &[]),
    ("health-check", &[&[("port*", "", "", "80", Some("http"))]]),
    ("proxy-exec", &[&PROXY_EXEC]),
    ("read-logs", &[&READ_LOGS]),
    ("steps", &[]),
];

#[test]
fn every_command_takes_the_flags_and_variables_of_the_peer_s() {
    assert_eq!(COMMANDS.len(), TABLE.len());
    for (name, groups) in TABLE {
        let rows: Vec<&Row> = groups.iter().copied().flatten().collect();
        assert_eq!(command(name).flags().count(), rows.len(), "{name}");
        for (flag, variable, default, good, bad) in rows {
            let is_list = flag.ends_with('*');
            let flag = flag.trim_end_matches('*');
            let told = |flags: &Flags| match is_list {
                true => flags.list(flag).join(" "),
                false => flags.text(flag).to_owned(),
            };
            assert_eq!(told(&parsed(name, &[]).unwrap()), *default, "{name} {flag}");
            // In each form, and more than once.
            for dashes in ["-", "--"] {
                let joined = format!("{dashes}{flag}={good}");
                assert_eq!(
                    told(&parsed(name, &[&joined]).unwrap()),
                    *good,
                    "{name} {joined}"
                );
                let flags = parsed(name, &[&joined, &joined]).unwrap();
                let twice = if is_list {
                    format!("{good} {good}")
                } else {
                    (*good).to_owned()
                };
                assert_eq!(told(&flags), twice, "{name} {joined}");
                if command(name).flag(flag).unwrap().kind == Kind::Bool {
                    assert!(
                        parsed(name, &[&format!("{dashes}{flag}")])
                            .unwrap()
                            .on(flag)
                    );
                } else {
                    let apart = format!("{dashes}{flag}");
                    assert_eq!(told(&parsed(name, &[&apart, good]).unwrap()), *good);
                    let problem = parsed(name, &[&apart]).unwrap_err();
                    assert_eq!(problem, format!("{name}: flag needs an argument: -{flag}"));
                }
            }
            if let Some(bad) = bad {
                let problem = parsed(name, &[&format!("--{flag}={bad}")]).unwrap_err();
                let begin = format!("{name}: invalid value {bad:?} for flag -{flag}: ");
                assert!(problem.starts_with(&begin), "{problem}");
                assert!(problem.ends_with(" is needed"), "{problem}");
            }
            if variable.is_empty() {
                continue;
            }
            let by_variable = |value| parsed_in(name, &[], &[(variable, value)]);
            assert_eq!(
                told(&by_variable(good).unwrap()),
                *good,
                "{name} {variable}"
            );
            assert_eq!(
                told(&by_variable("").unwrap()),
                *default,
                "{name} {variable} empty"
            );
            // The flag counts for more, even where the variable makes no sense.
            let flags = parsed_in(name, &[&format!("--{flag}={good}")], &[(variable, "?")]);
            let flags = flags.unwrap();
            assert_eq!(told(&flags), *good, "{name} {variable}");
            assert_eq!(flags.for_variables()[variable], *good);
            assert!(flags.warnings.is_empty());
            if let Some(bad) = bad {
                match by_variable(bad) {
                    Err(problem) => assert!(
                        problem.contains(&format!(
                            "value {bad:?} of the variable {variable} for flag -{flag}: "
                        )),
                        "{problem}"
                    ),
                    Ok(flags) => {
                        assert!(!flags.on(flag));
                        let warning =
                            format!("{variable}: {bad:?} counts as false: true or false is needed");
                        assert_eq!(flags.warnings, [warning]);
                    }
                }
            }
        }
    }
}

#[test]
fn switches_may_be_off() {
    for value in ["0", "f", "F", "false", "FALSE", "False"] {
        let flags = parsed("cache-archiver", &[&format!("--untracked={value}")]).unwrap();
        assert!(!flags.on("untracked"));
    }
    let flags = parsed_in(
        "artifacts-downloader",
        &["--direct-download=false"],
        &[("FF_USE_DIRECT_DOWNLOAD", "true")],
    );
    assert!(!flags.unwrap().on("direct-download"));
}

// cli §1
#[test]
fn a_switch_with_its_value_apart_is_taken_and_told() {
    for (args, on) in [
        (&["--untracked", "true", "--file", "f"][..], true),
        (&["-untracked", "False", "--file=f"], false),
    ] {
        let flags = parsed("cache-archiver", args).unwrap();
        assert_eq!(flags.on("untracked"), on, "{args:?}");
        assert_eq!(flags.text("file"), "f", "what comes after is not lost");
        let (flag, value) = (args[0], args[1].to_lowercase());
        assert_eq!(
            flags.warnings,
            [format!(
                "boolean parameters must be passed in the command line with {flag}={value}"
            )]
        );
    }
    // Values and names may be such words.
    let flags = parsed("cache-archiver", &["--path", "true", "--file", "false"]).unwrap();
    assert!(flags.warnings.is_empty(), "{:?}", flags.warnings);
    assert!(parsed("cache-init", &["true"]).unwrap().warnings.is_empty());
}

#[test]
fn words_that_no_flag_takes_are_named() {
    let flags = parsed("cache-archiver", &["--path", "a", "b", "--file", "f", "c"]).unwrap();
    assert_eq!(flags.list("path"), ["a"]);
    assert_eq!(flags.text("file"), "f");
    let [warning] = &flags.warnings[..] else {
        panic!("{:?}", flags.warnings)
    };
    assert!(
        warning.contains(r#"ignored, since no flag takes it: "b" "c" "#),
        "{warning}"
    );
    let flags = parsed("cache-init", &["a", "--", "-b", "--help"]).unwrap();
    assert_eq!(flags.rest, ["a", "-b", "--help"]);
    assert!(flags.warnings.is_empty() && !flags.help);
}

#[test]
fn letters_stand_for_flags_and_lists_grow() {
    let flags = parsed("health-check", &["-p", "80", "--port=443", "-p=22"]).unwrap();
    assert_eq!(flags.list("port"), ["80", "443", "22"]);
    for bad in ["0", "65536", "", "http"] {
        assert_eq!(
            parsed("health-check", &["-p", bad]).unwrap_err(),
            format!(
                "health-check: invalid value {bad:?} for flag -p: a port from 1 to 65535 is needed"
            )
        );
    }
}

#[test]
fn what_is_no_flag_is_named() {
    for (args, text) in [
        (&["--nope"][..], "flag provided but not defined: -nope; "),
        (&["-n"], "flag provided but not defined: -n; "),
        (&["---file"], "flag provided but not defined: --file; "),
        (&["--=x"], "flag provided but not defined: -; "),
        (&["--file"], "flag needs an argument: -file"),
    ] {
        let problem = parsed("cache-extractor", args).unwrap_err();
        assert!(
            problem.starts_with(&format!("cache-extractor: {text}")),
            "{problem}"
        );
    }
}

#[test]
fn help_names_every_flag_its_variable_and_its_usual_value() {
    for (name, groups) in TABLE {
        let help = command(name).help("gitlab-runner-helper");
        assert!(
            help.contains(&format!("usage: gitlab-runner-helper {name} [flags]")),
            "{help}"
        );
        for (flag, variable, default, ..) in groups.iter().copied().flatten() {
            let flag = flag.trim_end_matches('*');
            let about = help.split(&format!("--{flag}")).nth(1);
            let about = about.unwrap_or_else(|| panic!("{name} {flag}: {help}"));
            if !variable.is_empty() {
                assert!(
                    help.contains(&format!("${variable})")),
                    "{name} {flag}: {about}"
                );
            }
            if !default.is_empty() {
                assert!(
                    help.contains(&format!("usually {default}")),
                    "{name} {flag}: {about}"
                );
            }
        }
        for args in [&["--help"][..], &["-h"], &["-help"]] {
            assert!(parsed(name, args).unwrap().help, "{name} {args:?}");
        }
    }
}

#[test]
fn durations_are_read() {
    assert_eq!(seconds("1h0m0s"), Some(3600));
    assert_eq!(seconds("1.5s"), Some(2));
    assert_eq!(seconds("500ms"), Some(1));
    assert_eq!(seconds("1s5us5µs5ns"), Some(2));
    assert_eq!(seconds("5"), None);
    assert_eq!(seconds(""), None);
}
