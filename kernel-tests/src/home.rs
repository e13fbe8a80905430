//! A daemon, and everything it has on disk.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    lab::End,
    moment::until,
    outcome::patience,
    process::{Place, Process, run},
    product,
};

/// A daemon's own folder, with a rules file, a state and a socket.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// A new one.
    pub fn new(rules: &str) -> Result<Self> {
        let home = Self {
            folder: tempfile::tempdir()?,
        };
        home.write(rules)?;
        Ok(home)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the rules.
    pub fn write(&self, rules: &str) -> Result<()> {
        Ok(fs::write(self.path().join("rules.toml"), rules)?)
    }

    /// chadthrottle with arguments, which finds everything there.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = product::command(arguments)?;
        command
            .env("CHADTHROTTLE_CONFIG", self.path().join("rules.toml"))
            .env("CHADTHROTTLE_SOCKET", self.path().join("run/control.sock"))
            .env("STATE_DIRECTORY", self.path().join("state"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM");
        Ok(command)
    }

    /// Starts a daemon, and waits until its rules are in force.
    pub fn daemon(&self) -> Result<Process> {
        self.daemon_by(self.command(&["daemon"])?)
    }

    /// The same with a command that was changed.
    pub fn daemon_by(&self, command: Command) -> Result<Process> {
        let daemon = Process::start(command, Place::default())?;
        until("the daemon is ready", patience(), || {
            Ok(daemon.errors().contains("ready:"))
        })
        .with_context(|| daemon.errors())?;
        Ok(daemon)
    }

    /// Runs a command that should succeed, and returns what it says.
    pub fn say(&self, arguments: &[&str]) -> Result<String> {
        run(self.command(arguments)?, "", Place::default())
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.say(&["status", "--json"])?)?)
    }

    /// A command that should fail: its exit status and standard error.
    pub fn refusal(&self, arguments: &[&str]) -> Result<(ExitStatus, String)> {
        product::refusal(self.command(arguments)?)
    }
}

/// A rule for what runs at an end of a lab, and for no other test's processes.
pub fn rule_for(end: &End, limits: &str) -> Result<String> {
    rule("near", end.cgroup(), limits)
}

/// A rule of this name for what runs in a cgroup.
pub fn rule(name: &str, group: &Cgroup, says: &str) -> Result<String> {
    Ok(format!(
        "[[rule]]\nname = \"{name}\"\ncgroup = \"{}\"\n{says}\n",
        group.name()?
    ))
}
