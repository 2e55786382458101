//! The commands of the peer's helper (cli §2), for scripts and images that call `gitlab-runner-helper`. They do what the stages do, with
//! the same code; what a stage has in its request comes by flags and environment.

mod flags;
mod health_check;
mod proxy_exec;
mod spec;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use gantry_agent::{
    ArchiveCacheEntry, ArtifactEntry, Coordinator, Dependency, DownloadArtifactsRequest, Header,
    Provenance, RemoteSource, RestoreCandidate, Selection, SignedUrl, TlsFiles,
    UploadArtifactsRequest,
};

pub(crate) use self::flags::boolean;
use self::{
    flags::Flags,
    spec::{NAMES, spec},
};
use crate::{artifacts, cache, log, receive::Parallel, selection::variable};

/// Whether a word is one of these commands.
pub(crate) fn is_command(name: &str) -> bool {
    NAMES.contains(&name)
}

/// More requests at a time than this do not make a transfer faster.
const MOST_REQUESTS: usize = 64;

/// A command that failed; why has been printed if there is no text.
pub(crate) struct Failed(pub(crate) Option<String>);

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl From<&str> for Failed {
    fn from(text: &str) -> Self {
        Self(Some(text.into()))
    }
}

/// Runs a command.
pub(crate) fn run(name: &str, args: Vec<OsString>) -> Result<(), Failed> {
    let asks_for_help = args
        .first()
        .is_some_and(|word| word == "--help" || word == "-help" || word == "-h");
    match name {
        _ if asks_for_help => {}
        "proxy-exec" => return Err(proxy_exec::run(args)),
        "read-logs" => {
            return Err("read-logs is of the Kubernetes executor, which Gantry has not".into());
        }
        "steps" => return Err("steps: this helper runs no native steps".into()),
        _ => {}
    }
    let flags = Flags::parse(name, &spec(name), args)?;
    if flags.help {
        log::plain(&flags::help(name, &spec(name)));
        return Ok(());
    }
    match name {
        "artifacts-uploader" => artifacts_uploader(&flags),
        "artifacts-downloader" => artifacts_downloader(&flags),
        "cache-archiver" => cache_archiver(&flags),
        "cache-extractor" => cache_extractor(&flags),
        "cache-init" => cache_init(&flags),
        _ => health_check::run(&flags),
    }
}

fn here() -> Result<PathBuf, Failed> {
    std::env::current_dir()
        .map_err(|error| format!("cannot tell the current directory: {error}").into())
}

fn selection(flags: &Flags) -> Selection {
    Selection {
        paths: flags.list("path"),
        exclude: flags.list("exclude"),
        untracked: flags.on("untracked"),
    }
}

/// Server, number and token of a job.
fn credentials(flags: &Flags) -> Result<(Coordinator, u64, String), Failed> {
    let read = |flag: &str| match flags.value(flag) {
        Some(path) if !path.is_empty() => fs::read_to_string(&path)
            .map(Some)
            .map_err(|error| Failed::from(format!("cannot read {path}: {error}"))),
        _ => Ok(None),
    };
    let url = flags.value("url").unwrap_or_default();
    let token = flags.value("token").unwrap_or_default();
    if url.is_empty() || token.is_empty() {
        return Err("Missing runner credentials".into());
    }
    let id = flags.value("id").unwrap_or_default();
    let Some(id) = id.parse().ok().filter(|&id| id > 0) else {
        return Err("Missing build ID".into());
    };
    let coordinator = Coordinator {
        url,
        tls: TlsFiles {
            ca: read("tls-ca-file")?,
            cert: read("tls-cert-file")?,
            key: read("tls-key-file")?.map(Into::into),
        },
        user_agent: String::new(),
    };
    Ok((coordinator, id, token))
}

fn artifacts_uploader(flags: &Flags) -> Result<(), Failed> {
    let (coordinator, job_id, token) = credentials(flags)?;
    let text = |name: &str| flags.value(name).unwrap_or_default();
    let entry = ArtifactEntry {
        name: text("name"),
        selection: selection(flags),
        format: text("artifact-format"),
        artifact_type: text("artifact-type"),
        expire_in: text("expire-in"),
    };
    let provenance = flags.on("generate-artifacts-metadata").then(|| Provenance {
        runner_id: text("runner-id"),
        repo_url: text("repo-url"),
        repo_digest: text("repo-digest"),
        job_name: text("job-name"),
        executor_name: text("executor-name"),
        runner_name: text("runner-name"),
        started_at: text("started-at"),
        ended_at: text("ended-at"),
        schema_version: text("schema-version"),
        parameters: flags.list("metadata-parameter"),
    });
    let request = UploadArtifactsRequest {
        folder: None,
        project_dir: here()?,
        coordinator,
        job_id,
        token: token.into(),
        entries: vec![entry],
        timeout_seconds: flags.seconds("timeout", 3600)?,
        response_header_timeout_seconds: flags.seconds("response-header-timeout", 600)?,
        provenance,
        variables: Vec::new(),
    };
    artifacts::upload::run_quietly(&request).map_err(|error| Failed(Some(error)))
}

fn artifacts_downloader(flags: &Flags) -> Result<(), Failed> {
    let (coordinator, id, token) = credentials(flags)?;
    let retries = flags.number("retry", 2)?;
    let request = DownloadArtifactsRequest {
        folder: None,
        project_dir: here()?,
        coordinator,
        dependencies: vec![Dependency {
            id,
            name: String::new(),
            token: token.into(),
        }],
        direct_download: flags.on("direct-download"),
        parallel_transfer: false,
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
        retry_milliseconds: flags.seconds("retry-time", 1)? * 1000,
        variables: Vec::new(),
    };
    artifacts::download::run_quietly(&request, parallel(flags)?)
        .map_err(|error| Failed(Some(error)))
}

/// Time limit of the requests of a cache, in seconds; the flag is in minutes. A negative one is the usual one (config-toml §8).
fn cache_timeout(flags: &Flags) -> Result<u64, Failed> {
    const MINUTES: u64 = 10;
    let is_negative = flags
        .value("timeout")
        .is_some_and(|text| text.parse::<i64>().is_ok_and(|minutes| minutes < 0));
    let minutes = if is_negative {
        MINUTES
    } else {
        flags.number("timeout", MINUTES)?
    };
    Ok(minutes.saturating_mul(60))
}

fn signed(url: &str) -> SignedUrl {
    SignedUrl {
        url: url.into(),
        headers: Vec::new(),
    }
}

/// Transfers in ranges, if more than one at a time is wanted.
fn parallel(flags: &Flags) -> Result<Option<Parallel>, Failed> {
    let requests = flags.number("concurrency", 0)?;
    let chunk = match flags.number("chunk-size", 0)? {
        0 => Parallel::USUAL.chunk,
        chunk => chunk,
    };
    let requests = usize::try_from(requests)
        .unwrap_or(usize::MAX)
        .min(MOST_REQUESTS);
    Ok((requests > 1).then_some(Parallel { requests, chunk }))
}

/// What both cache commands refuse.
fn check_cache(flags: &Flags) -> Result<PathBuf, Failed> {
    for name in ["gocloud-url", "alternate-gocloud-url"] {
        if flags.value(name).is_some_and(|url| !url.is_empty()) {
            return Err(format!(
                "--{name} is not supported: this helper takes signed URLs only (--url)"
            )
            .into());
        }
    }
    flags.number("transfer-buffer-size", 0)?;
    parallel(flags)?;
    match flags.value("file") {
        Some(file) if !file.is_empty() => Ok(here()?.join(file)),
        _ => Err("Missing cache file".into()),
    }
}

fn cache_archiver(flags: &Flags) -> Result<(), Failed> {
    let file = check_cache(flags)?;
    let here = here()?;
    let url = |name: &str| flags.value(name).filter(|url| !url.is_empty());
    let mut put = url("url").map(|url| signed(&url));
    if let Some(put) = &mut put {
        for header in flags.list("header") {
            let Some((name, value)) = header.split_once(':') else {
                continue;
            };
            put.headers.push(Header {
                name: name.trim().into(),
                value: value.trim().into(),
            });
        }
    }
    let entry = ArchiveCacheEntry {
        file,
        alternate_file: url("alternate-file").map(|file| here.join(file)),
        selection: selection(flags),
        put,
        check: url("check-url").map(|url| signed(&url)),
        max_archive_size: flags.number("max-uploaded-archive-size", 0)?,
        metadata: metadata(flags),
        ..ArchiveCacheEntry::default()
    };
    let client = cache::client(cache_timeout(flags)?, None);
    cache::save::save_as(
        &here,
        &entry,
        &client,
        flags.value("compression-format"),
        flags.value("compression-level"),
    )
    .map(drop)
    .map_err(|error| Failed((!error.told).then_some(error.text)))
}

/// Of `--metadata key:value`, else of `CACHE_METADATA` in the environment or the environment file.
fn metadata(flags: &Flags) -> BTreeMap<String, String> {
    let given: BTreeMap<String, String> = flags
        .list("metadata")
        .iter()
        .filter_map(|text| text.split_once(':'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect();
    if !given.is_empty() {
        return given;
    }
    let text = variable("CACHE_METADATA").or_else(|| {
        let file = fs::read_to_string(flags.value("env-file")?).ok()?;
        file.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| *key == "CACHE_METADATA")
            .map(|(_, value)| unquoted(value))
    });
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// A value of a dotenv file.
fn unquoted(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (char, false) => out.push(char),
        }
    }
    out
}

fn cache_extractor(flags: &Flags) -> Result<(), Failed> {
    let file = check_cache(flags)?;
    let source = |get: &str, head: &str| {
        let url = flags.value(get).filter(|url| !url.is_empty())?;
        let head = flags.value(head).filter(|url| !url.is_empty());
        Some(RemoteSource {
            get: signed(&url),
            head: head.map(|url| signed(&url)),
        })
    };
    let candidate = RestoreCandidate {
        file,
        remote: source("url", "head-url"),
        alternate: source("alternate-url", "alternate-head-url"),
        ..RestoreCandidate::default()
    };
    let client = cache::client(cache_timeout(flags)?, None);
    cache::restore::restore(&here()?, &candidate, &client, parallel(flags)?)
        .map(drop)
        .map_err(|error| Failed((!error.told).then_some(error.text)))
}

fn cache_init(flags: &Flags) -> Result<(), Failed> {
    if flags.rest.is_empty() {
        return Err("No arguments passed, at least 1 path is required.".into());
    }
    for path in &flags.rest {
        if let Err(error) = fs::set_permissions(Path::new(path), fs::Permissions::from_mode(0o777))
        {
            log::line(
                log::Level::Error,
                &format!("failed to chmod path: {error}"),
                &[("path", path.clone())],
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_value_is_read_as_it_was_written() {
        assert_eq!(
            unquoted(r#""{\"cachekey\":\"a\\nb\"}""#),
            r#"{"cachekey":"a\nb"}"#
        );
        assert_eq!(unquoted("plain"), "plain");
    }

    #[test]
    fn every_command_has_its_flags_and_help() {
        for name in NAMES {
            assert!(is_command(name));
            assert!(flags::help(name, &spec(name)).contains(name));
        }
        assert!(!is_command("agent"));
    }
}
