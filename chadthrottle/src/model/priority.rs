//! How important a process's traffic is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::Scope;

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

impl Priority {
    /// Which traffic a rule of this priority is about if nothing was said: a link that is worth more to some than to others is
    /// the way to the internet, and what stays on local networks need not wait for it.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Background | Self::Normal => Scope::All,
            Self::High => Scope::Internet,
        }
    }
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
