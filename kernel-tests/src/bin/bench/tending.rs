//! What it costs to share a link: the processor time of chadthrottle while background traffic is there, which it looks at
//! fifty times a second.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{
    lab::{Family, Lab},
    moment::Moment,
    peer::{Job, Peer},
    product::Limiter,
};
use serde::{Deserialize, Serialize};

use crate::{
    monitors::processor_time,
    progress,
    results::{self, Output, Part},
    table::{Table, median, shown},
};

const FLOWS: [u32; 3] = [0, 1, 100];
const SETTLING: Duration = Duration::from_secs(4);
const JUDGED: Duration = Duration::from_secs(8);
const RUNS: usize = 3;
/// The most, in per cent of a core.
const MOST: f64 = 1.0;

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    flows: u32,
    /// In per cent of a core.
    processor: f64,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    for flows in FLOWS {
        for _ in 0..RUNS {
            let processor = processor(flows)?;
            progress(&format!("    {flows} flows: {processor:.2} %"));
            out.keep(&Measured { flows, processor })?;
        }
    }
    Ok(())
}

fn processor(flows: u32) -> Result<f64> {
    let lab = Lab::new()?;
    let group = lab.near().cgroup().child("background")?;
    let limiter = Limiter::in_background(&group, &["--link", "50mbit/10mbit"])?;
    let job = || Job::tcp().at_most(Duration::from_secs(60));
    let listen = job().listen(lab.far().any_port(Family::V4)).send();
    let sender = lab.far().traffic(listen)?;
    let receiver = job().connect(sender.address()?).connections(flows);
    let place = lab.near().place_in(Some(&group));
    let _receiver = match flows {
        0 => None,
        _ => Some(Peer::start(receiver, place)?),
    };
    (Moment::now() + SETTLING).wait();
    let (begin, before) = (Moment::now(), processor_time(limiter.pid())?);
    (begin + JUDGED).wait();
    let used = processor_time(limiter.pid())? - before;
    Ok(100.0 * used / Moment::now().seconds_since(begin))
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let all = results::of_all(parts);
    let mut table = Table::new(&["flows in the background", "of a core"]);
    for flows in FLOWS {
        let of_it = all.iter().filter(|measured| measured.flows == flows);
        let used: Vec<f64> = of_it.map(|measured| measured.processor).collect();
        if used.is_empty() {
            continue;
        }
        let used = median(&used);
        table.row(&[
            flows.to_string(),
            shown(format!("{used:.1} %"), used <= MOST),
        ]);
    }
    table.below(&format!(
        "Processor time of `chadthrottle limit --priority background` in {} s, with a line of its own each second; the median of {RUNS}. \
         At most {MOST} % of a core.",
        JUDGED.as_secs(),
    ))
}
