//! chadthrottle shows what every process sends and receives, and limits any of them.
//!
//! Data flows one way: kernel maps, engine, snapshot, interface; and back: key, action, command,
//! engine, kernel maps. ARCHITECTURE.md has the map of the code.

pub mod cli;
pub mod daemon;
pub mod demo;
pub mod engine;
pub mod kernel;
pub mod launch;
pub mod listing;
pub mod log_sink;
pub mod model;
pub mod pacing;
pub mod policy;
pub mod priority;
pub mod process;
pub mod rate;
pub mod report;
pub mod rules;
pub mod tui;
