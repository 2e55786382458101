//! How far a transfer is, and how fast.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use crate::{log, selection::variable};

/// Transfers that take less say nothing.
const QUIET: Duration = Duration::from_secs(2);
/// Longest pause between two lines.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Reads on behalf of a transfer and tells of it.
pub(crate) struct Meter<R> {
    inner: R,
    label: &'static str,
    total: Option<u64>,
    done: u64,
    start: Instant,
    next: Duration,
    /// `TRANSFER_METER_FREQUENCY`: one line that is overwritten.
    frequency: Option<Duration>,
}

impl<R> Meter<R> {
    /// `label`: `Uploading cache`. `total`: bytes, if known.
    pub(crate) fn new(inner: R, label: &'static str, total: Option<u64>) -> Self {
        let frequency = variable("TRANSFER_METER_FREQUENCY").and_then(|text| frequency(&text));
        Self {
            inner,
            label,
            total,
            done: 0,
            start: Instant::now(),
            next: frequency.unwrap_or(QUIET),
            frequency,
        }
    }

    /// So many more bytes have come, or gone.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.done += bytes;
        self.tell();
    }

    /// Tells how it ended.
    pub(crate) fn finish(self) {
        let elapsed = self.start.elapsed();
        if self.frequency.is_some() {
            log::plain(&format!("{}\n", self.overwriting(elapsed)));
        } else if elapsed >= QUIET {
            log::info(&format!(
                "{} done: {}",
                self.label,
                rate(self.done, elapsed)
            ));
        }
    }

    fn overwriting(&self, elapsed: Duration) -> String {
        let total = self
            .total
            .map_or_else(String::new, |total| format!("/{}", size(total)));
        let text = format!(
            "\r{} {}{total} ({}/s)",
            self.label,
            size(self.done),
            size(per_second(self.done, elapsed))
        );
        format!("{text}                ")
    }

    fn tell(&mut self) {
        let elapsed = self.start.elapsed();
        if elapsed < self.next {
            return;
        }
        if let Some(frequency) = self.frequency {
            self.next = elapsed + frequency;
            log::plain(&self.overwriting(elapsed));
        } else {
            self.next = elapsed + elapsed.min(LONGEST_PAUSE);
            let of = self
                .total
                .map_or_else(String::new, |total| format!(" of {}", size(total)));
            log::info(&format!(
                "{}: {}{of} ({}/s)",
                self.label,
                size(self.done),
                size(per_second(self.done, elapsed))
            ));
        }
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read as u64);
        Ok(read)
    }
}

/// A duration such as `5s`; at least a second.
fn frequency(text: &str) -> Option<Duration> {
    let seconds: f64 = match text.trim() {
        text if text.ends_with("ms") => text.strip_suffix("ms")?.parse::<f64>().ok()? / 1000.0,
        text if text.ends_with('s') => text.strip_suffix('s')?.parse().ok()?,
        text if text.ends_with('m') => text.strip_suffix('m')?.parse::<f64>().ok()? * 60.0,
        text => text.parse().ok()?,
    };
    (seconds > 0.0 && seconds < 1e6).then(|| Duration::from_secs_f64(seconds.max(1.0)))
}

fn rate(bytes: u64, elapsed: Duration) -> String {
    format!(
        "{} in {:.1} s ({}/s)",
        size(bytes),
        elapsed.as_secs_f64(),
        size(per_second(bytes, elapsed))
    )
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

/// In decimal units.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1000.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{value:.2} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.2} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_230_000), "1.23 MB");
        assert_eq!(size(5_000_000_000_000), "5.00 TB");
    }

    #[test]
    fn a_frequency_is_a_duration_of_at_least_a_second() {
        assert_eq!(frequency("5s"), Some(Duration::from_secs(5)));
        assert_eq!(frequency("500ms"), Some(Duration::from_secs(1)));
        assert_eq!(frequency("0"), None);
        assert_eq!(frequency("x"), None);
        assert_eq!(frequency("-1s"), None);
    }
}
