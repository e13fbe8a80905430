//! A program in the background of a slow line, that nobody told chadthrottle of: what it has of it alone, and what a normal
//! flow of the same machine has beside it.

use std::time::Duration;

use anyhow::{Context, Result};
use kernel_tests::{
    moment::Moment,
    process::Process,
    table::mean,
    transfer::{Transfer, payload},
};

use crate::{
    cell::{Outcome, Shared},
    flowing::{flows, read},
    limited::Limit,
    meter::Transport,
    scenes::{Part, Scene},
    stage::{Line, Stage},
};

const SECOND: Duration = Duration::from_secs(1);
/// The program has this time to find the line, and is judged for so long while it is alone.
const FINDING: u32 = 8;
const ALONE: u32 = 6;
/// Then a normal flow comes for so long.
const BESIDE: u32 = 8;

/// Whether it can be told: tunnels and containers have devices of their own on the way.
pub fn can_play(scene: &Scene) -> bool {
    matches!(scene.transport, Transport::Tcp | Transport::Udp) && scene.needs_of_kernel.is_empty()
}

/// Plays a scene to its end.
pub fn play(scene: &Scene, stage: &Stage<'_>, running: &mut Vec<Process>) -> Result<Outcome> {
    let (near, far) = (stage.lab().near(), stage.lab().far());
    let plain = Transfer::alone(far, near.place(), scene.direction)?;
    let limit = Limit::in_background(scene)?;
    running.push((scene.server)(&stage.post(Part::Server)).context("the server")?);
    running.push((scene.client)(&stage.post(Part::Client)).context("the client")?);
    flows(scene, stage, running)?;
    (Moment::now() + SECOND * FINDING).wait();
    let had = |seconds: u32| -> Result<f64> {
        let before = read(scene, stage)?;
        (before.at + SECOND * seconds).wait();
        let after = read(scene, stage)?;
        Ok((after.delivered - before.delivered) / after.at.seconds_since(before.at))
    };
    let alone = had(ALONE)?;
    let begin = Moment::now();
    let normal = Transfer::start(far, near.place(), scene.direction, 1)?;
    (begin + SECOND).wait();
    let all = had(BESIDE - 1)?;
    let normal = normal.seconds(begin, 0..BESIDE)?;
    let said = limit.said()?;
    stage.clear(std::mem::take(running));
    limit.lift()?;
    let line = payload(Line::MEGABITS);
    // The kernel counts both together.
    let meanwhile = match scene.transport {
        Transport::Tcp => Some((all - mean(&normal[1..])) / line),
        _ => None,
    };
    Ok(Outcome::Shared(Shared {
        alone: alone / line,
        beside: normal.into_iter().map(|rate| rate / plain).collect(),
        meanwhile,
        said,
    }))
}
