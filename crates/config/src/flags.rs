//! Settings of a `[[runners]]` entry as command-line flags and environment variables (cli §3), derived from the table of keys.
//!
//! The rule: the flag is the path of the key with dashes (`runners.docker.image` → `--docker-image`), the variable the same in
//! capitals. The peer's exceptions are a table here. Keys that the commands have flags of their own for (name, url, token) and
//! tables that the peer has no flags for are left out.

use std::sync::LazyLock;

use crate::keys::{Key, Kind, ROOT, Section, Support};

/// A setting that can be given as a flag.
#[derive(Debug)]
pub struct Flag {
    /// Where it is in a `[[runners]]` entry: the key last, before it the tables it is in.
    pub path: Vec<&'static str>,
    /// Name of the flag without dashes.
    pub long: String,
    /// The same with dashes throughout, where the peer's name has underscores.
    pub alias: Option<String>,
    /// Environment variable.
    pub env: Option<String>,
    /// What the key is.
    pub key: &'static Key,
    /// What sort of settings it belongs to.
    pub group: &'static str,
}

impl Flag {
    /// Whether a variable holds several values between commas, and the flag may be given more than once.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(
            self.key.kind,
            Kind::List | Kind::FilledList | Kind::Policies | Kind::PolicyList
        )
    }

    /// Whether it holds names and values.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self.key.kind, Kind::Texts | Kind::Flags | Kind::Lists)
    }

    /// Whether the flag needs no value.
    #[must_use]
    pub fn is_bool(&self) -> bool {
        matches!(self.key.kind, Kind::Bool)
    }
}

/// All of them, in the order of the table of keys.
#[must_use]
pub fn runner_flags() -> &'static [Flag] {
    static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
        let mut flags = Vec::new();
        if let Some(section) = runners() {
            collect(section, &[], &mut flags);
        }
        flags
    });
    &FLAGS
}

/// The table of `[[runners]]`.
pub(crate) fn runners() -> Option<&'static Section> {
    match ROOT.find("runners")?.kind {
        Kind::Tables(section) => Some(section),
        _ => None,
    }
}

/// Keys of an entry with flags of the commands' own, and tables without flags.
const WITHOUT: &[&str] = &[
    "name",
    "url",
    "token",
    "id",
    "artifact",
    "experimental",
    "monitoring",
    "referees",
];

/// Path of a key, its flag and its variable (empty: none), where the rule does not hold.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("unhealthy_interval", "unhealthy-interval", ""),
    ("clone_url", "clone-url", "CLONE_URL"),
    ("environment", "env", "RUNNER_ENV"),
    ("feature_flags", "feature-flags", "FEATURE_FLAGS"),
    (
        "step_runner_image",
        "step-runner-image",
        "STEP_RUNNER_IMAGE",
    ),
    ("tls-ca-file", "tls-ca-file", "CI_SERVER_TLS_CA_FILE"),
    ("tls-cert-file", "tls-cert-file", "CI_SERVER_TLS_CERT_FILE"),
    ("tls-key-file", "tls-key-file", "CI_SERVER_TLS_KEY_FILE"),
    (
        "custom_build_dir.enabled",
        "custom_build_dir-enabled",
        "CUSTOM_BUILD_DIR_ENABLED",
    ),
    (
        "cache.MaxUploadedArchiveSize",
        "cache-max_uploaded_archive_size",
        "CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE",
    ),
    (
        "cache.s3.AuthenticationType",
        "cache-s3-authentication_type",
        "CACHE_S3_AUTHENTICATION_TYPE",
    ),
    (
        "cache.gcs.CredentialsFile",
        "cache-gcs-credentials-file",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    (
        "docker.tls_cert_path",
        "docker-cert-path",
        "DOCKER_CERT_PATH",
    ),
    ("docker.tls_verify", "docker-tlsverify", "DOCKER_TLS_VERIFY"),
    (
        "docker.services_privileged",
        "docker-services_privileged",
        "DOCKER_SERVICES_PRIVILEGED",
    ),
    (
        "docker.allowed_users",
        "docker-allowed_users",
        "DOCKER_ALLOWED_USERS",
    ),
    ("docker.userns_mode", "docker-userns", "DOCKER_USERNS_MODE"),
    (
        "docker.services_devices",
        "docker-services_devices",
        "DOCKER_SERVICES_DEVICES",
    ),
    (
        "docker.service_gpus",
        "docker-service_gpus",
        "DOCKER_SERVICE_GPUS",
    ),
    ("docker.ipcmode", "docker-ipcmode", "DOCKER_IPC_MODE"),
];

fn collect(section: &'static Section, above: &[&'static str], flags: &mut Vec<Flag>) {
    for key in section.keys {
        if above.is_empty() && WITHOUT.contains(&key.name) || key.support == Support::Foreign {
            continue;
        }
        let mut path = above.to_vec();
        path.push(key.name);
        match key.kind {
            Kind::Table(inner) => collect(inner, &path, flags),
            Kind::Time | Kind::Numbers | Kind::AnyTable | Kind::AnyTables | Kind::Tables(_) => {}
            _ => flags.push(flag(path, key)),
        }
    }
}

fn flag(path: Vec<&'static str>, key: &'static Key) -> Flag {
    let dotted = path.join(".");
    let exception = EXCEPTIONS.iter().find(|(path, ..)| *path == dotted);
    let (long, env) = match exception {
        Some((_, long, env)) => (
            (*long).to_owned(),
            (!env.is_empty()).then(|| (*env).to_owned()),
        ),
        None => {
            let words: Vec<String> = path.iter().map(|part| dashed(part)).collect();
            let long = words.join("-");
            let env = long.replace('-', "_").to_ascii_uppercase();
            let env = if path.len() == 1 {
                format!("RUNNER_{env}")
            } else {
                env
            };
            (long, Some(env))
        }
    };
    let alias = long.contains('_').then(|| long.replace('_', "-"));
    let group = match path.first() {
        Some(&"docker") => "Docker",
        Some(&"cache") => "Cache",
        _ => "Runner",
    };
    Flag {
        path,
        long,
        alias,
        env,
        key,
        group,
    }
}

/// `pull_policy` and `ServerAddress` as words with dashes.
fn dashed(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let letters: Vec<char> = name.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        let begins_word = letter.is_ascii_uppercase()
            && index > 0
            && (!letters[index - 1].is_ascii_uppercase()
                || letters.get(index + 1).is_some_and(char::is_ascii_lowercase));
        if begins_word {
            words.push('-');
        }
        words.push(if *letter == '_' {
            '-'
        } else {
            letter.to_ascii_lowercase()
        });
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::runner_flags;

    #[rstest]
    #[case("limit", "RUNNER_LIMIT")]
    #[case("executor", "RUNNER_EXECUTOR")]
    #[case("builds-dir", "RUNNER_BUILDS_DIR")]
    #[case("env", "RUNNER_ENV")]
    #[case("clone-url", "CLONE_URL")]
    #[case("pre-get-sources-script", "RUNNER_PRE_GET_SOURCES_SCRIPT")]
    #[case("custom_build_dir-enabled", "CUSTOM_BUILD_DIR_ENABLED")]
    #[case("tls-ca-file", "CI_SERVER_TLS_CA_FILE")]
    #[case("cache-type", "CACHE_TYPE")]
    #[case("cache-s3-server-address", "CACHE_S3_SERVER_ADDRESS")]
    #[case(
        "cache-s3-server-side-encryption-key-id",
        "CACHE_S3_SERVER_SIDE_ENCRYPTION_KEY_ID"
    )]
    #[case("cache-s3-upload-role-arn", "CACHE_S3_UPLOAD_ROLE_ARN")]
    #[case(
        "cache-s3-disable-assume-role-credentials-caching",
        "CACHE_S3_DISABLE_ASSUME_ROLE_CREDENTIALS_CACHING"
    )]
    #[case("cache-gcs-access-id", "CACHE_GCS_ACCESS_ID")]
    #[case("cache-gcs-credentials-file", "GOOGLE_APPLICATION_CREDENTIALS")]
    #[case("cache-azure-storage-domain", "CACHE_AZURE_STORAGE_DOMAIN")]
    #[case("docker-image", "DOCKER_IMAGE")]
    #[case("docker-host", "DOCKER_HOST")]
    #[case("docker-cert-path", "DOCKER_CERT_PATH")]
    #[case("docker-tlsverify", "DOCKER_TLS_VERIFY")]
    #[case("docker-userns", "DOCKER_USERNS_MODE")]
    #[case("docker-services_privileged", "DOCKER_SERVICES_PRIVILEGED")]
    #[case("docker-network-mode", "DOCKER_NETWORK_MODE")]
    #[case("docker-ipcmode", "DOCKER_IPC_MODE")]
    #[case("docker-allowed-privileged-images", "DOCKER_ALLOWED_PRIVILEGED_IMAGES")]
    fn flags_and_variables_have_the_peers_names(#[case] long: &str, #[case] env: &str) {
        let flag = runner_flags()
            .iter()
            .find(|flag| flag.long == long)
            .unwrap_or_else(|| panic!("no --{long}"));
        assert_eq!(flag.env.as_deref(), Some(env));
    }

    #[test]
    fn no_two_flags_have_the_same_name_or_variable() {
        let mut names = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for flag in runner_flags() {
            assert!(names.insert(&flag.long), "--{} twice", flag.long);
            assert!(flag.alias.iter().all(|alias| names.insert(alias)));
            assert!(flag.env.iter().all(|env| variables.insert(env)));
        }
        assert!(names.len() > 120, "{}", names.len());
    }
}
