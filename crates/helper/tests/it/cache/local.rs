//! Archives beside the project, without a store.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use gantry_agent::{EntryOutcome, Line, LineKind, Selection, Variable};

use crate::support::Job;

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
    done.assert_done();
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
    done.assert_done();
    assert!(
        done.out()
            .ends_with("Successfully extracted cache\u{1b}[0;m\n")
    );
    let file = job.project().join("vendor/a/b.txt");
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o7777,
        0o755
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

    // Half-written or empty, and newer than every file: made anew by a save alone.
    for damaged in [&whole[..whole.len() - 3], b""] {
        fs::write(job.file(), damaged).unwrap();
        job.save(job.entry());
        assert_eq!(
            job.restore(vec![job.candidate()]).entries[0].outcome,
            EntryOutcome::Done
        );
    }
}

#[test]
fn a_directory_in_place_of_an_archive_is_a_miss_that_a_save_repairs_as_well() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let block = |job: &Job| {
        fs::remove_file(job.file()).ok();
        fs::create_dir_all(job.file().join("deep")).unwrap();
    };
    block(&job);
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Failed);
    assert!(done.err().contains("is a directory"), "{}", done.err());
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Miss);
    block(&job);
    fs::create_dir(job.file().with_file_name("metadata.json")).unwrap();
    let done = job.save(job.entry());
    done.assert_done();
    assert!(job.file().is_file());
}

#[test]
fn a_pipe_in_place_of_an_archive_is_not_waited_for() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let block = |job: &Job| {
        fs::remove_file(job.file()).ok();
        fs::create_dir_all(job.file().parent().unwrap()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(job.file())
            .status();
        assert!(made.unwrap().success());
    };
    block(&job);
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Failed);
    assert!(done.err().contains("is no file"), "{}", done.err());
    assert!(!job.file().exists());
    block(&job);
    let done = job.save(job.entry());
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    assert!(job.file().is_file());
}

/// A script can write to the volume of caches, and a link may lead nowhere.
#[test]
fn a_file_on_the_way_to_an_archive_is_taken_away() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let folder = job.file().parent().unwrap().to_owned();
    let above = folder.parent().unwrap().to_owned();
    let blocks: [&dyn Fn(); 3] = [
        &|| fs::write(&folder, "x").unwrap(),
        &|| symlink("/none/at/all", &folder).unwrap(),
        &|| {
            fs::remove_dir(&above).unwrap();
            fs::write(&above, "x").unwrap();
        },
    ];
    fs::create_dir_all(&above).unwrap();
    for block in blocks {
        block();
        let done = job.restore(vec![job.candidate()]);
        assert_eq!(done.entries[0].outcome, EntryOutcome::Miss);
        assert!(
            done.err().contains("was in the way of a cache: removed"),
            "{}",
            done.err()
        );
        fs::create_dir_all(&above).unwrap();
    }
    fs::write(&folder, "x").unwrap();
    let done = job.save(job.entry());
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    // Links to directories are somebody's choice.
    fs::rename(&folder, above.join("elsewhere")).unwrap();
    symlink("elsewhere", &folder).unwrap();
    let done = job.restore(vec![job.candidate()]);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
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
    done.assert_done();
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
    done.assert_done();
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
fn what_a_killed_save_left_beside_an_archive_goes_with_the_next_one_unless_somebody_writes_it() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let dir = job.file().parent().unwrap().to_owned();
    fs::create_dir_all(&dir).unwrap();
    let half = |name: &str, minutes: u64| {
        let path = dir.join(name);
        fs::write(&path, "half").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let time = SystemTime::now() - Duration::from_secs(minutes * 60);
        file.set_modified(time).unwrap();
        (path, file)
    };
    let (left, _) = half("archive_left.tmp", 20);
    // A save that takes its time holds its file.
    let (slow, writer) = half("archive_slow.tmp", 25 * 60);
    writer.lock().unwrap();
    // It may be that of a helper that holds nothing.
    let (young, _) = half("cache_young.tmp", 5);
    let (other, _) = half("notes.txt", 25 * 60);
    job.save(job.entry());
    assert!(!left.exists());
    assert!(slow.exists() && young.exists() && other.exists());
    // Not by closing it: a process that another test just begins may hold the file for a moment, too.
    writer.unlock().unwrap();
    // Longer: a file that is written right after a save may have the archive's time.
    job.write("vendor/a", "xy");
    job.save(job.entry());
    assert!(!slow.exists());
}

/// Two jobs with one key on one directory of a host: the last one wins, and nobody ever sees half of an archive.
#[test]
fn an_archive_that_several_jobs_write_and_read_at_once_is_always_whole() {
    const FILES: [&str; 3] = ["vendor/a", "vendor/b", "vendor/c"];
    const ROUNDS: usize = 6;
    let mut first = Job::new();
    let file = first.file();
    let write = |job: &Job, content: &str| {
        for name in FILES {
            job.write(name, content.repeat(20_000));
        }
    };
    write(&first, "first");
    first.save(first.entry());
    let save = |name: &'static str| {
        let mut job = Job::new();
        for round in 0..ROUNDS {
            write(&job, &format!("{name}{round}"));
            let mut entry = job.entry();
            entry.file.clone_from(&file);
            job.save(entry);
        }
    };
    let restore = || {
        for _ in 0..ROUNDS {
            let mut job = Job::new();
            let mut candidate = job.candidate();
            candidate.file.clone_from(&file);
            let done = job.restore(vec![candidate]);
            let text = done.out();
            assert!(text.contains("Successfully extracted cache"), "{text}");
            let read = |name: &str| fs::read(job.project().join(name)).unwrap();
            let [a, b, c] = FILES.map(read);
            assert!(a == b && b == c, "files of different jobs");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| save("one"));
        scope.spawn(|| save("two"));
        scope.spawn(restore);
        scope.spawn(restore);
    });
}
