//! What is said over the control socket: one line of JSON a message.
//!
//! The daemon greets with its version, then answers requests in their order. Who asked to watch
//! gets snapshots between the answers; one who reads slowly gets fewer.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        command::Command,
        limit::{LimitId, LimitRow, Mechanism},
        link::Link,
        snapshot::Snapshot,
        uplink::Devices,
    },
    rules::plan::Standing,
};

/// The number of this protocol. Messages carry the types of the same version of the program, which
/// may change without it.
pub const PROTOCOL: u32 = 1;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest request, in bytes. A rule is some hundred.
pub const LONGEST_REQUEST: usize = 64 * 1024;

/// The longest message of the daemon, in bytes. A snapshot of 10,000 processes is some 6 MB.
pub const LONGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// What the daemon says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// [`VERSION`].
    pub version: String,
    /// Its process.
    pub pid: u32,
}

impl Hello {
    /// What this program says.
    pub fn ours() -> Self {
        Self {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            pid: std::process::id(),
        }
    }

    /// Whether both speak the same.
    pub fn fits(&self) -> bool {
        (self.protocol, &*self.version) == (PROTOCOL, VERSION)
    }
}

/// What is asked of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// Comes back with the answer.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What the daemon can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To do what an engine does. Rules of the file that are ended so are ended until the file is
    /// read again.
    Command(Command),
    /// To send snapshots from now on.
    Watch,
    /// To read the rules file again.
    Reload,
    /// How it is.
    Status,
    /// To end limits.
    Clear(Clear),
}

/// Which limits to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clear {
    /// Those set by hand.
    ByHand,
    /// Those of the rules file, too.
    All,
    /// One, by its number.
    Limit(LimitId),
}

/// What the daemon says after its greeting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A snapshot.
    Snapshot(Arc<Snapshot>),
    /// An answer.
    Answer {
        /// Whose.
        id: u64,
        /// What came of it, or in words why nothing did.
        result: Result<Outcome, String>,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// So many limits were ended.
    Cleared(usize),
    /// The rules were read.
    Reloaded(Counts),
    /// How the daemon is.
    Status(Box<Status>),
}

/// How many rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// In force now.
    pub in_force: usize,
    /// In the file.
    pub all: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.all == 1 { "" } else { "s" };
        write!(f, "{} of {} rule{plural} in force", self.in_force, self.all)
    }
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: SystemTime,
    /// Its rules file.
    pub rules_file: PathBuf,
    /// When that was last read; nothing when there was none.
    pub rules_read: Option<SystemTime>,
    /// Why it could not be read again since.
    pub rules_error: Option<String>,
    /// How the file's rules stand.
    pub rules: Vec<Standing>,
    /// The limits in force.
    pub limits: Vec<LimitRow>,
    /// How they are enforced.
    pub mechanism: Mechanism,
    /// The part of all payload that belongs to known processes, 0 to 1.
    pub coverage: f64,
    /// What devices carried.
    #[serde(default)]
    pub devices: Devices,
    /// The link by which background traffic goes, if there is any.
    #[serde(default)]
    pub link: Option<Link>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// A message as its line, with the line's end.
///
/// # Errors
///
/// What can't be said in JSON; no message is.
pub fn line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
