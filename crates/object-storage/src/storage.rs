use std::{fmt, sync::Arc, time::Duration};

use gantry_config::CacheConfig;
use object_store::{
    path::Path,
    signer::{HeaderName, HeaderValue, Method, SignedUrlOptions, Signer},
};

use crate::{StorageError, azure, gcs, multipart::Parts, s3};

/// No storage takes signatures that last longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Content type that uploads are sent with; part of the signature where the storage has it so.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// Bytes of metadata that are sent.
const LONGEST_TEXT: usize = 1024;

type Headers = Vec<(&'static str, String)>;

/// One storage as `[runners.cache]` describes it.
#[derive(Clone)]
pub struct Storage {
    download: Arc<dyn Signer>,
    pub(crate) upload: Arc<dyn Signer>,
    pub(crate) form: Form,
    /// Where uploads are made in parts.
    pub(crate) parts: Option<Arc<Parts>>,
}

/// What an upload must be sent with, by storage.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// S3, with the headers of its encryption.
    S3 {
        encryption: Vec<(&'static str, String)>,
    },
    /// Google Cloud Storage, with the greatest size, if there is one.
    Gcs { max_bytes: u64 },
    /// Azure.
    Azure,
}

/// A request that the storage will take from anyone who has it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Address; its query is the permission, so it is a secret.
    pub url: String,
    /// Headers that must be sent with it, exactly so.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("SignedRequest")
            .field("url", &clean)
            .field("headers", &self.headers.len())
            .finish()
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("form", &self.form.table())
            .finish_non_exhaustive()
    }
}

impl Form {
    fn table(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "s3",
            Self::Gcs { .. } => "gcs",
            Self::Azure => "azure",
        }
    }

    /// Headers of an upload: those that are signed, and those that are only sent.
    pub(crate) fn upload_headers(&self, key: &str) -> (Headers, Headers) {
        let key = header_text(key);
        match self {
            Self::S3 { encryption } => {
                let mut signed = encryption.clone();
                signed.push(("x-amz-meta-cachekey", key));
                (signed, Vec::new())
            }
            Self::Gcs { max_bytes } => {
                let mut signed = vec![
                    ("content-type", CONTENT_TYPE.to_owned()),
                    ("x-goog-meta-cachekey", key),
                ];
                if *max_bytes > 0 {
                    signed.push(("x-goog-content-length-range", format!("0,{max_bytes}")));
                }
                (signed, Vec::new())
            }
            Self::Azure => (
                Vec::new(),
                vec![
                    ("x-ms-blob-type", "BlockBlob".to_owned()),
                    ("x-ms-meta-cachekey", key),
                ],
            ),
        }
    }
}

impl Storage {
    /// The storage of a configuration, or `None` if it names none. `client` is used to ask for credentials where the configuration
    /// holds none.
    ///
    /// # Errors
    /// When `Type` is unknown or its table cannot be used.
    pub fn new(
        config: &CacheConfig,
        client: &reqwest::Client,
    ) -> Result<Option<Self>, StorageError> {
        let storage = match config.kind.to_ascii_lowercase().as_str() {
            "" => return Ok(None),
            "s3" => s3::storage(&config.s3, client)?,
            "gcs" => gcs::storage(&config.gcs, config.max_uploaded_archive_size, client)?,
            "azure" => azure::storage(&config.azure, client)?,
            _ => return Err(StorageError::UnknownType(config.kind.clone())),
        };
        Ok(Some(storage))
    }

    pub(crate) fn of(download: Arc<dyn Signer>, upload: Arc<dyn Signer>, form: Form) -> Self {
        Self {
            download,
            upload,
            form,
            parts: None,
        }
    }

    pub(crate) fn in_parts(self, parts: Parts) -> Self {
        Self {
            parts: Some(Arc::new(parts)),
            ..self
        }
    }

    /// A GET of the object.
    ///
    /// # Errors
    /// When credentials cannot be had, or the name is not allowed.
    pub async fn download(
        &self,
        object: &str,
        valid: Duration,
    ) -> Result<SignedRequest, StorageError> {
        self.sign(&self.download, Method::GET, object, valid, &[], &[])
            .await
    }

    /// A HEAD of the object.
    ///
    /// # Errors
    /// As [`Storage::download`].
    pub async fn check(
        &self,
        object: &str,
        valid: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let method = match self.form {
            // There it is the permission to read that is signed, and the library knows no HEAD.
            Form::Azure => Method::GET,
            Form::S3 { .. } | Form::Gcs { .. } => Method::HEAD,
        };
        self.sign(&self.download, method, object, valid, &[], &[])
            .await
    }

    /// A PUT of the object. `key` is the cache's key as people know it; it becomes metadata of the object.
    ///
    /// # Errors
    /// As [`Storage::download`].
    pub async fn upload(
        &self,
        object: &str,
        key: &str,
        valid: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let (signed, sent) = self.form.upload_headers(key);
        let mut request = self
            .sign(&self.upload, Method::PUT, object, valid, &signed, &[])
            .await?;
        let sent = sent.into_iter();
        request
            .headers
            .extend(sent.map(|(name, value)| (name.to_owned(), value)));
        Ok(request)
    }

    pub(crate) async fn sign(
        &self,
        signer: &Arc<dyn Signer>,
        method: Method,
        object: &str,
        valid: Duration,
        headers: &[(&'static str, String)],
        query: &[(&str, &str)],
    ) -> Result<SignedRequest, StorageError> {
        // As it is: another reading would escape some characters, and another runner would look elsewhere.
        let path = Path::parse(object).map_err(|_| StorageError::Name(object.to_owned()))?;
        let table = self.form.table();
        let failed = |message: String| StorageError::Signing { table, message };
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| failed(format!("{name} cannot be sent in a header")))?;
            options = options.with_signed_header(HeaderName::from_static(name), value);
        }
        let valid = valid.clamp(Duration::from_secs(1), LONGEST);
        let url = signer
            .signed_url_opts(method, &path, valid, &options)
            .await
            .map_err(|error| failed(reason(&error)))?;
        let text = |(name, value): &(&'static str, String)| ((*name).to_owned(), value.clone());
        Ok(SignedRequest {
            url: url.into(),
            headers: headers.iter().map(text).collect(),
        })
    }
}

/// What went wrong, to the innermost cause; addresses are without their query.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        inner = cause.source();
    }
    text
}

/// A key as a header can carry it: what is not plain ASCII is percent-encoded. It is for people, and S3 takes 2 KB of metadata, so the end
/// of a very long one is left out.
fn header_text(key: &str) -> String {
    let mut text = String::new();
    for char in key.chars() {
        let mut bytes = [0; 4];
        let piece = &*char.encode_utf8(&mut bytes);
        let piece = percent_encoding::utf8_percent_encode(piece, percent_encoding::CONTROLS);
        let whole = text.len();
        text.extend(piece);
        if text.len() > LONGEST_TEXT {
            text.truncate(whole);
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests;
