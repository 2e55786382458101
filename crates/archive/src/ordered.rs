//! Work done by several threads, its results taken in order.

use std::{
    collections::BTreeMap,
    iter,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

struct State<T, R> {
    tasks: T,
    /// Number of the next task.
    next: u64,
    /// Number of the next result.
    wanted: u64,
    results: BTreeMap<u64, R>,
    exhausted: bool,
    /// No more tasks are begun.
    stopped: bool,
    /// A worker panicked.
    broken: bool,
}

struct Shared<T, R> {
    state: Mutex<State<T, R>>,
    changed: Condvar,
}

impl<T, R> Shared<T, R> {
    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T, R>>) -> MutexGuard<'a, State<T, R>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the others if a worker panics, or if nobody takes results any more.
struct Guard<'a, T, R> {
    shared: &'a Shared<T, R>,
    consumer: bool,
}

impl<T, R> Drop for Guard<'_, T, R> {
    fn drop(&mut self) {
        if self.consumer || thread::panicking() {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.broken |= !self.consumer;
            drop(state);
            self.shared.changed.notify_all();
        }
    }
}

/// A worker panicked: results are missing.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Runs `work` for each task on `threads` threads. `consume` gets the results in the order of the tasks; at most `window` tasks are
/// begun and not yet taken. Each worker has a state of its own.
pub(crate) fn ordered<Task, Res: Send, W, Out>(
    threads: usize,
    window: u64,
    tasks: impl Iterator<Item = Task> + Send,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Task) -> Res + Sync,
    consume: impl FnOnce(&mut dyn Iterator<Item = Result<Res, Panicked>>) -> Out,
) -> Out {
    let shared = Shared {
        state: Mutex::new(State {
            tasks,
            next: 0,
            wanted: 0,
            results: BTreeMap::new(),
            exhausted: false,
            stopped: false,
            broken: false,
        }),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let _guard = Guard {
                    shared: &shared,
                    consumer: false,
                };
                let mut own = worker();
                while let Some((number, task)) = take(&shared, window) {
                    let result = work(&mut own, task);
                    shared.lock().results.insert(number, result);
                    shared.changed.notify_all();
                }
            });
        }
        let _guard = Guard {
            shared: &shared,
            consumer: true,
        };
        let mut over = false;
        let mut results = iter::from_fn(|| {
            if over {
                return None;
            }
            let mut state = shared.lock();
            loop {
                let wanted = state.wanted;
                if let Some(result) = state.results.remove(&wanted) {
                    state.wanted += 1;
                    drop(state);
                    shared.changed.notify_all();
                    return Some(Ok(result));
                }
                if state.broken {
                    over = true;
                    return Some(Err(Panicked));
                }
                if state.exhausted && wanted == state.next {
                    return None;
                }
                state = shared.wait(state);
            }
        });
        consume(&mut results)
    })
}

fn take<Task, R>(
    shared: &Shared<impl Iterator<Item = Task>, R>,
    window: u64,
) -> Option<(u64, Task)> {
    let mut state = shared.lock();
    loop {
        if state.stopped || state.exhausted {
            return None;
        }
        if state.next < state.wanted + window {
            let Some(task) = state.tasks.next() else {
                state.exhausted = true;
                drop(state);
                shared.changed.notify_all();
                return None;
            };
            let number = state.next;
            state.next += 1;
            return Some((number, task));
        }
        state = shared.wait(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_tasks_however_long_each_takes() {
        let sum = |n: u64| (0..(n * 7919) % 50_000).fold(n, u64::wrapping_add);
        let got: Vec<u64> = ordered(
            4,
            8,
            0..1000_u64,
            || (),
            |(), n| (n, sum(n)),
            |results| results.map(|result| result.unwrap().0).collect(),
        );
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_consumer_that_leaves_early_stops_the_work() {
        let first = ordered(
            2,
            4,
            0_u64..,
            || (),
            |(), n| n,
            |results| results.next().unwrap().unwrap(),
        );
        assert_eq!(first, 0);
    }

    #[test]
    fn a_worker_s_panic_reaches_the_consumer() {
        let caught = std::panic::catch_unwind(|| {
            ordered(
                2,
                4,
                0..10,
                || (),
                |(), n| assert!(n != 3, "on purpose"),
                |results| results.filter(Result::is_err).count() > 0,
            )
        });
        // The scope passes the panic on; what counts is that nobody waits for ever.
        assert!(caught.is_err() || caught.is_ok_and(|seen| seen));
    }
}
