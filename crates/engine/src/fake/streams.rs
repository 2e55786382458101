use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncWrite, DuplexStream},
    sync::mpsc,
};

use super::{faults::Fault, world::cut_off};
use crate::{EngineError, LogChunk, OutputStream};

pub(super) type OutputSender = mpsc::UnboundedSender<Result<LogChunk, EngineError>>;
pub(super) type OutputReceiver = mpsc::UnboundedReceiver<Result<LogChunk, EngineError>>;

/// The engine's end of a client's stdin; emptied when the connection is cut.
pub(super) type StdinSlot = Arc<Mutex<Option<DuplexStream>>>;

pub(super) fn close(slot: &StdinSlot) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Write side that a client holds; when it is dropped the container's stdin ends.
pub(super) struct FakeStdin {
    slot: StdinSlot,
    /// Bytes still taken before the connection breaks.
    budget: Option<usize>,
    output: mpsc::WeakUnboundedSender<Result<LogChunk, EngineError>>,
}

impl FakeStdin {
    pub(super) fn new(slot: StdinSlot, fault: Option<&Fault>, output: &OutputSender) -> Self {
        let budget = match fault {
            Some(Fault::CutStdin(bytes)) => Some(*bytes),
            _ => None,
        };
        Self {
            slot,
            budget,
            output: output.downgrade(),
        }
    }
}

impl Drop for FakeStdin {
    fn drop(&mut self) {
        close(&self.slot);
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the fake engine cut the connection",
    )
}

impl AsyncWrite for FakeStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = bytes;
        if let Some(budget) = self.budget {
            if budget == 0 {
                close(&self.slot);
                if let Some(output) = self.output.upgrade() {
                    drop(output.send(Err(cut_off("attach"))));
                }
                return Poll::Ready(Err(broken()));
            }
            bytes = &bytes[..bytes.len().min(budget)];
        }
        let polled = {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stream) = slot.as_mut() else {
                return Poll::Ready(Err(broken()));
            };
            Pin::new(stream).poll_write(cx, bytes)
        };
        if let (Poll::Ready(Ok(taken)), Some(budget)) = (&polled, &mut self.budget) {
            *budget -= taken;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_mut() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Err(broken())),
        }
    }
}

/// What a client reads: ends after the first `Err`, and earlier if a fault says so.
pub(super) fn output_stream(
    receiver: OutputReceiver,
    slot: Option<StdinSlot>,
    fault: Option<&Fault>,
) -> OutputStream {
    let (left, clean) = match fault {
        Some(Fault::CutOutput(bytes)) => (Some(*bytes), false),
        Some(Fault::EndOutput(bytes)) => (Some(*bytes), true),
        _ => (None, false),
    };
    let state = (receiver, slot, left, false);
    let output = stream::unfold(
        state,
        move |(mut receiver, slot, mut left, over)| async move {
            if over {
                return None;
            }
            if left == Some(0) {
                if clean {
                    return None;
                }
                if let Some(slot) = &slot {
                    close(slot);
                }
                return Some((Err(cut_off("output")), (receiver, slot, None, true)));
            }
            let mut item = receiver.recv().await?;
            let over = item.is_err();
            if let (Ok(chunk), Some(left)) = (&mut item, &mut left) {
                chunk.bytes.truncate(*left);
                *left -= chunk.bytes.len();
            }
            Some((item, (receiver, slot, left, over)))
        },
    );
    Box::pin(output.fuse())
}

/// A log as its entries: one per line, or per piece of a line that is written in pieces. All of one time, so that a log read again
/// is the same.
pub(super) fn log_entries(log: OutputStream) -> OutputStream {
    let entries = log.flat_map(|item| {
        let items: Vec<_> = match item {
            Err(error) => vec![Err(error)],
            Ok(chunk) => chunk
                .bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| {
                    let bytes = [b"2026-01-02T03:04:05.000000006Z ", line].concat().into();
                    let stream = chunk.stream;
                    Ok(LogChunk { stream, bytes })
                })
                .collect(),
        };
        stream::iter(items)
    });
    Box::pin(entries)
}
