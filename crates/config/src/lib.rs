//! config.toml: read and check.
