//! The process log on stderr (cli §5): GitLab Runner's own form, logfmt-like text, or JSON.
//!
//! Level and form may change when the config is reloaded, unless the command line fixed them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    sync::atomic::{AtomicU8, Ordering},
    time::SystemTime,
};

use gantry_config::{Config, LogFormat, LogLevel};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::cli::{LogFormatArg, LogLevelArg, LoggingArgs};

static LEVEL: AtomicU8 = AtomicU8::new(2);
static FORMAT: AtomicU8 = AtomicU8::new(0);

/// What the command line fixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    level: Option<u8>,
    format: Option<u8>,
}

/// Starts logging. Without a word on the command line or in a config the level is `info`, or what `quiet` says.
pub(crate) fn start(args: &LoggingArgs, quiet: bool) -> Fixed {
    let level = if args.debug {
        Some(3)
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
        level.unwrap_or(if quiet { 1 } else { 2 }),
        Ordering::Relaxed,
    );
    FORMAT.store(format.unwrap_or(0), Ordering::Relaxed);
    let subscriber = tracing_subscriber::registry().with(RunnerLog);
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

fn level_of_arg(level: LogLevelArg) -> u8 {
    match level {
        LogLevelArg::Debug => 3,
        LogLevelArg::Info => 2,
        LogLevelArg::Warn => 1,
        LogLevelArg::Error | LogLevelArg::Fatal | LogLevelArg::Panic => 0,
    }
}

fn level_of_config(level: LogLevel) -> u8 {
    match level {
        LogLevel::Trace | LogLevel::Debug => 3,
        LogLevel::Info => 2,
        LogLevel::Warn => 1,
        LogLevel::Error | LogLevel::Fatal | LogLevel::Panic => 0,
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        _ => 3,
    }
}

struct RunnerLog;

impl<S: Subscriber> Layer<S> for RunnerLog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries log bodies and headers at debug level: only our own words get out below info.
        let ours = metadata.target().starts_with("gantry");
        let rank = rank(*metadata.level());
        rank <= LEVEL.load(Ordering::Relaxed) && (ours || rank < 2)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let line = match FORMAT.load(Ordering::Relaxed) {
            1 => fields.text(level),
            2 => fields.json(level),
            _ => fields.runner(level),
        };
        // Nobody is left to tell that stderr is closed.
        std::io::stderr().lock().write_all(line.as_bytes()).ok();
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<&'static str, String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.others.insert(field.name(), value);
        }
    }

    /// `<colour><PREFIX><message padded to 50><reset> ` and ` <colour>key<reset>=value` sorted by key (cli §5). Colours also into
    /// a pipe, as the peer.
    fn runner(&self, level: Level) -> String {
        let (colour, prefix) = match level {
            Level::ERROR => ("\x1b[31;1m", "ERROR: "),
            Level::WARN => ("\x1b[0;33m", "WARNING: "),
            Level::INFO => ("", ""),
            _ => ("\x1b[37;1m", ""),
        };
        let width = 50 - prefix.len();
        let message = &self.message;
        let mut line = format!("{colour}{prefix}{message:<width$}\x1b[0;m ");
        for (key, value) in &self.others {
            // Writing to a string cannot fail.
            write!(line, " {colour}{key}\x1b[0;m={value}").ok();
        }
        line.push('\n');
        line
    }

    fn text(&self, level: Level) -> String {
        let quote = |text: &str| {
            if text.is_empty() || text.contains([' ', '"', '=', '\n']) {
                format!("{text:?}")
            } else {
                text.to_owned()
            }
        };
        let mut line = format!(
            "time=\"{}\" level={} msg={}",
            now(),
            name(level),
            quote(&self.message)
        );
        for (key, value) in &self.others {
            write!(line, " {key}={}", quote(value)).ok();
        }
        line.push('\n');
        line
    }

    fn json(&self, level: Level) -> String {
        let mut object = serde_json::Map::new();
        for (key, value) in &self.others {
            object.insert((*key).to_owned(), value.as_str().into());
        }
        object.insert("level".to_owned(), name(level).into());
        object.insert("msg".to_owned(), self.message.as_str().into());
        object.insert("time".to_owned(), now().into());
        let mut line = serde_json::Value::Object(object).to_string();
        line.push('\n');
        line
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

fn now() -> String {
    jiff::Timestamp::try_from(SystemTime::now())
        .map(|now| now.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let others = BTreeMap::from([("runner", "abc".to_owned()), ("job", "7".to_owned())]);
        Fields {
            message: "Job succeeded".to_owned(),
            others,
        }
    }

    #[test]
    fn the_runner_form_is_the_peers() {
        let padded = format!("{:<50}", "Job succeeded");
        assert_eq!(
            fields().runner(Level::INFO),
            format!("{padded}\x1b[0;m  job\x1b[0;m=7 runner\x1b[0;m=abc\n")
        );
        let warning = fields().runner(Level::WARN);
        assert!(
            warning.starts_with("\x1b[0;33mWARNING: Job succeeded "),
            "{warning:?}"
        );
    }

    #[test]
    fn json_is_one_object_with_flat_fields() {
        let value: serde_json::Value = serde_json::from_str(&fields().json(Level::ERROR)).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "Job succeeded");
        assert_eq!(value["job"], "7");
    }

    #[test]
    fn text_quotes_where_it_must() {
        let line = fields().text(Level::INFO);
        assert!(
            line.contains("level=info msg=\"Job succeeded\" job=7"),
            "{line}"
        );
    }
}
