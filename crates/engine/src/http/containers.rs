use std::{sync::Arc, time::Duration};

use gantry_container::{ContainerSpec, ContainerState};
use hyper::Method;

use super::{
    HttpEngine,
    client::Hijacked,
    create::CreateContainer,
    filter_query, filters,
    frames::Demux,
    models::{Container, Created, Summary},
    output::{Codec, Output, Source},
    session::Session,
};
use crate::{Attached, ContainerSummary, EngineError, ListFilter};

/// Grace of a stop that names none. Podman would use 0 for containers made over this API, so there it is always sent.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Podman: how long to wait for the end of a run to be cleaned up, and how often to look.
const SETTLED_BY: Duration = Duration::from_secs(10);
const SETTLED_LOOK: Duration = Duration::from_millis(20);

impl HttpEngine {
    pub(super) async fn create_container(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        let what = format!("create container {name}");
        let call = self.call(what.clone(), Method::POST, |session| {
            let path = session.path("/containers/create").query("name", name);
            match &spec.platform {
                Some(platform) => path.query("platform", platform),
                None => path,
            }
        });
        let call = call.await?;
        let flavor = self.session().await?.flavor;
        let answer = self
            .ask_in_turn(call.json(&CreateContainer::new(spec, flavor))?)
            .await?;
        match answer.model::<Created>(&what) {
            // Podman's word for a bad specification.
            Err(EngineError::Failed { what, message, .. })
                if message.starts_with("fill out specgen") =>
            {
                Err(EngineError::BadRequest { what, message })
            }
            created => Ok(created?.id),
        }
    }

    pub(super) async fn inspect_container(
        &self,
        id: &str,
    ) -> Result<Option<ContainerState>, EngineError> {
        let what = format!("inspect container {id}");
        let container = self.inspect_raw(&what, id).await?;
        let state = container.map(Container::into_state).transpose();
        state.map_err(|message| EngineError::Garbled { what, message })
    }

    pub(super) async fn inspect_raw(
        &self,
        what: &str,
        id: &str,
    ) -> Result<Option<Container>, EngineError> {
        let call = self.call(what.to_owned(), Method::GET, |session| {
            session.path("/containers").segment(id).then("/json")
        });
        self.ask(call.await?).await?.found(what)
    }

    pub(super) async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        let what = format!("start container {id}");
        self.settle(&what, id).await?;
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/containers").segment(id).then("/start")
        });
        self.ask_in_turn(call.await?).await?.good_or(&[304], &what)
    }

    pub(super) async fn attach(&self, id: &str) -> Result<Attached, EngineError> {
        let what = format!("attach to container {id}");
        self.settle(&what, id).await?;
        let call = self.call(what.clone(), Method::POST, |session| {
            let path = session
                .path("/containers")
                .segment(id)
                .then("/attach")
                .query("stream", "1");
            path.query("stdin", "1")
                .query("stdout", "1")
                .query("stderr", "1")
        });
        let call = call.await?;
        let session = self.session().await?;
        let limit = self.header_limit(&session);
        let hijacked = self.note(self.client().hijack(call, limit).await)?;
        let (stdin, mut output) = self.streams(&session, what, hijacked);
        if self.podman().await? {
            output.ended = Some(self.output_end(id));
        }
        Ok(Attached {
            stdin,
            output: Box::pin(output),
        })
    }

    /// Podman: between the end of a run (`stopped`) and its cleanup (`exited`) an attach or start spoils the next run: its
    /// stdin is closed and the container waits for ever (measured on 4.3.1). So the cleanup is awaited here.
    async fn settle(&self, what: &str, id: &str) -> Result<(), EngineError> {
        if !self
            .podman()
            .await
            .map_err(|error| super::renamed(error, what))?
        {
            return Ok(());
        }
        let settled = async {
            while let Some(container) = self.inspect_raw(what, id).await? {
                if !matches!(container.status(), "stopped" | "stopping") {
                    break;
                }
                tokio::time::sleep(SETTLED_LOOK).await;
            }
            Ok(())
        };
        // Who is not done by then (a cleanup that died) gets the engine's own answer.
        tokio::time::timeout(SETTLED_BY, settled)
            .await
            .unwrap_or(Ok(()))
    }

    /// The two directions of a hijacked connection as streams.
    pub(super) fn streams(
        &self,
        session: &Session,
        what: String,
        hijacked: Hijacked,
    ) -> (crate::AttachStdin, Output) {
        // Only since 1.42 the type tells; before it says raw for frames too. Our containers and execs have no terminal.
        let raw = session.types_streams()
            && hijacked
                .content_type
                .starts_with("application/vnd.docker.raw-stream");
        let codec = if raw {
            Codec::Raw
        } else {
            Codec::Framed(Demux::new())
        };
        let source = Source::Connection(hijacked.read);
        let host = Arc::clone(&self.client().host);
        let output = Output::new(source, codec, hijacked.early, what, host);
        (Box::pin(hijacked.write), output)
    }

    pub(super) async fn stop_container(
        &self,
        id: &str,
        grace: Option<Duration>,
    ) -> Result<(), EngineError> {
        let what = format!("stop container {id}");
        let podman = self
            .podman()
            .await
            .map_err(|error| super::renamed(error, &what))?;
        let grace = grace.or(podman.then_some(DEFAULT_GRACE));
        let call = self.call(what.clone(), Method::POST, |session| {
            let path = session.path("/containers").segment(id).then("/stop");
            match grace {
                // Whole seconds; rounded up, so that a short grace does not become none.
                Some(grace) => {
                    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
                    path.query("t", &seconds.to_string())
                }
                None => path,
            }
        });
        // The engine answers when the container has ended.
        let limit = self.client().timeouts.answer + grace.unwrap_or(DEFAULT_GRACE);
        let answer = self.note(self.client().ask_within(call.await?, limit).await)?;
        answer.good_or(&[304, 404], &what)
    }

    pub(super) async fn kill_container(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let what = format!("kill container {id}");
        let call = self.call(what.clone(), Method::POST, |session| {
            session
                .path("/containers")
                .segment(id)
                .then("/kill")
                .query("signal", signal)
        });
        self.ask(call.await?).await?.good_or(&[404], &what)
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let what = format!("remove container {id}");
        let call = self.call(what.clone(), Method::DELETE, |session| {
            session
                .path("/containers")
                .segment(id)
                .query("force", "1")
                .query("v", "1")
        });
        match self.ask(call.await?).await?.good_or(&[404], &what) {
            Err(EngineError::Conflict { message, .. })
                if message.contains("already in progress") =>
            {
                Ok(())
            }
            result => result,
        }
    }

    pub(super) async fn list_containers(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let what = "list containers".to_owned();
        let call = self.call(what.clone(), Method::GET, |session| {
            let path = session.path("/containers/json").query("all", "1");
            filter_query(path, &filters(filter))
        });
        let list: Vec<Summary> = self.ask(call.await?).await?.model(&what)?;
        Ok(list.into_iter().map(Into::into).collect())
    }
}
