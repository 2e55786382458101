//! Facts of this process and its host, read once.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_config::{Config, GantryConfig, Placeholders};
use gantry_engine::{Endpoint, EngineError, HttpEngine, SharedEngine};
use gantry_executor::{Environment, HelperBinary};
use gantry_gitlab::Product;
use gantry_plan::HostFacts;
use gantry_runner::{ConnectEngine, EngineSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Reference of the helper image that this version looks for.
const HELPER_IMAGE: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));
/// The helper image as a file, beside the program or below its prefix.
const PACKAGED_HELPER_IMAGE: &str = "gantry-helper-image.tar";

/// Whether the program was called by the peer's name.
pub(crate) fn is_called_as_the_peer(called: Option<&OsStr>) -> bool {
    called.and_then(|called| Path::new(called).file_name()) == Some(OsStr::new("gitlab-runner"))
}

/// Own version and the peer release it stands for, in the peer's six lines (cli §1). Scripts cut the second word out of the first
/// line: it is the version of the program they called.
pub(crate) fn version(called: Option<&OsStr>) -> String {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let product = product(&GantryConfig::default());
    let peer = &product.version;
    let version = if is_called_as_the_peer(called) {
        format!("{peer} (Gantry {OWN})")
    } else {
        format!("{OWN} (compatible with GitLab Runner {peer})")
    };
    format!(
        "Version:      {version}\n\
         Git revision: {revision}\n\
         Git branch:   {branch}\n\
         GO version:   {compiler}\n\
         Built:        {built}\n\
         OS/Arch:      {platform}/{architecture}\n",
        revision = own_revision(),
        branch = product.branch,
        compiler = product.compiler,
        built = built_at(),
        platform = product.platform,
        architecture = product.architecture,
    )
}

/// The commit this program was built from; `HEAD`, the peer's word, where nobody said so (see the build script).
pub(crate) fn own_revision() -> &'static str {
    option_env!("GANTRY_REVISION").unwrap_or("HEAD")
}

/// When this program was built; `unknown` where nobody said so (see the build script).
pub(crate) fn built_at() -> String {
    if let Some(text) = option_env!("GANTRY_BUILT_AT") {
        return text.to_owned();
    }
    let seconds = option_env!("GANTRY_BUILT_EPOCH").and_then(|seconds| seconds.parse().ok());
    seconds
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "unknown".to_owned(), |time| time.to_string())
}

/// Raises the soft limit of open files to the hard one, as the peer's runtime does: a job needs a dozen, a runner entry a connection, and
/// services are commonly started with a soft limit of 1024.
pub(crate) fn allow_many_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current != raised.current
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        debug!(%error, "the limit of open files stays as it is");
    }
}

/// The process environment, for placeholders in the config.
pub(crate) fn placeholders() -> Placeholders {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect::<BTreeMap<_, _>>()
}

/// One variable of the process environment; empty counts as unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the config is when nobody says (config-toml §1).
pub(crate) fn default_config() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/etc/gitlab-runner/config.toml");
    }
    home()
        .unwrap_or_default()
        .join(".gitlab-runner/config.toml")
}

/// Where certificates by host name are looked for: the peer's folder, then the one beside a config elsewhere.
pub(crate) fn certificate_folders(config: &Path) -> Vec<PathBuf> {
    let default = default_config();
    let mut folders = vec![default.with_file_name("certs")];
    let beside = config.with_file_name("certs");
    if !folders.contains(&beside) {
        folders.push(beside);
    }
    folders
}

/// The user's home.
pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME")
        .map(PathBuf::from)
        .or_else(|| home_in(&std::fs::read_to_string("/etc/passwd").ok()?))
}

/// The same by the user database, for services that are started without the variable.
fn home_in(passwd: &str) -> Option<PathBuf> {
    let user = rustix::process::getuid().as_raw().to_string();
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&user))?;
    let home = line.split(':').nth(5)?;
    (!home.is_empty()).then(|| PathBuf::from(home))
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// What servers are told about this program.
pub(crate) fn product(gantry: &GantryConfig) -> Product {
    Product::compatible_with(&gantry.compatible_version, &revision(gantry))
}

fn revision(gantry: &GantryConfig) -> String {
    gantry
        .compatible_revision
        .clone()
        .unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// Facts that plans depend on.
pub(crate) fn facts(gantry: &GantryConfig, system_id: String, state_id: String) -> HostFacts {
    let product = product(gantry);
    HostFacts {
        name: host_name(),
        system_id,
        state_id,
        version: gantry.compatible_version.clone(),
        revision: revision(gantry),
        executable_arch: format!("{}/{}", product.platform, product.architecture),
        helper_image: HELPER_IMAGE.to_owned(),
        log_driver: gantry.log_driver,
        link_variables: gantry.link_variables,
        naming: gantry.naming,
        shared_local_cache: gantry.shared_local_cache,
        nested_variables: gantry.nested_variables,
        s3_multipart: gantry.s3_multipart,
        mask_encoded: gantry.mask_encoded,
    }
}

/// What all jobs of this process share.
pub(crate) fn environment(config: &Config) -> Environment {
    let helpers = gantry_tools::Helpers::with_files(config.gantry.helper_binary.clone());
    Environment {
        helper_binaries: Arc::new(move |architecture| {
            let found = helpers
                .helper_for(architecture)
                .map_err(|error| error.to_string())?;
            let hash = found.sha256().to_owned();
            let read = move || found.bytes().map_err(std::io::Error::other);
            Ok(HelperBinary {
                hash,
                read: Arc::new(read),
            })
        }),
        packaged_helper_image: packaged_helper_image(),
        docker_config: docker_config(),
    }
}

fn packaged_helper_image() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    [folder.to_owned(), folder.join("../lib/gantry")]
        .into_iter()
        .map(|folder| folder.join(PACKAGED_HELPER_IMAGE))
        .find(|path| path.is_file())
}

fn docker_config() -> Option<PathBuf> {
    let folder = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".docker")))?;
    let path = folder.join("config.json");
    Path::is_file(&path).then_some(path)
}

/// Connects to real engines.
pub(crate) struct RealEngines;

#[async_trait::async_trait]
impl ConnectEngine for RealEngines {
    async fn connect(&self, settings: &EngineSettings) -> Result<SharedEngine, EngineError> {
        connect(settings)
    }
}

/// A client of the engine that the settings (or the environment) name. Opens nothing yet.
pub(crate) fn connect(settings: &EngineSettings) -> Result<SharedEngine, EngineError> {
    let endpoint = Endpoint::resolve(
        settings.host.as_deref().unwrap_or_default(),
        settings.tls_verify,
        &settings
            .tls_cert_path
            .as_deref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        variable,
    )?;
    Ok(Arc::new(HttpEngine::new(endpoint)?))
}

/// A random id of 16 hex digits.
pub(crate) fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}
