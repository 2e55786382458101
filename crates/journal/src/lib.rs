//! Durable state of running jobs.
