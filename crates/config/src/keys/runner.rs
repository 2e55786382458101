//! `[[runners]]` and its smaller tables (config-toml §4).

use super::{Key, Kind, Section, cache, docker};

pub(super) static SECTION: Section = Section {
    path: "runners",
    what: "one runner: who it is, where its jobs come from, how they run",
    keys: &[
        Key::new("name", Kind::Text, "", "description, shown in logs"),
        Key::new("url", Kind::Text, "", "URL of GitLab; $VAR is expanded"),
        Key::new("id", Kind::Int, "0", "number GitLab gave the runner"),
        Key::new(
            "token",
            Kind::Text,
            "",
            "authentication token; $VAR is expanded",
        )
        .secret(),
        Key::new(
            "token_obtained_at",
            Kind::Time,
            "",
            "when the token was obtained",
        ),
        Key::new(
            "token_expires_at",
            Kind::Time,
            "",
            "when the token ends; it is renewed after three quarters of its life",
        ),
        Key::new(
            "tls-ca-file",
            Kind::Text,
            "",
            "CA certificates for GitLab, on top of the system's; else certs/<host>.crt",
        ),
        Key::new(
            "tls-cert-file",
            Kind::Text,
            "",
            "client certificate; else certs/<host>.auth.crt",
        ),
        Key::new(
            "tls-key-file",
            Kind::Text,
            "",
            "key of the client certificate; else certs/<host>.auth.key",
        ),
        Key::new(
            "clone_url",
            Kind::Text,
            "",
            "replaces scheme and host of git URLs",
        ),
        Key::new(
            "limit",
            Kind::Count,
            "0",
            "greatest number of jobs of this runner at once; 0: no limit of its own",
        ),
        Key::new(
            "request_concurrency",
            Kind::Count,
            "1",
            "greatest number of job requests at once",
        ),
        Key::new(
            "strict_check_interval",
            Kind::Bool,
            "false",
            "no new poll right after a job",
        ),
        Key::new(
            "output_limit",
            Kind::Count,
            "4096",
            "greatest size of a job log in KiB",
        ),
        Key::new(
            "unhealthy_requests_limit",
            Kind::Count,
            "3",
            "failures in a row before the runner rests",
        ),
        Key::new(
            "unhealthy_interval",
            Kind::Duration,
            "1h",
            "how long it rests",
        )
        .zero_counts(),
        Key::new(
            "job_status_final_update_retry_limit",
            Kind::Count,
            "10",
            "tries of a job's final update before its slot is given up",
        ),
        Key::new(
            "prepare_timeout",
            Kind::Duration,
            "",
            "limit of the prepare stages; else the job's timeout",
        ),
        Key::new(
            "get_sources_timeout",
            Kind::Duration,
            "",
            "limit of fetching sources, retries included; else the job's timeout",
        ),
        Key::new(
            "executor",
            Kind::Text,
            "",
            "how jobs run; Gantry runs docker",
        ),
        Key::new(
            "builds_dir",
            Kind::Text,
            "/builds",
            "base of project folders in containers",
        ),
        Key::new(
            "cache_dir",
            Kind::Text,
            "/cache",
            "base of the local cache in containers",
        ),
        Key::new(
            "environment",
            Kind::List,
            "",
            "KEY=value variables under those of the job",
        )
        .secret(),
        Key::new(
            "shell",
            Kind::Text,
            "",
            "shell of scripts: bash, sh or pwsh (PowerShell)",
        ),
        Key::new(
            "pre_get_sources_script",
            Kind::Text,
            "",
            "script before sources are fetched, in the helper's environment",
        )
        .secret(),
        Key::new(
            "post_get_sources_script",
            Kind::Text,
            "",
            "script after sources are fetched, in the helper's environment",
        )
        .secret(),
        Key::new(
            "pre_build_script",
            Kind::Text,
            "",
            "script before the job's, in the same shell",
        )
        .secret(),
        Key::new(
            "post_build_script",
            Kind::Text,
            "",
            "script after the job's, in the same shell",
        )
        .secret(),
        Key::new(
            "debug_trace_disabled",
            Kind::Bool,
            "false",
            "jobs cannot switch debug traces on",
        ),
        Key::new(
            "safe_directory_checkout",
            Kind::Bool,
            "true",
            "marks the project as safe.directory for git",
        ),
        Key::new(
            "clean_git_config",
            Kind::Bool,
            "true",
            "wipes the project's git config and hooks around a job",
        ),
        Key::new(
            "proxy_exec",
            Kind::Bool,
            "false",
            "runs scripts through the helper program",
        )
        .no_effect("scripts run directly"),
        Key::new(
            "step_runner_image",
            Kind::Text,
            "",
            "image of the step runner",
        )
        .not_yet("jobs with steps are refused"),
        Key::new(
            "labels",
            Kind::Texts,
            "",
            "labels of this runner, over the global ones",
        ),
        Key::new(
            "use_slot_cgroups",
            Kind::Bool,
            "false",
            "cgroup of a job by its autoscaler slot",
        )
        .no_effect("there is no autoscaler"),
        Key::new(
            "slot_cgroup_template",
            Kind::Text,
            "gitlab-runner/slot-${slot}",
            "name of that cgroup",
        )
        .with("use_slot_cgroups"),
        Key::new(
            "feature_flags",
            Kind::Flags,
            "",
            "feature flags; they beat job variables",
        ),
        Key::new(
            "custom_build_dir",
            Kind::Table(&CUSTOM_BUILD_DIR),
            "",
            "folder chosen by the job",
        ),
        Key::new(
            "artifact",
            Kind::Table(&ARTIFACT),
            "",
            "limits of artifact uploads",
        ),
        Key::new("cache", Kind::Table(&cache::SECTION), "", "remote cache"),
        Key::new("docker", Kind::Table(&docker::SECTION), "", "containers"),
        Key::new(
            "experimental",
            Kind::Table(&EXPERIMENTAL),
            "",
            "experiments of GitLab Runner",
        ),
        Key::new(
            "monitoring",
            Kind::Table(&MONITORING),
            "",
            "thresholds for metrics",
        ),
        Key::new(
            "referees",
            Kind::Table(&REFEREES),
            "",
            "metrics of the machine a job ran on",
        ),
        Key::new(
            "autoscaler",
            Kind::AnyTable,
            "",
            "machines started on demand",
        )
        .not_yet("no machines are started"),
        Key::new("ssh", Kind::AnyTable, "", "ssh executor").foreign(),
        Key::new("parallels", Kind::AnyTable, "", "parallels executor").foreign(),
        Key::new("virtualbox", Kind::AnyTable, "", "virtualbox executor").foreign(),
        Key::new("machine", Kind::AnyTable, "", "docker+machine executor").foreign(),
        Key::new("kubernetes", Kind::AnyTable, "", "kubernetes executor").foreign(),
        Key::new("custom", Kind::AnyTable, "", "custom executor").foreign(),
        Key::new("instance", Kind::AnyTable, "", "instance executor").foreign(),
    ],
};

static CUSTOM_BUILD_DIR: Section = Section {
    path: "runners.custom_build_dir",
    what: "folder chosen by the job",
    keys: &[Key::new(
        "enabled",
        Kind::Bool,
        "true",
        "jobs may set GIT_CLONE_PATH",
    )],
};

static ARTIFACT: Section = Section {
    path: "runners.artifact",
    what: "limits of artifact uploads",
    keys: &[
        Key::new(
            "upload_timeout",
            Kind::Duration,
            "1h",
            "limit of a whole upload",
        ),
        Key::new(
            "response_header_timeout",
            Kind::Duration,
            "10m",
            "limit of waiting for GitLab's answer to an upload",
        ),
    ],
};

static EXPERIMENTAL: Section = Section {
    path: "runners.experimental",
    what: "experiments of GitLab Runner",
    keys: &[Key::new(
        "boot_verify",
        Kind::Table(&BOOT_VERIFY),
        "",
        "trial job at start",
    )],
};

static BOOT_VERIFY: Section = Section {
    path: "runners.experimental.boot_verify",
    what: "trial job at start",
    keys: &[
        Key::new("enabled", Kind::Bool, "false", "runs a trial job at start").not_yet(""),
        Key::new("timeout", Kind::Duration, "5m", "its limit").with("enabled"),
        Key::new(
            "acquire_min_backoff",
            Kind::Duration,
            "1s",
            "shortest pause between tries",
        )
        .with("enabled"),
        Key::new(
            "acquire_max_backoff",
            Kind::Duration,
            "10s",
            "longest pause between tries",
        )
        .with("enabled"),
    ],
};

static MONITORING: Section = Section {
    path: "runners.monitoring",
    what: "thresholds for metrics",
    keys: &[Key::new(
        "job_queuing_durations",
        Kind::Tables(&JOB_QUEUING_DURATIONS),
        "",
        "acceptable waiting times of jobs: a metric counts those that waited longer",
    )],
};

static JOB_QUEUING_DURATIONS: Section = Section {
    path: "runners.monitoring.job_queuing_durations",
    what: "one acceptable waiting time; the last row that holds now counts",
    keys: &[
        Key::new(
            "periods",
            Kind::List,
            "",
            "when it holds: cron expressions with seconds, such as \"* * 9-17 * * mon-fri *\"",
        ),
        Key::new(
            "timezone",
            Kind::Text,
            "",
            "time zone of the periods, such as \"Europe/Berlin\"; else that of the machine",
        ),
        Key::new(
            "threshold",
            Kind::Duration,
            "",
            "longest acceptable time in the queue",
        ),
        Key::new(
            "jobs_running_for_project",
            Kind::Text,
            "",
            "regular expression on the number of jobs that the project has running; else all jobs",
        ),
    ],
};

static REFEREES: Section = Section {
    path: "runners.referees",
    what: "metrics of the machine a job ran on",
    keys: &[Key::new(
        "metrics",
        Kind::AnyTable,
        "",
        "Prometheus queries about the machine",
    )
    .no_effect("only docker+machine has it")],
};
