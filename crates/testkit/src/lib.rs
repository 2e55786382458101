//! GitLab stand-in, fixtures and faults; tests only.
