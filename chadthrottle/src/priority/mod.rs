//! Priorities on a link whose speed nobody knows: how fast it is, and how much of it is left, found out from what
//! passes and how long it waits.

pub mod capacity;
mod curve;
pub mod delay;
pub mod guarantee;
pub mod history;
pub mod sharing;

#[cfg(test)]
mod simulation;
