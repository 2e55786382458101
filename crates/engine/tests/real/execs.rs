use futures_util::StreamExt;
use gantry_engine::{Engine, EngineError, ExecStream, StdStream, TerminalCommand};
use tokio::io::AsyncWriteExt;

use crate::support::{assert_same, hostile_bytes, lab, read};

fn words(cmd: &[&str]) -> Vec<String> {
    cmd.iter().map(|&word| word.to_owned()).collect()
}

#[tokio::test]
async fn an_exec_carries_every_byte_and_tells_its_exit_code() {
    lab("exec", async |lab| {
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        let stopped = lab.engine.exec(&id, &words(&["true"]), None).await.err();
        assert!(
            matches!(stopped, Some(EngineError::Conflict { .. })),
            "{stopped:?}"
        );
        lab.engine.container_start(&id).await.unwrap();
        let bytes = hostile_bytes(3, 30);
        let mut exec = lab
            .engine
            .exec(&id, &words(&["sh", "-c", "cat; exit 4"]), None)
            .await
            .unwrap();
        let input = bytes.clone();
        let writer = tokio::spawn(async move {
            exec.stdin.write_all(&input).await.unwrap();
            exec.stdin.shutdown().await.unwrap();
            exec.stdin
        });
        let (stdout, stderr) = read(exec.output).await.unwrap();
        drop(writer.await.unwrap());
        assert_same(&stdout, &bytes);
        assert!(stderr.is_empty());
        let code = loop {
            if let Some(code) = lab.engine.exec_exit_code(&exec.id).await.unwrap() {
                break code;
            }
        };
        assert_eq!(code, 4);
        let exec = lab
            .engine
            .exec(&id, &words(&["id", "-u"]), Some("33"))
            .await
            .unwrap();
        assert_eq!(read(exec.output).await.unwrap().0, b"33\n");
        lab.engine.container_remove(&id).await.unwrap();
        let gone = lab.engine.exec(&id, &words(&["true"]), None).await.err();
        assert!(
            matches!(gone, Some(EngineError::NotFound { .. })),
            "{gone:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn an_exec_answers_while_it_is_asked() {
    lab("dialog", async |lab| {
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        lab.engine.container_start(&id).await.unwrap();
        let mut exec = lab.engine.exec(&id, &words(&["cat"]), None).await.unwrap();
        for turn in 0..100 {
            let line = format!("message {turn}\n");
            exec.stdin.write_all(line.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while answer.len() < line.len() {
                let chunk = futures_util::StreamExt::next(&mut exec.output)
                    .await
                    .unwrap()
                    .unwrap();
                answer.extend_from_slice(&chunk.bytes);
            }
            assert_eq!(answer, line.as_bytes());
        }
        assert_eq!(lab.engine.exec_exit_code(&exec.id).await.unwrap(), None);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

fn on_a_terminal(cmd: &[&str]) -> TerminalCommand {
    TerminalCommand {
        cmd: words(cmd),
        env: vec!["HELLO=there".to_owned()],
        columns: 101,
        rows: 37,
    }
}

/// Reads what a terminal shows until the words are there.
async fn shows(exec: &mut ExecStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let chunk = exec.output.next().await.expect("more output").unwrap();
        assert_eq!(chunk.stream, StdStream::Stdout);
        text.push_str(&String::from_utf8_lossy(&chunk.bytes));
    }
    text
}

#[tokio::test]
async fn a_command_on_a_terminal_has_one_of_the_size_asked_for() {
    lab("terminal", async |lab| {
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        lab.engine.container_start(&id).await.unwrap();
        let shell = on_a_terminal(&["sh"]);
        let mut exec = lab.engine.exec_terminal(&id, &shell).await.unwrap();
        let ask = b"echo $HELLO; test -t 0 && test -t 1 && test -t 2 && stty size; echo en''d\n";
        exec.stdin.write_all(ask).await.unwrap();
        let text = shows(&mut exec, "end\r\n").await;
        assert!(text.contains("there\r\n"), "{text:?}");
        assert!(text.contains("37 101\r\n"), "{text:?}");
        exec.stdin.write_all(b"exit 3\n").await.unwrap();
        while exec.output.next().await.is_some() {}
        let code = loop {
            if let Some(code) = lab.engine.exec_exit_code(&exec.id).await.unwrap() {
                break code;
            }
        };
        assert_eq!(code, 3);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

/// The first byte of a frame's header is 0, 1 or 2; so may be the first of what a terminal shows.
#[tokio::test]
async fn what_a_terminal_shows_is_not_taken_for_frames() {
    lab("raw", async |lab| {
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        lab.engine.container_start(&id).await.unwrap();
        let print = on_a_terminal(&["printf", r"\001AAAAAAAA\002B\000C\n"]);
        let mut exec = lab.engine.exec_terminal(&id, &print).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = exec.output.next().await {
            bytes.extend_from_slice(&chunk.unwrap().bytes);
        }
        assert_same(&bytes, b"\x01AAAAAAAA\x02B\x00C\r\n");
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_terminal_ends_with_its_container() {
    lab("ends", async |lab| {
        let id = lab.create("c", &["sh", "-c", "sleep 60"]).await;
        lab.engine.container_start(&id).await.unwrap();
        let shell = on_a_terminal(&["sh"]);
        let mut exec = lab.engine.exec_terminal(&id, &shell).await.unwrap();
        exec.stdin.write_all(b"echo o''k\n").await.unwrap();
        shows(&mut exec, "ok\r\n").await;
        lab.engine.container_kill(&id, "KILL").await.unwrap();
        while exec.output.next().await.is_some() {}
        let gone = lab.engine.exec_terminal(&id, &shell).await.err();
        assert!(
            matches!(gone, Some(EngineError::Conflict { .. })),
            "{gone:?}"
        );
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}
