//! How a run is stopped: what signals mean one after the other.

use gantry_executor::Wish;

/// `SIGINT`, Ctrl-C.
pub const SIGINT: i32 = 2;
/// `SIGPIPE`, the sign that nobody reads the output any more.
pub(crate) const SIGPIPE: i32 = 13;

/// What is wanted of a run. Grows harder only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// Go on.
    #[default]
    Run,
    /// Stop the scripts, run `after_script`, remove everything (local-pipelines D6).
    Cancel,
    /// Stop everything without `after_script`, remove everything.
    Interrupt {
        /// The signal that asked for it.
        signal: i32,
    },
    /// Leave at once, whatever is left behind.
    Now,
}

impl Stop {
    /// After one more signal: Ctrl-C cancels, any other signal that ends programs interrupts, and
    /// one that asks for no more than is being done already means that it takes too long.
    #[must_use]
    pub fn after(self, signal: i32) -> Self {
        match (self, signal) {
            (Self::Run, SIGINT) => Self::Cancel,
            (Self::Run | Self::Cancel, signal) if signal != SIGINT => Self::Interrupt { signal },
            _ => Self::Now,
        }
    }

    /// What jobs are told.
    pub(crate) fn wish(self) -> Wish {
        match self {
            Self::Run => Wish::Run,
            Self::Cancel => Wish::Cancel,
            Self::Interrupt { signal } => Wish::Interrupt { signal },
            Self::Now => Wish::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TERM: i32 = 15;
    const HUP: i32 = 1;

    #[rstest]
    #[case::nothing(&[], Stop::Run)]
    #[case::ctrl_c(&[SIGINT], Stop::Cancel)]
    #[case::ctrl_c_twice(&[SIGINT, SIGINT], Stop::Now)]
    #[case::terminate(&[TERM], Stop::Interrupt { signal: TERM })]
    #[case::terminate_after_ctrl_c(&[SIGINT, TERM], Stop::Interrupt { signal: TERM })]
    #[case::terminate_twice(&[TERM, TERM], Stop::Now)]
    #[case::ctrl_c_after_terminate(&[HUP, SIGINT], Stop::Now)]
    #[case::more(&[SIGINT, SIGINT, TERM], Stop::Now)]
    fn signals_grow_harder(#[case] signals: &[i32], #[case] wanted: Stop) {
        let stop = signals
            .iter()
            .fold(Stop::Run, |stop, &signal| stop.after(signal));
        assert_eq!(stop, wanted);
    }
}
