//! Payloads that are wrong in one field.

use super::*;

/// Each fails its own job, once, and names the field; the next job runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_of_the_wrong_type_fails_its_job_once_and_is_named() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let input = |value: Value| json!([{"key": "a", "value": value}]);
    let wrong = [
        ("/variables", json!("x"), "variables"),
        ("/variables/0/key", json!(5), "variables[0].key"),
        ("/variables/1/value", json!({"a": 1}), "variables[1].value"),
        ("/variables/1/masked", json!("yes"), "variables[1].masked"),
        ("/variables/1", json!(["A", "b"]), "variables[1]"),
        ("/steps", json!({"script": []}), "steps"),
        ("/steps/0/name", json!(5), "steps[0].name"),
        ("/steps/0/script", json!("make"), "steps[0].script"),
        ("/steps/0/script/0", json!(["make"]), "steps[0].script[0]"),
        (
            "/steps/0/allow_failure",
            json!("no"),
            "steps[0].allow_failure",
        ),
        ("/hooks", json!("x"), "hooks"),
        (
            "/hooks",
            json!([{"name": "pre_get_sources_script", "script": 5}]),
            "hooks[0].script",
        ),
        ("/inputs", json!("x"), "inputs"),
        (
            "/inputs",
            json!([{"value": {"type": "string", "content": "x"}}]),
            "input without key",
        ),
        (
            "/inputs",
            input(json!({"type": "string", "content": null})),
            "input \"a\" is null, must have valid value",
        ),
        (
            "/inputs",
            input(json!({"type": "date", "content": "x"})),
            "invalid type \"date\" for input \"a\": type is unknown",
        ),
        (
            "/inputs",
            input(json!({"type": "number", "content": "x"})),
            "mismatching type of input \"a\". Announced \"number\", but got \"string\"",
        ),
        (
            "/features/trace_sections",
            json!("yes"),
            "features.trace_sections",
        ),
        (
            "/features/failure_reasons",
            json!("x"),
            "features.failure_reasons",
        ),
        (
            "/features/token_mask_prefixes",
            json!([5]),
            "features.token_mask_prefixes[0]",
        ),
        ("/runner_info/timeout", json!("1h"), "runner_info.timeout"),
        ("/allow_git_fetch", json!("yes"), "allow_git_fetch"),
        ("/image", json!(5), "image"),
        ("/image", json!({"name": 5}), "image.name"),
        ("/services", json!({"name": "x"}), "services"),
        ("/secrets", json!([]), "secrets"),
        ("/policy_options", json!([]), "policy_options"),
    ];
    let wrong: Vec<_> = (900..).zip(wrong).collect();
    for (id, (place, value, _)) in &wrong {
        let token = format!("glcbt-64_garbageJobToken{id}");
        let payload = job(["true"])
            .set(place, value.clone())
            .build(*id, &token, host.gitlab.url());
        let bytes = serde_json::to_vec(&payload).unwrap();
        host.gitlab.enqueue_raw(*id, &token, bytes);
    }
    let next = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    for (id, (place, value, named)) in &wrong {
        let done = host.end_of(*id).await;
        let context = format!("{place} = {value}: {}", done.log());
        assert_eq!(done.state, ServerJobState::Failed, "{context}");
        assert_eq!(
            done.failure_reason.as_deref(),
            Some("runner_system_failure"),
            "{context}"
        );
        assert_eq!(done.final_updates().len(), 1, "{context}");
        assert!(
            done.log().contains("job payload has a wrong value at `"),
            "{context}"
        );
        assert!(done.log().contains(named), "{context}");
    }
    assert_eq!(host.end_of(next).await.state, ServerJobState::Success);
    host.finish(runner).await;
}
