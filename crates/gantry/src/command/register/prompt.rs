//! Questions on stderr, answers from stdin: a terminal, or a pipe with one answer a line (cli §2 "register").

use std::io::{BufRead as _, Write as _};

use gantry_config::short_token;

use crate::error::CliError;

/// Asks, or takes what was given.
#[derive(Debug)]
pub(super) struct Prompt {
    silent: bool,
}

/// What an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Something must be said.
    Needed,
    /// Something must be said, and what was given before is not shown.
    Secret,
    /// Nothing is an answer too.
    Optional,
}

impl Prompt {
    pub(super) fn new(silent: bool) -> Self {
        Self { silent }
    }

    /// Whether nobody is asked.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The answer, without blanks around it; an empty one stands for `current`. Asked again until it will do.
    pub(super) async fn ask(
        &self,
        key: &str,
        question: &str,
        current: Option<&str>,
        need: Need,
    ) -> Result<String, CliError> {
        let current = current.map(str::trim).unwrap_or_default();
        if self.silent {
            if current.is_empty() && need != Need::Optional {
                return Err(CliError::fatal(format!("The {key} needs to be entered"))
                    .hint(format!("--{key} gives it on the command line")));
            }
            return Ok(current.to_owned());
        }
        loop {
            let mut text = format!("{question}\n");
            if !current.is_empty() {
                let shown = if need == Need::Secret {
                    short_token(current)
                } else {
                    current
                };
                text.push_str(&format_args!("[{shown}]: ").to_string());
            }
            std::io::stderr().lock().write_all(text.as_bytes())?;
            let answer = read_line().await?.ok_or_else(|| {
                CliError::fatal(format!(
                    "The {key} needs to be entered: the input has ended"
                ))
                .hint(format!(
                    "--non-interactive and --{key} register without questions"
                ))
            })?;
            let answer = answer.trim();
            if !answer.is_empty() {
                return Ok(answer.to_owned());
            }
            if !current.is_empty() || need == Need::Optional {
                return Ok(current.to_owned());
            }
        }
    }
}

/// The next line of stdin; `None` at its end. Read aside, so that a signal is heard meanwhile.
async fn read_line() -> std::io::Result<Option<String>> {
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line)?;
        Ok((read > 0).then_some(line))
    })
    .await
    .map_err(std::io::Error::other)?
}
