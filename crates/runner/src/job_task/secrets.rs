//! External secrets of a job: resolved before it is planned, once, and kept for the next process.

use gantry_executor::{Control, ExecutorError, Record, Secrets, Wish, stopped_unplanned};
use gantry_job::Cause;
use tokio::sync::watch;

use super::{OpenJob, open::phrases};
use crate::shared::Shared;

/// Resolves the secrets unless that is done. Within the job's time, and until somebody wants it to end: unlike the peer, which waits
/// for a server of secrets as long as it likes (job-lifecycle §7, "When").
pub(super) async fn resolve(
    shared: &Shared,
    open: &mut OpenJob,
    wish: &watch::Receiver<Wish>,
) -> Result<Result<(), Cause>, ExecutorError> {
    let payload = &open.origin.payload;
    if payload.secrets.is_empty() || open.secrets.is_some() || open.plan.is_some() {
        return Ok(Ok(()));
    }
    let numbers = open.origin.numbers();
    let requests = gantry_plan::secret_requests(payload, &open.runner, &shared.host, numbers);
    if requests.secrets.is_empty() {
        return Ok(Ok(()));
    }
    let http = match shared.secret_clients.get(&open.runner) {
        Ok(http) => http,
        Err(error) => {
            let message = format!("resolving secrets: {error}");
            return Ok(Err(Cause::Internal { message }));
        }
    };
    let deadline = open.progress.accepted.as_ref();
    let deadline = deadline.map_or(u64::MAX / 2, |accepted| accepted.deadline_ms);
    let control = Control::new(wish.clone(), deadline);
    let resolved = tokio::select! {
        biased;
        reason = control.stop() => Err(stopped_unplanned(reason, payload.timeout())),
        // Boxed: no job without secrets carries the room for it.
        resolved = Box::pin(gantry_secrets::resolve(&http, &requests, &open.trace)) => resolved,
    };
    let variables = match resolved {
        Ok(variables) => variables,
        Err(cause) => return Ok(Err(cause)),
    };
    let log = gantry_plan::log_plan(payload, &open.runner, &shared.host, numbers, &variables);
    // Masked before anything can be written that holds them, sealed before anything is written down.
    open.trace.add_phrases(phrases(&log.masks));
    open.log.masks.clone_from(&log.masks);
    open.journal.seal()?;
    let secrets = Secrets {
        variables: variables.clone(),
        masks: log.masks,
    };
    let record = Record::Secrets(Box::new(secrets));
    open.journal.append(&record).await?;
    open.secrets = Some(variables);
    Ok(Ok(()))
}
