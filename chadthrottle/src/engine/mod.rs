//! Snapshot and commands.

pub mod command;
pub mod snapshot;
