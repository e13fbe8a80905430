//! What `top --json` counts beside a sender of known size, and what that costs.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    lab::{Family, Lab},
    moment::Moment,
    peer::Job,
    product::Top,
};

use crate::{
    progress,
    table::{Table, furthest, median, with_range},
};

const RUNS: usize = 3;
/// For the longest transfer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A transfer: what it is called, how it is sent, and how much.
type Case = (&'static str, fn() -> Job, u64);

const CASES: [Case; 2] = [
    ("as fast as it goes", Job::tcp, 8_000_000_000),
    (
        "200 Mbit/s in writes of 200 bytes",
        || Job::tcp().rate(25_000_000).chunk(200),
        100_000_000,
    ),
];

/// A transfer that is over.
struct Transfer {
    /// Bytes a second.
    speed: f64,
    /// What chadthrottle said of it, if it ran.
    counted: Option<Counted>,
}

/// All in percent.
struct Counted {
    /// Of what was sent.
    upload_off: f64,
    /// Of what arrived.
    download_off: f64,
    /// Of one processor.
    processor: f64,
}

pub fn section() -> Result<String> {
    let mut table = Table::new(&[
        "transfer",
        "sender counted",
        "receiver counted",
        "CPU",
        "speed without",
        "speed with",
        "ratio",
    ]);
    for (name, job, amount) in CASES {
        let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut counts = Vec::new();
        for run in 1..=RUNS {
            progress(&format!("  {name}, run {run} of {RUNS}"));
            let alone = transfer(job(), amount, || Ok(None))?;
            let beside = transfer(job(), amount, || Top::start("1s").map(Some))?;
            without.push(alone.speed / 1e6);
            with.push(beside.speed / 1e6);
            ratios.push(beside.speed / alone.speed);
            counts.push(beside.counted.context("top was not started")?);
        }
        let figures = |of: fn(&Counted) -> f64| counts.iter().map(of).collect::<Vec<_>>();
        table.row(&[
            name.to_owned(),
            format!("{:+.4} %", furthest(&figures(|it| it.upload_off))),
            format!("{:+.4} %", furthest(&figures(|it| it.download_off))),
            format!("{:.1} %", median(&figures(|it| it.processor))),
            format!("{:.1} MB/s", median(&without)),
            format!("{:.1} MB/s", median(&with)),
            with_range(&ratios),
        ]);
    }
    Ok(table.below(&format!(
        "One TCP flow of 8 GB, or 100 MB in small writes, without any chadthrottle and then beside \
         `chadthrottle top --json`, {RUNS} times in turn: counted is the payload in `top` against \
         what the programs sent and received (the worst run), CPU is chadthrottle's own time \
         (utime and stime) during the transfer in percent of one core, and speed is the flow's \
         (medians; the ratio with its least and its greatest, and it holds what the programs \
         in the kernel cost)."
    )))
}

/// Sends from near to far, beside a `top` if there is one.
fn transfer(job: Job, amount: u64, top: impl FnOnce() -> Result<Option<Top>>) -> Result<Transfer> {
    let lab = Lab::new()?;
    let far = lab.far().traffic(
        Job::tcp()
            .at_most(PATIENCE)
            .listen(lab.far().any_port(Family::V4)),
    )?;
    let job = job
        .at_most(PATIENCE)
        .connect(far.address()?)
        .send()
        .amount(amount)
        .hold();
    let mut near = lab.near().traffic(job)?;
    let mut top = top()?;
    let used = |top: &Option<Top>| {
        top.as_ref()
            .map_or(Ok(0.0), |top| processor_time(top.pid()))
    };

    let (used_before, start) = (used(&top)?, Moment::now());
    near.go()?;
    far.event_within("end", PATIENCE)?;
    let (used_after, now) = (used(&top)?, Moment::now());
    let arrived = far.received()?;
    ensure!(arrived.total() == amount, "not all arrived");
    // The receiver reports at the end of the connection, before it says so.
    let end = arrived.until().context("the receiver reports nothing")?;
    let speed = amount as f64 / end.seconds_since(start);

    let Some(top) = &mut top else {
        return Ok(Transfer {
            speed,
            counted: None,
        });
    };
    let mut off = |pid, figure| -> Result<f64> {
        Ok((top.settled(pid, figure)? as f64 / amount as f64 - 1.0) * 100.0)
    };
    let counted = Counted {
        upload_off: off(near.pid(), "upload_bytes")?,
        download_off: off(far.pid(), "download_bytes")?,
        processor: (used_after - used_before) / now.seconds_since(start) * 100.0,
    };
    Ok(Transfer {
        speed,
        counted: Some(counted),
    })
}

/// Seconds of processor time that a process used so far.
fn processor_time(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    // proc(5): the name, which may hold anything, ends with the last parenthesis; utime and stime
    // are the 14th and 15th fields, the 12th and 13th after it.
    let (_, after) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: Vec<u64> = after
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}
