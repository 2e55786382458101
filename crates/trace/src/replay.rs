//! Where to go on in a container's log that is read again from its first byte.
//!
//! After a restart the engine gives a container's whole log again. What the spool has consumed of
//! it is skipped, after its checksum was compared. If it differs (the engine's log does not always
//! hold what a live reader got: engine-mechanics §c), reading goes on at the last place both have
//! in common, so that lines may be repeated but none is lost.

use std::borrow::Cow;
use std::fmt;

use crc32fast::Hasher;
use memchr::memrchr;

use crate::processor::Consumed;

/// How many places at a line break are remembered per stream.
const PLACES: usize = 4;

/// Places are at least this many raw bytes apart, but for the newest.
const APART: u64 = 4 * 1024;

/// How many skipped bytes are kept, to go on at a place before the end of what is skipped.
const WINDOW: usize = 256 * 1024;

/// The last few consumed places at a line break, oldest first: raw offset and CRC32 up to there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Vec<(u64, u32)>);

impl Places {
    /// Remembers a place, if it is at the start of a line.
    pub fn note(&mut self, consumed: &Consumed) {
        // After a replay that differed the count may be lower than before.
        self.0.retain(|place| place.0 < consumed.bytes);
        if !consumed.state.at_line_start() || consumed.bytes == 0 {
            return;
        }
        let place = (consumed.bytes, consumed.checksum);
        let before = match self.0.as_slice() {
            [.., before, _] => before.0,
            _ => 0,
        };
        match self.0.last_mut() {
            Some(last) if last.0 - before < APART => *last = place,
            _ => self.0.push(place),
        }
        if self.0.len() > PLACES {
            self.0.remove(0);
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<(u64, u32)> {
        self.0.clone()
    }

    pub(crate) fn restore(&mut self, places: &[(u64, u32)]) {
        if !places.is_empty() {
            self.0 = places.to_vec();
        }
    }
}

/// How a replayed log fits to what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seam {
    /// All that was consumed is there, byte for byte.
    Exact,
    /// It differs; goes on at the last remembered line break up to which both are the same.
    CommonLine,
    /// It differs and no common place is known; goes on at the line in which the consumed bytes
    /// ended by their number.
    Unknown,
}

/// Where a stream goes on after a replay, and with which bytes.
#[derive(PartialEq, Eq)]
pub struct Resumed<'a> {
    /// How the logs fit.
    pub seam: Seam,
    /// Raw offset of the first of `bytes` in the replayed log.
    pub offset: u64,
    /// CRC32 of the replayed log up to there.
    pub checksum: u32,
    /// What to go on with: some skipped bytes, if the logs differ, and the rest of the push.
    pub bytes: Cow<'a, [u8]>,
}

/// Skips what was consumed of one stream. Pure: takes the replayed bytes in any pieces.
pub struct ReplaySkipper {
    end: (u64, u32),
    /// Places still ahead, oldest first.
    places: Vec<(u64, u32)>,
    seen: u64,
    checksum: Hasher,
    /// Skipped bytes up to `seen`.
    window: Vec<u8>,
    /// Over the bytes before the window.
    before_window: Hasher,
    /// The start of the window is a place that both logs have in common.
    common: bool,
}

impl ReplaySkipper {
    /// Skips up to `consumed`; `places` are earlier places of the same stream.
    #[must_use]
    pub fn new(consumed: &Consumed, places: &Places) -> Self {
        let mut places = places.0.clone();
        places.retain(|place| place.0 < consumed.bytes);
        Self {
            end: (consumed.bytes, consumed.checksum),
            places,
            seen: 0,
            checksum: Hasher::new(),
            window: Vec::new(),
            before_window: Hasher::new(),
            common: true,
        }
    }

    /// Takes the next replayed bytes. `None`: all were skipped. Otherwise skipping is over, and
    /// the skipper must not be used again.
    pub fn push<'a>(&mut self, raw: &'a [u8]) -> Option<Resumed<'a>> {
        let mut rest = raw;
        loop {
            let stop = self.places.first().map_or(self.end.0, |place| place.0);
            let ahead = usize::try_from(stop - self.seen).unwrap_or(usize::MAX);
            let (skipped, after) = rest.split_at(ahead.min(rest.len()));
            self.skip(skipped);
            rest = after;
            if self.seen < stop {
                return None;
            }
            if self.places.is_empty() {
                return Some(self.resume(rest));
            }
            let place = self.places.remove(0);
            if self.checksum.clone().finalize() == place.1 {
                self.common = true;
                self.window.clear();
                self.before_window = self.checksum.clone();
            }
        }
    }

    fn skip(&mut self, raw: &[u8]) {
        self.seen += raw.len() as u64;
        self.checksum.update(raw);
        self.window.extend_from_slice(raw);
        if self.window.len() > WINDOW {
            let dropped = self.window.len() - WINDOW / 2;
            self.before_window.update(&self.window[..dropped]);
            self.window.drain(..dropped);
            self.window.shrink_to(WINDOW);
            self.common = false;
        }
    }

    fn resume<'a>(&mut self, rest: &'a [u8]) -> Resumed<'a> {
        let checksum = self.checksum.clone().finalize();
        if checksum == self.end.1 {
            return Resumed {
                seam: Seam::Exact,
                offset: self.seen,
                checksum,
                bytes: Cow::Borrowed(rest),
            };
        }
        let (seam, from) = if self.common {
            (Seam::CommonLine, 0)
        } else {
            (
                Seam::Unknown,
                memrchr(b'\n', &self.window).map_or(0, |at| at + 1),
            )
        };
        let mut bytes = self.window.split_off(from);
        self.before_window.update(&self.window);
        let offset = self.seen - bytes.len() as u64;
        bytes.extend_from_slice(rest);
        Resumed {
            seam,
            offset,
            checksum: self.before_window.clone().finalize(),
            bytes: Cow::Owned(bytes),
        }
    }
}

impl fmt::Debug for Resumed<'_> {
    /// Without the bytes: they are not masked yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed")
            .field("seam", &self.seam)
            .field("offset", &self.offset)
            .field("checksum", &self.checksum)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl fmt::Debug for ReplaySkipper {
    /// Without the bytes: they are not masked yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaySkipper")
            .field("seen", &self.seen)
            .field("end", &self.end.0)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
