//! The stages of a job and their names in the trace (job-lifecycle §1.2, coordinator-api §11).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One stage of a job. Written and read (also by serde) as its section name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// External secrets are fetched.
    ResolveSecrets,
    /// Images, volumes, networks, services.
    PrepareExecutor,
    /// The greeting of the helper.
    PrepareScript,
    /// The repository is fetched and checked out.
    GetSources,
    /// The work tree is wiped before the second attempt of [`Stage::GetSources`].
    ClearWorktree,
    /// Caches are restored.
    RestoreCache,
    /// Artifacts of earlier jobs are downloaded.
    DownloadArtifacts,
    /// One of the user's scripts, by the lower-cased name of its step, e.g. `script`.
    Step(String),
    /// The user's `after_script`.
    AfterScript,
    /// Caches are saved, the scripts having succeeded.
    ArchiveCache,
    /// Caches are saved, the scripts having failed.
    ArchiveCacheOnFailure,
    /// Artifacts are uploaded, the scripts having succeeded.
    UploadArtifactsOnSuccess,
    /// Artifacts are uploaded, the scripts having failed.
    UploadArtifactsOnFailure,
    /// File variables and the like are removed.
    CleanupFileVariables,
}

const STEP_PREFIX: &str = "step_";

/// Stages with a fixed name, and the title the trace shows.
const FIXED: [(Stage, &str, &str); 13] = [
    (
        Stage::ResolveSecrets,
        "resolve_secrets",
        "Resolving secrets",
    ),
    (
        Stage::PrepareExecutor,
        "prepare_executor",
        "Preparing the \"docker\" executor",
    ),
    (
        Stage::PrepareScript,
        "prepare_script",
        "Preparing environment",
    ),
    (
        Stage::GetSources,
        "get_sources",
        "Getting source from Git repository",
    ),
    (
        Stage::ClearWorktree,
        "clear_worktree",
        "Deleting all tracked and untracked files due to source fetch failure",
    ),
    (Stage::RestoreCache, "restore_cache", "Restoring cache"),
    (
        Stage::DownloadArtifacts,
        "download_artifacts",
        "Downloading artifacts",
    ),
    (Stage::AfterScript, "after_script", "Running after_script"),
    (
        Stage::ArchiveCache,
        "archive_cache",
        "Saving cache for successful job",
    ),
    (
        Stage::ArchiveCacheOnFailure,
        "archive_cache_on_failure",
        "Saving cache for failed job",
    ),
    (
        Stage::UploadArtifactsOnSuccess,
        "upload_artifacts_on_success",
        "Uploading artifacts for successful job",
    ),
    (
        Stage::UploadArtifactsOnFailure,
        "upload_artifacts_on_failure",
        "Uploading artifacts for failed job",
    ),
    (
        Stage::CleanupFileVariables,
        "cleanup_file_variables",
        "Cleaning up project directory and file based variables",
    ),
];

impl Stage {
    /// The stage of a step of the payload; `after_script` is a stage of its own.
    pub fn of_step(name: &str) -> Self {
        let name = name.to_lowercase();
        if name == crate::payload::AFTER_SCRIPT_STEP {
            Self::AfterScript
        } else {
            Self::Step(name)
        }
    }

    /// Name of the section in the trace, e.g. `get_sources` or `step_script`.
    pub fn section_name(&self) -> Cow<'static, str> {
        match self.fixed() {
            Ok((name, _)) => Cow::Borrowed(name),
            Err(step) => Cow::Owned(format!("{STEP_PREFIX}{step}")),
        }
    }

    /// Heading of the section in the trace, without colour.
    pub fn title(&self) -> Cow<'static, str> {
        match self.fixed() {
            Ok((_, title)) => Cow::Borrowed(title),
            Err(step) => Cow::Owned(format!(
                "Executing \"{STEP_PREFIX}{step}\" stage of the job script"
            )),
        }
    }

    /// Whether the scripts of the job are over when the stage begins.
    pub fn follows_scripts(&self) -> bool {
        matches!(
            self,
            Self::AfterScript
                | Self::ArchiveCache
                | Self::ArchiveCacheOnFailure
                | Self::UploadArtifactsOnSuccess
                | Self::UploadArtifactsOnFailure
                | Self::CleanupFileVariables
        )
    }

    /// Whether the stage runs the user's commands in the build container; all others are the
    /// helper's or the runner's own.
    pub fn is_user_script(&self) -> bool {
        matches!(self, Self::Step(_) | Self::AfterScript)
    }

    /// Name and title, or the name of the step.
    fn fixed(&self) -> Result<(&'static str, &'static str), &str> {
        if let Self::Step(step) = self {
            return Err(step);
        }
        // Every variant but `Step` is in the table (a test walks it).
        FIXED
            .iter()
            .find(|(stage, ..)| stage == self)
            .map(|(_, name, title)| (*name, *title))
            .ok_or("")
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.section_name())
    }
}

/// The text is the section name of no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown stage \"{0}\"")]
pub struct UnknownStage(pub String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        if let Some(step) = text.strip_prefix(STEP_PREFIX) {
            return Ok(Self::Step(step.to_owned()));
        }
        FIXED
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(stage, ..)| stage.clone())
            .ok_or_else(|| UnknownStage(text.to_owned()))
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.section_name())
    }
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_read_back_from_its_section_name() {
        for (stage, name, _) in FIXED {
            assert_eq!(stage.section_name(), name);
            assert_eq!(name.parse(), Ok(stage.clone()));
            let json = serde_json::to_string(&stage).unwrap();
            assert_eq!(serde_json::from_str::<Stage>(&json).unwrap(), stage);
        }
        assert_eq!(
            "nothing".parse::<Stage>(),
            Err(UnknownStage("nothing".into()))
        );
    }

    #[test]
    fn steps_are_named_after_their_lower_cased_name() {
        let stage = Stage::of_step("Release");
        assert_eq!(stage.section_name(), "step_release");
        assert_eq!(
            stage.title(),
            "Executing \"step_release\" stage of the job script"
        );
        assert_eq!("step_release".parse(), Ok(stage));
        assert_eq!(Stage::of_step("after_script"), Stage::AfterScript);
    }

    #[test]
    fn no_stage_is_without_a_name() {
        use Stage::*;
        // Exhaustive, so that a new stage must come here and into the table.
        let all = [
            ResolveSecrets,
            PrepareExecutor,
            PrepareScript,
            GetSources,
            ClearWorktree,
            RestoreCache,
            DownloadArtifacts,
            AfterScript,
            ArchiveCache,
            ArchiveCacheOnFailure,
            UploadArtifactsOnSuccess,
            UploadArtifactsOnFailure,
            CleanupFileVariables,
        ];
        for stage in &all {
            match stage {
                ResolveSecrets
                | PrepareExecutor
                | PrepareScript
                | GetSources
                | ClearWorktree
                | RestoreCache
                | DownloadArtifacts
                | AfterScript
                | ArchiveCache
                | ArchiveCacheOnFailure
                | UploadArtifactsOnSuccess
                | UploadArtifactsOnFailure
                | CleanupFileVariables => assert!(stage.fixed().is_ok(), "{stage:?}"),
                Step(_) => unreachable!("not in the list"),
            }
        }
    }
}
