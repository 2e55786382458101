//! `[session_server]` (config-toml §3).

use std::time::Duration;

use crate::config::{HostPort, SessionServerConfig};
use crate::excerpt::Shown;
use crate::findings::Findings;
use crate::problem::ProblemKind;
use crate::tree::Tree;

/// Reads the section. Without `listen_address` nothing of it is looked at, as in the peer.
pub(super) fn section(tree: &Tree, findings: &mut Findings) -> SessionServerConfig {
    let default = SessionServerConfig::default();
    let session_timeout = tree
        .count("session_timeout")
        .map_or(default.session_timeout, Duration::from_secs);
    let mut problem = |name: &str, message: String| {
        let key = format!("session_server.{name}");
        findings.problem(
            ProblemKind::Value,
            tree.at(name),
            key,
            Shown::Plain,
            message,
        );
    };
    let Some(listen) = tree.text("listen_address") else {
        return SessionServerConfig {
            session_timeout,
            ..default
        };
    };
    let listen_address = match listen.parse::<HostPort>() {
        Ok(address) if address.port.is_some() => Some(address),
        Ok(_) => {
            let message = format!("{listen:?} has no port; expected host:port or :port");
            problem("listen_address", message);
            None
        }
        Err(why) => {
            let message = format!("{listen:?} is no address: {why}; expected host:port or :port");
            problem("listen_address", message);
            None
        }
    };
    let advertised = tree.text("advertise_address");
    let advertise_address = advertised.as_ref().and_then(|text| {
        let wrong = if text.contains("://") {
            format!("{text:?} has a scheme; expected host:port, GitLab always connects by https")
        } else {
            match text.parse::<HostPort>() {
                Ok(address) if address.host.is_empty() => {
                    format!("{text:?} names no host that GitLab could connect to")
                }
                Ok(address) => return Some(address),
                Err(why) => format!("{text:?} is no address: {why}; expected host:port"),
            }
        };
        problem("advertise_address", wrong);
        None
    });
    if advertised.is_none()
        && let Some(address) = &listen_address
        && address.host.is_empty()
    {
        let message = format!(
            "{listen:?} names no host that GitLab could connect to: set session_server.advertise_address"
        );
        problem("listen_address", message);
    }
    SessionServerConfig {
        listen_address,
        advertise_address,
        session_timeout,
    }
}
