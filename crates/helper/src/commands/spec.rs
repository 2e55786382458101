//! The commands and their flags, each with the variable that stands in for it (cli §2).

use super::flags::{boolean, seconds};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value; the last one counts.
    Text,
    /// Any number of values, each with the flag before it.
    List,
    /// Nothing, or `=true` and `=false`.
    Bool,
    /// A whole number.
    Integer,
    /// A whole number that is not negative.
    Count,
    /// A duration such as `1h30m`.
    Duration,
    /// The number of a TCP port; any number of them.
    Port,
}

impl Kind {
    /// What is needed, if a value is not of this kind. No value is that of no flag.
    pub(super) fn refuses(self, value: &str) -> Option<&'static str> {
        let (is_good, needed) = match self {
            Self::Text | Self::List => return None,
            Self::Bool => (boolean(value).is_some(), "true or false"),
            Self::Integer => (value.parse::<i64>().is_ok(), "a whole number"),
            Self::Count => (value.parse::<u64>().is_ok(), "a number of at least 0"),
            Self::Duration => (seconds(value).is_some(), "a duration such as 1h30m"),
            Self::Port => (
                value.parse::<u16>().is_ok_and(|port| port > 0),
                "a port from 1 to 65535",
            ),
        };
        // As if it were not there, where the peer ends.
        let is_empty = value.is_empty() && !matches!(self, Self::Bool | Self::Port);
        (!is_good && !is_empty).then_some(needed)
    }

    pub(super) fn takes_many(self) -> bool {
        matches!(self, Self::List | Self::Port)
    }

    fn placeholder(self) -> &'static str {
        match self {
            Self::Text | Self::List => " VALUE",
            Self::Bool => "",
            Self::Integer | Self::Count => " NUMBER",
            Self::Duration => " DURATION",
            Self::Port => " PORT",
        }
    }
}

/// A flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// Another name, of one letter; empty for none.
    pub(super) letter: &'static str,
    pub(super) kind: Kind,
    /// What stands in for it; empty for none.
    pub(super) variable: &'static str,
    /// Its value where nothing is said, in the form it is given in.
    pub(super) default: &'static str,
    help: &'static str,
}

impl Flag {
    const fn or(mut self, variable: &'static str) -> Self {
        self.variable = variable;
        self
    }

    const fn usually(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn letter(mut self, letter: &'static str) -> Self {
        self.letter = letter;
        self
    }
}

const fn flag(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        letter: "",
        kind,
        variable: "",
        default: "",
        help,
    }
}

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(super) name: &'static str,
    about: &'static str,
    /// What it takes beside flags; empty for nothing.
    pub(super) arguments: &'static str,
    /// Flags end where the first word is none: that is the command to be run.
    pub(super) runs_another: bool,
    groups: &'static [&'static [Flag]],
}

impl Command {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    pub(super) fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.groups.iter().copied().flatten()
    }

    pub(super) fn flag(&self, name: &str) -> Option<&'static Flag> {
        self.flags()
            .find(|flag| flag.name == name || (!flag.letter.is_empty() && flag.letter == name))
    }

    /// Text of `--help`; `program` is what it was called as.
    pub(super) fn help(&self, program: &str) -> String {
        let mut text = format!(
            "{name}: {about}\n\nusage: {program} {name} [flags]{blank}{arguments}\n",
            name = self.name,
            about = self.about,
            blank = if self.arguments.is_empty() { "" } else { " " },
            arguments = self.arguments,
        );
        if self.flags().next().is_some() {
            text.push_str("\nflags:\n");
        }
        for flag in self.flags() {
            let letter = match flag.letter {
                "" => String::new(),
                letter => format!("-{letter}, "),
            };
            let mut notes = Vec::new();
            if flag.kind.takes_many() {
                notes.push("may be repeated".to_owned());
            }
            if !flag.default.is_empty() {
                notes.push(format!("usually {}", flag.default));
            }
            if !flag.variable.is_empty() {
                notes.push(format!("or ${}", flag.variable));
            }
            let notes = match &notes[..] {
                [] => String::new(),
                notes => format!(" ({})", notes.join("; ")),
            };
            let (name, value, help) = (flag.name, flag.kind.placeholder(), flag.help);
            text.extend([
                "  ",
                &letter,
                "--",
                name,
                value,
                "\n        ",
                help,
                &notes,
                "\n",
            ]);
        }
        text
    }
}

/// All commands.
pub(super) const COMMANDS: [Command; 9] = [
    Command {
        name: "artifacts-uploader",
        about: "packs files and sends them to GitLab as artifacts of a job",
        arguments: "",
        runs_another: false,
        groups: &[
            &CREDENTIALS,
            &SELECTION,
            &ARTIFACTS_UPLOADER,
            &[METER],
            &PROVENANCE,
        ],
    },
    Command {
        name: "artifacts-downloader",
        about: "fetches the artifacts of a job and unpacks them into the current directory",
        arguments: "",
        runs_another: false,
        groups: &[
            &CREDENTIALS,
            &ARTIFACTS_DOWNLOADER,
            &RETRY,
            &[METER],
            &RANGES,
        ],
    },
    Command {
        name: "cache-archiver",
        about: "packs files into the archive of a cache, and sends it to a signed address",
        arguments: "",
        runs_another: false,
        groups: &[
            &CACHE,
            &SELECTION,
            &CACHE_ARCHIVER,
            &CACHE_TRANSFER,
            &CACHE_RETRY,
            &[METER],
        ],
    },
    Command {
        name: "cache-extractor",
        about: "fetches the archive of a cache and unpacks it into the current directory",
        arguments: "",
        runs_another: false,
        groups: &[
            &CACHE,
            &CACHE_EXTRACTOR,
            &CACHE_TRANSFER,
            &CACHE_RETRY,
            &[METER],
        ],
    },
    Command {
        name: "cache-init",
        about: "opens directories to every user (mode 0777)",
        arguments: "PATH…",
        runs_another: false,
        groups: &[],
    },
    Command {
        name: "health-check",
        about: "waits until a service takes TCP connections, at the address in $…_TCP_ADDR",
        arguments: "",
        runs_another: false,
        groups: &[&[flag(
            "port",
            Kind::Port,
            "looked at; without it, those in $…_TCP_PORT",
        )
        .letter("p")]],
    },
    Command {
        name: "proxy-exec",
        about: "runs a command in place of itself",
        arguments: "COMMAND [ARGUMENT…]",
        runs_another: true,
        groups: &[&PROXY_EXEC],
    },
    Command {
        name: "read-logs",
        about: "prints the lines of a file as they come, each with the offset behind it, until the file goes (exit code 100)",
        arguments: "",
        runs_another: false,
        groups: &[&READ_LOGS],
    },
    Command {
        name: "steps",
        about: "native steps, which this helper does not run",
        arguments: "[ARGUMENT…]",
        runs_another: true,
        groups: &[],
    },
];

/// Who asks the coordinator.
const CREDENTIALS: [Flag; 6] = [
    flag("url", Kind::Text, "address of GitLab").or("CI_SERVER_URL"),
    flag(
        "token",
        Kind::Text,
        "token of the job; safer by its variable, since other processes see flags",
    )
    .or("CI_JOB_TOKEN"),
    flag("id", Kind::Integer, "number of the job").or("CI_JOB_ID"),
    flag(
        "tls-ca-file",
        Kind::Text,
        "certificates by which GitLab is known",
    )
    .or("CI_SERVER_TLS_CA_FILE"),
    flag("tls-cert-file", Kind::Text, "certificate shown to GitLab").or("CI_SERVER_TLS_CERT_FILE"),
    flag("tls-key-file", Kind::Text, "its key").or("CI_SERVER_TLS_KEY_FILE"),
];

/// Which files.
const SELECTION: [Flag; 4] = [
    flag(
        "path",
        Kind::List,
        "files and directories to take, as a path or pattern",
    ),
    flag("exclude", Kind::List, "of them, not these"),
    flag("untracked", Kind::Bool, "take what git does not track"),
    flag("verbose", Kind::Bool, "without effect: all is told"),
];

const METER: Flag = flag(
    "transfer-meter-frequency",
    Kind::Duration,
    "tell how far a transfer is, in a line that is overwritten so often",
)
.or("TRANSFER_METER_FREQUENCY");

const RETRY: [Flag; 2] = [
    flag("retry", Kind::Count, "further tries").usually("2"),
    flag("retry-time", Kind::Duration, "between tries").usually("1s"),
];

/// The same for caches, which always have it so.
const CACHE_RETRY: [Flag; 2] = [
    flag(
        "retry",
        Kind::Count,
        "without effect: there are 2 further tries",
    ),
    flag(
        "retry-time",
        Kind::Duration,
        "without effect: a second is between them",
    ),
];

/// Requests side by side.
const RANGES: [Flag; 2] = [
    flag("concurrency", Kind::Count, "requests at a time"),
    flag("chunk-size", Kind::Count, "bytes of each"),
];

/// The same for caches, where variables stand in.
const CACHE_TRANSFER: [Flag; 3] = [
    flag(
        "transfer-buffer-size",
        Kind::Count,
        "without effect: buffers are as large as is best",
    )
    .or("CACHE_TRANSFER_BUFFER_SIZE"),
    flag("chunk-size", Kind::Count, "bytes of each request").or("CACHE_CHUNK_SIZE"),
    flag(
        "concurrency",
        Kind::Count,
        "requests at a time (16 with FF_USE_PARALLEL_CACHE_TRANSFER, else 1)",
    )
    .or("CACHE_CONCURRENCY"),
];

/// Which cache, and how it is reached.
const CACHE: [Flag; 5] = [
    flag("file", Kind::Text, "the archive"),
    flag(
        "url",
        Kind::Text,
        "signed address of the archive in the object store",
    ),
    flag(
        "gocloud-url",
        Kind::Text,
        "not supported: signed addresses only",
    ),
    flag("timeout", Kind::Integer, "of a transfer, in minutes").usually("10"),
    flag(
        "env-file",
        Kind::Text,
        "file with variables (KEY=\"value\"): CACHE_METADATA is read",
    ),
];

const ARTIFACTS_UPLOADER: [Flag; 8] = [
    flag("name", Kind::Text, "of the archive").usually("artifacts"),
    flag("expire-in", Kind::Text, "when GitLab removes them"),
    flag(
        "artifact-format",
        Kind::Text,
        "zip, gzip, raw, zipzstd or tarzstd",
    ),
    flag("artifact-type", Kind::Text, "archive, or a kind of report"),
    flag(
        "compression-level",
        Kind::Text,
        "fastest, fast, default, slow or slowest",
    )
    .or("ARTIFACT_COMPRESSION_LEVEL"),
    flag("timeout", Kind::Duration, "of the upload").usually("1h0m0s"),
    flag("response-header-timeout", Kind::Duration, "of the answer").usually("10m0s"),
    flag(
        "ci-debug-trace",
        Kind::Bool,
        "show headers of requests and answers",
    )
    .or("CI_DEBUG_TRACE"),
];

const PROVENANCE: [Flag; 11] = [
    flag(
        "generate-artifacts-metadata",
        Kind::Bool,
        "add a statement of where the artifacts come from",
    ),
    flag(
        "runner-id",
        Kind::Integer,
        "for that statement, as all that follow",
    ),
    flag("repo-url", Kind::Text, "address of the project"),
    flag("repo-digest", Kind::Text, "commit"),
    flag("job-name", Kind::Text, "name of the job"),
    flag("executor-name", Kind::Text, "kind of the executor"),
    flag("runner-name", Kind::Text, "name of the runner"),
    flag("started-at", Kind::Text, "begin of the job (RFC 3339)"),
    flag("ended-at", Kind::Text, "its end (RFC 3339)"),
    flag("schema-version", Kind::Text, "of SLSA: v1 or v0.2"),
    flag(
        "metadata-parameter",
        Kind::List,
        "name of a variable of the job",
    ),
];

const ARTIFACTS_DOWNLOADER: [Flag; 2] = [
    flag(
        "direct-download",
        Kind::Bool,
        "ask for the address in the object store",
    )
    .or("FF_USE_DIRECT_DOWNLOAD"),
    flag(
        "archiver-staging-dir",
        Kind::Text,
        "directory for the archive",
    )
    .or("ARCHIVER_STAGING_DIR"),
];

const CACHE_ARCHIVER: [Flag; 7] = [
    flag(
        "alternate-file",
        Kind::Text,
        "archive that is renamed to --file if there is none",
    ),
    flag(
        "check-url",
        Kind::Text,
        "signed address (HEAD) that tells whether the archive is in the object store",
    ),
    flag("header", Kind::List, "of the upload, as 'name: value'"),
    flag(
        "metadata",
        Kind::Text,
        "of the cache, a JSON object with texts",
    )
    .or("CACHE_METADATA"),
    flag(
        "compression-level",
        Kind::Text,
        "fastest, fast, default, slow or slowest",
    )
    .or("CACHE_COMPRESSION_LEVEL"),
    flag("compression-format", Kind::Text, "zip, zipzstd or tarzstd")
        .or("CACHE_COMPRESSION_FORMAT"),
    flag(
        "max-uploaded-archive-size",
        Kind::Count,
        "larger archives (in bytes) are not sent",
    )
    .or("CACHE_MAX_UPLOADED_ARCHIVE_SIZE"),
];

const CACHE_EXTRACTOR: [Flag; 4] = [
    flag(
        "alternate-url",
        Kind::Text,
        "another signed address, taken if the first is not there or older",
    ),
    flag(
        "alternate-gocloud-url",
        Kind::Text,
        "not supported: signed addresses only",
    ),
    flag("head-url", Kind::Text, "signed address (HEAD) for --url"),
    flag(
        "alternate-head-url",
        Kind::Text,
        "signed address (HEAD) for --alternate-url",
    ),
];

const PROXY_EXEC: [Flag; 2] = [
    flag(
        "bootstrap",
        Kind::Bool,
        "leave a copy of this program in --temp-dir",
    ),
    flag("temp-dir", Kind::Text, "directory for it").or("RUNNER_TEMP_PROJECT_DIR"),
];

const READ_LOGS: [Flag; 3] = [
    flag("path", Kind::Text, "the file"),
    flag("offset", Kind::Count, "bytes to leave out at its begin"),
    flag(
        "wait-file-timeout",
        Kind::Duration,
        "how long the file may take to come",
    )
    .usually("1s"),
];
