//! The git configuration of the job's copy: what describes the repository, and nothing that names
//! programs, files or credentials of this machine.

use std::fmt::Write as _;
use std::path::Path;

use tokio::process::Command;

use super::TreeError;
use crate::facts::{FactsError, git_command};

/// Settings of `core` that say how files of the tree compare with those of git.
const CORE: [&str; 10] = [
    "autocrlf",
    "eol",
    "ignorecase",
    "precomposeunicode",
    "protecthfs",
    "protectntfs",
    "safecrlf",
    "sparsecheckout",
    "sparsecheckoutcone",
    "symlinks",
];

/// The text of `.git/config` for a job.
pub(super) async fn for_job(root: &Path) -> Result<String, TreeError> {
    let mut command = Command::from(git_command(root));
    command
        .args(["config", "--local", "--list", "-z"])
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|source| FactsError::NoGit { source })?;
    // Without a configuration of its own a repository has that of the first version.
    let list = if output.status.success() {
        output.stdout
    } else {
        Vec::new()
    };
    Ok(config(&String::from_utf8_lossy(&list)))
}

/// `list` is what `git config --list -z` prints: `key LF value NUL`, in order.
fn config(list: &str) -> String {
    let settings = list
        .split('\0')
        .filter_map(|setting| setting.split_once('\n'));
    let version = settings
        .clone()
        .rfind(|(key, _)| *key == "core.repositoryformatversion")
        .map_or("0", |(_, value)| value);
    let mut text = String::from("[core]\n\tbare = false\n\tfilemode = true\n");
    line(&mut text, "repositoryformatversion", version);
    let mut section = String::from("[core]");
    for (key, value) in settings {
        let Some((head, name)) = kept(key) else {
            continue;
        };
        if head != section {
            text.push_str(&head);
            text.push('\n');
            section = head;
        }
        match name {
            "url" => line(&mut text, name, &without_credentials(value)),
            _ => line(&mut text, name, value),
        }
    }
    text
}

/// The head of the section of a setting that is kept, and its name there.
fn kept(key: &str) -> Option<(String, &str)> {
    let (section, rest) = key.split_once('.')?;
    let (subsection, name) = match rest.rsplit_once('.') {
        Some((subsection, name)) => (Some(subsection), name),
        None => (None, rest),
    };
    let keep = match (section, subsection) {
        ("core", None) => CORE.contains(&name),
        // Settings per worktree are put together with the rest, and no longer apart.
        ("extensions", None) => name != "worktreeconfig",
        ("remote", Some(_)) => {
            matches!(
                name,
                "url" | "fetch" | "tagopt" | "promisor" | "partialclonefilter"
            )
        }
        ("branch", Some(_)) => matches!(name, "remote" | "merge"),
        _ => false,
    };
    if !keep {
        return None;
    }
    let head = match subsection {
        Some(subsection) => format!("[{section} \"{}\"]", escaped(subsection)),
        None => format!("[{section}]"),
    };
    Some((head, name))
}

fn line(text: &mut String, name: &str, value: &str) {
    let value = escaped(value).replace('\n', "\\n").replace('\t', "\\t");
    // Writing to a text cannot fail.
    writeln!(text, "\t{name} = \"{value}\"").ok();
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A URL without the user and password of a web server. Other schemes carry no password that a
/// program could use, and SSH needs its user.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let web = ["http", "https", "ftp", "ftps"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) if web => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_configuration_describes_the_repository_and_nothing_else() {
        let list = [
            "core.repositoryformatversion\n1",
            "core.filemode\nfalse",
            "core.bare\ntrue",
            "core.worktree\n/home/me/src",
            "core.hookspath\n/home/me/hooks",
            "core.fsmonitor\n/home/me/spy",
            "core.sshcommand\nssh -i /home/me/key",
            "core.autocrlf\ninput",
            "extensions.objectformat\nsha256",
            "extensions.worktreeconfig\ntrue",
            "remote.origin.url\nhttps://me:token@git.example.com/acme/shop.git",
            "remote.origin.fetch\n+refs/heads/*:refs/remotes/origin/*",
            "remote.origin.proxy\nhttp://me:token@proxy",
            "remote.a \"b\\.c.url\ngit@git.example.com:acme/shop.git",
            "branch.feature/x.remote\norigin",
            "branch.feature/x.merge\nrefs/heads/feature/x",
            "http.extraheader\nAuthorization: Basic token",
            "credential.helper\nstore",
            "user.email\nme@example.com",
            "alias.x\n!rm -rf /",
            "core.ignorecase",
        ];
        assert_eq!(
            config(&(list.join("\0") + "\0")),
            r#"[core]
	bare = false
	filemode = true
	repositoryformatversion = "1"
	autocrlf = "input"
[extensions]
	objectformat = "sha256"
[remote "origin"]
	url = "https://git.example.com/acme/shop.git"
	fetch = "+refs/heads/*:refs/remotes/origin/*"
[remote "a \"b\\.c"]
	url = "git@git.example.com:acme/shop.git"
[branch "feature/x"]
	remote = "origin"
	merge = "refs/heads/feature/x"
"#
        );
    }

    #[rstest]
    #[case("https://me:a@b@host/x@y", "https://host/x@y")]
    #[case("HTTPS://token@host", "HTTPS://host")]
    #[case("https://host/a@b", "https://host/a@b")]
    #[case("ssh://git@host/x", "ssh://git@host/x")]
    #[case("git@host:x", "git@host:x")]
    #[case("/srv/git/x", "/srv/git/x")]
    fn web_urls_lose_their_credentials(#[case] url: &str, #[case] expected: &str) {
        assert_eq!(without_credentials(url), expected);
    }

    #[test]
    fn values_cannot_break_out_of_their_line() {
        let text = config("remote.o.url\na\"\n[core]\tx\\\0");
        assert!(
            text.ends_with("\turl = \"a\\\"\\n[core]\\tx\\\\\"\n"),
            "{text}"
        );
    }
}
