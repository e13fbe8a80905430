//! What an engine can be asked to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    connections::Watch, direction::Limits, limit::LimitId, link::LinkSpeed, process::Pid,
    rule::Rule, target::Target,
};

/// A request to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Puts a rule in force, in place of the one it [replaces](Rule::replaces). A rule that neither
    /// limits nor counts ends the one it replaces.
    Set(Box<Rule>),
    /// Puts the rules of a file in force, in this order, in place of all that came from one. Where the
    /// kernel has no room for all that they limit, it fails and they hold as far as there is room.
    SetFile(Vec<Rule>),
    /// Ends a limit for all whom it limits.
    Remove(LimitId),
    /// Ends all limits.
    RemoveAll,
    /// Says how fast the link is by which background traffic goes, or takes that back.
    SetLinkSpeed(LinkSpeed),
    /// Changes the time between snapshots.
    SetInterval(Duration),
    /// What snapshots are to have besides the table, from the next on.
    Watch(Watch),
}

impl Command {
    /// Limits a target by hand: all of its traffic, each process with limits of its own.
    /// Unlimited in both directions removes them.
    pub fn limit(target: impl Into<Target>, limits: Limits) -> Self {
        Self::Set(Box::new(Rule::by_hand(target, limits)))
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such process.
    #[error("there is no process {0} (any more)")]
    NoSuchProcess(Pid),
    /// The id now belongs to a process started later.
    #[error(
        "process {0} has ended, and its id now belongs to another process; nothing was limited"
    )]
    PidReused(Pid),
    /// A kernel thread, or nothing that can have sockets of its own.
    #[error("process {0} is a kernel thread: it has no sockets that can be limited")]
    KernelThread(Pid),
    /// It has ended, and its parent has not asked for its exit status.
    #[error("process {0} has ended (a zombie until its parent takes note): it has no sockets")]
    Zombie(Pid),
    /// There are as many processes or limits as there can be.
    #[error("{0}")]
    Exhausted(String),
    /// The limit has ended already.
    #[error("that limit has ended already")]
    NoSuchLimit,
    /// The kernel said no.
    #[error("the kernel refused: {0}")]
    Kernel(String),
    /// A daemon's engine said so.
    #[error("{0}")]
    Daemon(String),
    /// The engine has stopped.
    #[error("the engine has stopped; see the log")]
    Stopped,
}
