//! How close goodput comes to the limit, and how soon.
//!
//! Bounds are wide, so that a busy machine fails nothing; the figures are printed, and the bench
//! command records them.

use std::{ops::RangeInclusive, time::Duration};

use anyhow::ensure;
use kernel_tests::{
    TestResult,
    flow::{Direction, Flow},
    kernel_test,
    lab::{Family, Lab},
    outcome::{expect_ratio, figure, in_parallel, is_slow, kept, skipped},
    peer::{Job, busy_rate},
    product::Limiter,
    reaction::Reaction,
};

/// What a sender would do without its limit. The limit is what slows it down, but the machine isn't
/// kept busy before; a slow one would be, by less: its limiter and receivers got no turn.
fn unlimited(rate: u64) -> u64 {
    if is_slow() { 3 * rate } else { 100_000_000 }
}

/// Four processes with a flow each, in both directions and over both protocols, have that limit.
fn one_flow_keeps(job: &Job, rate: u64, bounds: &RangeInclusive<f64>) -> TestResult {
    let lab = Lab::new()?;
    let job = job.clone().rate(unlimited(rate));
    let mut flows = Vec::new();
    for direction in Direction::ALL {
        for family in Family::ALL {
            let flow = Flow::start(&lab, job.clone(), direction, family)?;
            flows.push((format!("{direction:?} {family:?}"), flow));
        }
    }
    let pids: Vec<_> = flows.iter().map(|(_, flow)| flow.near().pid()).collect();
    let typed = rate.to_string();
    let limiter = Limiter::start(&pids, &["--download", &typed, "--upload", &typed])?;
    for (what, flow) in &flows {
        let goodput = flow.judged(limiter.applied())?;
        expect_ratio(what, goodput, rate as f64, bounds.clone())?;
    }
    Ok(())
}

#[test]
fn one_tcp_flow_keeps_125_kilobytes_a_second() -> TestResult {
    kernel_test!();
    one_flow_keeps(&Job::tcp(), 125_000, &kept())
}

#[test]
fn one_tcp_flow_keeps_1_25_megabytes_a_second() -> TestResult {
    kernel_test!();
    one_flow_keeps(&Job::tcp(), 1_250_000, &kept())
}

#[test]
fn one_tcp_flow_keeps_12_5_megabytes_a_second() -> TestResult {
    kernel_test!();
    if is_slow() {
        skipped("needs processors that are not emulated, which carry less than its four flows");
        return Ok(());
    }
    one_flow_keeps(&Job::tcp(), 12_500_000, &kept())
}

#[test]
fn a_flow_under_bbr_keeps_its_limit() -> TestResult {
    kernel_test!();
    // It sends each segment by a timer of its own, which emulated processors are late with: on 5.10
    // it reached 0.34 to 0.9 of its limit there.
    let bounds = if is_slow() { 0.25..=1.15 } else { kept() };
    one_flow_keeps(&Job::tcp().congestion_control("bbr"), 1_250_000, &bounds)
}

#[test]
fn eight_connections_share_the_limit_of_their_process() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::tcp().rate(unlimited(1_250_000) / 8).connections(8);
    let flow = Flow::start(&lab, job, Direction::Download, Family::V4)?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--download", "1250K"])?;
    expect_ratio("8 flows", flow.judged(limiter.applied())?, 1.25e6, kept())
}

#[test]
fn udp_keeps_its_limit_up_and_down() -> TestResult {
    kernel_test!();
    in_parallel(&Direction::ALL, |direction| {
        let lab = Lab::new()?;
        let job = Job::udp().rate(5_000_000);
        let flow = Flow::start(&lab, job, *direction, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "1M"])?;
        let what = format!("{direction:?}");
        expect_ratio(&what, flow.judged(limiter.applied())?, 1e6, kept())
    })
}

#[test]
fn download_and_upload_are_limited_each_for_itself() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let both = |direction| {
        let job = Job::busy();
        Flow::start(&lab, job, direction, Family::V4)
    };
    let (down, up) = (both(Direction::Download)?, both(Direction::Upload)?);
    let pids = [down.near().pid(), up.near().pid()];
    let limiter = Limiter::start(&pids, &["--download", "1M"])?;
    expect_ratio("down", down.judged(limiter.applied())?, 1e6, kept())?;
    expect_ratio(
        "up",
        up.judged(limiter.applied())?,
        busy_rate() as f64,
        0.9..=1.1,
    )
}

#[test]
fn a_limit_of_nothing_blocks() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    in_parallel(&Direction::ALL, |direction| {
        let job = Job::tcp().rate(1_000_000);
        let flow = Flow::start(&lab, job, *direction, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "0"])?;
        let from = limiter.applied() + Duration::from_millis(250);
        let to = from + Duration::from_secs(3);
        let goodput = flow.receiver().received_until(to)?.rate(from, to)?;
        ensure!(goodput == 0.0, "{direction:?}: {goodput} B/s");
        Ok(())
    })
}

/// How soon a flow that runs as fast as it goes is limited, and free again.
fn reacts_at_once(direction: Direction) -> TestResult {
    let reaction = Reaction::measure(direction, Duration::from_secs(4))?;
    figure(&format!(
        "from {:.0} MB/s, limited {:.0} ms after it was applied; free {:.0} ms after the \
         limiter's end, which came {:.0} ms after SIGTERM",
        reaction.before / 1e6,
        reaction.limited_after * 1e3,
        reaction.free_after * 1e3,
        reaction.ended_after * 1e3
    ));
    let soon = if is_slow() { 1.5 } else { 0.5 };
    ensure!(reaction.limited_after < soon, "it was limited late");
    ensure!(reaction.free_after < 1.0, "it was free late");
    Ok(())
}

#[test]
fn a_running_download_is_limited_at_once_and_free_at_once() -> TestResult {
    kernel_test!(alone);
    reacts_at_once(Direction::Download)
}

#[test]
fn a_running_upload_is_limited_at_once_and_free_at_once() -> TestResult {
    kernel_test!(alone);
    reacts_at_once(Direction::Upload)
}
