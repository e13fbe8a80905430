//! The traffic program under another name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use tempfile::TempDir;

use crate::peer::Job;

/// A copy of the traffic program, with a name that no other process has.
pub struct NamedProgram {
    _directory: TempDir,
    path: PathBuf,
}

impl NamedProgram {
    /// Makes the copy; it goes when this is dropped.
    pub fn new(name: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join(name);
        fs::copy(Job::tcp().command()?.get_program(), &path)?;
        Ok(Self {
            _directory: directory,
            path,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command that does a job.
    pub fn command(&self, job: &Job) -> Result<Command> {
        let mut command = Command::new(&self.path);
        command.args(job.command()?.get_args());
        Ok(command)
    }
}
