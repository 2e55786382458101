//! Artifacts of jobs: what is uploaded is kept, what is asked for is given, directly or through object storage
//! (coordinator-api §10).

use bytes::Bytes;
use hyper::Response;
use serde_json::json;

use super::book::Book;
use super::{JobRecord, RecordedRequest, ServerJobState};
use crate::http::{Body, empty, full, set_header};

/// Path of objects below the server's root.
pub(super) const OBJECTS: &str = "/objects/";
/// Type of what other jobs download.
const ARCHIVE: &str = "archive";

/// One uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    /// File name of the part.
    pub file_name: String,
    /// `artifact_type`; `archive` where the runner did not say.
    pub artifact_type: String,
    /// `artifact_format` as sent; empty: not sent.
    pub format: String,
    /// `expire_in` as sent.
    pub expire_in: String,
    /// The file.
    pub bytes: Bytes,
}

fn message(status: u16, text: &str) -> Response<Body> {
    let mut response = empty(status);
    set_header(&mut response, "content-type", "application/json");
    *response.body_mut() = full(json!({ "message": text }).to_string());
    response
}

impl Book {
    /// `POST jobs/:id/artifacts`.
    pub(super) fn upload_artifact(&mut self, request: &RecordedRequest) -> Response<Body> {
        let Some(job) = request.job.and_then(|id| self.jobs.get_mut(&id)) else {
            return message(404, "404 Not found");
        };
        if request.header("job-token") != Some(&job.token) || !is_running(job) {
            return message(403, "403 Forbidden");
        }
        let Some(file) = Part::file(request) else {
            return message(400, "400 Bad request - no part named file");
        };
        let said = |name: &str| {
            query(&request.path, name)
                .or_else(|| Part::text(request, name))
                .unwrap_or_default()
        };
        let artifact_type = match said("artifact_type") {
            none if none.is_empty() => ARCHIVE.to_owned(),
            given => given,
        };
        let artifact = StoredArtifact {
            file_name: file.file_name,
            format: said("artifact_format"),
            expire_in: said("expire_in"),
            bytes: file.bytes,
            artifact_type,
        };
        let mut stored = job.artifacts.iter();
        let same = stored.find(|one| one.artifact_type == artifact.artifact_type);
        match same {
            // As a server compares checksums.
            Some(same) if same.bytes == artifact.bytes => {}
            Some(_) => {
                return message(400, "another artifact of the same type already exists");
            }
            None => job.artifacts.push(artifact),
        }
        message(201, "201 Created")
    }

    /// `GET jobs/:id/artifacts`.
    pub(super) fn download_artifact(&self, request: &RecordedRequest) -> Response<Body> {
        let Some(job) = request.job.and_then(|id| self.jobs.get(&id)) else {
            return message(404, "404 Not found");
        };
        if request.header("job-token") != Some(&job.token) {
            return message(403, "403 Forbidden");
        }
        let Some(archive) = archive(job) else {
            return message(404, "404 Not found");
        };
        if self.direct_download && query(&request.path, "direct_download").is_some() {
            let mut response = empty(302);
            let place = format!("{}{OBJECTS}{}", self.url, job.id);
            set_header(&mut response, "location", &place);
            return response;
        }
        let mut response = empty(200);
        set_header(&mut response, "content-type", "application/octet-stream");
        *response.body_mut() = full(archive.bytes.clone());
        response
    }

    /// `GET /objects/:id`: an object storage, which knows nothing of job tokens and gives ranges.
    pub(super) fn object(&self, request: &RecordedRequest) -> Response<Body> {
        if request.header("job-token").is_some() {
            return message(400, "a token was shown to the object storage");
        }
        let id = request.path.strip_prefix(OBJECTS);
        let id = id.and_then(|rest| rest.split('?').next()?.parse::<i64>().ok());
        let Some(archive) = id.and_then(|id| self.jobs.get(&id)).and_then(archive) else {
            return message(404, "404 Not found");
        };
        let all = &archive.bytes;
        let Some((from, to)) = request.header("range").and_then(range) else {
            let mut response = empty(200);
            *response.body_mut() = full(all.clone());
            return response;
        };
        let to = to.min(all.len().saturating_sub(1));
        if from > to {
            return empty(416);
        }
        let mut response = empty(206);
        let place = format!("bytes {from}-{to}/{}", all.len());
        set_header(&mut response, "content-range", &place);
        *response.body_mut() = full(all.slice(from..=to));
        response
    }
}

fn is_running(job: &JobRecord) -> bool {
    matches!(
        job.state,
        ServerJobState::Running | ServerJobState::Canceling
    )
}

fn archive(job: &JobRecord) -> Option<&StoredArtifact> {
    job.artifacts
        .iter()
        .find(|artifact| artifact.artifact_type == ARCHIVE)
}

/// First and last byte of `bytes=a-b`.
fn range(header: &str) -> Option<(usize, usize)> {
    let (from, to) = header.strip_prefix("bytes=")?.split_once('-')?;
    let to = if to.is_empty() {
        usize::MAX
    } else {
        to.parse().ok()?
    };
    Some((from.parse().ok()?, to))
}

/// An item of the query, `+` and percent-encoding undone.
fn query(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let found = query
        .split('&')
        .filter_map(|item| item.split_once('='))
        .find(|(key, _)| *key == name)?;
    let mut bytes = found.1.bytes();
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(text).ok()
}

/// A part of a multipart body.
struct Part {
    name: String,
    file_name: String,
    bytes: Bytes,
}

impl Part {
    fn file(request: &RecordedRequest) -> Option<Self> {
        Self::all(request)?
            .into_iter()
            .find(|part| part.name == "file")
    }

    fn text(request: &RecordedRequest, name: &str) -> Option<String> {
        let part = Self::all(request)?
            .into_iter()
            .find(|part| part.name == name)?;
        String::from_utf8(part.bytes.to_vec()).ok()
    }

    /// All parts; `None` if the body is cut or no multipart.
    fn all(request: &RecordedRequest) -> Option<Vec<Self>> {
        let kind = request.header("content-type")?;
        let boundary = kind
            .strip_prefix("multipart/form-data")?
            .split_once("boundary=")?
            .1
            .trim_matches('"');
        let body = &request.body;
        let first = format!("--{boundary}");
        let next = format!("\r\n--{boundary}");
        let mut at = find(body, first.as_bytes(), 0)? + first.len();
        let mut parts = Vec::new();
        loop {
            let rest = body.get(at..)?;
            if rest.starts_with(b"--") {
                return Some(parts);
            }
            let head = at + 2;
            let head_end = find(body, b"\r\n\r\n", head)?;
            let content = head_end + 4;
            let end = find(body, next.as_bytes(), content)?;
            let text = String::from_utf8_lossy(body.get(head..head_end)?).into_owned();
            let item = |name: &str| {
                let (_, rest) = text.split_once(&format!("{name}=\""))?;
                Some(rest.split('"').next()?.to_owned())
            };
            parts.push(Self {
                name: item("; name").unwrap_or_default(),
                file_name: item("filename").unwrap_or_default(),
                bytes: body.slice(content..end),
            });
            at = end + next.len();
        }
    }
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = body.get(at..)?;
        let first = rest.iter().position(|byte| *byte == wanted[0])?;
        at += first;
        if body.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}
