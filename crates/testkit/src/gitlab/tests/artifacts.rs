//! Artifacts, spoken to by hand.

use super::*;
use crate::JobBuilder;

/// A job that runs, with its token.
async fn running(gitlab: &FakeGitLab) -> (i64, String) {
    let id = gitlab.enqueue(&JobBuilder::new("build"));
    assert_eq!(ask(gitlab, None).await.status, 201);
    gitlab.change(|book| {
        if let Some(job) = book.jobs.get_mut(&id) {
            job.state = ServerJobState::Running;
        }
    });
    (id, gitlab.job(id).token)
}

async fn upload(gitlab: &FakeGitLab, id: i64, token: &str, query: &str, file: &str) -> u16 {
    let body = format!(
        "--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"dist.zip\"\r\nContent-Type: application/octet-stream\r\n\r\n{file}\r\n--bound--\r\n"
    );
    let headers = [
        ("job-token", token),
        ("content-type", "multipart/form-data; boundary=bound"),
    ];
    let line = format!("POST /api/v4/jobs/{id}/artifacts{query}");
    let spoken = speak(gitlab, &line, &headers, body.as_bytes()).await;
    spoken.unwrap().status
}

async fn get(gitlab: &FakeGitLab, path: &str, headers: &[(&str, &str)]) -> Spoken {
    let line = format!("GET {path}");
    speak(gitlab, &line, headers, b"").await.unwrap()
}

#[tokio::test]
async fn an_artifact_is_kept_and_given_to_who_has_the_jobs_token() {
    let gitlab = FakeGitLab::start().await;
    let (id, token) = running(&gitlab).await;
    let query = "?artifact_type=archive&artifact_format=zip&expire_in=1+week";
    let file = "PK\r\n--x";
    assert_eq!(upload(&gitlab, id, "wrong", query, file).await, 403);
    assert_eq!(upload(&gitlab, id, &token, query, file).await, 201);
    assert_eq!(upload(&gitlab, id, &token, query, file).await, 201);
    assert_eq!(upload(&gitlab, id, &token, query, "another").await, 400);
    let artifacts = gitlab.job(id).artifacts;
    assert_eq!(artifacts.len(), 1, "the same again is no second one");
    assert_eq!(artifacts[0].file_name, "dist.zip");
    assert_eq!(artifacts[0].expire_in, "1 week");
    let path = format!("/api/v4/jobs/{id}/artifacts");
    let refused = get(&gitlab, &path, &[("job-token", "wrong")]).await;
    assert_eq!(refused.status, 403);
    let given = get(&gitlab, &path, &[("job-token", &token)]).await;
    assert_eq!(
        (given.status, given.body.as_slice()),
        (200, file.as_bytes())
    );
}

#[tokio::test]
async fn a_direct_download_leads_to_a_storage_that_takes_no_token_and_gives_ranges() {
    let gitlab = FakeGitLab::start().await;
    let (id, token) = running(&gitlab).await;
    assert_eq!(upload(&gitlab, id, &token, "", "0123456789").await, 201);
    gitlab.set_direct_download(true);
    let path = format!("/api/v4/jobs/{id}/artifacts?direct_download=true");
    let answer = get(&gitlab, &path, &[("job-token", &token)]).await;
    assert_eq!(answer.status, 302);
    let place = answer.header("location").unwrap();
    let place = place.strip_prefix(gitlab.url()).unwrap();
    let shown = get(&gitlab, place, &[("job-token", &token)]).await;
    assert_eq!(shown.status, 400);
    let part = get(&gitlab, place, &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
}

#[tokio::test]
async fn faults_hit_uploads_like_other_calls() {
    let gitlab = FakeGitLab::start().await;
    let (id, token) = running(&gitlab).await;
    gitlab.fault(Fault::on(Endpoint::UploadArtifacts).nth(1).status(503));
    assert_eq!(upload(&gitlab, id, &token, "", "x").await, 503);
    assert_eq!(upload(&gitlab, id, &token, "", "x").await, 201);
    assert_eq!(gitlab.requests_to(Endpoint::UploadArtifacts).len(), 2);
}
