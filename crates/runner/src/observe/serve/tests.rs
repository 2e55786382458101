//! Callers of all kinds. The clock is paused: bounds of time pass as soon as nothing else is to be done.

use std::{
    fmt::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    sync::atomic::{AtomicUsize, Ordering},
};

use rstest::rstest;
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};

use super::*;
use crate::observe::{StatusError, fetch_status};

struct Server {
    address: std::net::SocketAddr,
    answers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let address = "127.0.0.1:0".parse::<ListenAddress>().unwrap();
        let listeners = Listeners::default().with_metrics(&address).await.unwrap();
        let address = listeners.metrics_address().unwrap();
        let answers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answers);
        let answer: Answer = Arc::new(move |request, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Response::new(Full::from(format!("{}\n", request.uri().path())))
        });
        let task = tokio::spawn(serve(listeners, answer));
        Self {
            address,
            answers,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this, and returns all that comes back until the end.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    async fn assert_serves(&self) {
        let answer = self.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n/x\n"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_connection_gets_one_answer_and_ends() {
    let server = Server::start().await;
    server.assert_serves().await;
    let two = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = server.send(two).await;
    assert!(answer.ends_with("\r\n\r\n/a\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn head_has_no_body() {
    let server = Server::start().await;
    let answer = server.send(b"HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[rstest]
#[case::nonsense(b"\x00\xff\x16\x03garbage\r\n\r\n".to_vec(), "400 Bad Request")]
#[case::tls(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "400 Bad Request")]
#[case::another_version(b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400 Bad Request")]
#[case::a_header_without_end(long_header(1, 100_000), "431 Request Header Fields Too Large")]
#[case::many_headers(long_header(200, 10), "431 Request Header Fields Too Large")]
#[case::a_long_path(long_path(70_000), "431 Request Header Fields Too Large")]
#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_in_words(#[case] bytes: Vec<u8>, #[case] status: &str) {
    let server = Server::start().await;
    let answer = server.send(&bytes).await;
    let begin = format!("HTTP/1.1 {status}\r\n");
    assert!(answer.starts_with(&begin), "{answer:?}");
    assert_eq!(server.answers.load(Ordering::Relaxed), 0);
    server.assert_serves().await;
}

fn long_header(count: usize, length: usize) -> Vec<u8> {
    let mut head = "GET / HTTP/1.1\r\nhost: a\r\n".to_owned();
    for number in 0..count {
        write!(head, "x{number}: {}\r\n", "y".repeat(length)).unwrap();
    }
    (head + "\r\n").into_bytes()
}

fn long_path(length: usize) -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "p".repeat(length)).into_bytes()
}

#[rstest]
#[case::silent(b"")]
#[case::in_the_first_line(b"GET /x HT")]
#[case::between_headers(b"GET /x HTTP/1.1\r\nhost: a\r\n")]
#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection(#[case] begin: &[u8]) {
    let server = Server::start().await;
    let before = Instant::now();
    let answer = server.send(begin).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(before.elapsed() <= HEAD_LIMIT + LINGER + Duration::from_secs(1));
    assert_eq!(server.answers.load(Ordering::Relaxed), 0);
}

/// A byte at a time keeps no connection open.
#[tokio::test(start_paused = true)]
async fn a_caller_who_drips_is_cut_off() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let before = Instant::now();
    let request = b"GET /x HTTP/1.1\r\nhost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for byte in request {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(before.elapsed() > HEAD_LIMIT, "it was cut off at once");
    stream.write_all(b"\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    assert_eq!(answer, b"", "it was served in the end");
    server.assert_serves().await;
}

/// A body that is announced and does not come, or comes and has no end.
#[tokio::test(start_paused = true)]
async fn a_body_is_neither_waited_for_without_end_nor_read_without_bound() {
    let server = Server::start().await;
    let before = Instant::now();
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
    server.send(head.as_bytes()).await;
    assert!(before.elapsed() <= CONNECTION_LIMIT + LINGER + Duration::from_secs(1));
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n";
    let body = vec![b'x'; 4 * BODY_BYTES];
    let answer = server.send(&[head.as_bytes(), &body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    server.assert_serves().await;
}

#[tokio::test(start_paused = true)]
async fn silent_connections_do_not_keep_others_out() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..4 * CONNECTIONS {
        silent.push(server.connect().await);
    }
    server.assert_serves().await;
    drop(silent);
    server.assert_serves().await;
}

#[tokio::test(start_paused = true)]
async fn callers_who_hang_up_leave_nothing_behind() {
    let server = Server::start().await;
    for _ in 0..4 * CONNECTIONS {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /x HTTP/1.1\r\n").await.unwrap();
        drop(stream);
    }
    server.assert_serves().await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = taken.local_addr().unwrap().to_string();
    let address = text.parse::<ListenAddress>().unwrap();
    let error = Listeners::default()
        .with_metrics(&address)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

// === The status socket ===

fn state_folder(length: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s".repeat(length));
    fs::create_dir(&path).unwrap();
    (folder, path)
}

#[rstest]
#[case(5)]
#[case::longer_than_an_address_of_a_socket(200)]
#[tokio::test]
async fn the_socket_is_the_owners_alone_and_goes_with_the_listener(#[case] length: usize) {
    let (_folder, state) = state_folder(length);
    // Left by a process that died.
    drop(std::os::unix::net::UnixListener::bind(SocketPlace::of(&state).unwrap().path()).unwrap());
    let socket = bind_status(&state).unwrap();
    let path = state.join(STATUS_SOCKET);
    let meta = fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o777, 0o600);
    let answer: Answer = Arc::new(|_, visitor| {
        assert_eq!(visitor, Visitor::Owner);
        let mut no = Response::new(Full::from("no"));
        *no.status_mut() = hyper::StatusCode::IM_A_TEAPOT;
        no
    });
    let listeners = Listeners::default().with_status(socket);
    assert_eq!(listeners.metrics_address(), None);
    let task = tokio::spawn(serve(listeners, answer));
    let error = fetch_status(&state).await.unwrap_err().to_string();
    assert!(error.contains("it answers 418"), "{error}");
    task.abort();
    task.await.ok();
    assert!(!path.exists());
}

#[tokio::test]
async fn without_a_service_the_folder_is_named() {
    let (_folder, state) = state_folder(5);
    for path in [state.clone(), state.join("missing")] {
        let error = fetch_status(&path).await.unwrap_err();
        assert!(matches!(error, StatusError::NotRunning(_)), "{error:?}");
        assert!(error.to_string().ends_with(&*path.to_string_lossy()));
    }
    // Nobody listens on what a dead process left.
    drop(std::os::unix::net::UnixListener::bind(state.join(STATUS_SOCKET)).unwrap());
    let error = fetch_status(&state).await.unwrap_err();
    assert!(matches!(error, StatusError::NotRunning(_)), "{error:?}");
}

#[rstest]
#[case::garbage(b"garbage\r\n\r\n", "no answer|invalid|error")]
#[case::no_report(
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "of another version"
)]
#[case::cut_short(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{", "")]
#[tokio::test]
async fn a_strange_service_is_not_believed(#[case] answer: &'static [u8], #[case] why: &str) {
    let (_folder, state) = state_folder(5);
    let listener = UnixListener::bind(state.join(STATUS_SOCKET)).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let asked = stream.read(&mut head).await.unwrap();
        assert!(asked > 0);
        stream.write_all(answer).await.ok();
    });
    let error = fetch_status(&state).await.unwrap_err();
    assert!(matches!(error, StatusError::NoReport { .. }), "{error:?}");
    let text = error.to_string();
    assert!(why.split('|').any(|why| text.contains(why)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_given_up() {
    let (_folder, state) = state_folder(5);
    let _listener = UnixListener::bind(state.join(STATUS_SOCKET)).unwrap();
    let error = fetch_status(&state).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 5 s"), "{error}");
}
