use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use gantry_config::state_dir::{self, ChosenBy};
use gantry_job::duration;
use gantry_runner::{JobStatusLine, RunnerStatusLine, StatusError, StatusReport, fetch_status};

use crate::{cli::OutputFormat, error::CliError, host};

/// Arguments of `status`.
///
/// Exit codes: 0 a runner is running and has answered; 1 none is, it belongs to another user, or it does not answer. With `--watch`
/// the program goes on until it is interrupted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 a runner has answered; 1 none is running, or it gives no report."
)]
pub(crate) struct StatusArgs {
    /// Configuration file of the runner that is asked
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// State folder of the runner that is asked, where neither configuration nor environment names it
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: OutputFormat,
    /// Ask again and again, every so many seconds; JSON is one line each
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
}

pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, CliError> {
    let place = Place::of(args);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shown = runtime.block_on(async {
        match args.watch {
            None => show(&place.ask().await?, args.format),
            Some(seconds) => watch(&place, args.format, seconds).await,
        }
    });
    match shown {
        // Who reads has seen enough.
        Err(Shown::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(Shown::Output(error)) => Err(error.into()),
        Err(Shown::Status(error)) => Err(place.explain(&error)),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// Why nothing more is shown.
enum Shown {
    Status(StatusError),
    Output(io::Error),
}

impl From<StatusError> for Shown {
    fn from(error: StatusError) -> Self {
        Self::Status(error)
    }
}

impl From<io::Error> for Shown {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Where the state is under systemd, for a unit with `StateDirectory=gantry`: its variable is set for the service alone.
const SERVICE_STATE: &str = "/var/lib/gantry";

/// The state folder to look at, and who said so.
struct Place {
    path: PathBuf,
    chosen_by: String,
    /// Looked at next, where nobody named a folder: that of a service, if it runs on this configuration.
    service: Option<(PathBuf, PathBuf)>,
}

impl Place {
    fn of(args: &StatusArgs) -> Self {
        if let Some(path) = &args.state_dir {
            return Self {
                path: path.clone(),
                chosen_by: "--state-dir".to_owned(),
                service: None,
            };
        }
        let config = args.config.clone().unwrap_or_else(host::default_config);
        // A file that cannot be read now may be that of a service that runs on what it was before.
        let loaded = gantry_config::load(&config, &host::placeholders());
        let setting = match &loaded {
            Ok(loaded) => loaded.config.gantry.state_dir.as_deref(),
            Err(_) => None,
        };
        let variable = std::env::var_os("STATE_DIRECTORY");
        let place = state_dir::resolve(setting, variable.as_deref(), &config);
        let chosen_by = match &loaded {
            Ok(_) => format!("{}; configuration {}", place.chosen_by, config.display()),
            Err(error) => format!("{}; {error}", place.chosen_by),
        };
        let service = match (place.chosen_by, std::path::absolute(&config)) {
            (ChosenBy::Default, Ok(config)) => Some((SERVICE_STATE.into(), config)),
            _ => None,
        };
        Self {
            path: place.path,
            chosen_by,
            service,
        }
    }

    async fn ask(&self) -> Result<StatusReport, StatusError> {
        let answer = fetch_status(&self.path).await;
        if let (Err(StatusError::NotRunning(_)), Some((folder, config))) = (&answer, &self.service)
            && let Ok(report) = fetch_status(folder).await
            && report.config == *config
        {
            return Ok(report);
        }
        answer
    }

    fn explain(&self, error: &StatusError) -> CliError {
        let message = format!("{error} ({})", self.chosen_by);
        match error {
            StatusError::NotRunning(_) => CliError::new(message)
                .hint("--config or --state-dir names that of another runner")
                .hint("a service manager may have set STATE_DIRECTORY for the runner alone; its folder may be open to root only"),
            StatusError::Denied(_) => {
                CliError::new(message).hint("ask as the user of the runner, or as root")
            }
            StatusError::NoReport { .. } => CliError::new(message),
        }
    }
}

fn show(report: &StatusReport, format: OutputFormat) -> Result<(), Shown> {
    let text = match format {
        OutputFormat::Text => text(report),
        OutputFormat::Json => {
            serde_json::to_string_pretty(report).map_err(io::Error::other)? + "\n"
        }
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Shows the report again and again. That no runner runs is shown, too: it may come back.
async fn watch(place: &Place, format: OutputFormat, seconds: u32) -> Result<(), Shown> {
    let terminal = io::stdout().is_terminal();
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds.into()));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = place.ask().await;
        let text = match (format, &answer) {
            (OutputFormat::Json, Ok(report)) => {
                serde_json::to_string(report).map_err(io::Error::other)? + "\n"
            }
            (OutputFormat::Json, Err(error)) => {
                serde_json::json!({ "error": error.to_string() }).to_string() + "\n"
            }
            (OutputFormat::Text, answer) => {
                let page = match answer {
                    Ok(report) => text(report),
                    Err(error) => format!("{error} ({})\n", place.chosen_by),
                };
                if terminal {
                    // From the top left corner over an empty screen.
                    format!("\x1b[H\x1b[2J{page}")
                } else {
                    page + "\n"
                }
            }
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
    }
}

/// The report for people.
fn text(report: &StatusReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let uptime = age(report.uptime_seconds);
    writeln!(
        text,
        "gantry {} (stands for GitLab Runner {}), {}, pid {}, up {uptime}",
        report.version, report.compatible_version, report.state, report.pid
    )
    .ok();
    let shown = |path: &Path| clean(&path.to_string_lossy());
    let (config, folder) = (shown(&report.config), shown(&report.state_folder));
    write!(text, "config {config}, state {folder}").ok();
    if let Some(free) = report.free_bytes {
        write!(text, " ({} free)", size(free)).ok();
    }
    match &report.listen_address {
        Some(address) => write!(text, ", metrics on {}", clean(address)).ok(),
        None => None,
    };
    match &report.session_server {
        Some(url) => writeln!(text, ", terminals at {}", clean(url)).ok(),
        None => writeln!(text).ok(),
    };
    let (used, slots, outbox) = (report.slots_used, report.slots, report.outbox);
    writeln!(
        text,
        "{used} of {slots} slots in use, {outbox} in the outbox"
    )
    .ok();
    text.push('\n');
    text.push_str(&runners(&report.runners));
    text.push('\n');
    text.push_str(&jobs(&report.jobs));
    text
}

fn runners(lines: &[RunnerStatusLine]) -> String {
    if lines.is_empty() {
        return "No runners.\n".to_owned();
    }
    let header = ["RUNNER", "NAME", "STATE", "JOBS", "URL"].map(str::to_owned);
    let rows = lines.iter().map(|line| {
        let state = match (line.state.as_str(), line.until_seconds) {
            ("unhealthy" | "disk-full", Some(rest)) => {
                format!("{}, asks again in {}", line.state, age(rest))
            }
            (state, _) => state.to_owned(),
        };
        let jobs = match line.limit {
            Some(limit) => format!("{}/{limit}", line.jobs),
            None => line.jobs.to_string(),
        };
        [
            line.runner.clone(),
            line.name.clone(),
            state,
            jobs,
            line.url.clone(),
        ]
    });
    table(header, rows)
}

fn jobs(lines: &[JobStatusLine]) -> String {
    if lines.is_empty() {
        return "No jobs.\n".to_owned();
    }
    let header = [
        "JOB",
        "STATE",
        "STAGE",
        "AGE",
        "LOG",
        "UNSENT",
        "JOURNAL",
        "CONTAINER",
        "URL",
    ]
    .map(str::to_owned);
    let rows = lines.iter().map(|line| {
        let state = match line.course.as_str() {
            "running" => line.state.clone(),
            course => format!("{}, {course}", line.state),
        };
        let notes = match (line.recovered, line.terminal) {
            (false, false) => "",
            (true, _) => " (recovered)",
            (false, true) => " (terminal)",
        };
        [
            line.id.to_string(),
            state + notes,
            line.stage.clone(),
            age(line.age_seconds),
            size(line.log_bytes),
            size(line.log_unsent_bytes),
            size(line.journal_bytes),
            line.container.clone().unwrap_or_else(|| "-".to_owned()),
            line.url.clone(),
        ]
    });
    table(header, rows)
}

/// Columns as wide as they must be, two blanks apart.
fn table<const N: usize>(header: [String; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(header)
        .chain(rows)
        .map(|row| {
            row.map(|cell| {
                if cell.is_empty() {
                    "-".to_owned()
                } else {
                    clean(&cell)
                }
            })
        })
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What a server or a file named, without what a terminal would obey.
fn clean(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn age(seconds: u64) -> String {
    duration::format(Duration::from_secs(seconds))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn report() -> StatusReport {
        let runner = |name: &str, state: &str, until, jobs, limit| RunnerStatusLine {
            runner: "t1_abcdef".to_owned(),
            name: name.to_owned(),
            url: "https://gitlab.example.com".to_owned(),
            state: state.to_owned(),
            until_seconds: until,
            requests: 1,
            jobs,
            limit,
        };
        let job = JobStatusLine {
            id: 17,
            url: "https://gitlab.example.com/a/b/-/jobs/17".to_owned(),
            name: "unit".to_owned(),
            project: "a/b".to_owned(),
            pipeline: 3,
            runner: "t1_abcdef".to_owned(),
            course: "outbox".to_owned(),
            state: "failed".to_owned(),
            stage: "step_script".to_owned(),
            executor_stage: "finish".to_owned(),
            terminal: false,
            container: Some("runner-t1-project-7-concurrent-0-1-build".to_owned()),
            age_seconds: 125,
            recovered: true,
            journal_bytes: 999,
            log_bytes: 1_500_000,
            log_unsent_bytes: 2_000,
        };
        StatusReport {
            version: "0.1.0".to_owned(),
            compatible_version: "19.4.0".to_owned(),
            pid: 42,
            state: "running".to_owned(),
            uptime_seconds: 3_725,
            config: "/etc/gitlab-runner/config.toml".into(),
            state_folder: "/etc/gitlab-runner/.gantry".into(),
            listen_address: Some(":9252".to_owned()),
            session_server: None,
            slots: 4,
            slots_used: 2,
            free_bytes: Some(12_300_000_000),
            outbox: 1,
            runners: vec![
                runner("", "polling", Some(2), 1, Some(2)),
                runner("b\u{1b}[31mad", "unhealthy", Some(3_540), 0, None),
            ],
            jobs: vec![job],
        }
    }

    #[test]
    fn the_report_is_a_page_with_tables() {
        assert_eq!(
            text(&report()),
            "\
gantry 0.1.0 (stands for GitLab Runner 19.4.0), running, pid 42, up 1h2m5s
config /etc/gitlab-runner/config.toml, state /etc/gitlab-runner/.gantry (12.3 GB free), metrics on :9252
2 of 4 slots in use, 1 in the outbox

RUNNER     NAME      STATE                           JOBS  URL
t1_abcdef  -         polling                         1/2   https://gitlab.example.com
t1_abcdef  b\u{fffd}[31mad  unhealthy, asks again in 59m0s  0     https://gitlab.example.com

JOB  STATE                       STAGE        AGE   LOG     UNSENT  JOURNAL  CONTAINER                                 URL
17   failed, outbox (recovered)  step_script  2m5s  1.5 MB  2.0 kB  999 B    runner-t1-project-7-concurrent-0-1-build  https://gitlab.example.com/a/b/-/jobs/17
"
        );
    }

    #[test]
    fn terminals_are_shown_where_there_are_any() {
        let mut report = report();
        report.session_server = Some("https://ci.example.com:8093".to_owned());
        report.jobs[0].terminal = true;
        report.jobs[0].recovered = false;
        let text = text(&report);
        assert!(
            text.contains("metrics on :9252, terminals at https://ci.example.com:8093\n"),
            "{text}"
        );
        assert!(text.contains("failed, outbox (terminal)"), "{text}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        let empty = StatusReport {
            runners: Vec::new(),
            jobs: Vec::new(),
            ..report()
        };
        let text = text(&empty);
        assert!(text.ends_with("\nNo runners.\n\nNo jobs.\n"), "{text}");
    }

    /// Answers every caller with this report.
    fn service(folder: &Path, report: &StatusReport) {
        let body = serde_json::to_string(report).unwrap();
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        let socket = folder.join(gantry_runner::STATUS_SOCKET);
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }

    #[tokio::test]
    async fn where_nobody_named_a_folder_that_of_the_service_is_asked_too() {
        let folder = tempfile::tempdir().unwrap();
        service(folder.path(), &report());
        let place = |config: &str| Place {
            path: folder.path().join("nothing-here"),
            chosen_by: "default".to_owned(),
            service: Some((folder.path().to_owned(), config.into())),
        };
        let answer = place("/etc/gitlab-runner/config.toml").ask().await;
        assert_eq!(answer.unwrap(), report());
        // A service on another configuration is not the one that was asked for.
        let answer = place("/home/me/config.toml").ask().await;
        assert!(matches!(answer, Err(StatusError::NotRunning(_))));
    }
}
