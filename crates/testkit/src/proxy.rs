//! A forward proxy for HTTP: whole addresses for `http`, tunnels for `https`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy. Runs until dropped.
pub struct Proxy {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on `addr` that leads each of these names (`name:port`) to a place, and all others where they say.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn start(addr: SocketAddr, names: &[(&str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a free address");
        let addr = listener.local_addr().expect("an address");
        let names: Arc<[(String, SocketAddr)]> = names
            .iter()
            .map(|(name, place)| ((*name).to_owned(), *place))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (names, log) = (Arc::clone(&names), Arc::clone(&log));
                tokio::spawn(async move {
                    // An error is one end that went away.
                    lead(stream, &names, &log).await.ok();
                });
            }
        });
        Self { addr, asked, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The first lines of all connections so far, such as `CONNECT git.test:443 HTTP/1.1`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection; one request, if it is no tunnel.
async fn lead(
    stream: TcpStream,
    names: &[(String, SocketAddr)],
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let bad = || io::Error::other("no request for a proxy");
    let mut client = BufReader::new(stream);
    let mut first = String::new();
    client.read_line(&mut first).await?;
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(first.trim_end().to_owned());
    let [method, target, _] = first.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(bad());
    };
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && head != "\r\n" {
        if client.read_line(&mut head).await? == 0 {
            return Err(bad());
        }
    }
    let tunnel = method == "CONNECT";
    let (place, path) = if tunnel {
        (target.to_owned(), "")
    } else {
        let rest = target.strip_prefix("http://").ok_or_else(bad)?;
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = if place.contains(':') { "" } else { ":80" };
        (format!("{place}{port}"), path)
    };
    let known = names.iter().find(|(name, _)| *name == place);
    let mut server = match known {
        Some((_, place)) => TcpStream::connect(place).await?,
        None => TcpStream::connect(&place).await?,
    };
    if tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        // One request for each connection, so that the next one is led anew.
        let head: String = head
            .split_inclusive("\r\n")
            .filter(|line| {
                let name = line.split(':').next().unwrap_or_default();
                !["connection", "proxy-connection"].contains(&&*name.to_ascii_lowercase())
            })
            .collect();
        let path = if path.is_empty() { "/" } else { path };
        let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{head}");
        server.write_all(request.as_bytes()).await?;
    }
    let buffered = client.buffer().to_vec();
    server.write_all(&buffered).await?;
    let mut stream = client.into_inner();
    tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}
