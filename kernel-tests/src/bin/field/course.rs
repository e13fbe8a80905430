//! How a scene is played: each target midway, then from the start, then what is special.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{moment::Moment, outcome::is_slow, process::Process, results::Output};

use crate::{
    cell::{Cell, Outcome, Phase, Target},
    limited::{BYTES, Known, Limit},
    meter::{self, Reading},
    scenes::{Part, Scene, missing},
    stage::Stage,
};

/// How long it runs at full speed.
const UNLIMITED: Duration = Duration::from_millis(1500);
/// How many seconds are judged, from the second one on.
const JUDGED: usize = 5;

/// Plays a scene and keeps what came of it.
pub fn play(scene: &Scene, sample: bool, out: &Output) -> Result<()> {
    let mut known = Known::default();
    let mut cells = Vec::new();
    let targets = match sample {
        true => &Target::ALL[..1],
        false => &Target::ALL[..],
    };
    cells.extend(targets.iter().map(|target| (Phase::Midway, *target)));
    let stays = |target: &&Target| !matches!(target, Target::Pid | Target::Tree);
    cells.extend(
        targets
            .iter()
            .filter(stays)
            .map(|target| (Phase::Before, *target)),
    );
    if scene.reload.is_some() && !sample {
        cells.push((Phase::Reloaded, Target::Program));
    }
    if scene.short.is_some() && !sample {
        cells.push((Phase::Short, Target::Program));
    }
    let missing = missing(scene);
    for (phase, target) in cells {
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
    };
    eprintln!(
        "field: {}, {:?} by {:?}: {what}",
        cell.scene, cell.phase, cell.target
    );
}

/// One cell; nothing if its target can't be said of this program.
fn cell(scene: &Scene, phase: Phase, target: Target, known: &mut Known) -> Result<Option<Outcome>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let stage = Stage::new(scene, NUMBER.fetch_add(1, Ordering::Relaxed))?;
    let mut running = Vec::new();
    let outcome = act(scene, phase, target, known, &stage, &mut running);
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

fn read(scene: &Scene, stage: &Stage<'_>) -> Result<Reading> {
    meter::read(stage.lab(), scene.direction, scene.transport)
}

/// Waits until data flows.
fn flows(scene: &Scene, stage: &Stage<'_>, running: &mut [Process]) -> Result<()> {
    let patience = Duration::from_secs(if is_slow() { 90 } else { 30 });
    let begun = Moment::now();
    let first = read(scene, stage)?;
    while read(scene, stage)?.delivered - first.delivered < BYTES / 10.0 {
        for process in running.iter_mut() {
            ensure!(!process.has_ended()?, "it ended before anything was moved");
        }
        ensure!(
            Moment::now() - begun < patience,
            "nothing was moved in {patience:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
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
