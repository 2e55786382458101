//! Uploads in parts, so that an archive can be sent while its length is not known yet: S3 takes no other body of such a kind.
//!
//! The process that holds the credentials begins an upload and ends it; whoever has the signed addresses sends its parts, as many as
//! there are, and completes it. An upload that is not completed keeps its parts, unseen and paid for, until it is aborted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use object_store::signer::Method;
use reqwest::StatusCode;

use crate::{
    SignedRequest, Storage, StorageError,
    role::element,
    storage::{CONTENT_TYPE, reason},
};

/// Requests of the runner are short, and a job waits for them.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// A storage that refused to begin or to end an upload is not asked again for so long.
const PAUSE: Duration = Duration::from_secs(10 * 60);
const MIB: u64 = 1 << 20;

/// How a storage takes parts.
#[derive(Debug)]
pub(crate) struct Parts {
    client: reqwest::Client,
    sizes: Sizes,
    put_off: Mutex<Option<Instant>>,
}

/// Sizes of parts. None is below 5 MiB, the least that S3 takes of all but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Eight of 8 MiB, eight of twice that, and so on: the first is sent early, and 72 hold 32 GiB.
    Growing,
    /// 80 of 64 MiB, for storages that want all but the last to be alike.
    Alike,
}

impl Sizes {
    /// Those that the storage at this address takes.
    pub(crate) fn at(endpoint: &str) -> Self {
        let host = endpoint.split("://").nth(1).unwrap_or(endpoint);
        if host.ends_with(".r2.cloudflarestorage.com") {
            Self::Alike
        } else {
            Self::Growing
        }
    }

    /// Enough of them for `most` bytes; all of them if that is 0.
    fn until(self, most: u64) -> impl Iterator<Item = u64> {
        let sizes: Vec<u64> = match self {
            Self::Growing => (0..72).map(|number| (8 * MIB) << (number / 8)).collect(),
            Self::Alike => vec![64 * MIB; 80],
        };
        let mut held = 0;
        sizes.into_iter().take_while(move |size| {
            let wanted = most == 0 || held < most;
            held += size;
            wanted
        })
    }
}

/// What a multipart upload is sent with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartUploads {
    /// A PUT of each part, and how many bytes it has; the last that is sent may have fewer.
    pub parts: Vec<(SignedRequest, u64)>,
    /// A POST of the list of parts.
    pub complete: SignedRequest,
}

impl Parts {
    pub(crate) fn new(client: reqwest::Client, sizes: Sizes) -> Self {
        Self {
            client,
            sizes,
            put_off: Mutex::default(),
        }
    }

    fn is_put_off(&self) -> bool {
        let until = *self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn put_off(&self) {
        let until = Instant::now() + PAUSE;
        *self.put_off.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    async fn ask(
        &self,
        method: Method,
        request: &SignedRequest,
    ) -> Result<(StatusCode, String), String> {
        let mut asking = self
            .client
            .request(method, &request.url)
            .timeout(TIME_LIMIT)
            .body("");
        for (name, value) in &request.headers {
            asking = asking.header(name, value);
        }
        let failed = |error: reqwest::Error| reason(&error.without_url());
        let answer = asking.send().await.map_err(failed)?;
        let status = answer.status();
        Ok((status, answer.text().await.map_err(failed)?))
    }
}

/// What a refusal says.
fn refusal(status: StatusCode, text: &str) -> String {
    let part = |name| element(text, name).unwrap_or_default();
    let said = format!("{status} {} {}", part("Code"), part("Message"));
    said.trim_end().to_owned()
}

impl Storage {
    /// Begins an upload in parts of the object, with the headers of [`Storage::upload`], and gives its number. `None`: it is better sent
    /// as a whole, because the storage takes a growing body anyway, or because it refused, which the process log says once in a while.
    ///
    /// # Errors
    /// As [`Storage::download`].
    pub async fn begin_upload(
        &self,
        object: &str,
        key: &str,
    ) -> Result<Option<String>, StorageError> {
        let Some(parts) = self.parts.as_ref().filter(|parts| !parts.is_put_off()) else {
            return Ok(None);
        };
        let (mut signed, _) = self.form.upload_headers(key);
        signed.push(("content-type", CONTENT_TYPE.to_owned()));
        let request = self
            .sign(
                &self.upload,
                Method::POST,
                object,
                TIME_LIMIT * 6,
                &signed,
                &[("uploads", "")],
            )
            .await?;
        let why = match parts.ask(Method::POST, &request).await {
            Ok((status, text)) if status.is_success() => match element(&text, "UploadId") {
                Some(id) if !id.is_empty() => return Ok(Some(id.to_owned())),
                _ => "the answer holds no UploadId".to_owned(),
            },
            Ok((status, text)) => refusal(status, &text),
            Err(why) => why,
        };
        parts.put_off();
        tracing::info!(
            reason = why,
            "the storage of caches begins no multipart upload: archives are packed before they are sent"
        );
        Ok(None)
    }

    /// The requests of an upload that was begun, for an archive of at most `most` bytes (0: as many as can be).
    ///
    /// # Errors
    /// As [`Storage::download`].
    pub async fn upload_parts(
        &self,
        object: &str,
        id: &str,
        most: u64,
        valid: Duration,
    ) -> Result<PartUploads, StorageError> {
        let sizes = self.parts.as_ref().map(|parts| parts.sizes.until(most));
        let mut parts = Vec::new();
        for (index, size) in sizes.into_iter().flatten().enumerate() {
            let number = (index + 1).to_string();
            let query = [("partNumber", &*number), ("uploadId", id)];
            let request = self
                .sign(&self.upload, Method::PUT, object, valid, &[], &query)
                .await?;
            parts.push((request, size));
        }
        let query = [("uploadId", id)];
        let complete = self
            .sign(&self.upload, Method::POST, object, valid, &[], &query)
            .await?;
        Ok(PartUploads { parts, complete })
    }

    /// Ends an upload with all its parts. One that is completed or aborted already is fine.
    ///
    /// # Errors
    /// When the storage cannot be reached or refuses it.
    pub async fn abort_upload(&self, object: &str, id: &str) -> Result<(), StorageError> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        let query = [("uploadId", id)];
        let request = self
            .sign(
                &self.upload,
                Method::DELETE,
                object,
                TIME_LIMIT * 6,
                &[],
                &query,
            )
            .await?;
        let message = match parts.ask(Method::DELETE, &request).await {
            Ok((status, _)) if status.is_success() || status == StatusCode::NOT_FOUND => {
                return Ok(());
            }
            Ok((status, text)) => {
                // Nothing more is begun where nothing can be ended.
                parts.put_off();
                format!("{}; allow s3:AbortMultipartUpload", refusal(status, &text))
            }
            Err(message) => message,
        };
        Err(StorageError::Abort(message))
    }
}

#[cfg(test)]
mod tests;
