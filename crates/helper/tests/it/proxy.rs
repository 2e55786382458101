//! Transfers by the commands through a forward proxy: a store that is asked for whole addresses, of servers that nobody can find.

use std::{fs, path::Path, process::Command};

use rstest::rstest;

use crate::support::{PROGRAM, Reply, Store, StoreRequest};

/// `user:p@ss` as a proxy is told it.
const AUTHORIZATION: &str = "Basic dXNlcjpwQHNz";

/// The proxy's address, with credentials.
fn with_credentials(proxy: &Store) -> String {
    proxy.url("").replace("http://", "http://user:p%40ss@")
}

fn run(dir: &Path, proxy: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(dir).env_clear();
    let output = command.envs(proxy.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What a proxy would refuse; the others came as one wants them.
fn refused(request: &StoreRequest, credentials: bool) -> Option<Reply> {
    let authorization = if credentials { AUTHORIZATION } else { "" };
    if request.header("proxy-authorization") != authorization {
        return Some(Reply::status(407));
    }
    let told = request.target.strip_prefix("http://");
    let told = told.and_then(|rest| rest.split('/').next());
    (request.method == "CONNECT" || told != Some(request.header("host")))
        .then(|| Reply::status(405))
}

const ARTIFACTS: [&str; 3] = ["--token=t0ken", "--id=7", "--url=http://gitlab.test:8080/"];

#[rstest]
fn artifacts_go_up_by_a_proxy(#[values(false, true)] credentials: bool) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), vec![b'x'; 3 << 20]).unwrap();
    let proxy = Store::start(move |request, _| {
        refused(request, credentials).unwrap_or_else(|| Reply::status(201))
    });
    let address = match credentials {
        true => with_credentials(&proxy),
        false => proxy.url(""),
    };
    let what = ["artifacts-uploader", "--path=a", "--artifact-format=raw"];
    let args = [&what[..], &ARTIFACTS].concat();
    let (ok, text) = run(dir.path(), &[("HTTP_PROXY", &address)], &args);
    assert!(ok && text.contains("201 Created"), "{text}");
    let seen = proxy.seen();
    assert!(
        seen[0]
            .target
            .starts_with("http://gitlab.test:8080/api/v4/jobs/7/artifacts"),
        "{}",
        seen[0].target
    );
    assert_eq!(seen[0].header("job-token"), "t0ken");
    assert!(seen[0].whole && seen[0].body.len() > 3 << 20);
}

#[test]
fn each_hop_of_a_download_finds_its_own_way_and_neither_token_nor_credentials_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let made = Store::start(|_, _| Reply::status(201));
    fs::write(dir.path().join("a"), "content").unwrap();
    let to_made = [
        "artifacts-uploader",
        "--path=a",
        "--token=t",
        "--id=1",
        &format!("--url={}", made.url("/")),
    ];
    assert!(run(dir.path(), &[], &to_made).0);
    let body = made.seen()[0].body.clone();
    let start = body
        .windows(4)
        .position(|bytes| bytes == b"PK\x03\x04")
        .unwrap();
    let end = body
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x05\x06")
        .unwrap();
    let archive = body[start..end + 22].to_vec();
    fs::remove_file(dir.path().join("a")).unwrap();

    // The last hop is on this machine, where no proxy is asked.
    let local = Store::start(move |_, _| Reply::status(200).body(archive.clone()));
    let last = local.url("/object?signature=s");
    let proxy = Store::start(move |request, number| {
        refused(request, true).unwrap_or_else(|| {
            let to = match number {
                0 => "http://store.test/object?signature=s",
                _ => &last,
            };
            Reply::status(302).with("Location", to)
        })
    });
    let args = [&["artifacts-downloader"], &ARTIFACTS[..]].concat();
    let environment = [("http_proxy", &*with_credentials(&proxy))];
    let (ok, text) = run(dir.path(), &environment, &args);
    assert!(ok, "{text}");
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "content");
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("job-token"), "t0ken");
    assert_eq!(seen[1].target, "http://store.test/object?signature=s");
    assert_eq!(seen[1].header("job-token"), "");
    let at_last = &local.seen()[0];
    assert_eq!(at_last.target, "/object?signature=s");
    assert_eq!(at_last.header("job-token"), "");
    assert_eq!(at_last.header("proxy-authorization"), "");
}

#[test]
fn caches_go_up_and_down_by_a_proxy() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "content").unwrap();
    let kept = std::sync::Mutex::new(None);
    let proxy = Store::start(move |request, _| {
        refused(request, true).unwrap_or_else(|| {
            let mut kept = kept.lock().unwrap();
            match &*request.method {
                "PUT" => {
                    *kept = Some(request.body.clone());
                    Reply::status(200)
                }
                _ => match &*kept {
                    Some(body) => Reply::range_of(body, request),
                    None => Reply::status(404),
                },
            }
        })
    });
    let address = with_credentials(&proxy);
    let environment = [("ALL_PROXY", &*address), ("NO_PROXY", "s3.test:81")];
    let url = "http://s3.test/cache.zip?signature=s";
    let up = [
        "cache-archiver",
        "--file=../none/cache.zip",
        "--path=a",
        "--url",
        url,
    ];
    let up = up.map(|word| word.replace("../none", &dir.path().join("c").display().to_string()));
    let up: Vec<&str> = up.iter().map(String::as_str).collect();
    let (ok, text) = run(dir.path(), &environment, &up);
    assert!(ok, "{text}");
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::remove_dir_all(dir.path().join("c")).unwrap();
    let down = [&["cache-extractor"], &up[1..2], &up[3..]].concat();
    let (ok, text) = run(dir.path(), &environment, &down);
    assert!(ok, "{text}");
    assert!(dir.path().join("a").exists());
    assert!(proxy.seen().iter().all(|request| request.target == url));
}

#[rstest]
#[case::a_tunnel_it_does_not_give("https://gitlab.test/", "no tunnel: proxy server responded 403")]
#[case::a_request_it_does_not_send("http://gitlab.test/", "403 Forbidden")]
fn a_proxy_that_refuses_is_told(#[case] url: &str, #[case] says: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "content").unwrap();
    let proxy = Store::start(|_, _| Reply::status(403));
    let address = with_credentials(&proxy);
    let url = format!("--url={url}");
    let args = [
        "artifacts-uploader",
        "--path=a",
        "--token=t",
        "--id=1",
        &url,
    ];
    let environment = [("HTTP_PROXY", &*address), ("HTTPS_PROXY", &address)];
    let (ok, text) = run(dir.path(), &environment, &args);
    assert!(!ok && text.contains(says), "{text}");
    assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["artifacts-downloader"], &ARTIFACTS[..]].concat();
    let environment = [("http_proxy", "user:p%40ss@127.0.0.1:1")];
    let (ok, text) = run(dir.path(), &environment, &args);
    let says = "by the proxy http://127.0.0.1:1: ";
    assert!(!ok && text.contains(says), "{text}");
}
