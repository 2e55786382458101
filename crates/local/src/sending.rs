//! The working tree on its way to the engine: says how far it is where that takes long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use gantry_trace::{JobTrace, Level};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

/// Nobody wonders before.
const QUIET: Duration = Duration::from_secs(2);
/// Time between two lines.
const EVERY: Duration = Duration::from_secs(5);

/// Counts what goes through, and tells the job's log.
pub(crate) struct Sending<R> {
    archive: R,
    trace: JobTrace,
    sent: u64,
    next_line: Instant,
}

impl<R> Sending<R> {
    pub(crate) fn new(archive: R, trace: JobTrace) -> Self {
        Self {
            archive,
            trace,
            sent: 0,
            next_line: Instant::now() + QUIET,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Sending<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.archive).poll_read(context, buffer));
        if let Err(error) = &read {
            // The engine only says that the request was cut short.
            let text = format!("the working tree cannot be sent: {error}");
            self.trace.line(Level::Error, &text);
        }
        self.sent += (buffer.filled().len() - before) as u64;
        let now = Instant::now();
        if now >= self.next_line {
            self.next_line = now + EVERY;
            let megabytes = self.sent as f64 / 1e6;
            let text = format!("Sending the working tree: {megabytes:.1} MB so far ...");
            self.trace.println(&text);
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    use gantry_trace::TraceOptions;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn log(trace: &JobTrace) -> String {
        String::from_utf8(trace.read_at(0, 1 << 20).unwrap()).unwrap()
    }

    fn trace(folder: &std::path::Path) -> JobTrace {
        let options = TraceOptions {
            timestamps: false,
            ..TraceOptions::default()
        };
        JobTrace::create(folder, options).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_takes_long_says_how_far_it_is_and_a_short_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let trace = trace(dir.path());
        let mut sending = Sending::new(&[7u8; 3_000_000][..], trace.clone());
        let mut some = vec![0; 1_500_000];
        sending.read_exact(&mut some).await.unwrap();
        assert_eq!(log(&trace), "");
        tokio::time::advance(Duration::from_secs(3)).await;
        sending.read_exact(&mut some[..1000]).await.unwrap();
        sending.read_exact(&mut some[..1000]).await.unwrap();
        trace.finish().unwrap();
        let log = log(&trace);
        assert_eq!(
            log.matches("Sending the working tree: 1.5 MB so far")
                .count(),
            1,
            "{log}"
        );
    }

    #[tokio::test]
    async fn an_archive_that_breaks_is_explained_in_the_log() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::Error::other("cannot read a/b: no permission")))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let trace = trace(dir.path());
        let mut sending = Sending::new(Broken, trace.clone());
        sending.read_to_end(&mut Vec::new()).await.unwrap_err();
        trace.finish().unwrap();
        let log = log(&trace);
        assert!(log.contains("cannot read a/b: no permission"), "{log}");
    }
}
