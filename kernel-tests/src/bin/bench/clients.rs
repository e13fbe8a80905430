//! What real clients report of a limit.

use anyhow::{Result, anyhow};
use kernel_tests::{clients, lab::Family};
use serde::{Deserialize, Serialize};

use crate::{
    progress,
    results::{Output, Part},
    table::Table,
};

type Client = fn(Family) -> Result<f64>;

/// What a client reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    client: String,
    family: Family,
    /// In bytes a second.
    speed: f64,
}

/// Measures all, at once.
pub fn measure(out: &Output) -> Result<()> {
    let all: [(&str, Client); 2] = [("curl", clients::curl), ("wget", clients::wget)];
    let mut cases = Vec::new();
    for (name, client) in all {
        match clients::is_there(name) {
            true => cases.extend(Family::ALL.map(|family| (name, client, family))),
            false => progress(&format!("  skipped: {name} is not installed")),
        }
    }
    let speeds = std::thread::scope(|scope| {
        let running: Vec<_> = cases
            .iter()
            .map(|(_, client, family)| scope.spawn(move || client(*family)))
            .collect();
        let done: Vec<_> = running.into_iter().map(|case| case.join()).collect();
        done.into_iter()
            .map(|done| done.map_err(|_| anyhow!("a case panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    for ((name, _, family), speed) in cases.into_iter().zip(speeds) {
        out.keep(&Report {
            client: name.to_owned(),
            family,
            speed,
        })?;
    }
    Ok(())
}

/// The text.
pub fn render(parts: &[Part<Report>]) -> String {
    let mut table = Table::new(&["client", "reports", "of the limit"]);
    for report in parts.iter().flat_map(|part| &part.results) {
        table.row(&[
            format!(
                "{}, IP{}",
                report.client,
                format!("{:?}", report.family).to_lowercase()
            ),
            format!("{:.3} MB/s", report.speed / 1e6),
            format!("{:.1} %", report.speed / 1e4),
        ]);
    }
    table.below(
        "What the installed ones of curl and wget themselves report of a download of 13 MB from \
         an HTTP server, limited to 1 MB/s before their first socket; one run, all at once.",
    )
}
