//! Limits that do not hold, and say so. Each alone: what is nobody's is the whole machine's.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::{Direction, Flow},
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    outcome::{figure, is_slow, patience, skipped},
    peer::Job,
    product::{Limiter, limit_command, process},
};
use serde_json::Value;

/// Within so many seconds it is told.
fn soon() -> f64 {
    if is_slow() { 6.0 } else { 2.2 }
}

/// Why a sample's only limit does not hold.
fn reason(sample: &Value) -> Option<&str> {
    sample["limits"][0]["not_enforced"].as_str()
}

/// The first sample of which this is so, and how long after `from` it came.
fn sample_in_which(
    limiter: &Limiter,
    from: Moment,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<(Value, f64)> {
    while let Some(event) = limiter.next_event()? {
        let after = Moment::now().seconds_since(from);
        if event["event"] == "sample" && is_so(&event) {
            return Ok((event, after));
        }
        if after > patience().as_secs_f64() {
            bail!("{what}: {event}");
        }
    }
    bail!("{what}: it ended: {}", limiter.errors())
}

/// A socket to which the kernel lets no program store anything belongs to nobody.
#[test]
fn a_limit_on_connections_that_cannot_be_seen_says_so_until_they_can() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let Ok(()) = lab.near().set("core/optmem_max", "1") else {
        skipped("net.core.optmem_max is the whole machine's: Linux 6.8 has one for each namespace");
        return Ok(());
    };
    let flow = Flow::start(&lab, Job::tcp(), Direction::Download, Family::V4)?;
    let pid = flow.near().pid();
    let limiter = Limiter::start(&[pid], &["--download", "1M"])?;
    let (sample, after) = sample_in_which(&limiter, limiter.applied(), "not told", |sample| {
        reason(sample).is_some_and(|why| why.contains("more than"))
    })?;
    figure(&format!("told after {after:.2} s"));
    ensure!(after <= soon(), "told after {after:.2} s");
    let row = process(&sample, pid).context("no row")?;
    ensure!(row["limit"]["not_enforced"].is_string(), "{row}");
    lab.near().set("core/optmem_max", "131072")?;
    let (sample, after) = sample_in_which(&limiter, Moment::now(), "still told", |sample| {
        reason(sample).is_none()
    })?;
    figure(&format!("seen after {after:.2} s"));
    ensure!(
        process(&sample, pid).is_some_and(|row| row["limit"]["not_enforced"].is_null()),
        "{sample}"
    );
    let from = Moment::now() + Duration::from_secs(1);
    let until = from + Duration::from_secs(3);
    let rate = flow.receiver().received_until(until)?.rate(from, until)?;
    ensure!(rate < 1.2e6, "{rate} B/s of 1 MB/s");
    Ok(())
}

/// What a limit holds is not told to get past it, whatever else moves.
#[test]
fn a_limit_that_holds_is_not_blamed_for_others() -> TestResult {
    kernel_test!(alone);
    let (unseen, seen) = (Lab::new()?, Lab::new()?);
    let Ok(()) = unseen.near().set("core/optmem_max", "1") else {
        skipped("net.core.optmem_max is the whole machine's: Linux 6.8 has one for each namespace");
        return Ok(());
    };
    let _others = Flow::start(&unseen, Job::tcp(), Direction::Download, Family::V4)?;
    for direction in Direction::ALL {
        let flow = Flow::start(&seen, Job::tcp(), direction, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "1M"])?;
        for _ in 0..4 {
            let event = limiter.next_event()?.context("it ended")?;
            ensure!(reason(&event).is_none(), "{direction:?}: {event}");
        }
    }
    Ok(())
}

#[test]
fn a_limit_on_a_packet_socket_says_that_it_does_not_hold() -> TestResult {
    kernel_test!(alone);
    if clients::is_missing("python3") {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.near().ip("route add default dev lab")?;
    let arguments = ["lab", "2000000", "60"];
    let sender = (lab.near()).start(clients::python("packet_socket.py", &arguments))?;
    sender.line(patience())?.context("it has not begun")?;
    let command = limit_command(&[sender.pid()], &["--upload", "100K"])?;
    // Devices are those of its own namespace.
    let limiter = Limiter::from_command_in(command, lab.near().place_in(None))?;
    let (_, after) = sample_in_which(&limiter, limiter.applied(), "not told", |sample| {
        reason(sample).is_some_and(|why| why.contains("packet socket"))
    })?;
    figure(&format!("told after {after:.2} s"));
    ensure!(after <= soon(), "told after {after:.2} s");
    Ok(())
}
