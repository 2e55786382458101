//! Volumes with their modes, directories, and the working tree of a local run: there before the first line of a script.

use std::sync::Arc;

use gantry_engine::{
    Archive,
    fake::{Fault, Upload, Verb},
};
use gantry_journal::Crash;
use gantry_plan::Sources;
use rstest::rstest;

use crate::harness::{Bench, Setup, Work, case};

fn uploads(bench: &Bench, container: &str) -> Vec<Upload> {
    let mut uploads = bench.engine.uploads();
    uploads.retain(|upload| upload.container.ends_with(container));
    uploads
}

/// Places and modes of all directories and files that were uploaded for the job.
fn uploaded(bench: &Bench, container: &str) -> Vec<(String, String, u32)> {
    let of = |upload: Upload| {
        let path = upload.path;
        let entries = upload.entries.into_iter();
        entries
            .map(|entry| (path.clone(), entry.path, entry.mode))
            .collect::<Vec<_>>()
    };
    uploads(bench, container).into_iter().flat_map(of).collect()
}

/// The first line of a script sees what was uploaded by then.
fn sees_directories(suffix: &'static str) -> Work {
    Work::nothing().does(move |world| {
        let uploads = world.engine.uploads();
        let made = uploads.iter().any(|up| up.container.ends_with(suffix));
        assert!(made, "the script began before its directories were made");
    })
}

#[test]
fn on_docker_a_carrier_brings_the_directories_while_the_container_starts() {
    case(async {
        let setup = Setup::script(sees_directories("-carrier")).after_script(Work::nothing());
        let bench = Bench::new(setup);
        bench.run_to_end().await.assert_success();
        let made = uploaded(&bench, "");
        assert_eq!(made, [("/".to_owned(), "builds".to_owned(), 0o777)]);
        assert_eq!(uploads(&bench, "-carrier").len(), 1);
    });
}

#[test]
fn the_script_waits_for_directories_that_come_late() {
    case(async {
        let bench = Bench::new(Setup::script(sees_directories("-carrier")));
        let late = Fault::Delay(std::time::Duration::from_secs(20));
        bench.engine.fault(Verb::ArchivePut, 1, late);
        bench.run_to_end().await.assert_success();
    });
}

#[test]
fn directories_that_cannot_be_made_fail_the_job_before_the_script() {
    case(async {
        let bench = Bench::new(Setup::script(Work::nothing()));
        let full = Fault::Error(gantry_engine::EngineError::Failed {
            what: "upload".to_owned(),
            status: 500,
            message: "no space left on device".to_owned(),
        });
        bench.engine.fault(Verb::ArchivePut, 1, full);
        let ending = bench.run_to_end().await;
        assert!(ending.ran.is_empty());
        ending.assert_says("making the directories of the job: upload: no space left on device");
    });
}

#[test]
fn a_kept_volume_that_is_right_is_left_alone() {
    case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).git());
        let uploads_of = |bench: &Bench| uploads(bench, "-carrier").len();
        // The job before left it like that.
        let volume = &bench.plan.volumes[0];
        assert!(!volume.temporary);
        use gantry_engine::Engine as _;
        bench.engine.volume_create(&volume.spec).await.unwrap();
        let spec = gantry_container::ContainerSpec {
            image: "alpine:3.20".to_owned(),
            host: gantry_container::HostSpec {
                binds: vec![format!("{}:{}", volume.spec.name, volume.destination)],
                ..Default::default()
            },
            ..Default::default()
        };
        bench
            .engine
            .container_create("before", &spec)
            .await
            .unwrap();
        bench
            .engine
            .archive_put("before", "/", directory(&volume.destination[1..]))
            .await
            .unwrap();
        bench.engine.container_remove("before").await.unwrap();
        bench.run_to_end().await.assert_success();
        assert_eq!(uploads_of(&bench), 0);
    });
}

fn directory(path: &str) -> Archive {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    builder
        .append_data(&mut header, format!("{path}/"), std::io::empty())
        .unwrap();
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

#[rstest]
#[case::without_helper(Setup::script(sees_directories("-build")), "-build")]
#[case::with_helper(Setup::script(sees_directories("-predefined")).git(), "-predefined")]
fn on_podman_the_directories_are_made_in_the_first_container_that_runs(
    #[case] setup: Setup,
    #[case] container: &str,
) {
    case(async {
        let bench = Bench::new(setup.after_script(Work::nothing()).podman());
        bench.run_to_end().await.assert_success();
        let made = uploaded(&bench, container);
        assert_eq!(made, [("/builds".to_owned(), String::new(), 0o777)]);
    });
}

fn working_tree() -> Setup {
    let sees_files = Work::says("building\n").does(|world| {
        let uploads = world.engine.uploads();
        let has_file = |upload: &Upload| upload.entries.iter().any(|file| file.path == "README");
        assert!(uploads.iter().any(has_file));
    });
    Setup::script(sees_files)
        .after_script(Work::says("done\n"))
        .with(|setup| setup.sources = Sources::WorkingTree)
}

fn tree() -> Archive {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(5);
    builder
        .append_data(&mut header, "README", &b"hello"[..])
        .unwrap();
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

#[rstest]
#[case::docker(working_tree())]
#[case::podman(working_tree().podman())]
fn the_working_tree_is_there_before_the_script_and_uploaded_once(#[case] setup: Setup) {
    case(async {
        let bench = Bench::new(setup);
        let mut process = bench.start().await;
        process.job.working_tree = Some(Arc::new(tree));
        let ending = bench.finish(process).await.unwrap();
        ending.assert_success();
        assert!(ending.helped.is_empty());
        ending.assert_says("Using the working tree as it is\n");
        let project = &bench.plan.directories.project;
        let trees = bench.engine.uploads();
        let trees: Vec<_> = trees.iter().filter(|up| up.path == *project).collect();
        assert_eq!(trees.len(), 1);
    });
}

/// What scripts made of the working tree is theirs: it is not uploaded over it again.
#[test]
fn the_working_tree_is_not_uploaded_again_once_a_script_has_it() {
    case(async {
        let bench = Bench::new(working_tree());
        let mut process = bench.start().await;
        process.job.working_tree = Some(Arc::new(tree));
        // Dies as after_script is about to begin.
        let began = 1 + 2 * 2 + 5;
        process.job.journal.crash(Crash::After(began));
        let life = tokio::time::timeout(std::time::Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        drop(process);
        assert_eq!(bench.shell.ran().len(), 1);
        let mut process = bench.start().await;
        process.job.working_tree = Some(Arc::new(tree));
        let ending = bench.finish(process).await.unwrap();
        ending.assert_success();
        assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
        let project = &bench.plan.directories.project;
        let trees = bench.engine.uploads();
        assert_eq!(trees.iter().filter(|up| up.path == *project).count(), 1);
    });
}
