//! The basic set on Podman, started here on a socket of its own when it is installed.

use std::time::Duration;

use futures_util::StreamExt;
use gantry_container::{ContainerStatus, EngineFlavor, NetworkSpec, VolumeSpec};
use gantry_engine::{Engine, EngineError, EventKind};
use gantry_testkit::Podman;
use tokio::io::AsyncWriteExt;

use crate::support::{
    Lab, assert_same, connect, endpoint, entry, hostile_bytes, lab_on, read, skip,
};

/// One Podman for the whole set: its start is slow.
#[tokio::test]
async fn podman_does_the_basic_set() {
    if endpoint().is_none() {
        return skip("podman", "GANTRY_TEST_ENGINE is not set");
    }
    let podman = match Podman::start().await {
        Ok(podman) => podman,
        Err(why) => return skip("podman", &why),
    };
    lab_on(connect(&podman.host()), "podman", async |lab| {
        facts(&lab).await;
        runs_and_logs(&lab).await;
        waits_and_events(&lab).await;
        stops_and_execs(&lab).await;
        objects(&lab).await;
        uploads(&lab).await;
    })
    .await;
}

async fn facts(lab: &Lab) {
    let facts = lab.engine.facts().await.unwrap();
    assert_eq!(
        (facts.flavor, facts.os.as_str()),
        (EngineFlavor::Podman, "linux")
    );
    assert!(!facts.version.is_empty() && !facts.host_name.is_empty());
}

/// Exact streams over two runs of one container, and the log of both; the driver `local` of the specification is left out.
async fn runs_and_logs(lab: &Lab) {
    let id = lab
        .create("runs", &["sh", "-c", "cat; echo over >&2; exit 3"])
        .await;
    let mut written = Vec::new();
    for seed in [1, 2] {
        let mut bytes = hostile_bytes(seed, 20);
        bytes.extend_from_slice(b"no newline");
        let ran = lab.run(&id, &bytes).await;
        assert_same(&ran.stdout, &bytes);
        assert_eq!(
            (ran.stderr.as_slice(), ran.exit_code),
            (b"over\n".as_slice(), 3)
        );
        written.extend_from_slice(&bytes);
    }
    let (stdout, stderr) = read(lab.engine.container_logs(&id, true).await.unwrap())
        .await
        .unwrap();
    assert_same(&stdout, &written);
    assert_eq!(stderr, b"over\nover\n");
    lab.engine.container_remove(&id).await.unwrap();
}

async fn waits_and_events(lab: &Lab) {
    let mut events = lab.engine.events(&lab.filter()).await.unwrap();
    for turn in 0..3 {
        let id = lab
            .create(&format!("wait{turn}"), &["sh", "-c", "exit 9"])
            .await;
        let wait = lab.engine.container_wait(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert_eq!(waited.expect("wait answers").unwrap().exit_code, 9);
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind, event.exit_code), (EventKind::Die, Some(9)));
        assert_eq!(event.container_id, id);
        lab.engine.container_remove(&id).await.unwrap();
        lab.engine.container_remove(&id).await.unwrap();
        assert_eq!(
            events.next().await.unwrap().unwrap().kind,
            EventKind::Destroy
        );
    }
    let missing = lab.engine.container_wait(&lab.name("none")).await.err();
    assert!(
        matches!(missing, Some(EngineError::NotFound { .. })),
        "{missing:?}"
    );
}

async fn stops_and_execs(lab: &Lab) {
    let cmd = [
        "sh",
        "-c",
        "trap 'exit 12' TERM; echo ready; while :; do sleep 0.1; done",
    ];
    let id = lab.create("stop", &cmd).await;
    let again = lab
        .engine
        .container_create(&lab.name("stop"), &lab.spec(&["sh"]))
        .await;
    assert!(
        matches!(again, Err(EngineError::Conflict { .. })),
        "{again:?}"
    );
    let mut attached = lab.engine.container_attach(&id).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    assert_eq!(
        attached
            .output
            .next()
            .await
            .unwrap()
            .unwrap()
            .bytes
            .as_ref(),
        b"ready\n"
    );
    let cat = ["cat".to_owned()];
    let mut exec = lab.engine.exec(&id, &cat, None).await.unwrap();
    exec.stdin.write_all(b"ping").await.unwrap();
    assert_eq!(
        exec.output.next().await.unwrap().unwrap().bytes.as_ref(),
        b"ping"
    );
    exec.stdin.shutdown().await.unwrap();
    assert!(exec.output.next().await.is_none());
    lab.engine.container_stop(&id, None).await.unwrap();
    let state = lab.engine.container_inspect(&id).await.unwrap().unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (ContainerStatus::Exited, 12)
    );
    let stopped = lab.engine.exec(&id, &cat, None).await.err();
    assert!(
        matches!(stopped, Some(EngineError::Conflict { .. })),
        "{stopped:?}"
    );
    let kill = lab.engine.container_kill(&id, "KILL").await;
    assert!(
        matches!(kill, Err(EngineError::Conflict { .. })),
        "{kill:?}"
    );
    lab.engine.container_remove(&id).await.unwrap();
    let mut bad = lab.spec(&["sh"]);
    bad.env.0.push((String::new(), "x".to_owned()));
    let bad = lab.engine.container_create(&lab.name("bad"), &bad).await;
    assert!(
        matches!(bad, Err(EngineError::BadRequest { .. })),
        "{bad:?}"
    );
}

async fn objects(lab: &Lab) {
    let name = lab.name("v");
    let volume = VolumeSpec {
        name: name.clone(),
        labels: lab.labels(),
        ..Default::default()
    };
    let (one, two) = tokio::join!(
        lab.engine.volume_create(&volume),
        lab.engine.volume_create(&volume)
    );
    assert_eq!(one.unwrap().labels, two.unwrap().labels);
    assert_eq!(
        lab.engine.volume_list(&lab.filter()).await.unwrap().len(),
        1
    );
    lab.engine.volume_remove(&name, true).await.unwrap();
    lab.engine.volume_remove(&name, true).await.unwrap();
    assert!(lab.engine.volume_inspect(&name).await.unwrap().is_none());
    let network = NetworkSpec {
        name: lab.name("n"),
        labels: lab.labels(),
        ..Default::default()
    };
    let id = lab.engine.network_create(&network).await.unwrap();
    let twice = lab.engine.network_create(&network).await;
    assert!(
        matches!(twice, Err(EngineError::Conflict { .. })),
        "{twice:?}"
    );
    assert_eq!(
        lab.engine.network_list(&lab.filter()).await.unwrap()[0].name,
        lab.name("n")
    );
    lab.engine.network_remove(&id).await.unwrap();
    lab.engine.network_remove(&id).await.unwrap();
    assert!(
        lab.engine
            .image_inspect("gantry.test/none:1")
            .await
            .unwrap()
            .is_none()
    );
}

/// One upload per mount, into the running container: the way that holds on Podman.
async fn uploads(lab: &Lab) {
    let volume = lab.name("mode");
    let spec = VolumeSpec {
        name: volume.clone(),
        labels: lab.labels(),
        ..Default::default()
    };
    lab.engine.volume_create(&spec).await.unwrap();
    let mut container = lab.spec(&["sh", "-c", "read x; stat -c '%a %u' /builds"]);
    container.host.binds.push(format!("{volume}:/builds"));
    let id = lab
        .engine
        .container_create(&lab.name("upload"), &container)
        .await
        .unwrap();
    let mut attached = lab.engine.container_attach(&id).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, "./", 0o777, None);
    let archive = Box::pin(std::io::Cursor::new(tar.into_inner().unwrap()));
    lab.engine
        .archive_put(&id, "/builds", archive)
        .await
        .unwrap();
    assert_eq!(
        lab.engine.archive_mode(&id, "/builds").await.unwrap(),
        Some(0o777)
    );
    assert_eq!(
        lab.engine.archive_mode(&id, "/builds/none").await.unwrap(),
        None
    );
    attached.stdin.write_all(b"go\n").await.unwrap();
    assert_eq!(read(attached.output).await.unwrap().0, b"777 33\n");
    lab.engine.container_remove(&id).await.unwrap();
    lab.engine.volume_remove(&volume, true).await.unwrap();
}
