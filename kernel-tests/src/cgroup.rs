//! Cgroups that go away with their owner.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::moment::until;

/// What the names of all our cgroups begin with; the creator's PID and a number follow.
const PREFIX: &str = "chadthrottle-test-";

/// A cgroup of cgroup v2. When dropped, the processes still in it are killed and it is removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new, empty cgroup below the root.
    pub fn new() -> Result<Self> {
        static LEFTOVERS: Once = Once::new();
        let root = root()?;
        LEFTOVERS.call_once(|| remove_leftovers(&root));
        Self::below(&root)
    }

    /// A new, empty cgroup inside another.
    pub fn inside(outer: &Self) -> Result<Self> {
        Self::below(&outer.path)
    }

    /// A new, empty cgroup of that name inside this one. It goes away with this one, too.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(self.path.join(name))
    }

    fn below(directory: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(directory.join(format!("{PREFIX}{}-{number}", process::id())))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("can't create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the mount, as `/proc/PID/cgroup` shows it.
    pub fn name(&self) -> Result<String> {
        let below = self.path.strip_prefix(root()?)?;
        Ok(format!("/{}", below.display()))
    }

    /// The file that takes PIDs.
    pub fn members_file(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// PIDs of the processes here and in cgroups within.
    pub fn members(&self) -> Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let pids = fs::read_to_string(folder.join("cgroup.procs"))?;
            members.extend(pids.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            for inner in fs::read_dir(&folder)? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    folders.push(inner.path());
                }
            }
        }
        Ok(members)
    }

    /// Moves a process here. Its open sockets stay where they were created.
    pub fn take(&self, pid: u32) -> Result<()> {
        let file = self.members_file();
        fs::write(&file, pid.to_string())
            .with_context(|| format!("can't move {pid} to {}", file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("left behind: {}: {error:#}", self.path.display());
        }
    }
}

/// Where cgroup v2 is mounted; not the usual place on a hybrid machine.
pub fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    mounts
        .lines()
        .find_map(|line| {
            // proc(5): … root mount-point options [optional fields] - type source options
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let whole = left.next() == Some("/");
            let point = left.next()?;
            (whole && right.starts_with("cgroup2 ")).then(|| PathBuf::from(point))
        })
        .context("no cgroup2 mount in /proc/self/mountinfo")
}

/// Removes cgroups of test runs that were killed.
fn remove_leftovers(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let creator = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        if creator.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            && let Err(error) = remove(&entry.path())
        {
            eprintln!("leftover stays: {}: {error:#}", entry.path().display());
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    for inner in fs::read_dir(path)?.flatten() {
        if inner.file_type()?.is_dir() {
            remove(&inner.path())?;
        }
    }
    until("the cgroup is empty", Duration::from_secs(5), || {
        for line in fs::read_to_string(path.join("cgroup.procs"))?.lines() {
            if let Some(pid) = line.parse().ok().and_then(Pid::from_raw) {
                // It may just have ended.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        match fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}
