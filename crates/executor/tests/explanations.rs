//! What a job is told when its container ends in a way that a script does not explain.

use gantry_engine::fake::Verb;
use gantry_job::Cause;
use rstest::rstest;

use crate::harness::{Bench, Ending, Entrypoint, Setup, Work, bent::Bent, case, run};

fn limited(work: Work) -> Setup {
    Setup::script(work).with(|setup| setup.runner.docker.memory = Some(64 << 20))
}

/// The same job with and without events of the engine.
fn both_ways(setup: impl Fn() -> Setup, check: impl Fn(&Ending)) {
    check(&run(setup()));
    check(&case(async {
        let mut bench = Bench::new(setup());
        let mut bent = Bent::new(&bench.engine);
        bent.no_events = true;
        bench.through = Some(bent.shared());
        bench.run_to_end().await
    }));
}

#[rstest]
#[case(137)]
#[case(1)]
fn a_script_killed_for_memory_is_told_the_limit(#[case] code: i64) {
    both_ways(
        || limited(Work::says("eating\n").oom().exits(code)),
        |ending| {
            let exit_code = code as i32;
            let limit = Some(64 << 20);
            assert_eq!(*ending.cause(), Cause::OutOfMemory { limit, exit_code });
            ending.assert_says("(killed: out of memory, limit 64 MiB; ");
        },
    );
}

#[test]
fn a_killed_process_under_a_limit_may_have_run_out_of_memory() {
    let ending = run(limited(Work::nothing().exits(137)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 137 });
    ending.assert_says("possibly out of memory, limit 64 MiB");
    let ending = run(Setup::script(Work::nothing().exits(137)));
    ending.assert_never_says("out of memory");
}

#[test]
fn without_a_limit_the_host_ran_out_of_memory() {
    let ending = run(Setup::script(Work::nothing().oom().exits(137)));
    assert!(matches!(
        ending.cause(),
        Cause::OutOfMemory { limit: None, .. }
    ));
}

#[test]
fn a_script_that_goes_on_after_a_kill_for_memory_succeeds_with_a_note() {
    let ending = run(limited(Work::says("eating\n").oom().out("went on\n")));
    ending.assert_success();
    ending.assert_says(
        "WARNING: a process of the job was killed: out of memory, limit 64 MiB; the script went on",
    );
}

#[test]
fn memory_is_blamed_in_the_stage_that_ran_out_of_it_alone() {
    let ending = run(limited(Work::nothing().oom()).step("release", Work::nothing().exits(2)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 2 });
}

#[test]
fn an_image_without_a_shell_is_named() {
    let setup = Setup::script(Work::nothing()).with(|setup| setup.image.without_shell = true);
    let ending = run(setup);
    let image = "alpine:3.20".to_owned();
    assert_eq!(*ending.cause(), Cause::ShellNotFound { image });
    ending.assert_says("shell not found\n");
    ending.assert_says("(shell not found: image \"alpine:3.20\" has neither bash nor sh");
}

#[test]
fn a_script_that_says_shell_not_found_has_a_shell() {
    let ending = run(Setup::script(Work::says("shell not found\n").exits(1)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 1 });
}

#[test]
fn an_entrypoint_that_execs_its_arguments_is_part_of_the_log() {
    let ending = run(Setup::script(Work::says("hello\n"))
        .after_script(Work::says("bye\n"))
        .entrypoint(Entrypoint::Execs { words: "welcome\n" }));
    ending.assert_success();
    assert_eq!(ending.count("welcome\n"), 2);
    ending.assert_order(&["welcome\n", "hello\n", "welcome\n", "bye\n"]);
}

#[test]
fn an_entrypoint_that_swallows_the_shell_fails_with_advice() {
    let ending = run(
        Setup::script(Work::nothing()).entrypoint(Entrypoint::Swallows {
            words: "usage: tool FILE\n",
            code: 64,
        }),
    );
    assert!(matches!(
        ending.cause(),
        Cause::EntrypointSwallowedScript { exit_code: 64, .. }
    ));
    assert!(ending.ran.is_empty());
    ending.assert_says("usage: tool FILE\n");
    ending.assert_says("set `image:entrypoint: [\"\"]` in the job");
}

#[test]
fn an_entrypoint_that_is_the_job_itself_succeeds_with_a_note() {
    let ending = run(
        Setup::script(Work::nothing()).entrypoint(Entrypoint::Swallows {
            words: "all done\n",
            code: 0,
        }),
    );
    ending.assert_success();
    ending.assert_says("all done\n");
    ending.assert_says("WARNING: the image's entrypoint ended with 0 without starting a shell");
}

#[test]
fn an_entrypoint_that_the_job_cleared_is_none() {
    let setup = Setup::script(Work::says("hello\n")).with(|setup| {
        let image = setup.payload.image.as_mut().unwrap();
        image.entrypoint = vec![String::new()];
    });
    let ending = run(setup);
    ending.assert_success();
    ending.assert_never_says("WARNING");
}

#[test]
fn an_entrypoint_for_another_machine_is_named() {
    let ending = run(
        Setup::script(Work::nothing()).entrypoint(Entrypoint::Swallows {
            words: "exec /entrypoint: exec format error\n",
            code: 1,
        }),
    );
    let image = "alpine:3.20".to_owned();
    assert_eq!(
        *ending.cause(),
        Cause::ExecFormat {
            image,
            exit_code: Some(1),
        }
    );
}

#[rstest]
#[case::shell(None)]
#[case::entrypoint(Some(Entrypoint::Swallows { words: "exec /entrypoint: argument list too long\n", code: 1 }))]
fn variables_that_are_too_long_together_are_told(#[case] entrypoint: Option<Entrypoint>) {
    let ending = case(async {
        let mut setup = Setup::script(Work::nothing());
        let shell = entrypoint.is_none();
        if let Some(entrypoint) = entrypoint {
            setup = setup.entrypoint(entrypoint);
        }
        let bench = Bench::new(setup);
        if shell {
            bench.engine.on_name(
                "-build",
                gantry_engine::fake::Program::new(|run| async move {
                    run.stderr("exec /bin/sh: argument list too long\n");
                    1
                }),
            );
        }
        bench.run_to_end().await
    });
    ending.assert_says(
        "ERROR: Job failed: the variables of the job are too long together for the environment of a program (argument list too long); make the longest of them file variables",
    );
}

#[test]
fn a_service_that_ends_at_once_is_told() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")).services());
        bench
            .engine
            .on_name("postgres", gantry_engine::fake::Program::exit(3));
        bench.run_to_end().await
    });
    ending.assert_success();
    ending.assert_says("-postgres-0\" has ended with exit code 3; its log says why");
}

/// A job with services of which the first is this one.
fn with_a_service(work: Work, service: gantry_engine::fake::Program) -> Ending {
    case(async {
        let bench = Bench::new(Setup::script(work).services());
        bench.engine.on_name("postgres", service);
        bench.run_to_end().await
    })
}

#[rstest]
#[case::and_the_job_fails(1, true)]
#[case::and_the_job_does_without(0, false)]
fn a_service_that_ends_meanwhile_is_told_with_its_image(#[case] code: i64, #[case] told: bool) {
    let crash = gantry_engine::fake::Program::exit(2);
    let ending = with_a_service(Work::says("no database\n").exits(code), crash);
    let line = "service \"db\" (postgres:16) ended before the job did, with exit code 2; what it printed last says why \
                (CI_DEBUG_SERVICES: \"true\" shows it)";
    assert_eq!(ending.text().contains(line), told, "{}", ending.text());
    // The other one runs.
    let count = ending.text().matches(" ended before the job did").count();
    assert_eq!(count, usize::from(told));
}

#[test]
fn a_service_whose_memory_ran_out_is_told_so() {
    let eater = gantry_engine::fake::Program::new(|run| async move {
        run.oom_kill();
        137
    });
    let ending = with_a_service(Work::says("no database\n").exits(1), eater);
    ending.assert_says(
        "service \"db\" (postgres:16) ended before the job did: it was killed, out of memory (exit code 137); raise service_memory",
    );
}

#[test]
fn a_container_that_reads_no_script_is_judged_by_its_own_end() {
    // The shell is there and ends before it reads, e.g. killed by a security module.
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()));
        bench.engine.on_name(
            "-build",
            gantry_engine::fake::Program::new(|run| async move {
                run.stderr("cannot open shared object file\n");
                127
            }),
        );
        bench.run_to_end().await
    });
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 127 });
    ending.assert_says("cannot open shared object file\n");
    let starts = ending.calls.iter();
    let starts = starts.filter(|call| call.verb == Verb::ContainerStart);
    assert_eq!(starts.count(), 1);
}
