//! A made-up world: an engine without a kernel, for trying the screen, for pictures and for tests.
//!
//! The same seed always makes the same world.

mod cast;
mod connections;
mod link;
mod surroundings;
mod world;

use std::{
    future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, watch};

use crate::{
    model::{
        command::Command,
        handle::{EngineHandle, Request},
        snapshot::Snapshot,
    },
    tui::{Keeper, Outside, Shown, preferences::Preferences},
};

pub use surroundings::{MadeUpLog, MadeUpSurroundings};
pub use world::World;

/// Samples from before the first picture.
const PAST: usize = 120;

/// A world with more processes than this has no past: it would take too long to make up.
const LARGE: usize = 500;

/// A running made-up world.
pub struct Demo {
    /// The way to speak to it.
    pub engine: EngineHandle,
    /// What happened before, oldest first.
    pub past: Vec<Arc<Snapshot>>,
    /// The process that the person's terminal is said to hang on.
    pub surroundings: MadeUpSurroundings,
}

impl Demo {
    /// All that the interface needs to show it.
    pub fn outside(self) -> Outside<'static> {
        let shown = Shown {
            past: self.past,
            ..Shown::of(self.engine, Keeper::This)
        };
        Outside {
            shown: Box::pin(future::ready(Ok(shown))),
            log: &MadeUpLog,
            surroundings: Arc::new(self.surroundings),
            preferences: Preferences::default(),
        }
    }
}

/// An engine that shows a made-up world: the handle, and the task its caller must run.
pub fn engine(
    seed: u64,
    processes: usize,
) -> (EngineHandle, impl Future<Output = ()> + Send + 'static) {
    let (demo, world) = start(seed, processes);
    (demo.engine, world)
}

/// The same, with all that belongs to it.
pub fn start(seed: u64, processes: usize) -> (Demo, impl Future<Output = ()> + Send + 'static) {
    let second = Duration::from_secs(1);
    let steps = if processes > LARGE { 3 } else { PAST };
    let begin = SystemTime::now() - second * steps as u32;
    let mut world = World::new(seed, processes, begin);
    // Some time has passed already, so that the first picture is not empty.
    let past: Vec<Arc<Snapshot>> = (0..steps)
        .map(|_| {
            world.advance(second);
            Arc::new(world.snapshot().clone())
        })
        .collect();
    let (show, snapshots) = watch::channel(Arc::new(world.snapshot().clone()));
    let (commands, requests) = mpsc::channel(16);
    let handle = EngineHandle {
        snapshots,
        commands,
    };
    let demo = Demo {
        engine: handle,
        past,
        surroundings: MadeUpSurroundings {
            carrier: world.carrier(),
        },
    };
    (demo, live(world, show, requests))
}

async fn live(
    mut world: World,
    show: watch::Sender<Arc<Snapshot>>,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut interval = Duration::from_secs(1);
    let mut next = tokio::time::Instant::now() + interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                next += interval;
                world.advance(interval);
                show.send_replace(Arc::new(world.snapshot().clone()));
            }
            request = requests.recv() => {
                // Nobody holds a handle any more.
                let Some((command, answer)) = request else { return };
                if let Command::SetInterval(new) = command {
                    interval = new.max(Duration::from_millis(50));
                    next = tokio::time::Instant::now() + interval;
                }
                let result = world.apply(&command);
                // A limit is on the screen at once, not a second later.
                show.send_replace(Arc::new(world.snapshot().clone()));
                // The asker may have gone: nothing to do about that.
                let _ = answer.send(result);
            }
        }
    }
}

#[cfg(test)]
mod tests;
