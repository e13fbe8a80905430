//! The field suite: real servers and clients as people run them, under real limits, judged by the other
//! end. `cargo xtask field` runs it and writes docs/field.md.

mod background;
mod cell;
mod course;
mod document;
mod flowing;
mod limited;
mod meter;
mod scenes;
mod stage;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Mutex, thread};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use kernel_tests::{machine::Machine, results::Output};

use self::{course::Extent, scenes::Scene};

/// What to do.
#[derive(Parser)]
enum Command {
    /// Lists the scenes, each with the programs that it needs.
    List,
    /// Plays scenes, as root, and prints what came of each cell.
    Measure {
        /// Scenes whose name contains one of these; all without any.
        filters: Vec<String>,
        /// How many are played at once; those of one program never are.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Less of each: the limit by program, midway and before.
        #[arg(long)]
        sample: bool,
        /// In the background of a slow line, in place of a limit.
        #[arg(long, conflicts_with = "sample")]
        background: bool,
    },
    /// Writes field.md from all results.
    Write { results: PathBuf, docs: PathBuf },
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("field: {}", format!("{error:#}").trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::List => {
            for scene in scenes::all() {
                println!("{}: {}", scene.name, scene.needs.join(" "));
            }
            Ok(())
        }
        Command::Measure {
            filters,
            jobs,
            sample,
            background,
        } => {
            let extent = match (sample, background) {
                (_, true) => Extent::Background,
                (true, _) => Extent::Sample,
                _ => Extent::All,
            };
            measure(&filters, jobs, extent)
        }
        Command::Write { results, docs } => document::write(&results, &docs),
    }
}

fn measure(filters: &[String], jobs: usize, extent: Extent) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root: `cargo xtask field` sees to it"
    );
    let scenes = scenes::all();
    for filter in filters {
        ensure!(
            scenes.iter().any(|scene| scene.name.contains(&**filter)),
            "no scene has {filter} in its name"
        );
    }
    let is_chosen = |scene: &&Scene| {
        filters.is_empty() || filters.iter().any(|filter| scene.name.contains(&**filter))
    };
    // A limit by a program's name is for all of that name on the machine.
    let mut by_carrier: BTreeMap<&str, Vec<&Scene>> = BTreeMap::new();
    for scene in scenes.iter().filter(is_chosen) {
        by_carrier.entry(scene.carrier).or_default().push(scene);
    }
    let out = Output::begin(&Machine::here()?)?;
    let waiting = Mutex::new(by_carrier.into_values().collect::<Vec<_>>());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let next = waiting
                            .lock()
                            .map_err(|_| anyhow!("a scene panicked"))?
                            .pop();
                        let Some(scenes) = next else { return Ok(()) };
                        for scene in scenes {
                            course::play(scene, extent, &out)?;
                        }
                    }
                })
            })
            .collect();
        let mut outcome = Ok(());
        for worker in workers {
            outcome = outcome.and(worker.join().map_err(|_| anyhow!("a scene panicked"))?);
        }
        outcome
    })
}
