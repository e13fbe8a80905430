//! chadthrottle itself, as a person runs it.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cgroup::Cgroup,
    lab::End,
    moment::Moment,
    outcome::patience,
    peer::beside_this_program,
    process::{Place, Process},
};

/// The unit for systemd.
pub const UNIT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../chadthrottle/assets/chadthrottle.service"
);

/// The program under test: `CHADTHROTTLE_BIN`, else the one built beside the tests.
pub fn program() -> Result<PathBuf> {
    match env::var_os("CHADTHROTTLE_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            ensure!(path.is_file(), "CHADTHROTTLE_BIN: no {}", path.display());
            Ok(path)
        }
        None => beside_this_program("chadthrottle")
            .context("build chadthrottle, or set CHADTHROTTLE_BIN"),
    }
}

/// chadthrottle with arguments, in a known environment.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("CHADTHROTTLE_TEST_ROOT_CGROUP");
    Ok(command)
}

/// A `chadthrottle limit` that holds.
pub struct Limiter {
    process: Process,
    applied: Moment,
}

impl Limiter {
    /// Limits processes; `options` are those of `chadthrottle limit`. Returns when the limit is
    /// in force.
    pub fn start(pids: &[u32], options: &[&str]) -> Result<Self> {
        Self::from_command(limit_command(pids, options)?)
    }

    /// The same with a command that was changed, in its environment for example.
    pub fn from_command(command: Command) -> Result<Self> {
        Self::from_command_in(command, Place::default())
    }

    /// The same in a place of its own.
    pub fn from_command_in(command: Command, place: Place<'_>) -> Result<Self> {
        let mut process = Process::start(command, place)?;
        let Some(line) = process.line(patience())? else {
            let status = process.wait(patience())?;
            bail!("limit ended: {status}: {}", process.errors());
        };
        let first: Value = parse(&line.text)?;
        ensure!(first["event"] == "applied", "first line is {}", line.text);
        Ok(Self {
            process,
            applied: line.arrived,
        })
    }

    /// Puts a cgroup into the background; `options` are further ones.
    pub fn in_background(group: &Cgroup, options: &[&str]) -> Result<Self> {
        let name = group.name()?;
        let words = ["--cgroup", &name, "--priority", "background"];
        Self::start(&[], &[&words, options].concat())
    }

    /// When its limit came into force.
    pub fn applied(&self) -> Moment {
        self.applied
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Its next line.
    pub fn next_event(&self) -> Result<Option<Value>> {
        match self.process.line(patience())? {
            Some(line) => parse(&line.text).map(Some),
            None => Ok(None),
        }
    }

    /// The events that it told and that were not taken yet.
    pub fn waiting_events(&self) -> Result<Vec<Value>> {
        (self.process.waiting_lines())
            .map(|line| parse(&line.text))
            .collect()
    }

    /// What its limit did to a process until its latest sample, as it says; the sample is begun
    /// after now.
    pub fn effect_on(&self, pid: u32) -> Result<Value> {
        for _ in self.process.waiting_lines() {}
        let mut effect = Value::Null;
        // The first may have been begun before.
        for _ in 0..2 {
            if let Some(sample) = self.next_event()?
                && let Some(row) = process(&sample, pid)
            {
                effect = row["limit"].clone();
            }
        }
        ensure!(effect.is_object(), "no limit of {pid} in its samples");
        Ok(effect)
    }

    /// What it wrote to standard error.
    pub fn errors(&self) -> String {
        self.process.errors()
    }

    /// Signals it and waits for its end. Returns when the signal was sent and how it ended.
    pub fn end(mut self, signal: Signal) -> Result<Ended> {
        let signalled = Moment::now();
        self.process.signal(signal)?;
        let status = self.process.wait(patience())?;
        Ok(Ended {
            signalled,
            gone: Moment::now(),
            status,
            errors: self.process.errors(),
        })
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.wait(patience)
    }
}

/// How a limiter ended.
#[derive(Debug)]
pub struct Ended {
    /// When it got the signal.
    pub signalled: Moment,
    /// When it was gone.
    pub gone: Moment,
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it wrote to standard error.
    pub errors: String,
}

/// The command that limits processes.
pub fn limit_command(pids: &[u32], options: &[&str]) -> Result<Command> {
    let mut command = command(&["limit", "--json"])?;
    for pid in pids {
        command.arg("--pid").arg(pid.to_string());
    }
    command.args(options);
    Ok(command)
}

/// A call of chadthrottle that should fail: its exit status and standard error.
pub fn refusal(command: Command) -> Result<(ExitStatus, String)> {
    let mut process = Process::start(command, Place::default())?;
    let status = process.wait(patience())?;
    Ok((status, process.errors()))
}

/// A running `chadthrottle top --json`.
pub struct Top {
    process: Process,
    /// The latest sample.
    latest: Value,
}

impl Top {
    /// Starts it and waits for its first sample.
    pub fn start(interval: &str) -> Result<Self> {
        Self::start_in(Place::default(), interval)
    }

    /// The same in the network namespace of an end, whose devices it shows then.
    pub fn start_at(end: &End, interval: &str) -> Result<Self> {
        Self::start_in(end.place_in(None), interval)
    }

    fn start_in(place: Place<'_>, interval: &str) -> Result<Self> {
        let command = command(&["top", "--json", "--interval", interval])?;
        let mut top = Self {
            process: Process::start(command, place)?,
            latest: Value::Null,
        };
        top.next_sample()?;
        Ok(top)
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its next sample.
    pub fn next_sample(&mut self) -> Result<&Value> {
        match self.process.line(patience())? {
            Some(line) => self.latest = parse(&line.text)?,
            None => bail!("top ended: {}", self.process.errors()),
        }
        Ok(&self.latest)
    }

    /// A sample that was begun after now.
    pub fn fresh(&mut self) -> Result<&Value> {
        for _ in self.process.waiting_lines() {}
        self.next_sample()?;
        self.next_sample()
    }

    /// Takes samples until the process's figure stays the same from one to the next, and is not
    /// zero. A process that is no longer shown keeps its last figure.
    pub fn settled(&mut self, pid: u32, figure: &str) -> Result<u64> {
        self.settled_together(&[pid], figure)
    }

    /// The same for the sum of several processes' figures.
    pub fn settled_together(&mut self, pids: &[u32], figure: &str) -> Result<u64> {
        let mut figures = BTreeMap::new();
        let mut last = 0;
        for _ in 0..20 {
            let sample = self.fresh()?;
            let shown = |pid: &u32| Some((*pid, process(sample, *pid)?[figure].as_u64()?));
            figures.extend(pids.iter().filter_map(shown));
            let now = figures.values().sum();
            if now > 0 && now == last {
                return Ok(now);
            }
            last = now;
        }
        bail!("{figure} of {pids:?} never settled; last {last}")
    }

    /// The latest sample.
    pub fn latest(&self) -> &Value {
        &self.latest
    }
}

/// A process's row in a sample.
pub fn process(sample: &Value, pid: u32) -> Option<&Value> {
    sample["processes"]
        .as_array()?
        .iter()
        .find(|row| row["pid"] == pid)
}

fn parse(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))
}
