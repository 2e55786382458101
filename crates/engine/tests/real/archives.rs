use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use gantry_container::VolumeSpec;
use gantry_engine::{Engine, EngineError};
use tokio::io::{AsyncRead, ReadBuf};

use crate::support::{entry, lab};

fn archive(bytes: Vec<u8>) -> gantry_engine::Archive {
    Box::pin(io::Cursor::new(bytes))
}

#[tokio::test]
async fn one_upload_sets_owner_and_mode_of_volumes() {
    lab("upload", async |lab| {
        let volume = lab.name("v");
        let spec = VolumeSpec {
            name: volume.clone(),
            labels: lab.labels(),
            ..Default::default()
        };
        lab.engine.volume_create(&spec).await.unwrap();
        let mut container =
            lab.spec(&["sh", "-c", "stat -c '%a %u %n' /builds /builds/g /builds/f"]);
        container.host.binds.push(format!("{volume}:/builds"));
        let id = lab
            .engine
            .container_create(&lab.name("c"), &container)
            .await
            .unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, "builds/", 0o777, None);
        entry(&mut tar, "builds/g/", 0o2770, None);
        entry(&mut tar, "builds/f", 0o640, Some(b"content"));
        lab.engine
            .archive_put(&id, "/", archive(tar.into_inner().unwrap()))
            .await
            .unwrap();
        for (path, mode) in [
            ("/builds", Some(0o777)),
            ("/builds/g", Some(0o2770)),
            ("/builds/f", Some(0o640)),
            ("/builds/none", None),
        ] {
            assert_eq!(
                lab.engine.archive_mode(&id, path).await.unwrap(),
                mode,
                "{path}"
            );
        }
        assert_eq!(
            lab.engine
                .archive_mode(&lab.name("none"), "/")
                .await
                .unwrap(),
            None
        );
        let mut over = tar::Builder::new(Vec::new());
        entry(
            &mut over,
            "builds",
            0o644,
            Some(b"a file in place of the directory"),
        );
        let over = lab
            .engine
            .archive_put(&id, "/", archive(over.into_inner().unwrap()))
            .await;
        assert!(matches!(over, Err(EngineError::Failed { .. })), "{over:?}");
        let ran = lab.run(&id, b"").await;
        let text = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(
            text,
            "777 33 /builds\n2770 33 /builds/g\n640 33 /builds/f\n"
        );
        lab.engine.container_remove(&id).await.unwrap();
        lab.engine.volume_remove(&volume, true).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_large_upload_that_the_engine_refuses_early_is_told_as_what_it_is() {
    lab("refused", async |lab| {
        let mut tar = tar::Builder::new(Vec::new());
        entry(
            &mut tar,
            "tmp/large",
            0o644,
            Some(&vec![7; 20 * 1024 * 1024]),
        );
        let bytes = tar.into_inner().unwrap();
        let missing = lab
            .engine
            .archive_put(&lab.name("none"), "/", archive(bytes.clone()))
            .await;
        assert!(
            matches!(missing, Err(EngineError::NotFound { .. })),
            "{missing:?}"
        );
        let id = lab.create("c", &["true"]).await;
        let no_path = lab
            .engine
            .archive_put(&id, "/no/such/path", archive(bytes.clone()))
            .await;
        assert!(
            matches!(no_path, Err(EngineError::NotFound { .. })),
            "{no_path:?}"
        );
        lab.engine
            .archive_put(&id, "/", archive(bytes))
            .await
            .unwrap();
        assert_eq!(
            lab.engine.archive_mode(&id, "/tmp/large").await.unwrap(),
            Some(0o644)
        );
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

/// An archive whose source breaks.
struct Broken(bool);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(io::Error::other("the disk is on fire")));
        }
        buf.put_slice(&[0; 100]);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_is_not_blamed_on_the_engine() {
    lab("broken", async |lab| {
        let id = lab.create("c", &["true"]).await;
        let error = lab
            .engine
            .archive_put(&id, "/", Box::pin(Broken(false)))
            .await
            .unwrap_err();
        assert!(matches!(error, EngineError::Setup(_)), "{error:?}");
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}
