//! The virtual clock of a limit stays exact: on several processors, when its rate changes, after
//! it stood still, and at the ends of its range.
//!
//! **Suspend.** The clock is compared with `bpf_ktime_get_ns`, which is `CLOCK_MONOTONIC`, as fq's
//! and TCP's clocks are. It stands still while the machine is suspended. So a suspend is no time at
//! all for a limit: debt is neither forgiven nor does it grow, and what fq holds leaves when it is
//! due. (`CLOCK_BOOTTIME` would go on: a clock compared with that would find itself hours behind,
//! which is idle time.) What a test can bring about is that everybody else stands still while the
//! clock goes on, which is more than a suspend: see the tests with `SIGSTOP`.

use std::{thread::available_parallelism, time::Duration};

use anyhow::{Result, ensure};
use kernel_tests::{
    TestResult,
    flow::{Direction, Flow, goodput_between},
    kernel_test,
    lab::{Family, Lab},
    limiting::Limiting,
    moment::Moment,
    outcome::{expect_ratio, figure, in_parallel, is_slow, kept, skipped},
    peer::Job,
    product::Limiter,
    queue::{with_fq, with_fq_and_round_trip},
};
use rustix::process::Signal;

/// Bounds are wide, so that a busy machine fails nothing.
const SECOND: Duration = Duration::from_secs(1);

/// The clock of a download may be ahead by that much, in seconds, before packets are dropped
/// (`chadthrottle/src/kernel/limits.rs`: what a queue may hold before senders are told, and
/// policing's bound on top): no more than this can come at once after a time without traffic.
const DOWNLOAD_BOUND: f64 = 0.150 + 0.350;

/// Where packets are dropped and not delayed, the bound of both directions.
const POLICING_BOUND: f64 = 0.350;

/// Sends with eight threads, each on its own connection, as fast as it goes.
#[test]
fn a_process_that_sends_on_several_processors_at_once_keeps_its_limit() -> TestResult {
    kernel_test!(alone);
    if available_parallelism()?.get() < 2 {
        skipped("needs two processors");
        return Ok(());
    }
    // Many packets a second, and air for those who look on.
    let rate = if is_slow() { 5_000_000 } else { 50_000_000 };
    for direction in Direction::ALL {
        let lab = Lab::new()?;
        let job = Job::tcp().connections(8).rate(rate / 4);
        let flow = Flow::start(&lab, job, direction, Family::V4)?;
        let options = [direction.option(), &rate.to_string()];
        let limiter = Limiter::start(&[flow.near().pid()], &options)?;
        let goodput = flow.judged(limiter.applied())?;
        expect_ratio(&format!("{direction:?}"), goodput, rate as f64, 0.93..=1.02)?;
    }
    Ok(())
}

/// Datagrams show the clock as it is: with TCP, a reader waits a round trip for what was lost, and
/// then gets all at once. No stretch of 100 ms around a change is much faster than the higher of
/// the two rates (no burst of what was saved up), and none much slower than the lower (no stall).
/// On a busy machine senders and receivers do that by themselves now and then, so it is tried until
/// once they don't; the clock would do it each time.
#[test]
fn a_changed_rate_neither_bursts_nor_stalls() -> TestResult {
    kernel_test!(alone);
    const LOW: u64 = 1_000_000;
    const HIGH: u64 = 2_000_000;
    // Emulated processors come to a process's turn when they do.
    let stretch = Duration::from_millis(if is_slow() { 500 } else { 100 });
    let limiting = Limiting::start()?;
    for direction in Direction::ALL {
        let lab = Lab::new()?;
        let job = Job::udp()
            .rate(2 * HIGH)
            .report_every(Duration::from_millis(10))
            .at_most(120 * SECOND);
        let flow = Flow::start(&lab, job, direction, Family::V4)?;
        let set = |rate| limiting.set(flow.near().pid(), direction, rate);
        // Until the bound of the first rate is used up.
        (set(LOW)? + 3 * SECOND).wait();
        for (old, new) in [(LOW, HIGH), (HIGH, LOW)] {
            let mut steady = false;
            for _ in 0..10 {
                let from = Moment::now();
                (from + stretch).wait();
                let end = set(new)? + 2 * SECOND;
                let arrivals = flow.receiver().received_until(end)?;
                let (low, high) = arrivals.extremes(from, end, stretch)?;
                figure(&format!(
                    "{direction:?} from {} to {} MB/s: {:.2} to {:.2} MB/s in any {stretch:?}",
                    old / LOW,
                    new / LOW,
                    low / 1e6,
                    high / 1e6
                ));
                let rate = arrivals.rate(from + SECOND, end)?;
                expect_ratio("the changed rate", rate, new as f64, 0.8..=1.2)?;
                steady = low >= 0.7 * LOW as f64 && high <= 1.3 * HIGH as f64;
                if steady {
                    break;
                }
                (set(old)? + 2 * SECOND).wait();
            }
            ensure!(
                steady,
                "{direction:?} from {old} to {new}: bursts or stalls"
            );
        }
    }
    Ok(())
}

/// Stops the sender for three seconds. It goes on with a burst of what it is late with: of that no
/// more than the bound passes at once.
fn stands_still(lab: &Lab, direction: Direction, bound: f64) -> TestResult {
    const RATE: f64 = 2e6;
    // As after a short break: cubic would begin with ten segments, and hide what it guards.
    for end in [lab.near(), lab.far()] {
        end.set("ipv4/tcp_slow_start_after_idle", "0")?;
    }
    let job = Job::tcp()
        .rate(10_000_000)
        .report_every(Duration::from_millis(10));
    let flow = Flow::start(lab, job, direction, Family::V4)?;
    let options = [direction.option(), "2M"];
    let limiter = Limiter::start(&[flow.near().pid()], &options)?;
    (limiter.applied() + 2 * SECOND).wait();

    let sender = match direction {
        Direction::Download => flow.far(),
        Direction::Upload => flow.near(),
    };
    sender.signal(Signal::STOP)?;
    // What it gave to the kernel before goes on: as long as it takes.
    let mut idle_from = Moment::now();
    let mut last = flow.receiver().received()?.total();
    while Moment::now() - idle_from < 3 * SECOND {
        std::thread::sleep(Duration::from_millis(50));
        let now = flow.receiver().received()?.total();
        if now != last {
            (last, idle_from) = (now, Moment::now());
        }
    }
    let resumed = Moment::now();
    sender.signal(Signal::CONT)?;

    let half = Duration::from_millis(500);
    let arrivals = flow.receiver().received_until(resumed + 5 * SECOND)?;
    let first = arrivals.rate(resumed, resumed + half)? * half.as_secs_f64();
    let most = RATE * (half.as_secs_f64() + bound) + 65_536.0;
    figure(&format!(
        "{direction:?}: {first:.0} bytes in the first 500 ms, at most {most:.0}"
    ));
    ensure!(
        first <= most * 1.05,
        "{direction:?}: {first:.0} bytes at once"
    );
    let later = arrivals.rate(resumed + SECOND, resumed + 5 * SECOND)?;
    expect_ratio(&format!("{direction:?} later"), later, RATE, kept())
}

#[test]
fn a_paced_limit_saves_nothing_up_while_nothing_is_sent() -> TestResult {
    kernel_test!(alone);
    with_fq_and_round_trip(Duration::from_millis(20), |lab| {
        stands_still(lab, Direction::Download, DOWNLOAD_BOUND)?;
        // Each packet waits for the one before it.
        stands_still(lab, Direction::Upload, 0.0)
    })
}

#[test]
fn a_policed_limit_saves_no_more_up_than_its_bound() -> TestResult {
    kernel_test!(alone);
    in_parallel(&Direction::ALL, |direction| {
        let lab = Lab::new()?;
        if kernel_tests::queue::tc(lab.near(), "qdisc add dev lab root handle 1: pfifo").is_err() {
            // Without it there may be no fq either, and then all limits are policed.
            with_fq(|_| anyhow::bail!("fq, but no pfifo"))?;
        }
        stands_still(&lab, *direction, POLICING_BOUND)
    })
}

/// The limiter writes a rate and looks on; the kernel does the rest, as long as it is there.
#[test]
fn a_limit_holds_while_its_limiter_stands_still() -> TestResult {
    kernel_test!();
    in_parallel(&Direction::ALL, |direction| {
        let lab = Lab::new()?;
        let job = Job::tcp().rate(10_000_000);
        let flow = Flow::start(&lab, job, *direction, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "1M"])?;
        // Time to find out how packets leave.
        (limiter.applied() + 2 * SECOND).wait();
        limiter.signal(Signal::STOP)?;
        let stopped = Moment::now();
        let resumed = stopped + 4 * SECOND;
        let arrivals = flow.receiver().received_until(resumed)?;
        limiter.signal(Signal::CONT)?;
        let what = format!("{direction:?}, stopped");
        expect_ratio(&what, arrivals.rate(stopped, resumed)?, 1e6, kept())?;
        let arrivals = flow.receiver().received_until(resumed + 4 * SECOND)?;
        let what = format!("{direction:?}, going on");
        let after = arrivals.rate(resumed, resumed + 4 * SECOND)?;
        expect_ratio(&what, after, 1e6, kept())
    })
}

/// A full segment takes 0.18 s at that rate. The connection is made under the limit: a single packet
/// of 64 kB that came before would be eight seconds' worth.
#[test]
fn a_limit_of_8_kilobytes_a_second_is_kept() -> TestResult {
    kernel_test!();
    in_parallel(&Direction::ALL, |direction| {
        let lab = Lab::new()?;
        let listen = Job::tcp()
            .rate(1_000_000)
            .listen(lab.far().any_port(Family::V4));
        let (listen, connect): (Job, fn(Job) -> Job) = match direction {
            Direction::Download => (listen.send(), |job| job),
            Direction::Upload => (listen, Job::send),
        };
        let far = lab.far().traffic(listen)?;
        let job = Job::tcp().rate(1_000_000).connect(far.address()?).wait();
        let mut near = lab.near().traffic(connect(job))?;
        let _limiter = Limiter::start(&[near.pid()], &[direction.option(), "8K"])?;
        near.go()?;
        near.event("going")?;
        let receiver = match direction {
            Direction::Download => &near,
            Direction::Upload => &far,
        };
        let from = Moment::now() + 4 * SECOND;
        let goodput = goodput_between(receiver, from, from + 12 * SECOND)?;
        expect_ratio(&format!("{direction:?}"), goodput, 8e3, kept())
    })
}

/// The fastest of some seconds.
fn fastest(flow: &Flow) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..2 {
        best = best.max(flow.goodput_for(SECOND)?);
    }
    Ok(best)
}

/// A byte takes 0.1 ns at that rate: the limit must neither overflow nor be felt.
#[test]
fn a_limit_of_10_gigabytes_a_second_is_not_felt() -> TestResult {
    kernel_test!(alone);
    for direction in Direction::ALL {
        let lab = Lab::new()?;
        let flow = Flow::start(&lab, Job::tcp(), direction, Family::V4)?;
        let free = fastest(&flow)?;
        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "10GB/s"])?;
        (limiter.applied() + SECOND).wait();
        let limited = fastest(&flow)?;
        limiter.end(Signal::TERM)?;
        let free = free.min(fastest(&flow)?);
        // Others may use the machine, and the same upload has 1.5 GB/s in one run and 4.3 in another, as its ends share a
        // processor or not. An overflow would be a hundredth, or nothing.
        expect_ratio(&format!("{direction:?}"), limited, free, 0.2..=10.0)?;
    }
    Ok(())
}
