//! One cell of the table: a program, how it was limited and when, and what came of it.

use std::ops::RangeInclusive;

use kernel_tests::flow::Direction;
use serde::{Deserialize, Serialize};

/// Whom the limit names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// `--program`.
    Program,
    /// `--pid`, of the process that has the connection.
    Pid,
    /// `--tree`, of the process that was started.
    Tree,
    /// `--path`.
    Path,
    /// `--command`.
    Command,
    /// `--unit`.
    Unit,
    /// `--cgroup`.
    Cgroup,
    /// `--user`.
    User,
    /// The rule of a daemon, by program.
    Daemon,
}

impl Target {
    /// All, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Program,
        Self::Pid,
        Self::Tree,
        Self::Path,
        Self::Command,
        Self::Unit,
        Self::Cgroup,
        Self::User,
        Self::Daemon,
    ];

    /// In the head of the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Pid => "pid",
            Self::Tree => "tree",
            Self::Path => "path",
            Self::Command => "command",
            Self::Unit => "unit",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Daemon => "daemon",
        }
    }
}

/// When the limit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// While it moved data at full speed.
    Midway,
    /// Before the program was started.
    Before,
    /// Before, and the program was told to reload before the client came.
    Reloaded,
    /// Before, and each connection moves a little only.
    Short,
    /// Before, and it is the background of a slow line.
    Background,
}

/// How a cell ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Measured.
    Measured {
        /// What was delivered in each second from the second one on, of the limit.
        seconds: Vec<f64>,
        /// TCP segments sent again, of those sent.
        resent: f64,
        /// What the limiter said, each once: that the limit is not enforced, and why.
        said: Vec<String>,
    },
    /// Measured in the background.
    Shared(Shared),
    /// Not measured, and why.
    Failed(String),
    /// A program is missing.
    Skipped(String),
}

/// How a program shares a line, from its background.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shared {
    /// What it has of the line alone.
    pub alone: f64,
    /// What a normal flow of the same machine has beside it by seconds, of what that has alone.
    pub beside: Vec<f64>,
    /// What it has of the line meanwhile, if that can be told from the flow's.
    pub meanwhile: Option<f64>,
    /// What the limiter said, each once.
    pub said: Vec<String>,
}

impl Shared {
    /// At least what it is to have alone, and a normal flow beside it.
    pub const LEAST_ALONE: f64 = 0.90;
    /// The same.
    pub const LEAST_BESIDE: f64 = 0.95;

    /// The seconds that are judged: from the second one on.
    pub fn judged(&self) -> &[f64] {
        self.beside.get(1..).unwrap_or_default()
    }

    /// What a normal flow has beside it then, in the mean.
    pub fn beside(&self) -> f64 {
        kernel_tests::table::mean(self.judged())
    }

    /// Whether all is as it is to be.
    pub fn is_met(&self) -> bool {
        self.alone >= Self::LEAST_ALONE && self.beside() >= Self::LEAST_BESIDE
    }
}

/// A cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The scene.
    pub scene: String,
    /// What was limited.
    pub direction: Direction,
    /// Whom the limit named.
    pub target: Target,
    /// When it came.
    pub phase: Phase,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a limit should come to; what is above it is the program's own doing.
pub const BOUNDS: RangeInclusive<f64> = 0.90..=1.05;

impl Cell {
    /// The mean of its seconds.
    pub fn mean(&self) -> Option<f64> {
        match &self.outcome {
            Outcome::Measured { seconds, .. } if !seconds.is_empty() => {
                Some(kernel_tests::table::mean(seconds))
            }
            _ => None,
        }
    }

    /// Whether it is as it should be: the limit was kept, or somebody said that it was not.
    pub fn is_kept(&self) -> bool {
        self.mean().is_some_and(|mean| BOUNDS.contains(&mean))
    }
}
