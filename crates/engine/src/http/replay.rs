use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt};
use gantry_container::EngineFlavor;
use hyper::Method;

use super::{
    HttpEngine,
    frames::Demux,
    output::{Codec, Output, Source},
    repair::LineRepair,
};
use crate::{EngineError, LogStream};

/// An engine sends the headers of a log with its first entry, but errors at once. Who has said nothing after this time has no
/// error to tell.
const ERRORS_BY: Duration = Duration::from_millis(250);

impl HttpEngine {
    /// The log, exact per stream: `local` is asked with timestamps and repaired, everything else is taken as it is.
    pub(super) async fn logs(&self, id: &str, follow: bool) -> Result<LogStream, EngineError> {
        let what = format!("read the log of container {id}");
        let Some(container) = self.inspect_raw(&what, id).await? else {
            let message = format!("No such container: {id}");
            return Err(EngineError::NotFound { what, message });
        };
        let docker = self.session().await?.flavor == EngineFlavor::Docker;
        let tty = container.config.tty;
        let repaired = docker && !tty && container.host_config.log_config.driver == "local";
        let codec = match (tty, repaired) {
            (true, _) => Codec::Raw,
            (false, true) => Codec::Entries {
                stdout: LineRepair::default(),
                stderr: LineRepair::default(),
            },
            (false, false) => Codec::Framed(Demux::new()),
        };
        self.open_log(what, id, follow, repaired, codec).await
    }

    /// The log as its entries, each with its timestamp.
    pub(super) async fn log_entries(
        &self,
        id: &str,
        follow: bool,
    ) -> Result<LogStream, EngineError> {
        let what = format!("read the log of container {id}");
        self.open_log(what, id, follow, true, Codec::Stamped).await
    }

    async fn open_log(
        &self,
        what: String,
        id: &str,
        follow: bool,
        timestamps: bool,
        codec: Codec,
    ) -> Result<LogStream, EngineError> {
        let call = self.call(what.clone(), Method::GET, |session| {
            let path = session.path("/containers").segment(id).then("/logs");
            let path = path.query("stdout", "1").query("stderr", "1");
            let path = if follow {
                path.query("follow", "1")
            } else {
                path
            };
            if timestamps {
                path.query("timestamps", "1")
            } else {
                path
            }
        });
        let call = call.await?;
        let engine = self.clone();
        let opened = async move {
            let opened = engine.client().stream_inline(call).await;
            let (body, driver) = engine.note(opened)?;
            let source = Source::Body(body, driver);
            let host = Arc::clone(&engine.client().host);
            Ok(Output::new(source, codec, Bytes::new(), what, host))
        };
        let mut opened = opened.boxed();
        match tokio::time::timeout(ERRORS_BY, &mut opened).await {
            Ok(output) => Ok(Box::pin(output?)),
            Err(_) => Ok(Box::pin(opened.try_flatten_stream())),
        }
    }
}
