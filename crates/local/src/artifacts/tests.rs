use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use gantry_archive::{Format, Level, Wanted, pack, select};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::*;

struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, id: &str) -> Arc<Artifacts> {
        let run = self.path(id);
        fs::create_dir_all(&run).unwrap();
        Arc::new(Artifacts::open(&run, id, self.path("home"), None).unwrap())
    }

    /// A zip of files with these contents.
    fn zip(files: &[(&str, &str)]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let items = select(&Wanted {
            root: dir.path(),
            paths: &names,
            exclude: &[],
            untracked: None,
        })
        .items;
        let mut zip = Vec::new();
        pack(
            dir.path(),
            &items,
            Format::Zip,
            Level::Default,
            None,
            1,
            &mut zip,
        )
        .unwrap();
        zip
    }

    /// As the engine gives it.
    fn tar(archives: &[(usize, Vec<u8>)]) -> Archive {
        let mut builder = tar::Builder::new(Vec::new());
        for (place, zip) in archives {
            let mut header = tar::Header::new_gnu();
            header.set_size(zip.len() as u64);
            header.set_mode(0o644);
            let name = format!("kept/{place}.zip");
            builder
                .append_data(&mut header, name, zip.as_slice())
                .unwrap();
        }
        Box::pin(io::Cursor::new(builder.into_inner().unwrap()))
    }
}

fn entries(types: &[&str]) -> Vec<ArtifactEntry> {
    types
        .iter()
        .map(|&kind| ArtifactEntry {
            artifact_type: kind.to_owned(),
            ..ArtifactEntry::default()
        })
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

async fn build(artifacts: &Arc<Artifacts>, text: &str) -> Result<(), String> {
    let store = artifacts.for_job("build", 3, &[]);
    let archives = [
        (0, Fixture::zip(&[("out/a.txt", text)])),
        (1, Fixture::zip(&[("build.env", "A=1\nB=two\n")])),
        (2, Fixture::zip(&[("junit.xml", "<x/>")])),
    ];
    let tar = Fixture::tar(&archives);
    let entries = entries(&["archive", "dotenv", "junit"]);
    store.keep(&entries, tar).await
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn archives_and_reports_are_files_to_look_at_and_the_archive_goes_on_as_it_is() {
    let fixture = Fixture::new();
    let run = fixture.run("one");
    build(&run, "first").await.unwrap();
    let shown = run.shown().join("build");
    assert_eq!(read(&shown.join("out/a.txt")), "first");
    assert_eq!(read(&shown.join("junit.xml")), "<x/>");
    assert!(run.has("build") && !run.has("other"));
    let given = run.given(&names(&["other", "build"]), |_| true);
    let [given] = &given[..] else { panic!("one") };
    assert_eq!((given.id, given.earlier), (3, None));
    let variables: Vec<_> = given
        .variables
        .iter()
        .map(|one| format!("{}={}", one.key, one.value))
        .collect();
    assert_eq!(variables, ["A=1", "B=two"]);

    let store = run.for_job("test", 4, std::slice::from_ref(given));
    let mut bytes = Vec::new();
    store.give(&[3]).read_to_end(&mut bytes).await.unwrap();
    let mut tar = tar::Archive::new(&bytes[..]);
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("3.zip"));
    let mut zip = tempfile::tempfile().unwrap();
    io::copy(&mut entry, &mut zip).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    extract(zip, unpacked.path(), 1).unwrap();
    assert_eq!(read(&unpacked.path().join("out/a.txt")), "first");
}

#[tokio::test]
async fn a_later_run_without_the_job_gets_what_it_left_and_one_with_it_does_not() {
    let fixture = Fixture::new();
    build(&fixture.run("one"), "first").await.unwrap();
    // The folder of the run goes with it.
    fs::remove_dir_all(fixture.path("one")).unwrap();
    let later = fixture.run("two");
    assert!(later.given(&names(&["build"]), |_| true).is_empty());
    let given = later.given(&names(&["build"]), |_| false);
    assert!(given[0].earlier.is_some());
    assert_eq!(given[0].variables.len(), 2);
    let (path, size) = given[0].archive.clone().unwrap();
    assert_eq!(path.metadata().unwrap().len(), size);
    later.forget("build");
    assert!(later.given(&names(&["build"]), |_| false).is_empty());
    assert!(!later.shown().join("build").exists());
}

#[tokio::test]
async fn artifacts_take_the_place_of_those_of_the_last_time() {
    let fixture = Fixture::new();
    let first = fixture.run("one");
    build(&first, "first").await.unwrap();
    let shown = first.shown().join("build");
    fs::write(shown.join("old"), "x").unwrap();
    fs::set_permissions(shown.join("out"), fs::Permissions::from_mode(0o555)).unwrap();
    build(&fixture.run("two"), "second").await.unwrap();
    assert_eq!(read(&shown.join("out/a.txt")), "second");
    assert!(!shown.join("old").exists());
    let left: Vec<_> = first.shown().read_dir().unwrap().collect();
    assert_eq!(
        left.len(),
        2,
        "the job's and what later runs need: {left:?}"
    );
}

#[tokio::test]
async fn a_dotenv_report_that_is_none_is_refused_by_its_line_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let run = fixture.run("one");
    let store = run.for_job("build", 3, &[]);
    let tar = Fixture::tar(&[(0, Fixture::zip(&[("a/build.env", "A=1\nno\n")]))]);
    let error = store.keep(&entries(&["dotenv"]), tar).await.unwrap_err();
    assert_eq!(
        error,
        "dotenv report a/build.env: line 2 is no KEY=VALUE, so none of it can be used"
    );
    assert!(!run.has("build"));
    assert_eq!(run.shown().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_cut_stream_and_a_damaged_archive_are_errors() {
    let fixture = Fixture::new();
    let run = fixture.run("one");
    let store = run.for_job("build", 3, &[]);
    let zip = Fixture::zip(&[("a", "some text")]);
    let mut bytes = Vec::new();
    let mut whole = Fixture::tar(&[(0, zip.clone())]);
    whole.read_to_end(&mut bytes).await.unwrap();
    bytes.truncate(520);
    let cut: Archive = Box::pin(io::Cursor::new(bytes));
    let error = store.keep(&entries(&["archive"]), cut).await.unwrap_err();
    assert!(error.contains("cannot be kept"), "{error}");
    let damaged = Fixture::tar(&[(0, zip[..zip.len() - 30].to_vec())]);
    let error = store
        .keep(&entries(&["archive"]), damaged)
        .await
        .unwrap_err();
    assert!(error.contains("cannot be kept"), "{error}");
    assert!(!run.has("build"));
}

#[tokio::test]
async fn an_archive_that_is_gone_breaks_what_is_sent() {
    let fixture = Fixture::new();
    let run = fixture.run("one");
    let mut bytes = Vec::new();
    let mut sent = run.for_job("test", 4, &[]).give(&[9]);
    assert!(sent.read_to_end(&mut bytes).await.is_err());
}

#[test]
fn a_folder_for_artifacts_is_empty_or_was_made_for_them() {
    let fixture = Fixture::new();
    let open = |folder: &str| {
        let shown = Some(fixture.path(folder));
        Artifacts::open(&fixture.path("run"), "one", fixture.path("home"), shown).map(drop)
    };
    open("new/folder").unwrap();
    assert!(read(&fixture.path("new/folder/.gitignore")).ends_with("\n*\n"));
    fs::write(fixture.path("new/folder/more"), "x").unwrap();
    open("new/folder").unwrap();
    fs::create_dir(fixture.path("own")).unwrap();
    fs::write(fixture.path("own/build"), "precious").unwrap();
    let error = open("own").unwrap_err();
    assert!(error.to_string().contains("did not make it"), "{error}");
    assert_eq!(fixture.path("own").read_dir().unwrap().count(), 1);
    fs::write(fixture.path("file"), "x").unwrap();
    assert!(open("file/below").is_err());
}

#[test]
fn what_a_dead_run_left_half_made_is_removed_and_that_of_a_live_one_is_not() {
    let fixture = Fixture::new();
    for name in [".new-dead-3", ".new-dead-4.old", ".new-alive-3", "build"] {
        fs::create_dir_all(fixture.path("home").join(name).join("a")).unwrap();
    }
    sweep(&fixture.path("home"), |run| run == "alive");
    let mut left: Vec<_> = fixture.path("home").read_dir().unwrap().flatten().collect();
    left.sort_by_key(fs::DirEntry::file_name);
    let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(left, [".new-alive-3", "build"]);
}

#[test]
fn programs_of_containers_get_no_rights_by_their_modes() {
    let fixture = Fixture::new();
    let file = fixture.path("program");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    harmless(fixture.dir.path()).unwrap();
    let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
}
