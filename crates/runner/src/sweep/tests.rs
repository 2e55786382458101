use gantry_container::{ContainerSpec, NetworkSpec, VolumeSpec};
use gantry_engine::{
    Engine as _,
    fake::{Down, FakeEngine, FakeImage, Fault, Verb},
};
use tokio::time::advance;

use super::*;

const STATE: &str = "0123456789abcdef";
const IMAGE: &str = "busybox";

fn labels(state: &str, job: &str) -> Labels {
    [
        (STATE_LABEL, state),
        (RUNNER_LABEL, "tok"),
        (JOB_LABEL, job),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Job 1 has a folder.
fn owns(labels: &Labels) -> bool {
    labels[JOB_LABEL] == "1"
}

fn engine() -> FakeEngine {
    let engine = FakeEngine::new();
    engine.add_image(FakeImage::new(IMAGE));
    engine
}

async fn container(engine: &FakeEngine, name: &str, labels: Labels) {
    let spec = ContainerSpec {
        image: IMAGE.to_owned(),
        labels,
        ..ContainerSpec::default()
    };
    engine.container_create(name, &spec).await.unwrap();
}

/// A container, a network and a volume.
async fn objects(engine: &FakeEngine, name: &str, labels: Labels) {
    container(engine, name, labels.clone()).await;
    let network = NetworkSpec {
        name: name.to_owned(),
        labels: labels.clone(),
        ..NetworkSpec::default()
    };
    engine.network_create(&network).await.unwrap();
    let volume = VolumeSpec {
        name: name.to_owned(),
        labels,
        ..VolumeSpec::default()
    };
    engine.volume_create(&volume).await.unwrap();
}

fn left(engine: &FakeEngine) -> Vec<String> {
    engine.left(&ListFilter::default())
}

async fn sweep_of(engines: &mut Engines, engine: &FakeEngine) -> bool {
    engines
        .sweep(&[engine.shared()], STATE, &owns, &|_| {})
        .await
}

#[tokio::test(start_paused = true)]
async fn the_first_sweep_takes_leftovers_of_any_age_and_nothing_of_others() {
    let engine = engine();
    objects(&engine, "of-a-dead-process", labels(STATE, "2")).await;
    objects(&engine, "of-a-job", labels(STATE, "1")).await;
    objects(&engine, "of-another-gantry", labels("fedcba", "2")).await;
    assert!(sweep_of(&mut Engines::default(), &engine).await);
    let names: Vec<_> = left(&engine)
        .iter()
        .map(|object| object.split(' ').next_back().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 6);
    assert!(!names.contains(&"of-a-dead-process".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn later_sweeps_take_what_is_a_minute_old_by_the_engines_clock() {
    let engine = engine();
    let mut engines = Engines::default();
    sweep_of(&mut engines, &engine).await;
    objects(&engine, "left", labels(STATE, "2")).await;
    advance(Duration::from_secs(58)).await;
    sweep_of(&mut engines, &engine).await;
    assert_eq!(left(&engine).len(), 3);
    advance(Duration::from_secs(3)).await;
    sweep_of(&mut engines, &engine).await;
    assert_eq!(left(&engine), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_carrier_of_a_tools_volume_goes_when_it_is_a_minute_old_and_the_volume_stays() {
    let engine = engine();
    let mut engines = Engines::default();
    let of_tools = Labels::from([(TOOLS_LABEL.to_owned(), "gantry-tools-ab".to_owned())]);
    container(&engine, "gantry-tools-ab-fill", of_tools.clone()).await;
    let volume = VolumeSpec {
        name: "gantry-tools-ab".to_owned(),
        labels: of_tools,
        ..VolumeSpec::default()
    };
    engine.volume_create(&volume).await.unwrap();
    sweep_of(&mut engines, &engine).await;
    assert_eq!(
        left(&engine).len(),
        2,
        "another runner may be at work on it"
    );
    advance(Duration::from_secs(61)).await;
    sweep_of(&mut engines, &engine).await;
    assert_eq!(left(&engine), ["volume gantry-tools-ab"]);
}

#[tokio::test(start_paused = true)]
async fn a_network_goes_with_the_containers_that_the_job_started_on_it() {
    let engine = engine();
    let network = NetworkSpec {
        name: "net".to_owned(),
        labels: labels(STATE, "2"),
        ..NetworkSpec::default()
    };
    engine.network_create(&network).await.unwrap();
    let mut spec = ContainerSpec {
        image: IMAGE.to_owned(),
        ..ContainerSpec::default()
    };
    spec.host.network_mode = "net".to_owned();
    let id = engine.container_create("of-the-user", &spec).await.unwrap();
    engine.container_start(&id).await.unwrap();
    sweep_of(&mut Engines::default(), &engine).await;
    assert_eq!(left(&engine), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_comes_later_is_swept_as_at_start() {
    let engine = engine();
    let mut engines = Engines::default();
    objects(&engine, "left", labels(STATE, "2")).await;
    engine.go_down(Down::ContainersLive);
    assert!(!sweep_of(&mut engines, &engine).await);
    engine.come_up();
    assert!(sweep_of(&mut engines, &engine).await);
    assert_eq!(left(&engine), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_does_not_keep_the_rest_and_is_tried_again() {
    let engine = engine();
    let mut engines = Engines::default();
    objects(&engine, "left", labels(STATE, "2")).await;
    let busy = EngineError::Conflict {
        what: "remove".to_owned(),
        message: "busy".to_owned(),
    };
    engine.fault(Verb::NetworkRemove, 1, Fault::Error(busy));
    sweep_of(&mut engines, &engine).await;
    assert_eq!(left(&engine), ["network left"]);
    advance(Duration::from_secs(300)).await;
    sweep_of(&mut engines, &engine).await;
    assert_eq!(left(&engine), Vec::<String>::new());
}
