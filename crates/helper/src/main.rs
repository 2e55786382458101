//! The program inside helper containers.

fn main() {}
