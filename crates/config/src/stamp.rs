//! When a file changed: what the periodic look at the configuration compares (config-toml §1 "Hot reload").

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

/// State of a file; another one means that the file was written or replaced.
///
/// The peer compares times alone. Size and inode see what a coarse clock hides: two writes in one tick, a file put back with its
/// old time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl FileStamp {
    /// The file as it is now; a link counts as what it points to.
    ///
    /// # Errors
    /// It is not there, or cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(metadata),
            #[cfg(not(unix))]
            inode: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_time_size_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(FileStamp::of(&path).is_err());
        let fixed = SystemTime::UNIX_EPOCH;
        let write = |path: &Path, text: &str, time: SystemTime| {
            fs::write(path, text).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        };
        write(&path, "one", fixed);
        let first = FileStamp::of(&path).unwrap();
        assert_eq!(FileStamp::of(&path).unwrap(), first);
        write(&path, "four", fixed);
        let longer = FileStamp::of(&path).unwrap();
        assert_ne!(longer, first);
        let other = folder.path().join("b");
        write(&other, "five", fixed);
        fs::rename(&other, &path).unwrap();
        let replaced = FileStamp::of(&path).unwrap();
        assert_ne!(replaced, longer);
        write(&path, "five", fixed + std::time::Duration::from_secs(1));
        assert_ne!(FileStamp::of(&path).unwrap(), replaced);
    }
}
