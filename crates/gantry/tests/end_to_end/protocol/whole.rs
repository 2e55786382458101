//! A job whose payload says something in every field that a Docker runner honours (coordinator-api §5), all at once.

use gantry_testkit::{FakeVault, JobRecord, ServiceBuilder};

use super::*;
use crate::harness::BUSYBOX;

const REPORT: &str = "<testsuite/>";

fn image() -> Value {
    json!({
        "name": "$IMAGE_OF_THE_JOB", "alias": "builder", "command": ["ignored", "by", "docker"],
        "entrypoint": ["/bin/sh", "-c", "echo entered as $(id -u):$(id -g); exec \"$@\"", "--"],
        "ports": [{"number": 80, "protocol": "http", "name": "web"}],
        "pull_policy": ["never", "if-not-present"],
        "executor_opts": {"docker": {"platform": "linux/$ARCHITECTURE", "user": 1000}, "kubernetes": {"user": "other"}},
    })
}

fn service() -> ServiceBuilder {
    ServiceBuilder::new("$IMAGE_OF_THE_JOB")
        .alias("db, $SECOND_ALIAS")
        .entrypoint(["/bin/sh", "-c"])
        .command(["id -u > /tmp/user; echo \"$GREETING of $PUBLIC, $HIDDEN\" > /tmp/greeting; exec httpd -f -p 8080 -h /tmp"])
        .variable("GREETING", "greetings")
        .set("pull_policy", json!(["never"]))
        .set("executor_opts", json!({"docker": {"user": "app"}}))
}

fn everything(
    host: &Host,
    git: &gantry_testkit::Repository,
    vault: &FakeVault,
    of: &JobRecord,
) -> JobBuilder {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    job([
        "echo suite ${{ job.inputs.suite }} raw $RAW; cat \"$FILE\"; echo",
        "for name in db pg; do until wget -q -O - http://$name:8080/greeting; do sleep 0.1; done; done; wget -q -O - http://db:8080/user",
        "cat README by-the-hook from-the-other-job/file; cat cached/file 2>/dev/null || echo cold",
        "mkdir -p out cached; echo made > out/file; echo left > out/file.tmp; echo kept > cached/file",
        &format!("echo '{REPORT}' > report.xml; sleep 1.2; exit 3"),
    ])
    .after_script(["echo after $CI_JOB_STATUS; cat \"$SECRET\" > /witness/secret"])
    .git(git, "main")
    .depth(1)
    .image_object(image())
    .service(service())
    .variable("IMAGE_OF_THE_JOB", BUSYBOX)
    .variable("ARCHITECTURE", architecture)
    .variable("SECOND_ALIAS", "pg")
    .variable("PUBLIC", "everybody")
    .variable("FF_NETWORK_PER_BUILD", "true")
    .masked("HIDDEN", "nobody-but-the-job")
    .raw("RAW", "$PUBLIC")
    .file("FILE", "of the job")
    // Read and ignored: the server decides.
    .set("/steps/0/timeout", json!(1))
    .set("/steps/0/when", json!("on_failure"))
    .set("/steps/0/allow_failure", json!(true))
    .set("/inputs", json!([{"key": "suite", "value": {"type": "string", "content": "fast", "sensitive": false}}]))
    .set("/hooks", json!([
        {"name": "pre_get_sources_script", "script": ["echo before the fetch"]},
        {"name": "post_get_sources_script", "script": ["echo of the hook > by-the-hook"]},
    ]))
    .set("/dependencies", json!([
        {"id": of.id, "name": "build", "token": of.token, "artifacts_file": {"filename": "dist.zip", "size": 1}},
        {"id": 1, "name": "without a file", "token": "glcbt-of-another", "artifacts_file": null},
    ]))
    .set("/cache", json!([{
        "key": "key-of-$PUBLIC", "paths": ["cached/"], "policy": "pull-push", "when": "always", "untracked": false,
        "fallback_keys": ["older"],
    }]))
    .set("/artifacts", json!([
        {"name": "$CI_COMMIT_REF_NAME-out", "paths": ["out/"], "exclude": ["out/*.tmp"], "when": "on_failure",
         "artifact_type": "archive", "artifact_format": "zip", "expire_in": "1 week", "untracked": false},
        {"name": "report.xml", "paths": ["report.xml"], "when": "always", "artifact_type": "junit", "artifact_format": "gzip"},
        {"name": "never", "paths": ["out/"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"},
    ]))
    .set("/secrets", json!({"SECRET": {"vault": {
        "server": {"url": vault.url(), "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "$HIDDEN"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "password"}}}))
    .set("/policy_options", json!({
        "execution_policy_job": true, "policy_name": "Scan", "policy_variables_override_allowed": true,
        "policy_variables_override_exceptions": ["A"],
    }))
    .set("/features/token_mask_prefixes", json!(["own-prefix-"]))
    .variable("CI_COMMIT_REF_NAME", "main")
    .variable("TOKEN_LIKE", &format!("own-prefix-{}", host.short_token()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_asks_for_everything_gets_everything() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let volumes = format!(
        "volumes = [\"/cache\", \"{}:/witness\"]",
        host.witness().display()
    );
    host.configure(&Config::new().docker(&volumes));
    let vault = FakeVault::start().await;
    vault.accept("jwt", "nobody-but-the-job");
    vault.put_v2("ops", "db", &json!({"password": "s3cr3t-of-vault"}));
    host.secret("s3cr3t-of-vault");
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "read me\n")
        .commit("begin")
        .build();
    let runner = host.start();
    let dist = json!([{"name": "dist", "paths": ["from-the-other-job/"], "artifact_type": "archive", "artifact_format": "zip"}]);
    let first = job(["mkdir from-the-other-job; echo of the other job > from-the-other-job/file"])
        .set("/artifacts", dist);
    let first = host.end_of(host.gitlab.enqueue(&first)).await;
    assert_eq!(first.state, ServerJobState::Success, "{}", first.log());
    let work = everything(&host, &repository, &vault, &first);
    for turn in ["cold", "kept"] {
        // The number of a job, and with it its volumes, is free when the job is gone.
        until("the job before to be removed", async || {
            host.job_folders().is_empty().then_some(())
        })
        .await;
        let done = host.end_of(host.gitlab.enqueue(&work)).await;
        let log = JobLog::of(&done);
        assert_eq!(done.state, ServerJobState::Failed);
        assert_eq!(done.exit_code, Some(3), "{}", log.text());
        for line in [
            "entered as 1000:1000",
            "suite fast raw $PUBLIC",
            "of the job",
            "greetings of everybody, ",
            "1000",
            "read me",
            "of the hook",
            "of the other job",
            turn,
            "before the fetch",
            "after failed",
        ] {
            log.assert_prints(line);
        }
        for words in [
            "Resolving secret \"SECRET\"...",
            "Job triggered by policy \"Scan\".",
            "User-defined CI/CD variables are allowed in this job (except for A)",
            "Checking cache for key-of-everybody...",
            "Creating cache key-of-everybody...",
            "Downloading artifacts for build",
            "Uploading artifacts as \"archive\" to coordinator... 201 Created",
            "Uploading artifacts as \"junit\" to coordinator... 201 Created",
        ] {
            log.assert_says(words);
        }
        assert_eq!(host.witnessed("secret"), ["s3cr3t-of-vault"]);
        let kept: Vec<_> = done
            .artifacts
            .iter()
            .map(|one| {
                (
                    &*one.file_name,
                    &*one.artifact_type,
                    &*one.format,
                    &*one.expire_in,
                )
            })
            .collect();
        assert_eq!(
            kept,
            [
                ("main-out.zip", "archive", "zip", "1 week"),
                ("report.xml.gz", "junit", "gzip", "")
            ]
        );
        let archive = String::from_utf8_lossy(&done.artifacts[0].bytes).into_owned();
        assert!(archive.contains("out/file") && !archive.contains("out/file.tmp"));
    }
    host.finish(runner).await;
}
