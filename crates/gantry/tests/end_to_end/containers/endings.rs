//! Exit codes, shells, entrypoints, memory, and containers that others end.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scripts_exit_code_is_reported() {
    let Some((_, job, log)) = run(&Config::new(), &job(["exit 42"])).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.exit_code, Some(42));
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    log.assert_says("ERROR: Job failed: exit code 42");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_has_neither_exit_code_nor_reason_and_only_the_stages_it_needs() {
    let Some((_, job, log)) = run(&Config::new(), &job(["echo hello"])).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    let last = &job.final_updates()[0].body;
    assert_eq!(last.get("exit_code"), None);
    assert_eq!(last.get("failure_reason"), None);
    let names = [
        "prepare_executor",
        "prepare_script",
        "get_sources",
        "step_script",
        "cleanup_file_variables",
    ];
    assert_eq!(log.sections(), names);
    log.assert_prints("$ echo hello");
    log.assert_prints("hello");
    let last = log.runner.last().map(String::as_str).unwrap_or_default();
    assert!(last.ends_with("Job succeeded"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_script_sees_the_same_container_and_the_state_of_the_job() {
    let work = job(["echo x > /tmp/in-container", "cd /", "exit 3"]).after_script([
        "echo status $CI_JOB_STATUS",
        "cat /tmp/in-container",
        "pwd",
    ]);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.exit_code, Some(3));
    log.assert_prints("status failed");
    log.assert_prints("x");
    log.assert_prints("/builds/acme/tools/widget");
}

#[rstest]
#[case::ignored("true", ServerJobState::Success, None)]
#[case::counted("false", ServerJobState::Failed, Some(5))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_after_script_counts_only_if_the_job_says_so(
    #[case] ignore: &str,
    #[case] state: ServerJobState,
    #[case] exit_code: Option<i64>,
) {
    let work = job(["true"])
        .after_script(["exit 5"])
        .variable("AFTER_SCRIPT_IGNORE_ERRORS", ignore);
    let Some((_, job, _)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, state);
    assert_eq!(job.exit_code, exit_code);
}

#[rstest]
#[case::bash("gantry.test/bash:1", "bash", "yes")]
#[case::bash_of_an_image_although_it_is_called_sh("gantry.test/bash:1", "sh", "yes")]
#[case::busybox(BUSYBOX, "bash", "")]
#[case::dash("gantry.test/dash:1", "bash", "")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_in_the_shell_that_is_there(
    #[case] image: &str,
    #[case] shell: &str,
    #[case] bash: &str,
) {
    let config = Config::new().runner(&format!("shell = \"{shell}\""));
    let script = [
        "echo bash: ${BASH_VERSION:+yes}",
        "printf '%s\\n' \"$ODD\" > /witness/odd",
        "echo first\necho second",
    ];
    let odd = "a'b\"c$d\\e\u{1}\u{e9}\tend";
    let work = job(script).image(image).raw("ODD", odd);
    let Some((host, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints(format!("bash: {bash}").trim_end());
    log.assert_prints("$ echo first # collapsed multi-line command");
    log.assert_prints("second");
    let text = std::fs::read_to_string(host.witness().join("odd")).expect("what the job wrote");
    assert_eq!(text, format!("{odd}\n"));
}

/// `when` and `allow_failure` of a step are for the server, which has decided (job-lifecycle §1.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_may_fail_or_runs_on_failure_is_a_step_like_any_other() {
    let work = job(["echo run", "exit 3"])
        .set("/steps/0/when", serde_json::json!("on_failure"))
        .set("/steps/0/allow_failure", serde_json::json!(true));
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    log.assert_prints("run");
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.exit_code, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entrypoint_that_hands_on_runs_before_each_script() {
    let work = job(["echo script: $FROM_ENTRYPOINT"])
        .after_script(["echo after: $FROM_ENTRYPOINT"])
        .image("gantry.test/entrypoint:1");
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    let runs = log
        .stdout
        .iter()
        .filter(|line| *line == "entrypoint: 3 arguments");
    assert_eq!(runs.count(), 2, "{}", log.text());
    log.assert_prints("script: yes");
    log.assert_prints("after: yes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_entrypoint_clears_the_images() {
    let image = with_entrypoint("gantry.test/entrypoint-swallows:1", &[""]);
    let work = job(["echo the script ran"]).image_object(image);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("the script ran");
}

/// The peer lets such a job pass; the log says what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entrypoint_that_swallows_the_shell_and_ends_well_gets_a_note() {
    let work = job(["echo the script ran"]).image("gantry.test/entrypoint-swallows:1");
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("a tool that knows no shell");
    log.assert_never_says("the script ran\n");
    log.assert_says("WARNING: the image's entrypoint ended with 0 without starting a shell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entrypoint_that_swallows_the_shell_and_fails_is_named() {
    let image = with_entrypoint(BUSYBOX, &["/bin/sh", "-c", "echo hi; exit 5"]);
    let work = job(["echo the script ran"]).image_object(image);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.exit_code, Some(5));
    log.assert_prints("hi");
    log.assert_says("ended without running the shell it was given");
    log.assert_says("`image:entrypoint: [\"\"]`");
    assert!(!log.prints("the script ran"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_another_architecture_is_named_once() {
    let work = job(["true"]).image("gantry.test/exec-format:1");
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says("exec format error: image \"gantry.test/exec-format:1\"");
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_shell_is_named_once() {
    let work = job(["true"]).image("gantry.test/no-shell:1");
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.exit_code, Some(1));
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    log.assert_says("shell not found: image \"gantry.test/no-shell:1\"");
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_killed_for_memory_is_told_so() {
    let config = Config::new().docker("memory = \"64m\"");
    let work = job(["tail -c 500000000 /dev/zero > /dev/null"]);
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.exit_code, Some(137));
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    // Engines tell of it late, or not at all where the container ends at once.
    log.assert_says("out of memory, limit 64 MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_for_memory_in_a_job_that_succeeds_gets_a_note() {
    let Some(host) = Host::new(&Config::new().docker("memory = \"64m\"")).await else {
        return;
    };
    let wait = gate("go");
    // Several kills, since engines forget to tell of some.
    let hungry = "for i in 1 2 3; do tail -c 500000000 /dev/zero > /dev/null || echo went on >> /witness/script; done";
    let id = host.gitlab.enqueue(&job([hungry, wait.as_str()]));
    let runner = host.start();
    host.wait_witness("script", 3).await;
    let names = host.containers("-build").await;
    let filter = format!("container={}", names[0]);
    until("the engine to tell of a kill", async || {
        let window = ["events", "--since", "5m", "--until", "0s"];
        let which = ["--filter", &filter, "--filter", "event=oom"];
        let told = host.docker.run(&[&window[..], &which].concat()).await;
        (!told.is_empty()).then_some(())
    })
    .await;
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    JobLog::of(&job).assert_says("WARNING: a process of the job was killed: out of memory");
}

/// Starts a job that sleeps and returns its build container's name once the script runs.
async fn sleeping(host: &Host, work: &JobBuilder) -> (crate::harness::Runner, i64, String) {
    let id = host.gitlab.enqueue(work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let names = host.containers("-build").await;
    let [name] = &names[..] else {
        panic!("{names:?}")
    };
    (runner, id, name.clone())
}

fn sleeper() -> JobBuilder {
    job(["echo begun >> /witness/script", "sleep 1000"])
        .after_script(["echo after >> /witness/after"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_removed_from_outside_is_no_success() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let (runner, id, name) = sleeping(&host, &sleeper()).await;
    host.docker.run(&["rm", "-f", &name]).await;
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    assert_eq!(job.exit_code, None);
    let log = JobLog::of(&job);
    log.assert_says(&format!("container \"{name}\" was removed from outside"));
    log.assert_never_says("Will retry");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

/// `EXECUTOR_JOB_SECTION_ATTEMPTS`: the step begins anew in another container, once.
#[rstest]
#[case::the_second_is_well(false)]
#[case::the_second_is_removed_as_well(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_removed_from_outside_is_replaced_as_often_as_the_job_says(
    #[case] again: bool,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let work = job([
        "touch /tmp/in-container; ls /tmp",
        "echo begun >> /witness/script",
        wait.as_str(),
    ])
    .after_script(["echo after: $(ls /tmp)"])
    .file("SETTINGS", "content")
    .variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2");
    let (runner, id, name) = sleeping(&host, &work).await;
    host.docker.run(&["rm", "-f", &name]).await;
    host.wait_witness("script", 2).await;
    if again {
        host.docker.run(&["rm", "-f", &name]).await;
    } else {
        host.open_gate("go");
    }
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    log.assert_says(&format!(
        "ERROR: Container \"{name}\" not found or removed. Will retry..."
    ));
    log.assert_says("Retrying step_script");
    assert_eq!(log.says("ERROR: Execution attempts exceeded"), again);
    let reason = again.then_some("runner_system_failure");
    assert_eq!(job.failure_reason.as_deref(), reason, "{}", log.text());
    log.assert_prints(if again {
        "after:"
    } else {
        "after: in-container"
    });
    assert_eq!(host.witnessed("script").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_killed_from_outside_is_a_script_failure() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let (runner, id, name) = sleeping(&host, &sleeper()).await;
    host.docker.run(&["kill", &name]).await;
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(137));
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    let log = JobLog::of(&job);
    log.assert_says("ERROR: Job failed: exit code 137");
    log.assert_never_says("out of memory");
    assert_eq!(host.witnessed("after"), ["after"]);
}

#[rstest]
#[case::a_limit_below_the_engines(
    Config::new().docker("memory = \"1m\""),
    json!({"name": BUSYBOX}),
    "memory limit"
)]
#[case::a_user_that_the_image_does_not_know(
    Config::new(),
    json!({"name": BUSYBOX, "executor_opts": {"docker": {"user": "stranger"}}}),
    "unable to find user stranger"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_refuses_fails_once_and_names_the_reason(
    #[case] config: Config,
    #[case] image: Value,
    #[case] says: &str,
) {
    let Some((_, job, log)) = run(&config, &job(["true"]).image_object(image)).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says(says);
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_too_long_for_an_environment_is_named() {
    let long = "x".repeat(140_000);
    let work = job(["true"]).variable("MUCH", &long);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says("variable \"MUCH\" is too long for a container's environment");
    log.assert_never_says("Will be retried");
}

/// Each of them would do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_too_long_together_are_told() {
    let work = (0..70).fold(job(["true"]), |work, number| {
        work.variable(&format!("MUCH_{number}"), &"x".repeat(100_000))
    });
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(
        job.failure_reason.as_deref(),
        Some("runner_configuration_error")
    );
    log.assert_says("the variables of the job are too long together for the environment of a program (argument list too long); make the longest of them file variables");
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_leads_to_no_shell_is_named() {
    let work = job(["true"]).variable("PATH", "$PATH:/more");
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says("the job's variable `PATH` stands in for that of image");
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_of_two_megabytes_runs() {
    let line = format!("echo {} | wc -c", "y".repeat(2_000_000));
    let Some((_, job, log)) = run(&Config::new(), &job([line.as_str(), "echo done"])).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("2000001");
    log.assert_prints("done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_process_does_not_keep_a_job_alive() {
    let work = job(["sleep 1000 &", "echo over"]).after_script(["echo after"]);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("over");
    log.assert_prints("after");
}

/// While a job runs, what the engine shows of it holds no more than it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_made_as_configured() {
    let config = Config::new()
        .docker("memory = \"128m\"")
        .docker("cpus = \"1/3\"")
        .docker("shm_size = 33554432")
        .docker("extra_hosts = [\"elsewhere:192.0.2.7\"]")
        .docker("user = \"0\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let wait = gate("go");
    let id = host.gitlab.enqueue(&job([
        "grep elsewhere /etc/hosts",
        "df -k /dev/shm | tail -n 1 | awk '{print \"shm\", $2}'",
        "echo begun >> /witness/script",
        wait.as_str(),
    ]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let build = host.wait_container("-build", |_| true).await;
    let settings = &build["HostConfig"];
    assert_eq!(settings["Memory"], 134_217_728);
    assert_eq!(settings["NanoCpus"], 333_333_333);
    assert_eq!(settings["ShmSize"], 33_554_432);
    assert_eq!(settings["Privileged"], false);
    assert_eq!(settings["ExtraHosts"], json!(["elsewhere:192.0.2.7"]));
    assert_eq!(build["Config"]["User"], "0");
    assert_eq!(build["Config"]["Tty"], false);
    let labels = build["Config"]["Labels"].as_object().expect("labels");
    for (key, value) in [
        ("job.id", id.to_string().as_str()),
        ("project.id", "4"),
        ("pipeline.id", "120"),
        ("runner.id", host.short_token()),
        ("managed", "true"),
        ("type", "build"),
    ] {
        let key = format!("com.gitlab.gitlab-runner.{key}");
        assert_eq!(labels[&key], value, "{key}");
    }
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    log.assert_says("192.0.2.7");
    log.assert_prints("shm 32768");
}

#[rstest]
#[case::of_the_image("gantry.test/user:1", Value::Null, "app")]
#[case::of_the_job(BUSYBOX, json!({"docker": {"user": "nobody"}}), "nobody")]
#[case::as_a_number(BUSYBOX, json!({"docker": {"user": 1000}}), "app")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_as_the_user_and_may_write_to_project_and_cache(
    #[case] image: &str,
    #[case] options: Value,
    #[case] user: &str,
) {
    let config = Config::new();
    let image = if options.is_null() {
        json!({"name": image})
    } else {
        json!({"name": image, "executor_opts": options})
    };
    let work = job(["whoami", "echo x > in-project", "touch /builds/a"]).image_object(image);
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints(user);
}
