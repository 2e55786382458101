use std::io;

use base64::Engine as _;
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use hyper::{Method, StatusCode};
use tokio_util::io::StreamReader;

use super::{HttpEngine, models::PathStat};
use crate::{Archive, EngineError};

impl HttpEngine {
    /// `noOverwriteDirNonDir` always, so that a file never takes the place of an image's directory; `copyUIDGID` never, so that
    /// owners are those of the archive (engine-mechanics §a).
    pub(super) async fn put_archive(
        &self,
        id: &str,
        path: &str,
        archive: Archive,
    ) -> Result<(), EngineError> {
        let what = format!("upload to {path} of container {id}");
        let call = self.call(what.clone(), Method::PUT, |session| {
            let request = session.path("/containers").segment(id).then("/archive");
            request
                .query("path", path)
                .query("noOverwriteDirNonDir", "1")
        });
        self.ask(call.await?.tar(archive))
            .await?
            .good(&what)
            .map(drop)
    }

    /// The limit is that of the answer's begin: an engine packs while it sends.
    pub(super) async fn get_archive(
        &self,
        id: &str,
        path: &str,
    ) -> Result<Option<Archive>, EngineError> {
        let what = format!("download of {path} from container {id}");
        let call = self.call(what, Method::GET, |session| {
            let request = session.path("/containers").segment(id).then("/archive");
            request.query("path", path)
        });
        let limit = Some(self.client().timeouts.answer);
        let response = match self.note(self.client().stream(call.await?, limit).await) {
            Ok(response) => response,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = BodyDataStream::new(response.into_body()).map_err(io::Error::other);
        Ok(Some(Box::pin(StreamReader::new(body))))
    }

    pub(super) async fn path_mode(&self, id: &str, path: &str) -> Result<Option<u32>, EngineError> {
        let what = format!("look at {path} of container {id}");
        let call = self.call(what.clone(), Method::HEAD, |session| {
            session
                .path("/containers")
                .segment(id)
                .then("/archive")
                .query("path", path)
        });
        let answer = self.ask(call.await?).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let stat = answer.headers.get("X-Docker-Container-Path-Stat").cloned();
        answer.good(&what)?;
        let garbled = |message: String| EngineError::Garbled {
            what: what.clone(),
            message,
        };
        let stat = stat.ok_or_else(|| garbled("the header with the mode is missing".to_owned()))?;
        let json = base64::engine::general_purpose::STANDARD.decode(stat.as_bytes());
        let json = json.map_err(|error| garbled(error.to_string()))?;
        let stat: PathStat =
            serde_json::from_slice(&json).map_err(|error| garbled(error.to_string()))?;
        Ok(Some(stat.unix_mode()))
    }
}
