//! A service has many files open; how many it may is its own business.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::harness::Operator;

#[tokio::test]
async fn the_service_may_open_as_many_files_as_the_system_allows() {
    let operator = Operator::new();
    operator.write("concurrent = 1\n");
    let inner = operator.command(&["run"]);
    let variables = inner.as_std().get_envs();
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -Sn 100 && ulimit -Hn 200 && exec \"$@\"",
            "sh",
        ])
        .arg(inner.as_std().get_program())
        .args(inner.as_std().get_args())
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("Configuration loaded") {
            break;
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().unwrap())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<_> = files.split_whitespace().collect();
    assert_eq!(words[3..5], ["200", "200"], "{files}");
}
