//! What is limited, and how: the one notion of a target that the dialog, the command line and the
//! rules file share.

pub mod pattern;
pub mod rule;
pub mod target;
