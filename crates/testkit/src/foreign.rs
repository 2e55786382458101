//! Other people's servers: programs, each run as a process of a test's own.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

/// Longest wait for a program to listen; an interpreter on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server with a folder of its own. Ends with the value.
#[derive(Debug)]
pub struct ForeignServer {
    process: Child,
    folder: TempDir,
    ports: Vec<u16>,
}

impl ForeignServer {
    /// Starts the program that the environment variable names (`./dev servers` gets the programs and prints the variables), and waits
    /// until it listens on the first of so many free ports. `arrange` gets the command, the folder it runs in, and the ports.
    ///
    /// # Errors
    /// That the variable names no program: the reason for a test to be skipped.
    ///
    /// # Panics
    /// If the program cannot be started, or ends or stays silent instead of listening; its last words are in the message.
    pub async fn start(
        variable: &str,
        ports: usize,
        arrange: impl FnOnce(&mut Command, &Path, &[u16]),
    ) -> Result<Self, String> {
        let program = std::env::var_os(variable)
            .filter(|it| !it.is_empty())
            .ok_or_else(|| format!("{variable} names no program (`./dev servers` gets it)"))?;
        let folder = tempfile::Builder::new()
            .prefix("gantry-testkit-server-")
            .tempdir()
            .expect("a temporary folder");
        let ports = free_ports(ports);
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(&program);
        command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file twice"))
            .stderr(log);
        arrange(&mut command, folder.path(), &ports);
        let process = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut server = Self {
            process,
            folder,
            ports,
        };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))
            .await
            .is_err()
        {
            let ended = server.process.try_wait().is_ok_and(|it| it.is_some());
            assert!(
                !ended && Instant::now() < end,
                "{} does not listen: {}",
                program.display(),
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    /// Its ports, in the order in which `arrange` had them.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The folder it runs in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in that folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.file("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Ports that nobody listens on, from below the range that the system takes ports for outgoing connections and for `:0` from: those
/// may be gone before the program has come so far.
fn free_ports(count: usize) -> Vec<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let end = range
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|end| *end > 12_000)
        .unwrap_or(32_768_u16);
    let begin = end - 10_000;
    let mut found = Vec::new();
    // Held until all are found, so that none is found twice.
    let mut held = Vec::new();
    while found.len() < count {
        let port = begin + random_below(end - begin);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
            held.push(listener);
            found.push(port);
        }
    }
    found
}

fn random_below(end: u16) -> u16 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's random keys are randomness enough for ports.
    let word = std::hash::RandomState::new().build_hasher().finish();
    u16::try_from(word % u64::from(end)).unwrap_or_default()
}
