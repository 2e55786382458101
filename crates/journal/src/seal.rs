//! Records that may not stand in the journal in clear: sealed with a key that is kept beside the jobs, in a file of its own.
//!
//! A journal that is copied, backed up or sent to somebody says nothing of what was sealed. Who reads the whole state folder reads
//! everything: it is the runner's user, who could as well read the memory of the runner.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{JournalError, folder::write_file};

/// Where the key of a folder is, and the key once it was needed.
#[derive(Clone)]
pub(crate) struct Keyring {
    path: PathBuf,
    key: Arc<Mutex<Option<Arc<LessSafeKey>>>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyring").field(&self.path).finish()
    }
}

impl Keyring {
    /// Nothing is read or made before a key is needed.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            path,
            key: Arc::default(),
        }
    }

    /// The key to seal with; made if there is none.
    pub(crate) fn sealing(&self) -> Result<SealKey, JournalError> {
        self.get(true)
    }

    /// The key that was sealed with.
    pub(crate) fn opening(&self) -> Result<SealKey, JournalError> {
        self.get(false)
    }

    fn get(&self, make: bool) -> Result<SealKey, JournalError> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*known {
            return Ok(SealKey(Arc::clone(key)));
        }
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => {
                make_key(&self.path)?
            }
            Err(error) => return Err(JournalError::io("read", &self.path)(error)),
        };
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| JournalError::io("use the key", &self.path)(damaged("it is damaged")))?;
        let key = Arc::new(LessSafeKey::new(unbound));
        *known = Some(Arc::clone(&key));
        Ok(SealKey(key))
    }
}

fn make_key(path: &Path) -> Result<Vec<u8>, JournalError> {
    let mut bytes = vec![0; CHACHA20_POLY1305.key_len()];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| JournalError::io("make the key", path)(damaged("no random bytes")))?;
    let temporary = path.with_extension("new");
    write_file(&temporary, &bytes)?;
    fs::rename(&temporary, path).map_err(JournalError::io("write", path))?;
    Ok(bytes)
}

fn damaged(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// Seals and opens texts.
#[derive(Clone)]
pub(crate) struct SealKey(Arc<LessSafeKey>);

impl SealKey {
    /// The text, unreadable without the key; no line break in it.
    pub(crate) fn seal(&self, plain: Vec<u8>) -> Result<String, std::io::Error> {
        let mut nonce = [0; NONCE_LEN];
        let mut sealed = plain;
        // 96 random bits: a job has some dozens of records, a folder some millions of them before two might meet.
        SystemRandom::new()
            .fill(&mut nonce)
            .and_then(|()| {
                self.0.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::empty(),
                    &mut sealed,
                )
            })
            .map_err(|_| damaged("the record cannot be sealed"))?;
        Ok(STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed; `None` if it was sealed with another key, or changed since.
    pub(crate) fn open(&self, text: &[u8]) -> Option<Vec<u8>> {
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{JobFolder, StateFolder};

    fn text(folder: &JobFolder) -> String {
        fs::read_to_string(folder.path().join("journal")).unwrap()
    }

    #[tokio::test]
    async fn what_follows_a_seal_cannot_be_read_without_the_key_and_comes_back_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::open(dir.path(), || "abc".into()).unwrap();
        let folder = state.create_job("1-7").unwrap();
        let (journal, _) = folder.journal::<String>().unwrap();
        journal.append(&"in clear".to_owned()).await.unwrap();
        journal.seal().unwrap();
        journal.append(&"s3cr3t".to_owned()).await.unwrap();
        journal.append_synced(&"s3cr3t".to_owned()).await.unwrap();
        let written = text(&folder);
        assert!(
            written.contains("in clear") && !written.contains("s3cr3t"),
            "{written}"
        );
        let lines: Vec<_> = written.lines().collect();
        assert_ne!(lines[2], lines[3], "equal records do not look equal");
        let mode = fs::metadata(dir.path().join("key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(state);

        // The next process.
        let state = StateFolder::open(dir.path(), || "abc".into()).unwrap();
        let folder = state.jobs().unwrap().remove(0);
        let (journal, records) = folder.journal::<String>().unwrap();
        assert_eq!(records, ["in clear", "s3cr3t", "s3cr3t"]);
        journal.append(&"another s3cr3t".to_owned()).await.unwrap();
        assert!(!text(&folder).contains("another"), "it goes on as it was");
        assert_eq!(folder.journal::<String>().unwrap().1.len(), 4);
    }

    #[tokio::test]
    async fn a_sealed_record_cut_at_any_byte_is_a_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = JobFolder::at(dir.path()).unwrap();
        let (journal, _) = folder.journal::<String>().unwrap();
        journal.append(&"first".to_owned()).await.unwrap();
        let begin = text(&folder).len();
        journal.seal().unwrap();
        journal.append(&"second".to_owned()).await.unwrap();
        let whole = text(&folder);
        for cut in begin..whole.len() {
            fs::write(dir.path().join("journal"), &whole[..cut]).unwrap();
            let (journal, records) = folder.journal::<String>().unwrap();
            assert_eq!(records, ["first"], "cut at {cut}");
            journal.append(&"after".to_owned()).await.unwrap();
            assert_eq!(folder.journal::<String>().unwrap().1, ["first", "after"]);
        }
    }

    #[tokio::test]
    async fn without_its_key_a_sealed_journal_is_damaged_and_its_first_record_can_be_read() {
        for damage in ["lost", "other", "short"] {
            let dir = tempfile::tempdir().unwrap();
            let folder = JobFolder::at(dir.path()).unwrap();
            let (journal, _) = folder.journal::<String>().unwrap();
            journal.append(&"first".to_owned()).await.unwrap();
            journal.seal().unwrap();
            journal.append(&"s3cr3t".to_owned()).await.unwrap();
            let key = dir.path().join("key");
            match damage {
                "lost" => fs::remove_file(&key).unwrap(),
                "other" => fs::write(&key, [7; 32]).unwrap(),
                _ => fs::write(&key, [7; 5]).unwrap(),
            }
            let folder = JobFolder::at(dir.path()).unwrap();
            let error = folder.journal::<String>().unwrap_err().to_string();
            assert!(error.contains("key"), "{damage}: {error}");
            assert_eq!(folder.first_record::<String>().as_deref(), Some("first"));
        }
    }
}
