use std::{
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use gantry_engine::fake::{Call, Fault, Verb};
use gantry_journal::Crash;

use super::{Bench, Ending, Setup, bench::Process, case};

/// A process that has not come to the job's end by then has met its death: it waits at the point where it was to die, for ever. No
/// undisturbed job of the sweeps takes as long.
const PATIENCE: Duration = Duration::from_secs(50);

/// Where a runner process dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Death {
    /// At a journal record of the executor's.
    Record(Crash),
    /// When it has been polled so often: between any two awaits.
    Poll(u64),
    /// At a call of the engine: the `nth` of its kind, before or after it has its effect.
    Call { verb: Verb, nth: u32, effect: bool },
}

/// What an undisturbed job did, to know where it can die.
pub(crate) struct Course {
    pub(crate) ending: Ending,
    polls: u64,
}

/// Whether an ending is one that the job may have, given its undisturbed one. `Err`: what is wrong.
pub(crate) type Judge = fn(&Ending, &Ending) -> Result<(), String>;

impl Course {
    pub(crate) fn of(setup: fn() -> Setup) -> Self {
        case(async {
            let bench = Bench::new(setup());
            let process = bench.start().await;
            let mut polls = 0;
            let (verdict, removed) = Counted {
                inner: Box::pin(process.live()),
                polls: &mut polls,
            }
            .await
            .unwrap();
            assert!(removed);
            let ending = bench.ending(&process, verdict).await.unwrap();
            Self { ending, polls }
        })
    }

    /// Every way to die at a record.
    pub(crate) fn records(&self) -> Vec<Death> {
        (0..self.ending.records)
            .flat_map(|n| [Crash::Before(n), Crash::Within(n), Crash::After(n)])
            .map(Death::Record)
            .collect()
    }

    /// Every call of the engine, before and after its effect.
    pub(crate) fn calls(&self) -> Vec<Death> {
        let mut seen = std::collections::BTreeMap::new();
        let mut deaths = Vec::new();
        for Call { verb, .. } in &self.ending.calls {
            let nth = seen.entry(*verb).or_insert(0_u32);
            *nth += 1;
            // Nobody waits for events.
            if *verb != Verb::Events {
                for effect in [false, true] {
                    let (verb, nth) = (*verb, *nth);
                    deaths.push(Death::Call { verb, nth, effect });
                }
            }
        }
        deaths
    }

    /// Every `step`th instant.
    pub(crate) fn instants(&self, step: usize) -> Vec<Death> {
        (1..self.polls).step_by(step).map(Death::Poll).collect()
    }

    /// `count` pairs of deaths of any kind, the same for the same seed.
    pub(crate) fn pairs(&self, seed: u64, count: usize) -> Vec<[Death; 2]> {
        let mut random = Random(seed);
        let kinds = [self.records(), self.calls(), self.instants(1)];
        let mut any = || {
            let kind = &kinds[random.below(kinds.len())];
            kind[random.below(kind.len())]
        };
        (0..count).map(|_| [any(), any()]).collect()
    }
}

/// Lets the job die in each of these ways and be taken up again, and judges every ending. Panics with all that is wrong.
#[track_caller]
pub(crate) fn survive<D: AsRef<[Death]>>(
    setup: fn() -> Setup,
    course: &Course,
    deaths: impl IntoIterator<Item = D>,
    judge: Judge,
) -> Vec<Ending> {
    let mut endings = Vec::new();
    let mut faults = String::new();
    let mut count = 0;
    for deaths in deaths {
        let deaths = deaths.as_ref();
        let judged = case(lives(setup, deaths)).and_then(|ending| {
            judge(&course.ending, &ending)?;
            Ok(ending)
        });
        match judged {
            Ok(ending) => endings.push(ending),
            Err(fault) => {
                count += 1;
                if count <= 12 {
                    writeln!(faults, "\n--- {deaths:?}:\n{fault}").unwrap();
                }
            }
        }
    }
    assert!(count == 0, "{count} faults, the first ones:{faults}");
    endings
}

/// One process for each death, and a last one that lives.
async fn lives(setup: fn() -> Setup, deaths: &[Death]) -> Result<Ending, String> {
    let bench = Bench::new(setup());
    for death in deaths {
        let process = bench.start().await;
        if let Some(result) = dies(&bench, &process, *death).await {
            let (verdict, removed) = result?;
            return if removed {
                bench.ending(&process, verdict).await
            } else {
                Err("not all could be removed".to_owned())
            };
        }
        drop(process);
        bench.engine.clear_faults();
    }
    let process = bench.start().await;
    bench.finish(process).await
}

/// Lets a process live until it dies; its end if it comes there before.
async fn dies(
    bench: &Bench,
    process: &Process,
    death: Death,
) -> Option<Result<(gantry_executor::Verdict, bool), String>> {
    let mut polls = u64::MAX;
    let before = match death {
        Death::Call { verb, .. } => bench.engine.calls_of(verb).len(),
        Death::Record(_) | Death::Poll(_) => 0,
    };
    match death {
        Death::Record(crash) => process.job.journal.crash(crash),
        Death::Poll(count) => polls = count,
        Death::Call { verb, nth, effect } => {
            let fault = if effect {
                Fault::EffectThenHang
            } else {
                Fault::Hang
            };
            bench.engine.fault(verb, nth, fault);
        }
    }
    let mortal = Mortal {
        inner: Box::pin(process.live()),
        polls,
    };
    // What hangs is dead once it has come to where it hangs; but for a record that was never written, this shows.
    let arrived = async {
        match death {
            Death::Record(Crash::After(n)) => {
                let due = process.records_before + n;
                while_journal(bench, || bench.records().0 <= due).await;
            }
            Death::Record(Crash::Within(_)) => while_journal(bench, || !bench.records().1).await,
            Death::Call { verb, nth, .. } => {
                let due = before + nth as usize;
                while bench.engine.calls_of(verb).len() < due {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Death::Record(Crash::Before(_)) | Death::Poll(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = tokio::time::timeout(PATIENCE, mortal) => match result {
            Ok(Some(result)) => Some(result.map_err(|error| format!("cannot go on: {error}"))),
            Ok(None) | Err(_) => None,
        },
        () = arrived => None,
    }
}

/// Waits as long as the journal says so; it is read whenever it has grown.
async fn while_journal(bench: &Bench, holds: impl Fn() -> bool) {
    while holds() {
        let len = bench.journal_len();
        while bench.journal_len() == len {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The same end and the same log, and every user script ran as often as without deaths.
pub(crate) fn the_same(undisturbed: &Ending, ending: &Ending) -> Result<(), String> {
    if ending.verdict.cause != undisturbed.verdict.cause {
        return Err(format!(
            "ended with {:?} instead of {:?}; log:\n{}",
            ending.verdict.cause,
            undisturbed.verdict.cause,
            ending.text()
        ));
    }
    let ran = |ending: &Ending| -> Vec<_> {
        let ran = ending.ran.iter();
        ran.map(|ran| (ran.stage.clone(), ran.attempt, ran.status))
            .collect()
    };
    if ran(ending) != ran(undisturbed) {
        return Err(format!(
            "ran {:?} instead of {:?}; log:\n{}",
            ran(ending),
            ran(undisturbed),
            ending.text()
        ));
    }
    the_same_log(undisturbed, ending)
}

/// The log is byte for byte the same.
pub(crate) fn the_same_log(undisturbed: &Ending, ending: &Ending) -> Result<(), String> {
    if ending.log == undisturbed.log {
        return Ok(());
    }
    let (want, got) = (undisturbed.lines(), ending.lines());
    let mut same = 0;
    while same < want.len() && want.get(same) == got.get(same) {
        same += 1;
    }
    let shown = |lines: &[String]| {
        let shown = lines.iter().skip(same.saturating_sub(1)).take(4);
        shown
            .map(|line| format!("    {line:?}\n"))
            .collect::<String>()
    };
    Err(format!(
        "the log differs from line {} on; wanted:\n{}  got:\n{}",
        same + 1,
        shown(&want),
        shown(&got)
    ))
}

/// A future that is dropped in effect after so many polls.
struct Mortal<F> {
    inner: Pin<Box<F>>,
    polls: u64,
}

impl<F: Future> Future for Mortal<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.inner.as_mut().poll(cx).map(Some)
    }
}

struct Counted<'a, F> {
    inner: Pin<Box<F>>,
    polls: &'a mut u64,
}

impl<F: Future> Future for Counted<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        *self.polls += 1;
        self.inner.as_mut().poll(cx)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
