//! What a job and whoever serves its interactive terminal tell each other (docker-executor §7.7, job-lifecycle §1.1 row 10).
//!
//! The job says where its build container is; the terminal says whether somebody is connected. Neither waits for the other, but for
//! the end of a job whose container a terminal keeps.

use std::{fmt, sync::Arc, time::Duration};

use gantry_engine::SharedEngine;
use gantry_job::duration;
use gantry_shell::DETECT_LOGIN_SHELL;
use gantry_trace::Level;
use tokio::{sync::watch, time::Instant};

use crate::{StopReason, context::Context, start, walk::Walk};

/// Reads the settings of now: `session_timeout` takes effect at once (config-toml §1).
type ReadSettings = dyn Fn() -> TerminalSettings + Send + Sync;

/// What the configuration says of terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSettings {
    /// `session_timeout`: how long a terminal may keep a job that is over.
    pub timeout: Duration,
    /// `[gantry] terminal_after_script`: a connected terminal keeps the build container after the job's work.
    pub after_script: bool,
}

/// Where a job and the terminal of it meet. One for each job whose server was told of a session.
pub struct TerminalPort {
    place: watch::Sender<TerminalPlace>,
    connected: watch::Sender<bool>,
    dismissed: watch::Sender<Option<String>>,
    settings: Box<ReadSettings>,
}

/// What a terminal can be opened in.
#[derive(Debug, Clone, Default)]
pub enum TerminalPlace {
    /// Nothing yet.
    #[default]
    NotYet,
    /// The build container, which runs.
    Running(TerminalContainer),
    /// The build container ended, and will be started again for another stage.
    Between,
    /// Nothing more: no stage is left that runs in the build container.
    Over,
}

/// A running build container.
#[derive(Clone)]
pub struct TerminalContainer {
    /// Its engine.
    pub engine: SharedEngine,
    /// Its ID.
    pub id: String,
    /// What runs in a terminal.
    pub cmd: Vec<String>,
}

impl fmt::Debug for TerminalContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalContainer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Somebody is connected until this is dropped.
pub struct TerminalConnection {
    port: Arc<TerminalPort>,
}

/// The build container runs until this is dropped.
pub(crate) struct OpenPlace {
    port: Arc<TerminalPort>,
}

impl TerminalPort {
    /// Of a job that has not begun.
    pub fn new(settings: impl Fn() -> TerminalSettings + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            place: watch::Sender::default(),
            connected: watch::Sender::new(false),
            dismissed: watch::Sender::default(),
            settings: Box::new(settings),
        })
    }

    /// What a terminal can be opened in, from now on.
    pub fn place(&self) -> watch::Receiver<TerminalPlace> {
        self.place.subscribe()
    }

    /// Connects; `None` while somebody else is.
    pub fn connect(self: &Arc<Self>) -> Option<TerminalConnection> {
        let first = self
            .connected
            .send_if_modified(|connected| !std::mem::replace(connected, true));
        first.then(|| TerminalConnection {
            port: Arc::clone(self),
        })
    }

    /// Tells what a terminal can be opened in.
    pub fn tell(&self, place: TerminalPlace) {
        self.place.send_replace(place);
    }

    /// Wants the connection to end, if there is one.
    pub fn dismiss(&self, reason: String) {
        self.dismissed.send_replace(Some(reason));
    }

    /// Nobody speaks for the job any more. Where it had more to run, this is why a connection ends.
    pub fn let_go(&self, reason: &str) {
        if !matches!(*self.place.borrow(), TerminalPlace::Over) {
            self.dismiss(reason.to_owned());
            self.tell(TerminalPlace::Over);
        }
    }

    fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Tells that the container runs.
    fn open(self: &Arc<Self>, context: &Context, id: &str) -> OpenPlace {
        let container = TerminalContainer {
            engine: Arc::clone(&context.engine),
            id: id.to_owned(),
            cmd: command(context.plan.build.spec.cmd.as_deref()),
        };
        self.tell(TerminalPlace::Running(container));
        OpenPlace {
            port: Arc::clone(self),
        }
    }
}

impl TerminalConnection {
    /// Resolves when the job wants the connection to end; with the reason.
    pub async fn dismissed(&self) -> String {
        let mut dismissed = self.port.dismissed.subscribe();
        loop {
            if let Some(reason) = dismissed.borrow_and_update().clone() {
                return reason;
            }
            // The port is held, so that the sender is not gone.
            dismissed.changed().await.ok();
        }
    }
}

impl Drop for TerminalConnection {
    fn drop(&mut self) {
        self.port.connected.send_replace(false);
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.port.place.send_if_modified(|place| {
            let running = matches!(place, TerminalPlace::Running(_));
            if running {
                *place = TerminalPlace::Between;
            }
            running
        });
    }
}

/// What runs in a terminal of a container with this command: the shell of its scripts, as a login shell.
fn command(of_container: Option<&[String]>) -> Vec<String> {
    match of_container {
        Some([shell, ..]) if shell != "sh" => vec![shell.clone()],
        _ => ["sh", "-c", DETECT_LOGIN_SHELL].map(str::to_owned).into(),
    }
}

impl Context {
    /// Tells that the build container runs, for as long as the answer is kept.
    pub(crate) fn terminal_opens(&self, id: &str) -> Option<OpenPlace> {
        let port = self.terminal.as_ref()?;
        Some(port.open(self, id))
    }
}

impl Walk {
    /// A stage is over. Unless another one may run in the build container, so are terminals.
    pub(crate) fn tell_terminal(&self, more_scripts: bool) {
        if let Some(port) = &self.context.terminal
            && !more_scripts
            && self.container_to_keep().is_none()
        {
            port.tell(TerminalPlace::Over);
        }
    }

    /// The build container, if a terminal that is connected now keeps it.
    ///
    /// Only a container that does nothing of its own without a script: an entrypoint may be the user's code, which ran already.
    fn container_to_keep(&self) -> Option<String> {
        let port = self.context.terminal.as_ref()?;
        let may = (port.settings)().after_script
            && port.is_connected()
            && self.flow.shows()
            && self
                .prepared
                .as_ref()
                .is_some_and(|prepared| !prepared.build_entrypoint);
        self.build.clone().filter(|_| may)
    }

    /// The job's work is done. While a terminal is connected its build container is kept, as the scripts left it, for
    /// `session_timeout` or what is left of the job's time (cli §9).
    pub(crate) async fn wait_for_terminal(&self) {
        let Some(port) = &self.context.terminal else {
            return;
        };
        if let Some(id) = self.container_to_keep() {
            // No script is sent: the shell waits at its open stdin, and ends when that is closed.
            match start::start(&self.context, &id).await {
                Ok(started) => {
                    let place = port.open(&self.context, &id);
                    self.until_disconnected(port).await;
                    port.tell(TerminalPlace::Over);
                    drop((place, started));
                }
                Err(error) => {
                    tracing::warn!(container = id, %error, "the terminal's container cannot be started again");
                }
            }
        }
        port.tell(TerminalPlace::Over);
    }

    async fn until_disconnected(&self, port: &Arc<TerminalPort>) {
        let trace = &self.context.trace;
        let left = self.control.deadline() - Instant::now();
        let limit = (port.settings)().timeout.min(left);
        let shown = duration::format(Duration::from_secs_f64(limit.as_secs_f64().round()));
        let text = format!("Terminal is connected, will time out in {shown}...");
        trace.line_once("terminal-connected", Level::Info, &text);
        let mut connected = port.connected.subscribe();
        tokio::select! {
            biased;
            _ = connected.wait_for(|connected| !connected) => {
                trace.line_once("terminal-end", Level::Info, "Terminal disconnected");
            }
            () = tokio::time::sleep(limit) => {
                let text = format!("terminal session timed out (maximum time allowed - {shown})");
                trace.line_once("terminal-end", Level::Info, &text);
                port.dismiss(text);
            }
            reason = self.control.any_stop() => {
                if let StopReason::Interrupted { .. } = reason {
                    trace.line_once("terminal-end", Level::Info, "Terminal disconnected");
                }
                port.dismiss("build cancelled, killing session".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_shell_that_is_looked_for(Some(vec!["sh", "-c", "…"]), vec!["sh", "-c", DETECT_LOGIN_SHELL])]
    #[case::the_images_own_command(None, vec!["sh", "-c", DETECT_LOGIN_SHELL])]
    #[case::pwsh(Some(vec!["pwsh", "-NoProfile", "-EncodedCommand", "x"]), vec!["pwsh"])]
    fn a_terminal_runs_the_shell_of_the_scripts(
        #[case] cmd: Option<Vec<&str>>,
        #[case] runs: Vec<&str>,
    ) {
        let cmd = cmd.map(|cmd| cmd.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(command(cmd.as_deref()), runs);
    }

    #[test]
    fn one_is_connected_at_a_time() {
        let port = TerminalPort::new(|| TerminalSettings {
            timeout: Duration::from_secs(1800),
            after_script: false,
        });
        let first = port.connect().unwrap();
        assert!(port.connect().is_none());
        drop(first);
        assert!(port.connect().is_some());
    }
}
