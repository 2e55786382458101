//! A job's log on its way to the output.

use gantry_trace::JobTrace;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::output::{JobLines, Printer};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// Prints the log as it grows, until it is finished, or until `over` if its writer failed.
pub(super) async fn follow(
    trace: &JobTrace,
    over: &CancellationToken,
    mut lines: JobLines,
    printer: &Printer,
) {
    let mut growth = trace.subscribe();
    let mut offset = 0;
    loop {
        let ends = over.is_cancelled();
        let progress = *growth.borrow_and_update();
        while offset < progress.len {
            let bytes = match trace.read_at(offset, PIECE) {
                Ok(bytes) if !bytes.is_empty() => bytes,
                Ok(_) => break,
                Err(error) => {
                    let mut out = Vec::new();
                    let text = format!("the job's log cannot be read: {error}\n");
                    lines.push(text.as_bytes(), &mut out);
                    printer.print(out).await;
                    return;
                }
            };
            offset += bytes.len() as u64;
            let mut out = Vec::with_capacity(bytes.len() * 2);
            lines.push(&bytes, &mut out);
            printer.print(out).await;
        }
        if progress.finished || ends {
            let mut out = Vec::new();
            lines.finish(&mut out);
            printer.print(out).await;
            return;
        }
        let late = async {
            match lines.deadline() {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => {
                let mut out = Vec::new();
                lines.show(&mut out);
                printer.print(out).await;
            }
            // The trace outlives this, so that there is always somebody who could change it.
            changed = growth.changed() => if changed.is_err() { return },
            () = over.cancelled() => {}
        }
    }
}
