//! The coordinator protocol of a GitLab server.
