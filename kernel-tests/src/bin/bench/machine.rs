//! What the figures were measured on.

use std::{env, fs, process::Command, thread};

use anyhow::{Context, Result, ensure};
use kernel_tests::product;
use serde_json::Value;

/// The beginning of the document.
pub fn head() -> Result<String> {
    let read = |path| fs::read_to_string(path).with_context(|| format!("can't read {path}"));
    let cpu = read("/proc/cpuinfo")?;
    let model = field(&cpu, "model name").unwrap_or("a processor without a name");
    let memory = read("/proc/meminfo")?;
    let kilobytes: f64 = field(&memory, "MemTotal")
        .and_then(|value| value.split_whitespace().next())
        .context("no MemTotal")?
        .parse()?;
    let load = read("/proc/loadavg")?;
    let load = load.split_whitespace().next().context("no load")?;
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%d %H:%M UTC"]);
    // The bench runs as root, to whom git may not show another user's repository.
    let commit = env::var("CHADTHROTTLE_BENCH_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    Ok(format!(
        "# Benchmarks\n\n\
         Made by `cargo xtask bench`, which measures and writes this whole file: change the bench \
         in\n`kernel-tests/src/bin/bench`, not what is here. All traffic is between two network \
         namespaces\njoined by a veth pair; 1 kB is 1000 bytes.\n\n\
         | | |\n|---|---|\n\
         | date | {} |\n\
         | commit | {commit} |\n\
         | kernel | {} |\n\
         | processors | {} × {model} |\n\
         | memory | {:.1} GB |\n\
         | load before the bench (1 minute) | {load} |\n\
         | mechanism | {} |\n",
        output(&mut date)?,
        read("/proc/sys/kernel/osrelease")?.trim(),
        thread::available_parallelism()?,
        kilobytes * 1024.0 / 1e9,
        mechanism()?,
    ))
}

/// What enforces limits here, as the program says.
fn mechanism() -> Result<String> {
    // It fails when something is missing, and says what either way.
    let doctor = product::command(&["doctor", "--json"])?.output()?;
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout)
        .with_context(|| String::from_utf8_lossy(&doctor.stderr).into_owned())?;
    let fq = checks
        .iter()
        .find(|check| check["what"] == "sch_fq")
        .context("doctor says nothing about sch_fq")?;
    let found = fq["found"].as_str().context("no word on sch_fq")?;
    Ok(match fq["standing"] == "ok" {
        true => format!("pacing (sch_fq: {found})"),
        false => format!("policing (sch_fq: {found})"),
    })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
