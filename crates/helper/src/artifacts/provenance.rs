//! Where artifacts come from (`RUNNER_GENERATE_ARTIFACTS_METADATA`): an in-toto statement with a SLSA provenance predicate, version 1,
//! as a file of the project that goes into the archive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use gantry_agent::Provenance;
use gantry_archive::{Item, Items, Kind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::ArtifactError;
use crate::{PEER_VERSION, files, http::shown, log};

/// The one version of the predicate there is.
const SCHEMA: &str = "v1";

#[derive(Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    subject: Vec<Subject>,
    predicate: Predicate<'a>,
}

#[derive(Serialize)]
struct Subject {
    name: String,
    digest: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: BuildDefinition<'a>,
    run_details: RunDetails<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: String,
    external_parameters: BTreeMap<&'a str, &'a str>,
    internal_parameters: BTreeMap<&'static str, &'a str>,
    resolved_dependencies: Vec<Resource<'a>>,
}

#[derive(Serialize)]
struct Resource<'a> {
    uri: &'a str,
    digest: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct RunDetails<'a> {
    builder: Builder,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Builder {
    id: String,
    version: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "invocationID")]
    invocation_id: &'a str,
    #[serde(rename = "startedOn")]
    started_on: &'a str,
    #[serde(rename = "finishedOn")]
    finished_on: &'a str,
}

/// Writes `<name>-metadata.json` into the project and adds it to the items.
pub(super) fn add(
    root: &Path,
    name: &str,
    job: u64,
    wanted: &Provenance,
    items: &mut Items,
) -> Result<(), ArtifactError> {
    if !["", SCHEMA].contains(&wanted.schema_version.as_str()) {
        log::warning(&format!(
            "SLSA_PROVENANCE_SCHEMA_VERSION: there is no {:?}; the metadata is written as {SCHEMA}",
            shown(&wanted.schema_version)
        ));
    }
    let file = format!("{name}-metadata.json");
    let job = job.to_string();
    let statement = statement(root, &job, wanted, items, Path::new(&file))?;
    let failed =
        |error: io::Error| ArtifactError::new(format!("generating metadata: {file}: {error}"));
    let text = serde_json::to_vec_pretty(&statement).map_err(|error| failed(error.into()))?;
    let path = root.join(&file);
    files::write(&path, 0o644, &text).map_err(failed)?;
    // The same bytes in a later try: the time is that of the job.
    let seconds = unix_seconds(&wanted.ended_at);
    let written = File::open(&path).and_then(|file| {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
    });
    written.map_err(failed)?;
    items.look(root, Path::new(&file)).map_err(failed)
}

/// Fields and their order are those of the peer's documentation.
fn statement<'a>(
    root: &Path,
    job: &'a str,
    wanted: &'a Provenance,
    items: &Items,
    own: &Path,
) -> Result<Statement<'a>, ArtifactError> {
    let mut subject = Vec::new();
    let is_subject = |item: &Item| item.kind == Kind::File && item.path() != own;
    for item in items.iter().filter(is_subject) {
        let digest = sha256(&root.join(item.path())).map_err(|error| {
            ArtifactError::new(format!(
                "generating metadata: {}: {error}",
                item.path().display()
            ))
        })?;
        subject.push(Subject {
            name: item.path().display().to_string(),
            digest: BTreeMap::from([("sha256", digest)]),
        });
    }
    let mut parameters: BTreeMap<&str, &str> = wanted
        .parameters
        .iter()
        .map(|name| (&name[..], ""))
        .collect();
    let repo_url = &wanted.repo_url[..];
    let project = repo_url.strip_suffix(".git").unwrap_or(repo_url);
    parameters.insert("source", project);
    parameters.insert("entryPoint", &wanted.job_name);
    let version = format!("v{PEER_VERSION}");
    Ok(Statement {
        kind: "https://in-toto.io/Statement/v0.1",
        predicate_type: "https://slsa.dev/provenance/v1",
        subject,
        predicate: Predicate {
            build_definition: BuildDefinition {
                build_type: format!(
                    "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/{version}/PROVENANCE.md"
                ),
                external_parameters: parameters,
                internal_parameters: BTreeMap::from([
                    ("architecture", architecture()),
                    ("executor", &wanted.executor_name[..]),
                    ("job", job),
                    ("name", &wanted.runner_name),
                ]),
                resolved_dependencies: vec![Resource {
                    uri: project,
                    digest: BTreeMap::from([("sha256", &wanted.repo_digest[..])]),
                }],
            },
            run_details: RunDetails {
                builder: Builder {
                    id: format!("{project}/-/runners/{}", wanted.runner_id),
                    version: BTreeMap::from([("gitlab-runner", version)]),
                },
                metadata: Metadata {
                    invocation_id: job,
                    started_on: &wanted.started_at,
                    finished_on: &wanted.ended_at,
                },
            },
        },
    })
}

/// Of the machine the job ran on, as Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Seconds since 1970 of `2026-11-24T12:00:00Z` (an offset is left out of account); 0 for anything else.
fn unix_seconds(text: &str) -> u64 {
    let number =
        |from: usize, to: usize| text.get(from..to).and_then(|text| text.parse::<i64>().ok());
    let read = || {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use gantry_archive::{Wanted, select};

    use super::*;

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(unix_seconds("2009-02-13T23:31:30Z"), 1_234_567_890);
        assert_eq!(unix_seconds("2009-02-13T23:31:30.5+00:00"), 1_234_567_890);
        assert_eq!(unix_seconds("soon"), 0);
    }

    #[test]
    fn the_statement_is_that_of_the_documentation() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        fs::write(dir.path().join("dir/a"), "x").unwrap();
        let wanted = Provenance {
            runner_id: "12".into(),
            repo_url: "https://h/g/p.git".into(),
            repo_digest: "abc".into(),
            job_name: "build".into(),
            executor_name: "docker".into(),
            runner_name: "shelf".into(),
            started_at: "2009-02-13T23:30:00Z".into(),
            ended_at: "2009-02-13T23:31:30Z".into(),
            schema_version: "v1".into(),
            parameters: vec!["SECRET".into(), "CI".into()],
        };
        let mut items = select(&Wanted {
            root: dir.path(),
            paths: &["dir".into()],
            exclude: &[],
            untracked: None,
        })
        .items;
        add(dir.path(), "art*", 77, &wanted, &mut items).unwrap();
        let paths: Vec<_> = items.iter().map(|item| item.path().to_owned()).collect();
        assert_eq!(paths, ["art*-metadata.json", "dir", "dir/a"].map(Path::new));
        assert_eq!(items.iter().next().unwrap().mtime, 1_234_567_890);
        let text = fs::read_to_string(dir.path().join("art*-metadata.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let version = format!("v{PEER_VERSION}");
        assert_eq!(
            json,
            serde_json::json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v1",
                "subject": [{
                    "name": "dir/a",
                    "digest": {
                        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
                    },
                }],
                "predicate": {
                    "buildDefinition": {
                        "buildType": format!(
                            "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/{version}/PROVENANCE.md"
                        ),
                        "externalParameters": {
                            "CI": "", "SECRET": "", "entryPoint": "build", "source": "https://h/g/p",
                        },
                        "internalParameters": {
                            "architecture": architecture(), "executor": "docker", "job": "77", "name": "shelf",
                        },
                        "resolvedDependencies": [
                            {"uri": "https://h/g/p", "digest": {"sha256": "abc"}},
                        ],
                    },
                    "runDetails": {
                        "builder": {
                            "id": "https://h/g/p/-/runners/12", "version": {"gitlab-runner": version},
                        },
                        "metadata": {
                            "invocationID": "77",
                            "startedOn": "2009-02-13T23:30:00Z",
                            "finishedOn": "2009-02-13T23:31:30Z",
                        },
                    },
                },
            })
        );
        // Made again it is the same, and not a subject of itself.
        let before = text;
        add(dir.path(), "art*", 77, &wanted, &mut items).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("art*-metadata.json")).unwrap(),
            before
        );
        assert_eq!(items.len(), 3);
    }
}
