//! The interactive terminal of a job: its session opens when the job is taken, and is not found again by the next process.

use gantry_executor::TerminalSettings;
use gantry_trace::Level;
use tracing::info;

use super::OpenJob;
use crate::{
    session::{Offer, OpenSession},
    shared::Shared,
};

/// The session that the server was offered with the request for this job.
pub(super) fn open(shared: &Shared, open: &OpenJob, offer: Option<Offer>) -> Option<OpenSession> {
    let (sessions, offer) = shared.sessions.as_ref().zip(offer)?;
    let config = shared.config.clone();
    let settings = move || {
        let config = config.borrow();
        TerminalSettings {
            timeout: config.session_server.session_timeout,
            after_script: config.gantry.terminal_after_script,
        }
    };
    let job = open.origin.payload.id;
    Some(sessions.open(offer, job, open.observed.clone(), settings))
}

/// The address of its session and the certificate for it were of the process that is gone.
pub(super) fn tell_gone(open: &OpenJob) {
    info!(
        job = open.origin.payload.id,
        "the job has no terminal any more: its session ended with the process that opened it"
    );
    let text =
        "The interactive terminal of this job is not available any more: the runner was restarted";
    open.trace.line_once("terminal-gone", Level::Warning, text);
}
