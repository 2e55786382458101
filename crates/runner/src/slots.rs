//! Job slots of the process, and the numbers that tell running jobs apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_plan::Numbers;
use tokio::{sync::Semaphore, time::Instant};

use crate::neighbours::Neighbours;

/// `concurrent` slots; first come, first served. The number may change while jobs run: a smaller one takes effect as jobs end.
#[derive(Clone)]
pub(crate) struct Slots {
    inner: Arc<Inner>,
}

struct Inner {
    free: Semaphore,
    state: Mutex<State>,
}

struct State {
    limit: usize,
    used: usize,
    /// Slots that must vanish when they come back.
    debt: usize,
}

/// A slot in use; free again when dropped.
pub(crate) struct Slot {
    slots: Slots,
    waited: Duration,
}

impl Slots {
    /// No machine runs as many; what the config says beyond it is the same as this.
    const MOST: usize = 1 << 32;

    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Self::MOST);
        let state = Mutex::new(State {
            limit,
            used: 0,
            debt: 0,
        });
        Self {
            inner: Arc::new(Inner {
                free: Semaphore::new(limit),
                state,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot, in order of asking.
    pub(crate) async fn take(&self) -> Slot {
        let since = Instant::now();
        match self.inner.free.acquire().await {
            Ok(permit) => permit.forget(),
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
        self.state().used += 1;
        Slot {
            slots: self.clone(),
            waited: since.elapsed(),
        }
    }

    /// A slot for a job that runs already, whatever the limit.
    pub(crate) fn take_over(&self) -> Slot {
        let mut state = self.state();
        state.used += 1;
        match self.inner.free.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => state.debt += 1,
        }
        drop(state);
        Slot {
            slots: self.clone(),
            waited: Duration::ZERO,
        }
    }

    /// Changes the number of slots.
    pub(crate) fn resize(&self, limit: usize) {
        let limit = limit.min(Self::MOST);
        let mut state = self.state();
        let old = std::mem::replace(&mut state.limit, limit);
        if limit > old {
            let more = limit - old;
            let paid = more.min(state.debt);
            state.debt -= paid;
            self.inner.free.add_permits(more - paid);
        } else {
            let fewer = old - limit;
            state.debt += fewer - self.inner.free.forget_permits(fewer);
        }
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        self.state().used
    }

    /// The limit.
    pub(crate) fn limit(&self) -> usize {
        self.state().limit
    }
}

impl Slot {
    /// How long its taker waited for it.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.used -= 1;
        if state.debt > 0 {
            state.debt -= 1;
        } else {
            self.slots.inner.free.add_permits(1);
        }
    }
}

/// Numbers in use: lowest free per runner, and per runner and project (coordinator-api §5).
#[derive(Clone, Default)]
pub(crate) struct NumberTable {
    used: Arc<Mutex<Used>>,
}

#[derive(Default)]
struct Used {
    of_runner: BTreeMap<String, BTreeSet<u32>>,
    of_project: BTreeMap<(String, i64), BTreeSet<u32>>,
}

/// Numbers of one job; free again when dropped.
pub(crate) struct TakenNumbers {
    table: NumberTable,
    runner: String,
    project: i64,
    numbers: Numbers,
}

impl NumberTable {
    /// The lowest numbers that are free here and with the neighbours.
    pub(crate) fn take(&self, runner: &str, project: i64, neighbours: &Neighbours) -> TakenNumbers {
        let mut used = self.lock();
        let of_runner = used.of_runner.entry(runner.to_owned()).or_default();
        let concurrent = lowest_free(of_runner, &neighbours.of_runner);
        of_runner.insert(concurrent);
        let of_project = used
            .of_project
            .entry((runner.to_owned(), project))
            .or_default();
        let concurrent_project = lowest_free(of_project, &neighbours.of_project);
        of_project.insert(concurrent_project);
        drop(used);
        self.taken(
            runner,
            project,
            Numbers {
                concurrent,
                concurrent_project,
            },
        )
    }

    /// The numbers of a job that runs already.
    pub(crate) fn take_back(&self, runner: &str, project: i64, numbers: Numbers) -> TakenNumbers {
        let mut used = self.lock();
        used.of_runner
            .entry(runner.to_owned())
            .or_default()
            .insert(numbers.concurrent);
        used.of_project
            .entry((runner.to_owned(), project))
            .or_default()
            .insert(numbers.concurrent_project);
        drop(used);
        self.taken(runner, project, numbers)
    }

    fn taken(&self, runner: &str, project: i64, numbers: Numbers) -> TakenNumbers {
        TakenNumbers {
            table: self.clone(),
            runner: runner.to_owned(),
            project,
            numbers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenNumbers {
    pub(crate) fn get(&self) -> Numbers {
        self.numbers
    }
}

impl Drop for TakenNumbers {
    fn drop(&mut self) {
        let mut used = self.table.lock();
        if let Some(numbers) = used.of_runner.get_mut(&self.runner) {
            numbers.remove(&self.numbers.concurrent);
        }
        let key = (self.runner.clone(), self.project);
        if let Some(numbers) = used.of_project.get_mut(&key) {
            numbers.remove(&self.numbers.concurrent_project);
            if numbers.is_empty() {
                used.of_project.remove(&key);
            }
        }
    }
}

fn lowest_free(used: &BTreeSet<u32>, elsewhere: &BTreeSet<u32>) -> u32 {
    (0..)
        .find(|number| !used.contains(number) && !elsewhere.contains(number))
        .unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(table: &NumberTable, runner: &str, project: i64) -> TakenNumbers {
        table.take(runner, project, &Neighbours::default())
    }

    #[tokio::test]
    async fn a_smaller_number_of_slots_takes_effect_as_jobs_end() {
        let slots = Slots::new(3);
        let (a, b, c) = (slots.take().await, slots.take().await, slots.take().await);
        slots.resize(1);
        drop((a, b));
        assert_eq!(slots.used(), 1);
        let next = slots.take();
        tokio::pin!(next);
        assert!(
            futures_util::poll!(&mut next).is_pending(),
            "the one slot is in use"
        );
        drop(c);
        assert!(futures_util::poll!(&mut next).is_ready());
    }

    #[tokio::test]
    async fn any_number_that_fits_the_config_is_a_number_of_slots() {
        let slots = Slots::new(usize::MAX);
        let first = slots.take().await;
        slots.resize(1);
        slots.resize(usize::MAX);
        drop(first);
        let _next = slots.take().await;
        assert_eq!(slots.used(), 1);
    }

    #[tokio::test]
    async fn a_larger_number_is_there_at_once() {
        let slots = Slots::new(1);
        let _first = slots.take().await;
        slots.resize(2);
        let _second = slots.take().await;
        assert_eq!(slots.used(), 2);
    }

    #[tokio::test]
    async fn a_job_taken_over_may_exceed_the_limit_and_is_paid_back() {
        let slots = Slots::new(1);
        let (a, b) = (slots.take_over(), slots.take_over());
        assert_eq!(slots.used(), 2);
        drop(a);
        let next = slots.take();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(b);
        assert!(futures_util::poll!(&mut next).is_ready());
    }

    #[test]
    fn numbers_are_the_lowest_free_ones_per_runner_and_per_project() {
        let table = NumberTable::default();
        let a = take(&table, "r", 7);
        let b = take(&table, "r", 7);
        let c = take(&table, "r", 8);
        assert_eq!(
            b.get(),
            Numbers {
                concurrent: 1,
                concurrent_project: 1
            }
        );
        assert_eq!(
            c.get(),
            Numbers {
                concurrent: 2,
                concurrent_project: 0
            }
        );
        drop(a);
        assert_eq!(
            take(&table, "r", 7).get(),
            Numbers {
                concurrent: 0,
                concurrent_project: 0
            }
        );
        assert_eq!(take(&table, "other", 7).get(), Numbers::default());
    }

    #[test]
    fn numbers_taken_back_are_not_given_again() {
        let table = NumberTable::default();
        let _back = table.take_back(
            "r",
            7,
            Numbers {
                concurrent: 0,
                concurrent_project: 0,
            },
        );
        assert_eq!(
            take(&table, "r", 7).get(),
            Numbers {
                concurrent: 1,
                concurrent_project: 1
            }
        );
    }

    #[test]
    fn numbers_that_neighbours_use_are_skipped() {
        let table = NumberTable::default();
        let neighbours = Neighbours {
            of_runner: [0, 2].into(),
            of_project: [1].into(),
        };
        let numbers = |taken: &TakenNumbers| {
            let Numbers {
                concurrent,
                concurrent_project,
            } = taken.get();
            (concurrent, concurrent_project)
        };
        let first = table.take("r", 7, &neighbours);
        assert_eq!(numbers(&first), (1, 0));
        let second = table.take("r", 7, &neighbours);
        assert_eq!(numbers(&second), (3, 2));
        let third = take(&table, "r", 7);
        assert_eq!(numbers(&third), (0, 1), "the neighbours are gone");
    }
}
