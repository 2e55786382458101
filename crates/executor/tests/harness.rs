//! A job with everything around it: engine, containers, helper agent, server, and runner processes that follow each other.
//!
//! | Module | Is |
//! |---|---|
//! | `setup` | the job and its surroundings, as data |
//! | `work` | what a script or a helper stage does, as data |
//! | `shell` | the build container: a shell that reads its script from stdin |
//! | `agents` | the helper container: an agent that outlives its connections |
//! | `bench` | all of it put together; runner processes with journal and log |
//! | `deaths` | ends of runner processes, and what must be the same in spite of them |
//! | `bent` | an engine whose streams and answers come late, for what the scripted one has no fault for |

pub(crate) mod agents;
pub(crate) mod bench;
pub(crate) mod bent;
pub(crate) mod deaths;
pub(crate) mod setup;
pub(crate) mod shell;
pub(crate) mod work;

use std::time::Duration;

use gantry_engine::{EngineError, fake::Fault};
use tokio::time::Instant;

pub(crate) use bench::{Bench, Ending};
pub(crate) use bent::Bent;
pub(crate) use setup::Setup;
pub(crate) use shell::Entrypoint;
pub(crate) use work::Work;

/// Runs one case under a paused clock, on a runtime of its own: what the case leaves running ends with it.
pub(crate) fn case<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(body)
}

/// Runs one case that talks to a server: by the real clock, since a paused one runs ahead of whoever waits for an answer.
pub(crate) fn with_server<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(body)
}

/// Runs a job from its start to its end without any disturbance from outside.
pub(crate) fn run(setup: Setup) -> Ending {
    case(async { Bench::new(setup).run_to_end().await })
}

/// The same, and how long it took by the paused clock.
pub(crate) fn timed(setup: Setup) -> (Ending, Duration) {
    case(async {
        let bench = Bench::new(setup);
        let begin = Instant::now();
        let ending = bench.run_to_end().await;
        (ending, begin.elapsed())
    })
}

/// A job whose engine has faults.
pub(crate) fn with_faults(setup: Setup, faults: impl FnOnce(&Bench)) -> Ending {
    case(async {
        let bench = Bench::new(setup);
        faults(&bench);
        bench.run_to_end().await
    })
}

/// A job that sees its engine through something.
pub(crate) fn through(setup: Setup, bend: impl FnOnce(&mut Bent)) -> Ending {
    case(async {
        let mut bench = Bench::new(setup);
        let mut bent = Bent::new(&bench.engine);
        bend(&mut bent);
        bench.through = Some(bent.shared());
        bench.run_to_end().await
    })
}

/// The engine answers a call with this status.
pub(crate) fn failed(status: u16, message: &str) -> Fault {
    Fault::Error(EngineError::Failed {
        what: "a call".to_owned(),
        status,
        message: message.to_owned(),
    })
}

/// The same end, log and scripts.
#[track_caller]
pub(crate) fn assert_the_same(undisturbed: &Ending, ending: &Ending) {
    if let Err(fault) = deaths::the_same(undisturbed, ending) {
        panic!("{fault}");
    }
}
