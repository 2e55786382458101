//! Runs CI jobs in containers.

fn main() {}
