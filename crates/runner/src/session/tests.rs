//! Callers of the session server, over TLS in memory and under a paused clock.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures_util::{SinkExt as _, StreamExt as _};
use gantry_engine::{
    Engine as _,
    fake::{ExecHandler, FakeEngine, FakeImage, Program, Verb},
};
use gantry_executor::{TerminalContainer, TerminalPlace, TerminalSettings};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{OpenSession, Sessions, certificate, serve::converse};
use crate::observe::{JobFacts, ObservedJob, Observer, RunnerLabels};

/// A job with a session on a scripted engine.
struct Lab {
    sessions: Arc<Sessions>,
    open: OpenSession,
    token: String,
    tls: TlsAcceptor,
    strangers: Arc<Semaphore>,
    engine: FakeEngine,
    /// Marks of shells that were told that their terminal is gone.
    hung_up: Arc<Mutex<Vec<String>>>,
    observer: Arc<Observer>,
}

type Terminal = WebSocketStream<TlsStream<DuplexStream>>;

impl Lab {
    fn new() -> Self {
        let (tls, pem) = certificate::make("ci.example.com").unwrap();
        let sessions = Arc::new(Sessions {
            certificate: pem,
            url: "https://ci.example.com:8093".to_owned(),
            open: Mutex::default(),
        });
        let observer = Arc::new(Observer::new(None));
        let offer = sessions.offer().unwrap();
        let token = offer.token.expose().to_owned();
        let open = sessions.open(offer, 17, job(&observer), || TerminalSettings {
            timeout: Duration::from_secs(1800),
            after_script: false,
        });
        let engine = FakeEngine::new();
        engine.add_image(FakeImage::new("alpine:3.20"));
        engine.on_name("build", Program::deaf());
        let hung_up = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&hung_up);
        // A shell on a terminal: says its variables, and what it is told; `exit` ends it.
        engine.on_exec(
            "build",
            ExecHandler::new(move |run| {
                let told = Arc::clone(&told);
                async move {
                    let Some(terminal) = run.terminal.clone() else {
                        told.lock().unwrap().push(run.cmd.last().unwrap().clone());
                        return 0;
                    };
                    let hello = format!(
                        "{} {}x{}\n",
                        terminal.env[0], terminal.columns, terminal.rows
                    );
                    run.stdout(hello);
                    let (mut input, mut output) = run.into_io();
                    let mut bytes = vec![0; 1024];
                    loop {
                        match input.read(&mut bytes).await {
                            Ok(read @ 1..) => {
                                let said = &bytes[..read];
                                output.write_all(said).await.unwrap();
                                if said == b"exit\n" {
                                    return 0;
                                }
                            }
                            // It runs on without a terminal, as on a real engine.
                            _ => std::future::pending().await,
                        }
                    }
                }
            }),
        );
        Self {
            sessions,
            open,
            token,
            tls: TlsAcceptor::from(tls),
            strangers: Arc::new(Semaphore::new(2)),
            engine,
            hung_up,
            observer,
        }
    }

    /// The build container of a stage.
    async fn start_container(&self) -> String {
        let spec = gantry_container::ContainerSpec {
            image: "alpine:3.20".to_owned(),
            ..Default::default()
        };
        let id = self.engine.container_create("build", &spec).await.unwrap();
        self.engine.container_start(&id).await.unwrap();
        self.open
            .session
            .port
            .tell(TerminalPlace::Running(TerminalContainer {
                engine: self.engine.shared(),
                id: id.clone(),
                cmd: vec!["sh".to_owned()],
            }));
        id
    }

    /// Its end.
    async fn end_container(&self, id: &str, then: TerminalPlace) {
        self.engine.container_kill(id, "KILL").await.unwrap();
        // The shells are cut off before the job knows.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.open.session.port.tell(then);
    }

    /// A connection that says nothing yet.
    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        let (tls, sessions) = (self.tls.clone(), Arc::clone(&self.sessions));
        let place = Arc::clone(&self.strangers).acquire_owned().await.unwrap();
        tokio::spawn(async move { converse(theirs, &tls, &sessions, place).await });
        ours
    }

    /// TLS by who knows the certificate from the job request.
    async fn tls(&self) -> TlsStream<DuplexStream> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.sessions.certificate.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("ci.example.com").unwrap();
        let stream = self.connect().await;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    }

    /// Status and text of the answer to this.
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = self.tls().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // An end without TLS' good-bye is one.
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer
            .split(' ')
            .nth(1)
            .expect("an answer")
            .parse()
            .unwrap();
        let text = answer.split_once("\r\n\r\n").unwrap().1;
        (status, text.to_owned())
    }

    fn path(&self, place: &str) -> String {
        format!("/session/{}{place}", self.open.id)
    }

    /// Opens the terminal, or says with what status it is refused.
    async fn terminal(&self, protocol: Option<&str>) -> Result<Terminal, u16> {
        let url = format!("wss://ci.example.com:8093{}", self.path("/exec"));
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", self.token.parse().unwrap());
        if let Some(protocol) = protocol {
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        match client_async(request, self.tls().await).await {
            Ok((socket, response)) => {
                let agreed = response.headers().get("sec-websocket-protocol");
                assert_eq!(agreed.map(|name| name.to_str().unwrap()), protocol);
                Ok(socket)
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn status_says_connected(&self) -> bool {
        self.observer
            .board
            .lock()
            .jobs
            .values()
            .any(|job| job.terminal)
    }
}

fn job(observer: &Arc<Observer>) -> ObservedJob {
    let job = observer.job(JobFacts {
        id: 17,
        runner: RunnerLabels {
            runner: "t1_abcdef".to_owned(),
            name: "unit".to_owned(),
        },
        url: "https://gitlab.example.com/a/b/-/jobs/17".to_owned(),
        name: "job".to_owned(),
        project: "a/b".to_owned(),
        pipeline: 3,
        accepted: SystemTime::now(),
        slot_wait: Duration::ZERO,
        queued: Duration::ZERO,
        project_jobs_running: String::new(),
        waited_too_long: false,
        inputs: Ok(0),
        queue_size: 0,
        queue_depth: 0,
        steps: false,
        stage_durations: false,
        folder: "/nowhere".into(),
    });
    job.tell(crate::observe::Happened::Taken);
    job
}

/// What the terminal shows until it has these words.
async fn shows(terminal: &mut Terminal, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        match terminal.next().await {
            Some(Ok(Message::Binary(bytes))) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

/// Code and reason of the end, and what was shown before.
async fn end(terminal: &mut Terminal) -> (u16, String, String) {
    let mut text = String::new();
    loop {
        match terminal.next().await {
            Some(Ok(Message::Binary(bytes))) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => {
                return (frame.code.into(), frame.reason.to_string(), text);
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?} after {text:?}"),
        }
    }
}

async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let waits = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(600), waits).await.expect(what);
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[rstest]
#[case::no_session("GET", "/session/0000/exec", "TOKEN", UPGRADE, 404)]
#[case::no_place("GET", "SESSION/files", "TOKEN", UPGRADE, 404)]
#[case::no_place_and_no_token("GET", "SESSION/files", "", UPGRADE, 404)]
#[case::the_session_itself("GET", "SESSION", "TOKEN", UPGRADE, 404)]
#[case::the_root("GET", "/", "", "", 404)]
#[case::no_token("GET", "SESSION/exec", "", UPGRADE, 401)]
#[case::another_token("GET", "SESSION/exec", "wrong", UPGRADE, 401)]
#[case::a_scheme_before_the_token("GET", "SESSION/exec", "Bearer TOKEN", UPGRADE, 401)]
#[case::part_of_the_token("GET", "SESSION/exec", "PART", UPGRADE, 401)]
#[case::no_websocket("GET", "SESSION/exec", "TOKEN", "", 405)]
#[case::post("POST", "SESSION/exec", "TOKEN", "content-length: 0\r\n", 405)]
#[case::the_token_comes_first("GET", "SESSION/exec", "wrong", "", 401)]
#[case::a_bad_handshake(
    "GET",
    "SESSION/exec",
    "TOKEN",
    "connection: upgrade\r\nupgrade: websocket\r\n",
    400
)]
#[case::services("GET", "SESSION/proxy/web/80/", "TOKEN", "", 404)]
#[case::services_without_a_token("GET", "SESSION/proxy/web/80/", "wrong", "", 401)]
#[tokio::test(start_paused = true)]
async fn who_may_not_have_a_terminal_is_told_why(
    #[case] method: &str,
    #[case] path: &str,
    #[case] token: &str,
    #[case] headers: &str,
    #[case] status: u16,
) {
    let lab = Lab::new();
    lab.start_container().await;
    let path = path.replace("SESSION", &lab.path(""));
    let token = token
        .replace("TOKEN", &lab.token)
        .replace("PART", &lab.token[..63]);
    let token = if token.is_empty() {
        token
    } else {
        format!("authorization: {token}\r\n")
    };
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{token}{headers}\r\n");
    let (found, text) = lab.ask(&request).await;
    assert_eq!(found, status, "{text}");
    assert!(text.len() > 10, "{text:?}");
    assert!(!text.contains(&lab.token));
    // He left no trace.
    assert_eq!(lab.engine.calls_of(Verb::ExecTerminal).len(), 0);
    lab.terminal(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_typed_reaches_the_shell_and_its_words_come_back() {
    for protocol in [None, Some("terminal.gitlab.com")] {
        let lab = Lab::new();
        lab.start_container().await;
        let mut terminal = lab.terminal(protocol).await.unwrap();
        shows(&mut terminal, "80x24\n").await;
        until("the status to say so", || lab.status_says_connected()).await;
        terminal
            .send(Message::binary("hello \u{1b}[A\n"))
            .await
            .unwrap();
        shows(&mut terminal, "hello \u{1b}[A\n").await;
        terminal.close(None).await.unwrap();
        until("the terminal to be left", || !lab.status_says_connected()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_base64_protocol_messages_are_text() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab
        .terminal(Some("base64.terminal.gitlab.com"))
        .await
        .unwrap();
    assert!(matches!(terminal.next().await, Some(Ok(Message::Text(_)))));
    terminal.send(Message::text("aGVsbG8K")).await.unwrap();
    assert_eq!(
        terminal.next().await.unwrap().unwrap(),
        Message::text("aGVsbG8K")
    );
    terminal.send(Message::text("?")).await.unwrap();
    let end = terminal.next().await.unwrap().unwrap();
    let Message::Close(Some(frame)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(u16::from(frame.code), 1007);
}

#[tokio::test(start_paused = true)]
async fn one_terminal_is_connected_at_a_time() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut first = lab.terminal(None).await.unwrap();
    shows(&mut first, "\n").await;
    assert_eq!(lab.terminal(None).await.err(), Some(423));
    first.send(Message::binary("still here\n")).await.unwrap();
    shows(&mut first, "still here\n").await;
    first.close(None).await.unwrap();
    until("the first to be gone", || !lab.status_says_connected()).await;
    lab.terminal(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_a_minute_for_the_container() {
    let lab = Lab::new();
    let begin = Instant::now();
    assert_eq!(lab.terminal(None).await.err(), Some(503));
    assert_eq!(begin.elapsed().as_secs(), 60);
    let (opened, ()) = tokio::join!(lab.terminal(None), async {
        tokio::time::sleep(Duration::from_secs(45)).await;
        lab.start_container().await;
    });
    shows(&mut opened.unwrap(), "80x24\n").await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_he_waits_keeps_nobody_else_out() {
    let lab = Lab::new();
    assert!(
        timeout(Duration::from_secs(5), lab.terminal(None))
            .await
            .is_err()
    );
    lab.start_container().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    lab.terminal(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_scripts_are_over_has_no_terminal() {
    let lab = Lab::new();
    lab.open.session.port.tell(TerminalPlace::Over);
    let begin = Instant::now();
    assert_eq!(lab.terminal(None).await.err(), Some(503));
    assert!(begin.elapsed() < Duration::from_secs(1));
    let Lab { open, sessions, .. } = lab;
    let id = open.id.clone();
    drop(open);
    assert!(sessions.find(&id).is_none(), "it ended with its job");
}

#[tokio::test(start_paused = true)]
async fn a_terminal_ends_with_its_container() {
    let lab = Lab::new();
    let container = lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    lab.end_container(&container, TerminalPlace::Over).await;
    let (code, reason, text) = end(&mut terminal).await;
    assert_eq!((code, reason.as_str()), (1000, "build container exited"));
    assert_eq!(text, "\r\nbuild container exited\r\n");
    assert!(
        lab.hung_up.lock().unwrap().is_empty(),
        "it is gone by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminal_goes_on_in_the_next_stage() {
    let lab = Lab::new();
    let container = lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    lab.end_container(&container, TerminalPlace::Between).await;
    shows(&mut terminal, "\r\nbuild container exited\r\n").await;
    // There is nobody to take it.
    terminal.send(Message::binary("lost\n")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    lab.engine.container_remove(&container).await.unwrap();
    let container = lab.start_container().await;
    let text = shows(&mut terminal, "80x24\n").await;
    assert!(!text.contains("lost"), "{text:?}");
    terminal.send(Message::binary("here\n")).await.unwrap();
    shows(&mut terminal, "here\n").await;
    lab.end_container(&container, TerminalPlace::Over).await;
    assert_eq!(end(&mut terminal).await.0, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_shell_that_the_user_ends_ends_the_terminal() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    terminal.send(Message::binary("exit\n")).await.unwrap();
    let (code, reason, _) = end(&mut terminal).await;
    assert_eq!((code, reason.as_str()), (1000, "the shell exited"));
    lab.terminal(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shell_whose_user_left_is_told() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    let hello = shows(&mut terminal, "80x24\n").await;
    drop(terminal);
    until("the shell to be told", || {
        !lab.hung_up.lock().unwrap().is_empty()
    })
    .await;
    let mark = lab.hung_up.lock().unwrap()[0].clone();
    assert!(mark.starts_with("GANTRY_TERMINAL="), "{mark}");
    assert!(hello.starts_with(&mark), "{hello}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_there_no_more_is_left_after_some_silence() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    // Nothing is read, so that no ping is answered.
    let begin = Instant::now();
    until("the terminal to end", || !lab.status_says_connected()).await;
    let took = begin.elapsed().as_secs();
    assert!((90..200).contains(&took), "{took} s");
    assert_eq!(lab.hung_up.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_there_stays_however_little_it_says() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    let listens = async { while terminal.next().await.is_some_and(|message| message.is_ok()) {} };
    assert!(timeout(Duration::from_secs(3000), listens).await.is_err());
    assert!(lab.status_says_connected());
}

#[tokio::test(start_paused = true)]
async fn a_job_can_end_the_terminal() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    let reason = "terminal session timed out (maximum time allowed - 30m0s)";
    lab.open.session.port.dismiss(reason.to_owned());
    let (code, found, text) = end(&mut terminal).await;
    assert_eq!((code, found.as_str()), (1000, reason));
    assert!(text.contains(reason), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_gives_no_shell_is_an_error_of_the_server() {
    let lab = Lab::new();
    lab.start_container().await;
    let error = gantry_engine::EngineError::Failed {
        what: "exec".to_owned(),
        status: 500,
        message: "no more processes".to_owned(),
    };
    lab.engine.fault(
        Verb::ExecTerminal,
        1,
        gantry_engine::fake::Fault::Error(error),
    );
    assert_eq!(lab.terminal(None).await.err(), Some(500));
    lab.terminal(None).await.unwrap();
}

#[rstest]
#[case::silence(b"")]
#[case::no_tls(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")]
#[case::garbage(b"\x16\x03\x01\xff\xff garbage garbage")]
#[case::half_a_hello(b"\x16\x03\x01\x02\x00\x01\x00")]
#[tokio::test(start_paused = true)]
async fn who_speaks_no_tls_has_five_seconds(#[case] words: &[u8]) {
    let lab = Lab::new();
    let mut crowd = Vec::new();
    for _ in 0..2 {
        let mut stream = lab.connect().await;
        stream.write_all(words).await.unwrap();
        crowd.push(stream);
    }
    // All places of strangers are taken for no longer than that.
    let begin = Instant::now();
    let found = lab.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(found.0, 404);
    assert!(
        begin.elapsed() <= Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let lab = Lab::new();
    let mut stream = lab.tls().await;
    let begin = Instant::now();
    for byte in b"GET /session/00000000000000000000000000000000/exec HTTP/1.1\r\n".iter() {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut rest = Vec::new();
    timeout(Duration::from_secs(30), stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .ok();
    assert!(
        begin.elapsed() < Duration::from_secs(75),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(lab.strangers.available_permits(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused() {
    let lab = Lab::new();
    let mut stream = lab.tls().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let line = format!("x-{}: {}\r\n", "a".repeat(100), "b".repeat(1000));
    for _ in 0..200 {
        if stream.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    let free = Arc::clone(&lab.strangers);
    until("its place to be free", || free.available_permits() == 2).await;
}

/// A paste of many megabytes costs the terminal, not the runner.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_ends_the_terminal() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    terminal
        .send(Message::binary(vec![b'a'; 8 << 20]))
        .await
        .ok();
    until("the terminal to end", || !lab.status_says_connected()).await;
}

#[tokio::test(start_paused = true)]
async fn terminals_leave_the_places_of_strangers() {
    let lab = Lab::new();
    lab.start_container().await;
    let mut terminal = lab.terminal(None).await.unwrap();
    shows(&mut terminal, "80x24\n").await;
    assert_eq!(lab.strangers.available_permits(), 2);
}

#[test]
fn each_offer_is_another_and_its_token_is_in_no_debug_output() {
    let sessions = Sessions {
        certificate: "PEM".to_owned(),
        url: "https://[2001:db8::1]:8093".to_owned(),
        open: Mutex::default(),
    };
    let (one, two) = (sessions.offer().unwrap(), sessions.offer().unwrap());
    let (one, two) = (sessions.info(&one), sessions.info(&two));
    assert_ne!(one.url, two.url);
    assert_ne!(one.authorization, two.authorization);
    let id = one
        .url
        .strip_prefix("https://[2001:db8::1]:8093/session/")
        .unwrap();
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(is_hex(id) && is_hex(one.authorization.expose()));
    assert!(!format!("{one:?}").contains(one.authorization.expose()));
}

#[rstest]
#[case("ci.example.com", true)]
#[case("10.0.0.1", true)]
#[case("2001:db8::1", true)]
#[case("localhost", true)]
#[case("not ascii: ü", false)]
fn a_certificate_is_for_a_name_or_an_address(#[case] host: &str, #[case] made: bool) {
    assert_eq!(certificate::make(host).is_ok(), made);
}
