//! What holds a flow to its limit: chadthrottle, or one of those beside it.

use std::{fmt, process::Command};

use anyhow::Result;
use kernel_tests::{flow::Direction, lab::Lab};
use serde::{Deserialize, Serialize};

use crate::{bucket::Bucket, machine};

/// What limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// chadthrottle, by whatever the kernel has.
    Chadthrottle,
    /// chadthrottle where it must not install fq, or can't.
    Policing,
    /// `tc`: HTB where the process sends, and behind an IFB where it receives.
    Htb,
    /// A plain token bucket in cgroup_skb that drops when it is empty.
    Bucket,
    /// The preloaded library.
    Trickle,
}

/// What a mechanism needs to be kept for.
pub struct InForce(#[expect(dead_code, reason = "only kept")] Option<Bucket>);

impl Mechanism {
    /// Those that are compared.
    pub const PEERS: [Self; 4] = [Self::Chadthrottle, Self::Htb, Self::Bucket, Self::Trickle];

    /// Whether a chadthrottle is to be started.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Chadthrottle | Self::Policing)
    }

    /// Sets up what does not need the process.
    pub fn put_in_force(self, lab: &Lab, limit: u64, direction: Direction) -> Result<InForce> {
        let mut bucket = None;
        match self {
            Self::Chadthrottle | Self::Trickle => {}
            // What somebody chose is left alone.
            Self::Policing if machine::has_fq()? => {
                lab.near().tc("qdisc add dev lab root handle 1: pfifo")?;
            }
            Self::Policing => {}
            Self::Htb => htb(lab, limit, direction)?,
            Self::Bucket => {
                bucket = Some(Bucket::attach(lab.near().cgroup(), limit, direction)?);
            }
        }
        Ok(InForce(bucket))
    }

    /// The program that must start the limited one, with its arguments; mostly none.
    pub fn launcher(self, limit: u64) -> Vec<String> {
        match self {
            Self::Trickle => {
                // It counts 1024 bytes, whole.
                let rate = (limit as f64 / 1024.0).round().to_string();
                ["trickle", "-s", "-d", &rate, "-u", &rate]
                    .map(str::to_owned)
                    .to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// Why it can't be had here, if it can't.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Trickle if Command::new("trickle").arg("-V").output().is_err() => {
                Some("trickle is not installed")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chadthrottle => "chadthrottle",
            Self::Policing => "chadthrottle, policing",
            Self::Htb => "HTB + IFB",
            Self::Bucket => "token bucket",
            Self::Trickle => "trickle",
        })
    }
}

/// `bps` of tc are bytes a second. The burst is that of the examples in tc-htb(8): with the least
/// one, which is the default, HTB loses the time by which a busy machine wakes it too late.
fn htb(lab: &Lab, limit: u64, direction: Direction) -> Result<()> {
    let shape = |device: &str| {
        format!(
            "qdisc add dev {device} root handle 1: htb default 1\n\
             class add dev {device} parent 1: classid 1:1 htb rate {limit}bps burst 15k"
        )
    };
    match direction {
        Direction::Upload => lab.near().tc(&shape("lab")),
        Direction::Download => {
            lab.near().redirect_arriving("shaped")?;
            lab.near().tc(&shape("shaped"))
        }
    }
}
