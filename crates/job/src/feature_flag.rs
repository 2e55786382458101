//! Feature flags: the peer's list, defaults and resolution (config-toml §9).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::variable::{Variable, Variables, parse_bool};

macro_rules! feature_flags {
    ($($variant:ident $name:literal $default:literal $doc:literal),* $(,)?) => {
        /// A feature flag. All flags of the peer are known, whether or not they mean anything
        /// here, because all are exported to the job.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FeatureFlag {
            $(#[doc = $doc] $variant,)*
        }

        impl FeatureFlag {
            /// All flags, in the order in which they are exported.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name, `FF_…`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Value where nobody says otherwise.
            pub const fn default_value(self) -> bool {
                match self { $(Self::$variant => $default,)* }
            }

            /// The flag of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

feature_flags! {
    NetworkPerBuild "FF_NETWORK_PER_BUILD" false "A bridge network per job instead of links.",
    UseDirectDownload "FF_USE_DIRECT_DOWNLOAD" true "First artifact download asks for object storage.",
    UseFastzip "FF_USE_FASTZIP" true "Parallel zip implementation.",
    DisableUmaskForDockerExecutor "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR" false "No `umask 0000` in the helper.",
    EnableBashExitCodeCheck "FF_ENABLE_BASH_EXIT_CODE_CHECK" false "Check the exit code after every command.",
    UseLegacyBashEval "FF_USE_LEGACY_BASH_EVAL" false "Script piped into eval.",
    ScriptSections "FF_SCRIPT_SECTIONS" false "Multi-line commands as collapsed sections.",
    EnableJobCleanup "FF_ENABLE_JOB_CLEANUP" false "Clean the project directory after the job.",
    PosixlyCorrectEscapes "FF_POSIXLY_CORRECT_ESCAPES" false "POSIX quoting; always the case here.",
    ResolveFullTlsChain "FF_RESOLVE_FULL_TLS_CHAIN" false "Complete CA chain (config only).",
    SecretResolvingFailsIfMissing "FF_SECRET_RESOLVING_FAILS_IF_MISSING" true "A missing secret fails the job.",
    UseDynamicTraceForceSendInterval "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL" false "Keepalive follows the update interval.",
    UseGitBundleUris "FF_USE_GIT_BUNDLE_URIS" true "`transfer.bundleURI=true`.",
    UseGitNativeClone "FF_USE_GIT_NATIVE_CLONE" false "`git clone` for the clone strategy.",
    UseInitWithDockerExecutor "FF_USE_INIT_WITH_DOCKER_EXECUTOR" false "`--init` for build and service containers.",
    LogImagesConfiguredForJob "FF_LOG_IMAGES_CONFIGURED_FOR_JOB" false "Image names in the runner's log.",
    CleanUpFailedCacheExtract "FF_CLEAN_UP_FAILED_CACHE_EXTRACT" false "Remove partly extracted caches.",
    Timestamps "FF_TIMESTAMPS" true "Timestamps in the trace.",
    DisableAutomaticTokenRotation "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION" false "Only warn before a token expires (config only).",
    MaskAllDefaultTokens "FF_MASK_ALL_DEFAULT_TOKENS" true "Mask all token prefixes of GitLab.",
    GitUrlsWithoutTokens "FF_GIT_URLS_WITHOUT_TOKENS" false "Credential helper instead of tokens in URLs.",
    UseGitalyCorrelationId "FF_USE_GITALY_CORRELATION_ID" true "Correlation id header on git requests.",
    UseGitProactiveAuth "FF_USE_GIT_PROACTIVE_AUTH" false "`http.proactiveAuth=basic`.",
    UseExponentialBackoffStageRetry "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY" true "Stage retries after 5 s to 5 min.",
    UseAdaptiveRequestConcurrency "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY" true "Adaptive `request_concurrency` (config only).",
    ExportHighCardinalityMetrics "FF_EXPORT_HIGH_CARDINALITY_METRICS" false "Histogram per stage.",
    HashCacheKeys "FF_HASH_CACHE_KEYS" false "SHA-256 of cache keys.",
    EnableJobInputsInterpolation "FF_ENABLE_JOB_INPUTS_INTERPOLATION" true "Expand `${{ job.inputs.x }}`.",
    UseParallelCacheTransfer "FF_USE_PARALLEL_CACHE_TRANSFER" false "Caches in parallel ranges.",
    UseParallelArtifactTransfer "FF_USE_PARALLEL_ARTIFACT_TRANSFER" false "Artifacts in parallel ranges.",
    UseLegacyS3CacheAdapter "FF_USE_LEGACY_S3_CACHE_ADAPTER" false "Old S3 adapter.",
    UseLegacyGcsCacheAdapter "FF_USE_LEGACY_GCS_CACHE_ADAPTER" false "Old GCS adapter.",
    UseNativeContainerStop "FF_USE_NATIVE_CONTAINER_STOP" false "Cancel by container stop alone.",
    ScriptToStepMigration "FF_SCRIPT_TO_STEP_MIGRATION" false "Scripts through the step runner.",
    Concrete "FF_CONCRETE" false "Scripts through the step runner.",
    UseJobRouter "FF_USE_JOB_ROUTER" false "Job requests over gRPC.",
    SuspendableEnvironments "FF_SUSPENDABLE_ENVIRONMENTS" false "Suspend and resume.",
    UseDockerAutoscalerDialStdio "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO" true "Autoscaler tunnel.",
    UseFleetingAcquireHeartbeats "FF_USE_FLEETING_ACQUIRE_HEARTBEATS" false "Check an instance before use.",
    UsePowershellPathResolver "FF_USE_POWERSHELL_PATH_RESOLVER" false "PowerShell.",
    DisablePowershellStdin "FF_DISABLE_POWERSHELL_STDIN" false "PowerShell.",
    UseWindowsLegacyProcessStrategy "FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY" false "Windows.",
    UseWindowsJobObject "FF_USE_WINDOWS_JOB_OBJECT" false "Windows.",
    UseLegacyKubernetesExecutionStrategy "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY" false "Kubernetes.",
    KubernetesHonorEntrypoint "FF_KUBERNETES_HONOR_ENTRYPOINT" false "Kubernetes.",
    UseAdvancedPodSpecConfiguration "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION" false "Kubernetes.",
    PrintPodEvents "FF_PRINT_POD_EVENTS" false "Kubernetes.",
    UseDumbInitWithKubernetesExecutor "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR" false "Kubernetes.",
    DisableUmaskForKubernetesExecutor "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR" false "Kubernetes.",
    WaitForPodToBeReachable "FF_WAIT_FOR_POD_TO_BE_REACHABLE" false "Kubernetes.",
    UsePodActiveDeadlineSeconds "FF_USE_POD_ACTIVE_DEADLINE_SECONDS" true "Kubernetes.",
    TestFeature "FF_TEST_FEATURE" false "Nothing; exported all the same.",
}

impl fmt::Display for FeatureFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const COUNT: usize = FeatureFlag::ALL.len();

/// The value of every flag for one job, or for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureFlags([bool; COUNT]);

impl Default for FeatureFlags {
    fn default() -> Self {
        let mut values = [false; COUNT];
        for flag in FeatureFlag::ALL {
            values[*flag as usize] = flag.default_value();
        }
        Self(values)
    }
}

impl FeatureFlags {
    /// Flags of a runner where no job is concerned: `[runners.feature_flags]`, else the default.
    pub fn of_runner(config: &BTreeMap<String, bool>) -> Self {
        Self::resolve(config, &Variables::new()).0
    }

    /// Flags of a job: `[runners.feature_flags]`, else the last variable of that name, else the
    /// default. The second part has one sentence per variable that is no boolean.
    ///
    /// `variables` are the entries of `[[runners]].environment` followed by those of the payload
    /// ([`crate::assemble::flag_sources`]). Unknown names in `config` are ignored.
    pub fn resolve(config: &BTreeMap<String, bool>, variables: &Variables) -> (Self, Vec<String>) {
        let mut flags = Self::default();
        let mut problems = Vec::new();
        for flag in FeatureFlag::ALL {
            if let Some(value) = config.get(flag.name()) {
                flags.set(*flag, *value);
                continue;
            }
            let raw = variables.value(flag.name());
            if raw.is_empty() {
                continue;
            }
            match parse_bool(raw) {
                Some(value) => flags.set(*flag, value),
                None => problems.push(format!(
                    "{flag}: could not parse feature flag, expected bool, got {raw}"
                )),
            }
        }
        (flags, problems)
    }

    /// Whether a flag is on.
    pub fn is_on(&self, flag: FeatureFlag) -> bool {
        self.0[flag as usize]
    }

    /// Sets one flag.
    pub fn set(&mut self, flag: FeatureFlag, on: bool) {
        self.0[flag as usize] = on;
    }

    /// Flags that differ from their default, for the header `  feature flags: A:true, B:false`.
    pub fn non_default(&self) -> Vec<(FeatureFlag, bool)> {
        FeatureFlag::ALL
            .iter()
            .map(|flag| (*flag, self.is_on(*flag)))
            .filter(|(flag, on)| *on != flag.default_value())
            .collect()
    }

    /// The flags as the job sees them: public variables of the runner, `true` or `false`.
    pub fn variables(&self) -> impl Iterator<Item = Variable> {
        FeatureFlag::ALL
            .iter()
            .map(|flag| Variable::internal_public(flag.name(), self.is_on(*flag).to_string()))
    }
}

/// A map of all names.
impl Serialize for FeatureFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            FeatureFlag::ALL
                .iter()
                .map(|flag| (flag.name(), self.is_on(*flag))),
        )
    }
}

/// Missing names have their default and unknown ones are ignored, so that the journal of another
/// version can be read.
impl<'de> Deserialize<'de> for FeatureFlags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, bool>::deserialize(deserializer)?;
        Ok(Self::of_runner(&values))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn resolve(config: &[(&str, bool)], variables: &[(&str, &str)]) -> (FeatureFlags, Vec<String>) {
        let config = config
            .iter()
            .map(|(name, on)| ((*name).to_owned(), *on))
            .collect();
        let variables = variables
            .iter()
            .map(|(key, value)| Variable::new(*key, *value))
            .collect();
        FeatureFlags::resolve(&config, &variables)
    }

    #[test]
    fn names_and_flags_belong_together() {
        for (index, flag) in FeatureFlag::ALL.iter().enumerate() {
            assert_eq!(*flag as usize, index);
            assert_eq!(FeatureFlag::from_name(flag.name()), Some(*flag));
            assert!(flag.name().starts_with("FF_"));
        }
        assert_eq!(FeatureFlag::from_name("FF_NO_SUCH_FLAG"), None);
    }

    #[rstest]
    #[case::default(&[], &[], true)]
    #[case::variable(&[], &[("FF_TIMESTAMPS", "0")], false)]
    #[case::last_variable_wins(&[], &[("FF_TIMESTAMPS", "0"), ("FF_TIMESTAMPS", "T")], true)]
    #[case::config_beats_the_job(&[("FF_TIMESTAMPS", false)], &[("FF_TIMESTAMPS", "true")], false)]
    #[case::empty_is_unset(&[], &[("FF_TIMESTAMPS", "")], true)]
    fn flag_is_resolved(
        #[case] config: &[(&str, bool)],
        #[case] variables: &[(&str, &str)],
        #[case] on: bool,
    ) {
        let (flags, problems) = resolve(config, variables);
        assert_eq!(flags.is_on(FeatureFlag::Timestamps), on);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn the_documentation_names_every_flag_with_its_default() {
        let page = include_str!("../../../docs/feature-flags.md");
        for flag in FeatureFlag::ALL {
            let name = flag.name();
            let row = format!("| `{name}` | {} |", flag.default_value());
            let elsewhere = page.split("These are for other").nth(1).unwrap();
            assert!(
                page.contains(&row) || elsewhere.contains(&format!("`{name}`")),
                "{name} is missing, or has another default"
            );
        }
    }

    #[test]
    fn unreadable_value_is_reported_once_and_the_default_stands() {
        let (flags, problems) =
            resolve(&[], &[("FF_TIMESTAMPS", "yes"), ("FF_TIMESTAMPS", "maybe")]);
        assert!(flags.is_on(FeatureFlag::Timestamps));
        assert_eq!(
            problems,
            ["FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe"]
        );
    }

    #[test]
    fn unreadable_value_does_not_matter_where_the_config_decides() {
        let (_, problems) = resolve(&[("FF_TIMESTAMPS", true)], &[("FF_TIMESTAMPS", "maybe")]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn only_flags_that_differ_are_for_the_header() {
        let (flags, _) = resolve(
            &[("FF_TIMESTAMPS", false), ("FF_USE_FASTZIP", true)],
            &[("FF_CONCRETE", "1")],
        );
        assert_eq!(
            flags.non_default(),
            [
                (FeatureFlag::Timestamps, false),
                (FeatureFlag::Concrete, true)
            ]
        );
    }

    #[test]
    fn flags_survive_the_journal() {
        let (flags, _) = resolve(&[("FF_TIMESTAMPS", false)], &[("FF_CONCRETE", "1")]);
        let json = serde_json::to_string(&flags).unwrap();
        assert_eq!(serde_json::from_str::<FeatureFlags>(&json).unwrap(), flags);
        let of_another_version: FeatureFlags =
            serde_json::from_str(r#"{"FF_TIMESTAMPS":false,"FF_OF_TOMORROW":true}"#).unwrap();
        assert!(!of_another_version.is_on(FeatureFlag::Timestamps));
    }

    #[test]
    fn all_flags_are_exported_with_their_value() {
        let variables: Vec<_> = FeatureFlags::default().variables().collect();
        assert_eq!(variables.len(), FeatureFlag::ALL.len());
        assert!(
            variables
                .iter()
                .all(|variable| variable.public && variable.internal)
        );
        let timestamps = variables
            .iter()
            .find(|variable| variable.key == "FF_TIMESTAMPS")
            .unwrap();
        assert_eq!(timestamps.value, "true");
    }
}
