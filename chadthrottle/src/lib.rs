//! chadthrottle.

pub mod engine;
pub mod process;
pub mod rate;
