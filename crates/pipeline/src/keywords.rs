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
        "default",
        "image",
        "services",
        "stages",
        "variables",
    ],
    not_yet: &["cache", "include", "spec", "workflow"],
};

/// In `default`.
pub(crate) const DEFAULT: Keywords = Keywords {
    supported: &["after_script", "before_script", "image", "services"],
    not_yet: &[
        "artifacts",
        "cache",
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
        "before_script",
        "image",
        "script",
        "services",
        "stage",
        "variables",
    ],
    not_yet: &[
        "artifacts",
        "cache",
        "coverage",
        "dast_configuration",
        "dependencies",
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
        "needs",
        "only",
        "pages",
        "parallel",
        "publish",
        "release",
        "resource_group",
        "retry",
        "rules",
        "run",
        "secrets",
        "start_in",
        "tags",
        "timeout",
        "trigger",
        "when",
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

/// In `allow_failure`.
pub(crate) const ALLOW_FAILURE: Keywords = Keywords {
    supported: &["exit_codes"],
    not_yet: &[],
};

/// Names that are keywords somewhere, so no job may have them (local-pipelines A2).
pub(crate) const RESERVED_JOB_NAMES: [&str; 4] = ["nil", "pages:deploy", "true", "false"];
