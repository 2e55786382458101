//! Writes what is to be seen, in order.

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Pieces that may wait. A reader of the output that is slower than the jobs slows the reading of
/// their logs down, not the jobs.
const PIECES: usize = 32;

/// The way to the output. Cheap to clone; [`PrinterTask::end`] waits for what all clones sent.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    sender: mpsc::Sender<Vec<u8>>,
    closed: CancellationToken,
}

/// The task that writes.
#[derive(Debug)]
pub(crate) struct PrinterTask(JoinHandle<()>);

impl Printer {
    pub(crate) fn start(output: impl AsyncWrite + Send + Unpin + 'static) -> (Self, PrinterTask) {
        let (sender, pieces) = mpsc::channel(PIECES);
        let closed = CancellationToken::new();
        let task = tokio::spawn(write(output, pieces, closed.clone()));
        (Self { sender, closed }, PrinterTask(task))
    }

    /// Prints bytes as they are.
    pub(crate) async fn print(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            // The task lives as long as there is a sender.
            self.sender.send(bytes).await.ok();
        }
    }

    /// Prints one line.
    pub(crate) async fn line(&self, text: &str) {
        self.print(format!("{text}\n").into_bytes()).await;
    }

    /// Resolves when nobody reads the output any more.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

impl PrinterTask {
    /// Waits until all is written. All clones of the printer must be gone, or about to go.
    pub(crate) async fn end(self) {
        // It does not panic, and nobody aborts it.
        self.0.await.ok();
    }
}

async fn write(
    mut output: impl AsyncWrite + Send + Unpin,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    closed: CancellationToken,
) {
    while let Some(piece) = pieces.recv().await {
        if closed.is_cancelled() {
            // Taken and dropped, so that nobody waits.
            continue;
        }
        let written = async {
            output.write_all(&piece).await?;
            if pieces.is_empty() {
                output.flush().await?;
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the output is closed");
            closed.cancel();
        }
    }
    output.flush().await.ok();
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn all_that_was_sent_is_written_in_order() {
        let (mut reader, writer) = tokio::io::duplex(8);
        let (printer, task) = Printer::start(writer);
        let read = tokio::spawn(async move {
            let mut text = String::new();
            reader.read_to_string(&mut text).await.unwrap();
            text
        });
        for line in ["one", "two", "three"] {
            printer.line(line).await;
        }
        drop(printer);
        task.end().await;
        assert_eq!(read.await.unwrap(), "one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn an_output_that_nobody_reads_is_told_and_holds_nobody_up() {
        let (reader, writer) = tokio::io::duplex(8);
        drop(reader);
        let (printer, task) = Printer::start(writer);
        for _ in 0..PIECES * 3 {
            printer.line("a line that is longer than the pipe").await;
        }
        printer.closed().await;
        drop(printer);
        task.end().await;
    }
}
