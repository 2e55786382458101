//! What the journal of a job says, and where a job stands because of it.

use std::collections::BTreeMap;

use gantry_container::Env;
use gantry_job::{Cause, JobState, Masks, Variable};
use gantry_plan::{LogPlan, Plan};
use serde::{Deserialize, Serialize};

/// One record of a job's journal. Each is written before the world changes the way it says.
#[derive(Clone, Serialize, Deserialize)]
pub enum Record {
    /// The job is ours: everything needed to finish it without its giver. Synced.
    Accepted(Box<Accepted>),
    /// External secrets, resolved; the journal is sealed before.
    Secrets(Box<Secrets>),
    /// What will be made; claims all names in it.
    Planned(Box<Plan>),
    /// A process took the job up again after a restart.
    Resumed,
    /// A process left the job in good order for the next one to take up: on purpose, or because it had to end before the job did.
    Detached,
    /// Preparation is over; what only the engine could tell.
    Prepared(Box<Prepared>),
    /// A stage's progress. `stage` is the index in the plan.
    Stage {
        /// Index in [`Plan::stages`].
        stage: usize,
        /// Attempt, from 1; 0 for the end of a stage that never began.
        attempt: u32,
        /// Progress.
        step: Step,
    },
    /// A time limit began. It does not begin anew with a process.
    Limit {
        /// What is told when it is over.
        reason: StopReason,
        /// Unix milliseconds of its end.
        until_ms: u64,
    },
    /// Uploads of caches in parts that are not ended, all of them. Synced before anyone can send a part.
    Uploads(Vec<Upload>),
    /// Somebody wants the job to end; kept so that a restart knows, too.
    Stopping(StopReason),
    /// How the job ended. Synced.
    Verdict(Box<Verdict>),
    /// The giver has the verdict, or refused it.
    Delivered,
}

/// A job as it was accepted.
#[derive(Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// The giver's own data (payload, runner snapshot, numbers); opaque here.
    pub origin: serde_json::Value,
    /// How the log is written.
    pub log: LogPlan,
    /// Unix milliseconds of acceptance.
    pub accepted_ms: u64,
    /// Unix milliseconds at which the job's time is over.
    pub deadline_ms: u64,
}

/// External secrets of a job.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// As variables of the job.
    pub variables: Vec<Variable>,
    /// All that is masked in the log from now on.
    pub masks: Masks,
}

/// What was bound in preparation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// Image to create build containers from (digest or ID).
    pub build_image: String,
    /// The build image's ID, for messages.
    pub build_image_id: String,
    /// The build container has an entrypoint of its own, which may be user code.
    pub build_entrypoint: bool,
    /// The build image's user, as the image names it; empty if it names none.
    #[serde(default)]
    pub build_user: String,
    /// Image to create the helper from, if there is one.
    pub helper_image: Option<String>,
    /// `/etc/hosts` lines for the services.
    pub service_hosts: Vec<String>,
    /// Variables of linked services, for the build container.
    #[serde(default)]
    pub link_variables: Env,
}

/// An upload in parts of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Index of the stage in [`Plan::stages`].
    pub stage: usize,
    /// Place of the cache in the stage.
    pub entry: usize,
    /// Name of the object.
    pub object: String,
    /// Number that the storage gave it.
    pub id: String,
}

/// Progress of one attempt of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The attempt begins.
    Began,
    /// The build container is about to be started.
    Starting {
        /// Its ID.
        container: String,
        /// Its start time before, as inspect printed it.
        previous_start: String,
    },
    /// The script is about to be sent.
    Sending {
        /// Start marks in the container's output so far; one more proves that this script arrived whole.
        marks: u32,
    },
    /// The engine took the last byte of the script.
    Sent {
        /// As in [`Step::Sending`].
        marks: u32,
    },
    /// The attempt is over.
    Ended(StageEnd),
}

/// How an attempt of a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageEnd {
    /// Fine.
    Succeeded,
    /// It failed by itself.
    Failed(Cause),
    /// It was stopped.
    Stopped(StopReason),
}

/// Why a running job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StopReason {
    /// The server asked to cancel gracefully: after_script runs.
    Canceled,
    /// The server dropped the job, or it was canceled by force.
    Aborted,
    /// The runner was told to stop, by this signal.
    Interrupted {
        /// Signal number.
        signal: i32,
    },
    /// The job's time is over.
    JobTimeout,
    /// `prepare_timeout`.
    PrepareTimeout,
    /// `get_sources_timeout`.
    GetSourcesTimeout,
    /// `RUNNER_SCRIPT_TIMEOUT`: after_script runs.
    ScriptTimeout,
    /// `RUNNER_AFTER_SCRIPT_TIMEOUT`.
    AfterScriptTimeout,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Success or failed.
    pub state: JobState,
    /// Why it failed.
    pub cause: Option<Cause>,
    /// CRC32 of the log.
    pub checksum: u32,
    /// Bytes of the log.
    pub size: u64,
    /// Unix milliseconds of the end; `None` in journals of version 0.1.0.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// Whether no container of the job runs any more; `false` if that is not known.
    #[serde(default)]
    pub stopped: bool,
}

/// Where a job stands: its journal folded.
#[derive(Clone, Default)]
pub struct Progress {
    /// As accepted.
    pub accepted: Option<Accepted>,
    /// External secrets, once they are resolved.
    pub secrets: Option<Secrets>,
    /// As planned.
    pub plan: Option<Plan>,
    /// As prepared.
    pub prepared: Option<Prepared>,
    /// Last step of each stage that has begun, with its attempt.
    pub stages: BTreeMap<usize, (u32, Step)>,
    /// Ends of the time limits that have begun, in unix milliseconds.
    pub limits: BTreeMap<StopReason, u64>,
    /// Uploads of caches that are not ended.
    pub uploads: Vec<Upload>,
    /// Why the stage that has begun last is being stopped, if it is and has not ended.
    pub stopping: Option<StopReason>,
    /// How the job ended.
    pub verdict: Option<Verdict>,
    /// The giver has it.
    pub delivered: bool,
    /// How many processes took the job up after the first.
    pub resumed: u32,
    /// How often a process left the job in good order.
    pub detached: u32,
}

impl Progress {
    /// Folds records.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Self {
        let mut progress = Self::default();
        for record in records {
            progress.add(record);
        }
        progress
    }

    /// Takes one record in.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Accepted(accepted) => self.accepted = Some(*accepted),
            Record::Secrets(secrets) => self.secrets = Some(*secrets),
            Record::Planned(plan) => self.plan = Some(*plan),
            Record::Resumed => self.resumed += 1,
            Record::Detached => self.detached += 1,
            Record::Prepared(prepared) => self.prepared = Some(*prepared),
            Record::Stage {
                stage,
                attempt,
                step,
            } => {
                if matches!(step, Step::Ended(_)) {
                    self.stopping = None;
                }
                self.stages.insert(stage, (attempt, step));
            }
            Record::Limit { reason, until_ms } => {
                self.limits.insert(reason, until_ms);
            }
            Record::Uploads(uploads) => self.uploads = uploads,
            // The first reason stays, but for a harder one: cancel may be followed by abort.
            Record::Stopping(reason) => match (self.stopping, reason) {
                (Some(StopReason::Aborted | StopReason::JobTimeout), _) => {}
                (_, reason) => self.stopping = Some(reason),
            },
            Record::Verdict(verdict) => self.verdict = Some(*verdict),
            Record::Delivered => self.delivered = true,
        }
    }

    /// How many processes died while they worked on the job.
    pub fn crashes(&self) -> u32 {
        self.resumed.saturating_sub(self.detached)
    }

    /// The upload of a cache, if it is begun.
    pub(crate) fn upload(&self, stage: usize, entry: usize) -> Option<&Upload> {
        let mut uploads = self.uploads.iter();
        uploads.find(|upload| (upload.stage, upload.entry) == (stage, entry))
    }

    /// The stage's end, if it is over.
    pub fn ended(&self, stage: usize) -> Option<&StageEnd> {
        match self.stages.get(&stage) {
            Some((_, Step::Ended(end))) => Some(end),
            _ => None,
        }
    }
}
