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
        ("/image", json!({"entrypoint": "sh"}), "image.entrypoint"),
        ("/image", json!({"command": [5]}), "image.command[0]"),
        (
            "/image",
            json!({"pull_policy": "always"}),
            "image.pull_policy",
        ),
        ("/image", json!({"ports": [80]}), "image.ports[0]"),
        (
            "/image",
            json!({"executor_opts": []}),
            "image.executor_opts",
        ),
        (
            "/image",
            json!({"executor_opts": {"docker": {"user": [1]}}}),
            "image.executor_opts",
        ),
        ("/services", json!({"name": "x"}), "services"),
        ("/services", json!(["postgres"]), "services[0]"),
        ("/services", json!([{"alias": ["db"]}]), "services[0].alias"),
        (
            "/services",
            json!([{"variables": {"A": "b"}}]),
            "services[0].variables",
        ),
        (
            "/services",
            json!([{"variables": [{"key": "A", "value": 5}]}]),
            "services[0].variables[0].value",
        ),
        ("/secrets", json!([]), "secrets"),
        ("/secrets", json!({"A": "vault"}), "secrets.A"),
        (
            "/secrets",
            json!({"A": {"vault": {"path": 5}}}),
            "secrets.A.vault.path",
        ),
        ("/policy_options", json!([]), "policy_options"),
        (
            "/policy_options/policy_name",
            json!(5),
            "policy_options.policy_name",
        ),
        (
            "/suspend_options",
            json!({"suspend_on_success": "yes"}),
            "suspend_options.suspend_on_success",
        ),
        ("/artifacts", json!("dist/"), "artifacts"),
        (
            "/artifacts",
            json!([{"paths": "dist/"}]),
            "artifacts[0].paths",
        ),
        (
            "/artifacts",
            json!([{"exclude": [5]}]),
            "artifacts[0].exclude[0]",
        ),
        (
            "/artifacts",
            json!([{"untracked": "yes"}]),
            "artifacts[0].untracked",
        ),
        (
            "/artifacts",
            json!([{"expire_in": 7}]),
            "artifacts[0].expire_in",
        ),
        ("/cache", json!({"key": "k"}), "cache"),
        ("/cache", json!([{"key": {"files": []}}]), "cache[0].key"),
        (
            "/cache",
            json!([{"fallback_keys": "k"}]),
            "cache[0].fallback_keys",
        ),
        (
            "/credentials",
            json!([{"password": 5}]),
            "credentials[0].password",
        ),
        ("/dependencies", json!([{"id": "7"}]), "dependencies[0].id"),
        (
            "/dependencies",
            json!([{"artifacts_file": "dist.zip"}]),
            "dependencies[0].artifacts_file",
        ),
        ("/git_info", json!([]), "git_info"),
        ("/git_info/depth", json!("20"), "git_info.depth"),
        ("/git_info/refspecs", json!("+refs/*"), "git_info.refspecs"),
        ("/git_info/protected", json!("true"), "git_info.protected"),
        ("/job_info/project_id", json!("4"), "job_info.project_id"),
        ("/job_info/name", json!(["unit"]), "job_info.name"),
        ("/run", json!([{"step": "x"}]), "run"),
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
