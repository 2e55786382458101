//! `gantry-helper await-services`: waits until services take connections (docker-executor §6.5). The main process of a container of its
//! own, beside the services in the network of the job.
//!
//! Each argument is a service: its addresses, joined by commas. One that answers is enough. Stdout gets the number of the argument, one
//! line each, when its service answers; stderr `NUMBER TEXT` for what goes wrong meanwhile, each thing once.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const COMMAND: &str = "await-services";

/// How long one try may take: an address that swallows what is sent to it.
const CONNECT: Duration = Duration::from_secs(1);
/// Pauses between tries: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A thread that connects needs little.
const STACK: usize = 64 * 1024;

enum Told {
    Up(usize),
    Trouble(usize, String),
}

/// What is asked: how long, and the addresses of each service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    limit: Duration,
    services: Vec<Vec<SocketAddr>>,
}

impl Arguments {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = args;
        let limit = args.next().and_then(|text| text.parse().ok());
        let limit = limit.ok_or_else(|| format!("{COMMAND}: the limit in seconds is missing"))?;
        let service = |text: String| {
            text.split(',')
                .map(|address| {
                    address
                        .parse()
                        .map_err(|_| format!("{COMMAND}: `{address}` is not ADDRESS:PORT"))
                })
                .collect()
        };
        Ok(Self {
            limit: Duration::from_secs(limit),
            services: args.map(service).collect::<Result<_, _>>()?,
        })
    }
}

/// Waits until all services answer, or until the limit, which is an error.
pub(crate) fn run(arguments: Arguments) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let count = arguments.services.len();
    for (number, addresses) in arguments.services.into_iter().enumerate() {
        let up = Arc::new(AtomicBool::new(false));
        for address in addresses {
            let (up, tell) = (Arc::clone(&up), tell.clone());
            thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || dial(number, address, &up, &tell))
                .map_err(|error| format!("{COMMAND}: cannot start a thread: {error}"))?;
        }
    }
    drop(tell);
    let until = Instant::now() + arguments.limit;
    let mut answered = 0;
    while answered < count {
        let rest = until.saturating_duration_since(Instant::now());
        let told = told
            .recv_timeout(rest)
            .map_err(|_| format!("{COMMAND}: {} of {count} did not answer", count - answered))?;
        let written = match told {
            Told::Up(number) => {
                answered += 1;
                writeln!(io::stdout(), "{number}")
            }
            Told::Trouble(number, text) => writeln!(io::stderr(), "{number} {text}"),
        };
        written.map_err(|error| format!("{COMMAND}: {error}"))?;
    }
    Ok(())
}

/// Tries one address until it, or another one of its service, answers.
fn dial(number: usize, address: SocketAddr, up: &AtomicBool, tell: &Sender<Told>) {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    while !up.load(Ordering::Relaxed) {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => {
                if !up.swap(true, Ordering::Relaxed) {
                    // Nobody listens any more when the limit is over.
                    tell.send(Told::Up(number)).ok();
                }
                return;
            }
            Err(error) if last != Some(error.kind()) => {
                last = Some(error.kind());
                let text = format!("dialing {address}: {error}");
                tell.send(Told::Trouble(number, text)).ok();
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn each_argument_is_a_service_with_its_addresses() {
        let found = parsed(&["30", "172.17.0.3:80,[fd00::3]:80", "127.0.0.1:5432"]).unwrap();
        assert_eq!(found.limit, Duration::from_secs(30));
        let texts: Vec<Vec<String>> = found
            .services
            .iter()
            .map(|addresses| addresses.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(
            texts,
            [
                vec!["172.17.0.3:80", "[fd00::3]:80"],
                vec!["127.0.0.1:5432"]
            ]
        );
    }

    #[test]
    fn what_is_no_address_or_no_limit_is_named() {
        for (args, message) in [
            (&["30", "web:80"][..], "`web:80` is not ADDRESS:PORT"),
            (&["30", ""], "`` is not ADDRESS:PORT"),
            (&["soon"], "the limit in seconds is missing"),
            (&[], "the limit in seconds is missing"),
        ] {
            let error = parsed(args).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
