//! Artifacts of a job without a server.

use std::{
    io::Read as _,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use gantry_agent::ArtifactEntry;
use gantry_engine::Archive;
use gantry_executor::ArtifactStore;
use gantry_job::Cause;
use gantry_plan::{ArtifactsAt, GIVEN_ARTIFACTS, KEPT_ARTIFACTS};
use tokio::io::AsyncReadExt as _;

use crate::harness::{Bench, Setup, Work, case, work::Piece};

/// Remembers what it got, and takes it or not.
#[derive(Default)]
struct Store {
    asked: Mutex<Vec<u64>>,
    kept: Mutex<Vec<(String, Vec<u8>)>>,
    refuses: bool,
}

impl ArtifactStore for Store {
    fn give(&self, jobs: &[u64]) -> Archive {
        self.asked.lock().unwrap().extend(jobs);
        let mut builder = tar::Builder::new(Vec::new());
        for job in jobs {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o600);
            header.set_uid(0);
            header.set_gid(0);
            let name = format!("{job}.zip");
            builder.append_data(&mut header, name, &b"zip"[..]).unwrap();
        }
        Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
    }

    fn keep<'a>(
        &'a self,
        _: &'a [ArtifactEntry],
        mut archive: Archive,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).await.unwrap();
            for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                self.kept.lock().unwrap().push((name, content));
            }
            if self.refuses {
                return Err("a.env: line 2 is no KEY=VALUE".to_owned());
            }
            Ok(())
        })
    }
}

/// The helper leaves one archive.
fn uploads() -> Work {
    let write = |world: &crate::harness::work::World| {
        let path = format!("{KEPT_ARTIFACTS}/0.zip");
        world.engine.write_file("-predefined", &path, b"packed");
    };
    let mut work = Work::says("Keeping\n");
    work.pieces.push(Piece::Do(Arc::new(write)));
    work
}

fn setup() -> Setup {
    Setup::script(Work::says("built\n"))
        .git()
        .dependency()
        .artifacts()
        .with(|it| it.artifacts = ArtifactsAt::Here)
        .helper("upload_artifacts_on_success", uploads())
}

#[test]
fn archives_of_earlier_jobs_are_there_before_the_stage_and_those_of_the_job_are_fetched_after_it() {
    case(async {
        let store = Arc::new(Store::default());
        let bench = Bench::new(setup());
        let mut process = bench.start().await;
        process.job.artifacts = Some(store.clone());
        let ending = bench.finish(process).await.unwrap();
        ending.assert_success();
        assert_eq!(*store.asked.lock().unwrap(), [41]);
        let uploads = bench.engine.uploads();
        let given = uploads.iter().find(|up| up.path == GIVEN_ARTIFACTS);
        let given = given.expect("nothing was brought");
        assert_eq!(given.entries[0].path, "41.zip");
        let kept = store.kept.lock().unwrap().clone();
        assert_eq!(kept, [("kept/0.zip".to_owned(), b"packed".to_vec())]);
        ending.assert_order(&["Downloading artifacts\n", "built\n", "Keeping\n"]);
    });
}

#[test]
fn what_cannot_be_kept_fails_the_job_and_says_why() {
    case(async {
        let bench = Bench::new(setup());
        let mut process = bench.start().await;
        process.job.artifacts = Some(Arc::new(Store {
            refuses: true,
            ..Store::default()
        }));
        let ending = bench.finish(process).await.unwrap();
        ending.assert_says("a.env: line 2 is no KEY=VALUE\n");
        let Cause::Configuration { message } = ending.cause() else {
            panic!("{:?}", ending.cause())
        };
        assert_eq!(message, "a.env: line 2 is no KEY=VALUE");
    });
}

#[test]
fn a_stage_that_left_nothing_has_nothing_to_keep() {
    case(async {
        let store = Arc::new(Store::default());
        let setup = setup().helper("upload_artifacts_on_success", Work::says("No files\n"));
        let bench = Bench::new(setup);
        let mut process = bench.start().await;
        process.job.artifacts = Some(store.clone());
        let ending = bench.finish(process).await.unwrap();
        ending.assert_success();
        assert!(store.kept.lock().unwrap().is_empty());
    });
}
