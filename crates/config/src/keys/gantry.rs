//! `[gantry]`.

use super::{Key, Kind, Section, Variable};

pub(super) static SECTION: Section = Section {
    path: "gantry",
    what: "settings GitLab Runner has no key for; it ignores them",
    keys: &[
        Key::new(
            "state_dir",
            Kind::Text,
            "",
            "folder of the state of running jobs; else $STATE_DIRECTORY, else .gantry beside the config",
        )
        .variable(Variable::Under("STATE_DIRECTORY"))
        .at_restart(),
        Key::new(
            "on_stop",
            Kind::OneOf(&["stop", "detach"]),
            "stop",
            "what a stop does with running jobs: end them, or leave them to the next start",
        ),
        Key::new(
            "ignore_unsupported",
            Kind::Keywords,
            "false",
            "keywords of a job that may be dropped instead of failing it",
        ),
        Key::new(
            "compatible_version",
            Kind::Version,
            "19.4.0",
            "GitLab Runner release that jobs and GitLab are told",
        )
        .at_restart(),
        Key::new(
            "compatible_revision",
            Kind::Text,
            "",
            "revision that jobs and GitLab are told; else Gantry's own",
        )
        .at_restart(),
        Key::new(
            "log_driver",
            Kind::OneOf(&["auto", "local", "json-file"]),
            "auto",
            "where the engine keeps the output of containers",
        )
        .at_restart(),
        Key::new(
            "link_variables",
            Kind::Bool,
            "true",
            "share the variables of services with the job as container links did (<ALIAS>_PORT, <ALIAS>_ENV_…); not with a network per job",
        )
        .at_restart(),
        Key::new(
            "naming",
            Kind::OneOf(&["documented", "compatible"]),
            "documented",
            "names of cache volumes and of paths below a shared builds directory: as the Docker executor's page documents them, or as compatible_version has them, to take over what it left on a host",
        )
        .at_restart(),
        Key::new(
            "shared_local_cache",
            Kind::Bool,
            "false",
            "one volume for the local cache of all jobs of a project, also of those that run at the same time; else one for each of them",
        )
        .at_restart(),
        Key::new(
            "nested_variables",
            Kind::Bool,
            "false",
            "expand references in what references of variables stand for; GitLab Runner expands once",
        )
        .at_restart(),
        Key::new(
            "mask_encoded",
            Kind::Bool,
            "true",
            "mask the forms of masked values in base64, URLs, JSON and traces of shells in job logs, too",
        )
        .at_restart(),
        Key::new(
            "s3_multipart",
            Kind::Bool,
            "true",
            "send caches to S3 while they are packed, as multipart uploads that the runner begins and ends; where the storage refuses that, they are packed first",
        )
        .at_restart(),
        Key::new(
            "terminal_after_script",
            Kind::Bool,
            "false",
            "a terminal that is connected when the job's work is done gets a new shell in its container, and keeps it for session_timeout; not where the image has an entrypoint",
        ),
        Key::new(
            "helper_binary",
            Kind::Texts,
            "",
            "architecture of the engine to a gantry-helper for it, where the built-in one does not fit",
        )
        .at_restart(),
    ],
};
