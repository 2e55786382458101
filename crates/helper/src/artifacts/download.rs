//! Download (job-lifecycle §6.4). The first try asks for the address in the object store; the token never goes to another server than
//! the coordinator. A body that broke off is continued where the server allows it; it is unpacked while it comes.

use std::time::Duration;

use gantry_agent::{Dependency, DownloadArtifactsRequest, EntryOutcome, EntryResult};
use gantry_archive::{Extracted, Growing};
use ureq::http::Method;

use super::{ArtifactError, BUSY_TRIES, address, client, fields, received};
use crate::{
    http::{
        Answer, Body, Client, MOST_REDIRECTS, clean_url, origin, redirect, redirected_to_nowhere,
        retry::{Again, Problem, Tries},
    },
    log,
    receive::{self, Broken, Object, Parallel, Part, unpack_meanwhile},
    selection::variable,
};

/// The stage: every dependency is tried.
pub(crate) fn run(
    request: &DownloadArtifactsRequest,
    done: &mut Vec<EntryResult>,
) -> Result<(), String> {
    // A job without a server needs none, and its certificates least of all.
    let client = request
        .folder
        .is_none()
        .then(|| client(&request.coordinator, 3600, 600));
    let parallel = request.parallel_transfer.then_some(Parallel::USUAL);
    let mut failure = None;
    for dependency in &request.dependencies {
        let mut result = crate::stage_child::result(done.len(), EntryOutcome::Done);
        log::notice(&format!(
            "Downloading artifacts for {} ({})...",
            dependency.name, dependency.id
        ));
        let downloaded = match (&request.folder, &client) {
            (Some(folder), _) => super::folder::take(folder, dependency, &request.project_dir),
            (None, Some(client)) => download(request, dependency, client, parallel),
            (None, None) => continue,
        };
        match downloaded {
            Ok((extracted, bytes)) => {
                result.files = extracted.entries;
                result.bytes = bytes;
            }
            Err(error) => {
                error.tell();
                result.outcome = if error.partial {
                    EntryOutcome::Partial
                } else {
                    EntryOutcome::Failed
                };
                failure.get_or_insert_with(|| error.text.clone());
                result.error = Some(error.text);
            }
        }
        done.push(result);
    }
    failure.map_or(Ok(()), Err)
}

/// The command: without notices.
pub(crate) fn run_quietly(
    request: &DownloadArtifactsRequest,
    parallel: Option<Parallel>,
) -> Result<(), String> {
    let client = client(&request.coordinator, 3600, 600);
    for dependency in &request.dependencies {
        download(request, dependency, &client, parallel).map_err(|error| error.text)?;
    }
    Ok(())
}

/// One dependency: what was unpacked, and the size of the archive.
fn download(
    request: &DownloadArtifactsRequest,
    dependency: &Dependency,
    client: &Client,
    parallel: Option<Parallel>,
) -> Result<(Extracted, u64), ArtifactError> {
    let dir = variable("ARCHIVER_STAGING_DIR").filter(|dir| !dir.is_empty());
    let file = match &dir {
        Some(dir) => tempfile::tempfile_in(dir),
        None => tempfile::tempfile(),
    };
    let place = dir.unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let file =
        file.map_err(|error| ArtifactError::new(format!("cannot write to {place}: {error}")))?;
    let growing = Growing::new(file);
    let (fetched, extracted) = unpack_meanwhile(&growing, &request.project_dir, || {
        let mut attempts = Attempts {
            request,
            dependency,
            client,
            parallel,
            first: address(&request.coordinator, dependency.id),
            part: Part::new(&growing),
            place: &place,
        };
        attempts.run()?;
        growing.finish();
        Ok::<_, ArtifactError>(())
    });
    fetched?;
    extracted
        .map(|extracted| (extracted, growing.held()))
        .map_err(|error| ArtifactError {
            partial: error.is_partial(),
            text: error.to_string(),
        })
}

/// One archive, for as many tries as are allowed.
struct Attempts<'a> {
    request: &'a DownloadArtifactsRequest,
    dependency: &'a Dependency,
    client: &'a Client,
    parallel: Option<Parallel>,
    /// Address at the coordinator.
    first: String,
    part: Part<'a>,
    /// Where the archive is written, for messages.
    place: &'a str,
}

impl Attempts<'_> {
    fn run(&mut self) -> Result<(), ArtifactError> {
        let pause = Duration::from_millis(self.request.retry_milliseconds);
        let tries = Tries {
            most: self.request.retries.saturating_add(1),
            most_busy: BUSY_TRIES,
            pause,
            longest_pause: pause,
            context: Some("artifacts-downloader"),
        };
        let fetched = tries.run(|failed| {
            if failed == 0 && self.request.direct_download {
                self.direct()
            } else {
                self.plain()
            }
        });
        fetched.map_err(|problem| {
            ArtifactError::new(if problem.is_passing() {
                format!("invalid argument: {}", problem.text)
            } else {
                problem.text
            })
        })
    }

    /// From the object store, if the coordinator says where that is.
    fn direct(&mut self) -> Result<(), Problem> {
        let url = format!("{}?direct_download=true", self.first);
        match self.get(url, self.parallel) {
            Err(problem) if problem.is_passing() && self.parallel.is_some() => self.plain(),
            done => done,
        }
    }

    fn plain(&mut self) -> Result<(), Problem> {
        self.get(self.first.clone(), None)
    }

    /// Follows redirects. `parallel`: what another server has may come in ranges.
    fn get(&mut self, mut url: String, mut parallel: Option<Parallel>) -> Result<(), Problem> {
        let home = origin(&self.first);
        let (mut told, mut redirects) = (false, 0);
        while redirects <= MOST_REDIRECTS {
            let mut headers = Vec::new();
            if origin(&url) == home {
                let token = self.dependency.token.expose();
                headers.push(("JOB-TOKEN".to_owned(), token.to_owned()));
            }
            let probing = parallel.filter(|_| origin(&url) != home && self.part.held() == 0);
            let rest = if probing.is_some() {
                vec![(receive::PROBE.0.into(), receive::PROBE.1.into())]
            } else {
                self.part.ask_for_rest()
            };
            let ranged = !rest.is_empty();
            headers.extend(rest);
            let answer = self.client.send(&Method::GET, &url, &headers, Body::None)?;
            match answer.status {
                301 | 302 | 303 | 307 | 308 => {
                    let to = answer
                        .header("location")
                        .and_then(|location| redirect(&url, location));
                    let Some(to) = to else {
                        return Err(Problem::passing(redirected_to_nowhere(&url, &answer)));
                    };
                    if !told && origin(&to) != home {
                        told = true;
                        let host = origin(&to);
                        let host = host.split("://").nth(1).unwrap_or(&host);
                        log::info(&format!("Direct download from {host}"));
                    }
                    url = to;
                    redirects += 1;
                }
                206 if let Some(probing) = probing => {
                    match Object::probed(&url, Vec::new(), &answer) {
                        Some(object) if object.total > probing.chunk => {
                            let fields = self.fields(&answer, &url);
                            let received =
                                self.part
                                    .receive_ranges(self.client, &object, probing, LABEL);
                            return self.received(received, &fields);
                        }
                        _ => parallel = None,
                    }
                }
                200 => return self.receive(&url, answer),
                206 if ranged => return self.receive(&url, answer),
                // An empty object, or a server that knows no ranges.
                _ if probing.is_some() => parallel = None,
                416 if ranged => {
                    self.part.forget();
                    return Err(Problem::passing("the rest of the archive is not available"));
                }
                status => return Err(refused(self.dependency, answer, status)),
            }
        }
        Err(Problem::passing(format!(
            "{}: stopped after {MOST_REDIRECTS} redirects",
            clean_url(&url)
        )))
    }

    fn receive(&mut self, url: &str, answer: Answer) -> Result<(), Problem> {
        let fields = self.fields(&answer, url);
        let received = self.part.receive(answer, LABEL);
        self.received(received, &fields)
    }

    fn received(
        &self,
        received: Result<(), Broken>,
        fields: &[(&'static str, String)],
    ) -> Result<(), Problem> {
        match received {
            Ok(()) => {
                let text = "Downloading artifacts from coordinator... ok";
                log::line(log::Level::Info, text, fields);
                Ok(())
            }
            Err(Broken::Write(error)) => Err(Problem::lasting(format!(
                "cannot write to {}: {error}",
                self.place
            ))),
            Err(Broken::Off(problem)) => Err(problem),
        }
    }

    fn fields(&self, answer: &Answer, url: &str) -> Vec<(&'static str, String)> {
        let mut told = fields(answer, self.dependency.id, self.dependency.token.expose());
        let host = origin(url);
        told.push(("host", host.split("://").nth(1).unwrap_or(&host).to_owned()));
        told
    }
}

const LABEL: &str = "Downloading artifacts";

fn refused(dependency: &Dependency, answer: Answer, status: u16) -> Problem {
    let told = fields(&answer, dependency.id, dependency.token.expose());
    let line = |what: &str| {
        log::line(
            log::Level::Error,
            &format!("Downloading artifacts from coordinator... {what}"),
            &told,
        );
    };
    match status {
        401 | 403 => {
            let what = if status == 401 {
                "unauthorized"
            } else {
                "forbidden"
            };
            line(what);
            let message = answer.message();
            Problem::lasting(if message.is_empty() {
                "permission denied".to_owned()
            } else {
                format!("permission denied: {message}")
            })
        }
        404 => {
            line("not found");
            Problem::lasting("file does not exist")
        }
        _ => {
            line("failed");
            let again = Again::after(&answer);
            Problem {
                text: received(answer),
                again,
            }
        }
    }
}
