//! What is shown of a snapshot, and in which order, with a screen or without one.

pub mod column;
pub mod filter;
pub mod rows;
