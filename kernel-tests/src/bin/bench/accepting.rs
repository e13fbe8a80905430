//! What it costs a server whose clients come for one request each: somebody who watches, and nothing is limited.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use kernel_tests::{lab::Lab, nginx::Nginx, product::Top};
use serde::{Deserialize, Serialize};

use crate::{
    bpf, loaded, progress,
    results::{Output, Part},
    table::{Table, median, with_range},
};

const ROUNDS: usize = 9;
/// How long each is measured.
const TIME: Duration = Duration::from_secs(3);
/// Clients at a time.
const CLIENTS: u32 = 32;
/// A server is to lose no more than this part of its connections.
const MOST_LOST: f64 = 0.02;
/// And an accepted connection is to cost no more than so many nanoseconds.
const MOST_NANOSECONDS: f64 = 1000.0;

/// A result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Figure {
    /// Connections a second: without chadthrottle, with it, and without it once more.
    Connections {
        without: f64,
        with: f64,
        without_again: f64,
    },
    /// Of the program that is run for each accepted connection, in the mean.
    Program { runs: u64, nanoseconds: f64 },
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    let lab = Lab::new()?;
    let folder = tempfile::tempdir()?;
    let nginx = Nginx::start(lab.near(), folder.path())?.context("nginx is not installed")?;
    // Each connection has a port of its own.
    (lab.far()).set("ipv4/ip_local_port_range", "'1024 65535'")?;
    connections(&lab, &nginx)?;
    for round in 0..ROUNDS {
        progress(&format!("round {} of {ROUNDS}", round + 1));
        let without = connections(&lab, &nginx)?;
        let watches = Top::start("1s")?;
        let with = connections(&lab, &nginx)?;
        drop(watches);
        out.keep(&Figure::Connections {
            without,
            with,
            without_again: connections(&lab, &nginx)?,
        })?;
    }
    let counts = bpf::count_runs()?;
    let watches = Top::start("1s")?;
    connections(&lab, &nginx)?;
    if let Some(program) = loaded::accepts(watches.pid())? {
        let about = bpf::describe(&program)?;
        out.keep(&Figure::Program {
            runs: about.runs,
            nanoseconds: about.nanoseconds as f64 / about.runs.max(1) as f64,
        })?;
    }
    drop(counts);
    Ok(())
}

/// How many a second wrk gets answered, each with a connection of its own.
fn connections(lab: &Lab, nginx: &Nginx) -> Result<f64> {
    let mut wrk = Command::new("wrk");
    wrk.args([
        "-t1",
        &format!("-c{CLIENTS}"),
        &format!("-d{}s", TIME.as_secs()),
    ]);
    wrk.args(["-H", "Connection: close"]);
    wrk.arg(format!("http://{}/small", nginx.address()));
    let said = lab.far().run(wrk)?;
    let rate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.with_context(|| format!("wrk said no rate: {said}"))?
        .trim()
        .parse()
        .context("wrk's rate")
}

/// The text.
pub fn render(parts: &[Part<Figure>]) -> String {
    let mut table = Table::new(&[
        "kernel",
        "alone",
        "watched",
        "ratio",
        "without it again",
        "program",
    ]);
    for part in parts {
        let Some(machine) = &part.machine else {
            continue;
        };
        let rounds: Vec<[f64; 3]> = (part.results.iter())
            .filter_map(|figure| match figure {
                Figure::Connections {
                    without,
                    with,
                    without_again,
                } => Some([*without, *with, *without_again]),
                Figure::Program { .. } => None,
            })
            .collect();
        if rounds.is_empty() {
            continue;
        }
        let of = |figure: fn(&[f64; 3]) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
        // Between the two without it, as the machine itself becomes faster and slower.
        let ratios = of(|[before, with, after]| with / f64::midpoint(*before, *after));
        let ratio = with_range(&ratios);
        let program = part.results.iter().find_map(|figure| match figure {
            Figure::Program { nanoseconds, .. } => Some(*nanoseconds),
            Figure::Connections { .. } => None,
        });
        table.row(&[
            machine.kernel.clone(),
            format!("{:.0}/s", median(&of(|[before, _, _]| *before))),
            format!("{:.0}/s", median(&of(|[_, with, _]| *with))),
            match median(&ratios) < 1.0 - MOST_LOST {
                true => format!("**{ratio}**"),
                false => ratio,
            },
            with_range(&of(|[before, _, after]| after / before)),
            match program {
                Some(nanoseconds) if nanoseconds > MOST_NANOSECONDS => {
                    format!("**{nanoseconds:.0} ns**")
                }
                Some(nanoseconds) => format!("{nanoseconds:.0} ns"),
                None => "no tracing".to_owned(),
            },
        ]);
    }
    table.below(&format!(
        "nginx with two workers, and wrk with {CLIENTS} connections at a time that each ask for 1000 bytes once: \
         connections a second alone, beside `chadthrottle top`, and alone again, {} s each, medians of {ROUNDS}. The \
         ratio is to the mean of the two alone; it is to be at least {}. The program is what runs for each accepted \
         connection where the kernel allows tracing programs: at most {MOST_NANOSECONDS} ns; an emulated processor \
         takes some times longer.",
        TIME.as_secs(),
        1.0 - MOST_LOST,
    ))
}
