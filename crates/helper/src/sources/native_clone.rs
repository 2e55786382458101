//! `git clone` instead of `git init` and `git fetch` (`FF_USE_GIT_NATIVE_CLONE`, job-lifecycle §4.5).
//!
//! Git knows better than a fetch how to begin with nothing: it may take bundles that the server offers.

use std::path::Path;

use gantry_agent::SourcesRequest;

use super::{
    Remote, server,
    steps::{proactive, user_agent},
};
use crate::stage::{Stage, StageError, text};

/// The first version of git that clones a revision.
const VERSION: (u32, u32) = (2, 49);

/// Whether git is new enough; if so, that is said.
pub(super) fn is_possible(stage: &Stage) -> bool {
    let (major, minor) = VERSION;
    let possible = stage.git_is_at_least(major, minor);
    if possible {
        stage.print(&format!("Git version at least \"{major}.{minor}\"\n"));
    }
    possible
}

/// Clones without a checkout.
pub(super) fn run(
    stage: &Stage,
    request: &SourcesRequest,
    remote: &Remote,
    template: &Path,
    external: &Path,
) -> Result<(), StageError> {
    let what = match (request.git_ref.as_str(), request.depth) {
        ("", _) => String::new(),
        (name, 0) => format!(" for {name}"),
        (name, depth) => format!(" for {name} with git depth set to {depth}"),
    };
    stage.notice(&format!("Cloning repository{what}..."));
    // Where the server's address has to be rewritten, that is needed before there is a repository to read it from.
    let mut arguments = vec!["-c".into(), format!("include.path={}", text(external))];
    arguments.extend(words(request, remote, template));
    server::run(stage, None, arguments, "clone")
        .map_err(|error| error.about_flags("GIT_CLONE_EXTRA_FLAGS"))
}

fn words(request: &SourcesRequest, remote: &Remote, template: &Path) -> Vec<String> {
    let mut words = user_agent(request);
    words.extend(proactive(request, remote));
    words.extend(["clone".into(), "--no-checkout".into(), remote.url.clone()]);
    words.extend([
        text(&request.project_dir),
        "--template".into(),
        text(template),
    ]);
    if request.depth > 0 {
        words.extend(["--depth".into(), request.depth.to_string()]);
    }
    let name = &request.git_ref;
    if name.starts_with("refs/") {
        words.extend(["--revision".into(), name.clone()]);
    } else if !name.is_empty() {
        words.extend(["--branch".into(), name.clone()]);
    }
    words.extend(request.clone_flags.iter().cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_says_what_is_cloned() {
        let words = |change: fn(&mut SourcesRequest)| {
            let mut request = SourcesRequest {
                project_dir: "/builds/g/p".into(),
                git_ref: "main".into(),
                ..SourcesRequest::default()
            };
            change(&mut request);
            super::words(
                &request,
                &Remote::parse("https://t:x@h/g/p.git"),
                Path::new("/t"),
            )
            .join(" ")
        };
        let start = "clone --no-checkout https://h/g/p.git /builds/g/p --template /t";
        assert_eq!(words(|_| {}), format!("{start} --branch main"));
        assert_eq!(
            words(|it| {
                it.depth = 20;
                it.git_ref = "refs/merge-requests/1/head".into();
                it.clone_flags = ["--reference-if-able", "/tmp/x"].map(String::from).to_vec();
            }),
            format!(
                "{start} --depth 20 --revision refs/merge-requests/1/head --reference-if-able /tmp/x"
            )
        );
        assert_eq!(
            words(|it| {
                it.git_ref.clear();
                it.user_agent = "gitlab-runner 1".into();
                it.proactive_auth = true;
            }),
            format!(
                "-c http.userAgent=gitlab-runner 1 -c http.https://h.proactiveAuth=basic {start}"
            )
        );
    }
}
