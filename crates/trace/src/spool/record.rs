//! The cursor's lines.
//!
//! The file is text: a line is 8 hex digits of CRC32, a blank and the JSON that the checksum is
//! of. The first line is the [`Header`], every other one a [`Record`]. Keys are one letter, values
//! that are as usual are left out: a record takes about 80 bytes.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Stream;
use crate::processor::StreamState;

/// The version this program writes and the newest it reads.
pub(crate) const VERSION: u32 = 1;

/// The first line of a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) version: u32,
}

/// What the output is made of up to one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Bytes of output.
    #[serde(rename = "o")]
    pub(crate) len: u64,
    /// CRC32 of them.
    #[serde(rename = "c")]
    pub(crate) checksum: u32,
    /// Forget all records before: this one says everything. Written when the file is rewritten.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub(crate) base: bool,
    /// The limit is reached.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub(crate) limit_reached: bool,
    /// The log is finished.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub(crate) finished: bool,
    /// Keys of sources that appear for the first time; they are numbered in order.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<String>,
    /// Keys of entries that are written once, written with this record.
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) once: Vec<String>,
    /// Streams whose consumed place moved.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) updates: Vec<Update>,
}

/// Where one raw stream has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    /// Number of the source.
    #[serde(rename = "s")]
    pub(crate) source: usize,
    #[serde(rename = "t")]
    pub(crate) stream: Stream,
    /// Raw bytes consumed, from the first of the stream.
    #[serde(rename = "r")]
    pub(crate) consumed: u64,
    /// CRC32 of them.
    #[serde(rename = "x")]
    pub(crate) checksum: u32,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub(crate) state: StreamState,
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    pub(crate) closed: bool,
    /// Earlier places at a line break with their checksums; only in a base record.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier: Vec<(u64, u32)>,
}

/// Appends `value` as a line of the cursor.
pub(crate) fn write_line<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *out, value)
        .expect("records hold only numbers, flags and strings, which JSON can write");
    let checksum = crc32fast::hash(&out[start + 9..]);
    out[start..start + 8].copy_from_slice(format!("{checksum:08x}").as_bytes());
    out.push(b'\n');
}

/// Reads a line of the cursor, without its line break. The error says what is wrong with it.
pub(crate) fn read_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let (Some(checksum), Some(json)) = (line.get(..8), line.get(9..)) else {
        return Err("line is too short".to_owned());
    };
    let checksum = std::str::from_utf8(checksum)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| "line has no checksum".to_owned())?;
    if line[8] != b' ' || crc32fast::hash(json) != checksum {
        return Err("checksum does not match".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
