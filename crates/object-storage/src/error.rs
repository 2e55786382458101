use std::fmt;

/// Why no address can be signed. Holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// `Type` names no storage.
    #[error("unknown cache type {0:?}: set Type in [runners.cache] to s3, gcs or azure")]
    UnknownType(String),
    /// The configuration cannot be used.
    #[error("[runners.cache.{table}] {message}")]
    Config {
        /// `s3`, `gcs` or `azure`.
        table: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The storage's name rules do not allow this object.
    #[error("the cache key gives the object name {0:?}, which the storage does not allow")]
    Name(String),
    /// Credentials could not be had, or nothing could be signed with them.
    #[error("signing a request for {table}: {message}")]
    Signing {
        /// `s3`, `gcs` or `azure`.
        table: &'static str,
        /// What went wrong.
        message: String,
    },
    /// A multipart upload stays as it is.
    #[error("aborting a multipart upload: {0}")]
    Abort(String),
}

impl StorageError {
    pub(crate) fn config(table: &'static str, message: impl fmt::Display) -> Self {
        Self::Config {
            table,
            message: message.to_string(),
        }
    }
}
