//! A repository, a scripted engine, and a screen to look at.

use std::{
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use gantry_config::LogDriver;
use gantry_engine::fake::{FakeEngine, FakeImage, Program, Run};
use gantry_executor::Environment;
use gantry_local::{JobState, Report, RunError, RunOptions, Setup, Stop, Style, facts};
use gantry_plan::HostFacts;
use tempfile::TempDir;
use tokio::{
    io::AsyncWrite,
    sync::{Barrier, watch},
};

pub(crate) struct Harness {
    pub(crate) engine: FakeEngine,
    pub(crate) screen: Screen,
    pub(crate) stop: watch::Sender<Stop>,
    folder: Arc<TempDir>,
    file: String,
    counts: Arc<Counts>,
}

/// How many containers ran at once.
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
    barrier: Barrier,
}

impl Harness {
    /// A repository with that pipeline, and an engine whose image `img` obeys the lines that begin with `@` in a script:
    /// `@print TEXT`, `@partial TEXT` (no line break), `@exit CODE`, `@wait` (for a signal), `@meet 2` (for another job), `@peak` (counts jobs).
    pub(crate) fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = FakeEngine::new();
        engine.add_image(FakeImage::new("img"));
        let counts = Arc::new(Counts {
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            barrier: Barrier::new(2),
        });
        let shared = Arc::clone(&counts);
        engine.on_name(
            "-build",
            Program::new(move |run| obey(run, Arc::clone(&shared))),
        );
        let harness = Self {
            engine,
            screen: Screen::default(),
            stop: watch::Sender::new(Stop::Run),
            folder: Arc::new(folder),
            file: file.to_owned(),
            counts,
        };
        fs::create_dir(harness.root()).unwrap();
        harness.git(&["init", "--quiet", "--initial-branch=main"]);
        harness.write(".gitlab-ci.yml", file);
        harness.write("tracked", "as committed");
        harness.git(&["add", "--all"]);
        harness.git(&[
            "-c",
            "user.name=n",
            "-c",
            "user.email=e",
            "commit",
            "--quiet",
            "-m",
            "m",
        ]);
        harness
    }

    /// The same repository and engine, another pipeline, a new screen.
    pub(crate) fn again(&self, file: &str) -> Self {
        Self {
            engine: self.engine.clone(),
            screen: Screen::default(),
            stop: watch::Sender::new(Stop::Run),
            folder: Arc::clone(&self.folder),
            file: file.to_owned(),
            counts: Arc::clone(&self.counts),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.root().join(name), text).unwrap();
    }

    pub(crate) async fn run(&self) -> Result<Report, RunError> {
        self.run_with(|_| {}).await
    }

    pub(crate) async fn run_with(
        &self,
        change: impl FnOnce(&mut Setup),
    ) -> Result<Report, RunError> {
        let checkout = facts::collect(&self.root(), ".gitlab-ci.yml")
            .await
            .unwrap();
        let mut setup = Setup {
            pipeline: gantry_pipeline::parse(".gitlab-ci.yml", &self.file).unwrap(),
            checkout,
            options: RunOptions {
                at_once: NonZeroUsize::new(4).unwrap(),
                pull_policy: None,
                image: None,
                variables: Vec::new(),
                timeout: None,
                privileged: false,
                artifacts: None,
                keep_going: false,
            },
            engine: self.engine.shared(),
            environment: Environment {
                helper_binaries: Arc::new(|_| Err("no helper is needed".to_owned())),
                packaged_helper_image: None,
                docker_config: None,
            },
            host: HostFacts {
                name: "here".to_owned(),
                system_id: "local".to_owned(),
                state_id: String::new(),
                version: "19.4.0".to_owned(),
                revision: "r".to_owned(),
                executable_arch: "linux/amd64".to_owned(),
                helper_image: "helper".to_owned(),
                log_driver: LogDriver::Auto,
                link_variables: true,
                naming: gantry_config::Naming::default(),
                shared_local_cache: false,
                nested_variables: false,
                s3_multipart: true,
                mask_encoded: true,
            },
            state: self.state(),
            store: self.folder.path().join("store"),
            started_at: "2026-01-02T03:04:05Z".to_owned(),
            output: Box::new(self.screen.clone()),
            style: Style::default(),
            stop: self.stop.subscribe(),
        };
        change(&mut setup);
        gantry_local::run(setup).await
    }

    /// Most containers that counted themselves at one time.
    pub(crate) fn peak(&self) -> usize {
        self.counts.peak.load(Ordering::SeqCst)
    }

    /// Neither on the engine nor on the disk.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        self.engine.assert_nothing_left(&Default::default());
        let mut names: Vec<_> = fs::read_dir(self.state())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["counters.json", "lock"]);
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.root())
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// One letter per job.
pub(crate) fn states(report: &Report) -> String {
    let jobs: Vec<_> = report
        .jobs
        .iter()
        .map(|job| {
            let state = match job.state {
                JobState::Created => '.',
                JobState::Running => 'R',
                JobState::Success => 'S',
                JobState::Warning => 'W',
                JobState::Failed => 'F',
                JobState::Canceled => 'C',
                JobState::Skipped => '-',
            };
            format!("{} {state}", job.name)
        })
        .collect();
    jobs.join(", ")
}

async fn obey(mut run: Run, counts: Arc<Counts>) -> i64 {
    let script = String::from_utf8_lossy(&run.read_stdin().await).into_owned();
    // The first thing that a script prints.
    let mark = script.find("gantry-script-").map(|at| {
        let end = script[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        &script[at..at + end.unwrap_or_default()]
    });
    run.stdout(format!("{}\n", mark.expect("a start mark")));
    for line in script.lines() {
        // The command itself, not the line that shows it.
        let Some(order) = line.trim().strip_prefix('@') else {
            continue;
        };
        let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
        match verb {
            "print" => run.stdout(format!("{rest}\n")),
            "partial" => run.stdout(rest),
            "exit" => return rest.parse().unwrap(),
            "wait" => {
                run.signal().await;
                return 143;
            }
            "meet" => {
                counts.barrier.wait().await;
            }
            "peak" => {
                let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
                counts.peak.fetch_max(now, Ordering::SeqCst);
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                counts.now.fetch_sub(1, Ordering::SeqCst);
            }
            other => panic!("no such order: {other}"),
        }
    }
    0
}

/// Collects what is printed.
#[derive(Clone)]
pub(crate) struct Screen(Arc<watch::Sender<Vec<u8>>>);

impl Default for Screen {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Screen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }

    /// Waits until the text is on it.
    pub(crate) async fn until(&self, part: &str) {
        let mut changes = self.0.subscribe();
        changes
            .wait_for(|text| String::from_utf8_lossy(text).contains(part))
            .await
            .unwrap();
    }
}

impl AsyncWrite for Screen {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.send_modify(|text| text.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
