//! What is read of the daemon and at the other ends.

use std::{
    fs,
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use kernel_tests::{kernel_view, lab::Lab, moment::Moment, process::Process};

use crate::actors::{CROWD, Stage, WEB};

/// Readings in a minute.
const PARTS: u32 = 6;
const PART: Duration = Duration::from_secs(60 / PARTS as u64);

/// Of the limit, with headers, and what short connections send before they are known: no more than that.
const MOST: f64 = 1.10;
/// The same of the fastest part: what a clock may run ahead comes on top.
const MOST_OF_A_PART: f64 = 1.15;

/// No less of all payload may belong to known processes.
const COVERAGE: f64 = 0.999;

/// So many of a minute's warnings are shown.
const MOST_WARNINGS: usize = 10;

/// Reads what has changed.
pub struct Watch<'a> {
    stage: &'a Stage,
    short: [u64; 2],
    warnings: usize,
}

/// A minute.
#[derive(Debug)]
pub struct Minute {
    number: u32,
    /// What nginx sent of its limit: in the minute, and in the fastest part of it.
    web: [f64; 2],
    /// The same of the user's processes.
    crowd: [f64; 2],
    /// Short connections that got what they asked for, and others.
    short: [u64; 2],
    /// 0 to 1, since the daemon's start.
    coverage: f64,
    /// The daemon's, in bytes.
    memory: u64,
    descriptors: usize,
    /// Of all its hash maps.
    entries: Option<usize>,
    /// Lines that it wrote as warnings or errors.
    warnings: usize,
}

impl Minute {
    pub fn is_well(&self) -> bool {
        let [web, crowd] =
            [self.web, self.crowd].map(|[all, fastest]| all <= MOST && fastest <= MOST_OF_A_PART);
        web && crowd && self.short[1] == 0 && self.coverage >= COVERAGE
    }

    pub fn row(&self) -> Vec<String> {
        let bold = |good: bool, text: String| {
            if good { text } else { format!("**{text}**") }
        };
        let of = |[all, fastest]: [f64; 2]| {
            [
                bold(all <= MOST, format!("{all:.2}")),
                bold(fastest <= MOST_OF_A_PART, format!("{fastest:.2}")),
            ]
        };
        let mut row = vec![self.number.to_string()];
        row.extend(of(self.web));
        row.extend(of(self.crowd));
        row.extend([
            self.short[0].to_string(),
            bold(self.short[1] == 0, self.short[1].to_string()),
            bold(
                self.coverage >= COVERAGE,
                format!("{:.2} %", 100.0 * self.coverage),
            ),
            format!("{:.1} MB", self.memory as f64 / 1e6),
            self.descriptors.to_string(),
            (self.entries).map_or_else(|| "–".to_owned(), |entries| entries.to_string()),
            self.warnings.to_string(),
        ]);
        row
    }
}

impl<'a> Watch<'a> {
    pub fn new(stage: &'a Stage) -> Result<Self> {
        let mut watch = Self {
            stage,
            short: [0; 2],
            warnings: 0,
        };
        watch.short();
        watch.warnings();
        Ok(watch)
    }

    /// Watches for a minute.
    pub fn minute(&mut self, number: u32) -> Result<Minute> {
        let ends = [&self.stage.web, &self.stage.crowd];
        let limits = [WEB, CROWD];
        let mut parts: [Vec<f64>; 2] = Default::default();
        let mut before = arrived(ends)?;
        for _ in 0..PARTS {
            (before[0].at + PART).wait();
            let now = arrived(ends)?;
            for (index, part) in parts.iter_mut().enumerate() {
                let seconds = now[index].at.seconds_since(before[index].at);
                let bytes = now[index].bytes - before[index].bytes;
                part.push(bytes as f64 / seconds / limits[index] as f64);
            }
            before = now;
        }
        let [web, crowd] = parts.map(|parts| {
            let mean = parts.iter().sum::<f64>() / f64::from(PARTS);
            [mean, parts.into_iter().fold(0.0, f64::max)]
        });
        let pid = self.daemon().pid();
        let status = self.stage.home.status()?;
        Ok(Minute {
            number,
            web,
            crowd,
            short: self.short(),
            coverage: status["coverage"].as_f64().context("no coverage")?,
            memory: memory(pid)?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            entries: kernel_view::can_list_programs()
                .then(|| kernel_view::map_entries_of(pid))
                .transpose()?,
            warnings: self.warnings(),
        })
    }

    fn daemon(&self) -> MutexGuard<'_, Process> {
        (self.stage.daemon.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Since this was asked last.
    fn short(&mut self) -> [u64; 2] {
        let now = [0, 1].map(|index| self.stage.short[index].load(Ordering::Relaxed));
        let before = std::mem::replace(&mut self.short, now);
        [now[0] - before[0], now[1] - before[1]]
    }

    /// The same of the daemon's warnings.
    fn warnings(&mut self) -> usize {
        let said = self.daemon().errors();
        let is_one = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let now = said.lines().filter(is_one).count();
        for line in said
            .lines()
            .filter(is_one)
            .skip(self.warnings)
            .take(MOST_WARNINGS)
        {
            eprintln!("    {line}");
        }
        now - std::mem::replace(&mut self.warnings, now)
    }
}

/// What arrived at an end until a moment.
#[derive(Clone, Copy)]
struct Arrived {
    /// When that was read: to get to an end may take seconds on a machine that has no time.
    at: Moment,
    /// With the headers of IP.
    bytes: u64,
}

/// What arrived at the far ends.
fn arrived(labs: [&Lab; 2]) -> Result<[Arrived; 2]> {
    let [web, crowd] = labs.map(|lab| {
        let bytes = lab.far().counter("IpExt", "InOctets")?;
        let at = Moment::now();
        anyhow::Ok(Arrived { at, bytes })
    });
    Ok([web?, crowd?])
}

fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
}
