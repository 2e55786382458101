use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gantry_engine::fake::{ExecHandler, FakeEngine, Program, Run};
use gantry_job::JobStatus;
use gantry_plan::{Plan, StageWork};
use tokio::sync::Notify;

use super::work::{OnTerm, Piece, Work, World};

/// The shell of the build container: reads its script to the end of stdin, checks that it arrived whole, says the start mark and
/// then does what the test has for that stage. A script that was cut is a syntax error and no part of it runs.
#[derive(Clone)]
pub(crate) struct Shell {
    plan: Arc<Plan>,
    world: World,
    image: Image,
    state: Arc<Mutex<State>>,
}

/// What the image is like.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) entrypoint: Option<Entrypoint>,
    pub(crate) without_shell: bool,
}

/// An image's entrypoint.
#[derive(Clone)]
pub(crate) enum Entrypoint {
    /// Says something and becomes what it is given.
    Execs { words: &'static str },
    /// Says something and ends with this code, whatever it is given.
    Swallows { words: &'static str, code: i64 },
}

#[derive(Default)]
struct State {
    /// Stage → what its script does the first, second … time; the last one again and again.
    work: BTreeMap<String, Vec<Work>>,
    ran: Vec<Ran>,
    /// Container → told when the processes of its script are to end.
    terms: HashMap<String, (Arc<Notify>, bool)>,
}

/// One time that the lines of a user ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stage: String,
    pub(crate) attempt: u32,
    /// `CI_JOB_STATUS` that the script exported, where it tells.
    pub(crate) status: Option<JobStatus>,
    /// ID of the container.
    pub(crate) container: String,
}

impl Shell {
    pub(crate) fn install(
        plan: Arc<Plan>,
        world: &World,
        image: Image,
        work: BTreeMap<String, Vec<Work>>,
    ) -> Self {
        let shell = Self {
            plan,
            world: world.clone(),
            image,
            state: Arc::new(Mutex::new(State {
                work,
                ..State::default()
            })),
        };
        let engine: &FakeEngine = &world.engine;
        let (live, signal) = (shell.clone(), shell.clone());
        engine.on_name("-build", Program::new(move |run| live.clone().live(run)));
        engine.on_exec(
            "-build",
            ExecHandler::new(move |run| {
                let told = signal.lock().terms.get(&run.container_id).cloned();
                async move {
                    if let Some((term, deaf)) = told {
                        term.notify_one();
                        if deaf {
                            // The patience of the signalling script.
                            tokio::time::sleep(Duration::from_secs(6)).await;
                        }
                    }
                    drop(run);
                    0
                }
            }),
        );
        shell
    }

    /// Every time that lines of a user ran, in order.
    pub(crate) fn ran(&self) -> Vec<Ran> {
        self.lock().ran.clone()
    }

    async fn live(self, mut run: Run) -> i64 {
        match &self.image.entrypoint {
            None => {}
            Some(Entrypoint::Execs { words }) => run.stdout(words),
            Some(Entrypoint::Swallows { words, code }) => {
                run.stdout(words);
                return *code;
            }
        }
        if self.image.without_shell {
            run.stdout("shell not found\n");
            return 1;
        }
        let script = String::from_utf8(run.read_stdin().await).unwrap();
        if script.is_empty() {
            return 0;
        }
        let Some((mark, ran)) = self.whole(&script, &run.id) else {
            run.stderr("bash: line 9: syntax error: unexpected end of file\n");
            return 2;
        };
        run.stdout(format!("{mark}\n"));
        let work = self.begins(ran);
        self.works(&run, &work).await
    }

    async fn works(&self, run: &Run, work: &Work) -> i64 {
        let term = Arc::new(Notify::new());
        let deaf = matches!(work.on_term, OnTerm::Deaf);
        self.lock()
            .terms
            .insert(run.id.clone(), (Arc::clone(&term), deaf));
        let lines = async {
            for piece in &work.pieces {
                match piece {
                    Piece::Out(bytes) => run.stdout(bytes),
                    Piece::Err(bytes) => run.stderr(bytes),
                    Piece::Pause(time) => tokio::time::sleep(*time).await,
                    Piece::Do(act) => act(&self.world),
                    Piece::Oom => run.oom_kill(),
                    Piece::Hang => std::future::pending().await,
                }
            }
            work.exit
        };
        tokio::select! {
            biased;
            code = lines => code,
            () = term.notified(), if !deaf => match work.on_term {
                OnTerm::Ends { words, code } => {
                    run.stdout(words);
                    code
                }
                OnTerm::Deaf => unreachable!("not heard"),
            },
        }
    }

    fn begins(&self, ran: Ran) -> Work {
        let mut state = self.lock();
        let before = state.ran.iter().filter(|r| r.stage == ran.stage).count();
        let work = state.work.get(&ran.stage).and_then(|all| {
            let last = all.len().checked_sub(1)?;
            all.get(before.min(last)).cloned()
        });
        let work = work.unwrap_or_else(|| panic!("no work for {}", ran.stage));
        state.ran.push(ran);
        work
    }

    /// The start mark and stage of a script that is byte for byte what the plan has for its stage.
    fn whole(&self, script: &str, container: &str) -> Option<(String, Ran)> {
        let begin = script.find("gantry-script-")?;
        let mark = script[begin..]
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .next()?;
        let mut numbers = mark.rsplit('-');
        let attempt = numbers.next()?.parse().ok()?;
        let index: usize = numbers.next()?.parse().ok()?;
        let planned = self.plan.stages.get(index)?;
        let StageWork::Script(work) = &planned.work else {
            return None;
        };
        let after_script = planned.stage == gantry_job::Stage::AfterScript;
        let status = match script.split("CI_JOB_STATUS=").nth(1)?.split('\n').next()? {
            "success" => JobStatus::Success,
            "failed" => JobStatus::Failed,
            "canceled" => JobStatus::Canceled,
            "timedout" => JobStatus::TimedOut,
            _ => JobStatus::Running,
        };
        let whole = self.plan.script(work, after_script, status, mark).script;
        if script != whole {
            return None;
        }
        let ran = Ran {
            stage: planned.stage.section_name().into_owned(),
            attempt,
            status: after_script.then_some(status),
            container: container.to_owned(),
        };
        Some((mark.to_owned(), ran))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
