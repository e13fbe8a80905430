//! What real clients report of a limit.

use anyhow::Result;
use kernel_tests::{clients, lab::Family};

use crate::{each_at_once, table::Table};

type Client = fn(Family) -> Result<f64>;

pub fn section() -> Result<String> {
    let all: [(&str, Client); 2] = [("curl", clients::curl), ("wget", clients::wget)];
    let mut cases = Vec::new();
    for (name, client) in all {
        if clients::is_there(name) {
            cases.extend(Family::ALL.map(|family| (name, client, family)));
        }
    }
    let speeds = each_at_once(&cases, |(_, client, family)| client(*family))?;
    let mut table = Table::new(&["client", "reports", "of the limit"]);
    for ((name, _, family), speed) in cases.iter().zip(speeds) {
        table.row(&[
            format!("{name}, IP{}", format!("{family:?}").to_lowercase()),
            format!("{:.3} MB/s", speed / 1e6),
            format!("{:.1} %", speed / 1e4),
        ]);
    }
    Ok(table.below(
        "What the installed ones of curl and wget themselves report of a download of 13 MB from \
         an HTTP server, limited to 1 MB/s before their first socket; one run, all at once.",
    ))
}
