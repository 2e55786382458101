//! `health-check`: waits until a service takes connections. It has no end of its own; who started it sets one.

use std::{
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::Duration,
};

use super::{Failed, Flags};
use crate::log;

const CONNECT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(flags: &Flags) -> Result<(), Failed> {
    let mut address = None;
    let mut ports = [flags.list("port"), flags.list("p")].concat();
    let named = !ports.is_empty();
    // `<NAME>_TCP_ADDR`, `<NAME>_TCP_PORT`.
    for (name, value) in std::env::vars() {
        if name.ends_with("_TCP_ADDR") {
            address = Some(value);
        } else if name.ends_with("_TCP_PORT") && !named {
            ports.push(value);
        }
    }
    let address = match address {
        Some(address) => address,
        None if named => "localhost".into(),
        None => return Err("No HOST or PORT found".into()),
    };
    let ports: Vec<u16> = ports.iter().filter_map(|port| port.parse().ok()).collect();
    if ports.is_empty() {
        return Err("No HOST or PORT found".into());
    }
    log::plain(&format!(
        "waiting for TCP connection to {address} on {ports:?}...\n"
    ));
    loop {
        for &port in &ports {
            let Ok(found) = (&address[..], port).to_socket_addrs() else {
                continue;
            };
            for socket in found {
                log::plain(&format!("dialing {address}:{port}...\n"));
                match TcpStream::connect_timeout(&socket, CONNECT) {
                    Ok(_) => {
                        log::plain(&format!("dial succeeded on {address}:{port}. Exiting...\n"));
                        return Ok(());
                    }
                    Err(error) => log::plain(&format!("{error}\n")),
                }
            }
        }
        thread::sleep(PAUSE);
    }
}
