//! Services that were not running any more when their job failed: often that is why it failed, and nothing of the script says so.

use std::time::Duration;

use futures_util::future::join_all;
use gantry_container::{ContainerState, ContainerStatus};
use gantry_job::Cause;
use gantry_plan::PlannedService;
use gantry_trace::Level;

use crate::{context::Context, health::advice};

/// Bound of asking the engine; the verdict waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// Writes a line for each service of a failed job that has ended by itself. To be called while nobody has stopped the services yet.
pub(crate) async fn tell(context: &Context, failure: &Cause) {
    if !may_be_of_a_service(failure) {
        return;
    }
    let asked = context.plan.services.iter().map(|service| {
        let name = &service.container.name;
        tokio::time::timeout(LIMIT, context.engine.container_inspect(name))
    });
    let answers = join_all(asked).await;
    for (number, (service, answer)) in context.plan.services.iter().zip(answers).enumerate() {
        // Who could not be asked is not told of: what failed is known already.
        let Ok(Ok(state)) = answer else {
            tracing::debug!(
                service = service.container.name,
                "not known whether it runs"
            );
            continue;
        };
        if let Some(text) = text(service, state.as_ref(), context.plan.debug_services) {
            let key = format!("service-ended{number}");
            context.trace.line_once(&key, Level::Warning, &text);
        }
    }
}

/// Whether a job that failed so may have missed a service. Who ends it from outside needs no explanation, and an engine that is gone
/// has none.
fn may_be_of_a_service(failure: &Cause) -> bool {
    !matches!(
        failure,
        Cause::Canceled
            | Cause::Aborted
            | Cause::Interrupted { .. }
            | Cause::EngineUnreachable { .. }
    )
}

/// What is said of a service; nothing of one that runs. `logged`: what it printed is in the log.
fn text(service: &PlannedService, state: Option<&ContainerState>, logged: bool) -> Option<String> {
    let image = &service.container.image.reference;
    // Names of the job's own come after those made of the image's.
    let name = service.aliases.last().unwrap_or(&service.title);
    let who = format!("service {name:?} ({image})");
    let Some(state) = state else {
        return Some(format!("{who} was removed before the job ended"));
    };
    match state.status {
        ContainerStatus::Running => return None,
        ContainerStatus::Created => return Some(format!("{who} was never started")),
        ContainerStatus::Exited | ContainerStatus::Removing => {}
    }
    let code = state.exit_code;
    if state.oom_killed {
        return Some(format!(
            "{who} ended before the job did: it was killed, out of memory (exit code {code}); raise service_memory in \
             [runners.docker], or let it use less"
        ));
    }
    let see = match logged {
        true => "",
        false => " (CI_DEBUG_SERVICES: \"true\" shows it)",
    };
    Some(match advice(code) {
        Some(advice) => format!("{who} ended before the job did, with exit code {code}{advice}"),
        None => format!(
            "{who} ended before the job did, with exit code {code}; what it printed last says why{see}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use gantry_container::ContainerSpec;
    use gantry_plan::{PlannedContainer, PlannedImage};
    use rstest::rstest;

    use super::*;

    fn service() -> PlannedService {
        PlannedService {
            container: PlannedContainer {
                name: "run-postgres-0".to_owned(),
                image: PlannedImage {
                    reference: "postgres:15".to_owned(),
                    policies: Vec::new(),
                    platform: None,
                    packaged: false,
                },
                spec: ContainerSpec::default(),
            },
            title: "postgres:15".to_owned(),
            aliases: vec!["postgres".to_owned(), "db".to_owned()],
            linked: false,
            warnings: Vec::new(),
        }
    }

    #[rstest]
    #[case::an_error(
        1,
        "with exit code 1; what it printed last says why (CI_DEBUG_SERVICES: \"true\" shows it)"
    )]
    #[case::nothing_wrong(0, "with exit code 0, though a service has to go on")]
    #[case::killed(137, "with exit code 137; somebody killed it")]
    #[case::no_program(127, "with exit code 127; its command is not in its image")]
    fn how_a_service_ended_is_said_with_its_name_and_image(
        #[case] code: i64,
        #[case] expected: &str,
    ) {
        let ended = ContainerState {
            exit_code: code,
            ..ContainerState::bare("0123", "run-postgres-0", ContainerStatus::Exited)
        };
        let said = text(&service(), Some(&ended), false).unwrap();
        let begin = format!("service \"db\" (postgres:15) ended before the job did, {expected}");
        assert!(said.starts_with(&begin), "{said}");
        let killed = ContainerState {
            exit_code: 137,
            oom_killed: true,
            ..ended
        };
        let said = text(&service(), Some(&killed), false).unwrap();
        assert!(
            said.contains("it was killed, out of memory (exit code 137); raise service_memory"),
            "{said}"
        );
    }

    #[test]
    fn nothing_is_said_of_a_service_that_runs() {
        let state = |status| ContainerState::bare("0123", "run-postgres-0", status);
        let said = |status| text(&service(), Some(&state(status)), true);
        assert_eq!(said(ContainerStatus::Running), None);
        assert!(
            said(ContainerStatus::Created)
                .unwrap()
                .ends_with("was never started")
        );
        assert!(
            text(&service(), None, true)
                .unwrap()
                .ends_with("was removed before the job ended")
        );
        let failed = ContainerState {
            exit_code: 1,
            ..state(ContainerStatus::Exited)
        };
        let said = text(&service(), Some(&failed), true).unwrap();
        assert!(
            !said.contains("CI_DEBUG_SERVICES"),
            "it is in the log: {said}"
        );
    }

    #[test]
    fn who_ended_a_job_from_outside_needs_no_explanation() {
        assert!(!may_be_of_a_service(&Cause::Canceled));
        assert!(!may_be_of_a_service(&Cause::Aborted));
        let limit = Duration::from_secs(60);
        assert!(may_be_of_a_service(&Cause::JobTimeout { limit }));
        assert!(may_be_of_a_service(&Cause::ScriptExit { code: 1 }));
    }
}
