//! `[gantry]`.

use super::{Key, Kind, Section};

pub(super) static SECTION: Section = Section {
    path: "gantry",
    what: "settings the peer has no key for; the peer ignores them",
    keys: &[
        Key::new(
            "state_dir",
            Kind::Text,
            "",
            "folder of the state of running jobs; else $STATE_DIRECTORY, else .gantry beside the config",
        ),
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
        ),
        Key::new(
            "compatible_revision",
            Kind::Text,
            "",
            "revision that jobs and GitLab are told; else Gantry's own",
        ),
        Key::new(
            "log_driver",
            Kind::OneOf(&["auto", "local", "json-file"]),
            "auto",
            "where the engine keeps the output of containers",
        ),
        Key::new(
            "helper_binary",
            Kind::Texts,
            "",
            "architecture of the engine to a gantry-helper for it, where the built-in one does not fit",
        ),
    ],
};
