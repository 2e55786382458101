//! The archive as something to read from, made by a blocking thread.

use std::io::{self, Cursor, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::{Tree, TreeError};

/// Bytes handed over at once, and how many such pieces may wait: half a megabyte per archive.
const PIECE: usize = 128 * 1024;
const PIECES: usize = 4;

/// The archive of a working copy as an engine takes it. Dropping it ends its making.
pub type TreeArchive = Pin<Box<dyn AsyncRead + Send>>;

impl Tree {
    /// Begins to make an archive, on a blocking thread of the current runtime. It is made as fast
    /// as it is read. A file that cannot be read is an error of the reader.
    pub fn archive(&self) -> TreeArchive {
        let (sender, receiver) = mpsc::channel(PIECES);
        let tree = self.clone();
        tokio::task::spawn_blocking(move || {
            let sink = Sink {
                sender: sender.clone(),
                piece: Vec::with_capacity(PIECE),
            };
            let end = tree.write(sink).map(drop);
            if let Err(error) = &end {
                tracing::debug!(%error, "archive of the working tree");
            }
            // Nobody reads any more: nobody needs to know.
            sender.blocking_send(Piece::End(end)).ok();
        });
        Box::pin(StreamReader::new(Pieces {
            receiver,
            ended: false,
        }))
    }
}

enum Piece {
    Bytes(Vec<u8>),
    End(Result<(), TreeError>),
}

/// Collects what is written into pieces.
struct Sink {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(Piece::Bytes(piece));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// The pieces; an end that was not said is an error, never a short archive.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Stream for Pieces {
    type Item = io::Result<Cursor<Vec<u8>>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|piece| match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(Cursor::new(bytes))),
            Some(Piece::End(end)) => {
                self.ended = true;
                end.err().map(|error| Err(io::Error::other(error)))
            }
            None => {
                self.ended = true;
                Some(Err(io::Error::other(
                    "the archive of the working tree was cut short",
                )))
            }
        })
    }
}
