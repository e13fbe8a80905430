//! However a limiter ends, nothing of it stays.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use kernel_tests::{
    TestResult,
    flow::{Direction, Flow},
    kernel_test,
    kernel_view::{attached_programs, can_list_programs, programs_of, until_gone},
    lab::{Family, Lab},
    moment::until,
    outcome::{self, figure, in_parallel},
    peer::{Job, busy_rate},
    product::{self, Limiter, Top},
};
use rustix::process::Signal;

const RATE: f64 = 1e6;

fn ends_without_a_trace(lab: &Lab, signals: &[Signal]) -> TestResult {
    if !can_list_programs() {
        outcome::skipped("needs bpftool");
        return Ok(());
    }
    in_parallel(signals, |signal| {
        let job = Job::busy().report_every(Duration::from_millis(20));
        let flow = Flow::start(lab, job, Direction::Download, Family::V4)?;
        let limiter = Limiter::start(&[flow.near().pid()], &["--download", "1M"])?;
        let from = limiter.applied() + Duration::from_secs(1);
        let to = from + Duration::from_secs(2);
        let limited = flow.receiver().received_until(to)?.rate(from, to)?;
        ensure!(
            limited < 2.0 * RATE,
            "not limited before {signal:?}: {limited} B/s"
        );
        let programs = programs_of(limiter.pid())?;
        let attached = attached_programs()?;
        let ours: BTreeSet<_> = programs.intersection(&attached).copied().collect();
        ensure!(ours.len() >= 2, "attached are {ours:?} of {programs:?}");

        let ended = limiter.end(*signal)?;
        until_gone(&ours)?;
        if *signal == Signal::KILL {
            // Before Linux 6.6 a filter is left, which does nothing; the next run removes it.
            Limiter::start(&[std::process::id()], &["--upload", "1M"])?.end(Signal::TERM)?;
        }
        until_gone(&programs)?;
        let arrivals = flow
            .receiver()
            .received_until(ended.gone + Duration::from_secs(3))?;
        let free = arrivals
            .faster_from(
                ended.gone,
                Duration::from_millis(100),
                busy_rate() as f64 / 2.0,
            )
            .with_context(|| format!("limited after {signal:?}"))?;
        figure(&format!(
            "signal {}: {}, free {:.0} ms later",
            signal.as_raw(),
            ended.status,
            free.seconds_since(ended.gone) * 1e3
        ));
        ensure!(free.seconds_since(ended.gone) < 1.0);
        if *signal != Signal::KILL {
            ensure!(!ended.errors.contains("panicked"), "{}", ended.errors);
            let unhandled = ended.status.code().is_none();
            ensure!(!unhandled, "{signal:?} is not handled: {}", ended.status);
        }
        Ok(())
    })
}

#[test]
fn a_limiter_that_is_asked_to_end_leaves_nothing() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    ends_without_a_trace(&lab, &[Signal::TERM, Signal::INT, Signal::HUP])
}

#[test]
fn a_limiter_that_is_killed_leaves_nothing() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    ends_without_a_trace(&lab, &[Signal::KILL])
}

#[test]
fn a_limit_with_a_duration_ends_by_itself() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::busy();
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V4)?;
    let options = ["--upload", "1M", "--duration", "3s"];
    let mut limiter = Limiter::start(&[flow.near().pid()], &options)?;
    let applied = limiter.applied();
    let status = limiter.wait(Duration::from_secs(6))?;
    ensure!(status.success(), "{status}: {}", limiter.errors());
    let took = kernel_tests::moment::Moment::now().seconds_since(applied);
    figure(&format!("3 s took {took:.2} s"));
    ensure!((2.8..4.0).contains(&took), "it took {took} s");
    let (from, to) = (
        applied + Duration::from_secs(1),
        applied + Duration::from_millis(2800),
    );
    let limited = flow.receiver().received_until(to)?.rate(from, to)?;
    ensure!(limited < 1.5 * RATE, "{limited} B/s while limited");
    std::thread::sleep(Duration::from_secs(1));
    let free = flow.goodput_for(Duration::from_secs(1))?;
    ensure!(free > busy_rate() as f64 / 2.0, "{free} B/s afterwards");
    Ok(())
}

#[test]
fn in_the_root_cgroup_mode_the_log_tells_how_programs_were_attached() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::busy();
    let flow = Flow::start(&lab, job, Direction::Download, Family::V4)?;
    let options = ["--download", "1M", "--upload", "1M"];
    let mut command = product::limit_command(&[flow.near().pid()], &options)?;
    command
        .env("CHADTHROTTLE_TEST_ROOT_CGROUP", "1")
        .env("RUST_LOG", "debug");
    let limiter = Limiter::from_command(command)?;
    let from = limiter.applied() + Duration::from_secs(1);
    let to = from + Duration::from_secs(2);
    let limited = flow.receiver().received_until(to)?.rate(from, to)?;
    let log = limiter.end(Signal::TERM)?.errors;
    for (name, hook, word) in [
        ("chadthrottle_ingress", "Ingress", "ingress"),
        ("chadthrottle_egress", "Egress", "egress"),
    ] {
        for expected in [
            format!("Program '{name}' loaded with expected_attach_type: Some({hook})"),
            format!("Attached {name} to \""),
            format!("Successfully attached eBPF {word} program"),
        ] {
            ensure!(log.contains(&expected), "no '{expected}' in:\n{log}");
        }
    }
    let root = kernel_tests::cgroup::root()?;
    let at_the_root = format!("Attached chadthrottle_ingress to \"{}\"", root.display());
    ensure!(log.contains(&at_the_root), "no '{at_the_root}' in:\n{log}");
    ensure!(!log.contains("EINVAL"), "EINVAL in:\n{log}");
    ensure!(
        limited < 1.5 * RATE,
        "{limited} B/s while limited at the root"
    );
    Ok(())
}

/// Sockets are duplicated to be tagged; a duplicate that stayed open would keep its connection.
#[test]
fn connections_end_when_their_process_does() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::tcp().rate(1_000_000);
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V4)?;
    let _limiter = Limiter::start(&[flow.near().pid()], &["--upload", "10M"])?;
    let _top = Top::start("1s")?;
    flow.near().signal(Signal::KILL)?;
    flow.far().event_within("end", Duration::from_secs(2))?;
    Ok(())
}

#[test]
fn a_limiter_ends_when_its_process_does() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::tcp().rate(1_000_000);
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V4)?;
    let mut limiter = Limiter::start(&[flow.near().pid()], &["--upload", "500K"])?;
    let programs = programs_of(limiter.pid())?;
    drop(flow);
    limiter.wait(Duration::from_secs(3))?;
    if can_list_programs() {
        until_gone(&programs)?;
    }
    Ok(())
}

#[test]
fn top_ends_when_nobody_reads_it_any_more() -> TestResult {
    kernel_test!();
    // As in `chadthrottle top | head`.
    let mut top = product::command(&["top", "--json", "--interval", "200ms"])?;
    let mut top = top.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    drop(top.stdout.take());
    let ended = until("top ends", Duration::from_secs(3), || {
        Ok(top.try_wait()?.is_some())
    });
    top.kill()?;
    let errors = top.wait_with_output()?.stderr;
    let errors = String::from_utf8_lossy(&errors);
    ensure!(!errors.contains("panicked"), "{errors}");
    ended
}
