//! Points spread over a job's life.

use super::*;

/// Where the runner is killed. Each is a fact seen from outside.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The job was handed out; it may be written down or not.
    HandedOut,
    /// The acceptance was sent and is not answered.
    AcceptanceHangs,
    /// The server took the acceptance, and its answer was lost.
    AcceptanceLost,
    /// The journal has this record, for the nth time.
    Record(&'static str, usize),
    /// The same of a step of a stage.
    Step(&'static str, usize),
    /// A container is there whose name ends so.
    Container(&'static str),
    /// The script has printed so many lines.
    Line(usize),
    /// `after_script` has printed so many lines.
    AfterLine(usize),
    /// So many requests reached the git server.
    Git(usize),
    /// The final update was sent and is not answered.
    FinalHangs,
    /// The server took the final update, and its answer was lost.
    FinalLost,
    /// The server has the final state: the job is being removed.
    Final,
}

impl At {
    /// Faults to set before the job is there.
    fn arrange(self, host: &Host) {
        let update = |state| Fault::on(Endpoint::UpdateJob).state(state);
        match self {
            Self::AcceptanceHangs => host.gitlab.fault(update("running").hang()),
            Self::AcceptanceLost => host.gitlab.fault(update("running").nth(1).lose_answer()),
            Self::FinalHangs => host.gitlab.fault(update("final").hang()),
            Self::FinalLost => host.gitlab.fault(update("final").lose_answer()),
            _ => {}
        }
    }

    async fn reached(self, host: &Host, git: &GitHttp, id: i64) {
        let count = |fits: &dyn Fn(&Value) -> bool| {
            host.journal(id)
                .iter()
                .filter(|record| fits(record))
                .count()
        };
        match self {
            Self::HandedOut => {
                let state = |job: &JobRecord| job.state != ServerJobState::Pending;
                host.gitlab.wait_for(id, "handed out", state).await;
            }
            Self::AcceptanceHangs => {
                host.gitlab.wait_for_requests(Endpoint::UpdateJob, 1).await;
            }
            Self::AcceptanceLost => {
                let state = |job: &JobRecord| job.state == ServerJobState::Running;
                host.gitlab.wait_for(id, "running", state).await;
            }
            Self::Record(name, nth) => {
                until(name, async || {
                    (count(&|record| record.get(name).is_some()) >= nth).then_some(())
                })
                .await;
            }
            Self::Step(name, nth) => {
                until(name, async || {
                    (count(&|record| is_step(record, name)) >= nth).then_some(())
                })
                .await;
            }
            Self::Container(suffix) => {
                until("a container", async || {
                    (!host.containers(suffix).await.is_empty()).then_some(())
                })
                .await;
            }
            Self::Line(lines) => host.wait_witness("progress", lines).await,
            Self::AfterLine(lines) => host.wait_witness("after-progress", lines).await,
            Self::Git(requests) => {
                until("git requests", async || {
                    (git.requests().len() >= requests).then_some(())
                })
                .await;
            }
            Self::FinalHangs => {
                until("the final update", async || {
                    let updates = host.gitlab.requests_to(Endpoint::UpdateJob);
                    let last = |state: &Value| state == "success" || state == "failed";
                    let found = updates.iter().any(|update| last(&update.json()["state"]));
                    found.then_some(())
                })
                .await;
            }
            Self::FinalLost | Self::Final => {
                host.end_of(id).await;
            }
        }
    }
}

/// Some milliseconds, the same in every run: so that deaths do not all lie right behind a fact.
async fn a_moment(point: &str) {
    let seed = std::env::var("GANTRY_TEST_SEED").unwrap_or_default();
    let hash = seed
        .bytes()
        .chain(point.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    tokio::time::sleep(Duration::from_millis(hash % 25)).await;
}

/// Kills the runner at this point and brings the server back in order.
async fn kill(host: &Host, runner: Runner, git: &GitHttp, id: i64, at: At) {
    at.reached(host, git, id).await;
    a_moment(&format!("{at:?}")).await;
    runner.kill().await;
    host.gitlab.heal();
}

/// Waits for the end of a job on a server that takes a job back which nobody confirms, as real ones do.
async fn end_of_unconfirmed(host: &Host, id: i64) -> JobRecord {
    until("the end of the job", async || {
        let job = host.gitlab.job(id);
        if job.state == ServerJobState::HandedOut && host.job_folders().is_empty() {
            host.gitlab.reclaim(id);
        }
        job.state.is_final().then_some(job)
    })
    .await
}

#[rstest]
#[case::handed_out(At::HandedOut)]
#[case::acceptance_is_not_answered(At::AcceptanceHangs)]
#[case::answer_to_acceptance_is_lost(At::AcceptanceLost)]
#[case::accepted(At::Record("Accepted", 1))]
#[case::images_are_looked_for(At::Record("Planned", 1))]
#[case::prepared(At::Record("Prepared", 1))]
#[case::build_container_exists(At::Container("-build"))]
#[case::build_container_starts(At::Step("Starting", 1))]
#[case::script_is_sent(At::Step("Sending", 1))]
#[case::script_was_sent(At::Step("Sent", 1))]
#[case::first_lines(At::Line(1))]
#[case::a_quarter_is_printed(At::Line(LINES / 4))]
#[case::half_is_printed(At::Line(LINES / 2))]
#[case::nearly_all_is_printed(At::Line(LINES - 1))]
#[case::between_script_and_after_script(At::Step("Starting", 2))]
#[case::after_script_is_sent(At::Step("Sent", 2))]
#[case::in_after_script(At::AfterLine(5))]
#[case::verdict_is_written(At::Record("Verdict", 1))]
#[case::final_update_is_not_answered(At::FinalHangs)]
#[case::answer_to_final_update_is_lost(At::FinalLost)]
#[case::removal(At::Final)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_its_runner_is_killed(#[case] at: At) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    at.arrange(&host);
    let id = host.gitlab.enqueue(&talkative());
    kill(&host, host.start(), &git, id, at).await;
    let runner = host.start();
    let job = end_of_unconfirmed(&host, id).await;
    host.finish(runner).await;
    assert_ended_as_if_nothing_had_happened(&host, &job, reference().await);
}

#[rstest]
#[case::helper_starts(At::Record("Prepared", 1))]
#[case::first_question_to_git(At::Git(1))]
#[case::refs_are_listed(At::Git(2))]
#[case::pack_was_sent(At::Git(3))]
#[case::sources_are_there(At::Step("Ended", 2))]
#[case::in_script(At::Line(LINES / 3))]
#[case::in_after_script(At::AfterLine(2))]
#[case::clean_up(At::Step("Ended", 4))]
#[case::verdict_is_written(At::Record("Verdict", 1))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_sources_goes_on_when_its_runner_is_killed(#[case] at: At) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    at.arrange(&host);
    let id = host.gitlab.enqueue(&talkative_with_sources(&git));
    kill(&host, host.start(), &git, id, at).await;
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let reference = reference_with_sources().await;
    assert_ended_as_if_nothing_had_happened(&host, &job, reference);
}

#[rstest]
#[case::before_its_services(At::Record("Planned", 1), true)]
#[case::with_one_service(At::Container("-0"), true)]
#[case::with_both_services(At::Container("-1"), false)]
#[case::prepared(At::Record("Prepared", 1), true)]
#[case::in_script(At::Line(LINES / 2), false)]
#[case::in_after_script(At::AfterLine(3), true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_services_goes_on_when_its_runner_is_killed(
    #[case] at: At,
    #[case] own_network: bool,
) {
    let flags = format!("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = {own_network}");
    let Some(host) = Host::new(&Config::new().runner(&flags)).await else {
        return;
    };
    let git = host.git().await;
    let id = host.gitlab.enqueue(&talkative_with_services());
    kill(&host, host.start(), &git, id, at).await;
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let mut log = comparable(&host, &job);
    // Said where it differs from the default.
    log.runner
        .retain(|line| !line.contains("feature flags: FF_NETWORK_PER_BUILD"));
    let reference = reference_with_services().await;
    assert_same_end(&host, &job, &log, reference);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_its_runner_is_killed_twice() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let id = host.gitlab.enqueue(&talkative());
    for at in [At::Line(LINES / 2), At::AfterLine(3)] {
        kill(&host, host.start(), &git, id, at).await;
    }
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_ended_as_if_nothing_had_happened(&host, &job, reference().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_kills_its_runner_three_times_is_given_up() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let id = host.gitlab.enqueue(&job(script));
    for start in 0..3 {
        let runner = host.start();
        if start == 0 {
            host.wait_witness("script", 1).await;
        } else {
            let resumed = |record: &Value| record == "Resumed";
            until("a restart in the journal", async || {
                let journal = host.journal(id);
                (journal.iter().filter(|record| resumed(record)).count() == start).then_some(())
            })
            .await;
        }
        runner.kill().await;
    }
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    JobLog::of(&job).assert_says("the runner died three times while it worked on this job");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_jobs_at_once_go_on_when_their_runner_is_killed() {
    let Some(host) = Host::new(&Config::new().concurrent(4)).await else {
        return;
    };
    let numbered = |number: usize| {
        let say = format!(
            "echo begun >> /witness/script{number}\n\
             i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo job {number} line $i; \
             echo $i >> /witness/progress{number}; [ $((i % 20)) -ne 0 ] || sleep 0.05; done"
        );
        let end = format!("exit {number}");
        job([say.as_str(), end.as_str()])
    };
    let ids: Vec<_> = (0..4)
        .map(|number| host.gitlab.enqueue(&numbered(number)))
        .collect();
    let runner = host.start();
    for number in 0..4 {
        host.wait_witness(&format!("progress{number}"), 20 * (number + 1))
            .await;
    }
    runner.kill().await;
    let runner = host.start();
    for (number, id) in ids.into_iter().enumerate() {
        let job = host.end_of(id).await;
        assert_eq!(job.exit_code.unwrap_or(0), number as i64);
        host.gitlab.assert_patches(id);
        let log = JobLog::of(&job);
        let printed: Vec<_> = log
            .stdout
            .iter()
            .filter(|line| line.starts_with("job "))
            .cloned()
            .collect();
        let expected: Vec<_> = (1..=200)
            .map(|line| format!("job {number} line {line}"))
            .collect();
        assert_eq!(printed, expected);
        assert_eq!(host.witnessed(&format!("script{number}")), ["begun"]);
    }
    host.finish(runner).await;
}

/// The engine's log is all there is of what was printed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_while_no_runner_runs_is_reported_by_the_next_one() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let say = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done";
    let wait = gate("go");
    let script = [
        "echo begun >> /witness/script",
        wait.as_str(),
        say,
        "printf tail",
        "exit 9",
    ];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    host.open_gate("go");
    host.wait_container("-build", |build| build["State"]["Status"] == "exited")
        .await;
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(9));
    let log = JobLog::of(&job);
    let printed: Vec<_> = log
        .stdout
        .iter()
        .filter(|line| line.starts_with("line "))
        .cloned()
        .collect();
    let expected: Vec<_> = (1..=2000).map(|line| format!("line {line}")).collect();
    assert_eq!(printed, expected);
    log.assert_says("tail");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_its_server_took_away_meanwhile_is_stopped_and_removed() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    host.gitlab.abort(id);
    let runner = host.start();
    host.until_removed().await;
    host.finish(runner).await;
    assert!(host.gitlab.job(id).final_updates().is_empty());
}

/// The time of a job goes on while no runner runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_time_limit_is_no_longer_for_a_restart() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let id = host.gitlab.enqueue(&job(script).timeout(10));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let deadline = until("the acceptance", async || {
        let journal = host.journal(id);
        journal
            .iter()
            .find_map(|record| record["Accepted"]["deadline_ms"].as_u64())
    })
    .await;
    runner.kill().await;
    until("the job's time to be over", async || {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().ok()?;
        (now.as_millis() > u128::from(deadline)).then_some(())
    })
    .await;
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.failure_reason.as_deref(), Some("job_execution_timeout"));
    JobLog::of(&job).assert_says("execution took longer than 10s seconds");
}

/// Half a secret was printed when the runner died: nothing of it may reach the log, then or later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_printed_in_two_halves_is_masked_over_a_death() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let secret = "correct-horse-battery-staple";
    host.secret(secret);
    let wait = gate("go");
    let script = [
        "printf 'secret: correct-horse-b'",
        "echo begun >> /witness/script",
        &wait,
        "echo attery-staple",
        "printf 'no secret: correct-horse'",
    ];
    let work = job(script).masked("PASSWORD", secret).raw("QUIET", "yes");
    // Without the echo of commands, which hold the halves.
    let work = work.set(
        "/steps/0/script",
        serde_json::json!([script.join("\n").replace('\'', "\"")]),
    );
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    host.open_gate("go");
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    log.assert_says("secret: [MASKED]");
    log.assert_says("no secret: correct-horse");
    log.assert_never_says("attery");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

/// Without timestamps the log is the script's output byte for byte; the death falls into the middle of a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_a_death_falls_into_is_whole_without_timestamps_too() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let script = [
        "printf 'first half'",
        "echo begun >> /witness/script",
        &wait,
        "printf ', second half'; echo; printf 'progress 1%%\\rprogress 2%%\\r'; printf 'end'",
    ];
    let work = job([script.join("\n").as_str()]).variable("FF_TIMESTAMPS", "false");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let half = |job: &JobRecord| job.log().contains("first half");
    host.gitlab.wait_for(id, "half printed", half).await;
    runner.kill().await;
    let runner = host.start();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = job.log();
    assert!(
        log.contains("first half, second half\nprogress 1%\rprogress 2%\rend"),
        "{log}"
    );
    assert_eq!(
        log.matches("half").count(),
        3,
        "the echo of the command has one: {log}"
    );
}

/// As much as a script can print, while the runner dies twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_log_of_many_megabytes_is_whole_after_two_deaths() {
    let Some(host) = Host::new(&Config::new().runner("output_limit = 100000")).await else {
        return;
    };
    let lines = 200_000;
    let line = "z".repeat(80);
    let say = format!(
        "awk 'BEGIN {{ for (i = 1; i <= {lines}; i++) {{ print i, \"{line}\"; \
         if (i % 20000 == 0) print i >> \"/witness/progress\"; fflush(\"/witness/progress\") }} }}'"
    );
    let id = host.gitlab.enqueue(&job([say.as_str(), "exit 3"]));
    for progress in [2, 6] {
        let runner = host.start();
        host.wait_witness("progress", progress).await;
        runner.kill().await;
    }
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(3));
    host.gitlab.assert_patches(id);
    let log = JobLog::of(&job);
    let mut expected = 1;
    for printed in log.stdout.iter().filter(|printed| printed.ends_with("zzz")) {
        assert_eq!(*printed, format!("{expected} {line}"));
        expected += 1;
    }
    let tail = &log.all[log.all.len().saturating_sub(12)..];
    assert_eq!(expected, lines + 1, "{tail:#?}");
}

/// The server has the beginning of the log already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_sends_no_byte_of_the_log_a_second_time() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let id = host.gitlab.enqueue(&job([
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; done",
        wait.as_str(),
        "echo the end",
    ]));
    let runner = host.start();
    let key = format!("{}-{id}", host.short_token());
    let sent = host.folder().join(".gantry/jobs").join(key).join("sent");
    until(
        "the first part of the log to be sent and noted",
        async || {
            let has = host.gitlab.job(id);
            let noted: usize = std::fs::read_to_string(&sent).ok()?.parse().ok()?;
            (has.log().contains("line 500") && noted == has.trace.len()).then_some(())
        },
    )
    .await;
    runner.kill().await;
    let runner = host.start();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert!(JobLog::of(&job).prints("the end"));
    host.gitlab.assert_patches(id);
    let patches = host.gitlab.requests_to(Endpoint::PatchTrace);
    let statuses: Vec<_> = patches.iter().filter_map(|patch| patch.status).collect();
    assert!(statuses.iter().all(|&status| status == 202), "{statuses:?}");
}
