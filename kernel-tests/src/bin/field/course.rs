//! How a scene is played: each target midway, then from the start, then what is special.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{moment::Moment, process::Process, results::Output};

use crate::{
    background,
    cell::{Cell, Outcome, Phase, Target},
    flowing::{flows, read},
    limited::{BYTES, Known, Limit},
    scenes::{Part, Scene, missing},
    stage::{Line, Stage},
};

/// How long it runs at full speed.
const UNLIMITED: Duration = Duration::from_millis(1500);
/// How many seconds are judged, from the second one on.
const JUDGED: usize = 5;

/// How much of a scene is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All targets, midway, before, and what is special.
    All,
    /// By program, midway and before.
    Sample,
    /// By program, in the background of a slow line.
    Background,
}

/// Plays a scene and keeps what came of it.
pub fn play(scene: &Scene, extent: Extent, out: &Output) -> Result<()> {
    let mut known = Known::default();
    let missing = missing(scene);
    for (phase, target) in cells(scene, extent) {
        let outcome = match &missing {
            Some(missing) => Ok(Some(Outcome::Skipped(missing.clone()))),
            None => cell(scene, phase, target, &mut known),
        };
        let outcome = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => continue,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let cell = Cell {
            scene: scene.name.to_owned(),
            direction: scene.direction,
            target,
            phase,
            outcome,
        };
        tell(&cell);
        out.keep(&cell)?;
        if missing.is_some() {
            break;
        }
    }
    Ok(())
}

/// What is played of it.
fn cells(scene: &Scene, extent: Extent) -> Vec<(Phase, Target)> {
    let targets = match extent {
        Extent::All => &Target::ALL[..],
        Extent::Sample => &Target::ALL[..1],
        Extent::Background if background::can_play(scene) => {
            return vec![(Phase::Background, Target::Program)];
        }
        Extent::Background => return Vec::new(),
    };
    let mut cells = Vec::new();
    cells.extend(targets.iter().map(|target| (Phase::Midway, *target)));
    let stays = |target: &&Target| !matches!(target, Target::Pid | Target::Tree);
    cells.extend(
        targets
            .iter()
            .filter(stays)
            .map(|target| (Phase::Before, *target)),
    );
    if scene.reload.is_some() && extent == Extent::All {
        cells.push((Phase::Reloaded, Target::Program));
    }
    if scene.short.is_some() && extent == Extent::All {
        cells.push((Phase::Short, Target::Program));
    }
    cells
}

fn tell(cell: &Cell) {
    let what = match (&cell.outcome, cell.mean()) {
        (Outcome::Failed(why) | Outcome::Skipped(why), _) => why.clone(),
        (
            Outcome::Measured {
                seconds,
                resent,
                said,
            },
            mean,
        ) => format!(
            "{:.2} {seconds:.2?}, resent {:.2} %, {}",
            mean.unwrap_or(f64::NAN),
            resent * 100.0,
            said.join("; ")
        ),
        (Outcome::Shared(shared), _) => format!("{shared:.2?}"),
    };
    eprintln!(
        "field: {}, {:?} by {:?}: {what}",
        cell.scene, cell.phase, cell.target
    );
}

/// One cell; nothing if its target can't be said of this program.
fn cell(scene: &Scene, phase: Phase, target: Target, known: &mut Known) -> Result<Option<Outcome>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let line = match phase {
        Phase::Background => Line::Slow,
        _ => Line::Fast,
    };
    let stage = Stage::new(scene, NUMBER.fetch_add(1, Ordering::Relaxed), line)?;
    let mut running = Vec::new();
    let outcome = match phase {
        Phase::Background => background::play(scene, &stage, &mut running).map(Some),
        _ => act(scene, phase, target, known, &stage, &mut running),
    };
    let said = if outcome.is_err() {
        running.iter().map(Process::errors).collect()
    } else {
        Vec::new()
    };
    stage.clear(running);
    outcome.with_context(|| last(&said))
}

/// The end of what processes said.
fn last(said: &[String]) -> String {
    let lines = said
        .iter()
        .filter_map(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    lines.collect::<Vec<_>>().join(" / ")
}

fn act(
    scene: &Scene,
    phase: Phase,
    target: Target,
    known: &mut Known,
    stage: &Stage<'_>,
    running: &mut Vec<Process>,
) -> Result<Option<Outcome>> {
    let mut limit = None;
    if phase != Phase::Midway {
        limit = Limit::set(scene, target, stage, known, None)?;
        if limit.is_none() {
            return Ok(None);
        }
    }
    running.push((scene.server)(&stage.post(Part::Server)).context("the server")?);
    if phase == Phase::Reloaded
        && let Some(signal) = scene.reload
    {
        running.first().context("a server")?.signal(signal)?;
        thread::sleep(Duration::from_secs(2));
    }
    let client = match (phase, scene.short) {
        (Phase::Short, Some(short)) => short,
        _ => scene.client,
    };
    running.push(client(&stage.post(Part::Client)).context("the client")?);
    flows(scene, stage, running)?;
    if phase == Phase::Midway {
        thread::sleep(UNLIMITED);
        known.look(stage)?;
        let started = match scene.limited {
            Part::Server => running.first(),
            Part::Client => running.last(),
        };
        limit = Limit::set(scene, target, stage, known, started.map(Process::pid))?;
    }
    let Some(limit) = limit else { return Ok(None) };
    let outcome = judge(scene, stage, &limit)?;
    // Without a limit it would fill the disk meanwhile.
    stage.clear(std::mem::take(running));
    limit.lift()?;
    Ok(Some(outcome))
}

fn judge(scene: &Scene, stage: &Stage<'_>, limit: &Limit) -> Result<Outcome> {
    let begun = Moment::now();
    let mut readings = vec![read(scene, stage)?];
    let mut said = Vec::new();
    for second in 1..=JUDGED + 1 {
        (begun + Duration::from_secs(second as u64)).wait();
        readings.push(read(scene, stage)?);
        said.extend(limit.said()?);
    }
    said.sort();
    said.dedup();
    let seconds = readings[1..].windows(2).map(|pair| {
        let time = pair[1].at.seconds_since(pair[0].at);
        (pair[1].delivered - pair[0].delivered) / time / BYTES
    });
    let (first, last) = (&readings[0], &readings[readings.len() - 1]);
    // Who has ended is held by no limit.
    ensure!(
        last.delivered > first.delivered,
        "nothing was moved any more"
    );
    Ok(Outcome::Measured {
        seconds: seconds.collect(),
        resent: (last.resent - first.resent) / (last.sent - first.sent).max(1.0),
        said,
    })
}
