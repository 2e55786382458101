//! Git's configuration as this program writes it: by itself, because every `git config` costs a process.
//!
//! | File | Holds | Read by |
//! |---|---|---|
//! | `<tmp>/git-template/config` | what a new `.git/config` is to say | `git init` |
//! | `<tmp>/.gitlab-runner.ext.conf` | credentials by helper, URL rewrites, extra headers | included from `.git/config`, also in the build container |
//! | `<tmp>/.glr.gconf` | what `~/.gitconfig` says, and the former | git of scripts anywhere, with `FF_GIT_URLS_WITHOUT_TOKENS` |
//! | `~/.gitconfig` | a marked block: `safe.directory`, TLS files of the server | git in this container, while the stage runs |
//!
//! No file ever holds a token (job-lifecycle §4.3 steps 3 and 8 to 12, §4.4; the peer writes it into URL rewrites unless
//! `FF_GIT_URLS_WITHOUT_TOKENS` is on).

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use gantry_agent::{SourcesRequest, TlsFiles};

use crate::{
    files,
    sources::Remote,
    stage::{Stage, text},
};

/// The variable that tells scripts and git where the included file is.
pub(crate) const EXTERNAL_VARIABLE: &str = "GLR_EXT_GIT_CONFIG_PATH";
/// Matches the included file among the values of `include.path`.
pub(crate) const EXTERNAL_PATTERN: &str = r"\.gitlab-runner\.ext\.conf$";

const BEGIN: &str = "# written by the runner for one stage: begin\n";
const END: &str = "# written by the runner for one stage: end\n";

/// Place of the included file.
pub(crate) fn external_path(tmp_dir: &Path) -> PathBuf {
    tmp_dir.join(".gitlab-runner.ext.conf")
}

/// Place of the template for `git init`.
pub(crate) fn template_path(tmp_dir: &Path) -> PathBuf {
    tmp_dir.join("git-template")
}

/// Place of the global configuration for scripts of the job (`FF_GIT_URLS_WITHOUT_TOKENS`).
pub(crate) fn for_scripts_path(tmp_dir: &Path) -> PathBuf {
    tmp_dir.join(".glr.gconf")
}

/// Text of that file: what git would have read, and the credentials. Files that are not there are no fault to git.
pub(crate) fn for_scripts(external: &Path) -> String {
    let mut config = Config::default();
    config
        .section("include", None)
        .set("path", "~/.gitconfig")
        .set("path", "~/.config/git/config")
        .set("path", &text(external));
    config.text
}

/// Lets a repository read the included file.
pub(crate) fn include(external: &Path) -> String {
    let mut config = Config::default();
    config.section("include", None).set("path", &text(external));
    config.text
}

/// Text of the template's `config`. A given remote stands in it, so that a new repository needs no `git remote add`.
pub(crate) fn template(remote: Option<&Remote>, external: &Path) -> String {
    let mut config = Config::default();
    config.section("init", None).set("defaultBranch", "none");
    config
        .section("fetch", None)
        .set("recurseSubmodules", "false");
    config
        .section("credential", None)
        .set("interactive", "never");
    config.section("gc", None).set("autoDetach", "false");
    if let Some(remote) = remote {
        config
            .section("remote", Some("origin"))
            .set("url", &remote.url)
            .set("fetch", "+refs/heads/*:refs/remotes/origin/*");
    }
    config.section("include", None).set("path", &text(external));
    config.text
}

/// Text of the included file.
pub(crate) fn external(request: &SourcesRequest, remote: &Remote) -> String {
    let mut config = Config::default();
    if let Some(id) = &request.correlation_id {
        config
            .section("http", None)
            .set("extraHeader", &format!("X-Gitaly-Correlation-ID: {id}"));
    }
    if request.bundle_uri {
        config.section("transfer", None).set("bundleURI", "true");
    }
    let mut seen = Vec::new();
    for base in &request.base_urls {
        if base.url != base.instead_of && !seen.contains(&base) {
            config
                .section("url", Some(&base.url))
                .set("insteadOf", &base.instead_of);
            seen.push(base);
        }
    }
    let mut hosts: Vec<&str> = Vec::new();
    for host in remote
        .http_host
        .iter()
        .chain(&request.credential_hosts)
        .filter(|_| !request.token.is_empty())
    {
        if hosts.contains(&host.as_str()) {
            continue;
        }
        hosts.push(host);
        // The empty one forgets helpers of other files, so that nobody stores the token.
        config
            .section("credential", Some(host))
            .set("helper", "")
            .set(
                "helper",
                "!f() { test \"$1\" = get && echo \"password=$CI_JOB_TOKEN\"; }; f",
            )
            .set("username", &request.username);
    }
    config.text
}

/// Text for `.git/config` of a repository whose own one was removed, enough to run git in it.
pub(crate) fn minimal(sha256: bool) -> String {
    let mut config = Config::default();
    if sha256 {
        config
            .section("core", None)
            .set("repositoryFormatVersion", "1");
        config
            .section("extensions", None)
            .set("objectFormat", "sha256");
    }
    config.text
}

/// The block in the global configuration. Gone, with the TLS files, when dropped.
pub(crate) struct Global {
    file: PathBuf,
    tls: PathBuf,
}

impl Global {
    /// Adds the block. Where the home directory cannot be written to, git is given another global file that includes it.
    pub(crate) fn install(
        stage: &mut Stage,
        safe_directories: &[String],
        lfs: bool,
        tls_files: Option<(&[&str], &TlsFiles)>,
    ) -> io::Result<Self> {
        let variable = |name: &str| {
            stage
                .environment
                .get(OsStr::new(name))
                .filter(|value| !value.is_empty())
        };
        let named = variable("GIT_CONFIG_GLOBAL").map(PathBuf::from);
        let home = variable("HOME").map(PathBuf::from);
        let tls = stage.private.join("tls");

        let mut config = Config::default();
        for dir in safe_directories {
            config.section("safe", None).set("directory", dir);
        }
        if lfs {
            // As `git lfs install` does, which an image may lack; without, `git lfs pull` leaves the files as they are.
            config
                .section("filter", Some("lfs"))
                .set("clean", "git-lfs clean -- %f")
                .set("smudge", "git-lfs smudge -- %f")
                .set("process", "git-lfs filter-process")
                .set("required", "true");
        }
        files::remove(&tls)?;
        if let Some((hosts, TlsFiles { ca, cert, key })) = tls_files {
            let given = [
                ("sslCAInfo", "ca.pem", ca.as_deref()),
                ("sslCert", "cert.pem", cert.as_deref()),
                (
                    "sslKey",
                    "key.pem",
                    key.as_ref().map(gantry_agent::Secret::expose),
                ),
            ];
            for (key, name, content) in given {
                let Some(content) = content else { continue };
                files::real_dir(&tls)?;
                let path = tls.join(name);
                files::write(&path, 0o600, content.as_bytes())?;
                for host in hosts {
                    config.section("http", Some(host)).set(key, &text(&path));
                }
            }
        }
        let block = format!("{BEGIN}{}{END}", config.text);

        let home = home.unwrap_or_else(|| {
            stage
                .environment
                .insert("HOME".into(), stage.private.clone().into());
            stage.private.clone()
        });
        let usual = named.unwrap_or_else(|| home.join(".gitconfig"));
        let before = fs::read_to_string(&usual).unwrap_or_default();
        if fs::write(&usual, joined(&before, &block)).is_ok() {
            return Ok(Self { file: usual, tls });
        }
        let own = stage.private.join("gitconfig");
        let mut include = Config::default();
        include.section("include", None).set("path", &text(&usual));
        files::write(&own, 0o600, joined(&include.text, &block).as_bytes())?;
        stage
            .environment
            .insert("GIT_CONFIG_GLOBAL".into(), own.clone().into());
        Ok(Self { file: own, tls })
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        // Both are in the container only, which ends with the job.
        if let Ok(content) = fs::read_to_string(&self.file) {
            fs::write(&self.file, without_block(&content)).ok();
        }
        files::remove(&self.tls).ok();
    }
}

fn joined(before: &str, block: &str) -> String {
    let mut content = without_block(before);
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    content.push_str(block);
    content
}

fn without_block(content: &str) -> String {
    match (content.find(BEGIN), content.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}", &content[..begin], &content[end + END.len()..])
        }
        _ => content.to_owned(),
    }
}

/// Text of a configuration file in the making.
#[derive(Debug, Default)]
struct Config {
    text: String,
}

impl Config {
    fn section(&mut self, name: &str, subsection: Option<&str>) -> &mut Self {
        // Writing to a string does not fail.
        match subsection {
            None => writeln!(self.text, "[{name}]").ok(),
            Some(subsection) => {
                writeln!(self.text, "[{name} \"{}\"]", quoted(subsection, true)).ok()
            }
        };
        self
    }

    fn set(&mut self, key: &str, value: &str) -> &mut Self {
        writeln!(self.text, "\t{key} = \"{}\"", quoted(value, false)).ok();
        self
    }
}

/// What stands between double quotes. Line breaks and zero bytes, which a subsection cannot hold and no URL or path here has a use
/// for, become blanks there; in values they are escaped.
fn quoted(value: &str, subsection: bool) -> String {
    let mut quoted = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' if !subsection => quoted.push_str("\\n"),
            '\n' | '\r' | '\0' => quoted.push(' '),
            _ => quoted.push(char),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn git_reads_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let mut config = Config::default();
        let odd = "a \"b\" \\ c; # d\te\n f ";
        config
            .section("url", Some("https://h/\"x\\]"))
            .set("insteadOf", odd);
        fs::write(&file, &config.text).unwrap();
        let output = Command::new("git")
            .args(["config", "-z", "-f"])
            .arg(&file)
            .args(["url.https://h/\"x\\].insteadOf"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{odd}\0"),
            "{output:?}"
        );
    }

    #[test]
    fn a_value_cannot_begin_a_section_of_its_own() {
        let request = SourcesRequest {
            correlation_id: Some("id\"\n[core]\n\tfsmonitor = evil".into()),
            ..SourcesRequest::default()
        };
        let text = external(&request, &Remote::parse("https://h/x.git"));
        assert!(
            !text.lines().any(|line| line.starts_with("[core]")),
            "{text}"
        );
        let text = external(
            &SourcesRequest {
                base_urls: vec![gantry_agent::BaseUrl {
                    url: "https://h\"]\n[core]\n".into(),
                    instead_of: "x".into(),
                }],
                ..SourcesRequest::default()
            },
            &Remote::parse("https://h/x.git"),
        );
        assert!(
            !text.lines().any(|line| line.starts_with("[core]")),
            "{text}"
        );
    }

    #[test]
    fn the_token_is_in_no_file() {
        let request = SourcesRequest {
            token: "s3cret".into(),
            ..SourcesRequest::default()
        };
        let remote = Remote::parse("https://gitlab-ci-token:s3cret@gitlab.example.com/a/b.git");
        let text = external(&request, &remote) + &template(Some(&remote), Path::new("/x"));
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains("[credential \"https://gitlab.example.com\"]"),
            "{text}"
        );
    }

    #[test]
    fn the_block_leaves_the_rest_of_the_file_alone() {
        let mine = "[user]\n\tname = me";
        let with = joined(mine, &format!("{BEGIN}[safe]\n{END}"));
        assert!(with.starts_with("[user]\n\tname = me\n#"));
        let again = joined(&with, &format!("{BEGIN}[other]\n{END}"));
        assert!(again.contains("[other]") && !again.contains("[safe]"));
        assert_eq!(without_block(&again), "[user]\n\tname = me\n");
    }
}
