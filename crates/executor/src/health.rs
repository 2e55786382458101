//! Whether services answer before the first script (docker-executor §6.5). One container for all services of a job, in the network of
//! the job, connects to their ports; no service fails the job, but for one that names no port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, future::select_all};
use gantry_container::{ContainerState, ContainerStatus, ImageInfo};
use gantry_engine::{
    EngineError, LogChunk, StdStream,
    events::{EventSubscription, HubEvent},
};
use gantry_job::Cause;
use gantry_plan::{PlannedService, ServiceCheck};
use gantry_trace::Level;
use tokio::time::{Instant, sleep_until};

use crate::{
    claim,
    context::Context,
    images,
    lanes::Lane,
    service_logs,
    start::{self, Started},
    tools::{self, HELPER_PATH, TOOLS_PATH},
};

/// Variable of a service that names the one port to look at.
const PORT_VARIABLE: &str = "HEALTHCHECK_TCP_PORT";
/// Ports looked at: the lowest.
const MOST_PORTS: usize = 20;
/// A check whose runner has died ends by itself, so much later than it should.
const ORPHAN: u64 = 60;
/// Lines kept of what goes wrong with one service.
const MOST_NOTES: usize = 100;

/// A service that has been started.
pub(crate) struct Candidate<'a> {
    pub(crate) service: &'a PlannedService,
    pub(crate) image: ImageInfo,
    pub(crate) state: ContainerState,
}

/// Why a service is not up.
enum Fault {
    /// It has ended.
    Ended { exit_code: i64, oom_killed: bool },
    /// It was removed.
    Removed,
    /// Nothing of it answered in time.
    TimedOut,
    /// The check ended with this code.
    CheckEnded(i64),
    /// The check could not be made.
    NotChecked(String),
}

/// Ports of a service to look at (docker-executor §6.4).
///
/// # Errors
/// Those of a service whose variable is no port.
pub(crate) fn ports(state: &ContainerState) -> Result<Vec<u16>, Cause> {
    let named = state
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(PORT_VARIABLE));
    let Some((_, value)) = named else {
        let lowest = state.tcp_ports.iter().take(MOST_PORTS);
        return Ok(lowest.copied().collect());
    };
    match value.parse::<u16>() {
        Ok(port) if port > 0 => Ok(vec![port]),
        _ => Err(Cause::Configuration {
            message: format!(
                "getting exposed ports: invalid health check tcp port: {value} (set {PORT_VARIABLE} of the service to a number from 1 to 65535)"
            ),
        }),
    }
}

/// Where a service is looked for: each of its addresses, each of its ports.
fn addresses(check: &ServiceCheck, state: &ContainerState, ports: &[u16]) -> Vec<SocketAddr> {
    let found: Vec<IpAddr> = if check.loopback {
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        let texts = state.addresses.values().flatten();
        texts.filter_map(|text| text.parse().ok()).collect()
    };
    let each = |address: &IpAddr| {
        let address = *address;
        ports
            .iter()
            .map(move |port| SocketAddr::new(address, *port))
    };
    found.iter().flat_map(each).collect()
}

/// Waits until the services answer, and tells of those that do not. Returns at once where nothing is to be waited for. With `again` an
/// earlier process or try may have begun it.
pub(crate) async fn check(
    context: &Context,
    candidates: &[Candidate<'_>],
    lane: &Lane,
    again: bool,
) -> Result<(), Cause> {
    let mut targets = BTreeMap::new();
    for (number, candidate) in candidates.iter().enumerate() {
        let ports = ports(&candidate.state)?;
        if candidate.state.status == ContainerStatus::Running
            && let Some(check) = &context.plan.service_check
        {
            let addresses = addresses(check, &candidate.state, &ports);
            if !addresses.is_empty() {
                targets.insert(number, addresses);
            }
        }
    }
    if context.plan.service_check.is_some() {
        let text = format!(
            "Waiting for services to be up and running (timeout {} seconds)...",
            context.plan.wait_for_services
        );
        lane.line("wait", Level::Print, &text);
    }
    let mut round = Round {
        context,
        candidates,
        lane,
        open: targets.keys().copied().collect(),
        targets,
        notes: BTreeMap::new(),
    };
    for (number, candidate) in candidates.iter().enumerate() {
        if candidate.state.status != ContainerStatus::Running {
            round.fails(number, Fault::of(&candidate.state)).await;
        }
    }
    if let (Some(check), false) = (&context.plan.service_check, round.open.is_empty()) {
        round.run(check, again).await?;
    }
    Ok(())
}

/// One check of the services of a job.
struct Round<'a> {
    context: &'a Context,
    candidates: &'a [Candidate<'a>],
    lane: &'a Lane,
    /// Service → where it is looked for.
    targets: BTreeMap<usize, Vec<SocketAddr>>,
    /// Services of which nothing is known yet.
    open: BTreeSet<usize>,
    /// Service → what the check said of it.
    notes: BTreeMap<usize, Vec<String>>,
}

impl Round<'_> {
    async fn run(&mut self, check: &ServiceCheck, again: bool) -> Result<(), Cause> {
        // Before the first look, so that no end is missed.
        let mut events: Vec<(usize, EventSubscription)> = self
            .open
            .iter()
            .map(|&number| {
                let id = &self.candidates[number].state.id;
                (number, self.context.events.subscribe(id))
            })
            .collect();
        for number in self.open.clone() {
            self.look(number).await?;
        }
        let numbers: Vec<usize> = self.targets.keys().copied().collect();
        let started = match self.start(check, again).await {
            Ok(started) => started,
            // Like everything else in the preparation it is tried again.
            Err((_, error)) if error.is_unreachable() => {
                return Err(self.context.cause("checking services", &error));
            }
            Err((what, error)) => {
                let text = format!("{what}: {error}");
                return self.rest_fails(|| Fault::NotChecked(text.clone())).await;
            }
        };
        let seconds = u64::try_from(self.context.plan.wait_for_services).unwrap_or_default();
        let until = sleep_until(Instant::now() + Duration::from_secs(seconds));
        tokio::pin!(until);
        let Started {
            attached,
            mut wait,
            events: _own,
        } = started;
        // Its stdin stays open; it does not read it.
        let mut output = attached.output;
        let _stdin = attached.stdin;
        let mut said = Said::default();
        let mut output_over = false;
        let mut ended = None;
        while !self.open.is_empty() {
            if let (Some(code), true) = (ended, output_over) {
                return self.rest_fails(|| Fault::CheckEnded(code)).await;
            }
            tokio::select! {
                biased;
                chunk = output.next(), if !output_over => match chunk {
                    Some(Ok(chunk)) => {
                        for line in said.lines(&chunk) {
                            self.heard(&numbers, chunk.stream, &line);
                        }
                    }
                    Some(Err(error)) => return Err(self.context.cause("checking services", &error)),
                    None => output_over = true,
                },
                result = &mut wait, if ended.is_none() => match result {
                    Ok(result) => ended = Some(result.exit_code),
                    Err(error) => return Err(self.context.cause("checking services", &error)),
                },
                (number, event) = next_event(&mut events) => match event {
                    HubEvent::Oom => {}
                    HubEvent::Die { .. } | HubEvent::Destroy | HubEvent::Reconnected => {
                        self.look(number).await?;
                    }
                },
                () = &mut until => return self.rest_fails(|| Fault::TimedOut).await,
            }
        }
        Ok(())
    }

    /// Starts the container that connects. What was tried is named with the error.
    async fn start(
        &self,
        check: &ServiceCheck,
        again: bool,
    ) -> Result<Started, (&'static str, EngineError)> {
        const CREATE: &str = "create service container";
        let engine = &self.context.engine;
        let binary = (self.context.environment.helper_binaries)(&self.context.facts.architecture)
            .map_err(|setting| (CREATE, EngineError::Setup(setting)))?;
        let failed = |error| (CREATE, error);
        engine
            .volume_create(&tools::volume(&binary))
            .await
            .map_err(failed)?;
        let mut spec = check.spec.clone();
        // Any image will do, and this one is there.
        if let Some(candidate) = self
            .targets
            .keys()
            .next()
            .map(|&first| &self.candidates[first])
        {
            let container = &candidate.service.container;
            spec.image = images::pinned(&candidate.image, &container.image.reference);
            spec.platform.clone_from(&container.spec.platform);
        }
        let seconds = u64::try_from(self.context.plan.wait_for_services).unwrap_or_default();
        let mut command = vec![
            "await-services".to_owned(),
            seconds.saturating_add(ORPHAN).to_string(),
        ];
        command.extend(self.targets.values().map(|addresses| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            texts.join(",")
        }));
        spec.entrypoint = Some(vec![HELPER_PATH.to_owned()]);
        spec.cmd = Some(command);
        spec.host
            .binds
            .push(format!("{}:{TOOLS_PATH}:ro", binary.volume_name()));
        let id = claim::create(engine, &check.name, &spec)
            .await
            .map_err(failed)?;
        tools::ensure(engine, &id, &spec.image, &binary, again)
            .await
            .map_err(failed)?;
        let started = start::start(self.context, &id).await;
        started.map_err(|error| ("start service container", error))
    }

    /// Takes in what the check says of a service.
    fn heard(&mut self, numbers: &[usize], stream: StdStream, line: &str) {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = first.parse::<usize>().ok();
        let Some(&number) = number.and_then(|place| numbers.get(place)) else {
            tracing::debug!(line, "check of services");
            return;
        };
        match stream {
            StdStream::Stdout => {
                self.open.remove(&number);
            }
            StdStream::Stderr => {
                let notes = self.notes.entry(number).or_default();
                if notes.len() < MOST_NOTES {
                    notes.push(format!("{} {rest}", jiff::Timestamp::now()));
                }
            }
        }
    }

    /// Asks the engine whether a service still runs.
    async fn look(&mut self, number: usize) -> Result<(), Cause> {
        if !self.open.contains(&number) {
            return Ok(());
        }
        let id = &self.candidates[number].state.id;
        let state = self.context.engine.container_inspect(id).await;
        match state.map_err(|error| self.context.cause("checking services", &error))? {
            Some(state) if state.status == ContainerStatus::Running => {}
            Some(state) => self.fails(number, Fault::of(&state)).await,
            None => self.fails(number, Fault::Removed).await,
        }
        Ok(())
    }

    async fn rest_fails(&mut self, fault: impl Fn() -> Fault) -> Result<(), Cause> {
        for number in self.open.clone() {
            self.fails(number, fault()).await;
        }
        Ok(())
    }

    /// Tells of a service that is not up.
    async fn fails(&mut self, number: usize, fault: Fault) {
        self.open.remove(&number);
        let candidate = &self.candidates[number];
        let name = &candidate.service.container.name;
        let mut notes = String::new();
        if matches!(fault, Fault::TimedOut | Fault::CheckEnded(_)) {
            for note in self.notes.remove(&number).unwrap_or_default() {
                notes.push_str(&note);
                notes.push('\n');
            }
        }
        let log = match fault {
            Fault::Removed => String::new(),
            _ => service_logs::text(self.context, &candidate.state.id).await,
        };
        let block = block(name, &fault.text(name), &notes, &log);
        self.lane.raw(&format!("service{number}"), &block);
    }
}

impl Fault {
    fn of(ended: &ContainerState) -> Self {
        Self::Ended {
            exit_code: ended.exit_code,
            oom_killed: ended.oom_killed,
        }
    }

    /// One sentence.
    fn text(&self, name: &str) -> String {
        match self {
            Self::Ended {
                exit_code,
                oom_killed: true,
            } => format!(
                "service {name:?} was killed: out of memory (exit code {exit_code}); raise service_memory in [runners.docker], or let it use less"
            ),
            Self::Ended { exit_code, .. } => format!(
                "service {name:?} has ended with exit code {exit_code}{}",
                advice(*exit_code).unwrap_or(
                    "; its log says why, often a variable that its image asks for is missing (`variables` of the service)"
                )
            ),
            Self::Removed => format!("service {name:?} was removed"),
            Self::TimedOut => format!("service \"{name}-wait-for-service\" timeout"),
            Self::CheckEnded(code) => {
                format!("service \"{name}-wait-for-service\" health check: exit code {code}")
            }
            Self::NotChecked(text) => text.clone(),
        }
    }
}

/// The next event of any of the services.
async fn next_event(events: &mut [(usize, EventSubscription)]) -> (usize, HubEvent) {
    let each = events.iter_mut().map(|(number, events)| {
        Box::pin(async move {
            match events.next().await {
                Some(event) => (*number, event),
                // Nobody tells any more: the check's own time will do.
                None => std::future::pending().await,
            }
        })
    });
    select_all(each).await.0
}

/// What a service's exit code tells of its end; `None`: only its log does.
pub(crate) fn advice(exit_code: i64) -> Option<&'static str> {
    match exit_code {
        0 => Some(", though a service has to go on running; look at its `command`"),
        126 => Some("; its command cannot be executed"),
        127 => Some("; its command is not in its image"),
        137 | 143 => Some("; somebody killed it"),
        _ => None,
    }
}

/// What the log says of a service that is not up (docker-executor §6.5).
fn block(name: &str, error: &str, check: &str, log: &str) -> String {
    let mut text = format!(
        "\n\x1b[0;33m*** WARNING:\x1b[0;m Service {name} probably didn't start properly.\n\nHealth check error:\n{error}\n\n"
    );
    if !check.is_empty() {
        text.push_str("Health check container logs:\n");
        text.push_str(check);
        text.push('\n');
    }
    text.push_str("Service container logs:\n");
    text.push_str(log);
    text.push_str("\n\x1b[0;33m*********\x1b[0;m\n\n");
    text
}

/// Whole lines out of pieces.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn lines(&mut self, chunk: &LogChunk) -> Vec<String> {
        let held = match chunk.stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        held.extend_from_slice(&chunk.bytes);
        let mut lines = Vec::new();
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests;
