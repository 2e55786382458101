//! What signals do to the process (cli §4), as a pure state machine.

use gantry_config::OnStop;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Polls and runs jobs.
    #[default]
    Running,
    /// No new jobs; running ones finish, without a time limit.
    Graceful,
    /// Running jobs are ended and reported within `shutdown_timeout`.
    Forceful {
        /// The signal that asked for it.
        signal: i32,
    },
    /// Running jobs stay as they are for the next start; nothing more is done to them.
    Detached,
    /// Out at once.
    Forced {
        /// The signal that asked for it.
        signal: i32,
    },
}

/// A signal the process reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Drain.
    Quit,
    /// Stop.
    Terminate,
    /// Stop, from a terminal.
    Interrupt,
    /// Reload the configuration.
    Hangup,
}

impl Signal {
    /// Its number.
    pub fn number(self) -> i32 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }

    /// Its name as the peer prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hangup => "hangup",
            Self::Interrupt => "interrupt",
            Self::Quit => "quit",
            Self::Terminate => "terminated",
        }
    }
}

impl Phase {
    /// The phase after a signal.
    #[must_use]
    pub fn after(self, signal: Signal, on_stop: OnStop) -> Self {
        let number = signal.number();
        match (self, signal) {
            (phase, Signal::Hangup) => phase,
            (Self::Running | Self::Graceful, Signal::Quit) => Self::Graceful,
            (Self::Running | Self::Graceful, Signal::Terminate | Signal::Interrupt) => {
                match on_stop {
                    OnStop::Detach => Self::Detached,
                    OnStop::Stop => Self::Forceful { signal: number },
                }
            }
            (Self::Forceful { .. } | Self::Detached | Self::Forced { .. }, _) => {
                Self::Forced { signal: number }
            }
        }
    }

    /// Whether jobs are left as they are, for the next process to take up.
    #[must_use]
    pub fn leaves_jobs(self) -> bool {
        matches!(self, Self::Detached | Self::Forced { .. })
    }

    /// Whether new jobs are asked for.
    #[must_use]
    pub fn polls(self) -> bool {
        self == Self::Running
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const FORCEFUL: Phase = Phase::Forceful { signal: 15 };

    #[rstest]
    #[case(Phase::Running, Signal::Quit, Phase::Graceful)]
    #[case(Phase::Graceful, Signal::Quit, Phase::Graceful)]
    #[case(Phase::Running, Signal::Terminate, FORCEFUL)]
    #[case(Phase::Graceful, Signal::Terminate, FORCEFUL)]
    #[case(Phase::Graceful, Signal::Interrupt, Phase::Forceful { signal: 2 })]
    #[case(FORCEFUL, Signal::Interrupt, Phase::Forced { signal: 2 })]
    #[case(FORCEFUL, Signal::Quit, Phase::Forced { signal: 3 })]
    #[case(Phase::Running, Signal::Hangup, Phase::Running)]
    #[case(FORCEFUL, Signal::Hangup, FORCEFUL)]
    fn signals_move_the_process(#[case] from: Phase, #[case] signal: Signal, #[case] to: Phase) {
        assert_eq!(from.after(signal, OnStop::Stop), to);
    }

    #[test]
    fn with_detach_a_stop_leaves_jobs_and_a_drain_still_drains() {
        assert_eq!(
            Phase::Running.after(Signal::Terminate, OnStop::Detach),
            Phase::Detached
        );
        assert_eq!(
            Phase::Running.after(Signal::Quit, OnStop::Detach),
            Phase::Graceful
        );
        assert_eq!(
            Phase::Graceful.after(Signal::Terminate, OnStop::Detach),
            Phase::Detached
        );
    }
}
