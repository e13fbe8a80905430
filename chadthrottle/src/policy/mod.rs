//! What is to be: which rules are in force, what a command changes of them, which of them counts for
//! a process. Pure: whoever carries it out, or shows it, asks here.

pub mod active;
pub mod apply;
pub mod choose;
pub mod prewarm;
pub mod usage;

#[cfg(test)]
mod fixtures;
