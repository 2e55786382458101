//! Top level, `[session_server]`, `[experimental]` (config-toml §2, §3, §7).

use super::{Key, Kind, Section, Variable, gantry, runner};

/// The whole file.
pub static ROOT: Section = Section {
    path: "",
    what: "the process",
    keys: &[
        Key::new(
            "concurrent",
            Kind::Count,
            "1",
            "job slots of the whole process",
        ),
        Key::new(
            "check_interval",
            Kind::Count,
            "3",
            "seconds between two rounds of polling over all runners",
        ),
        Key::new(
            "log_level",
            Kind::OneOfAnyCase(LOG_LEVELS),
            "info",
            "level of the process log",
        )
        .variable(Variable::Over("LOG_LEVEL")),
        Key::new(
            "log_format",
            Kind::OneOf(&["runner", "text", "json"]),
            "runner",
            "form of the process log",
        )
        .variable(Variable::Over("LOG_FORMAT")),
        Key::new(
            "listen_address",
            Kind::Text,
            "",
            "address of the metrics endpoint (host:port, the port is 9252 if none is given)",
        )
        .variable(Variable::Over("LISTEN_ADDRESS"))
        .at_restart(),
        Key::new(
            "shutdown_timeout",
            Kind::Count,
            "30",
            "seconds a forceful shutdown may take",
        ),
        Key::new(
            "sentry_dsn",
            Kind::Text,
            "",
            "where errors of the process are reported",
        )
        .variable(Variable::Under("SENTRY_DSN"))
        .secret()
        .not_yet(""),
        Key::new(
            "connection_max_age",
            Kind::Duration,
            "15m",
            "greatest age of a keep-alive connection to GitLab; 0: no limit",
        )
        .zero_counts(),
        Key::new(
            "user",
            Kind::Text,
            "",
            "whose home holds registry credentials",
        )
        .not_yet("the home of the process's own user counts"),
        Key::new(
            "labels",
            Kind::Texts,
            "",
            "labels of all runners, shown by GitLab",
        ),
        Key::new(
            "session_server",
            Kind::Table(&SESSION_SERVER),
            "",
            "interactive terminals",
        ),
        Key::new("machine", Kind::AnyTable, "", "docker+machine shutdown").foreign(),
        Key::new(
            "experimental",
            Kind::Table(&EXPERIMENTAL),
            "",
            "experiments of GitLab Runner",
        ),
        Key::new(
            "gantry",
            Kind::Table(&gantry::SECTION),
            "",
            "settings GitLab Runner has no key for",
        ),
        Key::new("runners", Kind::Tables(&runner::SECTION), "", "the runners"),
    ],
};

/// What the peer's log library takes.
const LOG_LEVELS: &[&str] = &[
    "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
];

static SESSION_SERVER: Section = Section {
    path: "session_server",
    what: "interactive terminals",
    keys: &[
        Key::new(
            "listen_address",
            Kind::Text,
            "",
            "where interactive terminals of jobs are served, by TLS (host:port); empty: nowhere",
        )
        .at_restart(),
        Key::new(
            "advertise_address",
            Kind::Text,
            "",
            "the same as GitLab reaches it (host:port, without a scheme); else listen_address",
        )
        .at_restart()
        .with("listen_address"),
        Key::new(
            "session_timeout",
            Kind::Count,
            "1800",
            "seconds a connected terminal may keep a job that is over",
        )
        .with("listen_address"),
    ],
};

static EXPERIMENTAL: Section = Section {
    path: "experimental",
    what: "experiments of GitLab Runner",
    keys: &[Key::new(
        "usage_logger",
        Kind::Table(&USAGE_LOGGER),
        "",
        "usage log",
    )],
};

static USAGE_LOGGER: Section = Section {
    path: "experimental.usage_logger",
    what: "usage log",
    keys: &[
        Key::new("enabled", Kind::Bool, "false", "writes a usage log")
            .no_effect("there is no usage log"),
        Key::new("writers", Kind::List, "", "which").with("enabled"),
        Key::new("log_dir", Kind::Text, "", "where").with("enabled"),
        Key::new("max_backup_files", Kind::Int, "", "how many old files").with("enabled"),
        Key::new("max_rotation_age", Kind::Duration, "", "age of the oldest").with("enabled"),
        Key::new("labels", Kind::Texts, "", "added to each record").with("enabled"),
        Key::new("logrotate", Kind::AnyTable, "", "file writer").with("enabled"),
        Key::new("snowplow_billing", Kind::AnyTable, "", "billing writer").with("enabled"),
    ],
};
