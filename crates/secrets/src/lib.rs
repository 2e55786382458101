//! External secrets of jobs (job-lifecycle §7): resolved by the runner before anything else, and variables of the job from then on.
//!
//! [`resolve`] asks for all secrets of a job, says so in its log, and gives the variables or the one cause that the job fails of. It
//! neither knows time limits nor cancels: whoever calls it drops the future.
//!
//! | Module | Does |
//! |---|---|
//! | `resolve` | order, attempts, lines of the log |
//! | `vault` | a session with a Vault server: log in, read |
//! | `request` | one call to a server |
//! | `error` | what can go wrong, and whose fault it is |

mod error;
mod request;
mod resolve;
mod vault;

pub use resolve::resolve;
