//! One CI job: payload, variables, feature flags, stages, outcome.
