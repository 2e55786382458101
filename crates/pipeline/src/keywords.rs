//! Which keywords there are and which of them can be run (local-pipelines A2, A5).

/// Whether a keyword can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It can.
    Yes,
    /// GitLab knows it; it is refused by name.
    NotYet,
}

/// Keywords of one kind of map.
pub(crate) struct Keywords {
    supported: &'static [&'static str],
    not_yet: &'static [&'static str],
}

impl Keywords {
    /// What is known about a keyword; none if there is none of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Support> {
        if self.supported.contains(&name) {
            Some(Support::Yes)
        } else if self.not_yet.contains(&name) {
            Some(Support::NotYet)
        } else {
            None
        }
    }

    /// All names, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.supported.iter().chain(self.not_yet).copied()
    }

    /// Names that can be run.
    pub(crate) fn supported(&self) -> &'static [&'static str] {
        self.supported
    }
}

/// At the top of a file, besides jobs.
pub(crate) const GLOBAL: Keywords = Keywords {
    supported: &[
        "after_script",
        "before_script",
        "cache",
        "default",
        "image",
        "services",
        "stages",
        "variables",
    ],
    not_yet: &["include", "spec", "workflow"],
};

/// In `default`.
pub(crate) const DEFAULT: Keywords = Keywords {
    supported: &[
        "after_script",
        "artifacts",
        "before_script",
        "cache",
        "image",
        "services",
    ],
    not_yet: &[
        "hooks",
        "id_tokens",
        "identity",
        "interruptible",
        "retry",
        "tags",
        "timeout",
    ],
};

/// In a job.
pub(crate) const JOB: Keywords = Keywords {
    supported: &[
        "after_script",
        "allow_failure",
        "artifacts",
        "before_script",
        "cache",
        "dependencies",
        "image",
        "needs",
        "parallel",
        "script",
        "secrets",
        "services",
        "stage",
        "variables",
        "when",
    ],
    not_yet: &[
        "coverage",
        "dast_configuration",
        "environment",
        "except",
        "extends",
        "hooks",
        "id_tokens",
        "identity",
        "inherit",
        "inputs",
        "interruptible",
        "manual_confirmation",
        "only",
        "pages",
        "publish",
        "release",
        "resource_group",
        "retry",
        "rules",
        "run",
        "start_in",
        "tags",
        "timeout",
        "trigger",
    ],
};

/// In `image`.
pub(crate) const IMAGE: Keywords = Keywords {
    supported: &["docker", "entrypoint", "name", "pull_policy"],
    not_yet: &["kubernetes", "ports"],
};

/// In an item of `services`.
pub(crate) const SERVICE: Keywords = Keywords {
    supported: &[
        "alias",
        "command",
        "docker",
        "entrypoint",
        "name",
        "pull_policy",
        "variables",
    ],
    not_yet: &["kubernetes", "ports"],
};

/// In `image:docker` and `services:docker`.
pub(crate) const DOCKER: Keywords = Keywords {
    supported: &["platform", "user"],
    not_yet: &[],
};

/// In a global variable.
pub(crate) const GLOBAL_VARIABLE: Keywords = Keywords {
    supported: &["description", "expand", "options", "value"],
    not_yet: &[],
};

/// In a variable of a job.
pub(crate) const JOB_VARIABLE: Keywords = Keywords {
    supported: &["expand", "value"],
    not_yet: &[],
};

/// Where a secret may come from.
pub(crate) const SECRET_PROVIDERS: [&str; 5] = [
    "vault",
    "gcp_secret_manager",
    "azure_key_vault",
    "aws_secrets_manager",
    "gitlab_secrets_manager",
];

/// In one of `secrets`.
pub(crate) const SECRET: Keywords = Keywords {
    supported: &[
        "aws_secrets_manager",
        "azure_key_vault",
        "file",
        "gcp_secret_manager",
        "gitlab_secrets_manager",
        "token",
        "vault",
    ],
    not_yet: &[],
};

/// In `allow_failure`.
pub(crate) const ALLOW_FAILURE: Keywords = Keywords {
    supported: &["exit_codes"],
    not_yet: &[],
};

/// In `artifacts`. Those that only a server heeds are taken and have no effect.
pub(crate) const ARTIFACTS: Keywords = Keywords {
    supported: &[
        "access",
        "exclude",
        "expire_in",
        "expose_as",
        "name",
        "paths",
        "public",
        "reports",
        "untracked",
        "when",
    ],
    not_yet: &[],
};

/// In `artifacts:reports` (local-pipelines A5).
pub(crate) const REPORTS: Keywords = Keywords {
    supported: &[
        "accessibility",
        "annotations",
        "api_fuzzing",
        "browser_performance",
        "cluster_image_scanning",
        "codequality",
        "container_scanning",
        "coverage_fuzzing",
        "coverage_report",
        "cyclonedx",
        "dast",
        "dependency_scanning",
        "dotenv",
        "junit",
        "license_scanning",
        "load_performance",
        "lsif",
        "metrics",
        "performance",
        "repository_xray",
        "requirements",
        "requirements_v2",
        "sarif",
        "sast",
        "secret_detection",
        "terraform",
    ],
    not_yet: &[],
};

/// In `artifacts:reports:coverage_report`.
pub(crate) const COVERAGE_REPORT: Keywords = Keywords {
    supported: &["coverage_format", "path"],
    not_yet: &[],
};

/// In `cache`.
pub(crate) const CACHE: Keywords = Keywords {
    supported: &[
        "fallback_keys",
        "key",
        "paths",
        "policy",
        "unprotect",
        "untracked",
        "when",
    ],
    not_yet: &[],
};

/// In `cache:key`.
pub(crate) const CACHE_KEY: Keywords = Keywords {
    supported: &["files", "files_commits", "prefix"],
    not_yet: &[],
};

/// In an item of `needs`.
pub(crate) const NEED: Keywords = Keywords {
    supported: &["artifacts", "job", "optional", "parallel"],
    not_yet: &["pipeline", "project", "ref"],
};

/// In `parallel`.
pub(crate) const PARALLEL: Keywords = Keywords {
    supported: &["matrix"],
    not_yet: &[],
};

/// Names that are keywords somewhere, so no job may have them (local-pipelines A2).
pub(crate) const RESERVED_JOB_NAMES: [&str; 4] = ["nil", "pages:deploy", "true", "false"];
