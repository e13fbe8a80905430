//! Everything comes and goes, for as long as one likes, under a daemon's limits: nginx's workers, short connections,
//! processes and their ids, a crowd that has no slots, network namespaces. `cargo xtask soak` runs it and writes
//! docs/soak.md.

mod actors;
mod reading;

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Parser;
use kernel_tests::{machine::Machine, moment::Moment, table::Table};

use actors::{Actor, Stage};
use reading::{Minute, Watch};

/// What to do.
#[derive(Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Leaves an actor out: to find out what it takes for something to go wrong.
    #[arg(long, value_name = "ACTOR")]
    without: Vec<Actor>,
}

/// A minute begins with the tenth second of what was begun: nginx, its clients, and the daemon's first look.
const BEFORE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {}", format!("{error:#}").trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn run(options: &Options) -> Result<bool> {
    let machine = Machine::here()?;
    let stage = Stage::new()?;
    let done = AtomicBool::new(false);
    let troubles = Mutex::new(Vec::new());
    let minutes = thread::scope(|scope| -> Result<Vec<Minute>> {
        for actor in Actor::ALL {
            if options.without.contains(&actor) {
                continue;
            }
            let (stage, done, troubles) = (&stage, &done, &troubles);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if let Err(error) = actor.play(stage, done) {
                        let trouble = format!("{actor:?}: {error:#}");
                        eprintln!("{trouble}");
                        if let Ok(mut troubles) = troubles.lock() {
                            troubles.push(trouble);
                        }
                        thread::sleep(Duration::from_secs(1));
                    }
                }
            });
        }
        let minutes = watch(&stage, options.minutes);
        done.store(true, Ordering::Relaxed);
        minutes
    })?;
    let troubles = troubles.into_inner().unwrap_or_default();
    print!("{}", document(&machine, &minutes, &troubles));
    Ok(minutes.iter().all(Minute::is_well) && troubles.is_empty())
}

fn watch(stage: &Stage, minutes: u32) -> Result<Vec<Minute>> {
    (Moment::now() + BEFORE).wait();
    let mut watch = Watch::new(stage)?;
    let mut seen = Vec::new();
    for number in 1..=minutes {
        let minute = watch.minute(number)?;
        eprintln!("{minute:?}");
        seen.push(minute);
    }
    if seen.is_empty() {
        bail!("nothing was watched");
    }
    Ok(seen)
}

const HEAD: &str = "\
# Soak

Made by `cargo xtask soak`. A daemon limits two programs: nginx with two workers to 20 MB/s of uploads, all together,
and a user's processes to 1 MB/s. nginx has four clients that download for as long as it lets them, and two hundred
short connections a second; each ten seconds it is reloaded. Of the user there are 9,000 processes at a time, more
than there are slots, which come and go every minute. Twenty processes a second start, send and end, and their ids
are used again; each two seconds two network namespaces come and go. **Of the limit** is what arrived at the other
end, with headers, in the minute and in its fastest ten seconds; **entries** are those of all hash maps.
";

fn document(machine: &Machine, minutes: &[Minute], troubles: &[String]) -> String {
    let mut table = Table::new(&[
        "minute",
        "nginx, of the limit",
        "fastest 10 s",
        "user, of the limit",
        "fastest 10 s",
        "short connections",
        "failed",
        "coverage",
        "memory",
        "descriptors",
        "entries",
        "warnings",
    ]);
    for minute in minutes {
        table.row(&minute.row());
    }
    let mut text = format!("{HEAD}\n{}; {}.\n", machine.words(), machine.date);
    text += &format!("Commit {}; {}.\n", machine.commit, machine.mechanism);
    text += &table.below("");
    if !troubles.is_empty() {
        text += "\n";
        for trouble in troubles {
            text += &format!("- {trouble}\n");
        }
    }
    text
}
