//! Git over HTTP: git's own CGI program behind a listener that asks for a password.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use base64::Engine as _;

/// Headers of one request, names in lower case; `path` is its target.
pub(crate) type Request = HashMap<String, String>;

/// Serves until the test ends.
pub(crate) struct GitServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    together: Arc<Together>,
}

/// Holds requests back until several are there at a time: proof that a client does not send them one after the other.
#[derive(Default)]
struct Together {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: String,
    wanted: usize,
    present: usize,
    in_vain: bool,
}

impl Together {
    fn wait(&self, target: &str) {
        let mut state = self.waiting.lock().unwrap();
        if state.present >= state.wanted || !target.contains(&state.text) {
            return;
        }
        state.present += 1;
        self.changed.notify_all();
        let (mut state, timeout) = self
            .changed
            .wait_timeout_while(state, super::PATIENCE, |state| state.present < state.wanted)
            .unwrap();
        state.in_vain |= timeout.timed_out();
        // Once is enough.
        state.wanted = 0;
    }
}

impl GitServer {
    /// Serves the repositories below `root` to a user with a password.
    pub(crate) fn start(root: &Path, user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (root, seen) = (root.to_owned(), Arc::clone(&requests));
        let together = Arc::<Together>::default();
        let waiting = Arc::clone(&together);
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let expected = format!("Basic {token}");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen, expected) = (root.clone(), Arc::clone(&seen), expected.clone());
                let together = Arc::clone(&waiting);
                thread::spawn(move || answer(&stream, &root, &seen, &expected, &together));
            }
        });
        Self {
            port,
            requests,
            together,
        }
    }

    /// Answers the next requests whose target holds a text only when so many have come.
    pub(crate) fn answer_only_together(&self, count: usize, text: &str) {
        *self.together.waiting.lock().unwrap() = Waiting {
            text: text.to_owned(),
            wanted: count,
            ..Waiting::default()
        };
    }

    /// Whether they came together.
    pub(crate) fn was_asked_together(&self) -> bool {
        let state = self.together.waiting.lock().unwrap();
        state.wanted == 0 && !state.in_vain
    }

    pub(crate) fn host(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/group/project.git", self.host())
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    stream: &TcpStream,
    root: &Path,
    seen: &Mutex<Vec<Request>>,
    expected: &str,
    together: &Together,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut request = Request::from([("path".to_owned(), target.clone())]);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        request.insert(name.to_lowercase(), value.trim().to_owned());
    }
    seen.lock().unwrap().push(request.clone());
    if request.contains_key("expect") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = request
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if request
        .get("authorization")
        .is_none_or(|given| given != expected)
    {
        let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"GitLab\"\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        return writer.write_all(refused.as_bytes()).ok();
    }
    together.wait(&target);
    if let Some(content) = lfs_answer(root, &target, &body, &request) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.git-lfs+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        return writer.write_all(&content).ok();
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let header = |name: &str| request.get(name).cloned().unwrap_or_default();
    let mut child = Command::new(exec_path().join("git-http-backend"))
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let feed = thread::spawn(move || stdin.write_all(&body).ok());
    let mut output = Vec::new();
    child.stdout.take()?.read_to_end(&mut output).ok()?;
    feed.join().ok()?;
    child.wait().ok()?;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let rest: String = head
        .lines()
        .filter(|line| !line.starts_with("Status:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let content = &output[end + 4..];
    let response = format!(
        "HTTP/1.1 {status}\r\n{rest}Content-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    writer.write_all(response.as_bytes()).ok()?;
    writer.write_all(content).ok()
}

/// A stand-in for an LFS server, as far as downloads go: the batch call, and files below `lfs` by their hash.
fn lfs_answer(root: &Path, target: &str, body: &[u8], request: &Request) -> Option<Vec<u8>> {
    if let Some(oid) = target.strip_prefix("/lfs-objects/") {
        return std::fs::read(root.join("lfs").join(oid)).ok();
    }
    if !target.ends_with("/info/lfs/objects/batch") {
        return None;
    }
    let host = request.get("host")?;
    let text = String::from_utf8_lossy(body);
    // The shape of the call is git-lfs's own; only hashes and sizes matter here.
    let field = |object: &str, name: &str| {
        let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
        let value = rest.trim_start_matches('"');
        let end = value.find(|char: char| !char.is_ascii_alphanumeric())?;
        Some(value[..end].to_owned())
    };
    let objects: Vec<_> = text
        .split('{')
        .filter_map(|object| {
            let (oid, size) = (field(object, "oid")?, field(object, "size")?);
            Some(format!(
                "{{\"oid\":\"{oid}\",\"size\":{size},\"actions\":{{\"download\":{{\"href\":\"http://{host}/lfs-objects/{oid}\"}}}}}}"
            ))
        })
        .collect();
    Some(
        format!(
            "{{\"transfer\":\"basic\",\"objects\":[{}]}}",
            objects.join(",")
        )
        .into_bytes(),
    )
}

fn exec_path() -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
