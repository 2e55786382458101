use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use gantry_container::{
    ContainerSpec, ContainerState, EngineFacts, ImageInfo, NetworkSpec, VolumeSpec,
};
use gantry_engine::{
    Archive, Attached, ContainerSummary, Engine, EngineError, EngineEvent, ExecStream, ListFilter,
    LogStream, NetworkState, PullProgress, RegistryAuth, SharedEngine, TerminalCommand,
    VolumeState, WaitHandle, fake::FakeEngine,
};

/// A scripted engine some of whose streams and answers come late or not at all.
#[derive(Clone)]
pub(crate) struct Bent {
    pub(crate) engine: FakeEngine,
    /// Answers of `wait` come so much later.
    pub(crate) wait_later: Duration,
    /// The `wait` breaks after this time.
    pub(crate) wait_breaks: Option<Duration>,
    /// What an attach brings stops after so many bytes, without an end.
    pub(crate) attach_stalls: Option<usize>,
    /// No event ever comes.
    pub(crate) no_events: bool,
    /// With each network another one of its name comes to be, as if a runner that died had asked for it a moment ago.
    pub(crate) networks_twice: bool,
}

impl Bent {
    pub(crate) fn new(engine: &FakeEngine) -> Self {
        Self {
            engine: engine.clone(),
            wait_later: Duration::ZERO,
            wait_breaks: None,
            attach_stalls: None,
            no_events: false,
            networks_twice: false,
        }
    }

    pub(crate) fn shared(&self) -> SharedEngine {
        Arc::new(self.clone())
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>;

#[async_trait]
impl Engine for Bent {
    fn host(&self) -> &str {
        self.engine.host()
    }

    async fn container_attach(&self, id: &str) -> Result<Attached, EngineError> {
        let mut attached = self.engine.container_attach(id).await?;
        if let Some(bytes) = self.attach_stalls {
            let state = (attached.output, bytes);
            attached.output = Box::pin(stream::unfold(state, |(mut output, left)| async move {
                if left == 0 {
                    std::future::pending::<()>().await;
                }
                let mut item = output.next().await?;
                let mut left = left;
                if let Ok(chunk) = &mut item {
                    chunk.bytes.truncate(left);
                    left -= chunk.bytes.len();
                }
                Some((item, (output, left)))
            }));
        }
        Ok(attached)
    }

    async fn container_wait(&self, id: &str) -> Result<WaitHandle, EngineError> {
        let wait = self.engine.container_wait(id).await?;
        let later = self.wait_later;
        let broken = EngineError::Unreachable {
            what: "wait for a container".to_owned(),
            host: self.host().to_owned(),
            message: "connection reset".to_owned(),
        };
        let breaks = self.wait_breaks.unwrap_or(Duration::MAX);
        Ok(Box::pin(async move {
            let answer = async {
                let result = wait.await;
                tokio::time::sleep(later).await;
                result
            };
            let answer = tokio::time::timeout(breaks, answer).await;
            answer.unwrap_or(Err(broken))
        }))
    }

    async fn events(&self, filter: &ListFilter) -> Result<Events, EngineError> {
        if self.no_events {
            return Ok(Box::pin(stream::pending()));
        }
        self.engine.events(filter).await
    }

    // === As it is ===

    async fn ping(&self) -> Result<(), EngineError> {
        self.engine.ping().await
    }

    async fn time(&self) -> Result<i64, EngineError> {
        self.engine.time().await
    }

    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        self.engine.facts().await
    }

    async fn image_inspect(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.engine.image_inspect(reference).await
    }

    async fn image_pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&RegistryAuth>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        self.engine
            .image_pull(reference, platform, auth, progress)
            .await
    }

    async fn image_load(&self, archive: Archive) -> Result<Vec<String>, EngineError> {
        self.engine.image_load(archive).await
    }

    async fn image_tag(&self, image: &str, repo: &str, tag: &str) -> Result<(), EngineError> {
        self.engine.image_tag(image, repo, tag).await
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<VolumeState, EngineError> {
        self.engine.volume_create(spec).await
    }

    async fn volume_inspect(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        self.engine.volume_inspect(name).await
    }

    async fn volume_list(&self, filter: &ListFilter) -> Result<Vec<VolumeState>, EngineError> {
        self.engine.volume_list(filter).await
    }

    async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        self.engine.volume_remove(name, force).await
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        if self.networks_twice {
            self.engine.network_create(spec).await?;
        }
        self.engine.network_create(spec).await
    }

    async fn network_inspect(&self, id: &str) -> Result<Option<NetworkState>, EngineError> {
        self.engine.network_inspect(id).await
    }

    async fn network_list(&self, filter: &ListFilter) -> Result<Vec<NetworkState>, EngineError> {
        self.engine.network_list(filter).await
    }

    async fn network_remove(&self, id: &str) -> Result<(), EngineError> {
        self.engine.network_remove(id).await
    }

    async fn container_create(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        self.engine.container_create(name, spec).await
    }

    async fn container_inspect(&self, id: &str) -> Result<Option<ContainerState>, EngineError> {
        self.engine.container_inspect(id).await
    }

    async fn container_start(&self, id: &str) -> Result<(), EngineError> {
        self.engine.container_start(id).await
    }

    async fn container_logs(&self, id: &str, follow: bool) -> Result<LogStream, EngineError> {
        self.engine.container_logs(id, follow).await
    }

    async fn container_log_entries(
        &self,
        id: &str,
        follow: bool,
    ) -> Result<LogStream, EngineError> {
        self.engine.container_log_entries(id, follow).await
    }

    async fn container_stop(&self, id: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        self.engine.container_stop(id, grace).await
    }

    async fn container_kill(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        self.engine.container_kill(id, signal).await
    }

    async fn container_remove(&self, id: &str) -> Result<(), EngineError> {
        self.engine.container_remove(id).await
    }

    async fn container_list(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        self.engine.container_list(filter).await
    }

    async fn archive_put(&self, id: &str, path: &str, archive: Archive) -> Result<(), EngineError> {
        self.engine.archive_put(id, path, archive).await
    }

    async fn archive_get(&self, id: &str, path: &str) -> Result<Option<Archive>, EngineError> {
        self.engine.archive_get(id, path).await
    }

    async fn archive_mode(&self, id: &str, path: &str) -> Result<Option<u32>, EngineError> {
        self.engine.archive_mode(id, path).await
    }

    async fn exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError> {
        self.engine.exec(id, cmd, user).await
    }

    async fn exec_terminal(
        &self,
        id: &str,
        command: &TerminalCommand,
    ) -> Result<ExecStream, EngineError> {
        self.engine.exec_terminal(id, command).await
    }

    async fn exec_exit_code(&self, exec_id: &str) -> Result<Option<i64>, EngineError> {
        self.engine.exec_exit_code(exec_id).await
    }
}
