//! A real server of secrets: OpenBao in development mode, with a login by tokens that are signed here, as a GitLab signs those of its
//! jobs, and checked by keys that it fetches from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::body::Incoming;
use hyper::{Request, Response};
use ring::{
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::http::{Body, Handler, Hangup, Server, empty, full, set_header};
use crate::{ForeignServer, Identity};

/// Names the program.
const VARIABLE: &str = "GANTRY_TEST_OPENBAO";
const ROOT: &str = "root-of-the-test";
/// A key of nobody.
const KEY: &str = include_str!("../../object-storage/src/gcs/test-key.pem");
const KEY_ID: &str = "of-the-test";
/// `iss` of the tokens.
const ISSUER: &str = "https://gitlab.example.com";

/// A server with nothing in it but what tests write.
pub struct OpenBao {
    server: ForeignServer,
    program: PathBuf,
    keys: Server,
    pair: RsaKeyPair,
}

impl OpenBao {
    /// Starts it. It speaks HTTP, and HTTPS on another port as `identity` (for `localhost`), if there is one.
    ///
    /// # Errors
    /// That there is no such program here: the reason for a test to be skipped.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(identity: Option<&Identity>) -> Result<Self, String> {
        let server = ForeignServer::start(VARIABLE, 3, |command, folder, ports| {
            let listen = |port: u16| format!("127.0.0.1:{port}");
            command
                .args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"])
                .arg(format!("-dev-root-token-id={ROOT}"))
                .arg(format!("-dev-listen-address={}", listen(ports[0])));
            let Some(identity) = identity else { return };
            let write = |name: &str, text: &str| {
                let path = folder.join(name);
                std::fs::write(&path, text).expect("a file in a temporary folder");
                path.display().to_string()
            };
            let listener = json!({"listener": {"tcp": {
                "address": listen(ports[1]),
                // Else the port after that of the listener.
                "cluster_address": listen(ports[2]),
                "tls_cert_file": write("cert.pem", &identity.certificate),
                "tls_key_file": write("key.pem", &identity.key),
            }}});
            let file = write("tls.json", &listener.to_string());
            command.arg(format!("-config={file}"));
        });
        let server = server.await?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key");
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": encode(&public.n), "e": encode(&public.e),
        }]});
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let keys = Server::start(any, None, Arc::new(Keys(keys.to_string())));
        let bao = Self {
            server,
            program: std::env::var_os(VARIABLE).unwrap_or_default().into(),
            keys: keys.await.expect("a free port"),
            pair,
        };
        // It listens before it is ready; the command itself asks again as long as it is told to.
        while bao.command("", &["status"], "").await.is_err() {
            tokio::task::yield_now().await;
        }
        Ok(bao)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Its address over TLS, where it was started with an identity.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.server.ports()[1])
    }

    /// Writes to a path of a namespace (of the root namespace where it is empty), with all rights.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn write(&self, namespace: &str, path: &str, data: &Value) {
        let done = self
            .command(namespace, &["write", path, "-"], &data.to_string())
            .await;
        done.unwrap_or_else(|error| panic!("{namespace} {path}: {error}"));
    }

    /// Deletes a path of the root namespace.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn delete(&self, path: &str) {
        let done = self.command("", &["delete", path], "").await;
        done.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Seals it: from then on it answers nobody.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn seal(&self) {
        let done = self.command("", &["operator", "seal"], "").await;
        done.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Enables the login by JSON web token at this path of a namespace, for tokens of [`OpenBao::token`].
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn enable_login(&self, namespace: &str, path: &str) {
        let method = json!({"type": "jwt"});
        self.write(namespace, &format!("sys/auth/{path}"), &method)
            .await;
        let config = json!({"jwks_url": format!("http://{}/oauth/discovery/keys", self.keys.addr()), "bound_issuer": ISSUER});
        self.write(namespace, &format!("auth/{path}/config"), &config)
            .await;
    }

    /// A signed token, as GitLab gives one to a job on the protected branch `main` of `acme/tools/widget`; `claims` add to it or take
    /// the place of its own.
    ///
    /// # Panics
    /// If it cannot be signed.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a clock after 1970").as_secs();
        let mut all = json!({
            "iss": ISSUER, "aud": "https://vault.example.com",
            "sub": "project_path:acme/tools/widget:ref_type:branch:ref:main",
            "project_path": "acme/tools/widget", "ref": "main", "ref_type": "branch", "ref_protected": "true",
            "iat": now, "nbf": now - 5, "exp": now + 300,
        });
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&head), encode(&all));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Its own program as a client.
    async fn command(
        &self,
        namespace: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let mut child = tokio::process::Command::new(&self.program)
            .args(arguments)
            .env("BAO_ADDR", self.url())
            .env("BAO_TOKEN", ROOT)
            .env("BAO_NAMESPACE", namespace)
            .env("HOME", self.server.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that needs no input may have ended.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        let output = child.wait_with_output().await;
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &self.server.log())
        }
    }
}

/// The keys of a GitLab, for everybody.
struct Keys(String);

impl Handler for Keys {
    async fn handle(
        self: Arc<Self>,
        _: SocketAddr,
        _: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let mut response = empty(200);
        set_header(&mut response, "content-type", "application/json");
        *response.body_mut() = full(self.0.clone());
        Ok(response)
    }
}
