//! Services: whether they answer before the script, and what they print.

use std::time::Duration;

use gantry_engine::{
    EngineError,
    fake::{Fault, Program, Step, Verb},
};
use gantry_job::Cause;
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{
    Bench, Ending, Entrypoint, Setup, Work, case,
    deaths::{Course, survive, the_same},
    run,
};

fn looked_at() -> Setup {
    Setup::script(Work::says("hello\n")).services_with_ports()
}

/// What a service prints before it goes on running.
fn prints(text: &'static str) -> Program {
    Program::new(move |mut run| async move {
        run.stdout(text);
        run.stderr("and a warning\n");
        run.signal().await;
        143
    })
}

/// The check hears of the first service alone, and of trouble with the other.
fn only_the_first_answers() -> Program {
    Program::new(|_run| async move {
        _run.stdout("0\n");
        _run.stderr("1 dialing 172.20.0.3:6379: Connection refused (os error 111)\n");
        std::future::pending().await
    })
}

/// A job with a bench that is bent first, and how long it took.
fn timed(setup: Setup, bend: impl FnOnce(&Bench)) -> (Ending, Duration) {
    case(async {
        let bench = Bench::new(setup);
        bend(&bench);
        let begin = Instant::now();
        let ending = bench.run_to_end().await;
        (ending, begin.elapsed())
    })
}

#[rstest]
#[case::without_helper(looked_at())]
#[case::with_helper(looked_at().git())]
#[case::with_an_entrypoint(looked_at().entrypoint(Entrypoint::Execs { words: "" }))]
#[case::podman(looked_at().podman())]
fn the_script_begins_once_all_services_answer(#[case] setup: Setup) {
    let (ending, _) = timed(setup, |bench| {
        let late = Program::new(|run| async move {
            assert_eq!(
                run.spec.entrypoint.as_ref().unwrap(),
                &["/opt/gantry/gantry-helper"]
            );
            let command = run.spec.cmd.clone().unwrap();
            assert_eq!(command[..2], ["await-services", "90"]);
            for (address, port) in command[2..].iter().zip([":5432", ":6379"]) {
                assert!(address.starts_with("172.20.") && address.ends_with(port));
            }
            assert_eq!(command.len(), 4);
            tokio::time::sleep(Duration::from_secs(7)).await;
            run.stdout("1\n");
            tokio::time::sleep(Duration::from_secs(7)).await;
            run.stdout("0\n");
            0
        });
        bench.engine.on_name("-wait-for-services", late);
    });
    ending.assert_success();
    ending.assert_order(&[
        "Starting service postgres:16...\n",
        "Starting service redis:7...\n",
        "Waiting for services to be up and running (timeout 30 seconds)...\n",
        "hello\n",
    ]);
    ending.assert_never_says("WARNING");
}

#[test]
fn a_service_that_does_not_answer_is_told_with_both_logs_and_the_job_goes_on() {
    let (ending, took) = timed(looked_at(), |bench| {
        let engine = &bench.engine;
        engine.on_name("-wait-for-services", only_the_first_answers());
        engine.on_name("-redis-1", prints("booting\n"));
    });
    ending.assert_success();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(40),
        "{took:?}"
    );
    assert_eq!(ending.count("probably didn't start properly."), 1);
    ending.assert_order(&[
        "Waiting for services",
        "*** WARNING: Service runner-tok-project-7-concurrent-0-",
        "-redis-1 probably didn't start properly.\n",
        "Health check error:\nservice \"runner-tok-project-7-concurrent-0-",
        "-redis-1-wait-for-service\" timeout\n",
        "Health check container logs:\n",
        "Z dialing 172.20.0.3:6379: Connection refused (os error 111)\n",
        "Service container logs:\n",
        "2026-01-02T03:04:05.000000006Z booting\n",
        "2026-01-02T03:04:05.000000006Z and a warning\n",
        "\n*********\n",
        "hello\n",
    ]);
}

#[test]
fn a_service_that_ends_is_told_at_once_with_its_log() {
    let (ending, took) = timed(looked_at(), |bench| {
        let dies = Program::steps(vec![
            Step::Stderr("Error: superuser password is not specified\n".into()),
            Step::Sleep(Duration::from_secs(2)),
            Step::Exit(1),
        ]);
        bench.engine.on_name("-postgres-0", dies);
        let other_answers = Program::new(|run| async move {
            run.stdout("1\n");
            std::future::pending().await
        });
        bench.engine.on_name("-wait-for-services", other_answers);
    });
    ending.assert_success();
    assert!(took < Duration::from_secs(10), "{took:?}");
    ending.assert_order(&[
        "-postgres-0\" has ended with exit code 1; its log says why, often a variable",
        "Service container logs:\n",
        "Error: superuser password is not specified\n",
        "hello\n",
    ]);
    ending.assert_never_says("timeout\n");
}

#[rstest]
#[case::at_once(Setup::script(Work::says("hello\n")).services())]
#[case::without_a_check(looked_at().with(|setup| setup.runner.docker.wait_for_services_timeout = None))]
fn a_service_that_has_ended_before_is_told_whether_it_is_looked_at_or_not(#[case] setup: Setup) {
    let (ending, took) = timed(setup, |bench| {
        let killed = Program::new(|run| async move {
            run.oom_kill();
            137
        });
        bench.engine.on_name("-postgres-0", killed);
        bench.engine.fault_on(
            Verb::ContainerStart,
            "",
            1,
            2,
            Fault::Delay(Duration::from_secs(1)),
        );
    });
    ending.assert_success();
    assert!(took < Duration::from_secs(20), "{took:?}");
    ending.assert_says("was killed: out of memory (exit code 137); raise service_memory");
}

#[rstest]
#[case::no_ports(Setup::script(Work::says("hello\n")).services(), true)]
#[case::negative_timeout(looked_at().with(|setup| setup.runner.docker.wait_for_services_timeout = None), false)]
#[case::no_network(
    looked_at().with(|setup| setup.runner.docker.network_mode = Some("none".to_owned())),
    false
)]
fn nothing_is_started_where_there_is_nothing_to_look_at(#[case] setup: Setup, #[case] said: bool) {
    let ending = run(setup);
    ending.assert_success();
    let created = |call: &&gantry_engine::fake::Call| {
        call.verb == Verb::ContainerCreate && call.subject.contains("-wait-for-services")
    };
    assert_eq!(ending.calls.iter().filter(created).count(), 0);
    assert_eq!(ending.count("Waiting for services"), usize::from(said));
}

#[test]
fn a_port_that_is_none_fails_the_job_once() {
    let setup = looked_at().with(|setup| {
        setup.payload.services[1].variables[0].value = "http".to_owned();
    });
    let ending = run(setup);
    assert!(matches!(ending.cause(), Cause::Configuration { .. }));
    ending.assert_says(
        "ERROR: Job failed: getting exposed ports: invalid health check tcp port: http",
    );
    ending.assert_never_says("Preparation failed");
    assert!(ending.ran.is_empty());
}

fn refused() -> EngineError {
    EngineError::BadRequest {
        what: "create container".to_owned(),
        message: "no such runtime".to_owned(),
    }
}

#[test]
fn a_check_that_cannot_be_made_does_not_fail_the_job() {
    for (verb, expected) in [
        (
            Verb::ContainerCreate,
            "create service container: create container: no such runtime",
        ),
        (
            Verb::ContainerStart,
            "start service container: create container: no such runtime",
        ),
    ] {
        let (ending, _) = timed(looked_at(), |bench| {
            let fault = Fault::Error(refused());
            bench
                .engine
                .fault_on(verb, "-wait-for-services", 1, 9, fault);
        });
        if verb == Verb::ContainerStart && ending.count(expected) == 0 {
            // Starts are asked for by ID.
            continue;
        }
        ending.assert_success();
        assert_eq!(ending.count(expected), 2);
    }
}

#[test]
fn a_check_that_ends_too_early_is_told_with_its_code() {
    let (ending, _) = timed(looked_at(), |bench| {
        let ends = Program::steps(vec![Step::Stdout("0\n".into()), Step::Exit(126)]);
        bench.engine.on_name("-wait-for-services", ends);
    });
    ending.assert_success();
    assert_eq!(ending.count("probably didn't start properly"), 1);
    ending.assert_says("-redis-1-wait-for-service\" health check: exit code 126\n");
}

#[test]
fn an_engine_that_goes_away_in_the_check_is_waited_for_by_trying_again() {
    let (ending, _) = timed(looked_at(), |bench| {
        let fault = Fault::CutOutput(0);
        bench
            .engine
            .fault_on(Verb::ContainerAttach, "", 1, 1, fault);
    });
    ending.assert_success();
    assert_eq!(ending.count("hello\n"), 1);
}

#[test]
fn the_log_of_a_service_is_cut_at_a_line_before_64_kib() {
    let (ending, _) = timed(looked_at(), |bench| {
        bench
            .engine
            .on_name("-wait-for-services", only_the_first_answers());
        let talks = Program::new(|run| async move {
            for number in 0..2000 {
                run.stdout(format!("line {number} {}\n", "x".repeat(60)));
            }
            std::future::pending().await
        });
        bench.engine.on_name("-redis-1", talks);
    });
    ending.assert_success();
    let shown = ending.count("Z line ");
    assert!((500..800).contains(&shown), "{shown}");
    let text = ending.text();
    let last = text.lines().rfind(|line| line.contains("Z line ")).unwrap();
    assert!(last.ends_with(&"x".repeat(60)), "{last}");
}

#[test]
fn the_last_words_of_a_service_that_is_stopped_are_in_the_log() {
    let (ending, _) = timed(debugged(), |bench| {
        let says = Program::new(|mut run| async move {
            run.signal().await;
            run.stdout("shutting down\n");
            143
        });
        bench.engine.on_name("-redis-1", says);
    });
    assert_eq!(ending.verdict.state, gantry_job::JobState::Success);
    let place = |text: &str| ending.log.find(text).unwrap();
    assert!(place("ends\n") < place("shutting down"));
    assert!(place("shutting down") < place("Job succeeded"));
}

fn debugged() -> Setup {
    let work = Work::says("begins\n").pause_ms(3000).out("ends\n");
    Setup::script(work)
        .services()
        .variable("CI_DEBUG_SERVICES", "true")
}

fn talking(bench: &Bench) {
    let talks = Program::new(|run| async move {
        for number in 0..6 {
            run.stdout(format!("tick {number}\n"));
            tokio::time::sleep(Duration::from_millis(450)).await;
        }
        run.stderr("the secret is hunter2-and-more\n");
        run.stdout("no line break");
        0
    });
    bench.engine.on_name("-redis-1", talks);
    bench.engine.on_name("-postgres-0", prints("ready\n"));
}

#[test]
fn what_services_print_is_in_the_log_if_the_job_asks_for_it() {
    let setup = debugged().with(|setup| {
        setup.payload.variables.push(gantry_job::Variable {
            masked: true,
            ..gantry_job::Variable::new("PASSWORD", "hunter2-and-more")
        });
    });
    let (ending, _) = timed(setup, talking);
    ending.assert_success();
    ending.assert_says("\n[service:postgres-db] 2026-01-02T03:04:05.000000006Z ready\n");
    ending.assert_says("[service:postgres-db] 2026-01-02T03:04:05.000000006Z and a warning\n");
    for number in 0..6 {
        let line =
            format!("[service:redis-cache-kv] 2026-01-02T03:04:05.000000006Z tick {number}\n");
        assert_eq!(ending.count(&line), 1, "{line}");
    }
    ending.assert_order(&["tick 0", "begins\n", "tick 5", "ends\n"]);
    ending.assert_says("Z the secret is [MASKED]\n");
    ending.assert_says("Z no line break\n");
    assert!(
        ending.log.contains("\x1b[0;37m[service:redis-cache-kv] "),
        "{}",
        ending.log
    );
    assert!(ending.log.contains("tick 5\x1b[0;m\n"));
}

#[test]
fn what_services_print_is_not_in_the_log_otherwise() {
    let setup = Setup::script(Work::says("hello\n")).services();
    let (ending, _) = timed(setup, talking);
    ending.assert_success();
    ending.assert_never_says("[service:");
}

#[rstest]
#[case::cut(Fault::CutOutput(21))]
#[case::ended(Fault::EndOutput(21))]
fn a_log_that_breaks_goes_on_without_repeating_a_line(#[case] fault: Fault) {
    let (ending, _) = timed(debugged(), |bench| {
        talking(bench);
        bench.engine.fault_on(Verb::ContainerLogs, "", 2, 1, fault);
    });
    ending.assert_success();
    for number in 0..6 {
        assert_eq!(ending.count(&format!("Z tick {number}\n")), 1);
    }
    ending.assert_never_says("WARNING");
}

#[test]
fn a_log_that_cannot_be_read_is_a_warning() {
    let (ending, _) = timed(debugged(), |bench| {
        talking(bench);
        let message = "configured logging driver does not support reading".to_owned();
        let fault = Fault::Error(EngineError::Failed {
            what: "read the log".to_owned(),
            status: 400,
            message,
        });
        bench.engine.fault_on(Verb::ContainerLogs, "", 1, 2, fault);
    });
    ending.assert_success();
    for name in ["-postgres-0", "-redis-1"] {
        ending.assert_says(&format!(
            "{name}: read the log: configured logging driver does not support reading"
        ));
    }
    let warning = "WARNING: failed to open log stream for container runner-tok-";
    assert_eq!(ending.count(warning), 2);
    ending.assert_never_says("[service:");
}

#[test]
fn lines_of_services_count_for_the_limit_of_the_log() {
    let setup = debugged().with(|setup| setup.runner.output_limit = 6000);
    let (ending, _) = timed(setup, |bench| {
        let talks = Program::new(|run| async move {
            for _ in 0..200 {
                run.stdout("y".repeat(99) + "\n");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            std::future::pending().await
        });
        bench.engine.on_name("-redis-1", talks);
    });
    assert_eq!(ending.verdict.state, gantry_job::JobState::Success);
    assert!(ending.log.len() < 8 * 1024, "{}", ending.log.len());
    ending.assert_says("Job's log exceeded limit of ");
}

fn all_of_it() -> Setup {
    looked_at().git().variable("CI_DEBUG_SERVICES", "true")
}

#[test]
fn a_runner_that_dies_while_services_are_looked_at_leaves_nothing_and_says_nothing_twice() {
    let course = Course::of(all_of_it);
    let records = course.records().into_iter().map(|death| [death]);
    survive(all_of_it, &course, records, the_same);
    let calls = course.calls().into_iter().map(|death| [death]);
    survive(all_of_it, &course, calls, the_same);
    let instants = course.instants(7).into_iter().map(|death| [death]);
    survive(all_of_it, &course, instants, the_same);
}
