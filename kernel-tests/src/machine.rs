//! What the figures were measured on.

use std::{env, fs, process::Command, thread};

use crate::product;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A machine at the beginning of a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// When, in UTC.
    pub date: String,
    /// What of chadthrottle's sources was measured.
    pub commit: String,
    /// The kernel's release.
    pub kernel: String,
    /// How many processors, and which.
    pub processors: String,
    /// In bytes.
    pub memory: f64,
    /// Average of the last minute.
    pub load: String,
    /// What enforces limits here, as the program says.
    pub mechanism: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self> {
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
        date.args(["-u", "+%Y-%m-%d %H:%M"]);
        let count = thread::available_parallelism()?;
        Ok(Self {
            date: output(&mut date)?,
            // Root, who measures, may not look into another user's repository.
            commit: env::var("CHADTHROTTLE_BENCH_COMMIT").unwrap_or_else(|_| "unknown".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processors: format!("{count} × {model}"),
            memory: kilobytes * 1024.0,
            load: load.to_owned(),
            mechanism: mechanism()?,
        })
    }

    /// In the words of a table: kernel and hardware.
    pub fn words(&self) -> String {
        format!(
            "{}, {}, {:.1} GB",
            self.kernel,
            self.processors,
            self.memory / 1e9
        )
    }
}

/// Whether limits are paced here, and why.
fn mechanism() -> Result<String> {
    let fq = fq()?;
    let found = fq["found"].as_str().context("no word on sch_fq")?;
    Ok(match fq["standing"] == "ok" {
        true => format!("pacing (sch_fq: {found})"),
        false => format!("policing (sch_fq: {found})"),
    })
}

/// Whether the kernel has fq.
pub fn has_fq() -> Result<bool> {
    Ok(fq()?["standing"] == "ok")
}

fn fq() -> Result<Value> {
    // It fails when something is missing, and says what either way.
    let doctor = product::command(&["doctor", "--json"])?.output()?;
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout)
        .with_context(|| String::from_utf8_lossy(&doctor.stderr).into_owned())?;
    checks
        .into_iter()
        .find(|check| check["what"] == "sch_fq")
        .context("doctor says nothing about sch_fq")
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
