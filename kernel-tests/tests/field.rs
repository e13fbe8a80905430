//! A sample of the field suite: other people's programs under a limit. `cargo xtask field` runs all of it.

use std::{ops::RangeInclusive, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use kernel_tests::{
    TestResult, kernel_test,
    outcome::{self, kept, patience},
    process::{Place, Process},
    table::mean,
};
use serde_json::Value;

/// One of a server with workers, and of clients.
const SCENES: [&str; 2] = ["nginx, 2 workers", "wget"];

#[test]
fn real_programs_are_limited_midway_and_before() -> TestResult {
    kernel_test!();
    let mut field = Command::new(env!("CARGO_BIN_EXE_field"));
    field
        .args(["measure", "--sample", "--jobs", "2"])
        .args(SCENES);
    let mut field = Process::start(field, Place::default())?;
    let mut cells = 0;
    while let Some(line) = field.line(Duration::from_secs(120))? {
        let cell: Value = serde_json::from_str(&line.text)?;
        // The first line tells of the machine.
        if cell["scene"].is_string() {
            judge(&cell, &kept())?;
            cells += 1;
        }
    }
    ensure!(field.wait(patience())?.success(), "{}", field.errors());
    ensure!(cells >= SCENES.len(), "only {cells} cells");
    Ok(())
}

fn judge(cell: &Value, bounds: &RangeInclusive<f64>) -> Result<()> {
    let what = format!("{}, {}", cell["scene"], cell["phase"]);
    let outcome = &cell["outcome"];
    if let Some(why) = outcome["Skipped"].as_str() {
        outcome::skipped(&format!("{what}: {why}"));
        return Ok(());
    }
    let Some(seconds) = outcome["Measured"]["seconds"].as_array() else {
        bail!("{what}: {outcome}");
    };
    let seconds: Option<Vec<f64>> = seconds.iter().map(Value::as_f64).collect();
    let mean = mean(&seconds.context("seconds are numbers")?);
    outcome::figure(&format!("{what}: {mean:.2} of the limit"));
    ensure!(bounds.contains(&mean), "{what}: {mean:.2} of the limit");
    Ok(())
}
