//! Upload: the archive is packed while it is sent; a further try packs it anew, to the same bytes.

use std::{
    io::{self, Cursor, Read, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use gantry_agent::{ArtifactEntry, EntryOutcome, EntryResult, UploadArtifactsRequest};
use gantry_archive::{Format, Items, Level, PackError, Packed, pack, threads};
use ureq::http::Method;

use super::{ArtifactError, BUSY_TRIES, address, client, encoded, fields, provenance, received};
use crate::{
    cache::save::level,
    expansion::expand,
    http::{
        Body, Client, HttpError, MOST_REDIRECTS, origin, redirect, redirected_to_nowhere,
        retry::{Again, Problem, Tries},
        shown,
    },
    log,
    meter::Meter,
    selection::{find, variable},
};

const TRIES: Tries = Tries {
    most: 3,
    most_busy: BUSY_TRIES,
    pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(5),
    context: Some("artifacts-uploader"),
};
/// Bytes of an answer's body that are shown with `CI_DEBUG_TRACE`.
const DUMPED_BODY: u64 = 512;
/// Pieces of 256 KiB between the packer and the connection.
const QUEUE: usize = 16;

/// The stage: every entry is tried.
pub(crate) fn run(
    request: &UploadArtifactsRequest,
    done: &mut Vec<EntryResult>,
) -> Result<(), String> {
    let to = match &request.folder {
        Some(folder) => To::Folder(folder),
        None => To::Server(client(
            &request.coordinator,
            request.timeout_seconds,
            request.response_header_timeout_seconds,
        )),
    };
    let mut failure = None;
    for (place, entry) in request.entries.iter().enumerate() {
        let mut result = crate::stage_child::result(done.len(), EntryOutcome::Nothing);
        log::notice("Uploading artifacts...");
        match upload(request, entry, place, &to) {
            Ok(Some(sent)) => {
                result.outcome = EntryOutcome::Done;
                result.files = sent.entries;
                result.bytes = sent.bytes;
            }
            Ok(None) => {}
            Err(error) => {
                error.tell();
                result.outcome = EntryOutcome::Failed;
                failure.get_or_insert_with(|| error.text.clone());
                result.error = Some(error.text);
            }
        }
        done.push(result);
    }
    failure.map_or(Ok(()), Err)
}

/// The command: one entry.
pub(crate) fn run_quietly(request: &UploadArtifactsRequest) -> Result<(), String> {
    let to = To::Server(client(
        &request.coordinator,
        request.timeout_seconds,
        request.response_header_timeout_seconds,
    ));
    for (place, entry) in request.entries.iter().enumerate() {
        upload(request, entry, place, &to).map_err(|error| error.text)?;
    }
    Ok(())
}

/// Where archives go.
enum To<'a> {
    Server(Client),
    /// A directory, for a job without a server.
    Folder(&'a Path),
}

/// What was sent.
pub(crate) struct Sent {
    pub(super) entries: u64,
    /// Of the archive.
    pub(super) bytes: u64,
}

/// One entry; `None`: it has no files.
fn upload(
    request: &UploadArtifactsRequest,
    entry: &ArtifactEntry,
    place: usize,
    to: &To<'_>,
) -> Result<Option<Sent>, ArtifactError> {
    let (format, suffix) = match entry.format.as_str() {
        "" | "zip" => (Format::Zip, ".zip"),
        "zipzstd" => (Format::ZipZstd, ".zip"),
        "tarzstd" => (Format::TarZstd, ".tar.zst"),
        "gzip" => (Format::Gzip, ".gz"),
        "raw" => (Format::Raw, ""),
        other => {
            return Err(ArtifactError::new(format!(
                "unsupported archive format: {:?}",
                shown(other)
            )));
        }
    };
    let mut items = find(&request.project_dir, &entry.selection);
    if items.is_empty() {
        log::line(log::Level::Error, "No files to upload", &[]);
        return Ok(None);
    }
    let name = name(&entry.name);
    if let (Some(wanted), "zip") = (&request.provenance, &entry.format[..]) {
        provenance::add(
            &request.project_dir,
            &name,
            request.job_id,
            wanted,
            &mut items,
        )?;
    }
    let job = Job {
        root: &request.project_dir,
        items: &items,
        format,
        level: level(variable("ARTIFACT_COMPRESSION_LEVEL")),
        file: format!("{name}{suffix}"),
    };
    match to {
        To::Server(client) => send(request, entry, client, &job),
        To::Folder(folder) => super::folder::keep(folder, request.job_id, place, entry, &job),
    }
    .map(Some)
}

/// The base name of what the job calls its artifacts.
fn name(text: &str) -> String {
    let text = if text.is_empty() { "artifacts" } else { text };
    let expanded = expand(text, &variable).unwrap_or_else(|error| {
        log::warning(&format!("invalid artifact name: {error}"));
        text.to_owned()
    });
    match expanded.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => "default".into(),
        Some(base) => base.into(),
    }
}

/// What is packed, each time.
pub(super) struct Job<'a> {
    pub(super) root: &'a Path,
    pub(super) items: &'a Items,
    pub(super) format: Format,
    pub(super) level: Level,
    /// Name of the archive.
    file: String,
}

fn send(
    request: &UploadArtifactsRequest,
    entry: &ArtifactEntry,
    client: &Client,
    job: &Job<'_>,
) -> Result<Sent, ArtifactError> {
    let mut query = String::new();
    for (key, value) in [
        ("artifact_format", &entry.format),
        ("artifact_type", &entry.artifact_type),
        ("expire_in", &entry.expire_in),
    ] {
        if !value.is_empty() {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.extend([key, "=", &encoded(value)]);
        }
    }
    let mut url = format!("{}{query}", address(&request.coordinator, request.job_id));
    let mut redirects = 0;
    // A server that answers early closes the connection while the archive is being sent; asked first, it can be understood.
    let mut ask_first = false;
    let sent = TRIES.run(|_| {
        loop {
            match attempt(request, entry, client, job, &url, ask_first) {
                Ok(Reply::Sent(sent)) => return Ok(sent),
                Ok(Reply::Moved(to)) => {
                    redirects += 1;
                    if redirects > MOST_REDIRECTS {
                        return Err(Problem::lasting(format!(
                            "upload stopped after {MOST_REDIRECTS} redirects"
                        )));
                    }
                    url = to;
                }
                Err(problem) => {
                    ask_first |= problem.again == Again::Perhaps;
                    return Err(problem);
                }
            }
        }
    })?;
    Ok(sent)
}

enum Reply {
    Sent(Sent),
    Moved(String),
}

fn attempt(
    request: &UploadArtifactsRequest,
    entry: &ArtifactEntry,
    client: &Client,
    job: &Job<'_>,
    url: &str,
    ask_first: bool,
) -> Result<Reply, Problem> {
    const BOUNDARY: &str = "gantry-7d6f1c0e5b3a49828f1e";
    let token = request.token.expose();
    let mut headers = vec![
        ("JOB-TOKEN".to_owned(), token.to_owned()),
        (
            "Content-Type".to_owned(),
            format!("multipart/form-data; boundary={BOUNDARY}"),
        ),
    ];
    if ask_first {
        headers.push(("Expect".into(), "100-continue".into()));
    }
    let name: String = job
        .file
        .chars()
        .flat_map(|char| match char {
            '"' => "%22".chars().collect::<Vec<_>>(),
            '\\' => "\\\\".chars().collect(),
            char if char.is_control() => vec!['_'],
            char => vec![char],
        })
        .collect();
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let (sender, receiver) = sync_channel(QUEUE);
    let (answer, packed, bytes) = thread::scope(|scope| {
        let packer = scope.spawn(move || {
            let mut sink = Pieces { sender, bytes: 0 };
            let packed = pack(
                job.root,
                job.items,
                job.format,
                job.level,
                None,
                threads(),
                &mut sink,
            );
            if packed.is_ok() {
                // The end of the archive; without it the reader knows that something is missing.
                sink.sender.send(Vec::new()).ok();
            }
            (packed, sink.bytes)
        });
        let archive = Meter::new(Archive::new(receiver), "Uploading artifacts", None);
        let mut body = Cursor::new(head).chain(archive).chain(Cursor::new(tail));
        let answer = client.send(&Method::POST, url, &headers, Body::Reader(&mut body, None));
        let (front, _) = body.into_inner();
        let (_, archive) = front.into_inner();
        if answer.is_ok() {
            archive.finish();
        } else {
            // The packer ends when nobody reads.
            drop(archive);
        }
        let (packed, bytes) = match packer.join() {
            Ok(done) => done,
            Err(_) => (Err(PackError::Panicked), 0),
        };
        (answer, packed, bytes)
    });
    reply(request, entry, url, answer, packed, bytes)
}

fn reply(
    request: &UploadArtifactsRequest,
    entry: &ArtifactEntry,
    url: &str,
    answer: Result<crate::http::Answer, HttpError>,
    packed: Result<Packed, PackError>,
    bytes: u64,
) -> Result<Reply, Problem> {
    match &packed {
        // The connection broke; it says why.
        Err(PackError::Sink(_)) | Ok(_) => {}
        Err(error) => return Err(Problem::lasting(error.to_string())),
    }
    let mut answer = answer?;
    if debug_trace() {
        dump(&mut answer);
    }
    let token = request.token.expose();
    let what = match entry.artifact_type.as_str() {
        "" => "archive",
        other => other,
    };
    let line = |level, text: &str, answer: &crate::http::Answer| {
        log::line(
            level,
            &format!(
                "Uploading artifacts as {:?} to coordinator... {text}",
                shown(what)
            ),
            &fields(answer, request.job_id, token),
        );
    };
    match answer.status {
        201 => {
            line(log::Level::Info, "201 Created", &answer);
            let packed = packed.unwrap_or_default();
            tell_shrunk(&packed);
            Ok(Reply::Sent(Sent {
                entries: packed.entries,
                bytes,
            }))
        }
        status @ (307 | 308) => {
            let to = answer
                .header("location")
                .and_then(|location| redirect(url, location));
            match to {
                // The token does not go where it can be read on the way.
                Some(to) if url.starts_with("https:") && !to.starts_with("https:") => Err(
                    Problem::lasting(format!("redirected without encryption to {}", origin(&to))),
                ),
                Some(to) => Ok(Reply::Moved(to)),
                None => {
                    line(
                        log::Level::Warning,
                        &crate::http::status_text(status),
                        &answer,
                    );
                    Err(Problem::passing(redirected_to_nowhere(url, &answer)))
                }
            }
        }
        403 => {
            line(log::Level::Error, "403 Forbidden", &answer);
            Err(Problem::lasting("permission denied"))
        }
        413 => {
            line(log::Level::Error, "413 Request Entity Too Large", &answer);
            Err(Problem::lasting("too large"))
        }
        503 => {
            line(log::Level::Error, "503 Service Unavailable", &answer);
            Err(Problem {
                text: "service unavailable".into(),
                again: Again::after(&answer),
            })
        }
        _ => {
            line(log::Level::Warning, &answer.status_text(), &answer);
            let again = Again::after(&answer);
            Err(Problem {
                text: received(answer),
                again,
            })
        }
    }
}

/// `CI_DEBUG_TRACE`, in the forms that GitLab Runner takes.
fn debug_trace() -> bool {
    let value = variable("CI_DEBUG_TRACE").unwrap_or_default();
    ["1", "t", "T", "true", "TRUE", "True"].contains(&value.as_str())
}

/// What the coordinator answered, for whoever looks for the reason (coordinator-api §10): headers, and the beginning of the body.
fn dump(answer: &mut crate::http::Answer) {
    log::info(&format!("Response: {}", answer.status_text()));
    let headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| {
            let value = match name.as_str() {
                // A login is nobody's business.
                "set-cookie" | "authorization" | "www-authenticate" => "[MASKED]".into(),
                _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            };
            format!("Response header: {name}: {}", shown(&value))
        })
        .collect();
    for header in headers {
        log::info(&header);
    }
    let body = answer.beginning(DUMPED_BODY);
    if !body.is_empty() {
        log::info(&format!(
            "Response body: {}",
            shown(&String::from_utf8_lossy(body))
        ));
    }
}

/// Files that did not hold what they were listed with.
pub(super) fn tell_shrunk(packed: &Packed) {
    for path in &packed.shrunk {
        log::warning(&format!(
            "{} became shorter while it was read",
            path.display()
        ));
    }
}

/// Where the packer writes.
struct Pieces {
    sender: SyncSender<Vec<u8>>,
    bytes: u64,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.sender
                .send(bytes.to_vec())
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.bytes += bytes.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the connection reads. Fails if the packer ended without its last word: what was sent so far must not pass for an archive.
struct Archive {
    receiver: Option<Receiver<Vec<u8>>>,
    piece: Cursor<Vec<u8>>,
}

impl Archive {
    fn new(receiver: Receiver<Vec<u8>>) -> Self {
        Self {
            receiver: Some(receiver),
            piece: Cursor::default(),
        }
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(receiver) = &self.receiver else {
                return Ok(0);
            };
            match receiver.recv() {
                Ok(piece) if piece.is_empty() => self.receiver = None,
                Ok(piece) => self.piece = Cursor::new(piece),
                Err(_) => return Err(io::Error::other("the archive could not be made")),
            }
        }
    }
}
