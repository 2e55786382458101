//! An S3 server for caches: `s3s` on a temporary folder, which computes every signature anew and refuses what does not fit.
//!
//! What is ours is the record of requests, the faults, and the role: `sts:AssumeRole` on the same address.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::SingleDomain;
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::watch;
use url::form_urlencoded;

use crate::http::{Body, Handler, Hangup, Server, empty, full, set_header};

/// The key id that the server knows.
pub const ACCESS_KEY: &str = "AKIAGANTRYTESTKIT";
/// Its secret.
pub const SECRET_KEY: &str = "testkit/secret+key/of/the/bucket's/owner";
/// The role that the owner of the key may assume.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/caches";

/// Key id, secret and session token of who has assumed the role.
const OF_ROLE: [&str; 3] = [
    "ASIAGANTRYTESTKIT",
    "testkit/secret+key/of/the/role",
    "testkit//session/token+of/the/role==",
];

/// An S3 server. Runs until its last handle is dropped; its objects go with it.
#[derive(Clone)]
pub struct S3Server {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    state: Arc<State>,
    address: String,
}

struct State {
    root: TempDir,
    service: S3Service,
    log: Mutex<Log>,
    released: watch::Sender<()>,
}

#[derive(Default)]
struct Log {
    requests: Vec<ObjectRequest>,
    held: Vec<ObjectRequest>,
    failing: Option<(&'static str, u32, Fault)>,
    cutting: Option<usize>,
}

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// It is answered with 200 and an error in the body, as S3 does when it fails late.
    LateError,
    /// The connection ends without an answer.
    Hangup,
    /// It is done, and the connection ends without an answer.
    LostAnswer,
    /// It is looked at after [`S3Server::release`].
    Held,
    /// It is done, and the answer lacks the `ETag`.
    NoTag,
}

/// One request to the server.
#[derive(Debug, Clone)]
pub struct ObjectRequest {
    /// `GET`, `HEAD`, `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// `Host`.
    pub host: String,
    /// Path as sent, percent-encoded.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// Status answered.
    pub status: u16,
}

impl ObjectRequest {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// An item of the query.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(one, _)| one == name)?;
        Some(&found.1)
    }

    /// What the storage's protocol calls it, for requests of an upload in parts; else its method.
    #[must_use]
    pub fn operation(&self) -> &str {
        operation(&self.method, &self.query)
    }
}

fn operation<'a>(method: &'a str, query: &[(String, String)]) -> &'a str {
    let has = |name: &str| query.iter().any(|(one, _)| one == name);
    match method {
        "POST" if has("uploads") => "CreateMultipartUpload",
        "PUT" if has("uploadId") => "UploadPart",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        method => method,
    }
}

impl S3Server {
    /// A server on a free port of 127.0.0.1 with the bucket `caches`.
    pub async fn start() -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "127.0.0.1").await
    }

    /// A server on `addr` with the bucket `caches`, known to its clients as `host` (for containers: an address of the engine's bridge).
    /// A `host` that is a name also gives each bucket a name below it.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn start_on(addr: SocketAddr, host: &str) -> Self {
        // The name with its port is what requests carry, so the port must be known before the service is made.
        let port = match addr.port() {
            0 => std::net::TcpListener::bind(addr)
                .and_then(|free| free.local_addr())
                .expect("a free port")
                .port(),
            port => port,
        };
        let root = tempfile::Builder::new()
            .prefix("gantry-testkit-s3-")
            .tempdir()
            .expect("a folder for buckets");
        let files = FileSystem::new(root.path()).expect("a folder for buckets");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(Keys);
        service.set_route(AssumeRole);
        let address = format!("{host}:{port}");
        if host.parse::<std::net::IpAddr>().is_err() {
            service.set_host(SingleDomain::new(&address).expect("a name"));
        }
        let state = Arc::new(State {
            root,
            service: service.build(),
            log: Mutex::default(),
            released: watch::Sender::default(),
        });
        let at = SocketAddr::new(addr.ip(), port);
        let server = match Server::start(at, None, Arc::clone(&state)).await {
            // Somebody else took the free port meanwhile.
            Err(error) if error.kind() == ErrorKind::AddrInUse && addr.port() == 0 => {
                return Box::pin(Self::start_on(addr, host)).await;
            }
            server => server.expect("a free address"),
        };
        let this = Self {
            inner: Arc::new(Inner {
                server,
                state,
                address,
            }),
        };
        this.add_bucket("caches");
        this
    }

    /// Host and port as its clients name it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// If there is one of that name.
    pub fn add_bucket(&self, name: &str) {
        fs::create_dir(self.root().join(name)).expect("a new bucket");
    }

    /// Names of the objects of a bucket, sorted.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let top = self.root().join(bucket);
        let (mut found, mut folders) = (Vec::new(), vec![top.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(name) = path.strip_prefix(&top) {
                    found.push(name.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Content of an object.
    #[must_use]
    pub fn object(&self, bucket: &str, name: &str) -> Option<Vec<u8>> {
        fs::read(self.root().join(bucket).join(name)).ok()
    }

    /// Gives an object another content, as if someone else had stored it.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn replace(&self, bucket: &str, name: &str, content: &[u8]) {
        let path = self.root().join(bucket).join(name);
        assert!(path.is_file(), "no object {name}");
        fs::write(&path, content).expect("an object to write");
        // Times of objects are in whole seconds, and this one is the newer.
        fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(SystemTime::now() + Duration::from_secs(2)))
            .expect("an object to write");
    }

    /// Numbers of the uploads in parts that are neither completed nor aborted.
    #[must_use]
    pub fn open_uploads(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| {
                let rest = name.strip_prefix(".upload-")?;
                Some(rest.strip_suffix(".json")?.to_owned())
            })
            .collect()
    }

    /// Answers the next `times` requests of this method or [operation](ObjectRequest::operation) with this status.
    pub fn fail_next(&self, kind: &'static str, times: u32, status: u16) {
        self.spoil_next(kind, times, Fault::Status(status));
    }

    /// Lets the next `times` requests of this method or [operation](ObjectRequest::operation) go wrong.
    pub fn spoil_next(&self, kind: &'static str, times: u32, fault: Fault) {
        self.log().failing = Some((kind, times, fault));
    }

    /// Ends the body of the next object that is fetched after so many bytes.
    pub fn cut_next(&self, bytes: usize) {
        self.log().cutting = Some(bytes);
    }

    /// Requests that were [held](Fault::Held) so far.
    #[must_use]
    pub fn held(&self) -> Vec<ObjectRequest> {
        self.log().held.clone()
    }

    /// Lets those go that are held, and holds no more.
    pub fn release(&self) {
        self.log().failing = None;
        self.inner.state.released.send_replace(());
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<ObjectRequest> {
        self.log().requests.clone()
    }

    /// Requests of a method so far.
    #[must_use]
    pub fn requests_by(&self, method: &str) -> Vec<ObjectRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == method);
        requests
    }

    /// Closes all connections and refuses new ones.
    pub async fn go_down(&self) {
        self.inner.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn come_back(&self) {
        self.inner.server.up().await;
    }

    fn root(&self) -> PathBuf {
        self.inner.state.root.path().to_owned()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.state.log()
    }
}

impl State {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this request is to go wrong, if it is.
    fn fault(&self, request: &ObjectRequest) -> Option<Fault> {
        let mut log = self.log();
        let (kind, left, fault) = log.failing.as_mut()?;
        let meant = *kind == request.method || *kind == request.operation();
        if !meant || *left == 0 {
            return None;
        }
        *left -= 1;
        Some(*fault)
    }

    /// What to answer without asking the service.
    fn refuse(&self, request: &ObjectRequest) -> Option<Response<Body>> {
        // The service knows secrets, but no session tokens.
        let of_role = request
            .item("X-Amz-Credential")
            .is_some_and(|of| of.starts_with(OF_ROLE[0]));
        if of_role && request.item("X-Amz-Security-Token") != Some(OF_ROLE[2]) {
            return Some(error(403, "InvalidToken"));
        }
        // It says of these that access is denied.
        let open = |id: &str| self.root.path().join(format!(".upload-{id}.json")).exists();
        let over = request.item("uploadId").is_some_and(|id| !open(id));
        over.then(|| error(404, "NoSuchUpload"))
    }
}

/// An answer with an error.
fn error(status: u16, code: &str) -> Response<Body> {
    let mut response = empty(status);
    set_header(&mut response, "content-type", "application/xml");
    *response.body_mut() = full(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
    ));
    response
}

impl Handler for State {
    async fn handle(
        self: Arc<Self>,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let query = request.uri().query().unwrap_or_default();
        let mut record = ObjectRequest {
            method: request.method().to_string(),
            host: String::new(),
            path: request.uri().path().to_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers: request.headers().clone(),
            status: 0,
        };
        record.host = record.header("host").unwrap_or_default().to_owned();
        let fault = self.fault(&record);
        let answer = match fault {
            Some(Fault::Status(status)) => Some(empty(status)),
            Some(Fault::LateError) => Some(error(200, "InternalError")),
            Some(Fault::Hangup) => {
                self.log().requests.push(record);
                return Err(Hangup);
            }
            Some(Fault::Held) => {
                let mut released = self.released.subscribe();
                self.log().held.push(record.clone());
                released.changed().await.map_err(|_| Hangup)?;
                self.refuse(&record)
            }
            Some(Fault::LostAnswer | Fault::NoTag) | None => self.refuse(&record),
        };
        let mut response = match answer {
            Some(response) => response,
            None => match self.service.call(request.map(s3s::Body::from)).await {
                Ok(response) => {
                    response.map(|body| body.map_err(std::io::Error::other).boxed_unsync())
                }
                Err(_) => empty(500),
            },
        };
        record.status = response.status().as_u16();
        if fault == Some(Fault::NoTag) {
            response.headers_mut().remove("etag");
        }
        let cut = {
            let mut log = self.log();
            let fetched = record.method == "GET" && record.status == 200;
            log.requests.push(record);
            fetched.then(|| log.cutting.take()).flatten()
        };
        if fault == Some(Fault::LostAnswer) {
            return Err(Hangup);
        }
        if let Some(bytes) = cut {
            let body = std::mem::replace(response.body_mut(), full(Bytes::new()));
            let whole = body.collect().await.map_err(|_| Hangup)?.to_bytes();
            // The length that was announced stays.
            *response.body_mut() = crate::http::cut(whole.slice(..bytes.min(whole.len())));
        }
        Ok(response)
    }
}

/// Who may do something here.
struct Keys;

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match access_key {
            ACCESS_KEY => Ok(SECRET_KEY.into()),
            id if id == OF_ROLE[0] => Ok(OF_ROLE[1].into()),
            _ => Err(S3Error::new(S3ErrorCode::InvalidAccessKeyId)),
        }
    }
}

/// `sts:AssumeRole`. Its caller's signature has been checked when it is called.
struct AssumeRole;

#[async_trait::async_trait]
impl S3Route for AssumeRole {
    fn is_match(
        &self,
        method: &Method,
        uri: &Uri,
        _: &HeaderMap,
        _: &mut hyper::http::Extensions,
    ) -> bool {
        method == Method::POST && uri.path() == "/"
    }

    async fn call(&self, mut request: S3Request<s3s::Body>) -> S3Result<S3Response<s3s::Body>> {
        let denied = |why: &'static str| S3Error::with_message(S3ErrorCode::AccessDenied, why);
        let caller = request
            .credentials
            .as_ref()
            .map(|it| it.access_key.as_str());
        if caller != Some(ACCESS_KEY) || request.service.as_deref() != Some("sts") {
            return Err(denied("not the owner of the key"));
        }
        let form = request
            .input
            .store_all_limited(64 * 1024)
            .await
            .map_err(|_| denied("no form"))?;
        let form: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
        let is = |name: &str, value: &str| {
            form.iter()
                .any(|(one, other)| one == name && other == value)
        };
        if !is("Action", "AssumeRole") || !is("RoleArn", ROLE) {
            return Err(denied("not authorized to perform sts:AssumeRole"));
        }
        let [id, secret, token] = OF_ROLE;
        let answer = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        Ok(S3Response::new(s3s::Body::from(answer)))
    }
}
