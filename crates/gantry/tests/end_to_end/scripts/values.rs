//! Which value a variable has, and what of it is seen.

use gantry_testkit::{Endpoint, ServiceBuilder};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_source_of_a_variable_wins() {
    let config = Config::new().runner(
        "environment = [\"OF_RUNNER=1\", \"BOTH=runner\", \"WITH_EQUALS=a=b\", \"REFERS=[$OF_JOB]\", \"FF_TIMESTAMPS=false\", \"CI_SERVER=no\"]",
    );
    let shown = [
        ("OF_RUNNER", "1"),
        ("BOTH", "job"),
        ("WITH_EQUALS", "a=b"),
        ("REFERS", "[of the job]"),
        ("TWICE", "second"),
        // Rows before the payload's give way, those behind do not.
        ("CI_SERVER", "of the job"),
        ("CI_JOB_TIMEOUT", "of the job"),
        ("CI_CONCURRENT_ID", "of the job"),
        ("CI_RUNNER_SHORT_TOKEN", "of the job"),
        ("CI_JOB_IMAGE", "of the job"),
        ("CI_DISPOSABLE_ENVIRONMENT", "true"),
        ("CI_RUNNER_VERSION", "19.4.0"),
        ("RUNNER_TEMP_PROJECT_DIR", "/builds/acme/tools/widget.tmp"),
        ("CI_BUILDS_DIR", "/builds"),
        // A flag is exported as it was resolved.
        ("FF_SCRIPT_SECTIONS", "true"),
        ("FF_TIMESTAMPS", "true"),
        ("FF_USE_LEGACY_BASH_EVAL", "false"),
    ];
    let lines: Vec<_> = shown
        .iter()
        .map(|(key, _)| format!("printf '%s\\n' \"{key} is $(env | sed -n 's/^{key}=//p')\""))
        .collect();
    let mut work = JobBuilder::new("unit")
        .script(lines)
        .variable("BOTH", "job")
        .variable("OF_JOB", "of the job")
        .variable("TWICE", "first")
        .variable("TWICE", "second")
        .variable("FF_SCRIPT_SECTIONS", "1")
        .variable("FF_TIMESTAMPS", "true")
        .image_object(json!({"name": BUSYBOX}));
    for key in [
        "CI_SERVER",
        "CI_JOB_TIMEOUT",
        "CI_CONCURRENT_ID",
        "CI_RUNNER_SHORT_TOKEN",
        "CI_JOB_IMAGE",
        "CI_DISPOSABLE_ENVIRONMENT",
        "CI_RUNNER_VERSION",
        "RUNNER_TEMP_PROJECT_DIR",
    ] {
        work = work.variable(key, "of the job");
    }
    let Some((_, done)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    for (key, value) in shown {
        log.assert_prints(&format!("{key} is {value}"));
    }
}

/// What the runner itself makes, where nobody overrides it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_of_the_runner_are_there() {
    let work = job([
        "echo \"$CI_SERVER $CI_JOB_TIMEOUT $CI_CONCURRENT_ID $CI_CONCURRENT_PROJECT_ID $CI_JOB_STATUS $CI_JOB_IMAGE\"",
        "echo \"$CI_BUILDS_DIR $CI_PROJECT_DIR $CI_RUNNER_EXECUTABLE_ARCH $CI_DISPOSABLE_ENVIRONMENT\"",
        "echo \"[$CI_BUILD_NETWORK_NAME] [$GITLAB_ENV] $PWD\"",
    ])
    .image("$NAME")
    .variable("NAME", BUSYBOX)
    .timeout(777)
    .after_script(["echo then $CI_JOB_STATUS"]);
    let mine = work
        .clone()
        .variable("CI_JOB_STATUS", "mine")
        .variable("FF_NETWORK_PER_BUILD", "true");
    let Some((host, done)) = run_all(&Config::new().concurrent(1), &[work, mine]).await else {
        return;
    };
    let log = JobLog::of(&done[0]);
    log.assert_prints(&format!("yes 777 0 0 running {BUSYBOX}"));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    log.assert_prints(&format!(
        "/builds /builds/acme/tools/widget linux/{architecture} true"
    ));
    log.assert_prints(
        "[] [/builds/acme/tools/widget.tmp/gitlab_runner_env] /builds/acme/tools/widget",
    );
    log.assert_prints("then success");
    // A variable of the job hides the state of the job, in its after_script, too.
    let log = JobLog::of(&done[1]);
    log.assert_prints("then mine");
    log.assert_says(&format!("[runner-{}-", host.short_token()));
}

fn nasty() -> Vec<(&'static str, String)> {
    vec![
        ("QUOTES", "'\"`$(id)`\\\"'".to_owned()),
        ("LINES", "one\ntwo\n\n  three \n".to_owned()),
        ("DOLLARS", "$HOME ${HOME} $$ $".to_owned()),
        (
            "SPECIAL",
            "a;b&c|d<e>f(g)h{i}j*k?l[m]n~o#p!q%r^s=t".to_owned(),
        ),
        ("CONTROL", (1..0x20).map(char::from).collect()),
        ("UNICODE", "é ñ 🦀 \u{feff}\u{2028}\u{202e}".to_owned()),
        ("DASHES", "-n -e".to_owned()),
        ("BLANK", "   ".to_owned()),
        ("EMPTY", String::new()),
        ("LONG", "x y'".repeat(25_000)),
    ]
}

/// In each shell, as a value and as a file.
#[rstest]
#[case::bash("gantry.test/bash:1")]
#[case::dash("gantry.test/dash:1")]
#[case::busybox(BUSYBOX)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_arrive_byte_by_byte_as_variables_and_as_files(#[case] image: &str) {
    let mut lines = Vec::new();
    let mut work = JobBuilder::new("unit").image(image);
    for (key, value) in nasty() {
        lines.push(format!(
            "printf %s \"${key}\" > /witness/{key}; cat \"$FILE_{key}\" > /witness/FILE_{key}"
        ));
        for (key, file) in [(key.to_owned(), false), (format!("FILE_{key}"), true)] {
            work = work
                .variable_object(json!({"key": key, "value": value, "file": file, "raw": true}));
        }
    }
    let big = "0123456789abcde\n".repeat(65_536);
    work = work.file("BIG", &big);
    lines.push("cat \"$BIG\" > /witness/BIG".to_owned());
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&work.script(lines));
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let read = |name: &str| std::fs::read_to_string(host.witness().join(name)).unwrap();
    for (key, value) in nasty() {
        assert_eq!(read(key), value, "{key}");
        assert_eq!(read(&format!("FILE_{key}")), value, "{key} as a file");
    }
    assert!(read("BIG") == big);
}

/// What no environment can hold is told or repaired, and the job runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_keys_and_bytes_do_not_stop_a_job() {
    let work = job([
        "printf '%s\\n' \"[$SURROGATE] [$GOOD]\"",
        "cat \"$FILE_WITH_NUL\"; echo",
    ])
    .file("FILE_WITH_NUL", "c\0d")
    .variable("SURROGATE", "x@y")
    .variable("A.B", "1")
    .variable("1A", "2")
    .variable("A-B", "3")
    .variable("é", "4")
    .variable("", "5")
    .variable("A=B", "6")
    .variable("WITH BLANK", "8")
    .variable("GOOD", "good");
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&work);
    // A server that escapes half a character, and one that sends bytes of another encoding.
    let payload = work.build(900, "glcbt-64_oddJobToken", host.gitlab.url());
    let text = serde_json::to_string(&payload).unwrap();
    let half = text.replace("x@y", "x\\ud800y");
    host.gitlab.enqueue_raw(900, "glcbt-64_oddJobToken", half);
    let payload = work.build(901, "glcbt-64_evenJobToken", host.gitlab.url());
    let text = serde_json::to_string(&payload).unwrap();
    let at = text.find("x@y").unwrap() + 1;
    let mut bytes = text.into_bytes();
    bytes[at] = 0xff;
    host.gitlab.enqueue_raw(901, "glcbt-64_evenJobToken", bytes);
    let runner = host.start();
    for (id, shown) in [(id, "x@y"), (900, "x\u{fffd}y"), (901, "x\u{fffd}y")] {
        let done = host.end_of(id).await;
        assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
        let log = JobLog::of(&done);
        log.assert_prints(&format!("[{shown}] [good]"));
        log.assert_prints("cd");
        for key in ["A.B", "1A", "A-B", "é", "A=B", "WITH BLANK"] {
            log.assert_says(&format!(
                "WARNING: variable \"{key}\" is not exported: its name is no shell identifier"
            ));
        }
    }
    host.finish(runner).await;
}

/// No shell exports them; values refer to them, and programs find them in the environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_variables_of_odd_keys_are_files() {
    let work = job([
        "cat \"$REFERS\"; echo; ls \"$CI_PROJECT_DIR.tmp\"",
        "[ ! -e /builds/acme/tools/escape ] || echo escaped",
    ])
    .file("1.KEY of mine", "the content")
    .file("../escape", "never")
    .variable("REFERS", "${1.KEY of mine}");
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    log.assert_prints("the content");
    log.assert_prints("1.KEY of mine");
    assert!(!log.prints("escaped"));
    log.assert_says("variable \"1.KEY of mine\" is not exported");
}

#[rstest]
#[case::bash("gantry.test/bash:1", true)]
#[case::dash("gantry.test/dash:1", false)]
#[case::busybox(BUSYBOX, false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_bash_keeps_for_itself_do_not_stop_a_job(
    #[case] image: &str,
    #[case] bash: bool,
) {
    let work = job([
        "echo uid is $(env | grep ^UID=)",
        "echo UID=4712 >> $GITLAB_ENV",
    ])
    .after_script(["echo then $(env | grep ^UID=)"])
    .image(image)
    .variable("UID", "4711");
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    // Bash has it from the container.
    log.assert_prints("uid is UID=4711");
    log.assert_prints(&format!("then UID={}", if bash { 4711 } else { 4712 }));
    let warning = "GITLAB_ENV: line 1 is ignored: bash keeps the name UID for itself";
    assert_eq!(log.prints(warning), bash, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_are_read_as_the_peer_reads_them() {
    let raw = |key: &str, value: &str| json!({"key": key, "value": value, "raw": true});
    let work = job([
        "for key in DOLLAR PERCENT DEFAULT OPEN CHAIN RAW OF_RAW OF_FILE SELF DIGIT COMMAND NOTHING ENDS; do eval \"printf '%s\\n' \\\"$key=\\$$key\\\"\"; done",
        "echo image $CI_JOB_IMAGE",
    ])
    .variable("DOLLAR", "$$HOME")
    .variable("PERCENT", "100% %PATH%")
    .variable("DEFAULT", "[${B:-d}]")
    .variable("OPEN", "${B")
    .variable("CHAIN", "$DOLLAR")
    .variable_object(raw("RAW", "$B"))
    .variable("OF_RAW", "[$RAW]")
    .variable("OF_FILE", "$SETTINGS")
    .file("SETTINGS", "content")
    .variable("SELF", "$SELF:x")
    .variable("DIGIT", "$1abc$@.")
    .variable("COMMAND", "$(id) `id` \\$B")
    .variable("NOTHING", "a${}b$UNKNOWN.")
    .variable("ENDS", "a $ b$")
    .variable("B", "b");
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    for line in [
        "DOLLAR=$HOME",
        "PERCENT=100% %PATH%",
        "DEFAULT=[]",
        "OPEN=B",
        "CHAIN=$$HOME",
        "RAW=$B",
        "OF_RAW=[$B]",
        "OF_FILE=/builds/acme/tools/widget.tmp/SETTINGS",
        "SELF=$SELF:x:x",
        "DIGIT=abc.",
        "COMMAND=$(id) `id` \\b",
        "NOTHING=ab.",
        "ENDS=a $ b$",
    ] {
        log.assert_prints(line);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_see_what_is_public_and_nothing_else() {
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("web")
        .variable("OWN", "[$PUBLIC]")
        .entrypoint(["/bin/sh", "-c"])
        .command(["env > /tmp/env; exec httpd -f -p 8080 -h /tmp"]);
    let work = job(["until wget -q -O - http://web:8080/env; do sleep 0.1; done"])
        .service(service)
        .variable("PUBLIC", "public-value")
        .masked("HIDDEN", "hidden-value")
        .variable("FF_NETWORK_PER_BUILD", "true");
    let config = Config::new().runner("environment = [\"OF_RUNNER=runner-value\"]");
    let Some((_, done)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    for line in [
        "OWN=[public-value]",
        "PUBLIC=public-value",
        "OF_RUNNER=runner-value",
        "CI_JOB_STATUS=running",
    ] {
        log.assert_prints(line);
    }
    assert!(!log.stdout.iter().any(|line| line.starts_with("HIDDEN=")));
}

const SECRET: &str = "p@ss'w\"rd/of+mine é";

/// Each line prints the secret in some form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_hidden_in_every_form_it_takes_on_its_way() {
    let multi = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----\n";
    let work = job([
        "printf '%s\\n' \"plain $SECRET\"",
        "for before in '' a ab; do printf '%s%s!' \"$before\" \"$SECRET\" | base64; done",
        "echo p%40ss%27w%22rd%2Fof%2Bmine%20%C3%A9 p%40ss%27w%22rd%2fof%2bmine+%c3%a9",
        "printf '%s\\n' \"$LINES\"",
        "printf '%s' \"$LINES\" | base64",
        // References that are put into another variable before they are expanded themselves.
        "printf '%s\\n' \"$OF_SECRET\" \"$WITH_REFERENCE\"",
        "printf 'in file: '; cat \"$FILE\"; echo",
        "printf '{\"key\": \"p@ss'\\''w\\\\\"rd/of+mine é\"}\\n'",
        "set -x; : \"$SECRET\"",
    ])
    .variable_object(json!({"key": "SECRET", "value": SECRET, "masked": true, "raw": true}))
    .masked("LINES", multi)
    .masked("WITH_REFERENCE", "hush-$$-$PART-hush")
    .variable("PART", "part")
    .variable("OF_SECRET", "<$WITH_REFERENCE>")
    .variable_object(
        json!({"key": "FILE", "value": "secret content of a file", "masked": true, "file": true}),
    );
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    let text = log.text();
    for leak in [
        "w\"rd",
        "mine",
        "MIIEv",
        "EFAASC",
        "BEGIN KEY",
        "hush-",
        "secret content",
        "%2Bmine",
        "w%22rd",
        // Of the three places in base64, the middle of each.
        "dydyZC9v",
        "zJ3InJk",
        "cyd3InJkL29m",
    ] {
        assert!(
            !log.stdout
                .iter()
                .chain(&log.stderr)
                .any(|line| line.contains(leak) && !line.starts_with("$ ")),
            "{leak:?} is in\n{text}"
        );
    }
    log.assert_prints("plain [MASKED]");
    log.assert_prints("in file: [MASKED]");
    log.assert_prints("<[MASKED]>");
}

/// Who may make a job show its commands, and what the server is told.
#[rstest]
#[case::job(Config::new(), &[("CI_DEBUG_TRACE", "true")], true, true)]
#[case::job_in_other_words(Config::new(), &[("CI_DEBUG_TRACE", "1")], true, true)]
#[case::job_says_no(Config::new(), &[("CI_DEBUG_TRACE", "false")], false, false)]
#[case::neither_yes_nor_no(Config::new(), &[("CI_DEBUG_TRACE", "yes")], false, false)]
#[case::runner(Config::new().runner("environment = [\"CI_DEBUG_TRACE=true\"]"), &[], true, true)]
#[case::job_beats_the_runner(Config::new().runner("environment = [\"CI_DEBUG_TRACE=true\"]"), &[("CI_DEBUG_TRACE", "false")], false, false)]
#[case::forbidden(Config::new().runner("debug_trace_disabled = true"), &[("CI_DEBUG_TRACE", "true")], false, false)]
#[case::services(Config::new(), &[("CI_DEBUG_SERVICES", "true")], false, true)]
#[case::services_forbidden(Config::new().runner("debug_trace_disabled = true"), &[("CI_DEBUG_SERVICES", "true")], false, false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_debug_a_job(
    #[case] config: Config,
    #[case] variables: &[(&str, &str)],
    #[case] traced: bool,
    #[case] told: bool,
) {
    let mut work = job(["echo $((20 + 22))"]).masked("PASSWORD", "it's-hush-hush");
    for (key, value) in variables {
        work = work.variable(key, value);
    }
    let Some((host, done)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    assert_eq!(
        log.stderr.iter().any(|line| line == "+ echo 42"),
        traced,
        "{}",
        log.text()
    );
    log.assert_never_says("hush-hush");
    let patches = host.gitlab.requests_to(Endpoint::PatchTrace);
    assert!(!patches.is_empty());
    for patch in patches {
        let query = format!("debug_trace={told}");
        assert!(patch.path.ends_with(&query), "{patch:?}");
    }
    let forbidden = config_forbids(&log, variables);
    assert_eq!(
        forbidden,
        !told && variables.iter().any(|(_, value)| *value == "true")
    );
}

fn config_forbids(log: &JobLog, variables: &[(&str, &str)]) -> bool {
    variables
        .iter()
        .any(|(key, _)| log.says(&format!("{key}: usage is disabled on this Runner")))
}
