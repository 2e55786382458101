use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_engine::{
    ListFilter, SharedEngine,
    events::EventHub,
    fake::{Call, FakeEngine, Program},
};
use gantry_executor::{
    Accepted, EngineAccess, Environment, ExecutorError, HelperBinary, Job, JobObserver, Progress,
    Record, TOOLS_LABEL, TerminalPort, Verdict, Wish, unix_ms,
};
use gantry_job::{Cause, JobState, TlsFiles};
use gantry_journal::Journal;
use gantry_object_storage::Storage;
use gantry_plan::{Inputs, LogPlan, Numbers, Plan, STATE_LABEL};
use gantry_trace::{Clock, JobTrace, Level, Phrase, TraceOptions};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    agents::Agents,
    setup::Setup,
    shell::{Ran, Shell},
    work::World,
};

/// No job of these tests takes longer, by the paused clock.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// One job and its world; runner processes come and go with [`Bench::start`].
pub(crate) struct Bench {
    pub(crate) engine: FakeEngine,
    /// The engine as the executor gets it, if not as it is.
    pub(crate) through: Option<SharedEngine>,
    pub(crate) shell: Shell,
    pub(crate) agents: Agents,
    pub(crate) server: Server,
    pub(crate) plan: Arc<Plan>,
    log: LogPlan,
    folder: TempDir,
    timeout_ms: u64,
    processes: Cell<u32>,
    /// Of the first process.
    pub(crate) terminal: Option<Arc<TerminalPort>>,
    /// The remote cache.
    pub(crate) caches: Option<Storage>,
}

/// What the server wants of the job. A process learns of it some time after its start.
#[derive(Clone)]
pub(crate) struct Server(Arc<Mutex<(Wish, Option<watch::Sender<Wish>>)>>);

impl Server {
    /// Wants this from now on.
    pub(crate) fn wish(&self, wish: Wish) {
        let mut state = self.0.lock().unwrap();
        state.0 = wish;
        if let Some(process) = &state.1 {
            process.send_replace(wish);
        }
    }

    /// A new process, which learns in half a second what the server wants.
    fn connect(&self) -> watch::Receiver<Wish> {
        let (sender, receiver) = watch::channel(Wish::Run);
        let wish = {
            let mut state = self.0.lock().unwrap();
            state.1 = Some(sender.clone());
            state.0
        };
        if wish != Wish::Run {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                sender.send_replace(wish);
            });
        }
        receiver
    }
}

/// A runner process that works on the job.
pub(crate) struct Process {
    pub(crate) job: Job,
    wishes: watch::Receiver<Wish>,
    /// Journal records written before the executor began.
    pub(crate) records_before: usize,
}

/// A job at its end.
#[derive(Clone)]
pub(crate) struct Ending {
    pub(crate) verdict: Verdict,
    pub(crate) log: String,
    pub(crate) ran: Vec<Ran>,
    /// Helper stages that were begun.
    pub(crate) helped: Vec<String>,
    /// All calls of the engine.
    pub(crate) calls: Vec<Call>,
    /// Records the executor wrote.
    pub(crate) records: usize,
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> Self {
        let engine = FakeEngine::new();
        engine.set_facts(|facts| facts.flavor = setup.flavor);
        for image in setup.local_images() {
            engine.add_image(image);
        }
        for image in setup.registry.iter().flatten() {
            engine.add_registry_image(image.clone());
        }
        let host = setup.host();
        let mut facts = None;
        engine.set_facts(|known| facts = Some(known.clone()));
        let inputs = Inputs {
            payload: &setup.payload,
            runner: &setup.runner,
            host: &host,
            engine: facts.as_ref().unwrap(),
            numbers: Numbers::default(),
            seed: [0, 1, 2, 3, 4, 5, 6, 7],
            tls: &TlsFiles::default(),
            correlation_id: None,
            sources: setup.sources,
            secrets: &[],
            artifacts: setup.artifacts,
        };
        let plan = Arc::new(gantry_plan::plan(&inputs).unwrap());
        let log = gantry_plan::log_plan(&setup.payload, &setup.runner, &host, inputs.numbers, &[]);
        let world = World {
            engine: engine.clone(),
            server: Server(Arc::new(Mutex::new((Wish::Run, None)))),
        };
        let shell = Shell::install(Arc::clone(&plan), &world, setup.image, setup.work);
        let agents = Agents::install(&world, setup.helper);
        // All services answer in a moment.
        let answers = Program::new(|run| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let services = run.spec.cmd.iter().flatten().skip(2);
            for (number, _) in services.enumerate() {
                run.stdout(format!("{number}\n"));
            }
            0
        });
        engine.on_name("-wait-for-services", answers);
        Self {
            through: None,
            shell,
            agents,
            server: world.server,
            plan,
            log,
            folder: folder(),
            timeout_ms: setup.payload.timeout().as_millis() as u64,
            engine,
            processes: Cell::new(0),
            terminal: None,
            caches: None,
        }
    }

    /// A new runner process takes the job, or takes it up again.
    pub(crate) async fn start(&self) -> Process {
        self.processes.set(self.processes.get() + 1);
        let (journal, records) =
            Journal::<Record>::open(&self.folder.path().join("journal")).unwrap();
        let mut records_before = records.len();
        let mut progress = Progress::of(records);
        let mut new = Vec::new();
        if progress.accepted.is_none() {
            let now = unix_ms();
            new.push(Record::Accepted(Box::new(Accepted {
                origin: serde_json::Value::Null,
                log: self.log.clone(),
                accepted_ms: now,
                deadline_ms: now + self.timeout_ms,
            })));
            new.push(Record::Planned(Box::new((*self.plan).clone())));
        } else if progress.verdict.is_none() {
            new.push(Record::Resumed);
        }
        for record in new {
            journal.append(&record).await.unwrap();
            progress.add(record);
            records_before += 1;
        }
        let (trace, opened) = JobTrace::open(self.folder.path(), self.trace_options()).unwrap();
        assert_eq!(opened.records_lost, 0);
        for (number, line) in self.log.header.iter().enumerate() {
            trace.line_once(&format!("header{number}"), Level::Print, line);
        }
        let engine = match &self.through {
            Some(engine) => Arc::clone(engine),
            None => self.engine.shared(),
        };
        let filter = ListFilter {
            labels: [(STATE_LABEL.to_owned(), "state0".to_owned())].into(),
            name: None,
        };
        let mut facts = None;
        self.engine.set_facts(|known| facts = Some(known.clone()));
        let job = Job {
            plan: Arc::clone(&self.plan),
            journal,
            trace,
            progress,
            access: EngineAccess {
                events: EventHub::new(Arc::clone(&engine), filter),
                engine,
                facts: facts.unwrap(),
            },
            environment: Environment {
                helper_binaries: Arc::new(|_| {
                    Ok(HelperBinary {
                        hash: "0123456789abcdef0123".to_owned(),
                        read: Arc::new(|| Ok(b"the helper program".to_vec())),
                    })
                }),
                packaged_helper_image: None,
                docker_config: None,
            },
            working_tree: None,
            artifacts: None,
            caches: self.caches.clone(),
            observer: JobObserver::default(),
            terminal: self.terminal.clone(),
        };
        Process {
            job,
            wishes: self.server.connect(),
            records_before,
        }
    }

    /// One process that nothing happens to, and the end it leads to.
    pub(crate) async fn run_to_end(&self) -> Ending {
        let process = self.start().await;
        self.finish(process)
            .await
            .unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Lets a process come to the job's end, removal and all.
    ///
    /// # Errors
    /// What is not as it must be at the end of any job, in words.
    pub(crate) async fn finish(&self, process: Process) -> Result<Ending, String> {
        let (verdict, removed) = tokio::time::timeout(LONGEST, process.live())
            .await
            .map_err(|_| "the job does not end".to_owned())?
            .map_err(|error| format!("the job cannot go on: {error}"))?;
        if !removed {
            return Err("not all could be removed".to_owned());
        }
        self.ending(&process, verdict).await
    }

    /// Looks at a job that is over.
    pub(crate) async fn ending(
        &self,
        process: &Process,
        verdict: Verdict,
    ) -> Result<Ending, String> {
        // What the executor does in the background comes to its end.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = self.left();
        if !left.is_empty() {
            return Err(format!("left on the engine: {}", left.join(", ")));
        }
        let trace = &process.job.trace;
        let mut log = Vec::new();
        loop {
            let piece = trace.read_at(log.len() as u64, 1 << 20).unwrap();
            if piece.is_empty() {
                break;
            }
            log.extend_from_slice(&piece);
        }
        let progress = trace.progress();
        if !progress.finished
            || (verdict.size, verdict.checksum) != (log.len() as u64, progress.checksum)
        {
            return Err(format!(
                "the verdict says {} bytes, the log has {} ({progress:?})",
                verdict.size,
                log.len()
            ));
        }
        let path = self.folder.path().join("journal");
        let (_, records) = Journal::<Record>::open(&path).unwrap();
        Ok(Ending {
            verdict,
            log: String::from_utf8(log).unwrap(),
            ran: self.shell.ran(),
            helped: self.agents.begun(),
            calls: self.engine.calls(),
            records: records.len() - process.records_before,
        })
    }

    /// The journal file's length.
    pub(crate) fn journal_len(&self) -> u64 {
        let path = self.folder.path().join("journal");
        std::fs::metadata(path).unwrap().len()
    }

    /// Whole records in the journal file, and whether the last one is only a part.
    pub(crate) fn records(&self) -> (usize, bool) {
        let text = std::fs::read_to_string(self.folder.path().join("journal")).unwrap();
        (text.matches('\n').count() - 1, !text.ends_with('\n'))
    }

    /// What must not be left of the job; kept are its reusable volumes and the tools.
    pub(crate) fn left(&self) -> Vec<String> {
        let kept: Vec<_> = self
            .plan
            .volumes
            .iter()
            .filter(|volume| !volume.temporary)
            .map(|volume| format!("volume {}", volume.spec.name))
            .collect();
        let tools = self.engine.left(&ListFilter {
            labels: [(TOOLS_LABEL.to_owned(), String::new())].into(),
            name: None,
        });
        let mut left = self.engine.left(&ListFilter::default());
        left.retain(|object| {
            let tools = object.starts_with("volume ") && tools.contains(object);
            !tools && !kept.contains(object)
        });
        left
    }

    /// Changes what the journal says; no process must be alive.
    pub(crate) async fn journal(&self, record: Record) {
        let path = self.folder.path().join("journal");
        let (journal, _) = Journal::<Record>::open(&path).unwrap();
        journal.append(&record).await.unwrap();
    }

    fn trace_options(&self) -> TraceOptions {
        let at: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        TraceOptions {
            phrases: self
                .log
                .masks
                .phrases
                .iter()
                .map(|phrase| Phrase::secret(phrase.as_bytes()))
                .collect(),
            token_prefixes: self.log.masks.token_prefixes.clone(),
            timestamps: self.log.timestamps,
            sections: self.log.sections,
            limit_bytes: self.log.limit_bytes,
            clock: Clock::fixed(at),
        }
    }
}

/// A folder in memory where there is one: jobs sync their verdicts to the disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

impl Process {
    /// What a process does with a job: to the verdict, and after it everything is removed.
    pub(crate) async fn live(&self) -> Result<(Verdict, bool), ExecutorError> {
        let verdict = self.job.run(self.wishes.clone()).await?;
        self.job.journal.append(&Record::Delivered).await?;
        Ok((verdict, self.job.remove().await))
    }
}

impl Ending {
    /// The cause of the failure; panics for a job that succeeded.
    #[track_caller]
    pub(crate) fn cause(&self) -> &Cause {
        match &self.verdict.cause {
            Some(cause) => cause,
            None => panic!("the job succeeded; its log:\n{}", self.text()),
        }
    }

    #[track_caller]
    pub(crate) fn assert_success(&self) {
        let state = (self.verdict.state, &self.verdict.cause);
        assert_eq!(state, (JobState::Success, &None), "{}", self.text());
        assert!(self.text().ends_with("Job succeeded\n"), "{}", self.text());
    }

    /// The log as a reader sees it: without times, colours and section markers, cut lines joined.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines() {
            text.push_str(&plain(&line));
            text.push('\n');
        }
        text
    }

    /// How often a text is in the log as a reader sees it.
    pub(crate) fn count(&self, needle: &str) -> usize {
        self.text().matches(needle).count()
    }

    #[track_caller]
    pub(crate) fn assert_says(&self, needle: &str) {
        let count = self.count(needle);
        assert_eq!(count, 1, "{needle:?} in:\n{}", self.text());
    }

    #[track_caller]
    pub(crate) fn assert_never_says(&self, needle: &str) {
        assert_eq!(self.count(needle), 0, "{needle:?} in:\n{}", self.text());
    }

    /// The texts come in this order, each somewhere after the one before.
    #[track_caller]
    pub(crate) fn assert_order(&self, needles: &[&str]) {
        let text = self.text();
        let mut from = 0;
        for needle in needles {
            match text[from..].find(needle) {
                Some(at) => from += at + needle.len(),
                None => panic!("{needle:?} is not where it should be in:\n{text}"),
            }
        }
    }

    /// Section markers in order: `+name` and `-name`.
    pub(crate) fn sections(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = self.log.as_str();
        while let Some(at) = rest.find("section_") {
            rest = &rest[at + "section_".len()..];
            let (sign, after) = match (rest.strip_prefix("start:"), rest.strip_prefix("end:")) {
                (Some(after), _) => ('+', after),
                (_, Some(after)) => ('-', after),
                _ => continue,
            };
            let name = after.split(':').nth(1).and_then(|n| n.split('\r').next());
            found.push(format!("{sign}{}", name.unwrap_or("?")));
        }
        found
    }

    /// Every section that begins ends before the next begins.
    #[track_caller]
    pub(crate) fn assert_sections_close(&self) {
        for pair in self.sections().chunks(2) {
            let closed = pair.len() == 2 && pair[0][1..] == pair[1][1..];
            assert!(
                closed && pair[0].starts_with('+') && pair[1].starts_with('-'),
                "{:?}",
                self.sections()
            );
        }
    }

    /// Stages whose scripts ran, in order.
    pub(crate) fn stages_ran(&self) -> Vec<&str> {
        self.ran.iter().map(|ran| ran.stage.as_str()).collect()
    }

    /// Lines without their timestamps; the rest of a line that was cut is joined to it.
    pub(crate) fn lines(&self) -> Vec<String> {
        const HEADER: usize = 32;
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in self.log.split_terminator('\n') {
            if line.len() < HEADER || !line.starts_with("20") {
                lines.push((String::new(), line.to_owned()));
                continue;
            }
            let (header, text) = line.split_at(HEADER);
            let stream = &header[28..31];
            let before = lines.iter_mut().rev().find(|before| before.0 == stream);
            match before {
                Some(before) if header.ends_with('+') => before.1.push_str(text),
                _ => lines.push((stream.to_owned(), text.to_owned())),
            }
        }
        lines.into_iter().map(|line| line.1).collect()
    }
}

/// Text without colours and section markers.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['\x1b', '\r']) {
        let before = &rest[..at];
        if !before.starts_with("section_") {
            text.push_str(before);
        }
        rest = &rest[at + 1..];
        if let Some(code) = rest.strip_prefix('[') {
            let end = code.find(|c: char| c.is_ascii_alphabetic());
            rest = end.map_or("", |end| &code[end + 1..]);
        }
    }
    text.push_str(rest);
    text
}
