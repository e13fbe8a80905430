//! Plain data that several layers share: what is shown, what can be asked for, and whom it is about.
//! It reads nothing and decides nothing.

pub mod command;
pub mod connections;
pub mod direction;
pub mod handle;
pub mod limit;
pub mod link;
pub mod notice;
pub mod pattern;
pub mod prefix;
pub mod priority;
pub mod process;
pub mod rule;
pub mod scope;
pub mod snapshot;
pub mod target;
pub mod terms;
pub mod unit;
pub mod uplink;
