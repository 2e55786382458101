use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use gantry_engine::{
    Endpoint, Engine, EngineError, HttpEngine, Timeouts,
    events::{EventHub, HubEvent},
};
use tokio::io::AsyncWriteExt;

use crate::{
    proxy::Proxy,
    support::{connect, lab, skip, socket},
};

#[tokio::test]
async fn the_negotiated_version_is_in_every_path_and_connections_are_kept() {
    let Some(socket) = socket() else {
        return skip("wire", "no unix socket to test");
    };
    let proxy = Proxy::new(&socket);
    let engine = connect(&proxy.host());
    let version = engine.facts().await.unwrap().api_version;
    for _ in 0..20 {
        engine
            .container_inspect("gantry-engine-none")
            .await
            .unwrap();
    }
    let lines = proxy.request_lines();
    assert_eq!(lines[0], "GET /_ping HTTP/1.1");
    assert_eq!(lines.len(), 23, "{lines:?}");
    for line in &lines[1..] {
        assert!(line.contains(&format!(" /v{version}/")), "{line}");
    }
    assert!(
        proxy.connections() <= 2,
        "{} connections",
        proxy.connections()
    );
}

#[tokio::test]
async fn a_pinned_version_is_sent_and_one_that_is_too_old_is_refused() {
    let Some(socket) = socket() else {
        return skip("pin", "no unix socket to test");
    };
    let proxy = Proxy::new(&socket);
    let pinned = |version: &'static str| {
        Endpoint::resolve(&proxy.host(), false, "", move |name| {
            (name == "DOCKER_API_VERSION").then(|| version.to_owned())
        })
        .unwrap()
    };
    let engine = HttpEngine::connect(pinned("1.40")).await.unwrap();
    engine
        .container_inspect("gantry-engine-none")
        .await
        .unwrap();
    assert!(proxy.request_lines()[1].starts_with("GET /v1.40/containers/"));
    let old = HttpEngine::new(pinned("1.39")).unwrap_err().to_string();
    assert_eq!(
        old,
        "API version 1.39 is not supported by this client: the minimum supported API version is 1.40"
    );
    let newer = HttpEngine::new(pinned("1.99")).unwrap();
    let refused = newer
        .container_inspect("gantry-engine-none")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("1.99 is too new"), "{refused}");
}

#[tokio::test]
async fn an_engine_that_hangs_gives_a_time_out() {
    let Some(socket) = socket() else {
        return skip("hang", "no unix socket to test");
    };
    let proxy = Proxy::new(&socket);
    let endpoint = Endpoint::resolve(&proxy.host(), false, "", |_| None).unwrap();
    let timeouts = Timeouts {
        answer: Duration::from_secs(1),
        ..Default::default()
    };
    let engine = HttpEngine::with_timeouts(endpoint, timeouts).unwrap();
    engine.ping().await.unwrap();
    engine.facts().await.unwrap();
    proxy.hang(true);
    let inspect = engine.container_inspect("gantry-engine-none").await;
    assert!(
        matches!(inspect, Err(EngineError::TimedOut { seconds: 1, .. })),
        "{inspect:?}"
    );
    let attach = engine.container_attach("gantry-engine-none").await.err();
    assert!(
        matches!(attach, Some(EngineError::TimedOut { .. })),
        "{attach:?}"
    );
    let ping = engine.ping().await.unwrap_err();
    assert_eq!(ping.to_string(), "ping: no answer of the engine within 1 s");
    // A call that was given up holds no connection.
    proxy.until_open(0).await;
    proxy.hang(false);
    engine.ping().await.unwrap();
    assert_eq!(
        engine
            .container_inspect("gantry-engine-none")
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable_and_named() {
    let engine = connect("unix:///nonexistent/engine.sock");
    let error = engine.container_inspect("x").await.unwrap_err();
    assert!(error.is_unreachable());
    let text = error.to_string();
    assert!(
        text.starts_with(
            "inspect container x: the engine at unix:///nonexistent/engine.sock cannot be reached: "
        ),
        "{text}"
    );
    let refused = connect("tcp://127.0.0.1:1").ping().await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused}");
}

#[tokio::test]
async fn cut_streams_are_errors_and_the_container_goes_on() {
    let Some(socket) = socket() else {
        return skip("cut", "no unix socket to test");
    };
    lab("cut", async move |lab| {
        let proxy = Proxy::new(&socket);
        let engine = connect(&proxy.host());
        engine.ping().await.unwrap();
        let id = lab
            .create(
                "c",
                &[
                    "sh",
                    "-c",
                    "read x; printf '%s' $x; read y; echo over; exit 3",
                ],
            )
            .await;
        let mut attached = engine.container_attach(&id).await.unwrap();
        let wait = engine.container_wait(&id).await.unwrap();
        engine.container_start(&id).await.unwrap();
        let mut log = engine.container_logs(&id, true).await.unwrap();
        attached.stdin.write_all(b"line\n").await.unwrap();
        assert_eq!(
            attached
                .output
                .next()
                .await
                .unwrap()
                .unwrap()
                .bytes
                .as_ref(),
            b"line"
        );
        proxy.cut_all();
        // An attach that ends between two frames looks like any end: only inspect tells. The others are errors.
        assert!(wait.await.unwrap_err().is_unreachable());
        let cut = log.next().await.unwrap();
        assert!(
            cut.as_ref().is_err_and(EngineError::is_unreachable),
            "{cut:?}"
        );
        assert!(log.next().await.is_none());
        drop(attached);
        let state = loop {
            let state = engine.container_inspect(&id).await.unwrap().unwrap();
            if state.status == gantry_container::ContainerStatus::Exited {
                break state;
            }
        };
        assert_eq!(state.exit_code, 3);
        engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_attach_cut_inside_a_frame_and_an_answer_cut_short_are_errors() {
    let Some(socket) = socket() else {
        return skip("inside", "no unix socket to test");
    };
    lab("inside", async move |lab| {
        let proxy = Proxy::new(&socket);
        let engine = connect(&proxy.host());
        engine.ping().await.unwrap();
        let id = lab
            .create("c", &["sh", "-c", "head -c 5000 /dev/zero; sleep 60"])
            .await;
        proxy.cut_after(1000);
        let mut attached = engine.container_attach(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let mut seen = 0;
        let error = loop {
            match attached.output.next().await.unwrap() {
                Ok(chunk) => seen += chunk.bytes.len(),
                Err(error) => break error,
            }
        };
        assert!(seen > 0 && seen < 1000);
        assert!(error.is_unreachable(), "{error}");
        proxy.cut_after(400);
        let inspect = engine.container_inspect(&id).await.unwrap_err();
        assert!(inspect.is_unreachable(), "{inspect}");
        proxy.cut_after(usize::MAX);
        engine.container_inspect(&id).await.unwrap().unwrap();
        engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_hub_reconnects_and_tells_its_subscribers() {
    let Some(socket) = socket() else {
        return skip("reconnect", "no unix socket to test");
    };
    lab("reconnect", async move |lab| {
        let proxy = Proxy::new(&socket);
        let hub = EventHub::new(Arc::new(connect(&proxy.host())), lab.filter());
        let id = lab.create("c", &["sh", "-c", "exit 5"]).await;
        let mut events = hub.subscribe(&id);
        hub.connected().await;
        proxy.cut_all();
        assert_eq!(events.next().await, Some(HubEvent::Reconnected));
        lab.engine.container_start(&id).await.unwrap();
        assert_eq!(
            events.next().await,
            Some(HubEvent::Die { exit_code: Some(5) })
        );
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropped_streams_close_their_connections() {
    let Some(socket) = socket() else {
        return skip("dropped", "no unix socket to test");
    };
    lab("dropped", async move |lab| {
        let proxy = Proxy::new(&socket);
        let engine = connect(&proxy.host());
        engine.ping().await.unwrap();
        let id = lab.create("c", &["sh", "-c", "echo x; sleep 60"]).await;
        let attached = engine.container_attach(&id).await.unwrap();
        let wait = engine.container_wait(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let mut log = engine.container_logs(&id, true).await.unwrap();
        log.next().await.unwrap().unwrap();
        let events = engine.events(&lab.filter()).await.unwrap();
        let exec = engine.exec(&id, &["cat".to_owned()], None).await.unwrap();
        drop((attached, wait, log, events, exec));
        // One is kept for the next call.
        proxy.until_open(1).await;
        engine.container_remove(&id).await.unwrap();
    })
    .await;
}
