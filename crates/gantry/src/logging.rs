//! The process log on stderr (cli §5): GitLab Runner's own form, logfmt-like text, or JSON.
//!
//! Level and form may change when the config is reloaded, unless the command line fixed them.

mod fatal;
mod line;

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use gantry_config::{Config, LogFormat, LogLevel};
use gantry_runner::LogCounts;
use tracing::{Event, Level, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::cli::{LogFormatArg, LogLevelArg, LoggingArgs};
use line::Line;

/// Lines of this rank and below are written; 0 is none.
static LEVEL: AtomicU8 = AtomicU8::new(INFO);
static FORMAT: AtomicU8 = AtomicU8::new(0);
static COUNTS: LazyLock<Arc<LogCounts>> = LazyLock::new(Arc::default);

/// `fatal` and `panic`: no line of a running process is that bad; a failed command says so beside the log.
const NOTHING: u8 = 0;
const ERROR: u8 = 1;
const WARN: u8 = 2;
const INFO: u8 = 3;
const DEBUG: u8 = 4;

/// What the command line fixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    level: Option<u8>,
    format: Option<u8>,
}

/// Starts logging. Without a word on the command line or in a config the level is `info`, or what `quiet` says.
pub(crate) fn start(args: &LoggingArgs, quiet: bool) -> Fixed {
    let level = if args.debug {
        Some(DEBUG)
    } else {
        args.log_level.map(level_of_arg)
    };
    let format = args.log_format.map(|format| match format {
        LogFormatArg::Runner => 0,
        LogFormatArg::Text => 1,
        LogFormatArg::Json => 2,
    });
    let fixed = Fixed { level, format };
    LEVEL.store(
        level.unwrap_or(if quiet { WARN } else { INFO }),
        Ordering::Relaxed,
    );
    FORMAT.store(format.unwrap_or(0), Ordering::Relaxed);
    let log = RunnerLog {
        started: Instant::now(),
        terminal: std::io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::registry().with(log);
    // A second start (in tests) keeps the first.
    tracing::subscriber::set_global_default(subscriber).ok();
    fixed
}

/// Takes level and form from a config, as far as the command line left them open.
pub(crate) fn configure(fixed: Fixed, config: &Config) {
    if fixed.level.is_none() {
        LEVEL.store(level_of_config(config.log_level), Ordering::Relaxed);
    }
    if fixed.format.is_none() {
        let format = match config.log_format {
            LogFormat::Runner => 0,
            LogFormat::Text => 1,
            LogFormat::Json => 2,
        };
        FORMAT.store(format, Ordering::Relaxed);
    }
}

/// Lines so far, for the errors metric.
pub(crate) fn counts() -> Arc<LogCounts> {
    Arc::clone(&COUNTS)
}

/// Why a command failed, in the form of the log. Whatever the level: it is the last word.
pub(crate) fn fatal(message: &str, hints: &[String]) -> String {
    fatal::line(FORMAT.load(Ordering::Relaxed), message, hints)
}

fn level_of_arg(level: LogLevelArg) -> u8 {
    match level {
        LogLevelArg::Debug => DEBUG,
        LogLevelArg::Info => INFO,
        LogLevelArg::Warn => WARN,
        LogLevelArg::Error => ERROR,
        LogLevelArg::Fatal | LogLevelArg::Panic => NOTHING,
    }
}

fn level_of_config(level: LogLevel) -> u8 {
    match level {
        LogLevel::Trace | LogLevel::Debug => DEBUG,
        LogLevel::Info => INFO,
        LogLevel::Warn => WARN,
        LogLevel::Error => ERROR,
        LogLevel::Fatal | LogLevel::Panic => NOTHING,
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARN,
        Level::INFO => INFO,
        _ => DEBUG,
    }
}

struct RunnerLog {
    started: Instant,
    terminal: bool,
}

impl<S: Subscriber> Layer<S> for RunnerLog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // What is never written is never asked for; all else is asked for anew each time, because a reload changes the level.
        if is_ours(metadata) || rank(*metadata.level()) < INFO {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let rank = rank(*metadata.level());
        rank <= LEVEL.load(Ordering::Relaxed) && (is_ours(metadata) || rank < INFO)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        match level {
            Level::ERROR => COUNTS.error(),
            Level::WARN => COUNTS.warning(),
            _ => {}
        }
        let text = match FORMAT.load(Ordering::Relaxed) {
            1 if self.terminal => line.coloured_text(level, self.started.elapsed().as_secs()),
            1 => line.text(level, &line::now()),
            2 => line.json(level, &line::now()),
            _ => line.runner(level),
        };
        // Nobody is left to tell that stderr is closed.
        std::io::stderr().lock().write_all(text.as_bytes()).ok();
    }
}

/// Libraries log bodies and headers at debug level: only our own words get out below warning.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("gantry")
}
