use std::time::Duration;

use futures_util::StreamExt;
use gantry_container::{ContainerSpec, ContainerStatus, HostSpec, Labels, NetworkSpec, VolumeSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Engine, EngineError, EventKind, ListFilter, OutputStream, StdStream};

fn spec() -> ContainerSpec {
    let labels = Labels::from([("job".to_owned(), "1".to_owned())]);
    ContainerSpec {
        image: "alpine".to_owned(),
        interactive: true,
        labels,
        ..Default::default()
    }
}

fn engine() -> FakeEngine {
    let engine = FakeEngine::new();
    engine.add_image(FakeImage::new("alpine"));
    engine
}

async fn read(mut output: OutputStream) -> (Vec<u8>, Option<EngineError>) {
    let mut all = Vec::new();
    while let Some(item) = output.next().await {
        match item {
            Ok(chunk) => all.extend_from_slice(&chunk.bytes),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

fn echo() -> Program {
    Program::new(|mut run| async move {
        while let Some(bytes) = run.read_stdin_chunk().await {
            run.stdout(&bytes);
        }
        run.stderr(format!("run {}\n", run.number));
        i64::from(run.number)
    })
}

#[tokio::test]
async fn a_container_reads_its_script_and_can_be_started_again() {
    let engine = engine();
    engine.on_name("c", echo());
    let id = engine.container_create("c", &spec()).await.unwrap();
    for (script, code) in [("one", 1), ("two", 2)] {
        let mut attached = engine.container_attach(&id).await.unwrap();
        let wait = engine.container_wait(&id).await.unwrap();
        engine.container_start(&id).await.unwrap();
        attached.stdin.write_all(script.as_bytes()).await.unwrap();
        attached.stdin.shutdown().await.unwrap();
        let (output, error) = read(attached.output).await;
        assert_eq!(
            String::from_utf8(output).unwrap(),
            format!("{script}run {code}\n")
        );
        assert!(error.is_none());
        assert_eq!(wait.await.unwrap().exit_code, code);
    }
    let (log, _) = read(engine.container_logs("c", true).await.unwrap()).await;
    assert_eq!(log, b"onerun 1\ntworun 2\n");
    let view = engine.container("c").unwrap();
    assert_eq!((view.runs, view.state.exit_code), (2, 2));
    assert_eq!(view.stdout, b"onetwo");
    assert_eq!(view.stderr, b"run 1\nrun 2\n");
}

#[tokio::test]
async fn a_dropped_attach_closes_stdin_and_the_container_goes_on() {
    let engine = engine();
    engine.on_name("c", echo());
    let id = engine.container_create("c", &spec()).await.unwrap();
    let mut attached = engine.container_attach(&id).await.unwrap();
    engine.container_start(&id).await.unwrap();
    attached.stdin.write_all(b"half").await.unwrap();
    let wait = engine.container_wait(&id).await.unwrap();
    drop(attached);
    assert_eq!(wait.await.unwrap().exit_code, 1);
    let (log, _) = read(engine.container_logs("c", false).await.unwrap()).await;
    assert_eq!(log, b"halfrun 1\n");
}

#[tokio::test]
async fn a_container_started_without_attach_waits_for_a_late_one() {
    let engine = engine();
    engine.on_name("c", echo());
    let id = engine.container_create("c", &spec()).await.unwrap();
    engine.container_start(&id).await.unwrap();
    tokio::task::yield_now().await;
    let state = engine.container_inspect("c").await.unwrap().unwrap();
    assert_eq!(state.status, ContainerStatus::Running);
    let mut attached = engine.container_attach(&id).await.unwrap();
    attached.stdin.write_all(b"late").await.unwrap();
    attached.stdin.shutdown().await.unwrap();
    let (output, _) = read(attached.output).await;
    assert_eq!(output, b"laterun 1\n");
}

#[tokio::test(start_paused = true)]
async fn stop_kills_after_the_grace_what_ignores_term() {
    let engine = engine();
    engine.on_name("deaf", Program::deaf());
    engine.on_name("polite", Program::serve());
    for (name, grace, code, seconds) in [
        ("deaf", None, 137, 10),
        ("deaf2", Some(3), 137, 3),
        ("polite", None, 143, 0),
    ] {
        let id = engine.container_create(name, &spec()).await.unwrap();
        engine.container_start(&id).await.unwrap();
        let before = tokio::time::Instant::now();
        engine
            .container_stop(&id, grace.map(Duration::from_secs))
            .await
            .unwrap();
        assert_eq!(before.elapsed().as_secs(), seconds, "{name}");
        let state = engine.container_inspect(&id).await.unwrap().unwrap();
        assert_eq!(
            (state.status, state.exit_code),
            (ContainerStatus::Exited, code),
            "{name}"
        );
        engine.container_stop(&id, None).await.unwrap();
        assert!(matches!(
            engine.container_kill(&id, "KILL").await,
            Err(EngineError::Conflict { .. })
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn wait_means_the_next_exit_even_on_an_exited_container() {
    let engine = engine();
    let id = engine.container_create("c", &spec()).await.unwrap();
    engine.on_name("c", Program::steps(vec![Step::Exit(7)]));
    let first = engine.container_wait(&id).await.unwrap();
    engine.container_start(&id).await.unwrap();
    assert_eq!(first.await.unwrap().exit_code, 7);
    let mut second = engine.container_wait(&id).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_hours(1), &mut second)
            .await
            .is_err()
    );
    engine.container_start(&id).await.unwrap();
    assert_eq!(second.await.unwrap().exit_code, 7);
}

#[tokio::test]
async fn faults_strike_the_nth_call_and_effects_stay() {
    let engine = engine();
    engine.fault(Verb::ContainerCreate, 2, Fault::EffectThenLost);
    engine.fault_on(
        Verb::ContainerStart,
        "b",
        1,
        1,
        Fault::Error(EngineError::Setup("no".into())),
    );
    let a = engine.container_create("a", &spec()).await.unwrap();
    let lost = engine.container_create("b", &spec()).await.unwrap_err();
    assert!(lost.is_unreachable());
    let again = engine.container_create("b", &spec()).await.unwrap_err();
    assert!(matches!(again, EngineError::Conflict { .. }));
    engine.container_start(&a).await.unwrap();
    assert!(matches!(
        engine.container_start("b").await,
        Err(EngineError::Setup(_))
    ));
    engine.container_start("b").await.unwrap();
    let calls: Vec<String> = engine.calls().iter().map(ToString::to_string).collect();
    assert_eq!(
        calls,
        [
            "ContainerCreate a alpine",
            "ContainerCreate b alpine",
            "ContainerCreate b alpine",
            "ContainerStart a",
            "ContainerStart b",
            "ContainerStart b",
        ]
    );
}

#[tokio::test]
async fn cut_streams_break_after_so_many_bytes() {
    let engine = engine();
    engine.on_name("c", echo());
    engine.fault(Verb::ContainerAttach, 1, Fault::CutOutput(3));
    engine.fault(Verb::ContainerAttach, 2, Fault::CutStdin(2));
    engine.fault(Verb::ContainerLogs, 1, Fault::EndOutput(4));
    let id = engine.container_create("c", &spec()).await.unwrap();
    let mut attached = engine.container_attach(&id).await.unwrap();
    engine.container_start(&id).await.unwrap();
    attached.stdin.write_all(b"abcdef").await.unwrap();
    let (output, error) = read(attached.output).await;
    assert_eq!(output, b"abc");
    assert!(error.unwrap().is_unreachable());
    let (log, error) = read(engine.container_logs("c", true).await.unwrap()).await;
    assert_eq!(
        (log.as_slice(), error.is_none()),
        (b"abcd".as_slice(), true)
    );
    let mut attached = engine.container_attach(&id).await.unwrap();
    engine.container_start(&id).await.unwrap();
    attached.stdin.write_all(b"xyz").await.unwrap_err();
    let (_, error) = read(attached.output).await;
    assert!(error.unwrap().is_unreachable());
    let (log, _) = read(engine.container_logs("c", true).await.unwrap()).await;
    assert_eq!(log, b"abcdefrun 1\nxyrun 2\n");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_breaks_streams_and_loses_the_output_of_the_gap() {
    let engine = engine();
    let body = |name: &str, late: u64| {
        engine.on_name(
            name,
            Program::new(move |run| async move {
                run.stdout("before\n");
                tokio::time::sleep(Duration::from_secs(10)).await;
                run.stdout("while away\n");
                tokio::time::sleep(Duration::from_secs(late)).await;
                5
            }),
        );
    };
    body("ends", 10);
    body("lives", 100);
    for name in ["ends", "lives"] {
        engine.container_create(name, &spec()).await.unwrap();
        engine.container_start(name).await.unwrap();
    }
    let wait = engine.container_wait("ends").await.unwrap();
    let attached = engine.container_attach("lives").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    engine.go_down(Down::ContainersLive);
    assert!(wait.await.unwrap_err().is_unreachable());
    assert!(read(attached.output).await.1.unwrap().is_unreachable());
    assert!(engine.ping().await.unwrap_err().is_unreachable());
    tokio::time::sleep(Duration::from_mins(1)).await;
    engine.come_up();
    let state = engine.container_inspect("ends").await.unwrap().unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (ContainerStatus::Exited, 5)
    );
    let (log, _) = read(engine.container_logs("ends", true).await.unwrap()).await;
    assert_eq!(log, b"before\n");
    let (log, _) = read(engine.container_logs("lives", true).await.unwrap()).await;
    assert_eq!(log, b"before\nwhile away\n");
}

#[tokio::test]
async fn events_carry_the_labelled_containers_only() {
    let engine = engine();
    engine.on_name("c", Program::steps(vec![Step::OomKill, Step::Exit(137)]));
    let filter = ListFilter {
        labels: Labels::from([("job".to_owned(), "1".to_owned())]),
        name: None,
    };
    let mut events = engine.events(&filter).await.unwrap();
    let other = ContainerSpec {
        labels: Labels::new(),
        ..spec()
    };
    for (name, spec) in [("other-c", other), ("c", spec())] {
        engine.container_create(name, &spec).await.unwrap();
        let wait = engine.container_wait(name).await.unwrap();
        engine.container_start(name).await.unwrap();
        wait.await.unwrap();
    }
    engine.container_remove("c").await.unwrap();
    for kind in [EventKind::Oom, EventKind::Die, EventKind::Destroy] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind, event.container_name.as_str()), (kind, "c"));
    }
    engine.fault(Verb::Events, 1, Fault::CutOutput(0));
    let mut cut = engine.events(&filter).await.unwrap();
    assert!(cut.next().await.unwrap().unwrap_err().is_unreachable());
    assert!(cut.next().await.is_none());
    assert!(cut.next().await.is_none());
}

#[tokio::test]
async fn uploads_reach_volumes_and_modes_are_read_back() {
    let engine = engine();
    let labels = Labels::from([("job".to_owned(), "1".to_owned())]);
    let volume = VolumeSpec {
        name: "v".to_owned(),
        labels: labels.clone(),
        ..Default::default()
    };
    engine.volume_create(&volume).await.unwrap();
    let host = HostSpec {
        binds: vec!["v:/builds".to_owned()],
        ..Default::default()
    };
    engine
        .container_create("c", &ContainerSpec { host, ..spec() })
        .await
        .unwrap();
    assert_eq!(
        engine.archive_mode("c", "/builds").await.unwrap(),
        Some(0o755)
    );
    assert_eq!(
        engine.archive_mode("c", "/builds/complete").await.unwrap(),
        None
    );
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o777);
    header.set_uid(33);
    header.set_gid(33);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, "builds/", std::io::empty())
        .unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(2);
    header.set_mode(0o600);
    tar.append_data(&mut header, "builds/complete", b"ok".as_slice())
        .unwrap();
    let bytes = tar.into_inner().unwrap();
    engine
        .archive_put("c", "/", Box::pin(std::io::Cursor::new(bytes.clone())))
        .await
        .unwrap();
    assert_eq!(
        engine.archive_mode("c", "/builds").await.unwrap(),
        Some(0o777)
    );
    assert_eq!(
        engine.archive_mode("c", "/builds/complete").await.unwrap(),
        Some(0o600)
    );
    assert_eq!(
        engine
            .volume_entry("v", "complete")
            .unwrap()
            .content
            .as_ref(),
        b"ok"
    );
    assert_eq!(engine.uploads()[0].entries.len(), 2);
    let cut = bytes[..900].to_vec();
    assert!(
        engine
            .archive_put("c", "/", Box::pin(std::io::Cursor::new(cut)))
            .await
            .is_err()
    );
    assert!(matches!(
        engine.volume_remove("v", true).await,
        Err(EngineError::Conflict { .. })
    ));
    assert_eq!(
        engine.left(&ListFilter { labels, name: None }),
        ["container c", "volume v"]
    );
    engine.container_remove("c").await.unwrap();
    engine.volume_remove("v", true).await.unwrap();
    engine.assert_nothing_left(&ListFilter::default());
}

#[tokio::test]
async fn an_exec_is_a_byte_stream_that_ends_with_its_container() {
    let engine = engine();
    engine.on_name("h", Program::deaf());
    engine.on_exec(
        "h",
        ExecHandler::new(|run| async move {
            let (mut input, mut output) = run.into_io();
            let mut buffer = [0; 4];
            while input.read_exact(&mut buffer).await.is_ok() {
                output.write_all(&buffer).await.unwrap();
            }
            0
        }),
    );
    let not_running = engine.container_create("h", &spec()).await.unwrap();
    assert!(matches!(
        engine.exec(&not_running, &[], None).await,
        Err(EngineError::Conflict { .. })
    ));
    engine.container_start("h").await.unwrap();
    let mut exec = engine
        .exec("h", &["connect".to_owned()], None)
        .await
        .unwrap();
    exec.stdin.write_all(b"ping").await.unwrap();
    let answer = exec.output.next().await.unwrap().unwrap();
    assert_eq!(
        (answer.stream, answer.bytes.as_ref()),
        (StdStream::Stdout, b"ping".as_slice())
    );
    assert_eq!(engine.exec_exit_code(&exec.id).await.unwrap(), None);
    engine.container_kill("h", "KILL").await.unwrap();
    assert!(exec.output.next().await.is_none());
    while engine.exec_exit_code(&exec.id).await.unwrap().is_none() {}
    assert_eq!(engine.exec_exit_code(&exec.id).await.unwrap(), Some(137));
}

#[tokio::test]
async fn networks_share_names_and_live_ones_stay() {
    let engine = engine();
    let network = NetworkSpec {
        name: "n".to_owned(),
        ..Default::default()
    };
    let one = engine.network_create(&network).await.unwrap();
    let two = engine.network_create(&network).await.unwrap();
    assert_ne!(one, two);
    engine.network_remove(&two).await.unwrap();
    engine.on_name("c", Program::deaf());
    let host = HostSpec {
        network_mode: "n".to_owned(),
        ..Default::default()
    };
    engine
        .container_create("c", &ContainerSpec { host, ..spec() })
        .await
        .unwrap();
    engine.container_start("c").await.unwrap();
    let state = engine.container_inspect("c").await.unwrap().unwrap();
    assert_eq!(state.addresses["n"].len(), 1);
    let found = engine.network_inspect(&one).await.unwrap().unwrap();
    assert_eq!(found.containers.values().collect::<Vec<_>>(), ["c"]);
    assert!(engine.network_remove(&one).await.is_err());
    engine.container_remove("c").await.unwrap();
    engine.network_remove(&one).await.unwrap();
    assert!(engine.network_inspect("n").await.unwrap().is_none());
}

#[tokio::test]
async fn pulls_come_from_the_registry_with_the_right_credentials() {
    let engine = FakeEngine::new();
    engine.add_registry_image(FakeImage::new("r.test/app:1").requiring("u", "p"));
    let quiet = |_| {};
    let missing = engine
        .image_pull("nope", None, None, &quiet)
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("pull access denied for nope"));
    let refused = engine
        .image_pull("r.test/app:1", None, None, &quiet)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no basic auth credentials"));
    let auth = crate::RegistryAuth {
        username: "u".to_owned(),
        password: "p".to_owned(),
        server_address: "r.test".to_owned(),
    };
    engine
        .image_pull("r.test/app:1", None, Some(&auth), &quiet)
        .await
        .unwrap();
    assert!(
        engine
            .image_inspect("r.test/app:1")
            .await
            .unwrap()
            .is_some()
    );
    assert!(engine.image_inspect("r.test/app").await.unwrap().is_none());
}
