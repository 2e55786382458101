use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    marker::PhantomData,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    JournalError,
    seal::{Keyring, SealKey},
};

/// Newest journal version this program writes and reads. A version reads the one before.
const VERSION: u32 = 1;
const HEADER: &str = "gantry-journal ";

/// Begins the text of a sealed record; no JSON begins so.
const SEALED: u8 = b'!';

/// Append-only records of one job, one line each: `<crc32 of the text, 8 hex> <JSON>`, or `!<sealed JSON>` after
/// [`Journal::seal`]. Clones share the file.
pub struct Journal<R> {
    inner: Arc<Inner>,
    records: PhantomData<fn(R) -> R>,
}

struct Inner {
    path: PathBuf,
    file: Mutex<File>,
    keys: Keyring,
    seal: OnceLock<SealKey>,
    crash: Mutex<Option<Crash>>,
}

/// Test device: makes an append never return, as if the process had died at that instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies just before the n-th append from now (0 = the next) reaches the file.
    Before(usize),
    /// The process dies just after the n-th append reached the file.
    After(usize),
    /// The process dies while the n-th append is written: half of the record reaches the file.
    Within(usize),
}

impl<R> Clone for Journal<R> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            records: PhantomData,
        }
    }
}

impl<R> std::fmt::Debug for Journal<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Journal").field(&self.inner.path).finish()
    }
}

// === impl Journal ===

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens or makes a journal (0600) and returns its records. A torn last record is cut off. The key of sealed records is the file
    /// `key` beside it.
    ///
    /// # Errors
    /// A record that is damaged and not the last, a record that is not an `R`, or a newer version.
    pub fn open(path: &Path) -> Result<(Self, Vec<R>), JournalError> {
        Self::open_with(path, Keyring::at(path.with_file_name("key")))
    }

    pub(crate) fn open_with(path: &Path, keys: Keyring) -> Result<(Self, Vec<R>), JournalError> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(JournalError::io("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(JournalError::io("read", path))?;
        let Parsed {
            records,
            good,
            sealed,
        } = parse(&bytes, path, &keys)?;
        if good == 0 {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{HEADER}{VERSION}"))
                .map_err(JournalError::io("write", path))?;
        } else {
            if good < bytes.len() {
                file.set_len(good as u64)
                    .map_err(JournalError::io("write", path))?;
            }
            file.seek(SeekFrom::Start(good as u64))
                .map_err(JournalError::io("read", path))?;
        }
        let inner = Inner {
            path: path.to_owned(),
            file: Mutex::new(file),
            seal: sealed.map_or_else(OnceLock::new, OnceLock::from),
            keys,
            crash: Mutex::new(None),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
                records: PhantomData,
            },
            records,
        ))
    }

    /// From now on records are sealed, in later processes too: what is in them cannot be read from the journal alone. For a job
    /// that has learned secrets which may not be on a disk in clear.
    ///
    /// # Errors
    /// When there is no key and none can be made.
    pub fn seal(&self) -> Result<(), JournalError> {
        if self.inner.seal.get().is_none() {
            let key = self.inner.keys.sealing()?;
            // Another caller has set the same one.
            self.inner.seal.set(key).ok();
        }
        Ok(())
    }

    /// Appends one record; when this returns, the record survives the death of the process.
    pub async fn append(&self, record: &R) -> Result<(), JournalError> {
        let line = line_of(record, &self.inner)?;
        match self.crash_now() {
            Some(Crash::Before(_)) => std::future::pending().await,
            Some(Crash::Within(_)) => {
                self.inner.write(&line[..line.len() / 2])?;
                std::future::pending().await
            }
            Some(Crash::After(_)) => {
                self.inner.write(&line)?;
                std::future::pending().await
            }
            None => self.inner.write(&line),
        }
    }

    /// Appends one record and waits until it is on the disk, for acceptance and verdict: it survives loss of power.
    pub async fn append_synced(&self, record: &R) -> Result<(), JournalError> {
        self.append(record).await?;
        let inner = Arc::clone(&self.inner);
        let synced = tokio::task::spawn_blocking(move || {
            let file = inner
                .file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .try_clone()?;
            file.sync_data()
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        synced.map_err(JournalError::io("write", &self.inner.path))
    }

    /// Arms the test device.
    pub fn crash(&self, crash: Crash) {
        *self
            .inner
            .crash
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(crash);
    }

    fn crash_now(&self) -> Option<Crash> {
        let mut armed = self
            .inner
            .crash
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match armed.as_mut()? {
            Crash::Before(n) | Crash::After(n) | Crash::Within(n) if *n > 0 => {
                *n -= 1;
                None
            }
            _ => *armed,
        }
    }
}

impl Inner {
    fn write(&self, line: &[u8]) -> Result<(), JournalError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let before = file
            .stream_position()
            .map_err(JournalError::io("write", &self.path))?;
        file.write_all(line).map_err(|error| {
            // Half a record must not stay: the next append would follow it and make it look damaged.
            file.set_len(before).ok();
            file.seek(SeekFrom::Start(before)).ok();
            JournalError::io("write", &self.path)(error)
        })
    }
}

fn line_of<R: Serialize>(record: &R, journal: &Inner) -> Result<Vec<u8>, JournalError> {
    let failed = |error| JournalError::io("write", &journal.path)(error);
    let mut text =
        serde_json::to_vec(record).map_err(|error| failed(std::io::Error::other(error)))?;
    if let Some(key) = journal.seal.get() {
        let sealed = key.seal(text).map_err(failed)?;
        text = [&[SEALED], sealed.as_bytes()].concat();
    }
    let mut line = format!("{:08x} ", crc32fast::hash(&text)).into_bytes();
    line.extend_from_slice(&text);
    line.push(b'\n');
    Ok(line)
}

/// The records in a journal's bytes, a torn last one left out. `path` is for messages.
///
/// # Errors
/// As [`Journal::open`].
pub fn read_records<R: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<R>, JournalError> {
    let keys = Keyring::at(path.with_file_name("key"));
    Ok(parse(bytes, path, &keys)?.records)
}

struct Parsed<R> {
    records: Vec<R>,
    /// Length of the good part; 0 when not even the header is whole.
    good: usize,
    /// The key, if a record was sealed.
    sealed: Option<SealKey>,
}

fn parse<R: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    keys: &Keyring,
) -> Result<Parsed<R>, JournalError> {
    let corrupt = |line: usize, message: String| JournalError::Corrupt {
        path: path.to_owned(),
        line,
        message,
    };
    let mut records = Vec::new();
    let mut sealed = None;
    let mut good = 0;
    let mut number = 0;
    for raw in bytes.split_inclusive(|&byte| byte == b'\n') {
        number += 1;
        let last = good + raw.len() == bytes.len();
        let Some(text) = raw.strip_suffix(b"\n") else {
            break;
        };
        if number == 1 {
            let version = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.strip_prefix(HEADER))
                .and_then(|version| version.parse::<u32>().ok())
                .ok_or_else(|| corrupt(1, "not a journal".to_owned()))?;
            if version > VERSION {
                return Err(JournalError::Version {
                    path: path.to_owned(),
                    found: version,
                    known: VERSION,
                });
            }
        } else {
            match checked(text) {
                Some(text) => {
                    let opened;
                    let json = match text.strip_prefix(&[SEALED]) {
                        None => text,
                        Some(text) => {
                            let key = match &mut sealed {
                                Some(key) => key,
                                none => none.insert(keys.opening()?),
                            };
                            opened = key.open(text).ok_or_else(|| {
                                let message =
                                    "the record was sealed with another key than the one there is";
                                corrupt(number, message.to_owned())
                            })?;
                            &opened
                        }
                    };
                    records.push(serde_json::from_slice(json).map_err(|error| {
                        corrupt(
                            number,
                            format!("a record this program does not know: {error}"),
                        )
                    })?);
                }
                None if last => break,
                None => return Err(corrupt(number, "the record's checksum is wrong".to_owned())),
            }
        }
        good += raw.len();
    }
    Ok(Parsed {
        records,
        good,
        sealed,
    })
}

fn checked(text: &[u8]) -> Option<&[u8]> {
    let (sum, json) = (text.get(..8)?, text.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    (text[8] == b' ' && sum == crc32fast::hash(json)).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn filled(path: &Path) -> Vec<String> {
        let (journal, _) = Journal::<String>::open(path).unwrap();
        let all: Vec<String> = (0..5)
            .map(|n| format!("record {n} {}", "x".repeat(n * 7)))
            .collect();
        for record in &all {
            journal.append(record).await.unwrap();
        }
        all
    }

    #[tokio::test]
    async fn records_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let all = filled(&path).await;
        let (journal, found) = Journal::<String>::open(&path).unwrap();
        assert_eq!(found, all);
        journal.append_synced(&"more".to_owned()).await.unwrap();
        let (_, found) = Journal::<String>::open(&path).unwrap();
        assert_eq!(found.last().unwrap(), "more");
    }

    #[tokio::test]
    async fn cut_at_any_byte_the_whole_records_remain_and_writing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let all = filled(&path).await;
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (journal, found) = Journal::<String>::open(&path).unwrap();
            assert_eq!(found, all[..found.len()], "cut at {cut}");
            journal.append(&"after".to_owned()).await.unwrap();
            let (_, again) = Journal::<String>::open(&path).unwrap();
            assert_eq!(again.len(), found.len() + 1, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_before_the_end_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        filled(&path).await;
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.iter().position(|&byte| byte == b'1').unwrap();
        let third = bytes
            .split(|&byte| byte == b'\n')
            .take(3)
            .map(|line| line.len() + 1)
            .sum::<usize>();
        bytes[third + 15] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::<String>::open(&path).unwrap_err().to_string();
        assert!(error.contains("journal:4: "), "{error} {place}");
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for bytes in [
            &b"\xff\xfe\n"[..],
            b"gantry-journal 9\n",
            b"\n\n",
            b"gantry-journal 1\nzz\n{}\n",
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Journal::<String>::open(&path).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_never_returns_and_leaves_what_it_says() {
        for (crash, left) in [
            (Crash::Before(1), 1),
            (Crash::After(1), 2),
            (Crash::Within(1), 1),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let (journal, _) = Journal::<u32>::open(&path).unwrap();
            journal.crash(crash);
            let run = async {
                for n in 0..3 {
                    journal.append(&n).await.unwrap();
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(1), run)
                .await
                .unwrap_err();
            let (_, found) = Journal::<u32>::open(&path).unwrap();
            assert_eq!(found.len(), left, "{crash:?}");
        }
    }
}
