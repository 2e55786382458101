//! A Podman of a test's own.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// `podman system service` on a socket of its own, with storage, networks and a bridge of its own. Ends, with all its containers, with
/// the value.
///
/// One at a time on a machine: the bridge has one name and one subnet. Others wait in [`Podman::start`].
#[derive(Debug)]
pub struct Podman {
    process: Option<Child>,
    directory: TempDir,
    _alone: std::fs::File,
}

/// Longest wait for the service to answer; its first start on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian, Fedora and Arch keep what gives containers their network.
const NETAVARK: [&str; 3] = [
    "/usr/lib/podman/netavark",
    "/usr/libexec/podman/netavark",
    "/usr/local/libexec/podman/netavark",
];

impl Podman {
    /// Name and range of the bridge that containers without a network of their own are on.
    const BRIDGE: &str = "gantrypod0";
    const SUBNET: &str = "10.213.0.0/24";
    /// This machine, as containers on the bridge see it. The bridge is there only while a container is on it.
    pub const GATEWAY: &str = "10.213.0.1";

    /// Starts it.
    ///
    /// # Errors
    /// Why it cannot be had here: not root, not installed, not starting.
    ///
    /// # Panics
    /// Where a temporary folder cannot be written.
    pub async fn start() -> Result<Self, String> {
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Err(
                "a Podman of one's own needs root, for a bridge that reaches this machine"
                    .to_owned(),
            );
        }
        if !Command::new("podman")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            return Err("podman is not installed".to_owned());
        }
        if !NETAVARK.iter().any(|path| Path::new(path).exists()) {
            return Err(
                "netavark, which gives Podman's containers a network, is not installed".to_owned(),
            );
        }
        let alone = tokio::task::spawn_blocking(|| {
            let path = std::env::temp_dir().join("gantry-testkit-podman.lock");
            let file = std::fs::File::create(path)?;
            file.lock()?;
            Ok::<_, std::io::Error>(file)
        });
        let alone = alone
            .await
            .expect("a lock is no panic")
            .map_err(|error| error.to_string())?;
        let directory = tempfile::Builder::new()
            .prefix("gantry-podman-")
            .tempdir()
            .expect("a temporary folder");
        write_configuration(directory.path());
        let mut podman = Self {
            process: None,
            directory,
            _alone: alone,
        };
        podman.up().await?;
        Ok(podman)
    }

    /// Its endpoint, as `host` of a configuration.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("p.sock")
    }

    /// Starts the service again after [`Podman::down`].
    ///
    /// # Errors
    /// The last words of a service that ends, or that it does not answer.
    ///
    /// # Panics
    /// Where the log cannot be opened.
    pub async fn up(&mut self) -> Result<(), String> {
        let root = self.directory.path();
        let log = std::fs::File::create(root.join("log")).expect("a file in a temporary folder");
        let started = self
            .command(&["system", "service", "--time=0"])
            .arg(self.host())
            .stderr(log)
            .spawn();
        let process = started.map_err(|error| error.to_string())?;
        let process = self.process.insert(process);
        let end = Instant::now() + PATIENCE;
        loop {
            if answers(&root.join("p.sock")).await {
                return Ok(());
            }
            let ended = process.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > end {
                let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it says nothing");
                return Err(format!("podman does not answer: {last}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A `podman` on this storage.
    fn command(&self, arguments: &[&str]) -> Command {
        let root = self.directory.path();
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", root.join("containers.conf"))
            .arg("--root")
            .arg(root.join("root"))
            .arg("--runroot")
            .arg(root.join("run"))
            // Overlays cannot be stacked everywhere.
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Kills the service; containers run on, as Podman has no daemon.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // By the program itself: whoever kills a container's monitor leaves its mounts, and a clean-up that goes on.
        let mut remove = self.command(&["rm", "--all", "--force", "--time", "0"]);
        drop(remove.stderr(Stdio::null()).status());
        self.down();
        // A monitor stays for minutes after an exec; ours are those that name our folder.
        let ours = self.directory.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&ours) {
                let pid = process.file_name();
                drop(Command::new("kill").arg("-9").arg(pid).output());
            }
        }
        // Mounts keep the folder from being removed; inner ones come after outer ones.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().rev();
        let mounts = mounts.filter_map(|line| line.split(' ').nth(1));
        for mount in mounts.filter(|mount| mount.starts_with(&ours)) {
            drop(Command::new("umount").arg("-l").arg(mount).output());
        }
        drop(
            Command::new("ip")
                .args(["link", "delete", Self::BRIDGE])
                .output(),
        );
    }
}

fn write_configuration(root: &Path) {
    let write = |name: &str, text: &str| {
        std::fs::write(root.join(name), text).expect("a file in a temporary folder");
    };
    let networks = root.join("networks");
    std::fs::create_dir(&networks).expect("a folder in a temporary one");
    // Limits below those of this process: raising them may not be allowed here.
    let config = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        networks.display()
    );
    write("containers.conf", &config);
    let network = serde_json::json!({
        "name": "podman",
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": "bridge",
        "network_interface": Podman::BRIDGE,
        "created": "2024-01-01T00:00:00Z",
        "subnets": [{"subnet": Podman::SUBNET, "gateway": Podman::GATEWAY}],
        "ipv6_enabled": false,
        "internal": false,
        "dns_enabled": false,
        "ipam_options": {"driver": "host-local"},
    });
    write("networks/podman.json", &network.to_string());
}

/// Whether an engine answers on this socket.
async fn answers(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream
            .write_all(b"GET /_ping HTTP/1.0\r\nHost: podman\r\n\r\n")
            .await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(start.ends_with(b" 200"))
    };
    let asked = tokio::time::timeout(Duration::from_secs(5), ask).await;
    matches!(asked, Ok(Ok(true)))
}
