//! Rules that are kept: the rules file, and what of it is in force when.

pub mod file;
pub mod ledger;
pub mod plan;
pub mod quota;
pub mod schedule;
