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
    start: Instant,
    progress: Progress,
}

impl<R> Meter<R> {
    /// `label`: `Uploading cache`. `total`: bytes, if known.
    pub(crate) fn new(inner: R, label: &'static str, total: Option<u64>) -> Self {
        let frequency = variable("TRANSFER_METER_FREQUENCY").and_then(|text| frequency(&text));
        Self {
            inner,
            start: Instant::now(),
            progress: Progress::new(label, total, frequency),
        }
    }

    /// So many more bytes have come, or gone.
    pub(crate) fn count(&mut self, bytes: u64) {
        print(self.progress.count(bytes, self.start.elapsed()));
    }

    /// Tells how it ended.
    pub(crate) fn finish(self) {
        print(self.progress.finish(self.start.elapsed()));
    }
}

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Over the one before.
    Overwriting(String),
    Info(String),
}

fn print(line: Option<Line>) {
    match line {
        None => {}
        Some(Line::Overwriting(text)) => log::plain(&text),
        Some(Line::Info(text)) => log::info(&text),
    }
}

/// How far it is. Times are counted from the beginning.
struct Progress {
    label: &'static str,
    total: Option<u64>,
    done: u64,
    /// When something is to be said next.
    next: Duration,
    /// `TRANSFER_METER_FREQUENCY`: one line that is overwritten.
    frequency: Option<Duration>,
}

impl Progress {
    fn new(label: &'static str, total: Option<u64>, frequency: Option<Duration>) -> Self {
        Self {
            label,
            total,
            done: 0,
            next: frequency.unwrap_or(QUIET),
            frequency,
        }
    }

    fn count(&mut self, bytes: u64, elapsed: Duration) -> Option<Line> {
        self.done += bytes;
        if elapsed < self.next {
            return None;
        }
        if let Some(frequency) = self.frequency {
            self.next = elapsed + frequency;
            return Some(Line::Overwriting(self.overwriting(elapsed)));
        }
        self.next = elapsed + elapsed.min(LONGEST_PAUSE);
        let of = self
            .total
            .map_or_else(String::new, |total| format!(" of {}", size(total)));
        Some(Line::Info(format!(
            "{}: {}{of} ({}/s)",
            self.label,
            size(self.done),
            size(per_second(self.done, elapsed))
        )))
    }

    fn finish(&self, elapsed: Duration) -> Option<Line> {
        if self.frequency.is_some() {
            let text = format!("{}\n", self.overwriting(elapsed));
            return Some(Line::Overwriting(text));
        }
        (elapsed >= QUIET)
            .then(|| Line::Info(format!("{} done: {}", self.label, rate(self.done, elapsed))))
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

    const MEGABYTE: u64 = 1_000_000;

    /// A transfer of so many megabytes, one in each step of half a second: what it says, after how many of them.
    fn said(total: Option<u64>, frequency: Option<u64>, megabytes: u32) -> Vec<(u32, String)> {
        let frequency = frequency.map(Duration::from_secs);
        let mut progress = Progress::new("Uploading artifacts", total, frequency);
        let mut said = Vec::new();
        let text = |line| match line {
            Line::Info(text) | Line::Overwriting(text) => text,
        };
        let step = Duration::from_millis(500);
        for number in 1..=megabytes {
            let line = progress.count(MEGABYTE, step * number);
            said.extend(line.map(|line| (number, text(line))));
        }
        let line = progress.finish(step * megabytes);
        said.extend(line.map(|line| (megabytes, text(line))));
        said
    }

    #[test]
    fn a_transfer_under_two_seconds_says_nothing() {
        assert_eq!(said(None, None, 3), []);
    }

    #[test]
    fn a_longer_one_tells_progress_and_rate_ever_more_rarely_and_how_it_ended() {
        let lines = [
            (4, "Uploading artifacts: 4.00 MB of 10.00 MB (2.00 MB/s)"),
            (8, "Uploading artifacts: 8.00 MB of 10.00 MB (2.00 MB/s)"),
            (
                10,
                "Uploading artifacts done: 10.00 MB in 5.0 s (2.00 MB/s)",
            ),
        ];
        let lines = lines.map(|(number, text)| (number, text.to_owned()));
        assert_eq!(said(Some(10 * MEGABYTE), None, 10), lines);
    }

    #[test]
    fn a_line_comes_at_least_once_a_minute_as_long_as_something_moves() {
        let minutes = said(None, None, 1200);
        let times: Vec<u32> = minutes.iter().map(|(number, _)| number / 2).collect();
        assert_eq!(
            times,
            [
                2, 4, 8, 16, 32, 64, 124, 184, 244, 304, 364, 424, 484, 544, 600
            ]
        );
        assert_eq!(minutes[0].1, "Uploading artifacts: 4.00 MB (2.00 MB/s)");
    }

    #[test]
    fn with_a_frequency_one_line_is_overwritten() {
        let lines = said(Some(4 * MEGABYTE), Some(1), 4);
        let blank = " ".repeat(16);
        let line = |megabytes: u32| {
            format!("\rUploading artifacts {megabytes}.00 MB/4.00 MB (2.00 MB/s){blank}")
        };
        let end = format!("{}\n", line(4));
        assert_eq!(lines, [(2, line(2)), (4, line(4)), (4, end)]);
    }

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
