//! When a service that was not meant to run for ever ends by itself: after so many jobs, or after so long without one (cli §2
//! "run-single").

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tracing::info;

/// What ends the service. The default ends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// So many jobs are taken; `None`: any number.
    pub max_builds: Option<u64>,
    /// No job for so long, since the start or the end of the last one; `None`: for ever.
    pub wait_timeout: Option<Duration>,
}

/// Jobs of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Taken so far.
    pub(crate) taken: u64,
    /// Not at their end yet.
    pub(crate) present: usize,
}

impl Limits {
    /// Resolves when a limit is reached; never without one.
    pub(crate) async fn reached(self, mut tally: watch::Receiver<Tally>) {
        if self.max_builds.is_none() && self.wait_timeout.is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            let now = *tally.borrow_and_update();
            if self.max_builds.is_some_and(|most| now.taken >= most) {
                info!("This runner has processed its build limit, so now exiting");
                return;
            }
            let changed = tally.changed();
            match self.wait_timeout.filter(|_| now.present == 0) {
                Some(limit) => {
                    if timeout(limit, changed).await.is_err() {
                        info!(
                            "This runner has not received a job in {} seconds, so now exiting",
                            limit.as_secs()
                        );
                        return;
                    }
                }
                None => {
                    changed.await.ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_without_a_job_counts_from_the_end_of_the_last_one() {
        let (sender, receiver) = watch::channel(Tally::default());
        let limits = Limits {
            wait_timeout: Some(Duration::from_secs(10)),
            ..Limits::default()
        };
        let start = Instant::now();
        let reached = tokio::spawn(limits.reached(receiver));
        tokio::time::sleep(Duration::from_secs(6)).await;
        sender.send_replace(Tally {
            taken: 1,
            present: 1,
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        sender.send_replace(Tally {
            taken: 1,
            present: 0,
        });
        reached.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(6 + 100 + 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_job_is_counted_when_it_is_taken() {
        let (sender, receiver) = watch::channel(Tally::default());
        let limits = Limits {
            max_builds: Some(2),
            ..Limits::default()
        };
        let reached = tokio::spawn(limits.reached(receiver));
        sender.send_replace(Tally {
            taken: 1,
            present: 1,
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!reached.is_finished());
        sender.send_replace(Tally {
            taken: 2,
            present: 1,
        });
        reached.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_the_service_goes_on() {
        let (sender, receiver) = watch::channel(Tally::default());
        let reached = Limits::default().reached(receiver);
        assert!(
            timeout(Duration::from_secs(1_000_000), reached)
                .await
                .is_err()
        );
        drop(sender);
    }
}
