//! Signed addresses of the objects that hold caches (config-toml §5).
//!
//! A [`Storage`] is made from `[runners.cache]` and signs requests, each for one object and a while; the helper of a job sends them. So
//! no key of the storage ever enters a container. Signing is local, except where credentials come from the machine or from a role:
//! those are asked for, and kept until shortly before they end. Uploads to S3 are begun and ended by requests of this process, too, so
//! that archives can be sent while they are packed.
//!
//! The signatures are those of `object_store`; what is ours is the reading of the peer's keys and the role of S3. Names of
//! objects are decided by the plan.

mod azure;
mod error;
mod gcs;
mod multipart;
mod role;
mod s3;
mod storage;
#[cfg(test)]
mod tests;

pub use error::StorageError;
pub use multipart::PartUploads;
pub use storage::{SignedRequest, Storage};
