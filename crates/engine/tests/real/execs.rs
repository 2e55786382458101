use gantry_engine::{Engine, EngineError};
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
