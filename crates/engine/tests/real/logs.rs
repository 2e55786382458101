use std::collections::BTreeMap;

use futures_util::StreamExt;
use gantry_container::LogSpec;
use gantry_engine::{Engine, EngineError, LOG_PIECE};

use crate::support::{assert_same, hostile_bytes, lab, read};

#[tokio::test]
async fn the_log_replays_what_attach_delivered() {
    lab("replay", async |lab| {
        for seed in 0..6 {
            let mut bytes = hostile_bytes(seed, 25);
            bytes.extend_from_slice(if seed % 2 == 0 { b"end\n" } else { b"end" });
            let part = format!("c{seed}");
            let cmd: &[&str] = if seed < 4 {
                &["cat"]
            } else {
                &["sh", "-c", "cat >&2"]
            };
            let id = lab.create(&part, cmd).await;
            let ran = lab.run(&id, &bytes).await;
            for follow in [false, true] {
                let log = lab.engine.container_logs(&id, follow).await.unwrap();
                let (stdout, stderr) = read(log).await.unwrap();
                assert_same(&stdout, &ran.stdout);
                assert_same(&stderr, &ran.stderr);
            }
            assert_eq!(ran.stdout.len() + ran.stderr.len(), bytes.len());
            lab.engine.container_remove(&id).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_log_keeps_all_runs_of_a_container_apart_as_written() {
    lab("runs", async |lab| {
        let id = lab.create("c", &["cat"]).await;
        let long = vec![b'x'; 16_384];
        let mut written = Vec::new();
        for script in [&b"one without newline"[..], b"two\n", &long, b"\n", b"end"] {
            let ran = lab.run(&id, script).await;
            assert_same(&ran.stdout, script);
            written.extend_from_slice(script);
        }
        let (stdout, _) = read(lab.engine.container_logs(&id, true).await.unwrap())
            .await
            .unwrap();
        // A run that ended in a long line looks as if it had a newline (see the repair rule): the one byte known to differ.
        let cut = b"one without newlinetwo\n".len() + long.len();
        let expected = [&written[..cut], b"\n", &written[cut..]].concat();
        assert_same(&stdout, &expected);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_entries_of_a_log_have_their_times_and_long_lines_are_in_pieces() {
    lab("entries", async |lab| {
        let id = lab.create("c", &["cat"]).await;
        let long = "x".repeat(LOG_PIECE + 5);
        lab.run(&id, format!("one\n{long}\nend").as_bytes()).await;
        let log = lab.engine.container_log_entries(&id, false).await.unwrap();
        let entries: Vec<_> = log.map(Result::unwrap).collect().await;
        let texts: Vec<String> = entries
            .iter()
            .map(|entry| {
                let text = String::from_utf8(entry.bytes.to_vec()).unwrap();
                let (time, text) = text.split_once(' ').unwrap();
                assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
                text.to_owned()
            })
            .collect();
        assert_eq!(texts.len(), 4, "{texts:?}");
        assert_eq!(
            [&texts[0], &texts[1], &texts[3]],
            ["one\n", &long[..LOG_PIECE], "end"]
        );
        // The driver `local` loses the line break of a last piece.
        assert_eq!(texts[2].trim_end(), "xxxxx");
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn following_a_log_goes_on_until_the_container_ends() {
    lab("follow", async |lab| {
        let id = lab
            .create("c", &["sh", "-c", "echo a; read x; echo b >&2; exit 1"])
            .await;
        let attached = lab.engine.container_attach(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let mut log = lab.engine.container_logs(&id, true).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap().bytes.as_ref(), b"a\n");
        let mut stdin = attached.stdin;
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"x\n")
            .await
            .unwrap();
        assert_eq!(log.next().await.unwrap().unwrap().bytes.as_ref(), b"b\n");
        assert!(log.next().await.is_none());
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_silent_containers_log_opens_at_once_and_a_missing_one_is_an_error() {
    lab("silent", async |lab| {
        let id = lab.create("c", &["sh", "-c", "read x; echo $x"]).await;
        let mut attached = lab.engine.container_attach(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let log = lab.engine.container_logs(&id, true).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut attached.stdin, b"late\n")
            .await
            .unwrap();
        assert_eq!(read(log).await.unwrap().0, b"late\n");
        let missing = lab.engine.container_logs(&lab.name("none"), true).await;
        assert!(matches!(missing.err(), Some(EngineError::NotFound { .. })));
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_json_log_is_taken_as_it_is() {
    lab("json", async |lab| {
        let mut spec = lab.spec(&["cat"]);
        spec.host.log = Some(LogSpec {
            driver: "json-file".to_owned(),
            options: BTreeMap::new(),
        });
        let id = lab
            .engine
            .container_create(&lab.name("c"), &spec)
            .await
            .unwrap();
        let text = [&vec![b'y'; 40_000][..], b"\nshort\n", &[b'z'; 20_000]].concat();
        let ran = lab.run(&id, &text).await;
        assert_same(&ran.stdout, &text);
        let (stdout, _) = read(lab.engine.container_logs(&id, true).await.unwrap())
            .await
            .unwrap();
        assert_same(&stdout, &text);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}
