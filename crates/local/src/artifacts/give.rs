//! Archives of earlier jobs on their way to the helper: a tar that is made while it is read.

use std::{
    io::{self, Cursor},
    path::{Path, PathBuf},
    pin::Pin,
};

use gantry_engine::Archive;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Size of a block of a tar.
const BLOCK: u64 = 512;

/// A tar of files under these names. A file that cannot be read is an error of the reader.
pub(super) fn tar(files: Vec<(String, PathBuf)>) -> Archive {
    let mut all: Archive = Box::pin(Cursor::new(Vec::new()));
    for (name, path) in files {
        let part: Archive = match part(&name, &path) {
            Ok(part) => part,
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                return Box::pin(all.chain(Broken(text)));
            }
        };
        all = Box::pin(all.chain(part));
    }
    // Two empty blocks are the end.
    Box::pin(all.chain(Cursor::new(vec![0; 2 * BLOCK as usize])))
}

fn part(name: &str, path: &Path) -> io::Result<Archive> {
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    let head = Cursor::new(header.as_bytes().to_vec());
    let padding = size.next_multiple_of(BLOCK) - size;
    let tail = Cursor::new(vec![0; padding as usize]);
    let file = tokio::fs::File::from_std(file).take(size);
    Ok(Box::pin(head.chain(file).chain(tail)))
}

/// Fails when it is read.
struct Broken(String);

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Err(io::Error::other(self.0.clone())))
    }
}
