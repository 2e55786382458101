//! The host: what a runner finds around it, and what must be left when it is gone.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gantry_testkit::{FakeGitLab, FakeGitLabBuilder, GitHttp, JobBuilder, JobRecord};
use serde_json::Value;
use tempfile::TempDir;

use super::runner::Log;
use super::{BUSYBOX, Docker, JobLog, Runner, Signal, skipped, tell, until};

/// `config.toml` in the making: lines of each table.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    concurrent: usize,
    global: String,
    gantry: String,
    runner: String,
    docker: String,
    more: String,
    image: String,
    pull_policy: String,
    engine: Option<String>,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self {
            concurrent: 4,
            global: String::new(),
            gantry: String::new(),
            runner: String::new(),
            docker: String::new(),
            more: String::new(),
            image: BUSYBOX.to_owned(),
            pull_policy: r#""never""#.to_owned(),
            engine: None,
        }
    }

    pub(crate) fn concurrent(mut self, jobs: usize) -> Self {
        self.concurrent = jobs;
        self
    }

    /// A line above all tables.
    pub(crate) fn global(mut self, line: &str) -> Self {
        add_line(&mut self.global, line);
        self
    }

    /// A line of `[gantry]`.
    pub(crate) fn gantry(mut self, line: &str) -> Self {
        add_line(&mut self.gantry, line);
        self
    }

    /// A line of `[[runners]]`.
    pub(crate) fn runner(mut self, line: &str) -> Self {
        add_line(&mut self.runner, line);
        self
    }

    /// A line of `[runners.docker]`.
    pub(crate) fn docker(mut self, line: &str) -> Self {
        add_line(&mut self.docker, line);
        self
    }

    /// Lines behind the runner's tables.
    pub(crate) fn more(mut self, lines: &str) -> Self {
        self.more += lines;
        self
    }

    /// `pull_policy`, as TOML.
    pub(crate) fn pull_policy(mut self, value: &str) -> Self {
        value.clone_into(&mut self.pull_policy);
        self
    }

    /// `host` of the engine.
    pub(crate) fn engine(mut self, host: &str) -> Self {
        self.engine = Some(host.to_owned());
        self
    }
}

/// A host with its server. Jobs find the folder [`Host::witness`] as `/witness`.
pub(crate) struct Host {
    pub(crate) gitlab: FakeGitLab,
    pub(crate) docker: Docker,
    token: String,
    folder: TempDir,
    address: String,
    logs: Mutex<Vec<Log>>,
    secrets: Mutex<Vec<String>>,
}

impl Host {
    /// A host with this configuration; `None`, and a word on stderr, without an engine to test on.
    pub(crate) async fn new(config: &Config) -> Option<Self> {
        Self::with(config, |gitlab| gitlab.long_poll(Duration::from_secs(20))).await
    }

    /// The same with a server of one's own making.
    pub(crate) async fn with(
        config: &Config,
        make: impl FnOnce(FakeGitLabBuilder) -> FakeGitLabBuilder,
    ) -> Option<Self> {
        let Some(docker) = Docker::of_environment() else {
            skipped("GANTRY_TEST_ENGINE names no engine");
            return None;
        };
        let bridge = docker.bridge().await;
        Some(Self::on(docker, bridge, config, make).await)
    }

    /// A host with this engine, under whose `address` containers reach this machine.
    pub(crate) async fn on(
        docker: Docker,
        address: String,
        config: &Config,
        make: impl FnOnce(FakeGitLabBuilder) -> FakeGitLabBuilder,
    ) -> Self {
        let token = format!("glrt-{}", random_word());
        let builder = FakeGitLab::builder()
            .listen(SocketAddr::from(([0, 0, 0, 0], 0)))
            .host(&address)
            .runner_token(&token);
        let host = Self {
            gitlab: make(builder).start().await,
            docker,
            token: token.clone(),
            folder: tempfile::Builder::new()
                .prefix("gantry-end-to-end-")
                .tempdir()
                .expect("a temporary folder"),
            address,
            logs: Mutex::default(),
            secrets: Mutex::new(vec![token]),
        };
        let witness = host.witness();
        std::fs::create_dir(&witness).expect("a folder in a temporary one");
        open_to_all(&witness);
        host.configure(config);
        host
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, config: &Config) {
        self.write_config(&self.render(config));
    }

    /// Writes any text as the configuration, in one step, with a time that differs from the file's before.
    pub(crate) fn write_config(&self, text: &str) {
        let path = self.folder.path().join("config.toml");
        let modified = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
        };
        let before = modified(&path);
        let new = path.with_extension("new");
        loop {
            std::fs::write(&new, text).expect("a file in a temporary folder");
            if before != modified(&new) {
                break;
            }
        }
        std::fs::rename(&new, &path).expect("a file to rename");
    }

    /// The configuration as text.
    pub(crate) fn render(&self, config: &Config) -> String {
        let Config {
            concurrent,
            global,
            gantry,
            runner,
            docker,
            more,
            image,
            pull_policy,
            engine,
        } = config;
        let url = self.gitlab.url();
        let token = &self.token;
        let engine = engine.as_deref().unwrap_or(self.docker.host());
        let witness = self.witness();
        let mut text = format!("concurrent = {concurrent}\ncheck_interval = 1\n{global}\n");
        if !gantry.is_empty() {
            write!(text, "[gantry]\n{gantry}\n").ok();
        }
        let runner = format!(
            "[[runners]]\nname = \"unit\"\nurl = \"{url}\"\ntoken = \"{token}\"\nexecutor = \"docker\"\n{runner}\n"
        );
        let volumes = if docker.contains("volumes") {
            String::new()
        } else {
            format!("volumes = [\"{}:/witness\"]\n", witness.display())
        };
        let docker = format!(
            "[runners.docker]\nhost = \"{engine}\"\nimage = \"{image}\"\npull_policy = {pull_policy}\n{volumes}{docker}\n"
        );
        text + &runner + &docker + more
    }

    /// The folder of configuration and state.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A folder that jobs see as `/witness`.
    pub(crate) fn witness(&self) -> PathBuf {
        self.folder.path().join("witness")
    }

    /// Lines of a file in the witness folder; none if there is no such file.
    pub(crate) fn witnessed(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.witness().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a job has written so many lines to a file in the witness folder.
    pub(crate) async fn wait_witness(&self, name: &str, lines: usize) {
        until(&format!("{lines} lines in {name}"), async || {
            (self.witnessed(name).len() >= lines).then_some(())
        })
        .await;
    }

    /// Makes a file in the witness folder that a job waits for (see [`gate`]).
    pub(crate) fn open_gate(&self, name: &str) {
        std::fs::write(self.witness().join(name), "").expect("a file in a temporary folder");
    }

    /// Runner token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// As logs and labels show it.
    pub(crate) fn short_token(&self) -> &str {
        &self.token[5..14]
    }

    /// A git server that containers reach.
    pub(crate) async fn git(&self) -> GitHttp {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        GitHttp::start_on(any, Some(&self.address)).await
    }

    /// Something that must never be seen outside the job.
    pub(crate) fn secret(&self, value: &str) {
        self.lock(&self.secrets).push(value.to_owned());
    }

    /// Starts the runner.
    pub(crate) fn start(&self) -> Runner {
        self.start_with(&[])
    }

    /// Starts the runner with further arguments of `run`.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Runner {
        let runner = Runner::start(self.folder.path(), arguments, &[]);
        self.lock(&self.logs).push(runner.log().clone());
        runner
    }

    /// Starts the runner with further environment variables.
    pub(crate) fn start_in(&self, variables: &[(&str, &str)]) -> Runner {
        let runner = Runner::start(self.folder.path(), &[], variables);
        self.lock(&self.logs).push(runner.log().clone());
        runner
    }

    /// Random id of the state folder.
    pub(crate) fn state_id(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(".gantry/id")).ok()
    }

    /// The label of all that belongs to this host.
    pub(crate) fn label(&self) -> String {
        format!("gantry.state={}", self.state_id().unwrap_or_default())
    }

    /// Keys of jobs in the state folder.
    pub(crate) fn job_folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join(".gantry/jobs"));
        let mut names: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Records of a job's journal, as far as they are whole. Empty when there is none.
    pub(crate) fn journal(&self, id: i64) -> Vec<Value> {
        let key = format!("{}-{id}", self.short_token());
        let path = self.folder.path().join(".gantry/jobs").join(key);
        let bytes = std::fs::read(path.join("journal")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let records = text.lines().skip(1);
        records
            .filter_map(|line| serde_json::from_str(line.get(9..)?).ok())
            .collect()
    }

    /// Names of this host's containers, running or not, whose name ends so.
    pub(crate) async fn containers(&self, suffix: &str) -> Vec<String> {
        let filter = format!("label={}", self.label());
        let arguments = ["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"];
        let mut names = self.docker.lines(&arguments).await;
        names.retain(|name| name.ends_with(suffix));
        names
    }

    /// Waits for a container of this host whose name ends so, and whose inspection fits.
    pub(crate) async fn wait_container(
        &self,
        suffix: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        until(&format!("a container …{suffix}"), async || {
            for name in self.containers(suffix).await {
                if let Some(found) = self.docker.inspect(&name).await
                    && fits(&found)
                {
                    return Some(found);
                }
            }
            None
        })
        .await
    }

    /// Drains the runner, and looks that nothing is left.
    pub(crate) async fn finish(&self, mut runner: Runner) {
        runner.says("Configuration loaded").await;
        runner.signal(Signal::QUIT);
        let code = runner.exit_code().await;
        assert_eq!(code, 0, "log:\n{}", runner.log().text());
        self.assert_nothing_left().await;
    }

    /// Runs one job on a runner of its own.
    pub(crate) async fn run(&self, work: &JobBuilder) -> (JobRecord, JobLog) {
        let id = self.gitlab.enqueue(work);
        let runner = self.start();
        let job = self.end_of(id).await;
        self.finish(runner).await;
        let log = JobLog::of(&job);
        self.assert_no_secret("the job's log", &log.text());
        (job, log)
    }

    /// Tells a runner to stop at once, and starts the next.
    pub(crate) async fn stop_and_start(&self, mut runner: Runner) -> Runner {
        runner.signal(Signal::TERM);
        assert_eq!(runner.exit_code().await, 0);
        self.start()
    }

    /// Waits until everything of the jobs so far is removed; the what they made is gone then.
    pub(crate) async fn until_removed(&self) {
        until("the jobs to be removed", async || {
            self.job_folders().is_empty().then_some(())
        })
        .await;
    }

    /// Nothing of this host is left on the engine or in the state folder, but cache volumes; no secret is in a log.
    pub(crate) async fn assert_nothing_left(&self) {
        let filter = format!("label={}", self.label());
        let lists: [&[&str]; 3] = [
            &["ps", "-a", "--format", "container {{.Names}}"],
            &["network", "ls", "--format", "network {{.Name}}"],
            &["volume", "ls", "--format", "volume {{.Name}}"],
        ];
        for list in lists {
            let arguments = [list, &["--filter", &filter]].concat();
            let mut left = self.docker.lines(&arguments).await;
            if !left.is_empty() {
                left = until("the last leftover to go", async || {
                    let left = self.docker.lines(&arguments).await;
                    left.is_empty().then_some(left)
                })
                .await;
            }
            assert!(left.is_empty(), "left: {left:?}");
        }
        assert!(self.job_folders().is_empty(), "{:?}", self.job_folders());
        let aside = self.folder.path().join(".gantry/aside");
        assert!(!aside.exists(), "a damaged job was set aside");
        let kept = self.remove_kept_volumes().await;
        for volume in kept {
            let reusable = &volume["Labels"]["com.gitlab.gitlab-runner.reusable"];
            assert_eq!(reusable, "true", "a temporary volume is left: {volume}");
        }
        self.assert_no_secret_in_logs();
    }

    /// Removes the cache volumes that jobs left for the next ones, and returns what they were.
    pub(crate) async fn remove_kept_volumes(&self) -> Vec<Value> {
        let volumes = self.kept_volumes().await;
        for volume in &volumes {
            let name = volume["Name"].as_str().expect("the name of a volume");
            self.docker.run(&["volume", "rm", name]).await;
        }
        volumes
    }

    /// The volumes that this host's jobs left.
    pub(crate) async fn kept_volumes(&self) -> Vec<Value> {
        let filter = format!(
            "label=com.gitlab.gitlab-runner.runner.id={}",
            self.short_token()
        );
        // Temporary ones may still be on their way out.
        let reusable = "label=com.gitlab.gitlab-runner.reusable=true";
        let arguments = [
            "volume", "ls", "--quiet", "--filter", &filter, "--filter", reusable,
        ];
        let mut found = Vec::new();
        for name in self.docker.lines(&arguments).await {
            found.extend(self.docker.inspect(&name).await);
        }
        found
    }

    /// Token of runner and jobs, and what tests named, are in no log of the program.
    pub(crate) fn assert_no_secret_in_logs(&self) {
        for log in self.lock(&self.logs).iter() {
            self.assert_no_secret("the runner's log", &log.text());
        }
    }

    /// No secret of this host is in a text.
    pub(crate) fn assert_no_secret(&self, of_what: &str, text: &str) {
        let tokens = self.gitlab.jobs().into_iter().map(|job| job.token);
        let secrets = self.lock(&self.secrets).clone();
        for secret in secrets.into_iter().chain(tokens) {
            if let Some(at) = text.find(&secret) {
                let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line = text[from..].lines().next().unwrap_or_default();
                panic!("{of_what} shows {secret:?}: {line}");
            }
        }
    }

    /// Waits for a job's end.
    pub(crate) async fn end_of(&self, id: i64) -> JobRecord {
        self.gitlab.wait_until_final(id).await
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (number, log) in self.lock(&self.logs).iter().enumerate() {
            tell(&format!(
                "--- log of runner process {number} ---\n{}",
                log.text()
            ));
        }
        // Its processes die with their handles, which were declared later than this; what they left goes here.
        if self.state_id().is_some() {
            self.docker.sweep(&self.label());
        }
        let runner = format!("com.gitlab.gitlab-runner.runner.id={}", self.short_token());
        self.docker.sweep(&runner);
    }
}

fn add_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A script line that waits until [`Host::open_gate`].
pub(crate) fn gate(name: &str) -> String {
    format!("while [ ! -e /witness/{name} ]; do sleep 0.05; done")
}

/// Any user of any container may write there.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(path, mode).expect("a folder of one's own");
}

fn random_word() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's random keys are randomness enough for names.
    let word = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())[..20].to_owned()
}
