//! Renews tokens of runners before they end (coordinator-api §3 "Automatic rotation"): at three quarters of their life, the nearest
//! first, one at a time. The new token is in the configuration file before anybody uses it; the service then reads the file anew.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gantry_config::{Config, RunnerConfig, Skip, edit::NewToken};
use gantry_job::{FeatureFlag, FeatureFlags};
use tokio::{sync::Notify, time::sleep};
use tracing::{error, info, warn};

use crate::{observe::Event, shared::Shared};

/// Longest sleep: the clock of the wall may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// Where new tokens are written; the process' owner knows the file.
pub trait KeepToken: Send + Sync + 'static {
    /// Whether a new token could be saved now. Asked before the server is told to change one.
    ///
    /// # Errors
    /// Why not, in words.
    fn prove(&self) -> Result<(), String>;
    /// Writes the new token in the place of the old one. If that fails it is put somewhere else, which the error names.
    ///
    /// # Errors
    /// Why it is not in the file, and where it is.
    fn save(&self, old: &RunnerConfig, new: &NewToken) -> Result<(), String>;
}

/// When a token is to be renewed; `None`: it does not end.
pub(crate) fn due_at(runner: &RunnerConfig) -> Option<SystemTime> {
    let expires = runner.token_expires_at?;
    // Who does not know when it began cannot tell how much is left: now, as the peer.
    let obtained = runner.token_obtained_at.unwrap_or(UNIX_EPOCH);
    let life = expires.duration_since(obtained).unwrap_or_default();
    let due = runner
        .token_obtained_at
        .map_or(UNIX_EPOCH, |obtained| obtained + life.mul_f64(0.75));
    Some(due)
}

/// Whether the entry wants no renewal; `FF_DISABLE_AUTOMATIC_TOKEN_ROTATION`.
fn is_off(runner: &RunnerConfig) -> bool {
    FeatureFlags::of_runner(&runner.feature_flags).is_on(FeatureFlag::DisableAutomaticTokenRotation)
}

/// The entry to renew next, and when; an entry that failed waits until its time in `not_before`.
fn next(
    config: &Config,
    not_before: &BTreeMap<String, Retry>,
) -> Option<(Arc<RunnerConfig>, SystemTime)> {
    let speaks = |runner: &&Arc<RunnerConfig>| {
        !matches!(runner.skip, Some(Skip::BlankToken | Skip::UnusableUrl))
    };
    let runners = config.runners.iter().filter(speaks);
    runners
        .filter(|runner| !is_off(runner))
        .filter_map(|runner| {
            let due = due_at(runner)?;
            let retry = not_before.get(&runner.unique_id());
            Some((
                Arc::clone(runner),
                retry.map_or(due, |retry| due.max(retry.at)),
            ))
        })
        .min_by_key(|(_, due)| *due)
}

/// When a failed renewal is tried again.
struct Retry {
    at: SystemTime,
    pause: Duration,
}

/// Renews until the service ends. `renewed` is told when the file has changed.
pub(crate) async fn run(shared: Arc<Shared>, keeper: Arc<dyn KeepToken>, renewed: Arc<Notify>) {
    let mut changes = shared.config.clone();
    let mut retries: BTreeMap<String, Retry> = BTreeMap::new();
    loop {
        let config = changes.borrow_and_update().clone();
        for runner in &config.runners {
            if let Some(expires) = runner.token_expires_at.filter(|_| is_off(runner)) {
                let left = expires
                    .duration_since(SystemTime::now())
                    .unwrap_or_default();
                warn!(
                    runner = runner.short_token(),
                    "the token ends in {} s and automatic rotation is off",
                    left.as_secs()
                );
            }
        }
        loop {
            let Some((runner, due)) = next(&config, &retries) else {
                if changes.changed().await.is_err() {
                    return;
                }
                break;
            };
            let pause = due
                .duration_since(SystemTime::now())
                .unwrap_or_default()
                .min(LONGEST_SLEEP);
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                () = sleep(pause) => {}
            }
            if due > SystemTime::now() {
                continue;
            }
            let id = runner.unique_id();
            let pause = match renew(&shared, &keeper, &runner).await {
                Ok(()) => {
                    renewed.notify_one();
                    // The file has the new one; should it not be read, the old one must not be used once more.
                    LONGEST_RETRY
                }
                Err(why) => {
                    let pause = retries
                        .get(&id)
                        .map_or(FIRST_RETRY, |retry| (retry.pause * 2).min(LONGEST_RETRY));
                    error!(
                        runner = runner.short_token(),
                        error = why,
                        "the token was not renewed; tried again in {} s",
                        pause.as_secs()
                    );
                    pause
                }
            };
            let at = SystemTime::now() + pause;
            retries.insert(id, Retry { at, pause });
        }
    }
}

async fn renew(
    shared: &Shared,
    keeper: &Arc<dyn KeepToken>,
    runner: &Arc<RunnerConfig>,
) -> Result<(), String> {
    let asked = Arc::clone(keeper);
    aside(move || asked.prove()).await?;
    let coordinator = shared
        .coordinator(runner, None)
        .map_err(|error| error.to_string())?;
    let given = coordinator
        .reset_token()
        .await
        .map_err(|error| error.to_string())?;
    let new = NewToken {
        token: given.token,
        obtained_at: SystemTime::now(),
        expires_at: given.token_expires_at,
    };
    let (keeper, old) = (Arc::clone(keeper), Arc::clone(runner));
    let written = aside(move || keeper.save(&old, &new)).await;
    let saved = written.is_ok();
    shared.observer.tell(&Event::ConfigSaved { saved });
    written?;
    info!(
        runner = runner.short_token(),
        name = runner.name,
        "the token was renewed and saved"
    );
    Ok(())
}

/// Files are written aside: another process may hold the lock.
async fn aside(work: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn runner(name: &str, obtained: Option<u64>, expires: Option<u64>) -> Arc<RunnerConfig> {
        Arc::new(RunnerConfig {
            name: name.to_owned(),
            url: format!("http://{name}"),
            token_obtained_at: obtained.map(at),
            token_expires_at: expires.map(at),
            ..RunnerConfig::default()
        })
    }

    #[rstest]
    #[case::three_quarters(Some(1000), Some(2000), Some(1750))]
    #[case::never(Some(1000), None, None)]
    #[case::unknown_begin(None, Some(2000), Some(0))]
    #[case::ends_before_it_began(Some(2000), Some(1000), Some(2000))]
    fn a_token_is_renewed_at_three_quarters_of_its_life(
        #[case] obtained: Option<u64>,
        #[case] expires: Option<u64>,
        #[case] due: Option<u64>,
    ) {
        assert_eq!(due_at(&runner("a", obtained, expires)), due.map(at));
    }

    #[test]
    fn the_nearest_is_first_and_a_failed_one_waits_for_its_time() {
        let mut off = runner("off", Some(0), Some(10)).as_ref().clone();
        off.feature_flags
            .insert("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION".to_owned(), true);
        let mut blank = runner("blank", Some(0), Some(10)).as_ref().clone();
        blank.skip = Some(Skip::BlankToken);
        let config = Config {
            runners: vec![
                Arc::new(off),
                Arc::new(blank),
                runner("late", Some(0), Some(4000)),
                runner("soon", Some(0), Some(1000)),
                runner("never", Some(0), None),
            ],
            ..Config::default()
        };
        let mut retries = BTreeMap::new();
        let (first, due) = next(&config, &retries).unwrap();
        assert_eq!((first.name.as_str(), due), ("soon", at(750)));
        let pause = FIRST_RETRY;
        retries.insert(
            first.unique_id(),
            Retry {
                at: at(3500),
                pause,
            },
        );
        let (first, due) = next(&config, &retries).unwrap();
        assert_eq!((first.name.as_str(), due), ("late", at(3000)));
    }
}
