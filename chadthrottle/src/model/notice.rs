//! What the person should know.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How serious a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Info,
    /// Something does not work as asked.
    Warning,
}

/// Something that happened and that the person at the screen should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts up from 0, so that each can be told from the one before.
    pub id: u64,
    /// When.
    pub time: SystemTime,
    /// How serious.
    pub severity: Severity,
    /// What, in one line.
    pub text: String,
}
