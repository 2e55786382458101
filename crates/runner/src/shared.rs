//! What all tasks of the service share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_config::{Config, RunnerConfig};
use gantry_executor::Environment;
use gantry_gitlab::{ClientError, Coordinator, Coordinators, Product, RunnerInfo, UploadBudget};
use gantry_journal::StateFolder;
use gantry_plan::HostFacts;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    Phase,
    caches::Caches,
    connection::{connection, runner_info},
    engines::Engines,
    observe::Observer,
    secret_clients::SecretClients,
    session::Sessions,
    slots::{NumberTable, Slots, TakenNumbers},
};

pub(crate) struct Shared {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) state: StateFolder,
    pub(crate) engines: Engines,
    pub(crate) caches: Caches,
    pub(crate) secret_clients: SecretClients,
    /// `None`: jobs have no terminal.
    pub(crate) sessions: Option<Arc<Sessions>>,
    pub(crate) environment: Environment,
    pub(crate) coordinators: Coordinators,
    pub(crate) product: Product,
    pub(crate) host: HostFacts,
    pub(crate) certs: Vec<std::path::PathBuf>,
    pub(crate) slots: Slots,
    pub(crate) numbers: NumberTable,
    pub(crate) counts: RunnerCounts,
    pub(crate) jobs: JobTable,
    pub(crate) left_behind: LeftBehind,
    pub(crate) tasks: TaskTracker,
    pub(crate) budget: UploadBudget,
    pub(crate) observer: Arc<Observer>,
}

impl Shared {
    /// The client of a runner entry: `held`, if that is still it.
    ///
    /// Who asks again and again holds it in between. It has the connections, and the server's word on its queue, without which no
    /// request is held.
    pub(crate) fn coordinator(
        &self,
        runner: &RunnerConfig,
        held: Option<&Coordinator>,
    ) -> Result<Coordinator, ClientError> {
        let max_age = self.config.borrow().connection_max_age;
        let connection = connection(runner, &self.certs, max_age);
        match held {
            Some(held) if held.is_for(&connection) => Ok(held.clone()),
            _ => self.coordinators.get(&connection),
        }
    }

    /// The `info` block of a runner entry.
    pub(crate) fn info(&self, runner: &RunnerConfig) -> Arc<RunnerInfo> {
        Arc::new(runner_info(&self.product, runner))
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Resolves when the phase fits.
    pub(crate) async fn phase_is(&self, fits: impl Fn(Phase) -> bool) -> Phase {
        let mut phase = self.phase.clone();
        match phase
            .wait_for(|phase| fits(*phase))
            .await
            .map(|phase| *phase)
        {
            Ok(phase) => phase,
            Err(_) => std::future::pending().await,
        }
    }
}

pub(crate) fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    if let Some(end) = host.strip_prefix('[').and_then(|host| host.find(']')) {
        return host.get(1..=end);
    }
    host.split(':').next()
}

/// Jobs and requests in flight per runner, for `limit`.
#[derive(Default, Clone)]
pub(crate) struct RunnerCounts {
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    changed: Arc<tokio::sync::Notify>,
}

/// One job or request of a runner; counts until dropped.
pub(crate) struct Counted {
    of: RunnerCounts,
    runner: String,
}

impl RunnerCounts {
    /// Counts one more if the limit allows.
    pub(crate) fn try_add(&self, runner: &str, limit: Option<usize>) -> Option<Counted> {
        let mut counts = self.lock();
        let count = counts.entry(runner.to_owned()).or_default();
        if limit.is_some_and(|limit| *count >= limit) {
            return None;
        }
        *count += 1;
        Some(Counted {
            of: self.clone(),
            runner: runner.to_owned(),
        })
    }

    /// Resolves after some count went down since this call.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let changed = Arc::clone(&self.changed).notified_owned();
        let mut changed = Box::pin(changed);
        changed.as_mut().enable();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.of.lock().get_mut(&self.runner) {
            *count = count.saturating_sub(1);
        }
        self.of.changed.notify_waiters();
    }
}

/// Names a job's folder; unique among the jobs of one process.
pub(crate) fn key(short_token: &str, job_id: impl Display) -> String {
    format!("{short_token}-{job_id}")
}

/// Jobs whose folder exists: their objects are not leftovers.
#[derive(Default, Clone)]
pub(crate) struct JobTable {
    keys: Arc<Mutex<BTreeSet<String>>>,
}

/// A job in the table; leaves it when dropped.
pub(crate) struct Listed {
    table: JobTable,
    key: String,
}

impl JobTable {
    pub(crate) fn add(&self, key: &str) -> Listed {
        self.lock().insert(key.to_owned());
        Listed {
            table: self.clone(),
            key: key.to_owned(),
        }
    }

    /// As [`add`](Self::add), if there is none of this key yet.
    pub(crate) fn add_new(&self, key: &str) -> Option<Listed> {
        let new = self.lock().insert(key.to_owned());
        new.then(|| Listed {
            table: self.clone(),
            key: key.to_owned(),
        })
    }

    /// Whether this runner's job of this id has a folder, both as labels have them.
    pub(crate) fn has(&self, short_token: &str, job_id: &str) -> bool {
        self.lock().contains(&key(short_token, job_id))
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// The job's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.table.lock().remove(&self.key);
    }
}

/// Jobs that this process cannot bring to their end: what they have on the engine is no leftover, and their numbers are not free.
#[derive(Default)]
pub(crate) struct LeftBehind {
    jobs: Mutex<Vec<(Listed, Option<TakenNumbers>)>>,
}

impl LeftBehind {
    pub(crate) fn keep(&self, listed: Listed, numbers: Option<TakenNumbers>) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push((listed, numbers));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://gitlab.example.com/x", Some("gitlab.example.com"))]
    #[case("http://user@host:8080", Some("host"))]
    #[case("http://[::1]:8080/", Some("::1"))]
    #[case("nonsense", None)]
    fn the_host_of_a_url_has_no_port(#[case] url: &str, #[case] host: Option<&str>) {
        assert_eq!(host_of(url), host);
    }

    #[test]
    fn a_job_is_listed_once_and_again_when_it_is_gone() {
        let jobs = JobTable::default();
        let first = jobs.add_new(&key("runner", 1)).unwrap();
        assert!(jobs.add_new("runner-1").is_none());
        assert!(jobs.has("runner", "1"));
        assert!(!jobs.has("another", "1"), "job ids are a server's own");
        drop(first);
        assert!(jobs.add_new("runner-1").is_some());
    }

    #[test]
    fn a_limit_counts_jobs_and_requests() {
        let counts = RunnerCounts::default();
        let first = counts.try_add("r", Some(1)).unwrap();
        assert!(counts.try_add("r", Some(1)).is_none());
        assert!(counts.try_add("other", Some(1)).is_some());
        drop(first);
        assert!(counts.try_add("r", Some(1)).is_some());
    }
}
