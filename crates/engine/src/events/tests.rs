use gantry_container::{ContainerSpec, Labels};

use super::*;
use crate::{
    Engine,
    fake::{Down, FakeEngine, FakeImage, Fault, Program, Step, Verb},
};

fn setup() -> (FakeEngine, EventHub, ContainerSpec) {
    let engine = FakeEngine::new();
    engine.add_image(FakeImage::new("alpine"));
    let labels = Labels::from([("gantry.state".to_owned(), "s".to_owned())]);
    let hub = EventHub::new(
        engine.shared(),
        ListFilter {
            labels: labels.clone(),
            name: None,
        },
    );
    let spec = ContainerSpec {
        image: "alpine".to_owned(),
        labels,
        ..Default::default()
    };
    (engine, hub, spec)
}

#[tokio::test(start_paused = true)]
async fn subscribers_get_the_events_of_their_container_over_one_stream() {
    let (engine, hub, spec) = setup();
    engine.on_name("a", Program::steps(vec![Step::OomKill, Step::Exit(137)]));
    engine.on_name("b", Program::steps(vec![Step::Exit(3)]));
    let (a, b) = (
        engine.container_create("a", &spec).await.unwrap(),
        engine.container_create("b", &spec).await.unwrap(),
    );
    let (mut of_a, mut of_b) = (hub.subscribe(&a), hub.subscribe(&b));
    hub.connected().await;
    for id in [&a, &b] {
        engine.container_start(id).await.unwrap();
    }
    assert_eq!(of_a.next().await, Some(HubEvent::Oom));
    assert_eq!(
        of_a.next().await,
        Some(HubEvent::Die {
            exit_code: Some(137)
        })
    );
    assert_eq!(
        of_b.next().await,
        Some(HubEvent::Die { exit_code: Some(3) })
    );
    engine.container_remove(&b).await.unwrap();
    assert_eq!(of_b.next().await, Some(HubEvent::Destroy));
    assert_eq!(engine.calls_of(Verb::Events).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_engine_was_away_subscribers_are_told_to_ask_the_state() {
    let (engine, hub, spec) = setup();
    engine.on_name("a", Program::serve());
    let id = engine.container_create("a", &spec).await.unwrap();
    let mut events = hub.subscribe(&id);
    hub.connected().await;
    engine.container_start(&id).await.unwrap();
    engine.go_down(Down::ContainersLive);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let tries = engine.calls_of(Verb::Events).len();
    assert!((10..25).contains(&tries), "{tries} tries in a minute");
    engine.come_up();
    assert_eq!(events.next().await, Some(HubEvent::Reconnected));
    engine.container_stop(&id, None).await.unwrap();
    assert_eq!(
        events.next().await,
        Some(HubEvent::Die {
            exit_code: Some(143)
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_connection_that_failed_counts_as_missed_events() {
    let (engine, hub, spec) = setup();
    engine.fault(
        Verb::Events,
        1,
        Fault::Error(crate::EngineError::Setup("no".to_owned())),
    );
    let id = engine.container_create("a", &spec).await.unwrap();
    let mut events = hub.subscribe(&id);
    assert_eq!(events.next().await, Some(HubEvent::Reconnected));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_retried_while_nobody_subscribes_and_the_last_clone_ends_it() {
    let (engine, hub, spec) = setup();
    let id = engine.container_create("a", &spec).await.unwrap();
    let events = hub.subscribe(&id);
    hub.connected().await;
    drop(events);
    engine.go_down(Down::ContainersLive);
    engine.come_up();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(engine.calls_of(Verb::Events).len(), 1);
    let mut events = hub.subscribe(&id);
    hub.connected().await;
    assert_eq!(engine.calls_of(Verb::Events).len(), 2);
    assert_eq!(events.next().await, Some(HubEvent::Reconnected));
    let clone = hub.clone();
    drop(hub);
    drop(clone);
    assert_eq!(events.next().await, None);
}
