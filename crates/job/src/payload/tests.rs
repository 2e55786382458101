use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// The complete example of coordinator-api §5, with a secret.
const EXAMPLE: &str = include_str!("tests/example.json");

fn read(value: &Value) -> Result<JobPayload, PayloadError> {
    JobPayload::from_slice(value.to_string().as_bytes())
}

#[test]
fn complete_example_is_read() {
    let payload = JobPayload::from_slice(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(payload.id, 8_812_345);
    assert_eq!(payload.token.expose(), "glcbt-64_exampleJobToken");
    assert!(payload.allow_git_fetch);
    assert_eq!(payload.job_info.name, "unit 1/2");
    assert_eq!(payload.job_info.user_id, Some(42));
    assert_eq!(payload.job_info.scoped_user_id, None);
    assert_eq!(
        payload
            .job_info
            .project_jobs_running_on_instance_runners_count,
        "+Inf"
    );
    assert_eq!(payload.git_info.ref_name, "main");
    assert_eq!(payload.git_info.refspecs.len(), 2);
    assert_eq!(payload.git_info.depth, 20);
    assert!(payload.ref_is_protected());
    assert_eq!(payload.timeout().as_secs(), 3600);
    assert_eq!(payload.inputs[0].value.content.0, json!("fast"));
    assert_eq!(payload.variables.len(), 8);
    let key = payload
        .variables
        .iter()
        .find(|variable| variable.key == "DEPLOY_KEY")
        .unwrap();
    assert!(key.file && key.masked && key.raw && !key.public && !key.internal);
    assert_eq!(payload.script_steps().count(), 1);
    assert_eq!(payload.after_script().unwrap().script, ["make clean"]);
    let image = payload.image.as_ref().unwrap();
    assert_eq!(image.entrypoint, ["/bin/sh", "-c"]);
    assert_eq!(image.executor_opts.docker.platform, "linux/amd64");
    assert_eq!(image.executor_opts.docker.user, "1000:1000");
    assert_eq!(payload.services[0].alias, "db,pg");
    assert_eq!(payload.services[0].variables[0].value, "pw");
    assert_eq!(payload.artifacts[1].artifact_format, "gzip");
    assert_eq!(payload.cache[0].fallback_keys, ["gems-default"]);
    assert_eq!(payload.credentials.len(), 2);
    assert_eq!(payload.dependencies[0].artifacts_file.size, 104_857);
    assert!(payload.features.trace_sections);
    assert_eq!(payload.features.token_mask_prefixes, ["glpat-", "gldt-"]);
    assert_eq!(payload.hooks[0].name, "pre_get_sources_script");
    assert_eq!(payload.run, None);
}

#[test]
fn what_is_written_is_read_back() {
    let payload = JobPayload::from_slice(EXAMPLE.as_bytes()).unwrap();
    let written = serde_json::to_vec(&payload).unwrap();
    assert_eq!(JobPayload::from_slice(&written).unwrap(), payload);
}

/// Replaces every value of every object and list, one after the other, by `replacement`, and
/// returns the variants with the place that was replaced.
fn replaced_everywhere(value: &Value, replacement: &Value) -> Vec<(String, Value)> {
    fn walk(value: &Value, path: &str, pointers: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                    pointers.push(path.clone());
                    walk(field, &path, pointers);
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let path = format!("{path}/{index}");
                    pointers.push(path.clone());
                    walk(element, &path, pointers);
                }
            }
            _ => {}
        }
    }
    let mut pointers = Vec::new();
    walk(value, "", &mut pointers);
    pointers
        .into_iter()
        .map(|pointer| {
            let mut variant = value.clone();
            *variant.pointer_mut(&pointer).unwrap() = replacement.clone();
            (pointer, variant)
        })
        .collect()
}

#[test]
fn null_is_tolerated_at_every_place() {
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    let variants = replaced_everywhere(&example, &Value::Null);
    assert!(
        variants.len() > 150,
        "the example has shrunk to {} places",
        variants.len()
    );
    for (pointer, variant) in variants {
        // An input has to say what it is (job-lifecycle §1.6).
        if pointer.starts_with("/inputs/0/") && !pointer.ends_with("/sensitive") {
            assert!(read(&variant).is_err(), "null at {pointer}");
            continue;
        }
        let payload = read(&variant).unwrap_or_else(|error| panic!("null at {pointer}: {error}"));
        let written = serde_json::to_vec(&payload).unwrap();
        assert_eq!(
            JobPayload::from_slice(&written).unwrap(),
            payload,
            "null at {pointer}"
        );
    }
}

#[test]
fn every_field_may_be_missing() {
    assert_eq!(
        JobPayload::from_slice(b"{}").unwrap(),
        JobPayload::default()
    );
    let all_null = json!({
        "id": null, "token": null, "variables": [null, {"key": null, "value": null}],
        "steps": [{"script": [null, "x"]}], "image": {}, "services": [{}], "git_info": {},
        "job_info": {}, "runner_info": {}, "features": {}, "cache": [{}], "artifacts": [{}],
        "dependencies": [{}], "credentials": [{}], "hooks": [{}],
        "secrets": {"A": null, "B": {}}, "policy_options": {}, "suspend_options": {},
    });
    let payload = read(&all_null).unwrap();
    assert_eq!(payload.variables.len(), 1, "a null element is no element");
    assert_eq!(payload.steps[0].script, ["x"]);
    assert_eq!(payload.secrets.len(), 2);
    assert_eq!(payload.timeout(), DEFAULT_JOB_TIMEOUT);
}

#[test]
fn unknown_fields_are_ignored() {
    let payload = read(&json!({
        "id": 7, "of_tomorrow": {"deep": [1, {"a": null}]},
        "git_info": {"sha": "abc", "repo_color": "blue"},
    }));
    assert_eq!(payload.unwrap().git_info.sha, "abc");
}

#[rstest]
#[case::null(json!({"run": null}), None)]
#[case::empty(json!({"run": ""}), None)]
#[case::steps(json!({"run": "[]"}), Some("[]"))]
fn run_is_absent_when_it_is_empty(#[case] payload: Value, #[case] run: Option<&str>) {
    assert_eq!(read(&payload).unwrap().run.as_deref(), run);
}

#[test]
fn ids_are_64_bits_wide() {
    let payload = read(&json!({"id": i64::MAX, "job_info": {"project_id": i64::MAX}})).unwrap();
    assert_eq!(
        (payload.id, payload.job_info.project_id),
        (i64::MAX, i64::MAX)
    );
}

#[rstest]
#[case(0)]
#[case(-1)]
#[case(i64::MIN)]
fn timeout_that_is_none_is_two_hours(#[case] seconds: i64) {
    let payload = read(&json!({"runner_info": {"timeout": seconds}})).unwrap();
    assert_eq!(payload.timeout().as_secs(), 7200);
}

#[test]
fn internal_cannot_be_claimed_by_a_server() {
    let payload = read(&json!({"variables": [{"key": "A", "internal": true}],
        "services": [{"variables": [{"key": "B", "internal": true}]}]}))
    .unwrap();
    assert!(!payload.variables[0].internal && !payload.services[0].variables[0].internal);
}

#[rstest]
#[case::null(json!(null), "", &[], &[])]
#[case::null_docker(json!({"docker": null}), "", &[], &[])]
#[case::text(json!({"docker": {"user": "www", "platform": null}}), "www", &[], &[])]
#[case::number(json!({"docker": {"user": 1000}}), "1000", &[], &[])]
#[case::negative(json!({"docker": {"user": -1}}), "-1", &[], &[])]
#[case::null_user(json!({"docker": {"user": null}}), "", &[], &[])]
#[case::unknown(json!({"docker": {"foo": 1, "user": "a", "bar": {}}, "podman": []}), "a", &["foo", "bar"], &["podman"])]
#[case::kubernetes(json!({"kubernetes": {"user": 7}}), "", &[], &[])]
fn executor_options_are_read_and_unknown_ones_named(
    #[case] opts: Value,
    #[case] user: &str,
    #[case] unknown_docker: &[&str],
    #[case] unknown: &[&str],
) {
    let payload = read(&json!({"image": {"name": "a", "executor_opts": opts}})).unwrap();
    let written = serde_json::to_vec(&payload).unwrap();
    assert_eq!(JobPayload::from_slice(&written).unwrap(), payload);
    let opts = payload.image.unwrap().executor_opts;
    assert_eq!(opts.docker.user, user);
    let mut found = opts.docker.unknown.clone();
    found.sort_by_key(|name| unknown_docker.iter().position(|known| known == name));
    assert_eq!(found, unknown_docker);
    assert_eq!(opts.unknown, unknown);
}

#[rstest]
#[case::id(json!({"id": "seven"}), "id", "invalid type: string, expected an integer")]
#[case::fraction(json!({"id": 1.5}), "id", "invalid type: floating point, expected an integer")]
#[case::too_large(json!({"id": u64::MAX}), "id", "invalid value: integer, expected an integer")]
#[case::script(json!({"steps": [{}, {"script": "make"}]}), "steps[1].script", "invalid type: string, expected a sequence")]
#[case::value(json!({"variables": [{"key": "A", "value": 1}]}), "variables[0].value", "invalid type: integer, expected a string")]
#[case::flag(json!({"variables": [{"masked": "yes"}]}), "variables[0].masked", "invalid type: string, expected a boolean")]
#[case::image(json!({"image": "ruby"}), "image", "invalid type: string, expected an object")]
#[case::user(json!({"image": {"executor_opts": {"docker": {"user": []}}}}), "image.executor_opts.docker.user", "invalid type: sequence, expected a user as string or integer")]
#[case::secrets(json!({"secrets": []}), "secrets", "invalid type: sequence, expected a map")]
#[case::top(json!("a string"), "", "invalid type: string, expected an object")]
fn wrong_type_names_path_and_kind(
    #[case] payload: Value,
    #[case] expected_path: &str,
    #[case] expected_message: &str,
) {
    match read(&payload).unwrap_err() {
        PayloadError::WrongType {
            message,
            path,
            line,
            column,
        } => {
            assert_eq!(
                (path.as_str(), message.as_str()),
                (expected_path, expected_message)
            );
            assert!(line == 1 && column > 0);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_type_at_any_place_is_told_with_the_place() {
    // What is not ours to read: values of any type, and fields that no runner reads.
    let any = [
        "/inputs/0/value/content",
        "/runner_info/runner_session_url",
        "/features/tracing",
        "/secrets/DB_PASSWORD/vault/server/auth/data/",
    ];
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    let mut checked = 0;
    for (wrong, fits) in [
        (json!({"a-key": 1}), Value::is_object as fn(&Value) -> bool),
        (json!(5.5), Value::is_number),
    ] {
        for (pointer, variant) in replaced_everywhere(&example, &wrong) {
            let before = example.pointer(&pointer).unwrap();
            // A null says nothing of its type.
            if any.iter().any(|place| pointer.starts_with(place))
                || fits(before)
                || before.is_null()
            {
                continue;
            }
            let error = read(&variant).expect_err(&pointer).to_string();
            // Inputs are read as a whole, and say which one is wrong.
            let place = match pointer.strip_prefix("/inputs/0") {
                Some(_) => "inputs[0]".to_owned(),
                None => pointer[1..]
                    .split('/')
                    .map(|part| match part.parse::<usize>() {
                        Ok(index) => format!("[{index}]"),
                        Err(_) => format!(".{part}"),
                    })
                    .collect::<String>()
                    .trim_start_matches('.')
                    .to_owned(),
            };
            assert!(error.contains(&place), "{pointer} with {wrong}: {error}");
            checked += 1;
        }
    }
    assert!(checked > 250, "only {checked} places");
}

#[rstest]
#[case::top(json!([1, "token"]), "")]
#[case::field(json!({"git_info": ["https://example.com/a.git"]}), "git_info")]
#[case::element(json!({"variables": [["KEY", "value"]]}), "variables[0]")]
#[case::image(json!({"image": ["ruby"]}), "image")]
#[case::map(json!({"secrets": {"A": []}}), "secrets.A")]
fn list_is_no_object(#[case] payload: Value, #[case] expected_path: &str) {
    match read(&payload).unwrap_err() {
        PayloadError::WrongType { path, message, .. } => {
            assert_eq!(path, expected_path);
            assert!(message.starts_with("invalid type: sequence"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn position_counts_lines() {
    let error = JobPayload::from_slice(b"{\n  \"id\": 1,\n  \"steps\": 5\n}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "job payload has a wrong value at `steps`: invalid type: integer, expected a sequence (line 3, column 12)"
    );
}

#[rstest]
#[case::in_a_value(
    br#"{"id": 1, "steps": [{"name": "scr"#,
    "job payload is cut off after 33 bytes at `steps[0].name`"
)]
#[case::in_a_key(br#"{"id": 1, "ste"#, "job payload is cut off after 14 bytes")]
#[case::in_an_inner_key(
    br#"{"job_info": {"na"#,
    "job payload is cut off after 17 bytes at `job_info`"
)]
fn a_cut_payload_names_the_last_field_that_is_known(#[case] payload: &[u8], #[case] message: &str) {
    let error = JobPayload::from_slice(payload).unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn errors_show_no_value_at_any_place() {
    const HUSH: &str = "hush-value\", expected another-value";
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    let mut refused = 0;
    for replacement in [
        json!(HUSH),
        json!([HUSH]),
        json!({"a-key": HUSH}),
        json!(424_242),
    ] {
        for (pointer, variant) in replaced_everywhere(&example, &replacement) {
            let Err(error) = read(&variant) else { continue };
            refused += 1;
            let text = format!("{error} {error:?}");
            for value in ["hush-value", "another-value", "424242"] {
                assert!(!text.contains(value), "{pointer}: {text}");
            }
        }
    }
    assert!(refused > 300, "only {refused} variants were refused");
}

#[rstest]
#[case::html("<html><body>502</body></html>")]
#[case::two_documents("{} {}")]
#[case::trailing_comma("{\"id\": 1,}")]
#[case::bare_word("{id: 1}")]
fn other_text_is_no_json(#[case] text: &str) {
    let error = JobPayload::from_slice(text.as_bytes()).unwrap_err();
    assert!(matches!(error, PayloadError::Syntax { .. }), "{error:?}");
}

#[test]
fn every_truncation_is_called_one() {
    for end in 0..EXAMPLE.trim_end().len() {
        match JobPayload::from_slice(&EXAMPLE.as_bytes()[..end]) {
            Err(PayloadError::Truncated { bytes, .. }) => assert_eq!(bytes, end),
            other => panic!("cut at {end}: {other:?}"),
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let payload = JobPayload::from_slice(b"{\"job_info\": {\"name\": \"a\xffb\"}}").unwrap();
    assert_eq!(payload.job_info.name, "a\u{fffd}b");
}

#[test]
fn five_megabytes_are_read() {
    let script = "x".repeat(5 * 1024 * 1024);
    let payload = read(&json!({"steps": [{"name": "script", "script": [script]}]})).unwrap();
    assert_eq!(payload.steps[0].script[0].len(), 5 * 1024 * 1024);
}

#[test]
fn payload_beyond_the_limit_is_refused_unread() {
    let bytes = vec![b' '; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(
        JobPayload::from_slice(&bytes),
        Err(PayloadError::TooLarge { .. })
    ));
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let bytes = format!("{{\"x\": {}", "[".repeat(1_000_000));
    assert!(JobPayload::from_slice(bytes.as_bytes()).is_err());
}

#[test]
fn debug_shows_no_secret() {
    let payload = JobPayload::from_slice(EXAMPLE.as_bytes()).unwrap();
    let debug = format!("{payload:?} {payload:#?}");
    for secret in [
        "exampleJobToken",
        "otherJobToken",
        "s3cr3t-value-1",
        "\"pw\"",
        "fast",
    ] {
        assert!(!debug.contains(secret), "{secret} is shown");
    }
    assert!(debug.contains("DEPLOY_KEY"));
}

#[test]
fn protection_of_the_ref_falls_back_to_the_first_variable() {
    let variables = json!([{"key": "CI_COMMIT_REF_PROTECTED", "value": "true"},
        {"key": "CI_COMMIT_REF_PROTECTED", "value": "false"}]);
    assert!(
        read(&json!({"variables": variables}))
            .unwrap()
            .ref_is_protected()
    );
    let sent = json!({"git_info": {"protected": false}, "variables": variables});
    assert!(!read(&sent).unwrap().ref_is_protected());
    assert!(!JobPayload::default().ref_is_protected());
}

/// JSON that looks a little like a payload.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let keys = prop_oneof![
            Just("variables"),
            Just("key"),
            Just("value"),
            Just("steps"),
            Just("script"),
            Just("image"),
            Just("services"),
            Just("executor_opts"),
            Just("docker"),
            Just("user"),
            Just("git_info"),
            Just("secrets"),
            Just("run"),
            Just("features"),
            Just("x"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys.prop_map(str::to_owned), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(JobPayload::from_slice(&bytes).map_err(|error| error.to_string()));
    }

    #[test]
    fn no_json_makes_it_panic_and_what_is_read_survives_the_journal(value in any_json()) {
        if let Ok(payload) = read(&value) {
            let written = serde_json::to_vec(&payload).unwrap();
            prop_assert_eq!(JobPayload::from_slice(&written).unwrap(), payload);
        }
    }

    #[test]
    fn no_flipped_byte_makes_it_panic(at in 0..EXAMPLE.len(), byte in any::<u8>()) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        drop(JobPayload::from_slice(&bytes).map_err(|error| error.to_string()));
    }
}
