//! The engine as an outsider sees it: through the `docker` command.

use std::net::Ipv4Addr;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// The engine under test.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    host: String,
}

impl Docker {
    /// The engine that the environment names.
    pub(crate) fn of_environment() -> Option<Self> {
        let host = match std::env::var("GANTRY_TEST_ENGINE").ok()?.as_str() {
            "1" => "unix:///var/run/docker.sock".to_owned(),
            host => host.to_owned(),
        };
        (!host.is_empty()).then_some(Self { host })
    }

    /// An engine at this endpoint.
    pub(crate) fn at(host: String) -> Self {
        Self { host }
    }

    /// Its endpoint, as `host` of a configuration.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Output of a `docker` command, or what it complained of.
    pub(crate) async fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .env("DOCKER_HOST", &self.host)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Output of a `docker` command that must succeed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        match self.attempt(arguments).await {
            Ok(output) => output,
            Err(error) => panic!("docker {arguments:?}: {error}"),
        }
    }

    /// Lines of output of a command that must succeed.
    pub(crate) async fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(arguments).await;
        output.lines().map(str::to_owned).collect()
    }

    /// What `docker inspect` says of an object, if it is there.
    pub(crate) async fn inspect(&self, name: &str) -> Option<Value> {
        let output = self.attempt(&["inspect", name]).await.ok()?;
        let mut found: Vec<Value> = serde_json::from_str(&output).expect("JSON of docker inspect");
        found.pop()
    }

    /// Address of the engine's default bridge, under which containers reach this machine.
    pub(crate) async fn bridge(&self) -> String {
        // Not every engine prints the gateway; it is the first address of the subnet.
        let format = "{{(index .IPAM.Config 0).Gateway}} {{(index .IPAM.Config 0).Subnet}}";
        let inspect = ["network", "inspect", "bridge", "--format", format];
        let found = self.run(&inspect).await;
        let (gateway, subnet) = found.trim_end().split_once(' ').unwrap_or_default();
        if !gateway.is_empty() {
            return gateway.to_owned();
        }
        let network = subnet.split('/').next().unwrap_or_default();
        let network: Ipv4Addr = network.parse().expect("the subnet of the default bridge");
        Ipv4Addr::from_bits(network.to_bits() + 1).to_string()
    }

    /// Removes what carries a label, by force and without a word: for tests that have failed already.
    pub(crate) fn sweep(&self, label: &str) {
        let filter = format!("label={label}");
        for (list, remove) in [
            (vec!["ps", "-aq"], vec!["rm", "-fv"]),
            (vec!["network", "ls", "-q"], vec!["network", "rm"]),
            (vec!["volume", "ls", "-q"], vec!["volume", "rm", "-f"]),
        ] {
            let docker = |arguments: &[&str]| {
                std::process::Command::new("docker")
                    .env("DOCKER_HOST", &self.host)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .output()
            };
            let found = docker(&[&list[..], &["--filter", &filter]].concat());
            let Ok(found) = found else { continue };
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            let ids: Vec<&str> = text.split_whitespace().collect();
            if !ids.is_empty() {
                docker(&[&remove[..], &ids].concat()).ok();
            }
        }
    }
}
