use std::sync::{Arc, Mutex};

use gantry_container::VolumeSpec;
use tokio::{task::JoinSet, time::Instant};

use super::stub::{Say, Stub};
use crate::{Engine, EngineError};

#[tokio::test(start_paused = true)]
async fn few_things_are_made_at_once_but_calls_that_hang_hold_nobody_up() {
    let start = Instant::now();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let stub = Stub::docker(move |line| {
        if line.contains("/volumes/create") {
            noted.lock().unwrap().push(start.elapsed().as_secs());
        }
        Say::Nothing
    });
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let engine = stub.engine.clone();
        calls.spawn(async move {
            let spec = VolumeSpec {
                name: format!("volume-{number}"),
                ..VolumeSpec::default()
            };
            engine.volume_create(&spec).await
        });
    }
    while let Some(answer) = calls.join_next().await {
        let error = answer.unwrap().unwrap_err();
        assert!(matches!(error, EngineError::TimedOut { .. }), "{error}");
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..12], [0; 12]);
    assert_eq!(asked[12..], [2; 8]);
}
