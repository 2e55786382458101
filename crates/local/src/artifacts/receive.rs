//! Archives of a job on their way from the helper.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use gantry_engine::Archive;
use tokio::{io::AsyncReadExt, sync::mpsc};

/// Bytes handed over at once, and how many such pieces may wait.
const PIECE: usize = 128 * 1024;
const PIECES: usize = 4;

/// Lets blocking work read from the archive.
///
/// # Errors
/// Those of the work; of the stream where the work took it for whole.
pub(super) async fn with_reader<F>(mut archive: Archive, work: F) -> Result<(), String>
where
    F: FnOnce(Pieces) -> Result<(), String> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PIECES);
    let working = tokio::task::spawn_blocking(move || {
        work(Pieces {
            receiver,
            piece: io::Cursor::default(),
            over: false,
        })
    });
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = AsyncReadExt::read_buf(&mut archive, &mut piece).await;
        let over = !matches!(read, Ok(count) if count > 0);
        let piece = read.map(|_| piece);
        if sender.send(piece).await.is_err() || over {
            break;
        }
    }
    drop(sender);
    match working.await {
        Ok(done) => done,
        Err(error) => Err(format!("internal error: {error}")),
    }
}

/// What was read so far. An empty piece is the end; without it something is missing.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    over: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = Read::read(&mut self.piece, buffer)?;
            if read > 0 || buffer.is_empty() || self.over {
                return Ok(read);
            }
            match self.receiver.blocking_recv() {
                Some(Ok(piece)) if piece.is_empty() => self.over = true,
                Some(piece) => self.piece = io::Cursor::new(piece?),
                None => return Err(io::Error::other("the archive was cut short")),
            }
        }
    }
}

/// Stores files `<place>.zip` of a tar, for places below `count`; gives the places, in order. Anything else in it is passed over.
pub(super) fn archives(tar: impl Read, folder: &Path, count: usize) -> io::Result<Vec<usize>> {
    let mut places = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let place = entry.path()?.file_name().and_then(|name| {
            let place = name.to_str()?.strip_suffix(".zip")?;
            place.parse::<usize>().ok().filter(|place| *place < count)
        });
        let Some(place) = place else { continue };
        let path = folder.join(format!("{place}.zip"));
        let size = entry.size();
        let copied = io::copy(&mut entry, &mut File::create(&path)?)?;
        if copied != size {
            return Err(io::Error::other("the archive was cut short"));
        }
        places.push(place);
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}
