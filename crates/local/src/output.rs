//! What a person sees of a run: the logs of all jobs side by side, each line with its job's name.
//!
//! [`Printer`] writes, in its own task, so that a slow or stopped terminal holds no job up.
//! [`JobLines`] turns the bytes of one job's log into lines that may stand beside those of others:
//! on a terminal colours are kept and everything else that a terminal would act on is left out,
//! elsewhere only the text is. [`fold::Fold`] hides what is the same in every job.

mod ansi;
mod fold;
mod lines;
mod printer;

pub(crate) use lines::{JobLines, Label};
pub(crate) use printer::Printer;

/// Where the output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether it understands colours, and wants them: a terminal, and no `NO_COLOR`.
    pub colour: bool,
    /// Whether what the runner says before and after the scripts shows also where all is well.
    pub verbose: bool,
}

/// Kinds of text that differ on terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// It went well.
    Good,
    /// It went well enough.
    Odd,
    /// It failed.
    Bad,
    /// Less worth a look.
    Dim,
}

impl Style {
    /// The text, painted if that is wanted.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Odd => "33",
            Paint::Bad => "31",
            Paint::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
