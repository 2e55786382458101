use futures_util::StreamExt;
use gantry_engine::{
    Engine, EventKind,
    events::{EventHub, HubEvent},
};
use std::sync::Arc;

use crate::support::lab;

#[tokio::test]
async fn events_tell_the_end_of_labelled_containers() {
    lab("events", async |lab| {
        let mut events = lab.engine.events(&lab.filter()).await.unwrap();
        let mut other = lab.spec(&["true"]);
        other.labels.clear();
        let other = lab
            .engine
            .container_create(&lab.name("other"), &other)
            .await
            .unwrap();
        let id = lab.create("c", &["sh", "-c", "exit 21"]).await;
        for id in [&other, &id] {
            let wait = lab.engine.container_wait(id).await.unwrap();
            lab.engine.container_start(id).await.unwrap();
            wait.await.unwrap();
            lab.engine.container_remove(id).await.unwrap();
        }
        let die = events.next().await.unwrap().unwrap();
        assert_eq!((die.kind, die.exit_code), (EventKind::Die, Some(21)));
        assert_eq!(
            (die.container_id.as_str(), die.container_name),
            (&*id, lab.name("c"))
        );
        let destroy = events.next().await.unwrap().unwrap();
        assert_eq!(
            (destroy.kind, destroy.container_id),
            (EventKind::Destroy, id)
        );
    })
    .await;
}

#[tokio::test]
async fn the_hub_tells_an_out_of_memory_kill_before_the_end() {
    lab("hub", async |lab| {
        let hub = EventHub::new(Arc::new(lab.engine.clone()), lab.filter());
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
        let mut events = hub.subscribe(&id);
        hub.connected().await;
        lab.engine.container_start(&id).await.unwrap();
        assert_eq!(events.next().await, Some(HubEvent::Oom));
        loop {
            match events.next().await {
                Some(HubEvent::Oom) => {}
                last => {
                    assert!(
                        matches!(last, Some(HubEvent::Die { exit_code: Some(_) })),
                        "{last:?}"
                    );
                    break;
                }
            }
        }
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}
