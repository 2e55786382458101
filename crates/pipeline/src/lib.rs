//! From .gitlab-ci.yml to jobs and their order.
