//! How important a process's traffic is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How important traffic is, in place of a number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// It has what others leave of the link, and is not felt
    Background,
    /// As everybody's
    #[default]
    Normal,
    /// It has what it asks of the link before everybody's, who have all of it while it is idle
    High,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Background => "background",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}
