use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use base64::Engine as _;
use gantry_engine::{Engine, EngineError, PullProgress, RegistryAuth};

use crate::support::{entry, image_archive, lab, skip};

/// `user` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2b$05$fEn4HbJrd/eHa2oFMqxfye4RieLVRkFlcWlQIa29mQEE2pC6SynqO\n";

/// Debian's registry on a port of its own; ends with the test.
struct Registry {
    process: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Registry {
    async fn start(protected: bool) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let auth = if protected {
            std::fs::write(root.join("htpasswd"), HTPASSWD).unwrap();
            let path = root.join("htpasswd");
            format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                path.display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
            root.join("data").display()
        );
        std::fs::write(root.join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(root.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let registry = Self {
            process,
            address,
            directory,
        };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(&registry.address)
                .await
                .is_ok()
            {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry does not listen");
    }

    /// Pushes an image of one file by the docker client, with credentials if the registry wants them.
    async fn push(&self, engine: &impl Engine, repository: &str) -> String {
        let name = format!("{}/{repository}", self.address);
        let mut layer = tar::Builder::new(Vec::new());
        entry(&mut layer, "file", 0o644, Some(name.as_bytes()));
        let archive = image_archive(&name, &layer.into_inner().unwrap());
        engine
            .image_load(Box::pin(std::io::Cursor::new(archive)))
            .await
            .unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode("user:secret");
        let client = self.directory.path().join("client");
        std::fs::create_dir_all(&client).unwrap();
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.address);
        std::fs::write(client.join("config.json"), config).unwrap();
        docker(&client, &["push", "-q", &name]);
        docker(&client, &["rmi", "-f", &name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn docker(config: &Path, arguments: &[&str]) {
    let output = Command::new("docker")
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn an_image_is_pulled_with_progress() {
    lab("pull", async |lab| {
        let Some(registry) = Registry::start(false).await else {
            return skip("pull", "docker-registry is not installed");
        };
        let name = registry.push(&lab.engine, "team/app:1").await;
        assert!(lab.engine.image_inspect(&name).await.unwrap().is_none());
        let lines = Mutex::new(Vec::<PullProgress>::new());
        let progress = |line| lines.lock().unwrap().push(line);
        lab.engine
            .image_pull(&name, None, None, &progress)
            .await
            .unwrap();
        let image = lab.engine.image_inspect(&name).await.unwrap().unwrap();
        let lines = lines.into_inner().unwrap();
        assert!(
            lines
                .iter()
                .any(|line| line.status.starts_with("Pull complete")),
            "{lines:?}"
        );
        let digest = &image.repo_digests[0];
        assert!(digest.starts_with(&format!("{}/team/app@sha256:", registry.address)));
        // By digest too, and a tag that is not there is an error with the registry's words.
        lab.engine
            .image_pull(digest, None, None, &|_| {})
            .await
            .unwrap();
        let missing = format!("{}/team/app:2", registry.address);
        let error = lab
            .engine
            .image_pull(&missing, None, None, &|_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, EngineError::Pull { .. }));
        assert!(error.to_string().contains("manifest unknown"), "{error}");
        docker(registry.directory.path(), &["rmi", "-f", &image.id]);
    })
    .await;
}

#[tokio::test]
async fn a_protected_registry_wants_the_right_credentials() {
    lab("protected", async |lab| {
        let Some(registry) = Registry::start(true).await else {
            return skip("protected", "docker-registry is not installed");
        };
        let name = registry.push(&lab.engine, "secret/app:1").await;
        let auth = |password: &str| RegistryAuth {
            username: "user".to_owned(),
            password: password.to_owned(),
            server_address: registry.address.clone(),
        };
        let pull = async |auth: Option<&RegistryAuth>| {
            lab.engine.image_pull(&name, None, auth, &|_| {}).await
        };
        let anonymous = pull(None).await.unwrap_err();
        assert!(
            anonymous.to_string().contains("no basic auth credentials"),
            "{anonymous}"
        );
        let wrong = pull(Some(&auth("wrong"))).await.unwrap_err();
        assert!(matches!(wrong, EngineError::Pull { .. }), "{wrong}");
        assert!(!format!("{wrong:?}").contains("wrong\""), "{wrong:?}");
        pull(Some(&auth("secret"))).await.unwrap();
        let image = lab.engine.image_inspect(&name).await.unwrap().unwrap();
        docker(registry.directory.path(), &["rmi", "-f", &image.id]);
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_pull_error() {
    lab("no-registry", async |lab| {
        let error = lab
            .engine
            .image_pull("127.0.0.1:1/app:1", None, None, &|_| {})
            .await;
        let error = error.unwrap_err();
        assert!(matches!(&error, EngineError::Pull { image, .. } if image == "127.0.0.1:1/app:1"));
        assert!(error.to_string().contains("connection refused"), "{error}");
        let bad = lab
            .engine
            .image_pull("Not An Image", None, None, &|_| {})
            .await
            .unwrap_err();
        assert!(matches!(bad, EngineError::Pull { .. }), "{bad:?}");
        assert!(
            bad.to_string().contains("invalid reference format"),
            "{bad}"
        );
    })
    .await;
}
