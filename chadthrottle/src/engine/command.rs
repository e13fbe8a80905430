//! What the engine can be asked to do, and how to ask it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    connections::Watch,
    snapshot::{LimitId, Limits, Snapshot},
};
use crate::{
    kernel::{CellsExhausted, SlotsExhausted},
    process::Pid,
    rules::{rule::Rule, target::Target},
};

/// A request to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Puts a rule in force, in place of the one it [replaces](Rule::replaces). A rule that neither
    /// limits nor counts ends the one it replaces.
    Set(Box<Rule>),
    /// Puts the rules of a file in force, in this order, in place of all that came from one.
    SetFile(Vec<Rule>),
    /// Ends a limit for all whom it limits.
    Remove(LimitId),
    /// Ends all limits.
    RemoveAll,
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
    /// No slot left.
    #[error("{0}; end some and try again")]
    SlotsExhausted(SlotsExhausted),
    /// No cell left.
    #[error("{0}; remove some and try again")]
    CellsExhausted(CellsExhausted),
    /// The limit has ended already.
    #[error("that limit has ended already")]
    NoSuchLimit,
    /// The kernel said no.
    #[error("the kernel refused: {0:#}")]
    Kernel(anyhow::Error),
    /// A daemon's engine said so.
    #[error("{0}")]
    Daemon(String),
    /// The engine has stopped.
    #[error("the engine has stopped; see the log")]
    Stopped,
}

/// A command and where its answer goes.
pub type Request = (Command, oneshot::Sender<Result<(), CommandError>>);

/// The one way to speak to an engine, real or made up.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    /// The latest snapshot; changes with every sample and command.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Commands go in here.
    pub commands: mpsc::Sender<Request>,
}

impl EngineHandle {
    /// Waits for the next sample.
    ///
    /// # Errors
    ///
    /// [`CommandError::Stopped`] when there will be none.
    pub async fn next_sample(&mut self) -> Result<Arc<Snapshot>, CommandError> {
        let last = self.snapshots.borrow_and_update().sequence;
        loop {
            let changed = self.snapshots.changed().await;
            changed.map_err(|_| CommandError::Stopped)?;
            let snapshot = self.snapshots.borrow_and_update().clone();
            if snapshot.sequence != last {
                return Ok(snapshot);
            }
        }
    }

    /// Asks the engine to do something, and waits until it is in force.
    ///
    /// # Errors
    ///
    /// Why it was not done; then nothing has changed.
    pub async fn ask(&self, command: Command) -> Result<(), CommandError> {
        let (answer, done) = oneshot::channel();
        self.commands
            .send((command, answer))
            .await
            .map_err(|_| CommandError::Stopped)?;
        done.await.map_err(|_| CommandError::Stopped)?
    }
}
