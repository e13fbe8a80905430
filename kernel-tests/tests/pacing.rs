//! fq on the devices of limited processes: it comes with a limit, and never stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::{Direction, Flow},
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    outcome::{expect_ratio, kept},
    peer::Job,
    process::{self, Place},
    product::{Limiter, command},
    queue::{self, OURS, with_fq},
};
use rustix::process::Signal;

fn tc(lab: &Lab, arguments: &str) -> Result<String> {
    queue::tc(lab.near(), arguments)
}

fn upload(lab: &Lab) -> Result<Flow> {
    let job = Job::busy();
    Flow::start(lab, job, Direction::Upload, Family::V4)
}

fn limit(flow: &Flow) -> Result<Limiter> {
    Limiter::start(&[flow.near().pid()], &["--upload", "1M"])
}

fn wait(milliseconds: u64) {
    (Moment::now() + Duration::from_millis(milliseconds)).wait();
}

#[test]
fn fq_comes_with_a_limit_and_goes_with_it() -> TestResult {
    kernel_test!(alone);
    with_fq(|lab| {
        let flow = upload(lab)?;
        let before = tc(lab, "qdisc show")?;
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let limiter = limit(&flow)?;
            wait(1000);
            let during = tc(lab, "qdisc show")?;
            ensure!(during.contains(OURS), "no fq: {during}");
            limiter.end(signal)?;
            let after = tc(lab, "qdisc show")?;
            ensure!(
                after == before,
                "before: {before}\nafter {signal:?}: {after}"
            );
        }
        Ok(())
    })
}

#[test]
fn what_a_killed_limiter_left_is_taken_away_by_the_next() -> TestResult {
    kernel_test!(alone);
    with_fq(|lab| {
        let flow = upload(lab)?;
        let limiter = limit(&flow)?;
        wait(1000);
        limiter.end(Signal::KILL)?;
        let left = tc(lab, "qdisc show")?;
        ensure!(
            left.contains(OURS),
            "nothing was left, so this shows nothing"
        );
        let doctor = |arguments: &[&str]| process::run(command(arguments)?, "", Place::default());
        let found = doctor(&["doctor"])?;
        ensure!(
            found.contains("left by a killed run: fq on device"),
            "{found}"
        );
        let fixed = doctor(&["doctor", "--fix"])?;
        ensure!(fixed.contains("left by a killed run: nothing"), "{fixed}");
        let fixed = tc(lab, "qdisc show")?;
        ensure!(!fixed.contains(OURS), "still there: {fixed}");
        let limiter = limit(&flow)?;
        wait(1000);
        limiter.end(Signal::KILL)?;
        ensure!(tc(lab, "qdisc show")?.contains(OURS), "nothing was left");
        // It limits itself, which has nothing to do with the lab.
        let next = Limiter::start(&[std::process::id()], &["--upload", "1M"])?;
        let swept = tc(lab, "qdisc show")?;
        next.end(Signal::TERM)?;
        ensure!(!swept.contains(OURS), "still there: {swept}");
        Ok(())
    })
}

#[test]
fn a_device_is_shared_until_the_last_limiter_ends() -> TestResult {
    kernel_test!(alone);
    with_fq(|lab| {
        let flow = upload(lab)?;
        let first = limit(&flow)?;
        wait(500);
        let second = limit(&flow)?;
        wait(500);
        first.end(Signal::TERM)?;
        let shared = tc(lab, "qdisc show")?;
        ensure!(shared.contains(OURS), "taken from the other: {shared}");
        second.end(Signal::TERM)?;
        let after = tc(lab, "qdisc show")?;
        ensure!(!after.contains(OURS), "still there: {after}");
        Ok(())
    })
}

#[test]
fn a_qdisc_that_somebody_chose_is_left_alone() -> TestResult {
    kernel_test!(alone);
    with_fq(|lab| {
        tc(lab, "qdisc add dev lab root handle 1: pfifo")?;
        let before = tc(lab, "qdisc show dev lab")?;
        let flow = upload(lab)?;
        let limiter = limit(&flow)?;
        let goodput = flow.judged(limiter.applied())?;
        let during = tc(lab, "qdisc show dev lab")?;
        limiter.end(Signal::TERM)?;
        ensure!(during == before, "before: {before}\nduring: {during}");
        expect_ratio("policed", goodput, 1e6, kept())
    })
}

#[test]
fn fq_that_somebody_takes_away_is_missed_and_put_back() -> TestResult {
    kernel_test!(alone);
    with_fq(|lab| {
        let flow = upload(lab)?;
        let limiter = limit(&flow)?;
        wait(1000);
        tc(lab, "qdisc del dev lab root")?;
        wait(4000);
        let during = tc(lab, "qdisc show dev lab")?;
        ensure!(during.contains(OURS), "not put back: {during}");
        let from = Moment::now();
        let goodput = kernel_tests::flow::goodput_between(
            flow.receiver(),
            from,
            from + Duration::from_secs(4),
        )?;
        limiter.end(Signal::TERM)?;
        expect_ratio("put back", goodput, 1e6, kept())
    })
}

/// However many devices a process uses, its packets are paced on all of them.
#[test]
fn a_process_that_sends_by_six_devices_is_paced_on_all() -> TestResult {
    kernel_test!(alone);
    if clients::is_missing("python3") {
        return Ok(());
    }
    with_fq(|lab| {
        let mut addresses = Vec::new();
        for number in 0..6 {
            lab.near().ip(&format!(
                "link add many{number} type dummy\n\
                 address add 10.78.{number}.1/24 dev many{number}\n\
                 link set many{number} up"
            ))?;
            addresses.push(format!("10.78.{number}.2"));
        }
        let arguments = std::iter::once("30").chain(addresses.iter().map(String::as_str));
        let arguments: Vec<&str> = arguments.collect();
        let sender = lab
            .near()
            .start(clients::python("by_turns.py", &arguments))?;
        let limiter = Limiter::start(&[sender.pid()], &["--upload", "500K"])?;
        wait(4000);
        let effect = limiter.effect_on(sender.pid())?;
        ensure!(effect["mechanism"] == "pacing", "{effect}");
        let during = tc(lab, "qdisc show")?;
        ensure!(during.matches(OURS).count() >= 6, "{during}");
        limiter.end(Signal::TERM)?;
        Ok(())
    })
}
