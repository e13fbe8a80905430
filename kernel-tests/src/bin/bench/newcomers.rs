//! How soon a process that starts is limited.

use anyhow::Result;
use kernel_tests::{newcomers::Newcomers, quantiles::Quantiles};
use serde::{Deserialize, Serialize};

use crate::{
    results::{Output, Part},
    table::Table,
};

/// So many of which each is the first of its kind, and as many of a known kind.
const PROCESSES: u32 = 500;

/// Of processes that are compared with the rules, 99 of 100 are to be limited within that many
/// milliseconds.
const TARGET: f64 = 5.0;

/// A process that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    known: bool,
    milliseconds: f64,
    passed: u64,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    let newcomers = Newcomers::new()?;
    for known in [false, true] {
        for n in 0..PROCESSES {
            let refused = newcomers.start(&format!("sender-{}", if known { 0 } else { n }))?;
            out.keep(&Start {
                known,
                milliseconds: refused.after.as_secs_f64() * 1e3,
                passed: refused.passed,
            })?;
        }
    }
    Ok(())
}

/// The text.
pub fn render(parts: &[Part<Start>]) -> String {
    let starts: Vec<&Start> = parts.iter().flat_map(|part| &part.results).collect();
    let mut table = Table::new(&[
        "processes",
        "median",
        "90 of 100",
        "99 of 100",
        "worst",
        "datagrams passed",
    ]);
    let mut verdict = "";
    for (known, name) in [
        (false, "the first of a kind each"),
        (true, "of a known kind"),
    ] {
        let of_kind = || starts.iter().filter(|start| start.known == known);
        let Ok(after) = Quantiles::new(of_kind().map(|start| start.milliseconds).collect()) else {
            continue;
        };
        let missed = !known && after.at(0.99) > TARGET;
        if !known {
            verdict = if missed { "**missed**" } else { "met" };
        }
        let shown = |part| format!("{:.2} ms", after.at(part));
        table.row(&[
            format!("{}, {name}", of_kind().count()),
            shown(0.5),
            shown(0.9),
            match missed {
                true => format!("**{}**", shown(0.99)),
                false => shown(0.99),
            },
            shown(1.0),
            of_kind().map(|start| start.passed).sum::<u64>().to_string(),
        ]);
    }
    table.below(&format!(
        "From before a process asks for its first socket until a datagram of it is refused, which it \
         sends one after the other, 20 us apart. It is blocked by the last of 100 rules, by its \
         cgroup; 1,000 other processes have sockets. The first of a kind (name, user, cgroup) is \
         compared with the rules by the daemon; those after it begin with what was found out. 99 of \
         100 of the first are to be limited within {TARGET} ms: {verdict}."
    ))
}
