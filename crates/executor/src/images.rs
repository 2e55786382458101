//! Images: pull policies, progress, and what a failed pull means.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gantry_container::{ImageInfo, ImageReference};
use gantry_engine::{EngineError, PullProgress, RegistryAuth};
use gantry_job::{Cause, PullFailure};
use gantry_plan::{PlannedImage, PullPolicy};
use gantry_trace::Level;
use tokio::sync::OnceCell;

use crate::{Activity, JobEvent, context::Context, lanes::Lane};

/// Tries of one pull when the registry cannot be reached (docker-executor §3.3 j).
const PULL_TRIES: u32 = 3;
/// A pull that says nothing for this long gets a progress line.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The pulls of one preparation. Containers that are prepared side by side may share an image: it is pulled once, and the others wait.
#[derive(Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<Pulled, Arc<OnceCell<()>>>>);

/// Reference and platform.
type Pulled = (String, Option<String>);

impl Pulls {
    fn of(&self, image: &PlannedImage) -> Arc<OnceCell<()>> {
        let key = (image.reference.clone(), image.platform.clone());
        let mut pulls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pulls.entry(key).or_default())
    }
}

/// Gets an image by its policies (docker-executor §3.3), printing to `lane`.
pub(crate) async fn ensure(
    context: &Context,
    image: &PlannedImage,
    pulls: &Pulls,
    lane: &Lane,
) -> Result<ImageInfo, Cause> {
    let name = image.reference.as_str();
    if image.packaged {
        return ensure_packaged(context, image, pulls, lane).await;
    }
    let policies: Vec<_> = image.policies.iter().map(|policy| policy.name()).collect();
    lane.line(
        &format!("{name}:policy"),
        Level::Print,
        &format!(
            "Using effective pull policy of [{}] for container {name}",
            policies.join(" ")
        ),
    );
    by_policies(context, image, pulls, lane).await
}

async fn by_policies(
    context: &Context,
    image: &PlannedImage,
    pulls: &Pulls,
    lane: &Lane,
) -> Result<ImageInfo, Cause> {
    let name = image.reference.as_str();
    let mut last = None;
    for (number, policy) in image.policies.iter().enumerate() {
        if number > 0 {
            lane.line(
                &format!("{name}:attempt{number}"),
                Level::Info,
                &format!(
                    "Attempt #{}: Trying \"{}\" pull policy",
                    number + 1,
                    policy.name()
                ),
            );
        }
        match by_policy(context, image, *policy, pulls, lane).await {
            Ok(info) => {
                used(&info, name, lane);
                return Ok(info);
            }
            Err(cause) => {
                lane.line(
                    &format!("{name}:failed{number}"),
                    Level::Warning,
                    &format!(
                        "Failed to pull image with policy \"{}\": {}",
                        policy.name(),
                        cause.message()
                    ),
                );
                last = Some(cause);
            }
        }
    }
    let policies: Vec<_> = image.policies.iter().map(|policy| policy.name()).collect();
    Err(match last {
        Some(cause) => in_context(
            cause,
            &format!(
                "failed to pull image \"{name}\" with specified policies [{}]",
                policies.join(" ")
            ),
        ),
        None => Cause::Internal {
            message: format!("no pull policy for image \"{name}\""),
        },
    })
}

async fn by_policy(
    context: &Context,
    image: &PlannedImage,
    policy: PullPolicy,
    pulls: &Pulls,
    lane: &Lane,
) -> Result<ImageInfo, Cause> {
    let name = image.reference.as_str();
    let present = context
        .engine
        .image_inspect(name)
        .await
        .map_err(|error| context.cause("inspecting an image", &error))?;
    match (policy, present) {
        (PullPolicy::Never, Some(info)) => return Ok(info),
        (PullPolicy::Never, None) => {
            return Err(Cause::ImagePull {
                failure: PullFailure::NotOnEngine,
                message: format!(
                    "image \"{name}\" not found: the engine does not have it, and the pull policy is \"never\"; pull it there by hand, or use another policy"
                ),
            });
        }
        // An image named by its ID cannot be pulled.
        (_, Some(info)) if info.id == name || info.id.strip_prefix("sha256:") == Some(name) => {
            return Ok(info);
        }
        (PullPolicy::IfNotPresent, Some(info)) => {
            lane.line(
                &format!("{name}:local"),
                Level::Print,
                "Using locally found image version due to \"if-not-present\" pull policy",
            );
            return Ok(info);
        }
        (PullPolicy::Always | PullPolicy::IfNotPresent, _) => {}
    }
    pull(context, image, pulls, lane).await?;
    context
        .engine
        .image_inspect(name)
        .await
        .map_err(|error| context.cause("inspecting an image", &error))?
        .ok_or_else(|| Cause::ImagePull {
            failure: PullFailure::Other,
            message: format!("inspecting image \"{name}\" after pull: no such image"),
        })
}

async fn pull(
    context: &Context,
    image: &PlannedImage,
    pulls: &Pulls,
    lane: &Lane,
) -> Result<(), Cause> {
    let name = image.reference.as_str();
    let (auth, warnings) = context.credentials(name).await;
    for (number, warning) in warnings.iter().enumerate() {
        lane.line(
            &format!("{name}:auth-warning{number}"),
            Level::Warning,
            warning,
        );
    }
    let auth = auth.map_err(|message| Cause::Configuration { message })?;
    if let Some((source, _)) = &auth {
        lane.line(
            &format!("{name}:auth"),
            Level::Print,
            &format!("Authenticating with credentials from {source}"),
        );
    }
    let platform = image.platform.as_deref();
    let for_platform = platform
        .map(|platform| format!(" for platform {platform}"))
        .unwrap_or_default();
    lane.line(
        &format!("{name}:pull"),
        Level::Print,
        &format!("Pulling docker image {name}{for_platform} ..."),
    );
    let doing = JobEvent::Doing(Activity::PullingImage);
    context.observer.tell(&doing);
    let auth = auth.as_ref().map(|(_, auth)| auth);
    // A pull that fails is tried again by the next who waits for it.
    let pulled = pulls.of(image);
    let pull = || pull_with_tries(context, image, auth, lane);
    pulled.get_or_try_init(pull).await.copied()
}

/// The pull itself, again while the registry cannot be reached.
async fn pull_with_tries(
    context: &Context,
    image: &PlannedImage,
    auth: Option<&RegistryAuth>,
    lane: &Lane,
) -> Result<(), Cause> {
    let name = image.reference.as_str();
    let platform = image.platform.as_deref();
    let mut attempt = 1;
    loop {
        let meter = Meter::default();
        let progress = |line: PullProgress| {
            if let Some(text) = meter.take(&line, Instant::now()) {
                lane.line(
                    &format!("{name}:progress{text}"),
                    Level::Print,
                    &format!("  {name}: {text}"),
                );
            }
        };
        let Err(error) = context
            .engine
            .image_pull(name, platform, auth, &progress)
            .await
        else {
            return Ok(());
        };
        let cause = match &error {
            EngineError::Unreachable { .. } | EngineError::TimedOut { .. } => {
                context.cause("pulling an image", &error)
            }
            other => Cause::ImagePull {
                failure: PullFailure::classify(&other.to_string()),
                message: other.to_string(),
            },
        };
        let transient =
            matches!(&cause, Cause::ImagePull { failure, .. } if failure.is_transient());
        if !transient || attempt == PULL_TRIES {
            return Err(cause);
        }
        lane.line(
            &format!("{name}:retry{attempt}"),
            Level::Warning,
            &format!("Failed to pull image \"{name}\" (attempt #{attempt}), retrying: {error}"),
        );
        tokio::time::sleep(Duration::from_secs(2 * u64::from(attempt))).await;
        attempt += 1;
    }
}

/// The packaged helper image: local, else the packaged file, else pulled.
async fn ensure_packaged(
    context: &Context,
    image: &PlannedImage,
    pulls: &Pulls,
    lane: &Lane,
) -> Result<ImageInfo, Cause> {
    let name = image.reference.as_str();
    let inspect = || async {
        context
            .engine
            .image_inspect(name)
            .await
            .map_err(|error| context.cause("inspecting an image", &error))
    };
    if let Some(info) = inspect().await? {
        return Ok(info);
    }
    if let Some(archive) = context.packaged_helper_image().await {
        context
            .engine
            .image_load(archive)
            .await
            .map_err(|error| context.cause("inspecting an image", &error))?;
        if let Some(info) = inspect().await? {
            return Ok(info);
        }
    }
    lane.line(
        "helper-image",
        Level::Print,
        &format!("Using helper image:  {name}"),
    );
    by_policies(context, image, pulls, lane).await.map_err(|cause| {
        in_context(
            cause,
            &format!("the helper image \"{name}\" is neither present nor packaged with this program; set [runners.docker] helper_image to any image with git and a shell"),
        )
    })
}

/// The same cause, its message led by what was tried.
fn in_context(cause: Cause, what: &str) -> Cause {
    match cause {
        Cause::ImagePull { failure, message } => Cause::ImagePull {
            failure,
            message: format!("{what}: {message}"),
        },
        other => other,
    }
}

fn used(info: &ImageInfo, name: &str, lane: &Lane) {
    if info.id == name {
        return;
    }
    let digest = digest_of(info, name)
        .map(|digest| format!(" with digest {digest}"))
        .unwrap_or_default();
    lane.line(
        &format!("{name}:used"),
        Level::Print,
        &format!("Using docker image {} for {name}{digest} ...", info.id),
    );
}

/// The reference to create containers from: its own digest if the image has one, else its ID; never the tag, which may move
/// (docker-executor §2.4).
pub(crate) fn pinned(info: &ImageInfo, reference: &str) -> String {
    digest_of(info, reference).unwrap_or(&info.id).to_owned()
}

/// The image's digest in the repository that it was asked for by. Digests in other repositories come and go with their tags.
fn digest_of<'a>(info: &'a ImageInfo, reference: &str) -> Option<&'a str> {
    let repository = |text: &str| {
        let parsed = ImageReference::parse(text).ok()?;
        Some(parsed.canonical_name())
    };
    let asked = repository(reference)?;
    let mut digests = info.repo_digests.iter().map(String::as_str);
    digests.find(|digest| repository(digest).as_ref() == Some(&asked))
}

/// Sums up layers of a pull and says where it stands from time to time.
#[derive(Default)]
struct Meter {
    state: Mutex<MeterState>,
}

#[derive(Default)]
struct MeterState {
    layers: BTreeMap<String, (u64, u64)>,
    last: Option<Instant>,
}

impl Meter {
    fn take(&self, line: &PullProgress, now: Instant) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if line.total > 0 && line.status == "Downloading" {
            state
                .layers
                .insert(line.id.clone(), (line.current, line.total));
        }
        let last = *state.last.get_or_insert(now);
        if now.duration_since(last) < PROGRESS_EVERY {
            return None;
        }
        state.last = Some(now);
        let (done, total) = state
            .layers
            .values()
            .fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        Some(format!(
            "{:.1} of {:.1} MB in {} layers",
            done as f64 / 1e6,
            total as f64 / 1e6,
            state.layers.len()
        ))
    }
}
