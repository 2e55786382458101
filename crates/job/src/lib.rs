//! One CI job, whatever its source: what was asked ([`payload`]), with which variables
//! ([`variable`], [`mod@assemble`]), flags ([`feature_flag`]) and settings ([`settings`]), in which
//! stages ([`stage`]), and how it ended ([`outcome`], [`cause`]).
//!
//! Everything here is a function of data: nothing reads a file, a clock or the network, and
//! nothing panics on foreign input. Values that may be secret never appear in `Debug` output or
//! in an error.

pub mod assemble;
pub mod cause;
pub mod duration;
pub mod feature_flag;
pub mod inputs;
pub mod masks;
pub mod moa;
pub mod outcome;
pub mod payload;
pub mod secret;
pub mod secrets;
pub mod settings;
pub mod stage;
pub mod unsupported;
pub mod variable;

pub use assemble::{AssembleInput, Assembled, TlsFiles, assemble};
pub use cause::{Cause, PullFailure, SecretFault};
pub use feature_flag::{FeatureFlag, FeatureFlags};
pub use masks::Masks;
pub use outcome::{FailureReason, JobState, JobStatus, Outcome};
pub use payload::{JobPayload, PayloadError};
pub use secret::Secret;
pub use secrets::{SecretRequest, SecretRequests};
pub use settings::{GitStrategy, JobSettings, SettingsContext, StageTimeouts, SubmoduleStrategy};
pub use stage::Stage;
pub use unsupported::{Unsupported, refusal, unsupported_keywords};
pub use variable::{Variable, Variables};
