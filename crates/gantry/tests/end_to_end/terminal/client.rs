//! A client of the session server, as GitLab is one: it knows what the job request said, and trusts the certificate in it alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use gantry_testkit::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{Host, PATIENCE, until};

/// A session, as the server was told.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) url: String,
    pub(crate) certificate: String,
    pub(crate) token: String,
}

/// An open terminal.
pub(crate) struct Terminal {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// What it showed that no test has looked at.
    shown: String,
}

impl Session {
    /// Of the request that the `number`th job, from 0, was the answer to.
    pub(crate) async fn of_job(host: &Host, number: usize) -> Self {
        let found = until("a job request", async || {
            let requests = host.gitlab.requests_to(Endpoint::RequestJob);
            let mut given = requests.into_iter().filter(|call| call.status == Some(201));
            given.nth(number)
        })
        .await;
        let session = &found.json()["session"];
        let text = |key: &str| session[key].as_str().expect("a session").to_owned();
        Self {
            url: text("url"),
            certificate: text("certificate"),
            token: text("authorization"),
        }
    }

    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        let rest = self.url.strip_prefix("https://").expect("https");
        rest.split('/').next().unwrap()
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = self.address().rsplit_once(':').unwrap().0.to_owned();
        let name = ServerName::try_from(host).unwrap();
        let stream = TcpStream::connect(self.address())
            .await
            .map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(name, stream).await;
        connected.map_err(|error| error.to_string())
    }

    /// Status of the answer to a plain request below the session.
    pub(crate) async fn ask(&self, place: &str, token: &str) -> Result<u16, String> {
        let mut stream = self.connect().await?;
        let path = self.url.splitn(4, '/').nth(3).unwrap();
        let request = format!(
            "GET /{path}{place} HTTP/1.1\r\nhost: {}\r\nauthorization: {token}\r\n\r\n",
            self.address()
        );
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.ok_or(answer)
    }

    /// Opens the terminal, or says with what status it is refused.
    pub(crate) async fn open(&self) -> Result<Terminal, u16> {
        let url = format!("{}/exec", self.url.replace("https://", "wss://"));
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", self.token.parse().unwrap());
        let protocol = "terminal.gitlab.com".parse().unwrap();
        headers.insert("sec-websocket-protocol", protocol);
        let stream = self.connect().await.expect("the session server");
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Terminal {
                socket,
                shown: String::new(),
            }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Terminal {
    /// Types a line.
    pub(crate) async fn types(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.socket.send(Message::binary(line)).await.unwrap();
    }

    /// What it shows until it has these words, which are not those that were typed.
    pub(crate) async fn shows(&mut self, words: &str) -> String {
        let waits = async {
            while !self.shown.contains(words) {
                if let Some((code, reason)) = self.next().await {
                    panic!("closed ({code} {reason}) after {:?}", self.shown);
                }
            }
        };
        timeout(PATIENCE, waits).await.expect(words);
        let end = self.shown.find(words).unwrap() + words.len();
        self.shown.drain(..end).collect()
    }

    /// Waits for its end: code and reason. What it showed before is in `shown`.
    pub(crate) async fn end(&mut self) -> (u16, String, String) {
        let waits = async {
            loop {
                if let Some((code, reason)) = self.next().await {
                    return (code, reason);
                }
            }
        };
        let (code, reason) = timeout(PATIENCE, waits).await.expect("the terminal's end");
        (code, reason, std::mem::take(&mut self.shown))
    }

    /// Whether it is still open after a moment in which nothing should come.
    pub(crate) async fn stays(&mut self, moment: Duration) -> bool {
        timeout(moment, async { while self.next().await.is_none() {} })
            .await
            .is_err()
    }

    async fn next(&mut self) -> Option<(u16, String)> {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                self.shown.push_str(&String::from_utf8_lossy(&bytes));
                None
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                Some((frame.code.into(), frame.reason.to_string()))
            }
            Some(Ok(_)) => None,
            None | Some(Err(_)) => Some((1006, String::new())),
        }
    }

    /// Closes it.
    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.ok();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
