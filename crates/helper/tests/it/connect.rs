//! `gantry-helper connect`.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{Agent, Client, PROGRAM, until};

fn connector(socket: &Path) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(["connect", "--socket"]).arg(socket);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_stage_runs_over_stdio() {
    let agent = Agent::start();
    let mut child = connector(&agent.socket());
    let mut client = Client::over_process(&mut child);
    client.hello(1);
    let done = client.run_sources("a", agent.script("seq 1 100000")).ok();
    assert!(done.out().contains("\n99999\n100000\n"));
    client.close_writer();
    assert!(child.wait().unwrap().success(), "it ends with stdin");
    until("the agent noticed", || agent.connect().welcome.is_some());
}

#[test]
fn it_may_be_faster_than_the_agent_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let mut child = connector(&socket);
    let mut client = Client::over_process(&mut child);
    let mut agent = Command::new(PROGRAM)
        .args(["agent", "--socket"])
        .arg(&socket)
        .spawn()
        .unwrap();
    client.hello(1);
    crate::support::terminate(agent.id());
    assert!(agent.wait().unwrap().success());
    assert_eq!(client.next(), None);
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_an_agent_it_gives_up_and_says_so() {
    let output = connector(Path::new("/nonexistent/agent.sock"))
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("no agent at /nonexistent/agent.sock within 5 s"),
        "{text}"
    );
}

#[test]
fn usage_mistakes_are_told_with_the_usage() {
    let output = Command::new(PROGRAM).arg("--serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown option `--serve`\nusage: "));
}
