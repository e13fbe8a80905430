//! Measures chadthrottle, and writes down what was found. `cargo xtask bench` starts it: as root for
//! each part to be measured, on this machine or in a virtual one, keeps the results that it prints,
//! and then for the document. Progress goes to standard error.

mod accepting;
mod alternatives;
mod beside;
mod bpf;
mod bucket;
mod cell;
mod clients;
mod cost;
mod disturbance;
mod document;
mod guarantee;
mod importance;
mod landing;
mod loaded;
mod mechanism;
mod monitors;
mod neighbour;
mod newcomers;
mod pacing;
mod peers;
mod plot;
mod policing;
mod priority;
mod quic;
mod reaction;
mod target;
mod tending;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kernel_tests::{machine, results, table};

use self::{machine::Machine, results::Output};

/// What to do.
#[derive(Parser)]
enum Command {
    /// Names the parts, each with where it is to be measured.
    List,
    /// Measures a part, as root, and prints its results.
    Measure { part: String },
    /// Measures one cell by hand, as root: `case` as in a line of the results.
    Cell { case: String },
    /// Writes benchmarks.md and the pictures from the results of all parts.
    Write { results: PathBuf, docs: PathBuf },
}

/// Where a part is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On this machine, whose kernel is the one that matters.
    Here,
    /// In a virtual machine, with a kernel that has every qdisc.
    Virtual,
}

/// A part: its name, where it is measured, and how.
struct Part {
    name: &'static str,
    place: Place,
    measure: fn(&Output) -> Result<()>,
}

const fn part(name: &'static str, place: Place, measure: fn(&Output) -> Result<()>) -> Part {
    Part {
        name,
        place,
        measure,
    }
}

/// Each is measured by itself, so that what one found outlasts another's failure; those that begin
/// with the same word make one section.
const PARTS: [Part; 31] = [
    part("landing-64k", Place::Virtual, |out| {
        landing::measure(0, out)
    }),
    part("landing-125k", Place::Virtual, |out| {
        landing::measure(1, out)
    }),
    part("landing-1250k", Place::Virtual, |out| {
        landing::measure(2, out)
    }),
    part("landing-12500k", Place::Virtual, |out| {
        landing::measure(3, out)
    }),
    part("landing-changes", Place::Virtual, landing::measure_changed),
    part("landing-policed", Place::Here, landing::measure_policed),
    part("landing-cake", Place::Virtual, landing::measure_cake),
    part("pacing-64k", Place::Virtual, |out| pacing::measure(0, out)),
    part("pacing-125k", Place::Virtual, |out| pacing::measure(1, out)),
    part("pacing-1250k", Place::Virtual, |out| {
        pacing::measure(2, out)
    }),
    part("pacing-12500k", Place::Virtual, |out| {
        pacing::measure(3, out)
    }),
    part("peers-125k", Place::Virtual, |out| peers::measure(0, out)),
    part("peers-1250k", Place::Virtual, |out| peers::measure(1, out)),
    part("peers-12500k", Place::Virtual, |out| peers::measure(2, out)),
    part("policing", Place::Here, policing::measure),
    part("quic-policed", Place::Here, quic::measure_policed),
    part("quic-paced", Place::Virtual, quic::measure_paced),
    part("priority", Place::Virtual, priority::measure),
    part("beside", Place::Virtual, beside::measure),
    part("alternatives", Place::Virtual, alternatives::measure),
    part("tending", Place::Here, tending::measure),
    part("importance", Place::Virtual, importance::measure),
    part("guarantee", Place::Virtual, guarantee::measure),
    part("cost", Place::Here, cost::measure),
    part("monitors", Place::Here, monitors::measure),
    part("accepting", Place::Here, accepting::measure),
    part("accepting-traced", Place::Virtual, accepting::measure),
    part("reaction", Place::Here, reaction::measure),
    part("newcomers", Place::Here, newcomers::measure),
    part("neighbour", Place::Here, neighbour::measure),
    part("clients", Place::Here, clients::measure),
];

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", format!("{error:#}").trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::List => {
            for part in &PARTS {
                let place = match part.place {
                    Place::Here => "here",
                    Place::Virtual => "virtual",
                };
                println!("{} {place}", part.name);
            }
            Ok(())
        }
        Command::Measure { part } => measure(part),
        Command::Cell { case } => {
            let out = Output::begin(&Machine::here()?)?;
            if let Ok(case) = serde_json::from_str(case) {
                return landing::measure_all(&[case], &out);
            }
            if let Ok(case) = serde_json::from_str(case) {
                return priority::measure_all(&[case], &out);
            }
            if let Ok(case) = serde_json::from_str(case) {
                return beside::measure_all(&[case], &out);
            }
            cell::measure(&[serde_json::from_str(case)?], 1, &out)
        }
        Command::Write { results, docs } => document::write(results, docs),
    }
}

fn measure(name: &str) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root: `cargo xtask bench` sees to it"
    );
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.with_context(|| format!("no part {name}"))?;
    let start = Instant::now();
    // What the machine is busy with before the bench is.
    let out = Output::begin(&Machine::here()?)?;
    (part.measure)(&out).with_context(|| name.to_owned())?;
    progress(&format!("{name} took {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Tells the person who waits.
fn progress(text: &str) {
    eprintln!("bench: {text}");
}
