use std::time::Duration;

use gantry_container::ContainerStatus;
use hyper::Method;

use super::{HttpEngine, models::Waited};
use crate::{EngineError, WaitHandle, WaitResult};

/// Podman: how often the state is asked while a container runs, only to be safe, and once its output has ended.
const SLOW: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(25);

impl HttpEngine {
    /// Docker confirms the registration by its headers, so a start after this cannot be missed. Podman sends headers only
    /// at the end: its request runs beside a look at the state, which also covers a container that ended before the request
    /// was in force (engine-mechanics §g).
    pub(super) async fn wait(&self, id: &str) -> Result<WaitHandle, EngineError> {
        let what = format!("wait for container {id}");
        if self.podman().await? {
            return self.wait_podman(what, id).await;
        }
        let response = self
            .request_wait(&what, id, Some(self.client().timeouts.answer))
            .await?;
        let engine = self.clone();
        Ok(Box::pin(async move {
            let body = engine.note(engine.client().collect(&what, response.into_body()).await)?;
            engine.waited(&what, &body)
        }))
    }

    async fn request_wait(
        &self,
        what: &str,
        id: &str,
        limit: Option<Duration>,
    ) -> Result<hyper::Response<hyper::body::Incoming>, EngineError> {
        let call = self.call(what.to_owned(), Method::POST, |session| {
            session
                .path("/containers")
                .segment(id)
                .then("/wait")
                .query("condition", "next-exit")
        });
        self.note(self.client().stream(call.await?, limit).await)
    }

    fn waited(&self, what: &str, body: &[u8]) -> Result<WaitResult, EngineError> {
        // An engine that goes away ends the answer cleanly and empty (engine-mechanics §h).
        if body.trim_ascii().is_empty() {
            return Err(self.client().unreachable(what, &"the answer is empty"));
        }
        let waited: Waited =
            serde_json::from_slice(body).map_err(|error| EngineError::Garbled {
                what: what.to_owned(),
                message: error.to_string(),
            })?;
        let failed = |message| EngineError::Failed {
            what: what.to_owned(),
            status: 200,
            message,
        };
        if !waited.error.message.is_empty() {
            return Err(failed(waited.error.message));
        }
        match waited.status_code {
            Some(exit_code) => Ok(WaitResult { exit_code }),
            None => Err(failed("no exit code in the answer".to_owned())),
        }
    }

    async fn wait_podman(&self, what: String, id: &str) -> Result<WaitHandle, EngineError> {
        let absent = |what: &str| EngineError::NotFound {
            what: what.to_owned(),
            message: format!("no such container: {id}"),
        };
        let before = self
            .inspect_container(id)
            .await?
            .ok_or_else(|| absent(&what))?;
        let output_end = self.output_end(id);
        let (engine, id) = (self.clone(), id.to_owned());
        let task = tokio::spawn(async move {
            let asked = async {
                let response = engine.request_wait(&what, &id, None).await?;
                let body = engine.client().collect(&what, response.into_body()).await?;
                engine.waited(&what, &body)
            };
            let looked = async {
                let mut pause = SLOW;
                loop {
                    tokio::select! {
                        () = output_end.notified() => pause = FAST,
                        () = tokio::time::sleep(pause) => {}
                    }
                    let state = engine.inspect_container(&id).await?;
                    let Some(state) = state else {
                        return Err(EngineError::NotFound {
                            what: what.clone(),
                            message: format!("no such container: {id}"),
                        });
                    };
                    let new = state.started_at != before.started_at;
                    if new && state.status == ContainerStatus::Exited {
                        return Ok(WaitResult {
                            exit_code: state.exit_code,
                        });
                    }
                }
            };
            tokio::select! {
                result = asked => result,
                result = looked => result,
            }
        });
        let task = AbortOnDrop(task);
        let host = self.clone();
        let what = format!("wait for container {}", before.name);
        Ok(Box::pin(async move {
            let mut task = task;
            match (&mut task.0).await {
                Ok(result) => host.note(result),
                Err(error) => Err(host.client().unreachable(&what, &error)),
            }
        }))
    }
}

/// A task that ends with its handle.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
