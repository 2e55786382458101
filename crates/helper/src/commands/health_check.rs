//! `health-check`: waits until a service takes connections. It has no end of its own; who started it sets one.

use std::{
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::Duration,
};

use super::{Failed, flags::Flags};
use crate::log;

const CONNECT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(flags: &Flags) -> Result<(), Failed> {
    let (address, ports) = wanted(&flags.list("port"), std::env::vars())?;
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

/// Where to look: ports as given, else those of `<NAME>_TCP_PORT`, at the address in `<NAME>_TCP_ADDR`.
fn wanted(
    given: &[String],
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(String, Vec<u16>), Failed> {
    let mut address = None;
    // What cannot be read has been refused.
    let mut ports: Vec<u16> = given.iter().filter_map(|port| port.parse().ok()).collect();
    for (name, value) in environment {
        if name.ends_with("_TCP_ADDR") && !value.is_empty() {
            address = Some(value);
        } else if name.ends_with("_TCP_PORT") && given.is_empty() {
            // Links of Docker have `tcp://…` in such names, too.
            ports.extend(value.parse::<u16>().ok().filter(|&port| port > 0));
        }
    }
    ports.sort_unstable();
    ports.dedup();
    match address {
        _ if ports.is_empty() => Err("No HOST or PORT found".into()),
        Some(address) => Ok((address, ports)),
        None if !given.is_empty() => Ok(("localhost".into(), ports)),
        None => Err("No HOST or PORT found".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_ports_come_from_flags_and_environment() {
        let none: &[(&str, &str)] = &[];
        let web = &[
            ("WEB_TCP_ADDR", "10.0.0.2"),
            ("WEB_TCP_PORT", "80"),
            ("ADMIN_TCP_PORT", "21"),
        ];
        let odd = &[
            ("A_TCP_ADDR", "10.0.0.2"),
            ("A_TCP_PORT", "tcp://10.0.0.2:80"),
            ("B_TCP_PORT", ""),
        ];
        for (given, environment, expected) in [
            (&[][..], none, None),
            (&["80"], none, Some(("localhost", &[80][..]))),
            (&["443", "80", "443"], web, Some(("10.0.0.2", &[80, 443]))),
            (&[], web, Some(("10.0.0.2", &[21, 80]))),
            (&[], odd, None),
            (&[], &web[1..], None),
        ] {
            let given: Vec<_> = given.iter().map(|&port| port.to_owned()).collect();
            let pairs = environment
                .iter()
                .map(|&(name, value)| (name.into(), value.into()));
            let expected = expected.map(|(address, ports)| (address.to_owned(), ports.to_vec()));
            assert_eq!(
                wanted(&given, pairs).ok(),
                expected,
                "{given:?} {environment:?}"
            );
        }
    }
}
