//! A GitLab server as a runner sees it.
//!
//! One [`FakeGitLab`] is one server on its own port. It hands out the jobs that a test enqueues, keeps their logs and states
//! as a real server does, records all requests, and runs until its last handle is dropped. `GET` its state at any moment with
//! [`FakeGitLab::job`], or wait for a fact with [`FakeGitLab::wait_for`].

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::http::{Server, server_tls};
use crate::{Identity, JobBuilder, TestCa};

mod artifacts;
mod book;
mod check;
mod endpoint;
mod fault;
mod job;
mod registration;
mod request;
#[cfg(test)]
mod tests;

pub use artifacts::StoredArtifact;
use book::Book;
pub use fault::{Answer, Fault};
pub use job::{JobRecord, RecordedUpdate, ServerJobState};
pub use request::{Endpoint, RecordedRequest};

/// Longest wait for a fact; only a broken test ever waits so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running stand-in. Clones are the same server.
#[derive(Clone)]
pub struct FakeGitLab {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    state: Arc<State>,
    url: String,
    runner_token: String,
}

pub(crate) struct State {
    book: Mutex<Book>,
    /// Counts changes of the book.
    changed: watch::Sender<u64>,
    long_poll: Option<Duration>,
}

impl State {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the book and wakes those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let result = change(&mut self.book());
        self.changed.send_modify(|version| *version += 1);
        result
    }
}

/// Settings of a stand-in before it starts.
pub struct FakeGitLabBuilder {
    addr: SocketAddr,
    host: Option<String>,
    tls: Option<(Identity, Option<TestCa>)>,
    long_poll: Option<Duration>,
    runner_token: String,
}

impl FakeGitLabBuilder {
    /// Address to listen on; default 127.0.0.1 with any free port.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// Host name in the server's URL; default: the address.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Speak TLS with this certificate.
    #[must_use]
    pub fn tls(mut self, identity: Identity) -> Self {
        self.tls = Some((identity, None));
        self
    }

    /// Speak TLS and demand a client certificate of this authority.
    #[must_use]
    pub fn mutual_tls(mut self, identity: Identity, clients: TestCa) -> Self {
        self.tls = Some((identity, Some(clients)));
        self
    }

    /// Hold job requests that echo the current `last_update` for so long, or until a job is there.
    #[must_use]
    pub fn long_poll(mut self, longest: Duration) -> Self {
        self.long_poll = Some(longest);
        self
    }

    /// The runner token to accept.
    #[must_use]
    pub fn runner_token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.runner_token);
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn start(self) -> FakeGitLab {
        let state = Arc::new(State {
            book: Mutex::new(Book::new(&self.runner_token)),
            changed: watch::Sender::new(0),
            long_poll: self.long_poll,
        });
        let tls = self
            .tls
            .as_ref()
            .map(|(identity, clients)| server_tls(identity, clients.as_ref()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Server::start(self.addr, tls, Arc::clone(&state))
            .await
            .expect("a free address");
        let addr = server.addr();
        let host = self.host.unwrap_or_else(|| match addr.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let url = format!("{scheme}://{host}:{}", addr.port());
        state.book().url.clone_from(&url);
        FakeGitLab {
            inner: Arc::new(Inner {
                server,
                state,
                url,
                runner_token: self.runner_token,
            }),
        }
    }
}

impl FakeGitLab {
    /// A plain HTTP server on a free port of 127.0.0.1 that never holds a request.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Settings first.
    #[must_use]
    pub fn builder() -> FakeGitLabBuilder {
        FakeGitLabBuilder {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            host: None,
            tls: None,
            long_poll: None,
            runner_token: "glrt-testkitRunnerToken".to_owned(),
        }
    }

    /// `url` for `config.toml`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.inner.server.addr()
    }

    /// `token` for `config.toml`.
    #[must_use]
    pub fn runner_token(&self) -> &str {
        &self.inner.runner_token
    }

    /// The registration token of legacy registrations.
    #[must_use]
    pub fn registration_token(&self) -> &'static str {
        registration::TOKEN
    }

    /// The access token of a user who may reset tokens of runners.
    #[must_use]
    pub fn access_token(&self) -> &'static str {
        registration::ACCESS_TOKEN
    }

    /// Whether this runner token is accepted.
    #[must_use]
    pub fn accepts(&self, token: &str) -> bool {
        self.inner.state.book().runner_tokens.contains(token)
    }

    /// How long tokens live that are given or verified from now on; `None`: for ever.
    pub fn set_token_lifetime(&self, lifetime: Option<Duration>) {
        self.change(|book| book.registrations.lifetime = lifetime);
    }

    /// Accepts one more runner token.
    pub fn add_runner_token(&self, token: &str) {
        self.change(|book| book.runner_tokens.insert(token.to_owned()));
    }

    /// Refuses this runner token from now on.
    pub fn revoke_runner_token(&self, token: &str) {
        self.change(|book| book.runner_tokens.remove(token));
    }

    /// Puts a job into the queue and returns its id.
    pub fn enqueue(&self, job: &JobBuilder) -> i64 {
        self.change(|book| book.enqueue(job))
    }

    /// Puts any bytes into the queue as a payload. `id` and `token` are what the server will know the job by.
    pub fn enqueue_raw(&self, id: i64, token: &str, payload: impl Into<Bytes>) -> i64 {
        let payload = payload.into();
        self.change(|book| book.enqueue_raw(id, token, payload))
    }

    /// A user cancels the job: `canceling` if a runner has it, else gone from the queue.
    pub fn cancel(&self, id: i64) {
        self.change(|book| {
            book.queue.retain(|queued| *queued != id);
            if let Some(job) = book.jobs.get_mut(&id) {
                match job.state {
                    ServerJobState::Pending => job.finish(ServerJobState::Canceled),
                    ServerJobState::HandedOut | ServerJobState::Running => {
                        job.state = ServerJobState::Canceling;
                    }
                    _ => {}
                }
            }
        });
    }

    /// The job is ended by force: `canceled`, and the job token no longer works.
    pub fn abort(&self, id: i64) {
        self.change(|book| {
            book.queue.retain(|queued| *queued != id);
            if let Some(job) = book.jobs.get_mut(&id) {
                job.finish(ServerJobState::Canceled);
            }
        });
    }

    /// The job is deleted: every call of it is answered with 404. Its record is kept for the test to read no longer.
    pub fn delete(&self, id: i64) {
        self.change(|book| {
            book.queue.retain(|queued| *queued != id);
            book.jobs.remove(&id);
        });
    }

    /// Takes a job back that no runner confirmed, as the server does after a while.
    pub fn reclaim(&self, id: i64) {
        self.change(|book| {
            if let Some(job) = book.jobs.get_mut(&id)
                && job.state == ServerJobState::HandedOut
            {
                job.state = ServerJobState::Pending;
                book.queue.push_back(id);
                book.queue_version += 1;
            }
        });
    }

    /// `X-GitLab-Trace-Update-Interval` of all answers to a job; any text.
    pub fn set_update_interval(&self, value: Option<&str>) {
        self.change(|book| book.update_interval = value.map(str::to_owned));
    }

    /// Answers the first `times` valid final updates of each job enqueued from now on with 202.
    pub fn accept_final_updates(&self, times: u32) {
        self.change(|book| book.accept_final = times);
    }

    /// Sends downloads of artifacts that ask for it to an object storage, which is this server without tokens.
    pub fn set_direct_download(&self, on: bool) {
        self.change(|book| book.direct_download = on);
    }

    /// The archive of a job, as if a runner had uploaded it.
    pub fn store_archive(&self, id: i64, file_name: &str, bytes: impl Into<Bytes>) {
        let artifact = StoredArtifact {
            file_name: file_name.to_owned(),
            artifact_type: "archive".to_owned(),
            format: "zip".to_owned(),
            expire_in: String::new(),
            bytes: bytes.into(),
        };
        self.change(|book| {
            if let Some(job) = book.jobs.get_mut(&id) {
                job.artifacts.push(artifact);
            }
        });
    }

    /// Whether bodies of requests are kept; off saves memory when much log goes through.
    pub fn keep_bodies(&self, keep: bool) {
        self.change(|book| book.keep_bodies = keep);
    }

    /// Sets a fault. Of several that hit a call the first set wins.
    pub fn fault(&self, fault: Fault) {
        self.change(|book| book.faults.push(fault));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.change(|book| book.faults.clear());
    }

    /// Shows another certificate to new connections.
    pub fn set_certificate(&self, identity: &Identity) {
        self.inner.server.set_tls(server_tls(identity, None));
    }

    /// Closes all connections and refuses new ones, as a server that is down.
    pub async fn go_down(&self) {
        self.inner.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn come_back(&self) {
        self.inner.server.up().await;
    }

    /// The job as it is now.
    ///
    /// # Panics
    /// If there is no such job.
    #[must_use]
    pub fn job(&self, id: i64) -> JobRecord {
        let book = self.inner.state.book();
        book.jobs.get(&id).expect("a job of this id").clone()
    }

    /// All jobs by id.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobRecord> {
        self.inner.state.book().jobs.values().cloned().collect()
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.inner.state.book().requests.clone()
    }

    /// Requests so far of one endpoint.
    #[must_use]
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let book = self.inner.state.book();
        let requests = book.requests.iter();
        requests
            .filter(|request| request.endpoint == endpoint)
            .cloned()
            .collect()
    }

    /// Waits until the job is as `reached` says, and returns it.
    ///
    /// # Panics
    /// After three minutes, with the state of the job.
    pub async fn wait_for(
        &self,
        id: i64,
        what: &str,
        mut reached: impl FnMut(&JobRecord) -> bool,
    ) -> JobRecord {
        let found = self
            .wait(|book| book.jobs.get(&id).filter(|job| reached(job)).cloned())
            .await;
        found.unwrap_or_else(|| {
            let job = self.inner.state.book().jobs.get(&id).map(summary);
            panic!("waited {PATIENCE:?} for job {id} to be {what}, but it is {job:#?}")
        })
    }

    /// Waits until the job has a final state.
    pub async fn wait_until_final(&self, id: i64) -> JobRecord {
        self.wait_for(id, "final", |job| job.state.is_final()).await
    }

    /// As [`wait_until_final`](Self::wait_until_final), for as long as it takes.
    pub async fn wait_until_final_unbounded(&self, id: i64) -> JobRecord {
        let look = |book: &Book| {
            let job = book.jobs.get(&id);
            job.filter(|job| job.state.is_final()).cloned()
        };
        match self.follow(look).await {
            Some(job) => job,
            // Unreachable: the sender lives as long as this handle.
            None => std::future::pending().await,
        }
    }

    /// Waits until `count` requests of the endpoint have been answered (or dropped), and returns them.
    ///
    /// # Panics
    /// After a minute.
    pub async fn wait_for_requests(
        &self,
        endpoint: Endpoint,
        count: usize,
    ) -> Vec<RecordedRequest> {
        let found = self
            .wait(|book| {
                let requests = book.requests.iter();
                let found: Vec<_> = requests.filter(|r| r.endpoint == endpoint).collect();
                (found.len() >= count).then(|| found.into_iter().cloned().collect())
            })
            .await;
        found.unwrap_or_else(|| {
            let seen = self.requests_to(endpoint).len();
            panic!("waited {PATIENCE:?} for {count} requests to {endpoint:?}, but saw {seen}")
        })
    }

    /// Waits until a request of the endpoint has come in, answered or not.
    ///
    /// # Panics
    /// After three minutes.
    pub async fn wait_for_recorded(&self, endpoint: Endpoint) {
        let found = self
            .wait(|book| {
                let mut requests = book.requests.iter();
                requests.find(|r| r.endpoint == endpoint).map(|_| ())
            })
            .await;
        assert!(found.is_some(), "no request to {endpoint:?}");
    }

    async fn wait<T>(&self, look: impl FnMut(&Book) -> Option<T>) -> Option<T> {
        timeout(PATIENCE, self.follow(look)).await.ok().flatten()
    }

    async fn follow<T>(&self, mut look: impl FnMut(&Book) -> Option<T>) -> Option<T> {
        let mut changed = self.inner.state.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(found) = look(&self.inner.state.book()) {
                return Some(found);
            }
            changed.changed().await.ok()?;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        self.inner.state.change(change)
    }
}

/// What to print of a job that is not as expected.
fn summary(job: &JobRecord) -> String {
    let mut text = format!(
        "{:?} after updates {:?}, {} bytes of log",
        job.state,
        job.states(),
        job.trace.len()
    );
    let log = job.log();
    let from = log.len().saturating_sub(2000);
    let tail = log.get(from..).unwrap_or(&log);
    let _ = write!(text, ", the end of it:\n{tail}");
    text
}
