//! The engine that is shown: waited for, then listened to.

use std::{future, sync::Arc};

use futures_util::future::LocalBoxFuture;

use super::action::Message;
use crate::model::{handle::EngineHandle, snapshot::Snapshot};

/// An engine to be shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The way to speak to it.
    pub engine: EngineHandle,
    /// Samples from before its latest, oldest first.
    pub past: Vec<Arc<Snapshot>>,
    /// What becomes of its limits when the screen is left.
    pub keeper: Keeper,
}

impl Shown {
    /// An engine of which nothing earlier is known.
    pub fn of(engine: EngineHandle, keeper: Keeper) -> Self {
        Self {
            engine,
            past: Vec::new(),
            keeper,
        }
    }
}

/// Who keeps limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// This program: they end with it.
    This,
    /// A daemon: they stay when the screen is left.
    Daemon {
        /// Its process.
        pid: u32,
    },
}

/// How far the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being loaded; nothing is known yet.
    Starting,
    /// Samples come.
    Running(Keeper),
    /// No more samples will come.
    Stopped(Keeper),
}

impl Phase {
    /// Who keeps limits in force, or kept them.
    pub const fn keeper(self) -> Keeper {
        match self {
            Self::Starting => Keeper::This,
            Self::Running(keeper) | Self::Stopped(keeper) => keeper,
        }
    }
}

/// Where samples come from.
pub(super) enum Source<'a> {
    Starting(LocalBoxFuture<'a, anyhow::Result<Shown>>),
    Running(EngineHandle),
    Stopped,
}

impl Source<'_> {
    /// What comes next. Nothing is lost when this is dropped before.
    ///
    /// # Errors
    ///
    /// There is no engine, and will be none.
    pub(super) async fn next(&mut self) -> anyhow::Result<Message> {
        match self {
            Self::Starting(shown) => {
                let Shown {
                    mut engine,
                    past,
                    keeper,
                } = shown.await?;
                let snapshot = engine.snapshots.borrow_and_update().clone();
                *self = Self::Running(engine);
                Ok(Message::Started {
                    snapshot,
                    past,
                    keeper,
                })
            }
            Self::Running(engine) => match engine.snapshots.changed().await {
                Ok(()) => {
                    let snapshot = engine.snapshots.borrow_and_update().clone();
                    Ok(Message::Snapshot(snapshot))
                }
                Err(_) => {
                    *self = Self::Stopped;
                    Ok(Message::EngineStopped)
                }
            },
            Self::Stopped => future::pending().await,
        }
    }

    /// The latest sample, if it was not taken yet.
    pub(super) fn unseen(&mut self) -> Option<Arc<Snapshot>> {
        let Self::Running(engine) = self else {
            return None;
        };
        let changed = engine.snapshots.has_changed().is_ok_and(|changed| changed);
        changed.then(|| engine.snapshots.borrow_and_update().clone())
    }

    /// The way to speak to the engine, while there is one.
    pub(super) fn engine(&self) -> Option<&EngineHandle> {
        match self {
            Self::Running(engine) => Some(engine),
            Self::Starting(_) | Self::Stopped => None,
        }
    }
}
