//! The commands and their flags, each with the variable that stands in for it (cli §2).

use super::flags::Kind;

/// A flag: name, what it takes, variable.
pub(super) type Flag = (&'static str, Kind, &'static str);

/// All commands.
pub(super) const NAMES: [&str; 9] = [
    "artifacts-uploader",
    "artifacts-downloader",
    "cache-archiver",
    "cache-extractor",
    "cache-init",
    "health-check",
    "proxy-exec",
    "read-logs",
    "steps",
];

/// Who asks the coordinator.
const CREDENTIALS: [Flag; 6] = [
    ("url", Kind::Value, "CI_SERVER_URL"),
    ("token", Kind::Value, "CI_JOB_TOKEN"),
    ("id", Kind::Value, "CI_JOB_ID"),
    ("tls-ca-file", Kind::Value, "CI_SERVER_TLS_CA_FILE"),
    ("tls-cert-file", Kind::Value, "CI_SERVER_TLS_CERT_FILE"),
    ("tls-key-file", Kind::Value, "CI_SERVER_TLS_KEY_FILE"),
];

/// Which files.
const SELECTION: [Flag; 4] = [
    ("path", Kind::List, ""),
    ("exclude", Kind::List, ""),
    ("untracked", Kind::Bool, ""),
    ("verbose", Kind::Bool, ""),
];

const METER: Flag = (
    "transfer-meter-frequency",
    Kind::Value,
    "TRANSFER_METER_FREQUENCY",
);

/// Requests side by side.
const RANGES: [Flag; 2] = [
    ("concurrency", Kind::Value, ""),
    ("chunk-size", Kind::Value, ""),
];

/// Which cache, and how it is reached.
const CACHE: [Flag; 6] = [
    ("file", Kind::Value, ""),
    ("url", Kind::Value, ""),
    ("gocloud-url", Kind::Value, ""),
    ("timeout", Kind::Value, ""),
    ("env-file", Kind::Value, ""),
    ("transfer-buffer-size", Kind::Value, ""),
];

const ARTIFACTS_UPLOADER: [Flag; 18] = [
    ("name", Kind::Value, ""),
    ("expire-in", Kind::Value, ""),
    ("artifact-format", Kind::Value, ""),
    ("artifact-type", Kind::Value, ""),
    (
        "compression-level",
        Kind::Value,
        "ARTIFACT_COMPRESSION_LEVEL",
    ),
    ("timeout", Kind::Value, ""),
    ("response-header-timeout", Kind::Value, ""),
    ("ci-debug-trace", Kind::Bool, "CI_DEBUG_TRACE"),
    ("generate-artifacts-metadata", Kind::Bool, ""),
    ("runner-id", Kind::Value, ""),
    ("repo-url", Kind::Value, ""),
    ("repo-digest", Kind::Value, ""),
    ("job-name", Kind::Value, ""),
    ("executor-name", Kind::Value, ""),
    ("runner-name", Kind::Value, ""),
    ("started-at", Kind::Value, ""),
    ("ended-at", Kind::Value, ""),
    ("schema-version", Kind::Value, ""),
];

const ARTIFACTS_DOWNLOADER: [Flag; 4] = [
    ("direct-download", Kind::Bool, "FF_USE_DIRECT_DOWNLOAD"),
    ("retry", Kind::Value, ""),
    ("retry-time", Kind::Value, ""),
    ("archiver-staging-dir", Kind::Value, "ARCHIVER_STAGING_DIR"),
];

const CACHE_ARCHIVER: [Flag; 7] = [
    ("alternate-file", Kind::Value, ""),
    ("check-url", Kind::Value, ""),
    ("header", Kind::List, ""),
    ("metadata", Kind::List, ""),
    ("compression-level", Kind::Value, "CACHE_COMPRESSION_LEVEL"),
    (
        "compression-format",
        Kind::Value,
        "CACHE_COMPRESSION_FORMAT",
    ),
    ("max-uploaded-archive-size", Kind::Value, ""),
];

const CACHE_EXTRACTOR: [Flag; 4] = [
    ("alternate-url", Kind::Value, ""),
    ("alternate-gocloud-url", Kind::Value, ""),
    ("head-url", Kind::Value, ""),
    ("alternate-head-url", Kind::Value, ""),
];

/// Flags of a command.
pub(super) fn spec(name: &str) -> Vec<Flag> {
    let groups: &[&[Flag]] = match name {
        "artifacts-uploader" => &[
            &CREDENTIALS,
            &SELECTION,
            &ARTIFACTS_UPLOADER,
            &[METER, ("metadata-parameter", Kind::List, "")],
        ],
        "artifacts-downloader" => &[&CREDENTIALS, &ARTIFACTS_DOWNLOADER, &[METER], &RANGES],
        "cache-archiver" => &[&CACHE, &SELECTION, &CACHE_ARCHIVER, &[METER], &RANGES],
        "cache-extractor" => &[&CACHE, &CACHE_EXTRACTOR, &[METER], &RANGES],
        "proxy-exec" => &[&[
            ("bootstrap", Kind::Bool, ""),
            ("temp-dir", Kind::Value, "RUNNER_TEMP_PROJECT_DIR"),
        ]],
        "health-check" => &[&[("port", Kind::List, ""), ("p", Kind::List, "")]],
        _ => &[],
    };
    groups.concat()
}
