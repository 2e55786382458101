//! How long requests may take, and what is said of those that come to nothing.

use std::{
    error::Error as _,
    io::{self, Read},
    time::Duration,
};

use ureq::Timeout;

use super::shown;

/// For a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(30);

/// How long a request may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// As a whole, with the body of its answer.
    pub(crate) whole: Option<Duration>,
    /// From its end to the end of the head of the answer.
    pub(crate) head: Option<Duration>,
}

impl Limits {
    /// What the library says, with its causes.
    pub(super) fn explain(&self, error: &ureq::Error) -> String {
        let within = |limit: Option<Duration>| {
            limit.map_or(String::new(), |limit| format!(" within {limit:?}"))
        };
        let mut text = match error {
            ureq::Error::Timeout(Timeout::Global) => {
                format!("it was not over{}", within(self.whole))
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                format!("no answer came{}", within(self.head))
            }
            ureq::Error::Timeout(Timeout::Connect) => {
                format!("no connection{}", within(Some(CONNECT)))
            }
            ureq::Error::Timeout(what) => format!("timed out ({what})"),
            ureq::Error::HostNotFound => "the name of the host is not known".into(),
            // Says the address again.
            ureq::Error::BadUri(_) => "that is no address".into(),
            ureq::Error::ConnectProxyFailed(reason) => format!("no tunnel: {reason}"),
            ureq::Error::Io(error) => return io_text(error),
            error => error.to_string(),
        };
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        shown(&text)
    }

    /// A body on its way, whose errors are told in the same words.
    pub(super) fn on(self, body: impl Read) -> impl Read {
        Limited { body, limits: self }
    }
}

struct Limited<R> {
    body: R,
    limits: Limits,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, self.limits.explain(&error.into())),
        })
    }
}

fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed too early".into(),
        _ => shown(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
    };

    use ureq::http::Method;

    use super::*;
    use crate::http::{Answer, Body, Client, HttpError, Settings};

    /// Asks a server that sends `head`, then `drop` again and again, slowly, as long as somebody listens.
    fn trickled(
        head: &'static str,
        drop: &'static [u8],
        limits: Limits,
        take: impl FnOnce(Result<Answer, HttpError>) -> String,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move |mut stream: TcpStream| {
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(head.as_bytes())?;
            loop {
                thread::sleep(Duration::from_millis(5));
                stream.write_all(drop)?;
            }
        };
        let server = thread::spawn(move || -> io::Result<()> { serve(listener.accept()?.0) });
        let client = Client::new(Settings {
            limits,
            ..Settings::default()
        });
        let url = format!("http://user:s3cret@{address}/a/b?signature=s3cret");
        let text = take(client.send(&Method::GET, &url, &[], Body::None));
        assert!(server.join().unwrap().is_err(), "it was left");
        assert!(!text.contains("s3cret"), "{text}");
        text.replace(&address.to_string(), "HOST")
    }

    fn no_answer(answer: Result<Answer, HttpError>) -> String {
        answer.err().unwrap().to_string()
    }

    fn broken_body(answer: Result<Answer, HttpError>) -> String {
        let answer = answer.unwrap();
        let url = answer.url().to_owned();
        let read = answer.into_reader().read_to_end(&mut Vec::new());
        format!("{url}: {}", read.unwrap_err())
    }

    const SOON: Option<Duration> = Some(Duration::from_millis(150));

    #[test]
    fn a_head_that_comes_drop_by_drop_is_waited_for_no_longer_than_is_allowed() {
        let limits = Limits {
            head: SOON,
            whole: Some(Duration::from_secs(3600)),
        };
        let text = trickled("HTTP/1.1 200 OK\r\nX: ", b"x", limits, no_answer);
        assert_eq!(text, "GET http://HOST/a/b: no answer came within 150ms");
    }

    #[test]
    fn a_body_that_comes_drop_by_drop_is_waited_for_no_longer_than_the_request_may_take() {
        let limits = Limits {
            whole: SOON,
            ..Limits::default()
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        let text = trickled(head, b"x", limits, broken_body);
        assert_eq!(text, "http://HOST/a/b: it was not over within 150ms");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = trickled(chunked, b"1\r\nx\r\n", limits, broken_body);
        assert_eq!(text, "http://HOST/a/b: it was not over within 150ms");
    }
}
