//! What a running job tells whoever watches it: metrics, status. Nothing depends on anybody listening.

use std::{fmt, sync::Arc};

use gantry_job::Stage;

use crate::Step;

/// What the preparation is at, as far as users wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Volumes are created.
    CreatingVolumes,
    /// Services are created and started.
    CreatingServices,
    /// An image is pulled.
    PullingImage,
}

/// Something happened in a job.
#[derive(Debug)]
pub enum JobEvent<'a> {
    /// The preparation turned to this. Things go on side by side, so the last one told is not the only one under way.
    Doing(Activity),
    /// Preparation is over, and written down.
    Prepared,
    /// A step of a stage was written down.
    Stage {
        /// The stage.
        stage: &'a Stage,
        /// Attempt, from 1; 0 for the end of a stage that never began.
        attempt: u32,
        /// What was written down.
        step: &'a Step,
    },
}

type Tell = dyn Fn(&JobEvent<'_>) + Send + Sync;

/// Is told what happens in a job. Called from async code: take it down and return.
#[derive(Clone, Default)]
pub struct JobObserver(Option<Arc<Tell>>);

impl JobObserver {
    /// An observer that calls this.
    pub fn new(tell: impl Fn(&JobEvent<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, event: &JobEvent<'_>) {
        if let Some(tell) = &self.0 {
            tell(event);
        }
    }
}

impl fmt::Debug for JobObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobObserver")
            .field(&self.0.is_some())
            .finish()
    }
}
