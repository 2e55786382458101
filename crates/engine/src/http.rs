//! The engine behind its HTTP API: [`HttpEngine`].
//!
//! Our own client on hyper 1, not an engine library: the libraries at hand lose the API version on its way to the wire, guess
//! between raw and framed output, buffer whole frames, log request bodies (which hold job secrets) and keep no connections. What
//! is needed is small: some thirty requests, models of the fields that are read ([`models`]), a hijack and a demultiplexer.
//!
//! Rules that hold for every request:
//! * the API version is negotiated once (1.40 to 1.51, or pinned by `DOCKER_API_VERSION`) and really stands in the path;
//! * plain calls have a deadline, so that an engine that hangs gives [`EngineError::TimedOut`]; streams have none once they
//!   are open, and long waits (`wait`, `logs`, pulls) none at all;
//! * redirects are refused; bodies never reach a log, an error or a `Debug`;
//! * what Podman does otherwise is handled here, chosen by [`EngineFlavor`](gantry_container::EngineFlavor).

mod answer;
mod archive;
mod client;
mod containers;
mod create;
mod events;
mod exec;
mod frames;
mod images;
mod lines;
mod models;
mod networks;
mod output;
mod path;
mod pool;
mod repair;
mod replay;
mod session;
mod transport;
mod volumes;
mod wait;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::Stream;
use gantry_container::{
    ContainerSpec, ContainerState, EngineFacts, EngineFlavor, ImageInfo, NetworkSpec, VolumeSpec,
};
use hyper::Method;
use tokio::sync::Notify;
pub use transport::Timeouts;

use self::{
    answer::Answer,
    client::{Call, Client},
    session::{Session, Sessions},
};
use crate::{
    Archive, Attached, ContainerSummary, Endpoint, Engine, EngineError, EngineEvent, ExecStream,
    ListFilter, LogStream, NetworkState, PullProgress, RegistryAuth, TerminalCommand, VolumeState,
    WaitHandle,
};

/// A Docker or Podman engine over its socket. Clones share connections and facts.
#[derive(Clone)]
pub struct HttpEngine {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    sessions: Sessions,
    /// Podman: who is told when a container's output ends (engine-mechanics §g).
    output_ends: Mutex<BTreeMap<String, Weak<Notify>>>,
}

impl HttpEngine {
    /// Prepares an engine without talking to it: it need not be up. TLS files are read here.
    pub fn new(endpoint: Endpoint) -> Result<Self, EngineError> {
        Self::with_timeouts(endpoint, Timeouts::default())
    }

    /// As [`Self::new`] with other time limits.
    pub fn with_timeouts(endpoint: Endpoint, timeouts: Timeouts) -> Result<Self, EngineError> {
        let client = Client::new(&endpoint, timeouts)?;
        let sessions = Sessions::new(endpoint.pinned)?;
        let output_ends = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                sessions,
                output_ends,
            }),
        })
    }

    /// Prepares an engine and negotiates the API version with it.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        let engine = Self::new(endpoint)?;
        engine.session().await?;
        Ok(engine)
    }

    fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Whether the engine is Podman.
    async fn podman(&self) -> Result<bool, EngineError> {
        Ok(self.session().await?.flavor == EngineFlavor::Podman)
    }

    /// Starts a call: negotiates first if that was not done.
    async fn call(
        &self,
        what: String,
        method: Method,
        path: impl FnOnce(&Session) -> path::Path,
    ) -> Result<Call, EngineError> {
        let session = self
            .session()
            .await
            .map_err(|error| renamed(error, &what))?;
        Ok(Call::new(what, method, path(&session).build()))
    }

    /// Makes a plain call.
    async fn ask(&self, call: Call) -> Result<Answer, EngineError> {
        let answer = self.client().ask(call).await;
        self.note(answer)
    }

    /// As [`Self::ask`], for what makes or starts something.
    async fn ask_in_turn(&self, call: Call) -> Result<Answer, EngineError> {
        let answer = self.client().ask_in_turn(call).await;
        self.note(answer)
    }

    /// An engine that was away may come back as another: negotiate anew.
    fn note<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(EngineError::Unreachable { .. }) = &result {
            self.inner.sessions.forget();
        }
        result
    }

    /// How long to wait for the headers of a stream that Docker answers at once; Podman answers some only later.
    fn header_limit(&self, session: &Session) -> Option<Duration> {
        (session.flavor == EngineFlavor::Docker).then_some(self.client().timeouts.answer)
    }

    /// Podman: the notifier of the end of a container's output.
    fn output_end(&self, id: &str) -> Arc<Notify> {
        let mut ends = self
            .inner
            .output_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ends.retain(|_, notify| notify.strong_count() > 0);
        if let Some(notify) = ends.get(id).and_then(Weak::upgrade) {
            return notify;
        }
        let notify = Arc::new(Notify::new());
        ends.insert(id.to_owned(), Arc::downgrade(&notify));
        notify
    }
}

impl std::fmt::Debug for HttpEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpEngine")
            .field("host", &self.inner.client.host)
            .finish_non_exhaustive()
    }
}

/// The error of a failed negotiation, in the words of the call that needed it.
fn renamed(mut error: EngineError, name: &str) -> EngineError {
    if let EngineError::Unreachable { what, .. } | EngineError::TimedOut { what, .. } = &mut error {
        name.clone_into(what);
    }
    error
}

/// The `filters` query of a listing.
fn filters(filter: &ListFilter) -> BTreeMap<&'static str, Vec<String>> {
    let mut filters = BTreeMap::new();
    if !filter.labels.is_empty() {
        let labels = filter
            .labels
            .iter()
            .map(|(key, value)| match value.as_str() {
                "" => key.clone(),
                value => format!("{key}={value}"),
            });
        filters.insert("label", labels.collect());
    }
    if let Some(name) = &filter.name {
        filters.insert("name", vec![name.clone()]);
    }
    filters
}

fn filter_query(path: path::Path, filters: &BTreeMap<&'static str, Vec<String>>) -> path::Path {
    if filters.is_empty() {
        return path;
    }
    path.query(
        "filters",
        &serde_json::to_string(filters).unwrap_or_default(),
    )
}

#[async_trait]
impl Engine for HttpEngine {
    fn host(&self) -> &str {
        &self.inner.client.host
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.ping_engine().await
    }

    async fn time(&self) -> Result<i64, EngineError> {
        self.ask_time().await
    }

    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        self.ask_facts().await
    }

    async fn image_inspect(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.inspect_image(reference).await
    }

    async fn image_pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&RegistryAuth>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        self.pull_image(reference, platform, auth, progress).await
    }

    async fn image_load(&self, archive: Archive) -> Result<Vec<String>, EngineError> {
        self.load_image(archive).await
    }

    async fn image_tag(&self, image: &str, repo: &str, tag: &str) -> Result<(), EngineError> {
        self.tag_image(image, repo, tag).await
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<VolumeState, EngineError> {
        self.create_volume(spec).await
    }

    async fn volume_inspect(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        self.inspect_volume(name).await
    }

    async fn volume_list(&self, filter: &ListFilter) -> Result<Vec<VolumeState>, EngineError> {
        self.list_volumes(filter).await
    }

    async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        self.remove_volume(name, force).await
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        self.create_network(spec).await
    }

    async fn network_inspect(&self, id: &str) -> Result<Option<NetworkState>, EngineError> {
        self.inspect_network(id).await
    }

    async fn network_list(&self, filter: &ListFilter) -> Result<Vec<NetworkState>, EngineError> {
        self.list_networks(filter).await
    }

    async fn network_remove(&self, id: &str) -> Result<(), EngineError> {
        self.remove_network(id).await
    }

    async fn container_create(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        self.create_container(name, spec).await
    }

    async fn container_inspect(&self, id: &str) -> Result<Option<ContainerState>, EngineError> {
        self.inspect_container(id).await
    }

    async fn container_start(&self, id: &str) -> Result<(), EngineError> {
        self.start_container(id).await
    }

    async fn container_attach(&self, id: &str) -> Result<Attached, EngineError> {
        self.attach(id).await
    }

    async fn container_wait(&self, id: &str) -> Result<WaitHandle, EngineError> {
        self.wait(id).await
    }

    async fn container_logs(&self, id: &str, follow: bool) -> Result<LogStream, EngineError> {
        self.logs(id, follow).await
    }

    async fn container_log_entries(
        &self,
        id: &str,
        follow: bool,
    ) -> Result<LogStream, EngineError> {
        self.log_entries(id, follow).await
    }

    async fn container_stop(&self, id: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        self.stop_container(id, grace).await
    }

    async fn container_kill(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        self.kill_container(id, signal).await
    }

    async fn container_remove(&self, id: &str) -> Result<(), EngineError> {
        self.remove_container(id).await
    }

    async fn container_list(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        self.list_containers(filter).await
    }

    async fn archive_put(&self, id: &str, path: &str, archive: Archive) -> Result<(), EngineError> {
        self.put_archive(id, path, archive).await
    }

    async fn archive_get(&self, id: &str, path: &str) -> Result<Option<Archive>, EngineError> {
        self.get_archive(id, path).await
    }

    async fn archive_mode(&self, id: &str, path: &str) -> Result<Option<u32>, EngineError> {
        self.path_mode(id, path).await
    }

    async fn exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError> {
        self.start_exec(id, cmd, user).await
    }

    async fn exec_terminal(
        &self,
        id: &str,
        command: &TerminalCommand,
    ) -> Result<ExecStream, EngineError> {
        self.start_terminal(id, command).await
    }

    async fn exec_exit_code(&self, exec_id: &str) -> Result<Option<i64>, EngineError> {
        self.exec_state(exec_id).await
    }

    async fn events(
        &self,
        filter: &ListFilter,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>, EngineError>
    {
        self.event_stream(filter).await
    }
}
