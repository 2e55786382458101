//! Against an engine of a few lines: what it says is scripted, so that no real engine is needed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use gantry_container::{
    ContainerSpec, ContainerStatus, EngineFlavor, Env, HostSpec, LogSpec, NetworkSpec, VolumeSpec,
};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use super::frames::frame;
use super::*;
use crate::{EventKind, RegistryAuth, StdStream};

/// A request as the stub saw it.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: String,
    body: String,
}

/// What the stub does with a request.
enum Say {
    /// An answer with this status, content type and body.
    Answer(u16, &'static str, Vec<u8>),
    /// These bytes, then the connection closes.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Nothing,
}

fn json(status: u16, body: &str) -> Say {
    Say::Answer(status, "application/json", body.as_bytes().to_vec())
}

/// A chunked answer, cut before its end if `whole` is false.
fn chunks(pieces: &[&[u8]], whole: bool) -> Say {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(*piece);
        bytes.extend(b"\r\n");
    }
    if whole {
        bytes.extend(b"0\r\n\r\n");
    }
    Say::Raw(bytes)
}

/// The answer to a hijack, with what the container says.
fn hijacked(content_type: &str, output: &[u8]) -> Say {
    let head = format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    Say::Raw([head.as_bytes(), output].concat())
}

struct Stub {
    engine: HttpEngine,
    seen: Arc<Mutex<Vec<Seen>>>,
    directory: tempfile::TempDir,
}

impl Stub {
    /// Docker with API 1.41 that answers `say` to everything but pings.
    fn docker(say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        Self::with("Api-Version: 1.41\r\n", say)
    }

    fn podman(say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        Self::with("Api-Version: 1.41\r\nLibpod-API-Version: 4.3.1\r\n", say)
    }

    fn with(ping: &'static str, say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, say) = (Arc::clone(&seen), Arc::new(say));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, ping, Arc::clone(&say), Arc::clone(&noted)));
            }
        });
        let host = format!("unix://{}", socket.display());
        let endpoint = Endpoint::resolve(&host, false, "", |_| None).unwrap();
        let timeouts = Timeouts {
            answer: Duration::from_secs(20),
            ..Timeouts::default()
        };
        let engine = HttpEngine::with_timeouts(endpoint, timeouts).unwrap();
        Self {
            engine,
            seen,
            directory,
        }
    }

    /// The last request that was no ping.
    fn last(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .rev()
            .find(|seen| !seen.line.contains("_ping"))
            .unwrap()
            .clone()
    }

    /// The last request's body, parsed.
    fn sent(&self) -> serde_json::Value {
        serde_json::from_str(&self.last().body).unwrap()
    }
}

async fn serve(
    mut client: UnixStream,
    ping: &'static str,
    say: Arc<impl Fn(&str) -> Say>,
    noted: Arc<Mutex<Vec<Seen>>>,
) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let headers = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let length = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        let chunked = headers
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let end = loop {
            let last = buffer[head..]
                .windows(5)
                .position(|window| window == b"0\r\n\r\n");
            match (chunked, last) {
                (true, Some(at)) => break head + at + 5,
                (false, _) if buffer.len() >= head + length.unwrap_or(0) => {
                    break head + length.unwrap_or(0);
                }
                _ => {}
            }
            if client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let body = String::from_utf8_lossy(&buffer[head..end]).into_owned();
        buffer.drain(..end);
        let line = headers.lines().next().unwrap().to_owned();
        let answer = if line.starts_with("GET /_ping ") {
            format!("HTTP/1.1 200 OK\r\n{ping}Content-Length: 2\r\n\r\nOK").into_bytes()
        } else {
            let said = say(&line);
            noted.lock().unwrap().push(Seen {
                line,
                headers,
                body,
            });
            match said {
                Say::Nothing => std::future::pending().await,
                Say::Raw(bytes) => {
                    drop(client.write_all(&bytes).await);
                    return;
                }
                Say::Answer(status, kind, body) => {
                    let mut answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    )
                    .into_bytes();
                    answer.extend(body);
                    answer
                }
            }
        };
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn text(mut output: crate::OutputStream) -> (String, Option<EngineError>) {
    let mut all = String::new();
    while let Some(item) = output.next().await {
        match item {
            Ok(chunk) => {
                let mark = if chunk.stream == StdStream::Stdout {
                    '1'
                } else {
                    '2'
                };
                all.push(mark);
                all.push_str(&String::from_utf8_lossy(&chunk.bytes));
            }
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

#[rstest]
#[case("Api-Version: 1.41\r\n", Ok("/v1.41/"))]
#[case("Api-Version: 1.40\r\n", Ok("/v1.40/"))]
#[case("Api-Version: 1.99\r\n", Ok("/v1.51/"))]
#[case(
    "Api-Version: 1.39\r\n",
    Err(
        "API version 1.39 is not supported by this client: the minimum supported API version is 1.40"
    )
)]
#[case(
    "Api-Version: x\r\n",
    Err("negotiate the API version: unexpected answer of the engine: API version \"x\"")
)]
#[case("", Ok("/v1.44/"))]
#[tokio::test]
async fn the_version_is_the_newest_that_both_sides_know(
    #[case] ping: &'static str,
    #[case] expected: Result<&str, &str>,
) {
    let stub = Stub::with(ping, |line| match line {
        "GET /version HTTP/1.1" => json(200, r#"{"ApiVersion":"1.44"}"#),
        _ => json(404, r#"{"message":"no"}"#),
    });
    match (stub.engine.container_inspect("x").await, expected) {
        (Ok(None), Ok(prefix)) => assert!(stub.last().line.starts_with(&format!("GET {prefix}"))),
        (Err(error), Err(message)) => assert_eq!(error.to_string(), message),
        (seen, _) => panic!("{seen:?}"),
    }
}

#[rstest]
#[case(
    404,
    r#"{"message":"No such container: x"}"#,
    "NotFound",
    "start container x: No such container: x"
)]
#[case(409, r#"{"message":"busy"}"#, "Conflict", "start container x: busy")]
#[case(400, r#"{"message":"bad"}"#, "BadRequest", "start container x: bad")]
#[case(
    500,
    r#"{"message":"boom"}"#,
    "Failed",
    "start container x: boom (status 500)"
)]
#[case(
    500,
    r#"{"cause":"c","message":"the container name is already in use","response":500}"#,
    "Conflict",
    "start container x: the container name is already in use"
)]
#[case(
    502,
    "<html>bad gateway</html>",
    "Failed",
    "start container x: <html>bad gateway</html> (status 502)"
)]
#[case(
    503,
    "",
    "Failed",
    "start container x: Service Unavailable (status 503)"
)]
#[case(
    403,
    r#"{"message":null}"#,
    "Failed",
    "start container x: {\"message\":null} (status 403)"
)]
#[case(
    301,
    "",
    "Failed",
    "start container x: redirects disallowed (status 301)"
)]
#[tokio::test]
async fn bad_answers_are_mapped_by_status(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] variant: &str,
    #[case] message: &str,
) {
    let stub = Stub::docker(move |_| json(status, body));
    let error = stub.engine.container_start("x").await.unwrap_err();
    assert_eq!(error.to_string(), message);
    assert!(format!("{error:?}").starts_with(variant), "{error:?}");
}

#[tokio::test]
async fn a_long_error_text_is_cut() {
    let stub = Stub::docker(|_| Say::Answer(500, "text/plain", "ü".repeat(5000).into_bytes()));
    let error = stub
        .engine
        .container_start("x")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.len() < 2200 && error.contains("ü…"));
}

#[rstest]
#[case("")]
#[case("null")]
#[case("[]")]
#[case("{\"State\":{\"Status\":7}}")]
#[case("{\"State\":{\"Status\":\"sleeping\"}}")]
#[case("{\"Id\":\"x\",\"State\":nu")]
#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error(#[case] body: &'static str) {
    let stub = Stub::docker(move |_| json(200, body));
    let error = stub.engine.container_inspect("x").await.unwrap_err();
    assert!(matches!(error, EngineError::Garbled { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("inspect container x: unexpected answer"),
        "{error}"
    );
}

#[tokio::test]
async fn nulls_everywhere_are_taken_as_nothing() {
    let body = r#"{"Id":"i","Name":"/n","Image":null,"State":{"Status":"exited","ExitCode":null,"OOMKilled":null,"Error":null,"StartedAt":null,"FinishedAt":null},"Config":{"Labels":null,"Env":null,"ExposedPorts":{"80/tcp":{},"53/udp":{},"8080/tcp":null}},"HostConfig":null,"NetworkSettings":{"Networks":{"a":null,"b":{"IPAddress":null,"GlobalIPv6Address":"fe::1"},"c":{"IPAddress":""}}}}"#;
    let stub = Stub::docker(move |line| {
        if line.contains("/volumes") {
            json(200, r#"{"Volumes":null,"Warnings":null}"#)
        } else if line.contains("/images/") {
            json(
                200,
                r#"{"Id":"sha256:1","RepoDigests":null,"Config":null,"Os":null}"#,
            )
        } else if line.contains("/networks/") {
            json(
                200,
                r#"{"Id":"1","Name":"n","Labels":null,"Containers":{"c":null}}"#,
            )
        } else {
            json(200, body)
        }
    });
    let state = stub.engine.container_inspect("x").await.unwrap().unwrap();
    assert_eq!(
        (state.name.as_str(), state.status),
        ("n", ContainerStatus::Exited)
    );
    assert_eq!(state.tcp_ports, [80, 8080]);
    assert_eq!(
        state.addresses,
        [("b".to_owned(), vec!["fe::1".to_owned()])].into()
    );
    assert!(
        stub.engine
            .volume_list(&ListFilter::default())
            .await
            .unwrap()
            .is_empty()
    );
    let image = stub.engine.image_inspect("i").await.unwrap().unwrap();
    assert!(image.cmd.is_empty() && image.entrypoint.is_empty());
    let network = stub.engine.network_inspect("n").await.unwrap().unwrap();
    assert_eq!(network.containers["c"], "");
}

#[tokio::test]
async fn a_container_is_created_as_specified() {
    let stub = Stub::docker(|_| json(201, r#"{"Id":"new","Warnings":[]}"#));
    let options = [("compress".to_owned(), "false".to_owned())].into();
    let spec = ContainerSpec {
        image: "alpine@sha256:1".to_owned(),
        entrypoint: Some(vec![String::new()]),
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned()]),
        env: Env(vec![
            ("A".to_owned(), "1".to_owned()),
            ("A".to_owned(), "2=3".to_owned()),
        ]),
        labels: [("l".to_owned(), "v".to_owned())].into(),
        interactive: true,
        platform: Some("linux/arm64".to_owned()),
        host: HostSpec {
            binds: vec!["v:/b".to_owned()],
            network_mode: "net".to_owned(),
            log: Some(LogSpec {
                driver: "local".to_owned(),
                options,
            }),
            ..HostSpec::default()
        },
        endpoints: [(
            "net".to_owned(),
            gantry_container::EndpointSpec {
                aliases: vec!["build".to_owned()],
            },
        )]
        .into(),
        ..ContainerSpec::default()
    };
    assert_eq!(
        stub.engine.container_create("n", &spec).await.unwrap(),
        "new"
    );
    let line = stub.last().line;
    assert_eq!(
        line,
        "POST /v1.41/containers/create?name=n&platform=linux/arm64 HTTP/1.1"
    );
    let expected = serde_json::json!({
        "Image": "alpine@sha256:1",
        "Entrypoint": [""],
        "Cmd": ["sh", "-c"],
        "Env": ["A=1", "A=2=3"],
        "Labels": {"l": "v"},
        "Tty": false,
        "AttachStdin": true,
        "AttachStdout": true,
        "AttachStderr": true,
        "OpenStdin": true,
        "StdinOnce": true,
        "HostConfig": {
            "Binds": ["v:/b"],
            "NetworkMode": "net",
            "LogConfig": {"Type": "local", "Config": {"compress": "false"}},
            "RestartPolicy": {"Name": "no"},
        },
        "NetworkingConfig": {"EndpointsConfig": {"net": {"Aliases": ["build"]}}},
    });
    assert_eq!(stub.sent(), expected);
}

#[tokio::test]
async fn podman_gets_no_log_driver_that_it_refuses() {
    let stub = Stub::podman(|_| json(201, r#"{"Id":"new"}"#));
    let log = |driver: &str| {
        Some(LogSpec {
            driver: driver.to_owned(),
            options: BTreeMap::new(),
        })
    };
    for (driver, sent) in [("local", false), ("json-file", true)] {
        let host = HostSpec {
            log: log(driver),
            ..HostSpec::default()
        };
        let spec = ContainerSpec {
            host,
            ..ContainerSpec::default()
        };
        stub.engine.container_create("n", &spec).await.unwrap();
        assert_eq!(
            stub.sent()["HostConfig"].get("LogConfig").is_some(),
            sent,
            "{driver}"
        );
    }
}

#[tokio::test]
async fn volumes_and_networks_are_created_as_specified() {
    let stub = Stub::docker(|_| json(201, r#"{"Id":"1","Name":"v"}"#));
    let volume = VolumeSpec {
        name: "v".to_owned(),
        ..VolumeSpec::default()
    };
    stub.engine.volume_create(&volume).await.unwrap();
    assert_eq!(
        stub.sent(),
        serde_json::json!({"Name": "v", "DriverOpts": {}, "Labels": {}})
    );
    let network = NetworkSpec {
        name: "n".to_owned(),
        enable_ipv6: true,
        ..NetworkSpec::default()
    };
    stub.engine.network_create(&network).await.unwrap();
    let expected =
        serde_json::json!({"Name": "n", "Labels": {}, "EnableIPv6": true, "Options": {}});
    assert_eq!(stub.sent(), expected);
}

#[tokio::test]
async fn podmans_existing_volume_is_taken() {
    let stub = Stub::podman(|line| {
        if line.starts_with("POST") {
            json(
                500,
                r#"{"message":"volume with name v already exists: volume already exists"}"#,
            )
        } else {
            json(200, r#"{"Name":"v","Labels":{"a":"b"},"CreatedAt":"t"}"#)
        }
    });
    let volume = VolumeSpec {
        name: "v".to_owned(),
        ..VolumeSpec::default()
    };
    assert_eq!(
        stub.engine.volume_create(&volume).await.unwrap().labels["a"],
        "b"
    );
}

#[tokio::test]
async fn filters_name_labels_with_and_without_value() {
    let stub = Stub::docker(|_| json(200, "[]"));
    let labels = [
        ("a".to_owned(), "b&c".to_owned()),
        ("d".to_owned(), String::new()),
    ]
    .into();
    let filter = ListFilter {
        labels,
        name: Some("n".to_owned()),
    };
    stub.engine.container_list(&filter).await.unwrap();
    assert_eq!(
        stub.last().line,
        "GET /v1.41/containers/json?all=1&filters=%7B%22label%22:%5B%22a%3Db%26c%22%2C%22d%22%5D%2C%22name%22:%5B%22n%22%5D%7D HTTP/1.1"
    );
}

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
    for (driver, expected) in [
        ("local", "1short\nlong\n1"),
        ("json-file", "1t1 short\nt2 longt3 "),
    ] {
        let entries = [&b"t1 short\n"[..], b"t2 long", b"t3 "];
        let body: Vec<u8> = entries
            .iter()
            .flat_map(|entry| frame(StdStream::Stdout, entry))
            .collect();
        let stub = Stub::docker(move |line| {
            if line.contains("/logs?") {
                return chunks(&[&body], true);
            }
            json(
                200,
                &format!(r#"{{"Id":"i","HostConfig":{{"LogConfig":{{"Type":"{driver}"}}}}}}"#),
            )
        });
        let (seen, error) = text(stub.engine.container_logs("x", true).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        let local = driver == "local";
        assert_eq!(stub.last().line.contains("&timestamps=1"), local);
        if local {
            // `long` is shorter than a piece: the end of a run, so no newline was lost.
            assert_eq!(seen, "1short\nlong");
        } else {
            assert_eq!(seen, expected);
        }
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

#[tokio::test]
async fn modes_are_unix_modes() {
    // setgid (Go's bit 22), directory (bit 31), 0770
    let stat = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!(
            r#"{{"name":"b","size":1,"mode":{},"mtime":"t"}}"#,
            (1_u32 << 31) | (1 << 22) | 0o770
        ),
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: {stat}\r\nContent-Length: 0\r\n\r\n"
    );
    let stub = Stub::docker(move |_| Say::Raw(head.clone().into_bytes()));
    assert_eq!(
        stub.engine.archive_mode("x", "/b").await.unwrap(),
        Some(0o2770)
    );
    assert_eq!(
        stub.last().line,
        "HEAD /v1.41/containers/x/archive?path=/b HTTP/1.1"
    );
    let stub = Stub::docker(|_| json(200, ""));
    assert!(matches!(
        stub.engine.archive_mode("x", "/b").await,
        Err(EngineError::Garbled { .. })
    ));
}

#[tokio::test]
async fn uploads_never_replace_directories_or_map_owners() {
    let stub = Stub::docker(|_| json(200, ""));
    let archive = Box::pin(std::io::Cursor::new(vec![0; 1024]));
    stub.engine.archive_put("x", "/b c", archive).await.unwrap();
    let line = stub.last().line;
    assert_eq!(
        line,
        "PUT /v1.41/containers/x/archive?path=/b%20c&noOverwriteDirNonDir=1 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_kept_connection_that_the_engine_closed_is_not_an_error() {
    // Every answer closes its connection without saying so before.
    let stub =
        Stub::docker(|_| Say::Raw(b"HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
    for _ in 0..50 {
        assert_eq!(stub.engine.container_inspect("x").await.unwrap(), None);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_engine_that_was_away_is_asked_anew_who_it_is() {
    let stub = Stub::docker(|line| {
        if line.contains("/version") {
            json(
                200,
                r#"{"Version":"20.10.24","ApiVersion":"1.41","Components":[{"Name":"Engine","Version":"20"}]}"#,
            )
        } else {
            json(
                200,
                r#"{"OSType":"linux","Architecture":"x86_64","Name":"h"}"#,
            )
        }
    });
    let facts = stub.engine.facts().await.unwrap();
    assert_eq!(
        (facts.flavor, facts.version.as_str()),
        (EngineFlavor::Docker, "20.10.24")
    );
    assert_eq!(
        (facts.os.as_str(), facts.host_name.as_str()),
        ("linux", "h")
    );
    stub.engine.facts().await.unwrap();
    assert_eq!(stub.seen.lock().unwrap().len(), 2);
    std::fs::rename(
        stub.directory.path().join("s"),
        stub.directory.path().join("away"),
    )
    .unwrap();
    // Kept connections still work; a stream needs a new one.
    assert!(
        stub.engine
            .container_attach("x")
            .await
            .err()
            .unwrap()
            .is_unreachable()
    );
    std::fs::rename(
        stub.directory.path().join("away"),
        stub.directory.path().join("s"),
    )
    .unwrap();
    stub.engine.facts().await.unwrap();
    assert_eq!(stub.seen.lock().unwrap().len(), 4);
}
