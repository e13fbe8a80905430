//! What is limited, and how: the one notion of a target that the dialog, the command line and the
//! rules file share; the rules file, and what of it is in force when.

pub mod file;
pub mod ledger;
pub mod pattern;
pub mod plan;
pub mod quota;
pub mod rule;
pub mod schedule;
pub mod target;
