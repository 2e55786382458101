//! What operators see: metrics, debug pages, status, the process log (cli §5 to §7).

mod callers;
mod dashboards;
mod exposition;
mod log;
mod metrics;
mod status;

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Config, Runner, until};
use exposition::Exposition;
pub(crate) use status::report;

/// An address of this machine that nobody else has.
const ANY_PORT: &str = "listen_address = \"127.0.0.1:0\"";

/// An answer of the metrics port.
#[derive(Debug)]
struct Page {
    /// Status line and headers, lower case.
    head: String,
    body: String,
}

impl Page {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Self {
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    fn assert_status(&self, status: u16) {
        let begin = format!("http/1.1 {status} ");
        assert!(self.head.starts_with(&begin), "{self:?}");
    }
}

/// Where the program says that it serves metrics.
async fn metrics_address(runner: &Runner) -> SocketAddr {
    until("the metrics server", async || {
        let log = runner.log().text();
        let line = log
            .lines()
            .find(|line| line.contains("Metrics server listening"))?;
        line.split("address=").nth(1)?.trim().parse().ok()
    })
    .await
}

/// Sends bytes and reads to the end.
async fn send(address: SocketAddr, bytes: &[u8]) -> Page {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Page::of(&answer)
}

async fn get(address: SocketAddr, path: &str) -> Page {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    send(address, request.as_bytes()).await
}

async fn scrape(address: SocketAddr) -> Exposition {
    let page = get(address, "/metrics").await;
    page.assert_status(200);
    Exposition::of(&page.body)
}

/// A folder with a configuration without runners: enough for what needs no engine.
fn idle_host(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("gantry-observed-")
        .tempdir()
        .unwrap();
    std::fs::write(folder.path().join("config.toml"), lines).unwrap();
    folder
}
