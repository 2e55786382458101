use std::{sync::Mutex, time::Duration};

use futures_util::StreamExt;
use rstest::rstest;

use super::stub::{Say, Stub, chunks, hijacked, json, text};
use crate::{
    Engine, EngineError, EventKind, ListFilter, PullProgress, RegistryAuth, StdStream,
    http::frames::frame,
};

#[rstest]
#[case("Api-Version: 1.41\r\n", "application/vnd.docker.raw-stream", true)]
#[case(
    "Api-Version: 1.42\r\n",
    "application/vnd.docker.multiplexed-stream",
    true
)]
#[case("Api-Version: 1.42\r\n", "application/vnd.docker.raw-stream", false)]
#[tokio::test]
async fn attach_tells_framed_from_raw_by_version_and_content_type(
    #[case] ping: &'static str,
    #[case] kind: &'static str,
    #[case] framed: bool,
) {
    let bytes = frame(StdStream::Stderr, b"\x01AAAAAAAA");
    let output = bytes.clone();
    let stub = Stub::with(ping, move |_| hijacked(kind, &output));
    let attached = stub.engine.container_attach("x").await.unwrap();
    let (seen, error) = text(attached.output).await;
    let expected = if framed {
        "2\u{1}AAAAAAAA".to_owned()
    } else {
        format!("1{}", String::from_utf8_lossy(&bytes))
    };
    assert_eq!((seen, error.is_none()), (expected, true));
    let headers = stub.last().headers.to_ascii_lowercase();
    assert!(headers.contains("upgrade: tcp") && headers.contains("connection: upgrade"));
}

#[tokio::test]
async fn a_hijacked_stream_that_is_garbage_or_cut_is_an_error_after_its_good_part() {
    let good = frame(StdStream::Stdout, b"good");
    let garbage = [&good[..], b"HTTP/1.1 500 oops"].concat();
    let cut = [&good[..], &frame(StdStream::Stdout, b"lost")[..10]].concat();
    for (bytes, message) in [(garbage, "no frame header"), (cut, "ended inside a frame")] {
        let stub = Stub::docker(move |_| hijacked("application/vnd.docker.raw-stream", &bytes));
        let attached = stub.engine.container_attach("x").await.unwrap();
        let (seen, error) = text(attached.output).await;
        let error = error.unwrap();
        assert!(seen.starts_with("1good"), "{seen}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.is_unreachable(), message.contains("ended"));
    }
}

#[tokio::test]
async fn an_attach_that_is_no_hijack_is_an_error() {
    let stub = Stub::docker(|_| json(200, "{}"));
    let error = stub.engine.container_attach("x").await.err().unwrap();
    assert!(
        error.to_string().contains("status 200 in place of 101"),
        "{error}"
    );
    let stub = Stub::docker(|_| json(404, r#"{"message":"No such container: x"}"#));
    assert!(
        stub.engine
            .container_attach("x")
            .await
            .err()
            .unwrap()
            .is_not_found()
    );
}

#[rstest]
#[case(&[r#"{"StatusCode":3,"Error":null}"#], true, Ok(3))]
#[case(&[r#"{"Status"#, r#"Code":4}"#], true, Ok(4))]
#[case(&[r#"{"StatusCode":-1,"Error":{"Message":"x is gone"}}"#], true, Err("x is gone"))]
#[case(&[r#"{}"#], true, Err("no exit code"))]
#[case(&[], true, Err("the answer is empty"))]
#[case(&[r#"{"StatusCode":0"#], false, Err("cannot be reached"))]
#[tokio::test]
async fn wait_is_a_result_only_when_the_answer_is_whole(
    #[case] pieces: &'static [&'static str],
    #[case] whole: bool,
    #[case] expected: Result<i64, &str>,
) {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    let stub = Stub::docker(move |_| chunks(&pieces, whole));
    let waited = stub.engine.container_wait("x").await.unwrap().await;
    assert!(stub.last().line.contains("/wait?condition=next-exit "));
    match (waited, expected) {
        (Ok(result), Ok(code)) => assert_eq!(result.exit_code, code),
        (Err(error), Err(message)) => assert!(error.to_string().contains(message), "{error}"),
        (seen, _) => panic!("{seen:?}"),
    }
}

fn inspected(status: &str, started: &str, code: i64) -> Say {
    json(
        200,
        &format!(
            r#"{{"Id":"i","Name":"x","State":{{"Status":"{status}","ExitCode":{code},"StartedAt":"{started}"}}}}"#
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn podmans_wait_looks_at_the_state_when_the_request_says_nothing() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::podman(move |line| {
        if line.contains("/wait?") {
            return Say::Nothing;
        }
        match looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            // Before the start, and an exit of the run before is none of ours.
            0 | 1 => inspected("exited", "t0", 1),
            2 => inspected("running", "t1", 0),
            _ => inspected("stopped", "t1", 6),
        }
    });
    let wait = stub.engine.container_wait("x").await.unwrap();
    assert_eq!(wait.await.unwrap().exit_code, 6);
}

#[tokio::test(start_paused = true)]
async fn podman_attaches_only_when_the_run_before_is_cleaned_up_and_always_sends_a_grace() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::podman(move |line| {
        if line.contains("/attach") {
            return hijacked("x", b"");
        }
        if line.contains("/stop") {
            return json(204, "");
        }
        match looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..3 => inspected("stopped", "t0", 1),
            _ => inspected("exited", "t0", 1),
        }
    });
    stub.engine.container_attach("x").await.unwrap();
    let looked = stub
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|seen| seen.line.contains("/json"))
        .count();
    assert_eq!(looked, 4);
    stub.engine.container_stop("x", None).await.unwrap();
    assert!(stub.last().line.contains("/stop?t=10 "));
    stub.engine
        .container_stop("x", Some(Duration::from_millis(1500)))
        .await
        .unwrap();
    assert!(stub.last().line.contains("/stop?t=2 "));
}

#[tokio::test]
async fn a_pull_is_over_at_the_end_of_its_stream_and_fails_by_any_line() {
    let lines: &[&[u8]] = &[
        b"{\"status\":\"Pulling from a\",\"id\":\"1\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":9},\"id\":\"l\"}\r\n{\"sta",
        b"tus\":\"Done\"}",
    ];
    let stub = Stub::docker(move |_| chunks(lines, true));
    let seen = Mutex::new(Vec::new());
    let auth = RegistryAuth {
        username: "u".to_owned(),
        password: "p".to_owned(),
        server_address: "r.io".to_owned(),
    };
    let progress = |line: PullProgress| seen.lock().unwrap().push(line);
    stub.engine
        .image_pull(
            "r.io/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            Some("linux/arm64"),
            Some(&auth),
            &progress,
        )
        .await
        .unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(
        seen.iter()
            .map(|line| line.status.as_str())
            .collect::<Vec<_>>(),
        ["Pulling from a", "Downloading", "Done"]
    );
    assert_eq!(
        (seen[1].current, seen[1].total, seen[1].id.as_str()),
        (5, 9, "l")
    );
    let sent = stub.last();
    assert!(sent.line.contains("?fromImage=r.io/a&tag=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855&platform=linux/arm64 "), "{}", sent.line);
    assert!(
        sent.headers
            .to_ascii_lowercase()
            .contains("x-registry-auth: ")
    );
    let failing: &[&[u8]] = &[b"{\"status\":\"x\"}\n{\"errorDetail\":{\"message\":\"unauthorized\"},\"error\":\"unauthorized\"}\n{\"status\":\"y\"}\n"];
    let stub = Stub::docker(move |_| chunks(failing, true));
    let error = stub
        .engine
        .image_pull("a", None, None, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "unauthorized");
    assert!(stub.last().line.contains("?fromImage=a&tag=latest "));
    assert!(
        !stub
            .last()
            .headers
            .to_ascii_lowercase()
            .contains("x-registry-auth")
    );
    let stub = Stub::docker(move |_| chunks(&[b"{\"status\":\"x\"}\n"], false));
    let error = stub
        .engine
        .image_pull("a", None, None, &|_| {})
        .await
        .unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let stub = Stub::docker(move |_| {
        json(
            500,
            r#"{"message":"Get \"https://r.io/v2/\": dial tcp: i/o timeout"}"#,
        )
    });
    let error = stub
        .engine
        .image_pull("r.io/a", None, None, &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Pull { .. }) && error.to_string().contains("i/o timeout"));
}

#[tokio::test]
async fn logs_of_the_local_driver_are_repaired_and_others_taken_as_they_are() {
    let piece = vec![b'x'; 16_384];
    let long = [&b"t2 "[..], &piece].concat();
    let entries: [&[u8]; 4] = [b"t1 short\n", &long, b"t2 yy", b"t3 end"];
    let body: Vec<u8> = entries
        .iter()
        .flat_map(|entry| frame(StdStream::Stdout, entry))
        .collect();
    let piece = String::from_utf8(piece).unwrap();
    for (driver, expected) in [
        ("local", format!("1short\n{piece}yy\nend")),
        ("json-file", format!("1t1 short\nt2 {piece}t2 yyt3 end")),
    ] {
        let body = body.clone();
        let stub = Stub::docker(move |line| {
            if line.contains("/logs?") {
                // Pieces of the answer end anywhere.
                return chunks(&body.chunks(1000).collect::<Vec<_>>(), true);
            }
            let config = format!(r#"{{"LogConfig":{{"Type":"{driver}"}}}}"#);
            json(200, &format!(r#"{{"Id":"i","HostConfig":{config}}}"#))
        });
        let mut log = stub.engine.container_logs("x", true).await.unwrap();
        let mut seen = "1".to_owned();
        while let Some(chunk) = log.next().await {
            seen.push_str(&String::from_utf8_lossy(&chunk.unwrap().bytes));
        }
        assert_eq!(
            stub.last().line.contains("&timestamps=1"),
            driver == "local"
        );
        assert!(
            seen == expected,
            "{driver}: {} bytes, {} expected",
            seen.len(),
            expected.len()
        );
    }
}

#[tokio::test]
async fn the_entries_of_a_log_come_one_by_one_with_their_times_whatever_the_driver() {
    let entries: [(StdStream, &[u8]); 4] = [
        (StdStream::Stdout, b"t1 ready\n"),
        (StdStream::Stdout, b"t2 \n"),
        (StdStream::Stderr, b"t3 no break"),
        (StdStream::Stdout, b"t4 end\n"),
    ];
    let body: Vec<u8> = entries
        .iter()
        .flat_map(|(stream, entry)| frame(*stream, entry))
        .collect();
    let whole = body.clone();
    let stub = Stub::docker(move |_| chunks(&whole.chunks(7).collect::<Vec<_>>(), true));
    let log = stub.engine.container_log_entries("x", true).await.unwrap();
    let seen: Vec<_> = log.map(Result::unwrap).collect().await;
    let seen: Vec<(StdStream, &[u8])> = seen.iter().map(|e| (e.stream, &e.bytes[..])).collect();
    assert_eq!(seen, entries);
    let line = stub.last().line;
    assert!(
        line.contains("&timestamps=1") && line.contains("&follow=1"),
        "{line}"
    );
    let stub = Stub::docker(move |_| chunks(&[&body[..body.len() - 3]], true));
    let log = stub.engine.container_log_entries("x", false).await.unwrap();
    let seen: Vec<_> = log.collect().await;
    assert_eq!(seen.len(), 4);
    let error = seen[3].as_ref().unwrap_err().to_string();
    assert!(error.contains("ended inside a frame"), "{error}");
    assert!(!stub.last().line.contains("follow"));
}

#[tokio::test]
async fn a_log_without_timestamps_where_they_were_asked_for_and_a_cut_one_are_errors() {
    let cases = [
        (frame(StdStream::Stdout, b"nospace"), "has no timestamp"),
        (
            frame(StdStream::Stdout, b"t1 a\n")[..11].to_vec(),
            "ended inside a frame",
        ),
        (b"garbage!".to_vec(), "no frame header"),
    ];
    for (bad, message) in cases {
        let body = [&frame(StdStream::Stdout, b"t0 good\n")[..], &bad].concat();
        let stub = Stub::docker(move |line| match line.contains("/logs?") {
            true => chunks(&[&body], true),
            false => json(
                200,
                r#"{"Id":"i","HostConfig":{"LogConfig":{"Type":"local"}}}"#,
            ),
        });
        let (seen, error) = text(stub.engine.container_logs("x", false).await.unwrap()).await;
        let error = error.unwrap().to_string();
        assert_eq!(seen, "1good\n");
        assert!(error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn events_of_other_kinds_are_passed_over_and_a_cut_stream_is_an_error() {
    let lines: &[&[u8]] = &[
        b"{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"i\"}}\n",
        b"{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"i\",\"Attributes\":{\"exitCode\":\"2\",\"name\":\"n\"}}}\n",
    ];
    for (whole, podman) in [(true, false), (false, false), (true, true)] {
        let say = move |_: &str| chunks(lines, whole);
        let stub = if podman {
            Stub::podman(say)
        } else {
            Stub::docker(say)
        };
        let mut events = stub.engine.events(&ListFilter::default()).await.unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind, event.exit_code), (EventKind::Die, Some(2)));
        let last = events.next().await;
        assert_eq!(last.is_none(), whole, "{last:?}");
        assert!(events.next().await.is_none());
        assert_eq!(stub.last().line.contains("%22event%22"), !podman);
    }
}
