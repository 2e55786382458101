//! The commands of the peer's helper (cli §2), for scripts and images that call `gitlab-runner-helper`. They do what the stages do, with
//! the same code; what a stage has in its request comes by flags and environment.

mod flags;
mod health_check;
mod proxy_exec;
mod read_logs;
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

use self::flags::Flags;
pub(crate) use self::{
    flags::{boolean, boolean_apart, is_lone_boolean, split},
    spec::Command,
};
use crate::{
    artifacts, cache, log,
    receive::Parallel,
    selection::{stand_in, variable},
};

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Why, if that has not been printed.
    pub(crate) text: Option<String>,
    /// Exit code.
    pub(crate) code: u8,
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self {
            text: Some(text),
            code: 1,
        }
    }
}

impl From<&str> for Failed {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<cache::CacheError> for Failed {
    fn from(error: cache::CacheError) -> Self {
        Self {
            text: (!error.told).then_some(error.text),
            code: 1,
        }
    }
}

/// Runs a command; `program` is what this program was called as.
pub(crate) fn run(
    command: &'static Command,
    args: Vec<OsString>,
    program: &str,
) -> Result<(), Failed> {
    let flags = Flags::parse(command, args, &variable)?;
    if flags.help {
        log::plain(&command.help(program));
        return Ok(());
    }
    flags.warnings.iter().for_each(|text| log::warning(text));
    stand_in(flags.for_variables());
    match command.name {
        "artifacts-uploader" => artifacts_uploader(&flags),
        "artifacts-downloader" => artifacts_downloader(&flags),
        "cache-archiver" => cache_archiver(&flags),
        "cache-extractor" => cache_extractor(&flags),
        "cache-init" => cache_init(&flags),
        "health-check" => health_check::run(&flags),
        "proxy-exec" => Err(proxy_exec::run(&flags)),
        "read-logs" => read_logs::run(&flags),
        name => Err(format!("{name}: this helper runs no native steps").into()),
    }
}

/// Whether transfers may be in ranges: by a feature flag of the job, or since it is said how many at a time.
fn in_ranges(flags: &Flags, feature: &str) -> bool {
    flags.given("concurrency").is_some()
        || variable(feature).is_some_and(|text| boolean(&text) == Some(true))
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
    let read = |flag: &str| {
        let path = flags.filled(flag);
        path.map(|path| {
            fs::read_to_string(path)
                .map_err(|error| Failed::from(format!("--{flag}: cannot read {path}: {error}")))
        })
        .transpose()
    };
    let missing: Vec<_> = ["url", "token"]
        .into_iter()
        .filter(|name| flags.filled(name).is_none())
        .map(|name| format!("--{name}"))
        .collect();
    if !missing.is_empty() {
        return Err(format!("Missing runner credentials ({})", missing.join(" and ")).into());
    }
    let Some(id) = u64::try_from(flags.integer("id")).ok().filter(|&id| id > 0) else {
        return Err("Missing build ID (--id)".into());
    };
    let coordinator = Coordinator {
        url: flags.text("url").into(),
        tls: TlsFiles {
            ca: read("tls-ca-file")?,
            cert: read("tls-cert-file")?,
            key: read("tls-key-file")?.map(Into::into),
        },
        user_agent: String::new(),
    };
    Ok((coordinator, id, flags.text("token").into()))
}

fn artifacts_uploader(flags: &Flags) -> Result<(), Failed> {
    let (coordinator, job_id, token) = credentials(flags)?;
    let text = |name: &str| flags.text(name).to_owned();
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
        timeout_seconds: flags.seconds("timeout"),
        response_header_timeout_seconds: flags.seconds("response-header-timeout"),
        provenance,
        variables: Vec::new(),
    };
    artifacts::upload::run_quietly(&request).map_err(Failed::from)
}

fn artifacts_downloader(flags: &Flags) -> Result<(), Failed> {
    let (coordinator, id, token) = credentials(flags)?;
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
        retries: u32::try_from(flags.count("retry")).unwrap_or(u32::MAX),
        retry_milliseconds: flags.seconds("retry-time").saturating_mul(1000),
        variables: Vec::new(),
    };
    let parallel = in_ranges(flags, "FF_USE_PARALLEL_ARTIFACT_TRANSFER");
    let parallel = parallel.then(|| {
        let number = |name: &str| flags.given(name).map(|_| flags.count(name));
        Parallel::new(number("concurrency"), number("chunk-size"))
    });
    let parallel = parallel.flatten();
    artifacts::download::run_quietly(&request, parallel).map_err(Failed::from)
}

/// Time limit of the requests of a cache, in seconds; the flag is in minutes. One that is not positive is the usual one (config-toml §8).
fn cache_timeout(flags: &Flags) -> u64 {
    u64::try_from(flags.integer("timeout"))
        .unwrap_or_default()
        .saturating_mul(60)
}

fn signed(url: &str) -> SignedUrl {
    SignedUrl {
        url: url.into(),
        headers: Vec::new(),
    }
}

/// The archive; refuses what neither cache command can do.
fn cache_file(flags: &Flags) -> Result<PathBuf, Failed> {
    for name in ["gocloud-url", "alternate-gocloud-url"] {
        if flags.filled(name).is_some() {
            return Err(format!(
                "--{name} is not supported: this helper takes signed URLs only (--url)"
            )
            .into());
        }
    }
    match flags.filled("file") {
        Some(file) => Ok(here()?.join(file)),
        None => Err("Missing cache file (--file)".into()),
    }
}

fn cache_archiver(flags: &Flags) -> Result<(), Failed> {
    let file = cache_file(flags)?;
    let here = here()?;
    let mut put = flags.filled("url").map(signed);
    if let Some(put) = &mut put {
        for header in flags.list("header") {
            let Some((name, value)) = header.split_once(':') else {
                return Err(format!(
                    "cache-archiver: invalid value for flag -header: {:?} has no colon; 'name: value' is needed",
                    // A value may be a secret, so only the begin is shown.
                    header.chars().take(20).collect::<String>()
                )
                .into());
            };
            put.headers.push(Header {
                name: name.trim().into(),
                value: value.trim().into(),
            });
        }
    }
    let entry = ArchiveCacheEntry {
        file,
        alternate_file: flags.filled("alternate-file").map(|file| here.join(file)),
        selection: selection(flags),
        put,
        check: flags.filled("check-url").map(signed),
        max_archive_size: flags.count("max-uploaded-archive-size"),
        metadata: metadata(flags)?,
        ..ArchiveCacheEntry::default()
    };
    let client = cache::client(cache_timeout(flags), None);
    cache::save::save(&here, &entry, &client)?;
    Ok(())
}

/// Of `--metadata`, else of `CACHE_METADATA` in the environment or the environment file.
fn metadata(flags: &Flags) -> Result<BTreeMap<String, String>, Failed> {
    let given = flags.filled("metadata").map(str::to_owned);
    let Some(text) = given.or_else(|| of_environment_file(flags.filled("env-file")?)) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(&text).map_err(|error| {
        format!("invalid value {text:?} for flag -metadata (or CACHE_METADATA): a JSON object with texts is needed: {error}").into()
    })
}

/// `CACHE_METADATA` of a dotenv file.
fn of_environment_file(path: &str) -> Option<String> {
    let file = fs::read_to_string(path)
        .inspect_err(|error| log::warning(&format!("cannot read the env file {path}: {error}")))
        .ok()?;
    file.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == "CACHE_METADATA")
        .map(|(_, value)| unquoted(value))
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
    let file = cache_file(flags)?;
    let source = |get: &str, head: &str| {
        Some(RemoteSource {
            get: signed(flags.filled(get)?),
            head: flags.filled(head).map(signed),
        })
    };
    let candidate = RestoreCandidate {
        file,
        remote: source("url", "head-url"),
        alternate: source("alternate-url", "alternate-head-url"),
        ..RestoreCandidate::default()
    };
    let client = cache::client(cache_timeout(flags), None);
    let parallel = in_ranges(flags, "FF_USE_PARALLEL_CACHE_TRANSFER");
    let parallel = parallel.then(cache::ranges).flatten();
    cache::restore::restore(&here()?, &candidate, &client, parallel)?;
    Ok(())
}

fn cache_init(flags: &Flags) -> Result<(), Failed> {
    if flags.rest.is_empty() {
        return Err("No arguments passed, at least 1 path is required.".into());
    }
    for path in flags.rest.iter().map(Path::new) {
        if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o777)) {
            log::line(
                log::Level::Error,
                "failed to chmod path",
                &[("error", format!("chmod {}: {error}", path.display()))],
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
}
