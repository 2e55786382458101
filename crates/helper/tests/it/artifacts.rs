//! Artifacts through the agent, to a coordinator that answers as a test says.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use gantry_agent::{
    ArtifactEntry, Coordinator, Dependency, DownloadArtifactsRequest, EntryOutcome, Provenance,
    Selection, StageRequest, UploadArtifactsRequest, Variable,
};

use crate::support::{Finished, Job, Reply, Store, StoreRequest};

const TOKEN: &str = "glcbt-64_s3cretTokenOfTheJob";

impl Job {
    fn upload(&mut self, store: &Store, entries: Vec<ArtifactEntry>) -> Finished {
        self.upload_with(UploadArtifactsRequest {
            entries,
            ..self.request(store)
        })
    }

    fn request(&self, store: &Store) -> UploadArtifactsRequest {
        UploadArtifactsRequest {
            project_dir: self.project(),
            coordinator: coordinator(store),
            job_id: 7,
            token: TOKEN.into(),
            variables: vec![Variable {
                key: "CI_JOB_NAME".into(),
                value: "build".into(),
            }],
            ..UploadArtifactsRequest::default()
        }
    }

    fn upload_with(&mut self, request: UploadArtifactsRequest) -> Finished {
        self.run(StageRequest::UploadArtifacts(Box::new(request)))
    }

    fn download(&mut self, store: &Store, dependencies: Vec<Dependency>) -> Finished {
        let request = DownloadArtifactsRequest {
            project_dir: self.project(),
            coordinator: coordinator(store),
            dependencies,
            retry_milliseconds: 1,
            ..DownloadArtifactsRequest::default()
        };
        self.run(StageRequest::DownloadArtifacts(Box::new(request)))
    }
}

fn coordinator(store: &Store) -> Coordinator {
    Coordinator {
        url: store.url("/gitlab/"),
        user_agent: "gitlab-runner 19.4.0".into(),
        ..Coordinator::default()
    }
}

fn entry(path: &str) -> ArtifactEntry {
    ArtifactEntry {
        selection: Selection {
            paths: vec![path.into()],
            ..Selection::default()
        },
        format: "zip".into(),
        artifact_type: "archive".into(),
        ..ArtifactEntry::default()
    }
}

fn dependency(id: u64) -> Dependency {
    Dependency {
        id,
        name: "build".into(),
        token: TOKEN.into(),
    }
}

/// The archive in a form, and the name of its file.
fn part(request: &StoreRequest) -> (String, Vec<u8>) {
    assert!(request.whole);
    let boundary = request
        .header("content-type")
        .split("boundary=")
        .nth(1)
        .unwrap();
    let text = &request.body;
    let head = text
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let name = String::from_utf8_lossy(&text[..head]);
    let name = name
        .split("filename=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let tail = format!("\r\n--{boundary}--\r\n");
    assert!(text.ends_with(tail.as_bytes()));
    (name, text[head + 4..text.len() - tail.len()].to_vec())
}

/// The archive of this file, as a server gets it.
fn uploaded(job: &mut Job, path: &str) -> Vec<u8> {
    let up = Store::start(|_, _| Reply::status(201));
    job.upload(&up, vec![entry(path)]).ok();
    part(&up.seen()[0]).1
}

#[test]
fn artifacts_go_up_and_come_down_the_same() {
    let mut job = Job::new();
    job.write("dist/a.txt", "text ".repeat(100_000));
    job.write("dist/sub/b", "b");
    let up = Store::start(|_, _| Reply::status(201).with("X-Request-Id", "01KK"));
    let mut wanted = entry("dist/");
    wanted.name = "a/$CI_JOB_NAME-${X:-y}".into();
    wanted.expire_in = "1 week".into();
    let done = job.upload(&up, vec![wanted]).ok();
    assert_eq!(done.out(), "\u{1b}[32;1mUploading artifacts...\u{1b}[0;m\n");
    assert!(
        done.err()
            .contains("dist/: found 4 matching artifact files and directories")
    );
    assert!(
        done.err().contains(
            "Uploading artifacts as \"archive\" to coordinator... 201 Created\u{1b}[0;m  correlation_id\u{1b}[0;m=01KK \
             id\u{1b}[0;m=7 responseStatus\u{1b}[0;m=201 Created token\u{1b}[0;m=64_s3cret"
        ),
        "{}",
        done.err()
    );
    assert!(!done.err().contains(TOKEN));
    assert_eq!(done.entries[0].outcome, EntryOutcome::Done);
    let seen = up.seen();
    assert_eq!(
        seen[0].target,
        "/gitlab/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1%20week"
    );
    assert_eq!(seen[0].header("job-token"), TOKEN);
    assert_eq!(seen[0].header("transfer-encoding"), "chunked");
    assert_eq!(seen[0].header("user-agent"), "gitlab-runner 19.4.0");
    let (name, archive) = part(&seen[0]);
    assert_eq!(name, "build-y.zip");

    fs::remove_dir_all(job.project().join("dist")).unwrap();
    let down = Store::start(move |_, _| Reply::status(200).body(archive.clone()));
    let done = job.download(&down, vec![dependency(5)]).ok();
    assert_eq!(
        done.out(),
        "\u{1b}[32;1mDownloading artifacts for build (5)...\u{1b}[0;m\n"
    );
    assert!(
        done.err()
            .contains("Downloading artifacts from coordinator... ok      \u{1b}[0;m  host")
    );
    assert_eq!(
        down.seen()[0].target,
        "/gitlab/api/v4/jobs/5/artifacts?direct_download=true"
    );
    assert_eq!(
        fs::read_to_string(job.project().join("dist/sub/b")).unwrap(),
        "b"
    );
}

#[test]
fn a_coordinator_that_is_not_well_is_asked_more_often_and_gets_the_same_bytes_each_time() {
    let mut job = Job::new();
    job.write("a", "x");
    let store = Store::start(|_, number| {
        let statuses = [503, 500, 520];
        Reply::status(statuses.get(number).copied().unwrap_or(201))
    });
    let done = job.upload(&store, vec![entry("a")]).ok();
    assert_eq!(done.err().matches("Retrying...").count(), 3);
    assert!(
        done.err().contains("context\u{1b}[0;m=artifacts-uploader"),
        "{}",
        done.err()
    );
    let archives: Vec<_> = store.seen().iter().map(|request| part(request).1).collect();
    assert_eq!(archives.len(), 4);
    assert!(archives.iter().all(|archive| *archive == archives[0]));
}

#[test]
fn a_download_outlives_a_coordinator_that_is_not_well_for_a_while() {
    let mut job = Job::new();
    job.write("a", "x");
    let archive = uploaded(&mut job, "a");
    fs::remove_file(job.project().join("a")).unwrap();
    let down = Store::start(move |_, number| match [500, 502, 504, 408].get(number) {
        Some(&status) => Reply::status(status),
        None => Reply::status(200).body(archive.clone()),
    });
    job.download(&down, vec![dependency(5)]).ok();
    assert_eq!(down.seen().len(), 5);
    assert!(job.project().join("a").exists());
}

#[test]
fn answers_that_are_final_are_not_asked_again() {
    let mut job = Job::new();
    job.write("a", "x");
    for (status, text) in [(403, "FATAL: permission denied"), (413, "FATAL: too large")] {
        let store = Store::start(move |_, _| Reply::status(status));
        let done = job.upload(&store, vec![entry("a")]).failed(1);
        assert!(done.err().contains(text), "{}", done.err());
        assert_eq!(store.seen().len(), 1);
    }
    let store = Store::start(|_, _| Reply::status(400).body(r#"{"message":{"file":["is odd"]}}"#));
    let done = job.upload(&store, vec![entry("a")]).failed(1);
    assert!(
        done.err()
            .contains("FATAL: received: 400 Bad Request (file: is odd)"),
        "{}",
        done.err()
    );
    assert_eq!(store.seen().len(), 3);
}

#[test]
fn every_entry_is_tried_and_the_first_failure_is_told() {
    let mut job = Job::new();
    job.write("a", "x");
    job.write("dir/b", "x");
    let store = Store::start(|_, _| Reply::status(201));
    let report = |path: &str, format: &str| ArtifactEntry {
        format: format.into(),
        artifact_type: "junit".into(),
        ..entry(path)
    };
    let done = job
        .upload(
            &store,
            vec![
                report("dir", "gzip"),
                report("*", "raw"),
                entry("none"),
                report("a", "odd"),
                entry("a"),
            ],
        )
        .failed(1);
    assert_eq!(
        done.error.as_deref(),
        Some("the \"dir\" is not a regular file")
    );
    for text in [
        "FATAL: the \"dir\" is not a regular file",
        "FATAL: only one file can be sent as raw",
        "ERROR: No files to upload",
        "FATAL: unsupported archive format: \"odd\"",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created",
    ] {
        assert!(done.err().contains(text), "{text}: {}", done.err());
    }
    let outcomes: Vec<_> = done.entries.iter().map(|entry| entry.outcome).collect();
    use EntryOutcome::{Done, Failed, Nothing};
    assert_eq!(outcomes, [Failed, Failed, Nothing, Failed, Done]);
    assert_eq!(
        store.seen().iter().filter(|request| request.whole).count(),
        1
    );
}

#[test]
fn formats_and_names_are_those_of_the_reports() {
    let mut job = Job::new();
    job.write("junit.xml", "<x/>");
    let store = Store::start(|_, _| Reply::status(201));
    for (format, name, file) in [
        ("gzip", "junit.xml", "junit.xml.gz"),
        ("raw", "", "artifacts"),
        ("tarzstd", "/", "default.tar.zst"),
        ("zipzstd", "x", "x.zip"),
        ("", "$NONE", "default.zip"),
        ("zip", "$(id)", "$(id).zip"),
    ] {
        let wanted = ArtifactEntry {
            format: format.into(),
            name: name.into(),
            ..entry("junit.xml")
        };
        let done = job.upload(&store, vec![wanted]).ok();
        let seen = store.seen();
        let seen = seen.last().unwrap();
        assert_eq!(part(seen).0, file);
        assert_eq!(seen.target.contains("artifact_format"), !format.is_empty());
        if name == "$(id)" {
            assert!(done.err().contains("invalid artifact name"));
        }
        if format == "raw" {
            assert_eq!(part(seen).1, b"<x/>");
        }
    }
}

#[test]
fn an_upload_follows_a_redirect_with_its_whole_body_and_not_for_ever() {
    let mut job = Job::new();
    job.write("a", "x");
    let store = Store::start(|request, _| {
        if request.target.starts_with("/other") {
            Reply::status(201)
        } else {
            Reply::status(307).with("Location", "/other?x=1")
        }
    });
    job.upload(&store, vec![entry("a")]).ok();
    let seen = store.seen();
    assert_eq!(part(&seen[0]), part(&seen[1]));
    assert_eq!(seen[1].header("job-token"), TOKEN);

    let circle = Store::start(|_, _| Reply::status(307).with("Location", "/again"));
    let done = job.upload(&circle, vec![entry("a")]).failed(1);
    assert!(done.err().contains("upload stopped after 10 redirects"));
}

#[test]
fn the_token_does_not_follow_a_download_to_another_server() {
    let mut job = Job::new();
    job.write("a", "x");
    let archive = uploaded(&mut job, "a");
    let objects = Store::start(move |_, _| Reply::status(200).body(archive.clone()));
    let to = objects.url("/o?sig=s3cret");
    let store = Store::start(move |_, _| Reply::status(302).with("Location", to.clone()));
    let done = job.download(&store, vec![dependency(5)]).ok();
    assert!(done.err().contains("Direct download from 127.0.0.1:"));
    assert!(!done.err().contains("sig="));
    assert_eq!(store.seen()[0].header("job-token"), TOKEN);
    assert_eq!(objects.seen()[0].header("job-token"), "");
}

#[test]
fn a_download_is_tried_again_without_asking_for_the_object_store_and_continued() {
    let mut job = Job::new();
    job.write("a", "x".repeat(1000));
    let archive = uploaded(&mut job, "a");
    fs::remove_file(job.project().join("a")).unwrap();
    let store = Store::start(move |request, number| {
        let reply = Reply::status(200)
            .with("ETag", "\"e\"")
            .body(archive.clone());
        match number {
            0 => Reply { cut: 40, ..reply },
            1 => Reply::status(502),
            _ => {
                let from: usize = request
                    .header("range")
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .unwrap();
                assert_eq!(from, archive.len() - 40);
                Reply {
                    status: 206,
                    body: archive[from..].to_vec(),
                    ..reply
                }
            }
        }
    });
    job.download(&store, vec![dependency(5)]).ok();
    let targets: Vec<_> = store
        .seen()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        targets,
        [
            "/gitlab/api/v4/jobs/5/artifacts?direct_download=true",
            "/gitlab/api/v4/jobs/5/artifacts",
            "/gitlab/api/v4/jobs/5/artifacts"
        ]
    );
    assert!(job.project().join("a").exists());
}

#[test]
fn downloads_that_fail_say_why_and_the_other_dependencies_are_still_fetched() {
    let mut job = Job::new();
    job.write("a", "x");
    let archive = uploaded(&mut job, "a");
    fs::remove_file(job.project().join("a")).unwrap();
    let asked = AtomicUsize::new(0);
    let store = Store::start(move |request, _| {
        let id: u64 = request.target.split('/').nth(5).unwrap().parse().unwrap();
        match id {
            1 => Reply::status(404),
            2 => Reply::status(403)
                .body("<Error><Code>AccessDenied</Code><Message>No</Message></Error>"),
            3 => {
                asked.fetch_add(1, Ordering::SeqCst);
                Reply::status(500)
            }
            4 => Reply::status(302).with("Location", "/gitlab/api/v4/jobs/4/artifacts"),
            5 => Reply::status(200).body("PK no zip"),
            _ => Reply::status(200).body(archive.clone()),
        }
    });
    let dependencies = (1..=6).map(dependency).collect();
    let done = job.download(&store, dependencies).failed(1);
    for text in [
        "FATAL: file does not exist",
        "FATAL: permission denied: Request failed with code: AccessDenied, message: No",
        "FATAL: invalid argument: received: 500 Internal Server Error",
        "stopped after 10 redirects",
        "FATAL: not an archive",
        "Downloading artifacts from coordinator... ok",
    ] {
        assert!(done.err().contains(text), "{text}: {}", done.err());
    }
    assert_eq!(done.error.as_deref(), Some("file does not exist"));
    let count = |id: u64| {
        store
            .seen()
            .iter()
            .filter(|request| request.target.contains(&format!("/{id}/")))
            .count()
    };
    assert_eq!((count(1), count(2), count(3)), (1, 1, 6));
    assert_eq!(done.entries[5].outcome, EntryOutcome::Done);
    assert!(job.project().join("a").exists(), "the last one is there");
}

#[test]
fn a_debugged_job_shows_what_the_coordinator_answered() {
    for (value, shown) in [("true", true), ("1", true), ("false", false), ("", false)] {
        let mut job = Job::new();
        job.write("file", "content");
        let body = format!(r#"{{"message":"{}"}}"#, "no ".repeat(1000));
        let store = Store::start(move |_, _| Reply {
            headers: vec![
                ("X-Of-The-Server", "yes".into()),
                ("Set-Cookie", "login=1".into()),
            ],
            ..Reply::status(403).body(body.as_str())
        });
        let mut request = UploadArtifactsRequest {
            entries: vec![entry("file")],
            ..job.request(&store)
        };
        request.variables.push(Variable {
            key: "CI_DEBUG_TRACE".into(),
            value: value.into(),
        });
        let log = job.upload_with(request).failed(1).err();
        assert_eq!(
            log.contains("Response header: x-of-the-server: yes"),
            shown,
            "{value}: {log}"
        );
        assert_eq!(
            log.contains("Response body: {\"message\":\"no no"),
            shown,
            "{value}: {log}"
        );
        assert!(!log.contains("login=1"), "{log}");
        assert!(log.contains("403 Forbidden"), "{log}");
    }
}

#[test]
fn provenance_goes_into_a_zip_and_a_second_upload_is_the_same() {
    let mut job = Job::new();
    job.write("a", "x");
    let store = Store::start(|_, _| Reply::status(201));
    for _ in 0..2 {
        let request = UploadArtifactsRequest {
            entries: vec![
                entry("a"),
                ArtifactEntry {
                    format: String::new(),
                    ..entry("a")
                },
            ],
            provenance: Some(Provenance {
                job_name: "build".into(),
                ended_at: "2026-11-24T12:00:00Z".into(),
                ..Provenance::default()
            }),
            ..job.request(&store)
        };
        let done = job.upload_with(request).ok();
        assert_eq!((done.entries[0].files, done.entries[1].files), (2, 1));
    }
    let seen = store.seen();
    assert_eq!(part(&seen[0]), part(&seen[2]));
    assert!(job.project().join("artifacts-metadata.json").exists());
}

#[test]
fn a_canceled_upload_ends_and_sends_no_whole_archive() {
    let mut job = Job::new();
    job.write("a", "x");
    // Nobody listens: the connection is refused, and tried again after a pause.
    let request = UploadArtifactsRequest {
        entries: vec![entry("a")],
        coordinator: Coordinator {
            url: "http://127.0.0.1:1".into(),
            ..Coordinator::default()
        },
        ..job.request(&Store::start(|_, _| Reply::status(201)))
    };
    job.client.start_at(
        "upload/canceled",
        gantry_agent::Offsets::default(),
        StageRequest::UploadArtifacts(Box::new(request)),
    );
    job.client.send(&gantry_agent::ToAgent::Cancel {
        id: "upload/canceled".into(),
    });
    let done = job.client.finish("upload/canceled");
    assert_eq!(done.exit_code, 143);
}

#[test]
fn a_job_without_a_server_leaves_its_archives_in_a_folder_and_finds_others_there() {
    let mut job = Job::new();
    job.write("a", "of the first");
    let folder = job.agent.dir.path().join("kept");
    let request = UploadArtifactsRequest {
        project_dir: job.project(),
        folder: Some(folder.clone()),
        job_id: 7,
        entries: vec![entry("none"), entry("a")],
        ..UploadArtifactsRequest::default()
    };
    let done = job.upload_with(request).ok();
    assert_eq!(
        [done.entries[0].outcome, done.entries[1].outcome],
        [EntryOutcome::Nothing, EntryOutcome::Done]
    );
    assert!(
        done.err()
            .contains("Keeping artifacts as \"archive\"... ok")
    );
    assert!(!folder.join("0.zip").exists());
    let size = fs::metadata(folder.join("1.zip")).unwrap().len();
    assert_eq!(done.entries[1].bytes, size);

    fs::rename(folder.join("1.zip"), folder.join("3.zip")).unwrap();
    fs::write(folder.join("4.zip"), "damaged").unwrap();
    job.write("a", "of this one");
    let request = DownloadArtifactsRequest {
        project_dir: job.project(),
        folder: Some(folder),
        dependencies: vec![dependency(9), dependency(4), dependency(3)],
        ..DownloadArtifactsRequest::default()
    };
    let done = job.run(StageRequest::DownloadArtifacts(Box::new(request)));
    assert_eq!(done.exit_code, 1);
    let outcomes: Vec<_> = done.entries.iter().map(|entry| entry.outcome).collect();
    assert_eq!(
        outcomes,
        [
            EntryOutcome::Failed,
            EntryOutcome::Failed,
            EntryOutcome::Done
        ]
    );
    assert!(done.entries[0].error.as_ref().unwrap().contains("9.zip"));
    let text = fs::read_to_string(job.project().join("a")).unwrap();
    assert_eq!(text, "of the first");
}
