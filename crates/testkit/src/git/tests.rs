use super::*;

fn clone(url: &str) -> (TempDir, std::process::Output) {
    let folder = tempfile::tempdir().unwrap();
    let output = git(folder.path())
        .args(["clone", "--quiet", "--depth", "1", url, "copy"])
        .output()
        .unwrap();
    (folder, output)
}

async fn clone_with(url: &str, password: &str) -> (TempDir, std::process::Output) {
    let url = url.replace("http://", &format!("http://gitlab-ci-token:{password}@"));
    tokio::task::spawn_blocking(move || clone(&url))
        .await
        .unwrap()
}

fn widget(server: &GitHttp) -> Repository {
    server
        .repository("acme/widget")
        .file("README.md", "hello\n")
        .executable("run.sh", "#!/bin/sh\n")
        .symlink("link", "README.md")
        .commit("first")
        .tag("v1")
        .branch("feature")
        .file("new", vec![0xff; 200_000])
        .commit("second")
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_can_be_cloned_with_a_job_token() {
    let server = GitHttp::start().await;
    let repository = widget(&server);
    let (folder, output) = clone_with(repository.url(), "glcbt-1").await;
    assert!(output.status.success(), "{output:?}");
    let copy = folder.path().join("copy");
    assert_eq!(std::fs::read(copy.join("README.md")).unwrap(), b"hello\n");
    assert_eq!(repository.sha("v1"), repository.sha("main"));
    assert_ne!(repository.sha("feature"), repository.sha("main"));
    assert_eq!(repository.commits().len(), 2);
    let first = &server.requests()[0];
    assert_eq!(
        first.path,
        "/acme/widget.git/info/refs?service=git-upload-pack"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_a_failing_server_fails() {
    let server = GitHttp::start().await;
    let repository = widget(&server);
    let (_, output) = clone_with(repository.url(), "guess").await;
    assert!(!output.status.success());
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.status == 401)
    );

    server.only_token("secret");
    let (_, output) = clone_with(repository.url(), "glcbt-1").await;
    assert!(!output.status.success());
    let (_, output) = clone_with(repository.url(), "secret").await;
    assert!(output.status.success(), "{output:?}");

    server.fail_next(1, 503);
    let (_, output) = clone_with(repository.url(), "secret").await;
    assert!(!output.status.success());
    assert_eq!(server.requests().last().unwrap().status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_input_makes_the_same_commits() {
    let (one, two) = (GitHttp::start().await, GitHttp::start().await);
    assert_eq!(widget(&one).commits(), widget(&two).commits());
}
