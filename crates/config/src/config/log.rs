//! Level and form of the process log (config-toml §2, cli §5).

/// `log_level`. Read case-insensitively.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `panic`
    Panic,
    /// `fatal`
    Fatal,
    /// `error`
    Error,
    /// `warn` or `warning`
    Warn,
    /// `info`
    #[default]
    Info,
    /// `debug`
    Debug,
    /// `trace`
    Trace,
}

impl LogLevel {
    /// Reads a level as the peer does; `None` when it is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "panic" => Self::Panic,
            "fatal" => Self::Fatal,
            "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }
}

/// `log_format` (cli §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `runner`: coloured message, then `key=value`.
    #[default]
    Runner,
    /// `text`: logfmt.
    Text,
    /// `json`: one object a line.
    Json,
}

impl LogFormat {
    /// Reads a format; `None` when it is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "runner" => Self::Runner,
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return None,
        })
    }
}
