//! Caches, artifacts and submodules: what the helper does, by the sections of the job's log, with its processor time and memory.

use std::{fs, io::Write, path::Path, time::Duration};

use gantry_testkit::{GitHttp, JobBuilder, JobRecord, ServerJobState};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    Result,
    helper_process::Watch,
    measure::Bench,
    runner::RunnerProcess,
    table::{Row, percentile, seconds},
};

/// Large files: half of them text, half of them bytes that do not get shorter.
const LARGE_FILES: usize = 20;
const LARGE: usize = 10_000_000;
const SMALL_FILES: usize = 10_000;
const SPARSE: u64 = 5 << 30;
const SUBMODULES: usize = 30;

/// A runner whose jobs see a tree and a cache directory of this machine.
struct Workshop {
    folder: TempDir,
    runner: RunnerProcess,
}

impl Workshop {
    async fn new(
        bench: &Bench<'_>,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<Self> {
        let folder = TempDir::new()?;
        for name in ["tree", "cache"] {
            fs::create_dir(folder.path().join(name))?;
        }
        make(&folder.path().join("tree"))?;
        let at = folder.path().display();
        let docker = format!("    volumes = [\"{at}/tree:/tree:ro\", \"{at}/cache:/cache\"]\n");
        let runner = bench.runner_with("", &docker).await?;
        Ok(Self { folder, runner })
    }
}

/// Wall clock, processor time and memory, of several rounds.
#[derive(Default)]
struct Figures {
    wall: Vec<f64>,
    processor: Vec<f64>,
    memory: f64,
}

impl Figures {
    fn rows(
        &self,
        name: &'static str,
        processor: &'static str,
        memory: &'static str,
        aim: &str,
    ) -> Vec<Row> {
        let row = |name, p50: String, p95: String, aim: &str| Row {
            name,
            p50,
            p95,
            yardstick: String::new(),
            ratio: None,
            aim: aim.to_owned(),
        };
        let both = |values: &[f64]| {
            (
                seconds(percentile(values, 0.5)),
                seconds(percentile(values, 0.95)),
            )
        };
        let (wall, processor_time) = (both(&self.wall), both(&self.processor));
        vec![
            row(name, wall.0, wall.1, aim),
            row(processor, processor_time.0, processor_time.1, ""),
            row(
                memory,
                format!("{:.0} MB", self.memory),
                String::new(),
                "≤ 150 MB",
            ),
        ]
    }
}

impl Bench<'_> {
    pub(crate) async fn cache(&self) -> Result<Vec<Row>> {
        let figures = self.cache_of(3, usual_tree).await?;
        Ok(figures.rows(
            "cache of 200 MB + 10,000 files: save + restore",
            "  processor time of the helper",
            "  peak memory of the helper",
            "≤ 6333 ms (19 s / 3)",
        ))
    }

    pub(crate) async fn sparse(&self) -> Result<Vec<Row>> {
        let figures = self.cache_of(1, sparse_tree).await?;
        Ok(figures.rows(
            "cache of a sparse tree of 5 GB: save + restore",
            "  processor time of the helper",
            "  peak memory of the helper",
            "",
        ))
    }

    async fn cache_of(
        &self,
        rounds: usize,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<Figures> {
        let workshop = Workshop::new(self, make).await?;
        let watch = Watch::start(workshop.folder.path());
        let mut figures = Figures::default();
        for round in 0..rounds {
            let cache = |policy: &str| json!([{ "key": format!("bench-{round}"), "paths": ["data/"], "policy": policy, "when": "on_success" }]);
            let before = watch.processor_time();
            let save = self
                .archive_job("cp -a /tree data")
                .set("/cache", cache("push"));
            let save = self.ended(&save).await?;
            self.ended(&self.archive_job("rm -rf data")).await?;
            let restore = self
                .archive_job("test -d data && rm -rf data")
                .set("/cache", cache("pull"));
            let restore = self.ended(&restore).await?;
            figures
                .wall
                .push(section(&save, "archive_cache")? + section(&restore, "restore_cache")?);
            figures.processor.push(watch.processor_time() - before);
            for name in fs::read_dir(workshop.folder.path().join("cache"))?.flatten() {
                fs::remove_dir_all(name.path()).ok();
            }
        }
        figures.memory = watch.memory();
        drop(workshop.runner);
        Ok(figures)
    }

    pub(crate) async fn artifacts(&self) -> Result<Vec<Row>> {
        let workshop = Workshop::new(self, usual_tree).await?;
        let watch = Watch::start(workshop.folder.path());
        let mut figures = Figures::default();
        for _ in 0..3 {
            let before = watch.processor_time();
            let up = self.archive_job("cp -a /tree data").set(
                "/artifacts",
                json!([{
                    "name": "data", "paths": ["data/"], "when": "always",
                    "artifact_type": "archive", "artifact_format": "zip",
                }]),
            );
            let up = self.ended(&up).await?;
            self.ended(&self.archive_job("rm -rf data")).await?;
            let down = self.archive_job("test -d data && rm -rf data").set(
                "/dependencies",
                json!([{
                    "id": up.id, "name": "up", "token": up.token,
                    "artifacts_file": { "filename": "data.zip", "size": 1 },
                }]),
            );
            let down = self.ended(&down).await?;
            figures.wall.push(
                section(&up, "upload_artifacts_on_success")?
                    + section(&down, "download_artifacts")?,
            );
            figures.processor.push(watch.processor_time() - before);
        }
        figures.memory = watch.memory();
        drop(workshop.runner);
        Ok(figures.rows(
            "artifacts of 200 MB + 10,000 files: up + down",
            "  processor time of the helper",
            "  peak memory of the helper",
            "≤ 9120 ms (0.38 × 24 s)",
        ))
    }

    /// Fetched side by side, against one after the other.
    pub(crate) async fn submodules(&self) -> Result<Row> {
        let git = GitHttp::start_on("0.0.0.0:0".parse()?, Some(&self.arguments.host)).await;
        let mut project = git
            .repository("acme/tools/project")
            .file("README.md", "# project\n");
        for number in 0..SUBMODULES {
            let library = git
                .repository(&format!("acme/tools/lib{number}"))
                .file("lib.c", format!("int lib{number}(void);\n"))
                .commit("first")
                .build();
            let url = format!("../lib{number}.git");
            let commit = library.commits().first().ok_or("no commit")?;
            project = project.submodule(&format!("lib{number}"), &url, commit);
        }
        let project = project.commit("first").build();
        let runner = self.runner("").await?;
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            for (flags, spans) in [("--jobs 1", &mut alone), ("", &mut together)] {
                let job = JobBuilder::new("submodules")
                    .image(&self.arguments.image)
                    .script(["test -f lib29/lib.c"])
                    .git(&project, "main")
                    .variable("GIT_STRATEGY", "clone")
                    .variable("GIT_SUBMODULE_STRATEGY", "normal")
                    .variable("GIT_SUBMODULE_UPDATE_FLAGS", flags);
                spans.push(section(&self.ended(&job).await?, "get_sources")?);
            }
        }
        drop(runner);
        let (one, all) = (percentile(&alone, 0.5), percentile(&together, 0.5));
        Ok(Row {
            name: "30 submodules, yardstick one by one",
            p50: seconds(all),
            p95: seconds(percentile(&together, 0.95)),
            yardstick: seconds(one),
            ratio: Some(all / one),
            aim: "< 1".to_owned(),
        })
    }

    fn archive_job(&self, script: &str) -> JobBuilder {
        JobBuilder::new("archives")
            .image(&self.arguments.image)
            .script([script])
            .variable("GIT_STRATEGY", "none")
    }

    /// A job that succeeded and whose containers are gone.
    async fn ended(&self, job: &JobBuilder) -> Result<JobRecord> {
        let id = self.gitlab.enqueue(job);
        let record = self.gitlab.wait_until_final_unbounded(id).await;
        self.settle().await?;
        if record.state != ServerJobState::Success {
            return Err(format!("job {} failed: {}", job.name(), record.log()).into());
        }
        Ok(record)
    }
}

/// Seconds from the beginning of a section to its end, by the times of the lines.
fn section(job: &JobRecord, name: &str) -> Result<f64> {
    let log = job.log();
    let time = |mark: &str| {
        let line = log.lines().find(|line| {
            line.split(mark).nth(1).is_some_and(|rest| {
                let rest = rest.trim_start_matches(|char: char| char.is_ascii_digit());
                rest.strip_prefix(':')
                    .is_some_and(|rest| rest.starts_with(name))
            })
        })?;
        of_day(line.get(11..26)?)
    };
    let (Some(begin), Some(end)) = (time("section_start:"), time("section_end:")) else {
        return Err(format!("the log has no section {name}: {log}").into());
    };
    // Over midnight.
    let span = end.saturating_sub(begin);
    let span = if end < begin {
        end + Duration::from_secs(24 * 3600) - begin
    } else {
        span
    };
    Ok(span.as_secs_f64())
}

/// `HH:MM:SS.ffffff`.
fn of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

fn usual_tree(at: &Path) -> std::io::Result<()> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for number in 0..LARGE_FILES {
        let mut content = Vec::with_capacity(LARGE + 64);
        while content.len() < LARGE {
            let value = noise();
            if number % 2 == 0 {
                content.extend(value.to_le_bytes());
            } else {
                writeln!(
                    content,
                    "    let value_{} = compute({});",
                    value % 1000,
                    value % 77
                )?;
            }
        }
        fs::write(at.join(format!("large{number}")), content)?;
    }
    for number in 0..SMALL_FILES {
        let folder = at.join(format!("small/{}", number / 100));
        fs::create_dir_all(&folder)?;
        let mut content = Vec::new();
        while content.len() < 1000 {
            writeln!(
                content,
                "export const item_{} = {};",
                noise() % 10_000,
                noise() % 100
            )?;
        }
        fs::write(folder.join(format!("file{number}.js")), content)?;
    }
    Ok(())
}

fn sparse_tree(at: &Path) -> std::io::Result<()> {
    let file = fs::File::create(at.join("sparse"))?;
    file.set_len(SPARSE)?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", SPARSE / 2)
}
