//! The parts of an upload to S3: each is sent as soon as it is packed, a few at a time, and the object appears when the list of them is
//! taken. Parts are read from the archive's file, so that none is held in memory.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use gantry_agent::{MultipartUpload, SignedUrl, UploadPart};
use gantry_archive::Growing;
use ureq::http::Method;

use super::{LABEL, judge, stored};
use crate::{
    cache::{TRIES, headers_of},
    http::{Body, Client, element, retry::Problem, shown},
    meter::Meter,
};

/// Parts on their way at a time.
const AT_ONCE: usize = 4;

/// An archive on its way.
struct Sending<'a> {
    client: &'a Client,
    archive: &'a Growing,
    parts: &'a [UploadPart],
    state: Mutex<State>,
    meter: Mutex<Meter<()>>,
}

#[derive(Default)]
struct State {
    /// Where the next part begins.
    at: u64,
    /// `ETag`s of the parts, by their place.
    tags: Vec<Option<String>>,
    /// The archive has no more, or something went wrong.
    over: bool,
    problem: Option<Problem>,
}

/// Sends all parts and their list. `check`: a HEAD of the object.
pub(super) fn send(
    client: &Client,
    upload: &MultipartUpload,
    check: Option<&SignedUrl>,
    archive: &Growing,
) -> Result<(), Problem> {
    let sending = Sending {
        client,
        archive,
        parts: &upload.parts,
        state: Mutex::default(),
        meter: Mutex::new(Meter::new((), LABEL, None)),
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(upload.parts.len()) {
            scope.spawn(|| sending.work());
        }
    });
    let state = sending
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(problem) = state.problem {
        return Err(problem);
    }
    let mut list = String::from("<CompleteMultipartUpload>");
    for (place, tag) in state.tags.iter().enumerate() {
        let Some(tag) = tag else {
            return Err(Problem::passing("a part was not sent"));
        };
        let number = (place + 1).to_string();
        list.extend(["<Part><PartNumber>", &number, "</PartNumber><ETag>"]);
        list.extend([&*escaped(tag), "</ETag></Part>"]);
    }
    list.push_str("</CompleteMultipartUpload>");
    TRIES.run(|failed| {
        match complete(client, &upload.complete, &list) {
            // Where the answer to an earlier try was lost, the upload is over.
            Err(problem)
                if failed > 0 && problem.is_refusal() && is_there(client, check, state.at) =>
            {
                Ok(())
            }
            other => other,
        }
    })?;
    let meter = sending.meter.into_inner();
    meter.unwrap_or_else(PoisonError::into_inner).finish();
    Ok(())
}

impl Sending<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends parts until there are no more.
    fn work(&self) {
        while let Some((place, at, length)) = self.next() {
            match self.part(place, at, length) {
                Ok(tag) => self.state().tags[place] = Some(tag),
                Err(problem) => self.fail(&mut self.state(), problem),
            }
        }
    }

    fn fail(&self, state: &mut State, problem: Problem) {
        state.over = true;
        state.problem.get_or_insert(problem);
    }

    /// The next part: its place, where it begins and how long it is. Others wait for theirs meanwhile.
    fn next(&self) -> Option<(usize, u64, u64)> {
        let mut state = self.state();
        if state.over {
            return None;
        }
        let place = state.tags.len();
        let size = self.parts.get(place).map_or(1, |part| part.size.max(1));
        let end = match self.archive.wait_for(state.at + size) {
            Ok(end) => end,
            Err(error) => {
                self.fail(&mut state, Problem::passing(error.to_string()));
                return None;
            }
        };
        let (at, length) = (state.at, end - state.at);
        if length == 0 {
            state.over = true;
            return None;
        }
        if place == self.parts.len() {
            let text = format!("the archive is longer than {place} parts");
            self.fail(&mut state, Problem::passing(text));
            return None;
        }
        state.at = end;
        state.tags.push(None);
        Some((place, at, length))
    }

    /// Sends a part and gives its `ETag`.
    fn part(&self, place: usize, at: u64, length: u64) -> Result<String, Problem> {
        let put = &self.parts[place].put;
        let mut tag = None;
        TRIES.run(|_| {
            let mut reader = io::Read::take(self.archive.reader_at(at), length);
            let body = Body::Reader(&mut reader, Some(length));
            let answer = self
                .client
                .send(&Method::PUT, put.url.expose(), &headers_of(put), body);
            if let Ok(answer) = &answer {
                tag = answer.header("etag").map(str::to_owned);
            }
            stored(answer)
        })?;
        let number = place + 1;
        let tag = tag
            .filter(|tag| !tag.is_empty())
            .ok_or_else(|| Problem::passing(format!("the answer to part {number} has no ETag")))?;
        self.meter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(length);
        Ok(tag)
    }
}

/// Asks for the object to be made of the parts. A server that fails late has said 200 already.
fn complete(client: &Client, post: &SignedUrl, list: &str) -> Result<(), Problem> {
    let mut headers = headers_of(post);
    headers.push(("Content-Type".into(), "application/xml".into()));
    let mut body = list.as_bytes();
    let body = Body::Reader(&mut body, Some(list.len() as u64));
    let mut answer = judge(client.send(&Method::POST, post.url.expose(), &headers, body))?;
    let text = String::from_utf8_lossy(answer.beginning(64 << 10)).into_owned();
    if text.contains("<CompleteMultipartUploadResult") {
        return Ok(());
    }
    let said = match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) => format!("code: {code}, message: {message}"),
        (Some(code), None) => format!("code: {code}"),
        _ => shown(&text),
    };
    Err(Problem::passing(format!(
        "the storage did not put the parts together: {said}"
    )))
}

/// Whether an object of this length is there.
fn is_there(client: &Client, check: Option<&SignedUrl>, length: u64) -> bool {
    let answer = check.and_then(|check| crate::cache::send(client, &Method::HEAD, check, &[]).ok());
    answer.is_some_and(|answer| {
        answer.status == 200 && answer.header("content-length") == Some(&length.to_string())
    })
}

/// As text of an element. Entity tags have quotes, and a server may have written anything between them.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
