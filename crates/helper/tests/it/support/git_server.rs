//! Git over HTTP: git's own CGI program behind a listener that asks for a password.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use base64::Engine as _;

/// Headers of one request, names in lower case; `path` is its target.
pub(crate) type Request = HashMap<String, String>;

/// Serves until the test ends.
pub(crate) struct GitServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl GitServer {
    /// Serves the repositories below `root` to a user with a password.
    pub(crate) fn start(root: &Path, user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (root, seen) = (root.to_owned(), Arc::clone(&requests));
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let expected = format!("Basic {token}");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen, expected) = (root.clone(), Arc::clone(&seen), expected.clone());
                thread::spawn(move || answer(&stream, &root, &seen, &expected));
            }
        });
        Self { port, requests }
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

fn exec_path() -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
