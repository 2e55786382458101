//! The stand-in as a program: what a bench sees of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Speaks to the program as a runner would; gives the body of the answer.
fn call(url: &str, method: &str, path: &str, token: (&str, &str), body: &Value) -> Value {
    let addr = url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(addr).expect("a listening program");
    let body = body.to_string();
    write!(
        stream,
        "{method} /api/v4/{path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{}: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        token.0,
        token.1,
        body.len()
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

#[test]
fn jobs_of_a_file_are_handed_out_and_their_ends_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let jobs = folder.path().join("jobs.json");
    let specs = json!([
        {"name": "git", "script": ["true"], "image": "busybox", "git": true, "timeout": 60},
        {"count": 2, "script": ["false"], "services": ["redis", {"name": "postgres", "alias": "db"}],
         "variables": {"A": "b"}, "set": {"/git_info/depth": 1}},
    ]);
    std::fs::write(&jobs, specs.to_string()).expect("a jobs file");
    let mut program = Command::new(env!("CARGO_BIN_EXE_gantry-testkit"))
        .arg("--jobs")
        .arg(&jobs)
        .args(["--wait-for-runner", "--one-by-one", "--long-poll", "50"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let output = BufReader::new(program.stdout.take().expect("its output"));
    let mut events = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.expect("a line")).expect("an event"));

    let listening = events.next().expect("where it listens");
    assert_eq!(listening["event"], "listening");
    let url = listening["url"].as_str().expect("a url");
    let runner = listening["token"].as_str().expect("a token");
    let mut last_update = Value::Null;
    let mut ask = || loop {
        let body = json!({"token": runner, "last_update": last_update, "info": {"features": {}}});
        let job = call(url, "POST", "jobs/request", ("runner-token", runner), &body);
        if job.is_object() {
            return job;
        }
        // Until the first request was seen there is no job; held requests get it then.
        last_update = "1".into();
    };
    let mut finish = |job: &Value, update: Value| {
        let (id, token) = (job["id"].clone(), job["token"].as_str().expect("a token"));
        let mut update = update;
        update["token"] = token.into();
        call(
            url,
            "PUT",
            &format!("jobs/{id}"),
            ("job-token", token),
            &update,
        );
        events.next().expect("an event")
    };

    let job = ask();
    let repo = job["git_info"]["repo_url"].as_str().expect("a repository");
    let git = listening["git"].as_str().expect("a git server");
    assert!(repo.ends_with(&format!(
        "{}/acme/tools/widget.git",
        &git["http://".len()..]
    )));
    let event = finish(&job, json!({"state": "success"}));
    assert_eq!(
        (&event["event"], &event["name"]),
        (&"final".into(), &"git".into())
    );
    assert_eq!(
        (&event["job"], &event["state"]),
        (&job["id"], &"success".into())
    );
    let (handed_out, last) = (event["handed_out"].as_f64(), event["final"].as_f64());
    assert!(handed_out <= last && handed_out.is_some(), "{event}");
    for _ in 0..2 {
        let job = ask();
        assert_eq!(job["services"][1]["alias"], "db");
        assert_eq!(job["git_info"]["depth"], 1);
        let failed = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 1});
        let event = finish(&job, failed);
        assert_eq!(
            (&event["state"], &event["exit_code"]),
            (&"failed".into(), &1.into())
        );
    }
    let done = events.next().expect("a summary");
    assert_eq!((&done["jobs"], &done["success"]), (&3.into(), &1.into()));
    assert!(!program.wait().expect("its end").success());
}
