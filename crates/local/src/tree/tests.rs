use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use tokio::io::AsyncReadExt;

use super::*;
use crate::facts::collect;
use crate::fixture::{Folder, git};

async fn tree(folder: &Path) -> Tree {
    Tree::list(&collect(folder, "f").await.unwrap())
        .await
        .unwrap()
}

async fn bytes(folder: &Path) -> Vec<u8> {
    tree(folder).await.write(Vec::new()).unwrap()
}

/// Name → kind, mode and content or target, without `.git`.
fn entries(archive: &[u8]) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        if Path::new(&name).starts_with(".git") {
            continue;
        }
        assert_eq!(
            (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
            (0, 0)
        );
        let mode = entry.header().mode().unwrap();
        let mut text = String::new();
        let content = match entry.header().entry_type() {
            EntryType::Directory => "folder".to_owned(),
            EntryType::Symlink => {
                format!("-> {}", entry.link_name().unwrap().unwrap().display())
            }
            _ => {
                entry.read_to_string(&mut text).unwrap();
                text
            }
        };
        let old = entries.insert(name.clone(), format!("{mode:o} {content}"));
        assert_eq!(old, None, "{name} is in the archive twice");
    }
    entries
}

fn names(archive: &[u8]) -> Vec<String> {
    entries(archive).into_keys().collect()
}

/// What the archive makes of an empty folder.
fn unpack(archive: &[u8]) -> Folder {
    let folder = Folder::new("job");
    tar::Archive::new(archive).unpack(folder.path()).unwrap();
    folder
}

/// All files of a folder with their content and times.
fn fingerprint(folder: &Path) -> Vec<(PathBuf, i64, i64, Vec<u8>)> {
    let mut all = Vec::new();
    walk::walk(folder, &|_, _| true, &mut |path, name| {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() {
            std::fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        all.push((
            name.to_owned(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            content,
        ));
        Ok(())
    })
    .unwrap();
    all
}

#[tokio::test]
async fn the_tree_is_sent_as_it_is_with_untracked_and_without_ignored_files() {
    let folder = Folder::repository("shop");
    folder.write(".gitignore", "*.log\n/build/\n");
    folder.write("kept/by.log", "tracked in spite of the pattern");
    folder.write("changed", "old");
    folder.write("gone", "x");
    folder.git(&["add", "--force", "."]);
    folder.git(&["commit", "--quiet", "-m", "one"]);
    folder.write("changed", "new");
    folder.write("sub/new file", "untracked");
    folder.write("build/out", "ignored");
    folder.write("noise.log", "ignored");
    std::fs::remove_file(folder.path().join("gone")).unwrap();

    let expected = [
        (".gitignore", "666 *.log\n/build/\n"),
        ("changed", "666 new"),
        ("kept", "777 folder"),
        ("kept/by.log", "666 tracked in spite of the pattern"),
        ("sub", "777 folder"),
        ("sub/new file", "666 untracked"),
    ];
    let expected: BTreeMap<String, String> = expected
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
        .into();
    assert_eq!(entries(&bytes(folder.path()).await), expected);
}

#[tokio::test]
async fn modes_are_those_of_a_checkout_without_umask_and_links_stay_links() {
    let folder = Folder::repository("shop");
    folder.write("plain", "");
    folder.write("run", "");
    folder.write("secret", "");
    let mode = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("plain", 0o644);
    mode("run", 0o700);
    mode("secret", 0o400);
    symlink("./plain", folder.path().join("link")).unwrap();
    symlink("/nowhere/at/all", folder.path().join("dangling")).unwrap();
    symlink("x".repeat(150), folder.path().join("long")).unwrap();
    let entries = entries(&bytes(folder.path()).await);
    assert_eq!(entries["plain"], "666 ");
    assert_eq!(entries["run"], "777 ");
    assert_eq!(entries["secret"], "666 ");
    assert_eq!(entries["link"], "777 -> ./plain");
    assert_eq!(entries["dangling"], "777 -> /nowhere/at/all");
    assert_eq!(entries["long"], format!("777 -> {}", "x".repeat(150)));
}

#[tokio::test]
async fn names_of_any_length_and_bytes_arrive() {
    let folder = Folder::repository("shop");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    folder.write(&long, "long");
    folder.write("new\nline \"quoted\" é", "odd");
    let raw = OsString::from_vec(b"not-utf8-\xFF".to_vec());
    std::fs::write(folder.path().join(&raw), "raw").unwrap();
    folder.commit("one");
    let job = unpack(&bytes(folder.path()).await);
    let read = |name: &Path| std::fs::read_to_string(job.path().join(name)).unwrap();
    assert_eq!(read(Path::new(&long)), "long");
    assert_eq!(read(Path::new("new\nline \"quoted\" é")), "odd");
    assert_eq!(read(Path::new(&raw)), "raw");
}

#[tokio::test]
async fn git_in_the_job_sees_what_git_sees_here() {
    let folder = Folder::repository("shop");
    folder.write("a", "1");
    folder.write("run", "#!/bin/sh\n");
    symlink("./a", folder.path().join("link")).unwrap();
    std::fs::set_permissions(
        folder.path().join("run"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    folder.commit("one");
    folder.git(&["tag", "v1"]);
    folder.git(&[
        "remote",
        "add",
        "origin",
        "https://me:token@git.example.com/acme/shop.git",
    ]);
    folder.git(&["pack-refs", "--all"]);
    folder.git(&["gc", "--quiet"]);
    folder.write("b", "2");
    folder.commit("two");
    folder.write("a", "changed");
    folder.write("staged", "s");
    folder.git(&["add", "staged"]);
    folder.write("untracked", "u");

    let job = unpack(&bytes(folder.path()).await);
    for command in [
        &["status", "--porcelain=v2", "--branch"][..],
        &["log", "--format=%H %s %D"],
        &["describe", "--tags"],
        &["diff", "HEAD"],
        &["fsck", "--strict"],
    ] {
        assert_eq!(job.git(command), folder.git(command), "{command:?}");
    }
    let url = job.git(&["config", "remote.origin.url"]);
    assert_eq!(url, "https://git.example.com/acme/shop.git");
}

#[tokio::test]
async fn hooks_locks_reflogs_and_secrets_of_git_stay_here() {
    let folder = Folder::repository("shop");
    folder.commit("one");
    folder.git(&["branch", "tmp_branch"]);
    folder.git(&[
        "config",
        "http.extraHeader",
        "Authorization: Basic c2VjcmV0",
    ]);
    folder.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    folder.write(".git/index.lock", "");
    folder.write(".git/refs/heads/x.lock", "");
    folder.write(".git/objects/pack/tmp_pack_x", "");
    folder.write(
        ".git/FETCH_HEAD",
        "x\t\thttps://me:token@git.example.com/x\n",
    );
    folder.write(".git/lfs/objects/a", "");
    folder.write(".git/modules/m/HEAD", "");

    let job = unpack(&bytes(folder.path()).await);
    let config = std::fs::read_to_string(job.path().join(".git/config")).unwrap();
    assert!(!config.contains("c2VjcmV0"), "{config}");
    let mut found = Vec::new();
    walk::walk(&job.path().join(".git"), &|_, _| true, &mut |path, name| {
        if path.is_file() && !name.starts_with("objects") {
            found.push(name.to_string_lossy().into_owned());
        }
        Ok(())
    })
    .unwrap();
    found.retain(|name| name != "description" && name != "info/exclude");
    assert_eq!(
        found,
        [
            "HEAD",
            "config",
            "index",
            "refs/heads/main",
            "refs/heads/tmp_branch"
        ]
    );
    let packs = std::fs::read_dir(job.path().join(".git/objects/pack")).unwrap();
    assert_eq!(packs.count(), 0);
    job.git(&["status"]);
}

#[tokio::test]
async fn a_linked_worktree_becomes_a_repository_of_its_own() {
    let folder = Folder::repository("shop");
    folder.write("a", "1");
    folder.commit("one");
    let linked = folder.beside("linked");
    folder.git(&[
        "worktree",
        "add",
        "--quiet",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    folder.git(&["config", "extensions.worktreeConfig", "true"]);
    folder.git(&["update-ref", "refs/worktree/mine", "HEAD"]);
    std::fs::write(linked.join("a"), "changed").unwrap();
    git(&linked, &["update-ref", "refs/worktree/side", "HEAD"]);

    let job = unpack(&bytes(&linked).await);
    assert!(job.path().join(".git").is_dir());
    assert_eq!(job.git(&["status", "--porcelain=v2", "--branch"]), {
        git(&linked, &["status", "--porcelain=v2", "--branch"])
    });
    assert_eq!(job.git(&["symbolic-ref", "HEAD"]), "refs/heads/side");
    assert_eq!(
        job.git(&["for-each-ref", "--format=%(refname)"]),
        "refs/heads/main\nrefs/heads/side\nrefs/worktree/side"
    );
    job.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn borrowed_objects_come_along() {
    let origin = Folder::repository("origin");
    origin.write("a", "1");
    origin.commit("one");
    let clone = origin.beside("clone");
    origin.git(&["clone", "--quiet", "--shared", ".", clone.to_str().unwrap()]);
    assert!(clone.join(".git/objects/info/alternates").exists());

    let job = unpack(&bytes(&clone).await);
    drop(origin);
    job.git(&["fsck", "--strict"]);
    assert_eq!(job.git(&["show", "HEAD:a"]), "1");
    assert!(!job.path().join(".git/objects/info/alternates").exists());
}

#[tokio::test]
async fn a_repository_without_commits_works_in_the_job() {
    let folder = Folder::repository("shop");
    folder.write("a", "1");
    let job = unpack(&bytes(folder.path()).await);
    assert_eq!(job.git(&["status", "--porcelain"]), "?? a");
}

#[tokio::test]
async fn submodules_and_repositories_inside_are_empty_or_absent() {
    let inner = Folder::repository("inner");
    inner.write("i", "1");
    inner.commit("inner");
    let folder = Folder::repository("shop");
    folder.git(&[
        "submodule",
        "--quiet",
        "add",
        inner.path().to_str().unwrap(),
        "module",
    ]);
    folder.commit("one");
    folder.git(&["clone", "--quiet", inner.path().to_str().unwrap(), "nested"]);
    assert_eq!(
        names(&bytes(folder.path()).await),
        [".gitmodules", "module"]
    );
}

/// A working copy with a submodule that has one itself, and one that is not here.
async fn with_submodules(folder: &Folder) -> Tree {
    let allowed = ["-c", "protocol.file.allow=always"];
    let add = |to: &Folder, of: &Folder, at: &str| {
        let url = of.path().to_str().unwrap();
        to.git(&[&allowed[..], &["submodule", "--quiet", "add", url, at]].concat());
    };
    let (inner, outer) = (Folder::repository("inner"), Folder::repository("outer"));
    inner.write("i", "1");
    inner.commit("inner");
    outer.write("o", "1");
    outer.write(".gitignore", "ignored");
    add(&outer, &inner, "deep/inner");
    outer.commit("outer");
    add(folder, &outer, "libs/outer");
    add(folder, &inner, "libs/absent");
    folder.write("libs/file", "of the project");
    folder.commit("one");
    folder.git(
        &[
            &allowed[..],
            &["submodule", "--quiet", "update", "--init", "--recursive"],
        ]
        .concat(),
    );
    folder.git(&["submodule", "--quiet", "deinit", "--force", "libs/absent"]);
    folder.write("libs/outer/o", "changed");
    folder.write("libs/outer/new", "untracked");
    folder.write("libs/outer/ignored", "x");
    tree(folder.path()).await
}

#[tokio::test]
async fn submodules_are_sent_as_they_are_to_jobs_that_ask_for_them() {
    let folder = Folder::repository("shop");
    let tree = with_submodules(&folder).await;
    let none = [
        ".gitmodules",
        "libs",
        "libs/absent",
        "libs/file",
        "libs/outer",
    ];
    let direct = [
        "libs/outer/.gitignore",
        "libs/outer/.gitmodules",
        "libs/outer/deep",
        "libs/outer/deep/inner",
        "libs/outer/new",
        "libs/outer/o",
    ];
    let nested = ["libs/outer/deep/inner/i"];
    for (wanted, expected) in [
        (Submodules::None, [&none[..]].concat()),
        (Submodules::Direct, [&none[..], &direct].concat()),
        (Submodules::Nested, [&none[..], &direct, &nested].concat()),
    ] {
        let tree = tree.clone().with_submodules(wanted);
        let archive = tree.write(Vec::new()).unwrap();
        let found = entries(&archive);
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{wanted:?}");
        let absent: Vec<_> = tree.missing_submodules().collect();
        if wanted == Submodules::None {
            assert!(absent.is_empty());
        } else {
            assert_eq!(absent, [Path::new("libs/absent")]);
            assert_eq!(found["libs/outer/o"], "666 changed");
        }
        // Git sees the project as it is, but for what it cannot see of submodules here.
        let job = unpack(&archive);
        assert_eq!(job.git(&["status", "--porcelain"]), "", "{wanted:?}");
    }
}

#[tokio::test]
async fn a_submodule_that_git_cannot_read_or_that_a_link_leads_to_is_not_there() {
    let folder = Folder::repository("shop");
    with_submodules(&folder).await;
    let outside = Folder::repository("outside");
    outside.write("secret", "x");
    outside.commit("secret");
    symlink(outside.path(), folder.path().join("libs/linked")).unwrap();
    std::fs::remove_dir_all(folder.path().join("libs/absent")).unwrap();
    symlink(outside.path(), folder.path().join("libs/absent")).unwrap();
    folder.write("libs/outer/.git", "gitdir: /nowhere/at/all\n");
    let tree = tree(folder.path())
        .await
        .with_submodules(Submodules::Nested);
    let absent: Vec<_> = tree.missing_submodules().collect();
    assert_eq!(absent, [Path::new("libs/absent"), Path::new("libs/outer")]);
    let found = names(&tree.write(Vec::new()).unwrap());
    assert!(
        !found
            .iter()
            .any(|name| name.contains("secret") || name.starts_with("libs/outer/")),
        "{found:?}"
    );
}

#[tokio::test]
async fn an_unmerged_file_is_sent_once() {
    let folder = Folder::repository("shop");
    folder.write("a", "0\n");
    folder.commit("base");
    folder.git(&["checkout", "--quiet", "-b", "side"]);
    folder.write("a", "1\n");
    folder.commit("side");
    folder.git(&["checkout", "--quiet", "main"]);
    folder.write("a", "2\n");
    folder.commit("main");
    std::process::Command::new("git")
        .arg("-C")
        .arg(folder.path())
        .args(["merge", "--quiet", "side"])
        .output()
        .unwrap();
    assert!(
        folder.git(&["status", "--porcelain"]).starts_with("AA a") || {
            folder.git(&["status", "--porcelain"]).starts_with("UU a")
        }
    );
    assert_eq!(names(&bytes(folder.path()).await), ["a"]);
}

#[tokio::test]
async fn nothing_behind_a_symbolic_link_is_sent() {
    let outside = Folder::new("outside");
    outside.write("secret", "x");
    let folder = Folder::repository("shop");
    folder.write("dir/sub/secret", "tracked");
    folder.commit("one");
    std::fs::remove_dir_all(folder.path().join("dir")).unwrap();
    symlink(outside.path(), folder.path().join("dir")).unwrap();
    outside.write("sub/secret", "not of this tree");
    assert_eq!(names(&bytes(folder.path()).await), ["dir"]);
}

#[tokio::test]
async fn what_is_neither_file_nor_folder_nor_link_is_left_out() {
    let folder = Folder::new("plain");
    folder.write("a", "1");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    assert_eq!(names(&bytes(folder.path()).await), ["a"]);
}

#[tokio::test]
async fn outside_of_git_all_files_are_sent() {
    let folder = Folder::new("plain");
    folder.write(".gitlab-ci.yml", "a: {script: x}");
    folder.write(".hidden/x", "1");
    folder.write("b/c/d", "2");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    symlink("b", folder.path().join("to-b")).unwrap();
    let archive = bytes(folder.path()).await;
    assert_eq!(
        names(&archive),
        [
            ".gitlab-ci.yml",
            ".hidden",
            ".hidden/x",
            "b",
            "b/c",
            "b/c/d",
            "empty",
            "to-b"
        ]
    );
}

#[tokio::test]
async fn the_working_copy_is_not_written() {
    let folder = Folder::repository("shop");
    folder.write("a", "1");
    folder.commit("one");
    // The index does not match any more: git would like to refresh it.
    let file = File::options()
        .write(true)
        .open(folder.path().join("a"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    drop(file);
    let before = fingerprint(folder.path());
    bytes(folder.path()).await;
    assert!(fingerprint(folder.path()) == before);
}

#[tokio::test]
async fn files_that_vanish_after_the_listing_do_not_matter() {
    let folder = Folder::repository("shop");
    folder.write("a", "1");
    folder.write("b/c", "2");
    let tree = tree(folder.path()).await;
    std::fs::remove_dir_all(folder.path().join("b")).unwrap();
    folder.write("late", "3");
    assert_eq!(names(&tree.write(Vec::new()).unwrap()), ["a"]);
}

#[test]
fn a_file_keeps_the_length_its_header_promised() {
    let read = |file: &[u8], length: u64| {
        let mut content = Vec::new();
        let mut exactly = Exactly {
            file,
            left: length,
            failed: None,
        };
        exactly.read_to_end(&mut content).unwrap();
        content
    };
    assert_eq!(read(b"abc", 3), b"abc");
    assert_eq!(read(b"abcdef", 3), b"abc");
    assert_eq!(read(b"a", 3), b"a\0\0");
    assert_eq!(read(b"", 0), b"");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    // A folder that is read as a file fails for any user.
    let folder = Folder::new("plain");
    let mut exactly = Exactly {
        file: File::open(folder.path()).unwrap(),
        left: 3,
        failed: None,
    };
    assert!(exactly.read(&mut [0; 3]).is_err());
    assert_eq!(exactly.failed.unwrap().kind(), io::ErrorKind::IsADirectory);
}

#[tokio::test]
async fn the_stream_has_the_bytes_of_the_archive_and_can_be_had_again() {
    let folder = Folder::repository("shop");
    folder.write("big", &"0123456789abcdef".repeat(100_000));
    folder.commit("one");
    let tree = tree(folder.path()).await;
    let expected = tree.write(Vec::new()).unwrap();
    for _ in 0..2 {
        let mut read = Vec::new();
        tree.archive().read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
    }
}

#[tokio::test]
async fn a_dropped_stream_ends_its_thread() {
    let folder = Folder::new("plain");
    folder.write("big", &"x".repeat(4_000_000));
    let tree = tree(folder.path()).await;
    let mut archive = tree.archive();
    archive.read_exact(&mut [0; 1024]).await.unwrap();
    drop(archive);
    // The thread holds the only other handles of the list of names and of the root.
    while Arc::strong_count(&tree.root) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_error_and_no_short_archive() {
    let folder = Folder::new("plain");
    let mut tree = tree(folder.path()).await;
    // A root that is a file cannot be listed as a folder.
    folder.write("file", "x");
    tree.root = Arc::from(folder.path().join("file/x\0y"));
    let mut read = Vec::new();
    let error = tree.archive().read_to_end(&mut read).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

#[tokio::test]
async fn a_reader_that_fails_ends_the_writing() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let folder = Folder::new("plain");
    folder.write("a", "1");
    let error = tree(folder.path()).await.write(Full).err().unwrap();
    assert!(matches!(error, TreeError::Write(_)), "{error}");
}
