//! A real server of Azure's blobs: Azurite, with one container.

use std::net::Ipv4Addr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use tokio::process::Command;

use crate::{ForeignServer, Identity};

/// Azurite with an empty container.
#[derive(Debug)]
pub struct Azurite {
    server: ForeignServer,
}

impl Azurite {
    /// The account that every emulator knows.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// Its key.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    /// The container.
    pub const CONTAINER: &str = "caches";

    /// Starts it, for containers of an engine too. With a name that begins with the account and an identity of that name it speaks
    /// HTTPS, and a URL has no account in its path; else it is HTTP, and the account is the first part of the path.
    ///
    /// # Errors
    /// That there is no such program here: the reason for a test to be skipped.
    ///
    /// # Panics
    /// If it does not start or refuses the container; if there is no `curl`.
    pub async fn start(named: Option<(&str, &Identity)>) -> Result<Self, String> {
        let server = ForeignServer::start("GANTRY_TEST_AZURITE", 1, |command, folder, ports| {
            let port = ports[0].to_string();
            command
                .args(["--blobHost", "0.0.0.0", "--blobPort", &port])
                .args(["--silent", "--inMemoryPersistence", "--disableTelemetry"]);
            if let Some((_, identity)) = named {
                let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
                write("cert.pem", &identity.certificate).expect("a file in a temporary folder");
                write("key.pem", &identity.key).expect("a file in a temporary folder");
                command.args(["--cert", "cert.pem", "--key", "key.pem"]);
            }
        });
        let azurite = Self {
            server: server.await?,
        };
        azurite.make_container(named.map(|(name, _)| name)).await;
        Ok(azurite)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    async fn make_container(&self, name: Option<&str>) {
        let (account, container, port) = (Self::ACCOUNT, Self::CONTAINER, self.port());
        let base = match name {
            Some(name) => format!("https://{name}:{port}"),
            None => format!("http://127.0.0.1:{port}/{account}"),
        };
        let path = match name {
            Some(_) => format!("/{account}/{container}"),
            None => format!("/{account}/{account}/{container}"),
        };
        let date = jiff::Timestamp::now();
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
        let version = "2021-08-06";
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n{path}\nrestype:container"
        );
        let key = STANDARD.decode(Self::KEY).expect("a key");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let output = Command::new("curl")
            // It is our own process that is asked.
            .args(["--silent", "--show-error", "--fail-with-body", "--insecure"])
            .args(["--noproxy", "*", "--request", "PUT"])
            .arg("--resolve")
            .arg(format!(
                "{}:{port}:{}",
                name.unwrap_or("localhost"),
                Ipv4Addr::LOCALHOST
            ))
            .args(["--header", &format!("x-ms-date: {date}")])
            .args(["--header", &format!("x-ms-version: {version}")])
            .args([
                "--header",
                &format!("Authorization: SharedKey {account}:{signature}"),
            ])
            .arg(format!("{base}/{container}?restype=container"))
            .output()
            .await
            .expect("curl");
        assert!(output.status.success(), "{output:?}");
    }
}
