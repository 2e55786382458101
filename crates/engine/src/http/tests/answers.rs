use gantry_container::{
    ContainerSpec, ContainerStatus, EngineFlavor, Env, HostSpec, LogSpec, NetworkSpec, VolumeSpec,
};
use rstest::rstest;
use std::collections::BTreeMap;

use super::stub::{Say, Stub, json};
use crate::{Engine, EngineError, ListFilter};

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
async fn devices_and_security_options_are_sent_in_the_words_of_the_api() {
    let stub = Stub::docker(|_| json(201, r#"{"Id":"new"}"#));
    let host = HostSpec {
        security_opt: vec!["seccomp=unconfined".to_owned()],
        devices: vec![gantry_container::DeviceSpec {
            on_host: "/dev/a".to_owned(),
            in_container: "/dev/b".to_owned(),
            permissions: "r".to_owned(),
        }],
        device_requests: vec![gantry_container::DeviceRequestSpec {
            count: -1,
            capabilities: vec![vec!["gpu".to_owned()]],
            ..gantry_container::DeviceRequestSpec::default()
        }],
        ..HostSpec::default()
    };
    let spec = ContainerSpec {
        host,
        ..ContainerSpec::default()
    };
    stub.engine.container_create("n", &spec).await.unwrap();
    assert_eq!(
        stub.sent()["HostConfig"],
        serde_json::json!({
            "SecurityOpt": ["seccomp=unconfined"],
            "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
            "DeviceRequests": [{
                "Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {},
            }],
            "RestartPolicy": {"Name": "no"},
        })
    );
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
async fn a_download_is_what_the_engine_packs_and_nothing_where_there_is_nothing() {
    use tokio::io::AsyncReadExt as _;
    let stub = Stub::docker(|line| {
        if line.contains("gone") {
            json(404, r#"{"message":"no such path"}"#)
        } else {
            Say::Answer(200, "application/x-tar", b"a tar".to_vec())
        }
    });
    assert!(
        stub.engine
            .archive_get("x", "/gone")
            .await
            .unwrap()
            .is_none()
    );
    let mut archive = stub.engine.archive_get("x", "/b c").await.unwrap().unwrap();
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"a tar");
    let line = stub.last().line;
    assert_eq!(line, "GET /v1.41/containers/x/archive?path=/b%20c HTTP/1.1");
    // An engine that ends in the middle.
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na tar".to_vec();
    let stub = Stub::docker(move |_| Say::Raw(cut.clone()));
    let mut archive = stub.engine.archive_get("x", "/b").await.unwrap().unwrap();
    assert!(archive.read_to_end(&mut Vec::new()).await.is_err());
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

/// Writes everything that is logged, at any level, to one buffer.
#[derive(Clone, Default)]
struct Captured(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_of_a_request_reach_no_log_and_no_error() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the capture works");
    let stub = Stub::docker(|_| json(500, r#"{"message":"no"}"#));
    let secret = "s3cr3t-value";
    let spec = ContainerSpec {
        env: Env(vec![("TOKEN".to_owned(), secret.to_owned())]),
        ..ContainerSpec::default()
    };
    let created = stub.engine.container_create("n", &spec).await.unwrap_err();
    let auth = crate::RegistryAuth {
        username: "u".to_owned(),
        password: secret.to_owned(),
        server_address: "r.io".to_owned(),
    };
    let pulled = stub
        .engine
        .image_pull("r.io/x", None, Some(&auth), &|_| {})
        .await
        .unwrap_err();
    assert!(
        stub.last()
            .headers
            .to_ascii_lowercase()
            .contains("x-registry-auth: ")
    );
    let told = format!(
        "{created} {created:?} {pulled} {pulled:?} {spec:?} {auth:?} {:?}",
        stub.engine
    );
    assert!(!told.contains(secret), "{told}");
    let logged = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the capture works"));
    assert!(!logged.contains(secret), "{logged}");
}

#[tokio::test]
async fn the_engines_clock_is_read_from_the_date_of_its_answers() {
    let stub = Stub::with("Date: Fri, 28 Nov 2025 20:13:04 GMT\r\n", |_| {
        json(404, r#"{"message":"no"}"#)
    });
    assert_eq!(stub.engine.time().await.unwrap(), 1_764_360_784);
    let stub = Stub::with("", |_| json(404, r#"{"message":"no"}"#));
    let error = stub.engine.time().await.unwrap_err();
    assert!(matches!(error, EngineError::Garbled { .. }), "{error}");
}
