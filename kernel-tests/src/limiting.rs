//! An engine in this process, whose limits can be changed: `chadthrottle limit` sets a rate once.

use std::time::Duration;

use anyhow::Result;
use chadthrottle::{
    engine::{self, EngineThread},
    model::{
        command::Command, direction::Limits, handle::EngineHandle, process::Pid, target::Target,
    },
    rate::Rate,
};
use chadthrottle_common::traffic;

use crate::{flow::Direction, moment::Moment};

/// The engine.
pub struct Limiting {
    runtime: tokio::runtime::Runtime,
    engine: EngineHandle,
    /// Takes everything out of the kernel at its end.
    _thread: EngineThread,
}

impl Limiting {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let (engine, thread) = engine::start(Duration::from_secs(1))?;
        Ok(Self {
            engine: runtime.block_on(engine)?,
            runtime,
            _thread: thread,
        })
    }

    /// Sets or changes a process's limit; it is in force at the moment that is returned.
    pub fn set(&self, pid: u32, direction: Direction, rate: u64) -> Result<Moment> {
        self.put(pid, direction, Some(rate))
    }

    /// Takes a process's limit away.
    pub fn lift(&self, pid: u32, direction: Direction) -> Result<Moment> {
        self.put(pid, direction, None)
    }

    fn put(&self, pid: u32, direction: Direction, rate: Option<u64>) -> Result<Moment> {
        let limits = Limits::of(|its| {
            let meant = match its {
                traffic::Direction::Download => Direction::Download,
                traffic::Direction::Upload => Direction::Upload,
            };
            rate.filter(|_| meant == direction)
                .map(Rate::from_bytes_per_second)
        });
        let command = Command::limit(Target::Process(Pid(pid).into()), limits);
        self.runtime.block_on(self.engine.ask(command))?;
        Ok(Moment::now())
    }
}
