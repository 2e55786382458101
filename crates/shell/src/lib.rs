//! Scripts for the shells inside containers: what the build container is told to run, as text.
//!
//! Nothing here runs a shell or knows an engine. [`BuildScript`] renders a user stage,
//! [`DETECT_SHELL`] is the command of the build container that reads it from stdin, and
//! [`TERMINATE_PROCESSES`] asks all processes of a container to end.
//!
//! Two properties hold for every rendered script and are tested with real shells:
//! * it means the same in bash, dash and busybox ash, whatever bytes the values have (scripts for PowerShell are tested as text);
//! * of a script that is cut anywhere, no user command runs and the start nonce is not printed,
//!   so a nonce in the log proves that the whole script has arrived.

mod build_script;
mod detect;
mod echo;
mod frame;
mod pwsh;
mod quote;
mod terminate;

#[cfg(test)]
mod shells;

pub use build_script::{BuildScript, Rendered, ScriptKind, Shell};
pub use detect::{DETECT_LOGIN_SHELL, DETECT_SHELL, NO_SHELL_MESSAGE};
pub use pwsh::pwsh_command;
pub use quote::quote;
pub use terminate::TERMINATE_PROCESSES;
