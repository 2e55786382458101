//! A server that does as a test says: object store and coordinator in one.

use std::{
    collections::HashMap,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex},
    thread,
};

/// A request with its whole body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// The body came to its end.
    pub(crate) whole: bool,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }
}

/// Something to be done when some of a body has been sent.
#[derive(Clone)]
pub(crate) struct Pause {
    at: usize,
    run: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pause({})", self.at)
    }
}

/// What is answered: status, headers, body; `cut` bytes of the body are held back and the connection is closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) cut: usize,
    pub(crate) pause: Option<Pause>,
    /// Sent instead of all that.
    pub(crate) raw: Option<Vec<u8>>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `run` is called when `at` bytes of the body have been sent.
    pub(crate) fn pause(mut self, at: usize, run: impl Fn() + Send + Sync + 'static) -> Self {
        let run = Arc::new(run);
        self.pause = Some(Pause { at, run });
        self
    }

    /// A part of an object, as asked for: 206, or 416; 200 with all of it if nothing was asked.
    pub(crate) fn range_of(object: &[u8], request: &Request) -> Self {
        let Some(range) = request.header("range").strip_prefix("bytes=") else {
            return Self::status(200).body(object);
        };
        let (from, to) = range.split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(object.len(), |to: usize| to + 1);
        let to = to.min(object.len());
        if from >= to {
            return Self::status(416);
        }
        let place = format!("bytes {from}-{}/{}", to - 1, object.len());
        Self::status(206)
            .with("Content-Range", place)
            .body(&object[from..to])
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// How a handler panicked.
type Panic = Box<dyn std::any::Any + Send>;

/// Serves until the test ends. A handler that panics closes its connection, which a client may make up for by trying again: the test
/// fails when the store is dropped.
pub(crate) struct Store {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    panic: Arc<Mutex<Option<Panic>>>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let panic = self.panic.lock().unwrap().take();
        if let Some(panic) = panic
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

impl Store {
    /// `handler` gets each request and the number of those before it.
    pub(crate) fn start(
        handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, requests): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&seen));
        let panic = Arc::new(Mutex::new(None));
        let panics = Arc::clone(&panic);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                let panics = Arc::clone(&panics);
                thread::spawn(move || {
                    let serve = || serve(&stream, &*handler, &requests);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(serve)) {
                        // Before the client sees that the connection is closed.
                        panics.lock().unwrap().get_or_insert(panic);
                    }
                });
            }
        });
        Self { port, seen, panic }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, handler: &Handler, seen: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    if headers.contains_key("expect") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    let whole = if headers
        .get("transfer-encoding")
        .is_some_and(|value| value == "chunked")
    {
        chunks(&mut reader, &mut body).is_some()
    } else {
        let length: usize = headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        body.resize(length, 0);
        reader.read_exact(&mut body).is_ok()
    };
    let request = Request {
        method,
        target,
        headers,
        body,
        whole,
    };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = handler(&request, number);
    if let Some(raw) = reply.raw {
        return writer.write_all(&raw).ok();
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([name, ": ", &value[..], "\r\n"]);
    }
    if !reply
        .headers
        .iter()
        .any(|(name, _)| *name == "Transfer-Encoding")
    {
        head.extend(["Content-Length: ", &reply.body.len().to_string(), "\r\n"]);
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes()).ok()?;
    if request.method != "HEAD" {
        let body = &reply.body[..reply.body.len() - reply.cut];
        let at = reply.pause.as_ref().map_or(0, |pause| pause.at);
        writer.write_all(&body[..at]).ok()?;
        if let Some(pause) = reply.pause {
            (pause.run)();
        }
        writer.write_all(&body[at..]).ok()?;
    }
    Some(())
}

fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        let mut end = [0; 2];
        reader.read_exact(&mut end).ok()?;
        if length == 0 {
            return Some(());
        }
    }
}
