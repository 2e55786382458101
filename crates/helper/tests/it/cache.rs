//! Caches through the agent: local, and with a store that does what stores do.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_agent::{
    ArchiveCacheEntry, ArchiveCacheRequest, EntryOutcome, Header, Line, LineKind, RemoteSource,
    RestoreCacheRequest, RestoreCandidate, RestoreEntry, Selection, SignedUrl, StageRequest,
    Variable,
};

use crate::support::{Agent, Client, Finished, Reply, Store};

struct Job {
    agent: Agent,
    client: Client,
    number: u32,
}

impl Job {
    fn new() -> Self {
        let agent = Agent::start();
        fs::create_dir_all(agent.project()).unwrap();
        let client = Client::welcomed(&agent.socket(), 1);
        Self {
            agent,
            client,
            number: 0,
        }
    }

    fn project(&self) -> PathBuf {
        self.agent.project()
    }

    fn file(&self) -> PathBuf {
        self.agent.path("cache/key/cache.zip")
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn run(&mut self, request: StageRequest) -> Finished {
        self.number += 1;
        self.client.run(&format!("stage/{}", self.number), request)
    }

    fn entry(&self) -> ArchiveCacheEntry {
        ArchiveCacheEntry {
            key: "key".into(),
            file: self.file(),
            selection: Selection {
                paths: vec!["vendor".into()],
                ..Selection::default()
            },
            metadata: [("CacheKey".to_owned(), "key".to_owned())].into(),
            ..ArchiveCacheEntry::default()
        }
    }

    fn save(&mut self, entry: ArchiveCacheEntry) -> Finished {
        self.save_with(entry, Vec::new())
    }

    fn save_with(&mut self, entry: ArchiveCacheEntry, variables: Vec<Variable>) -> Finished {
        let request = ArchiveCacheRequest {
            project_dir: self.project(),
            entries: vec![entry],
            variables,
            ..ArchiveCacheRequest::default()
        };
        self.run(StageRequest::ArchiveCache(Box::new(request))).ok()
    }

    fn restore(&mut self, candidates: Vec<RestoreCandidate>) -> Finished {
        self.restore_with(candidates, false)
    }

    fn restore_with(
        &mut self,
        candidates: Vec<RestoreCandidate>,
        clean_up_failed: bool,
    ) -> Finished {
        let request = RestoreCacheRequest {
            project_dir: self.project(),
            entries: vec![RestoreEntry {
                candidates,
                selection: self.entry().selection,
                ..RestoreEntry::default()
            }],
            clean_up_failed,
            ..RestoreCacheRequest::default()
        };
        self.run(StageRequest::RestoreCache(Box::new(request))).ok()
    }

    fn candidate(&self) -> RestoreCandidate {
        RestoreCandidate {
            key: "key".into(),
            file: self.file(),
            ..RestoreCandidate::default()
        }
    }
}

fn url(store: &Store, path: &str) -> SignedUrl {
    SignedUrl {
        url: store.url(&format!("{path}?X-Amz-Signature=s3cret")).into(),
        headers: Vec::new(),
    }
}

fn remote(store: &Store, path: &str) -> RemoteSource {
    RemoteSource {
        get: url(store, path),
        head: Some(url(store, path)),
    }
}

#[test]
fn a_cache_is_saved_and_comes_back_with_everything() {
    let mut job = Job::new();
    job.write("vendor/a/b.txt", "content");
    fs::set_permissions(
        job.project().join("vendor/a/b.txt"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    symlink("b.txt", job.project().join("vendor/a/link")).unwrap();
    let done = job.save(job.entry());
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert_eq!(done.entries[0].files, 4);
    assert_eq!(
        done.out(),
        "\u{1b}[32;1mCreating cache key...\u{1b}[0;m\n\u{1b}[32;1mCreated cache\u{1b}[0;m\n"
    );
    assert!(
        done.err()
            .contains("vendor: found 4 matching artifact files and directories")
    );
    assert!(done.err().contains("Cache will be stored only locally."));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&job.file()), 0o600);
    assert_eq!(mode(job.file().parent().unwrap()), 0o700);
    let metadata = job.file().with_file_name("metadata.json");
    assert_eq!(mode(&metadata), 0o640);
    assert_eq!(
        fs::read_to_string(metadata).unwrap(),
        r#"{"cachekey":"key"}"#
    );

    fs::remove_dir_all(job.project().join("vendor")).unwrap();
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert!(
        done.out()
            .ends_with("Successfully extracted cache\u{1b}[0;m\n")
    );
    let file = job.project().join("vendor/a/b.txt");
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o7777,
        0o4755
    );
    assert_eq!(
        fs::read_link(job.project().join("vendor/a/link")).unwrap(),
        Path::new("b.txt")
    );
}

#[test]
fn an_unchanged_cache_is_not_made_again_and_a_changed_one_is() {
    let mut job = Job::new();
    job.write("vendor/a", "1");
    job.write("vendor/b", "2");
    job.save(job.entry());
    let inode = |job: &Job| std::os::unix::fs::MetadataExt::ino(&fs::metadata(job.file()).unwrap());
    let first = inode(&job);
    let done = job.save(job.entry());
    assert!(
        done.err().contains("Archive is up to date!"),
        "{}",
        done.err()
    );
    assert_eq!(done.entries[0].outcome, EntryOutcome::Nothing);
    assert_eq!(inode(&job), first);

    // A file that is gone, and one with an old time, are changes as well.
    let dir = fs::File::open(job.project().join("vendor")).unwrap();
    let before = dir.metadata().unwrap().modified().unwrap();
    fs::remove_file(job.project().join("vendor/a")).unwrap();
    dir.set_modified(before).unwrap();
    let done = job.save(job.entry());
    assert!(done.err().contains("stored only locally"), "{}", done.err());
    let second = inode(&job);
    assert_ne!(second, first);
    let file = fs::File::options()
        .write(true)
        .open(job.project().join("vendor/b"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    job.save(job.entry());
    assert_ne!(inode(&job), second);
}

#[test]
fn a_damaged_local_archive_is_a_miss_and_the_next_save_repairs_it() {
    let mut job = Job::new();
    job.write(
        "vendor/a",
        "content that is long enough to be cut in the middle",
    );
    job.save(job.entry());
    let whole = fs::read(job.file()).unwrap();
    fs::write(job.file(), &whole[..whole.len() / 2]).unwrap();
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Failed);
    assert!(done.out().contains("Failed to extract cache"));
    assert!(done.err().contains("not an archive"), "{}", done.err());
    assert!(!job.file().exists(), "it does not fail again");
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Miss);
    assert!(done.err().contains("WARNING: Cache file does not exist"));
    job.save(job.entry());
    assert_eq!(
        job.restore(vec![job.candidate()]).entries[0].outcome,
        EntryOutcome::Done
    );

    // Half-written, and newer than every file: made anew by a save alone.
    fs::write(job.file(), &whole[..whole.len() - 3]).unwrap();
    job.save(job.entry());
    assert_eq!(
        job.restore(vec![job.candidate()]).entries[0].outcome,
        EntryOutcome::Done
    );
}

#[test]
fn the_first_key_that_is_found_ends_the_search() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    job.save(job.entry());
    let mut missing = job.candidate();
    missing.key = "main".into();
    missing.file = job.agent.path("cache/main/cache.zip");
    missing.lines = vec![Line {
        kind: LineKind::Warning,
        text: "cache key \"../main\" sanitized to \"main\"".into(),
    }];
    let mut last = missing.clone();
    last.key = "never".into();
    let done = job.restore(vec![missing, job.candidate(), last]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    let lines: Vec<String> = done.out().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "\u{1b}[0;33mcache key \"../main\" sanitized to \"main\"\u{1b}[0;m",
            "\u{1b}[32;1mChecking cache for main...\u{1b}[0;m",
            "\u{1b}[0;33mFailed to extract cache\u{1b}[0;m",
            "\u{1b}[32;1mChecking cache for key...\u{1b}[0;m",
            "\u{1b}[32;1mSuccessfully extracted cache\u{1b}[0;m",
        ]
    );
}

#[test]
fn a_cache_goes_to_the_store_and_is_not_sent_again_while_it_is_there() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let store = Store::start(|_, _| Reply::status(200));
    let mut entry = job.entry();
    entry.put = Some(SignedUrl {
        headers: vec![Header {
            name: "x-amz-meta-cachekey".into(),
            value: "key".into(),
        }],
        ..url(&store, "/bucket/key")
    });
    entry.check = Some(url(&store, "/bucket/key"));
    let done = job.save(entry.clone());
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert!(done.err().contains(&format!(
        "Uploading cache.zip to {}",
        store.url("/bucket/key")
    )));
    assert!(!done.err().contains("s3cret") && !done.out().contains("s3cret"));
    let put = &store.seen()[0];
    assert_eq!(
        (&put.method[..], &put.target[..]),
        ("PUT", "/bucket/key?X-Amz-Signature=s3cret")
    );
    assert_eq!(put.header("x-amz-meta-cachekey"), "key");
    assert_eq!(put.header("content-type"), "application/octet-stream");
    assert!(put.header("last-modified").ends_with(" GMT"));
    assert_eq!(put.header("content-length"), put.body.len().to_string());
    assert_eq!(put.body, fs::read(job.file()).unwrap());

    let done = job.save(entry.clone());
    assert!(
        done.err()
            .contains("Primary cache already exists remotely, skipping upload")
    );
    assert_eq!(store.seen().len(), 2);
    assert_eq!(store.seen()[1].method, "HEAD");

    // Gone from the store: the archive that is there is sent.
    let gone =
        Store::start(|request, _| Reply::status(if request.method == "HEAD" { 404 } else { 200 }));
    entry.put = Some(url(&gone, "/k"));
    entry.check = Some(url(&gone, "/k"));
    let done = job.save(entry.clone());
    assert!(
        done.err()
            .contains("does not exist remotely, uploading existing archive")
    );
    assert_eq!(gone.seen()[1].method, "PUT");

    entry.max_archive_size = 10;
    job.write("vendor/b", "new");
    let done = job.save(entry);
    assert!(
        done.err().contains("is too big (Limit is set to 10 B)"),
        "{}",
        done.err()
    );
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert_eq!(gone.seen().len(), 2);
}

#[test]
fn a_store_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let store = Store::start(|_, number| Reply::status(if number < 2 { 503 } else { 200 }));
    let mut entry = job.entry();
    entry.put = Some(url(&store, "/k"));
    let done = job.save(entry.clone());
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert_eq!(done.err().matches("Retrying...").count(), 2);
    let bodies: Vec<_> = store
        .seen()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));

    let refused = Store::start(|_, _| {
        Reply::status(403)
            .body("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
    });
    entry.put = Some(url(&refused, "/k"));
    job.write("vendor/a", "xy");
    let done = job.save(entry);
    assert!(done.err().contains("FATAL: received: 403 Forbidden. Request failed with code: AccessDenied, message: Access Denied"));
    assert!(done.out().contains("Failed to create cache"));
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert_eq!(refused.seen().len(), 1);
}

/// An archive with one file.
fn archive(job: &mut Job, content: &str) -> Vec<u8> {
    job.write("vendor/a", content);
    job.save(job.entry());
    let archive = fs::read(job.file()).unwrap();
    fs::remove_file(job.file()).unwrap();
    fs::remove_dir_all(job.project().join("vendor")).unwrap();
    archive
}

#[test]
fn a_cache_comes_from_the_store_unless_the_local_one_is_as_new() {
    let mut job = Job::new();
    let archive = archive(&mut job, "from the store");
    let store = Store::start(move |_, _| {
        Reply::status(200)
            .with("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT")
            .with("ETag", "\"e\"")
            .with("x-amz-meta-cachekey", "key")
            .body(archive.clone())
    });
    let mut candidate = job.candidate();
    candidate.remote = Some(remote(&store, "/k"));
    let done = job.restore(vec![candidate.clone()]);
    assert_eq!(
        done.entries[0].outcome,
        EntryOutcome::Done,
        "{}",
        done.err()
    );
    assert!(
        done.err()
            .contains(&format!("Downloading cache.zip from {}", store.url("/k")))
    );
    assert_eq!(
        fs::read_to_string(job.project().join("vendor/a")).unwrap(),
        "from the store"
    );
    let time = fs::metadata(job.file()).unwrap().modified().unwrap();
    assert_eq!(
        time,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890)
    );
    let metadata = job.file().with_file_name("metadata.json");
    assert_eq!(
        fs::read_to_string(metadata).unwrap(),
        r#"{"cachekey":"key"}"#
    );
    let done = job.restore(vec![candidate.clone()]);
    assert!(done.err().contains("cache.zip is up to date"));

    // The local one is as new, but no good: the store has better.
    let held = fs::metadata(job.file()).unwrap().modified().unwrap();
    fs::write(job.file(), "garbage").unwrap();
    fs::File::options()
        .write(true)
        .open(job.file())
        .unwrap()
        .set_modified(held)
        .unwrap();
    let done = job.restore(vec![candidate]);
    assert_eq!(
        done.entries[0].outcome,
        EntryOutcome::Done,
        "{}",
        done.err()
    );
}

#[test]
fn a_download_that_breaks_off_is_continued_where_it_broke() {
    let mut job = Job::new();
    let archive = archive(&mut job, &"long content ".repeat(10_000));
    let served = archive.clone();
    let store = Store::start(move |request, number| {
        let reply = Reply::status(200)
            .with("ETag", "\"e\"")
            .body(served.clone());
        match number {
            0 => Reply {
                cut: served.len() / 2,
                ..reply
            },
            _ => {
                let from: usize = request
                    .header("range")
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .unwrap();
                assert_eq!(request.header("if-range"), "\"e\"");
                Reply {
                    status: 206,
                    body: served[from..].to_vec(),
                    ..reply
                }
            }
        }
    });
    let mut candidate = job.candidate();
    candidate.remote = Some(remote(&store, "/k"));
    let done = job.restore(vec![candidate]);
    assert_eq!(
        done.entries[0].outcome,
        EntryOutcome::Done,
        "{}",
        done.err()
    );
    assert_eq!(store.seen().len(), 2);
    assert_eq!(fs::read(job.file()).unwrap(), archive);
}

#[test]
fn what_a_store_answers_instead_of_a_cache_fails_with_its_reason_and_leaves_the_project() {
    let mut job = Job::new();
    job.write("kept", "x");
    let cases: [(&str, Reply); 5] = [
        ("file does not exist", Reply::status(404)),
        (
            "not an archive",
            Reply::status(200).body("<html>Sign in</html>"),
        ),
        (
            "received: 302 Found",
            Reply::status(302).with("Location", "/again"),
        ),
        (
            "GET http://127.0.0.1",
            Reply {
                raw: Some(b"no http at all\r\n\r\n".to_vec()),
                ..Reply::default()
            },
        ),
        (
            "GET http://127.0.0.1",
            Reply {
                raw: Some(Vec::new()),
                ..Reply::default()
            },
        ),
    ];
    for (text, reply) in cases {
        let store = Store::start(move |_, _| reply.clone());
        let mut candidate = job.candidate();
        candidate.remote = Some(remote(&store, "/k"));
        let done = job.restore(vec![candidate]);
        assert_ne!(done.entries[0].outcome, EntryOutcome::Done);
        assert!(done.err().contains(text), "{text}: {}", done.err());
        assert!(!done.err().contains("s3cret"), "{}", done.err());
        assert!(done.out().contains("Failed to extract cache"));
        let left: Vec<_> = fs::read_dir(job.project())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kept"]);
    }
}

#[test]
fn the_alternate_address_is_taken_if_it_alone_is_there_or_newer() {
    let mut job = Job::new();
    let archive = archive(&mut job, "alternate");
    let times = [
        (None, Some("Fri, 13 Feb 2009 23:31:30 GMT"), true),
        (
            Some("Fri, 13 Feb 2009 23:31:31 GMT"),
            Some("Fri, 13 Feb 2009 23:31:30 GMT"),
            false,
        ),
        (
            Some("Fri, 13 Feb 2009 23:31:30 GMT"),
            Some("Fri, 13 Feb 2009 23:31:31 GMT"),
            true,
        ),
        (Some("Fri, 13 Feb 2009 23:31:30 GMT"), None, false),
    ];
    for (primary, alternate, takes_alternate) in times {
        let archive = archive.clone();
        let store = Store::start(move |request, _| {
            let time = if request.target.starts_with("/alternate") {
                alternate
            } else {
                primary
            };
            match time {
                Some(time) => Reply::status(200)
                    .with("Last-Modified", time)
                    .body(archive.clone()),
                None => Reply::status(404),
            }
        });
        fs::remove_file(job.file()).ok();
        let mut candidate = job.candidate();
        candidate.remote = Some(remote(&store, "/primary"));
        candidate.alternate = Some(remote(&store, "/alternate"));
        let done = job.restore(vec![candidate]);
        assert_eq!(
            done.entries[0].outcome,
            EntryOutcome::Done,
            "{}",
            done.err()
        );
        let seen = store.seen();
        let got = seen.last().unwrap();
        assert_eq!(got.method, "GET");
        assert_eq!(
            got.target.starts_with("/alternate"),
            takes_alternate,
            "{primary:?} {alternate:?}"
        );
    }
}

#[test]
fn the_archive_of_the_other_naming_scheme_is_taken_over() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let mut entry = job.entry();
    entry.file = job.agent.path("cache/hashed/cache.zip");
    job.save(entry.clone());
    let mut candidate = job.candidate();
    candidate.alternate_file = Some(entry.file.clone());
    let done = job.restore(vec![candidate]);
    assert!(
        done.err()
            .contains("Renamed alternate cache file to primary")
    );
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert!(job.file().exists() && !entry.file.exists());
}

#[test]
fn variables_choose_format_and_level_and_are_expanded_in_paths() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let variable = |key: &str, value: &str| Variable {
        key: key.into(),
        value: value.into(),
    };
    let mut entry = job.entry();
    entry.selection.paths = vec!["${DIR:-none}/*".into(), "$(id)".into()];
    let variables = vec![
        variable("CACHE_COMPRESSION_FORMAT", "TarZstd"),
        variable("CACHE_COMPRESSION_LEVEL", "brutal"),
        variable("DIR", "vendor"),
    ];
    let done = job.save_with(entry, variables);
    assert!(
        done.err()
            .contains("compression level \"brutal\" is invalid, falling back to default")
    );
    assert!(
        done.err()
            .contains("invalid path \"$(id)\": command substitution is not supported")
    );
    assert!(done.err().contains("vendor/*: found 1 matching"));
    assert_eq!(fs::read(job.file()).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert_eq!(
        job.restore(vec![job.candidate()]).entries[0].outcome,
        EntryOutcome::Done
    );
}

#[test]
fn nothing_to_cache_is_no_failure_and_lines_alone_are_printed() {
    let mut job = Job::new();
    let done = job.save(job.entry());
    assert!(done.err().contains("WARNING: No files to cache."));
    assert!(done.out().contains("Created cache"));
    assert_eq!(done.entries[0].outcome, EntryOutcome::Nothing);
    let mut entry = job.entry();
    entry.skip = true;
    entry.lines = vec![Line {
        text: "Not uploading cache key due to policy".into(),
        ..Line::default()
    }];
    let done = job.save(entry);
    assert_eq!(
        done.out(),
        "\u{1b}[32;1mNot uploading cache key due to policy\u{1b}[0;m\n"
    );
}

#[test]
fn a_failed_restore_clears_the_paths_if_that_is_wanted_and_nothing_else() {
    let mut job = Job::new();
    job.write("vendor/old", "x");
    job.write("other", "x");
    fs::create_dir_all(job.file().parent().unwrap()).unwrap();
    fs::write(job.file(), "garbage").unwrap();
    let done = job.restore_with(vec![job.candidate()], true);
    assert!(done.out().contains("Removing vendor"));
    assert!(!job.project().join("vendor").exists() && job.project().join("other").exists());
}

#[test]
fn untracked_files_are_asked_of_git_in_a_directory_of_any_owner() {
    let mut job = Job::new();
    job.write("tracked", "x");
    job.write("ignored.o", "x");
    job.write(".gitignore", "*.o\n");
    let git = |args: &[&str]| {
        let git = std::process::Command::new("git")
            .args(args)
            .current_dir(job.project())
            .output()
            .unwrap();
        assert!(git.status.success(), "{git:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "tracked", ".gitignore"]);
    let mut entry = job.entry();
    entry.selection = Selection {
        untracked: true,
        ..Selection::default()
    };
    let done = job.save(entry);
    assert!(
        done.err().contains("untracked: found 1 files"),
        "{}",
        done.err()
    );
    assert_eq!(done.entries[0].files, 1);
}

#[test]
fn what_an_interrupted_job_left_beside_an_archive_is_removed_after_a_day() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let dir = job.file().parent().unwrap().to_owned();
    fs::create_dir_all(&dir).unwrap();
    let (old, young) = (dir.join("archive_abc.tmp"), dir.join("archive_def.tmp"));
    for path in [&old, &young] {
        fs::write(path, "half").unwrap();
    }
    let day = SystemTime::now() - Duration::from_secs(25 * 3600);
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(day).unwrap();
    job.save(job.entry());
    assert!(!old.exists() && young.exists());
}
