//! chadthrottle.

pub mod demo;
pub mod engine;
pub mod process;
pub mod rate;
pub mod tui;
