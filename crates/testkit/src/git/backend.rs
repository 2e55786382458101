//! `git http-backend` behind our server: a CGI program.

use std::io;
use std::path::Path;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio_util::io::ReaderStream;

use crate::http::{Body, empty, set_header};

/// Longest header block believed.
const HEAD: usize = 64 * 1024;

/// Runs the backend for one request. The answer streams while git works.
pub(super) async fn answer(root: &Path, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut command = Command::from(super::git(root));
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("REMOTE_USER", "gitlab-ci-token")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", header("content-length"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if header("content-length").is_empty() {
        command.env_remove("CONTENT_LENGTH");
    }
    let mut child = command.spawn()?;
    let missing = || io::Error::other("git http-backend without pipes");
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    let mut stdout = child.stdout.take().ok_or_else(missing)?;
    tokio::spawn(async move {
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && stdin.write_all(&data).await.is_err()
            {
                return;
            }
        }
    });

    let mut read = BytesMut::new();
    let end = loop {
        if let Some(end) = end_of_head(&read) {
            break end;
        }
        if stdout.read_buf(&mut read).await? == 0 || read.len() > HEAD {
            return Err(io::Error::other(
                "git http-backend answered without headers",
            ));
        }
    };
    let rest = read.split_off(end);
    let mut response = empty(200);
    for line in String::from_utf8_lossy(&read).lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let status = value.split(' ').next().and_then(|code| code.parse().ok());
            *response.status_mut() = *empty(status.unwrap_or(500)).status_mut();
        } else {
            set_header(&mut response, name, value);
        }
    }
    let first = futures_util::stream::iter([Ok(rest.freeze())]);
    let frames = first
        .chain(ReaderStream::with_capacity(stdout, 64 * 1024))
        .map(move |piece: io::Result<Bytes>| {
            // Keeps the program alive as long as its answer is read.
            let _ = &child;
            piece.map(Frame::data)
        });
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

fn end_of_head(read: &[u8]) -> Option<usize> {
    let crlf = read.windows(4).position(|four| four == b"\r\n\r\n");
    let lf = read.windows(2).position(|two| two == b"\n\n");
    crlf.map(|at| at + 4).or_else(|| lf.map(|at| at + 2))
}
