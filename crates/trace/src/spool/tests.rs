//! Files cut, changed and filled up.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::processor::StreamState;

const LIMIT: u64 = 1 << 20;

impl Spool {
    /// Puts another file in place of the output or the cursor, to make writing fail.
    pub(crate) fn fill_disk(&mut self, full: bool) {
        let path = if full {
            PathBuf::from("/dev/full")
        } else {
            self.folder.join(files::TRACE)
        };
        self.trace = Arc::new(NamedFile::open(path, false).unwrap());
    }

    fn fill_cursor_disk(&mut self, full: bool) {
        let path = if full {
            PathBuf::from("/dev/full")
        } else {
            self.folder.join(files::CURSOR)
        };
        self.cursor = NamedFile::open(path, false).unwrap();
    }
}

fn consumed(raw: &[u8]) -> Consumed {
    Consumed {
        bytes: raw.len() as u64,
        checksum: crc32fast::hash(raw),
        state: StreamState::default(),
    }
}

fn put(spool: &mut Spool, source: &str, output: &str, raw: &[u8]) {
    spool.append(|out| out.extend_from_slice(output.as_bytes()));
    spool.advance(source, Stream::Stdout, &consumed(raw), false);
}

fn read(spool: &Spool) -> Vec<u8> {
    let progress = spool.progress();
    spool.reader().read(0, LONGEST_READ, progress.len).unwrap()
}

fn three_records(folder: &Path) {
    let mut spool = Spool::create(folder, LIMIT).unwrap();
    put(&mut spool, "c1", "first\n", b"first\n");
    spool.commit().unwrap();
    put(&mut spool, "c1", "second\n", b"first\nsecond\n");
    put(&mut spool, "c2", "other\n", b"other\n");
    assert!(spool.once("hello"));
    spool.commit().unwrap();
    put(&mut spool, "c1", "third\n", b"first\nsecond\nthird\n");
    spool.commit().unwrap();
}

#[test]
fn only_output_with_a_record_can_be_read() {
    let folder = TempDir::new().unwrap();
    let mut spool = Spool::create(folder.path(), LIMIT).unwrap();
    put(&mut spool, "c1", "text\n", b"text\n");
    assert_eq!(spool.progress(), TraceProgress::default());
    let progress = spool.commit().unwrap();
    assert_eq!(
        (progress.len, progress.checksum),
        (5, crc32fast::hash(b"text\n"))
    );
    assert_eq!(
        progress.checksum_text(),
        format!("crc32:{:08x}", crc32fast::hash(b"text\n"))
    );
    assert_eq!(read(&spool), b"text\n");
    assert_eq!(spool.reader().read(2, 2, 5).unwrap(), b"xt");
    assert_eq!(spool.reader().read(5, 9, 5).unwrap(), b"");
    assert_eq!(spool.reader().read(99, 9, 5).unwrap(), b"");
}

#[test]
fn the_files_are_for_the_owner_only_and_not_made_twice() {
    let folder = TempDir::new().unwrap();
    drop(Spool::create(folder.path(), LIMIT).unwrap());
    for name in [files::TRACE, files::CURSOR] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again = Spool::create(folder.path(), LIMIT).unwrap_err();
    assert!(
        matches!(
            again,
            TraceError::Io {
                action: "create",
                ..
            }
        ),
        "{again}"
    );
}

#[test]
fn everything_known_is_known_again_after_opening() {
    let folder = TempDir::new().unwrap();
    three_records(folder.path());
    let (mut spool, opened) = Spool::open(folder.path(), LIMIT).unwrap();
    let expected = Opened {
        len: 25,
        ..Opened::default()
    };
    assert_eq!(opened, expected);
    assert_eq!(read(&spool), b"first\nsecond\nother\nthird\n");
    let one = &spool.stream("c1", Stream::Stdout).unwrap().consumed;
    assert_eq!(*one, consumed(b"first\nsecond\nthird\n"));
    let two = &spool.stream("c2", Stream::Stdout).unwrap().consumed;
    assert_eq!(*two, consumed(b"other\n"));
    assert!(spool.stream("c2", Stream::Stderr).is_none());
    assert!(!spool.once("hello") && spool.once("new"));
    spool.append(|out| out.extend_from_slice(b"more\n"));
    spool.finish();
    spool.commit().unwrap();
    drop(spool);
    let (spool, opened) = Spool::open(folder.path(), LIMIT).unwrap();
    assert!(opened.finished && spool.is_finished() && opened.len == 30);
}

#[test]
fn a_file_cut_at_any_byte_opens_at_a_whole_record() {
    let whole = TempDir::new().unwrap();
    three_records(whole.path());
    let trace = fs::read(whole.path().join(files::TRACE)).unwrap();
    let cursor = fs::read(whole.path().join(files::CURSOR)).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let cuts = (0..=cursor.len()).map(|cut| (trace.len(), cut));
    for (trace_cut, cursor_cut) in cuts.chain((0..=trace.len()).map(|cut| (cut, cursor.len()))) {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(files::TRACE), &trace[..trace_cut]).unwrap();
        fs::write(folder.path().join(files::CURSOR), &cursor[..cursor_cut]).unwrap();
        let (mut spool, opened) = Spool::open(folder.path(), LIMIT).unwrap();
        let output = read(&spool);
        assert_eq!(opened.len, output.len() as u64);
        assert_eq!(spool.progress().checksum, crc32fast::hash(&output));
        let one = spool
            .stream("c1", Stream::Stdout)
            .map(|cursor| cursor.consumed.bytes);
        let two = spool
            .stream("c2", Stream::Stdout)
            .map(|cursor| cursor.consumed.bytes);
        let expected = match output.len() {
            0 => (None, None),
            6 => (Some(6), None),
            19 => (Some(13), Some(6)),
            25 => (Some(19), Some(6)),
            other => panic!("{other} bytes are no whole record"),
        };
        assert_eq!((one, two), expected);
        assert_eq!(spool.once("hello"), output.len() < 19);
        assert_eq!(opened.records_lost > 0, trace_cut < trace.len());
        seen.insert(output.len());
        put(&mut spool, "c9", "again\n", b"again\n");
        spool.commit().unwrap();
        drop(spool);
        let (spool, _) = Spool::open(folder.path(), LIMIT).unwrap();
        assert_eq!(read(&spool), [&output[..], b"again\n"].concat());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 6, 19, 25]);
}

#[test]
fn a_changed_byte_anywhere_is_an_error_that_names_the_file() {
    let whole = TempDir::new().unwrap();
    three_records(whole.path());
    for name in [files::TRACE, files::CURSOR] {
        let content = fs::read(whole.path().join(name)).unwrap();
        for at in 0..content.len() {
            let folder = TempDir::new().unwrap();
            for other in [files::TRACE, files::CURSOR] {
                fs::copy(whole.path().join(other), folder.path().join(other)).unwrap();
            }
            let mut changed = content.clone();
            changed[at] ^= 1;
            fs::write(folder.path().join(name), &changed).unwrap();
            match Spool::open(folder.path(), LIMIT) {
                Err(TraceError::Corrupt { path, .. }) => assert!(path.ends_with(name), "{path:?}"),
                // The last line break: a record without one is torn.
                Ok((_, opened)) if at == content.len() - 1 && name == files::CURSOR => {
                    assert_eq!(opened.len, 19);
                }
                other => panic!("byte {at} of {name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    let folder = TempDir::new().unwrap();
    drop(Spool::create(folder.path(), LIMIT).unwrap());
    let mut line = Vec::new();
    record::write_line(&Header { version: 7 }, &mut line);
    fs::write(folder.path().join(files::CURSOR), line).unwrap();
    let error = Spool::open(folder.path(), LIMIT).unwrap_err();
    assert!(
        matches!(
            error,
            TraceError::Version {
                found: 7,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn missing_files_are_made() {
    let folder = TempDir::new().unwrap();
    let (mut spool, opened) = Spool::open(folder.path(), LIMIT).unwrap();
    assert_eq!(opened, Opened::default());
    put(&mut spool, "c1", "text\n", b"text\n");
    spool.commit().unwrap();
    drop(spool);
    assert_eq!(Spool::open(folder.path(), LIMIT).unwrap().1.len, 5);
}

#[test]
fn a_long_cursor_is_rewritten_and_says_the_same() {
    let folder = TempDir::new().unwrap();
    let mut spool = Spool::create(folder.path(), u64::MAX).unwrap();
    let (mut raw, mut longest) = (Vec::new(), 0);
    spool.once("early");
    for line in 0..40_000 {
        let text = format!("{line}\n");
        raw.extend_from_slice(text.as_bytes());
        spool.append(|out| out.extend_from_slice(text.as_bytes()));
        // The checksum of each prefix is not what this test is about.
        let place = Consumed {
            checksum: line,
            ..consumed(&raw[..0])
        };
        let place = Consumed {
            bytes: raw.len() as u64,
            ..place
        };
        spool.advance("c1", Stream::Stdout, &place, false);
        spool.commit().unwrap();
        longest = longest.max(spool.cursor_len);
    }
    assert!(longest < LONGEST_CURSOR + 4096, "{longest}");
    let places = spool.stream("c1", Stream::Stdout).unwrap().places.to_vec();
    let len = fs::metadata(folder.path().join(files::CURSOR))
        .unwrap()
        .len();
    assert_eq!(len, spool.cursor_len, "the file is the new one");
    // Left by a process that died while it rewrote.
    fs::write(folder.path().join(files::CURSOR_NEW), b"half").unwrap();
    let (mut again, opened) = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(opened.len, raw.len() as u64);
    let cursor = again.stream("c1", Stream::Stdout).unwrap();
    assert_eq!(
        (cursor.consumed.bytes, cursor.consumed.checksum),
        (raw.len() as u64, 39_999)
    );
    assert_eq!(cursor.places.to_vec().last(), places.last());
    assert!(cursor.places.to_vec().len() > 1);
    assert!(!again.once("early"));
    assert!(!folder.path().join(files::CURSOR_NEW).exists());

    let mut trace = fs::read(folder.path().join(files::TRACE)).unwrap();
    trace.truncate(10);
    fs::write(folder.path().join(files::TRACE), trace).unwrap();
    let error = Spool::open(folder.path(), u64::MAX).unwrap_err();
    assert!(
        matches!(error, TraceError::Corrupt { offset: 10, .. }),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_told_apart_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let mut spool = Spool::create(folder.path(), LIMIT).unwrap();
    put(&mut spool, "c1", "one\n", b"one\n");
    spool.commit().unwrap();
    spool.fill_disk(true);
    put(&mut spool, "c1", "two\n", b"one\ntwo\n");
    let error = spool.commit().unwrap_err();
    assert!(matches!(error, TraceError::DiskFull { .. }), "{error}");
    put(&mut spool, "c1", "three\n", b"one\ntwo\nthree\n");
    spool.commit_or_wait();
    assert!(spool.is_behind() && spool.waiting() == 10 && spool.progress().len == 4);
    spool.fill_disk(false);
    spool.fill_cursor_disk(true);
    let error = spool.commit().unwrap_err();
    assert!(matches!(error, TraceError::DiskFull { .. }), "{error}");
    assert_eq!(spool.progress().len, 4, "output without a record");
    spool.fill_cursor_disk(false);
    assert_eq!(spool.commit().unwrap().len, 14);
    assert!(!spool.is_behind());
    drop(spool);
    let (spool, opened) = Spool::open(folder.path(), LIMIT).unwrap();
    assert_eq!(
        opened,
        Opened {
            len: 14,
            ..Opened::default()
        }
    );
    assert_eq!(read(&spool), b"one\ntwo\nthree\n");
}

#[test]
fn the_limit_is_remembered() {
    let folder = TempDir::new().unwrap();
    let mut spool = Spool::create(folder.path(), 4).unwrap();
    put(&mut spool, "c1", "12345678", b"12345678");
    let len = spool.commit().unwrap().len;
    assert!(spool.limit_reached() && read(&spool).starts_with(b"1234\n\x1b[33;1mJob's log"));
    drop(spool);
    let (mut spool, _) = Spool::open(folder.path(), 4).unwrap();
    assert!(spool.limit_reached());
    put(&mut spool, "c1", "9", b"123456789");
    assert_eq!(spool.commit().unwrap().len, len, "later data is dropped");
    assert_eq!(
        spool.stream("c1", Stream::Stdout).unwrap().consumed.bytes,
        9
    );
}
