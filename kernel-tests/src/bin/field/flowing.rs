//! Whether a scene moves data, and how much of it.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use kernel_tests::{moment::Moment, outcome::is_slow, process::Process};

use crate::{
    limited::BYTES,
    meter::{self, Reading},
    scenes::Scene,
    stage::Stage,
};

/// What was counted until now.
pub fn read(scene: &Scene, stage: &Stage<'_>) -> Result<Reading> {
    meter::read(stage.lab(), scene.direction, scene.transport)
}

/// Waits until data flows.
pub fn flows(scene: &Scene, stage: &Stage<'_>, running: &mut [Process]) -> Result<()> {
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
