use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use gantry_container::EngineFlavor;
use hyper::Method;

use super::{HttpEngine, filter_query, filters, lines::JsonLines, models::Event};
use crate::{EngineError, EngineEvent, EventKind, ListFilter};

impl HttpEngine {
    pub(super) async fn event_stream(
        &self,
        filter: &ListFilter,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>, EngineError>
    {
        let what = "listen to events".to_owned();
        let session = self
            .session()
            .await
            .map_err(|error| super::renamed(error, &what))?;
        let mut filters = filters(filter);
        filters.insert("type", vec!["container".to_owned()]);
        // Podman has other names for some events; there all come and are picked here.
        if session.flavor == EngineFlavor::Docker {
            let kinds = ["die", "oom", "destroy"];
            filters.insert("event", kinds.map(str::to_owned).to_vec());
        }
        let call = self.call(what.clone(), Method::GET, |session| {
            filter_query(session.path("/events"), &filters)
        });
        let limit = self.header_limit(&session);
        let response = self.note(self.client().stream(call.await?, limit).await)?;
        let lines = JsonLines::new(response.into_body());
        let state = (self.clone(), lines, false);
        let events = stream::unfold(state, move |(engine, mut lines, failed)| {
            let what = what.clone();
            async move {
                if failed {
                    return None;
                }
                loop {
                    match engine.note(lines.next::<Event>(engine.client(), &what).await) {
                        Ok(None) => return None,
                        Ok(Some(event)) => {
                            if let Some(event) = known(event) {
                                return Some((Ok(event), (engine, lines, false)));
                            }
                        }
                        Err(error) => return Some((Err(error), (engine, lines, true))),
                    }
                }
            }
        });
        Ok(Box::pin(events.fuse()))
    }
}

/// The events that are used; the rest is passed over.
fn known(event: Event) -> Option<EngineEvent> {
    if !matches!(event.kind.as_str(), "" | "container") {
        return None;
    }
    let kind = match event.action.as_str() {
        "die" | "died" => EventKind::Die,
        "oom" => EventKind::Oom,
        "destroy" | "remove" => EventKind::Destroy,
        _ => return None,
    };
    let mut attributes = event.actor.attributes;
    let code = ["exitCode", "containerExitCode"]
        .iter()
        .find_map(|key| attributes.get(*key));
    Some(EngineEvent {
        kind,
        container_id: event.actor.id,
        exit_code: code.and_then(|code| code.parse().ok()),
        container_name: attributes.remove("name").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"Type":"container","Action":"die","Actor":{"ID":"i","Attributes":{"name":"n","exitCode":"3"}}}"#, Some((EventKind::Die, Some(3))))]
    #[case(r#"{"Type":"container","Action":"died","Actor":{"ID":"i","Attributes":{"name":"n","containerExitCode":"0"}}}"#, Some((EventKind::Die, Some(0))))]
    #[case(r#"{"Type":"container","Action":"oom","Actor":{"ID":"i","Attributes":{"name":"n"}}}"#, Some((EventKind::Oom, None)))]
    #[case(r#"{"Type":"container","Action":"remove","Actor":{"ID":"i","Attributes":{"name":"n"}}}"#, Some((EventKind::Destroy, None)))]
    #[case(
        r#"{"Type":"container","Action":"exec_die","Actor":{"ID":"i","Attributes":null}}"#,
        None
    )]
    #[case(r#"{"Type":"network","Action":"destroy","Actor":null}"#, None)]
    #[case("{}", None)]
    fn events_of_both_engines_are_read(
        #[case] line: &str,
        #[case] expected: Option<(EventKind, Option<i64>)>,
    ) {
        let event = known(serde_json::from_str(line).unwrap());
        assert_eq!(
            event.as_ref().map(|event| (event.kind, event.exit_code)),
            expected
        );
        if let Some(event) = event {
            assert_eq!(
                (event.container_id.as_str(), event.container_name.as_str()),
                ("i", "n")
            );
        }
    }
}
