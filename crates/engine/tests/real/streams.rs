use futures_util::StreamExt;
use gantry_engine::Engine;
use tokio::io::AsyncWriteExt;

use crate::support::{assert_same, hostile_bytes, lab};

#[tokio::test]
async fn attach_carries_every_byte_of_both_streams() {
    lab("attach", async |lab| {
        let bytes = hostile_bytes(1, 40);
        let out = lab.create("out", &["cat"]).await;
        let ran = lab.run(&out, &bytes).await;
        assert_same(&ran.stdout, &bytes);
        assert_eq!((ran.stderr.len(), ran.exit_code), (0, 0));
        let err = lab.create("err", &["sh", "-c", "cat >&2; exit 7"]).await;
        let ran = lab.run(&err, &bytes).await;
        assert_same(&ran.stderr, &bytes);
        assert_eq!((ran.stdout.len(), ran.exit_code), (0, 7));
        for id in [out, err] {
            lab.engine.container_remove(&id).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn output_without_newline_is_handed_out_while_the_container_runs() {
    lab("partial", async |lab| {
        let id = lab
            .create("c", &["sh", "-c", "printf 10%%; read x; printf $x%%"])
            .await;
        let mut attached = lab.engine.container_attach(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let first = attached.output.next().await.unwrap().unwrap();
        assert_eq!(first.bytes.as_ref(), b"10%");
        attached.stdin.write_all(b"20\n").await.unwrap();
        let second = attached.output.next().await.unwrap().unwrap();
        assert_eq!(second.bytes.as_ref(), b"20%");
        assert!(attached.output.next().await.is_none());
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_container_can_be_attached_and_started_again() {
    lab("again", async |lab| {
        let id = lab.create("c", &["sh"]).await;
        let first = lab.run(&id, b"echo one; exit 3\n").await;
        let second = lab.run(&id, b"echo two >&2; exit 4\n").await;
        assert_eq!(
            (first.stdout.as_slice(), first.exit_code),
            (b"one\n".as_slice(), 3)
        );
        assert_eq!(
            (second.stderr.as_slice(), second.exit_code),
            (b"two\n".as_slice(), 4)
        );
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_closes_stdin_and_the_container_ends_by_itself() {
    lab("gone", async |lab| {
        let id = lab
            .create("c", &["sh", "-c", "cat; echo over; exit 5"])
            .await;
        let mut attached = lab.engine.container_attach(&id).await.unwrap();
        let wait = lab.engine.container_wait(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        attached.stdin.write_all(b"half\n").await.unwrap();
        attached.output.next().await.unwrap().unwrap();
        drop(attached);
        assert_eq!(wait.await.unwrap().exit_code, 5);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

/// The fake engine imitates this: a container that was attached to before its start cannot be saved by a second attach.
#[tokio::test]
async fn an_attach_that_goes_before_the_start_leaves_a_container_without_stdin() {
    lab("early", async |lab| {
        let id = lab.create("c", &["sh"]).await;
        drop(lab.engine.container_attach(&id).await.unwrap());
        // The engine notices the closed connection in its own time.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let ran = lab.run(&id, b"echo ran; exit 3\n").await;
        assert_eq!((ran.stdout.as_slice(), ran.exit_code), (b"".as_slice(), 0));
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_container_that_nobody_attached_to_waits_for_a_late_attach() {
    lab("late", async |lab| {
        let id = lab.create("c", &["sh"]).await;
        let wait = lab.engine.container_wait(&id).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let mut attached = lab.engine.container_attach(&id).await.unwrap();
        attached.stdin.write_all(b"exit 6\n").await.unwrap();
        assert_eq!(wait.await.unwrap().exit_code, 6);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}
