//! Which traffic a rule is about.

use std::fmt;

use chadthrottle_common::address::TrafficClass;
use serde::{Deserialize, Serialize};

/// Which traffic a rule is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of it.
    #[default]
    All,
    /// What is not local.
    Internet,
    /// This machine and its networks: those it has an address in, and private (RFC 1918), shared by a carrier's
    /// customers (CGNAT), link-local, unique local (ULA), loopback and multicast addresses.
    Local,
}

impl Scope {
    /// Whether it has traffic of this class in it.
    pub const fn covers(self, class: TrafficClass) -> bool {
        matches!(
            (self, class),
            (Self::All, _)
                | (Self::Internet, TrafficClass::Internet)
                | (Self::Local, TrafficClass::Local)
        )
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Internet => "internet",
            Self::Local => "local",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        use TrafficClass::{Internet, Local};
        for (scope, internet, local) in [
            (Scope::All, true, true),
            (Scope::Internet, true, false),
            (Scope::Local, false, true),
        ] {
            assert_eq!(
                [scope.covers(Internet), scope.covers(Local)],
                [internet, local]
            );
        }
    }
}
