//! Stops a running build container: its processes first, then PID 1, then by force (docker-executor §7.6).

use std::time::Duration;

use futures_util::StreamExt;
use gantry_engine::EngineError;
use gantry_shell::TERMINATE_PROCESSES;
use tokio::time::timeout;

use crate::{StopReason, context::Context};

/// Bound of the signalling exec.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
/// Grace of PID 1 between TERM and KILL, the engines' own default.
const GRACE: Duration = Duration::from_secs(10);

/// Stops the container and returns when the engine says so. The container's own end is learned by whoever follows it.
pub(crate) async fn container(
    context: &Context,
    id: &str,
    reason: StopReason,
) -> Result<(), EngineError> {
    tracing::debug!(container = id, ?reason, "stopping");
    if !context.plan.native_stop {
        match timeout(SIGNAL_LIMIT, terminate_processes(context, id)).await {
            Ok(Ok(())) | Err(_) => {}
            // Ended or gone meanwhile; Podman says 500 for "not running".
            Ok(Err(error)) if error.is_unreachable() => return Err(error),
            Ok(Err(error)) => {
                tracing::debug!(container = id, %error, "processes cannot be signalled");
            }
        }
    }
    match context.engine.container_stop(id, Some(GRACE)).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

async fn terminate_processes(context: &Context, id: &str) -> Result<(), EngineError> {
    let command = [
        "sh".to_owned(),
        "-c".to_owned(),
        TERMINATE_PROCESSES.to_owned(),
    ];
    let mut exec = context.engine.exec(id, &command, None).await?;
    while exec.output.next().await.transpose()?.is_some() {}
    Ok(())
}
