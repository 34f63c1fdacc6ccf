//! The `moerge` command.

fn main() {}
