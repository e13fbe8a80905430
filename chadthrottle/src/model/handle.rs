//! The way to an engine, whichever and wherever it is.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    command::{Command, CommandError},
    snapshot::Snapshot,
};

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
