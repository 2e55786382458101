//! Parts of a payload that this version does not do yet. They fail the job by name: nothing a
//! pipeline asks for is dropped in silence.

use std::fmt;

use crate::cause::Cause;
use crate::payload::{Image, JobPayload, SecretProvider};

#[cfg(test)]
mod tests;

/// Something the job asks for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsupported {
    /// A keyword of the pipeline. `[gantry] ignore_unsupported` runs the job without it.
    Keyword {
        /// The keyword as pipelines spell it, e.g. `secrets`.
        keyword: &'static str,
        /// Where in the payload, e.g. `secret "DB"`.
        place: String,
    },
    /// Unknown keys of `executor_opts`. The peer refuses these too, so no setting ignores them.
    Options {
        /// The peer's sentence.
        message: String,
    },
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword { keyword, place } if *keyword == place => write!(f, "`{keyword}`"),
            Self::Keyword { keyword, place } => write!(f, "`{keyword}` ({place})"),
            Self::Options { message } => f.write_str(message),
        }
    }
}

/// The cause a job fails of for what was found, or `None` if it may run. `ignores` tells whether
/// `[gantry] ignore_unsupported` names a keyword.
pub fn refusal(found: &[Unsupported], ignores: impl Fn(&str) -> bool) -> Option<Cause> {
    let mut options = Vec::new();
    let mut keywords = Vec::new();
    for unsupported in found {
        match unsupported {
            Unsupported::Options { message } => options.push(message.as_str()),
            Unsupported::Keyword { keyword, .. } if ignores(keyword) => {}
            Unsupported::Keyword { .. } => keywords.push(unsupported.to_string()),
        }
    }
    if !options.is_empty() {
        return Some(Cause::UnsupportedOptions {
            message: options.join("\n"),
        });
    }
    (!keywords.is_empty()).then_some(Cause::Unsupported { keywords })
}

/// All parts of the job that this version does not do, in the order in which a job meets them.
pub fn unsupported_keywords(payload: &JobPayload) -> Vec<Unsupported> {
    let mut found = Vec::new();
    image_options(payload, &mut found);
    let mut keyword = |keyword, place: String| found.push(Unsupported::Keyword { keyword, place });

    for (name, source) in &payload.secrets {
        match source.provider() {
            // One without provider is no reason to fail, in the peer either (job-lifecycle §7).
            None | Some(SecretProvider::Vault) => {}
            Some(provider) => keyword("secrets", format!("secret {name:?} of {provider}")),
        }
    }
    if payload.run.is_some() {
        keyword("run", "run".to_owned());
    }
    if payload.suspend_options.suspend_on_success || payload.suspend_options.suspend_on_failure {
        keyword("suspend_options", "suspend_options".to_owned());
    }
    found
}

/// Unknown keys of `executor_opts`, of the image first.
fn image_options(payload: &JobPayload, found: &mut Vec<Unsupported>) {
    let images = payload
        .image
        .iter()
        .map(|image| ("image", image))
        .chain(payload.services.iter().map(|service| ("service", service)));
    for (section, image) in images {
        found.extend(
            option_messages(section, image)
                .into_iter()
                .map(|message| Unsupported::Options { message }),
        );
    }
}

/// The peer's sentences (coordinator-api §5).
fn option_messages(section: &str, image: &Image) -> Vec<String> {
    let opts = &image.executor_opts;
    [
        (&opts.unknown, "executor_opts", "docker kubernetes"),
        (&opts.docker.unknown, "docker executor", "platform user"),
        (&opts.kubernetes.unknown, "kubernetes executor", "user"),
    ]
    .into_iter()
    .filter(|(unknown, ..)| !unknown.is_empty())
    .map(|(unknown, executor, supported)| {
        let mut names = unknown.clone();
        names.sort_unstable();
        format!(
            "Unsupported \"{section}\" options [{}] for \"{executor}\"; supported options are [{supported}]",
            names.join(" ")
        )
    })
    .collect()
}
