//! A limit by one of its targets, as a person sets it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use kernel_tests::{home::Home, process::Process, product::Limiter};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cell::Target,
    scenes::{RunsAs, Scene},
    stage::Stage,
};

/// What is typed as a rate, and what it is in bytes a second.
pub const RATE: &str = "1M";
pub const BYTES: f64 = 1e6;

/// A limit in force.
pub enum Limit {
    /// By `limit`.
    Command(Limiter),
    /// By a daemon, which goes first.
    Daemon(Process, Home),
}

/// What can be known of a program before it runs, and is not told by its scene.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The file of the process that carries the traffic.
    pub path: Option<PathBuf>,
}

impl Known {
    /// Looks at what runs.
    pub fn look(&mut self, stage: &Stage<'_>) -> Result<()> {
        if let Some(pid) = stage.carriers()?.first() {
            self.path = Some(fs::read_link(format!("/proc/{pid}/exe"))?);
        }
        Ok(())
    }
}

/// The options of a target; nothing if it can't be said of this program, or not yet.
fn options(
    scene: &Scene,
    target: Target,
    stage: &Stage<'_>,
    known: &Known,
    root: Option<u32>,
) -> Result<Option<Vec<String>>> {
    let one = |option: &str, value: String| Some(vec![option.to_owned(), value]);
    Ok(match target {
        Target::Program | Target::Daemon => one("--program", scene.carrier.to_owned()),
        Target::Pid => {
            let carriers = if root.is_some() {
                stage.carriers()?
            } else {
                Vec::new()
            };
            let options = carriers
                .iter()
                .flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
            (!carriers.is_empty()).then(|| options.collect())
        }
        // A container's processes are nobody's children that was started for them.
        Target::Tree => {
            let carriers = stage.carriers()?;
            let root = root.filter(|root| carriers.iter().all(|pid| descends(*pid, *root)));
            root.and_then(|pid| one("--tree", pid.to_string()))
        }
        Target::Path => {
            (known.path.as_ref()).and_then(|path| one("--path", path.display().to_string()))
        }
        Target::Command => {
            let folder = stage.folder().display().to_string();
            one("--command", scene.command.replace("FOLDER", &folder))
        }
        Target::Unit => {
            let path = stage.unit().name()?;
            let unit = path.rsplit('/').next().context("a unit has a name")?;
            one("--unit", unit.to_owned())
        }
        Target::Cgroup => one("--cgroup", stage.lab().near().cgroup().name()?),
        Target::User => match scene.runs_as {
            RunsAs::Root => None,
            RunsAs::Anybody | RunsAs::Named(_) => one("--user", stage.user().to_string()),
        },
    })
}

/// Whether a process is another or descends from it.
fn descends(pid: u32, from: u32) -> bool {
    let parent = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        parent.trim().parse().ok().filter(|parent| *parent > 0)
    };
    std::iter::successors(Some(pid), parent).any(|pid| pid == from)
}

impl Limit {
    /// Sets it; nothing if the target can't be said of this program. `root` is the process that was started,
    /// if it was.
    pub fn set(
        scene: &Scene,
        target: Target,
        stage: &Stage<'_>,
        known: &Known,
        root: Option<u32>,
    ) -> Result<Option<Self>> {
        let direction = scene.direction;
        let Some(options) = options(scene, target, stage, known, root)? else {
            return Ok(None);
        };
        if target == Target::Daemon {
            let home = Home::new(&format!(
                "[[rule]]\nname = \"field\"\nprogram = \"{}\"\n{direction} = \"{RATE}\"\nshared = true\n",
                scene.carrier
            ))?;
            return Ok(Some(Self::Daemon(home.daemon()?, home)));
        }
        let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
        words.extend([direction.option(), RATE, "--shared"]);
        Limiter::start(&[], &words).map(|limiter| Some(Self::Command(limiter)))
    }

    /// A program of the scene in the background.
    pub fn in_background(scene: &Scene) -> Result<Self> {
        let options = ["--program", scene.carrier, "--priority", "background"];
        Limiter::start(&[], &options).map(Self::Command)
    }

    /// What it said until now of not being enforced, each once.
    pub fn said(&self) -> Result<Vec<String>> {
        let mut said = Vec::new();
        match self {
            Self::Command(limiter) => {
                for event in limiter.waiting_events()? {
                    collect(&event, &mut said);
                }
                said.extend(limiter.errors().lines().map(str::to_owned));
            }
            Self::Daemon(_, home) => collect(&home.status()?, &mut said),
        }
        said.sort();
        said.dedup();
        Ok(said)
    }

    /// Takes it away.
    pub fn lift(self) -> Result<()> {
        match self {
            Self::Command(limiter) => limiter.end(Signal::TERM).map(drop),
            Self::Daemon(mut daemon, _home) => {
                daemon.signal(Signal::TERM)?;
                daemon.wait(std::time::Duration::from_secs(20)).map(drop)
            }
        }
    }
}

/// Each `not_enforced` in a value.
fn collect(value: &Value, said: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(why) if name == "not_enforced" => said.push(why.to_owned()),
                    _ => collect(value, said),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, said)),
        _ => {}
    }
}
