//! What a paced limit does to delay, marks and losses: those of the limited process, and those of
//! its neighbours on the same device.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult,
    flow::{Direction, Flow},
    kernel_test,
    lab::{End, Family, Lab},
    moment::Moment,
    outcome::{expect_ratio, figure, kept},
    peer::Job,
    product::Limiter,
    queue::{RoundTrips, tcp_round_trips, with_fq_and_round_trip},
};
use rustix::process::Signal;

const SECOND: Duration = Duration::from_secs(1);

/// What all packets of these tests take there and back, at least.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// What a limited download's queue may hold before senders are told to slow down, in seconds
/// (`chadthrottle/src/kernel/limits.rs`; at rates where 32 segments take longer, those).
const SIGNALLED: f64 = 0.150;

/// Ahead of that by so much, packets are dropped.
const BOUND: f64 = 0.350;

const RATE: u64 = 2_000_000;

fn flow(lab: &Lab, direction: Direction) -> Result<Flow> {
    let job = Job::tcp().rate(5 * RATE);
    Flow::start(lab, job, direction, Family::V4)
}

fn limit(flow: &Flow, direction: Direction) -> Result<Limiter> {
    let options = [direction.option(), &RATE.to_string()];
    Limiter::start(&[flow.near().pid()], &options)
}

/// The sender of a limited download sees the round trip of a queue that is drained at the limit's
/// rate. It must stay short: most of the time below what tells senders to slow down and half as
/// much again, which they send before they have heard of it; and always below the bound.
#[test]
fn the_queue_of_a_limited_download_stays_short() -> TestResult {
    kernel_test!();
    with_fq_and_round_trip(ROUND_TRIP, |lab| {
        let flow = flow(lab, Direction::Download)?;
        let limiter = limit(&flow, Direction::Download)?;
        let mut times = Vec::new();
        for tick in 0..40 {
            (limiter.applied() + 2 * SECOND + tick * SECOND / 5).wait();
            times.extend(tcp_round_trips(lab.far())?);
        }
        let times = RoundTrips::new(times)?;
        figure(&format!("at {} MB/s: {times}", RATE / 1_000_000));
        let base = ROUND_TRIP.as_secs_f64();
        ensure!(times.median() < base + 1.5 * SIGNALLED, "{times}");
        ensure!(times.longest() < base + SIGNALLED + BOUND, "{times}");
        // Without a queue there would be nothing to see here.
        ensure!(times.longest() > base + 0.010, "{times}");
        expect_ratio(
            "meanwhile",
            flow.judged(limiter.applied())?,
            RATE as f64,
            kept(),
        )
    })
}

/// Segments that reached their receiver with the mark that they met congestion, as their senders at
/// this end were told.
fn marked(end: &End) -> Result<u64> {
    end.counter("TcpExt", "TCPDeliveredCE")
}

/// They need no marks either: windows hold them from the landing on.
#[test]
fn flows_that_understand_ecn_lose_nothing() -> TestResult {
    kernel_test!();
    with_fq_and_round_trip(ROUND_TRIP, |lab| {
        for end in [lab.near(), lab.far()] {
            end.set("ipv4/tcp_ecn", "1")?;
        }
        for direction in Direction::ALL {
            let job = Job::tcp().rate(RATE).connections(4);
            let flow = Flow::start(lab, job, direction, Family::V4)?;
            let limiter = limit(&flow, direction)?;
            let (sender, member) = match direction {
                Direction::Download => (lab.far(), "download"),
                Direction::Upload => (lab.near(), "upload"),
            };
            let did = || -> Result<[u64; 3]> {
                let effect = limiter.effect_on(flow.near().pid())?;
                ensure!(effect["mechanism"] == "pacing", "{effect}");
                let figure = |name: &str| effect[name][member].as_u64();
                Ok([
                    figure("dropped_bytes").context("no dropped_bytes")?,
                    figure("marked_packets").context("no marked_packets")?,
                    marked(sender)?,
                ])
            };
            // What came before fq was there, or before senders that were as fast as they could be
            // had heard of the limit, may be lost.
            (limiter.applied() + 2 * SECOND).wait();
            let early = did()?;
            let goodput = flow.judged(limiter.applied())?;
            let late = did()?;
            figure(&format!(
                "{direction:?}: bytes dropped, packets marked, marks that senders heard of: \
                 {early:?} after 2 s, {late:?} after 11 s"
            ));
            expect_ratio(&format!("{direction:?}"), goodput, RATE as f64, kept())?;
            ensure!(late[0] == early[0], "{direction:?}: drops");
            limiter.end(Signal::TERM)?;
        }
        Ok(())
    })
}

/// Forty flows with two segments each are more of a queue than is wanted at that rate.
#[test]
fn more_flows_than_windows_can_hold_are_marked() -> TestResult {
    kernel_test!();
    with_fq_and_round_trip(ROUND_TRIP, |lab| {
        for end in [lab.near(), lab.far()] {
            end.set("ipv4/tcp_ecn", "1")?;
        }
        let job = Job::tcp().rate(50_000).connections(40);
        let flow = Flow::start(lab, job, Direction::Download, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &["--download", "250K"])?;
        (limiter.applied() + 8 * SECOND).wait();
        let effect = limiter.effect_on(flow.near().pid())?;
        let heard = marked(lab.far())?;
        figure(&format!("{}, heard of: {heard}", effect["marked_packets"]));
        limiter.end(Signal::TERM)?;
        ensure!(effect["marked_packets"]["download"].as_u64() > Some(0));
        ensure!(heard > 0, "senders heard of no marks");
        Ok(())
    })
}

/// How long small datagrams of two other processes take from end to end.
fn round_trips(lab: &Lab) -> Result<RoundTrips> {
    let listen = Job::echo().listen(lab.far().any_port(Family::V4));
    let echo = lab.far().traffic(listen)?;
    let ping = lab
        .near()
        .traffic(Job::ping(100).connect(echo.address()?))?;
    ping.round_trips(30 * SECOND)
}

/// A neighbour with a limit is no more to be felt than one that moves as much by itself.
#[test]
fn a_limited_neighbour_changes_no_round_trip() -> TestResult {
    kernel_test!(alone);
    with_fq_and_round_trip(ROUND_TRIP, |lab| {
        let beside = |rate, limited: bool| -> Result<RoundTrips> {
            let job = Job::tcp().rate(rate);
            let start = |direction| Flow::start(lab, job.clone(), direction, Family::V4);
            let flows = [start(Direction::Download)?, start(Direction::Upload)?];
            let pids = flows.each_ref().map(|flow| flow.near().pid());
            let rate = RATE.to_string();
            let options = ["--download", &rate, "--upload", &rate];
            let _limiter = match limited {
                true => Some(Limiter::start(&pids, &options)?),
                false => None,
            };
            // Both kinds reach their rate.
            (Moment::now() + 3 * SECOND).wait();
            let from = Moment::now();
            let times = round_trips(lab)?;
            let to = Moment::now();
            for flow in &flows {
                let moved = flow.receiver().received_until(to)?.rate(from, to)?;
                // A sender that a slow machine held up makes up for it, unless it is limited.
                let most = if limited { 1.25 } else { 2.0 };
                expect_ratio("neighbour", moved, RATE as f64, 0.7..=most)?;
            }
            Ok(times)
        };
        let free = beside(RATE, false)?;
        figure(&format!("beside two that have no limit: {free}"));
        let limited = beside(5 * RATE, true)?;
        figure(&format!("beside two that are limited: {limited}"));
        let longer = limited.median() - free.median();
        ensure!(longer < 0.001, "{:.2} ms longer", longer * 1e3);
        Ok(())
    })
}

/// Two limited processes and one that is not, on a device that holds packets of both.
#[test]
fn neighbours_on_a_device_with_fq_do_not_disturb_each_other() -> TestResult {
    kernel_test!();
    with_fq_and_round_trip(ROUND_TRIP, |lab| {
        let free = Job::tcp().rate(5 * RATE);
        for direction in Direction::ALL {
            let flows = [flow(lab, direction)?, flow(lab, direction)?];
            let other = Flow::start(lab, free.clone(), direction, Family::V6)?;
            let (first, second) = (&flows[0], &flows[1]);
            (Moment::now() + SECOND).wait();
            let before = other.goodput_for(2 * SECOND)?;
            let one = limit(first, direction)?;
            let options = [direction.option(), "500K"];
            let two = Limiter::start(&[second.near().pid()], &options)?;
            let what = |who| format!("{direction:?}, {who}");
            let applied = two.applied();
            let rate = RATE as f64;
            expect_ratio(&what("one"), first.judged(applied)?, rate, kept())?;
            expect_ratio(&what("another"), second.judged(applied)?, 5e5, kept())?;
            // It may gain what the others must leave.
            expect_ratio(&what("free"), other.judged(applied)?, before, 0.9..=10.0)?;
            ensure!(one.applied() < applied);
        }
        Ok(())
    })
}
