use std::time::{Duration, Instant};

use gantry_container::{ContainerStatus, EngineFlavor};
use gantry_engine::{Engine, EngineError};

use crate::support::lab;

#[tokio::test]
async fn facts_name_the_engine() {
    lab("facts", async |lab| {
        let facts = lab.engine.facts().await.unwrap();
        assert_eq!(facts.flavor, EngineFlavor::Docker);
        assert_eq!(facts.os, "linux");
        let numbers = [&facts.version, &facts.api_version];
        assert!(
            numbers
                .iter()
                .all(|n| n.starts_with(|c: char| c.is_ascii_digit())),
            "{facts:?}"
        );
        assert!(
            !facts.architecture.is_empty() && !facts.host_name.is_empty(),
            "{facts:?}"
        );
        lab.engine.ping().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_container_that_ends_at_once_is_not_missed() {
    lab("race", async |lab| {
        for turn in 0..10 {
            let id = lab
                .create(&format!("c{turn}"), &["sh", "-c", "exit 9"])
                .await;
            let wait = lab.engine.container_wait(&id).await.unwrap();
            lab.engine.container_start(&id).await.unwrap();
            let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
            assert_eq!(waited.expect("wait answers").unwrap().exit_code, 9);
            lab.engine.container_remove(&id).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn inspect_tells_the_life_of_a_container() {
    lab("life", async |lab| {
        let mut spec = lab.spec(&["sh"]);
        spec.hostname = Some("box".to_owned());
        spec.user = Some("33".to_owned());
        spec.working_dir = Some("/tmp".to_owned());
        spec.env.0.push(("A".to_owned(), "b=c".to_owned()));
        spec.host.memory = 64 * 1024 * 1024;
        spec.host.shm_size = 1024 * 1024;
        spec.host.extra_hosts.push("db:10.0.0.1".to_owned());
        let name = lab.name("c");
        let id = lab.engine.container_create(&name, &spec).await.unwrap();
        let created = lab.engine.container_inspect(&name).await.unwrap().unwrap();
        assert_eq!(
            (created.status, created.name.as_str()),
            (ContainerStatus::Created, &*name)
        );
        assert_eq!(created.id, id);
        assert!(lab.labelled(&created.labels));
        assert!(created.env.contains(&"A=b=c".to_owned()));
        let script = b"hostname; id -u; pwd; echo $A; cat /etc/hosts | grep db; exit 300\n";
        let ran = lab.run(&id, script).await;
        let text = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(
            text,
            "box\n33\n/tmp\nb=c\n10.0.0.1\tdb\n",
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        assert_eq!(ran.exit_code, 300 % 256);
        let ended = lab.engine.container_inspect(&id).await.unwrap().unwrap();
        assert_eq!(
            (ended.status, ended.exit_code),
            (ContainerStatus::Exited, 44)
        );
        assert!(ended.started_at > created.started_at && ended.finished_at >= ended.started_at);
        lab.engine.container_remove(&id).await.unwrap();
        assert_eq!(lab.engine.container_inspect(&id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn errors_are_told_apart_by_what_can_be_done() {
    lab("errors", async |lab| {
        let missing = lab.name("missing");
        let start = lab.engine.container_start(&missing).await;
        assert!(
            matches!(start, Err(EngineError::NotFound { .. })),
            "{start:?}"
        );
        let wait = lab.engine.container_wait(&missing).await.err();
        assert!(
            matches!(wait, Some(EngineError::NotFound { .. })),
            "{wait:?}"
        );
        let attach = lab.engine.container_attach(&missing).await.err();
        assert!(
            matches!(attach, Some(EngineError::NotFound { .. })),
            "{attach:?}"
        );
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        let twice = lab
            .engine
            .container_create(&lab.name("c"), &lab.spec(&["sh"]))
            .await;
        assert!(
            matches!(twice, Err(EngineError::Conflict { .. })),
            "{twice:?}"
        );
        let mut bad = lab.spec(&["sh"]);
        bad.env.0.push((String::new(), "x".to_owned()));
        let bad = lab
            .engine
            .container_create(&lab.name("bad"), &bad)
            .await
            .unwrap_err();
        assert!(matches!(bad, EngineError::BadRequest { .. }), "{bad:?}");
        assert!(
            bad.to_string().contains("invalid environment variable"),
            "{bad}"
        );
        let mut no_image = lab.spec(&["sh"]);
        no_image.image = "gantry.test/none:1".to_owned();
        let no_image = lab
            .engine
            .container_create(&lab.name("none"), &no_image)
            .await;
        assert!(
            matches!(no_image, Err(EngineError::NotFound { .. })),
            "{no_image:?}"
        );
        let kill = lab.engine.container_kill(&id, "KILL").await;
        assert!(
            matches!(kill, Err(EngineError::Conflict { .. })),
            "{kill:?}"
        );
        assert!(
            lab.engine
                .image_inspect("gantry.test/none:1")
                .await
                .unwrap()
                .is_none()
        );
        for bad in ["", "../info", "a//b", "/x"] {
            assert!(lab.engine.image_inspect(bad).await.is_err(), "{bad:?}");
        }
        // Repeated calls are fine.
        lab.engine.container_start(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        lab.engine.container_kill(&id, "KILL").await.unwrap();
        lab.engine.container_stop(&id, None).await.unwrap();
        lab.engine.container_stop(&missing, None).await.unwrap();
        lab.engine.container_remove(&id).await.unwrap();
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn stop_keeps_the_grace_and_gives_the_exit_code_of_the_signal() {
    lab("stop", async |lab| {
        let polite = lab
            .create(
                "polite",
                &[
                    "sh",
                    "-c",
                    "trap 'exit 12' TERM; while :; do sleep 0.1; done",
                ],
            )
            .await;
        let deaf = lab
            .create(
                "deaf",
                &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
            )
            .await;
        for (id, grace, code) in [
            (&polite, None, 12),
            (&deaf, Some(Duration::from_secs(1)), 137),
        ] {
            lab.engine.container_start(id).await.unwrap();
            // Let the shell set its trap.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = Instant::now();
            lab.engine.container_stop(id, grace).await.unwrap();
            assert!(before.elapsed() < Duration::from_secs(8));
            let state = lab.engine.container_inspect(id).await.unwrap().unwrap();
            assert_eq!(state.exit_code, code);
            lab.engine.container_remove(id).await.unwrap();
        }
    })
    .await;
}

/// Several kills: the engine forgets about one in thirty (cgroup v1).
#[tokio::test]
async fn a_killed_for_memory_container_says_so() {
    lab("oom", async |lab| {
        let mut spec = lab.spec(&[
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6; do dd if=/dev/zero of=/dev/shm/x bs=1M count=64; sleep 0.1; done; exit 0",
        ]);
        spec.host.memory = 16 * 1024 * 1024;
        spec.host.shm_size = 128 * 1024 * 1024;
        let id = lab
            .engine
            .container_create(&lab.name("c"), &spec)
            .await
            .unwrap();
        let wait = lab.engine.container_wait(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        wait.await.unwrap();
        let state = lab.engine.container_inspect(&id).await.unwrap().unwrap();
        assert!(state.oom_killed, "{state:?}");
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn listings_find_stopped_containers_by_label() {
    lab("list", async |lab| {
        let (a, b) = (
            lab.create("a", &["true"]).await,
            lab.create("b", &["true"]).await,
        );
        lab.run(&a, b"").await;
        let mut found = lab.engine.container_list(&lab.filter()).await.unwrap();
        found.sort_by(|x, y| x.name.cmp(&y.name));
        let seen: Vec<_> = found
            .iter()
            .map(|c| (c.id.as_str(), c.state.as_str()))
            .collect();
        assert_eq!(seen, [(a.as_str(), "exited"), (b.as_str(), "created")]);
        assert!(
            found
                .iter()
                .all(|c| c.created > 1_600_000_000 && lab.labelled(&c.labels))
        );
        assert_eq!(found[0].name, lab.name("a"));
        for id in [a, b] {
            lab.engine.container_remove(&id).await.unwrap();
        }
    })
    .await;
}
