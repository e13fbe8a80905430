//! The windows that paced downloads advertise: they hold senders without a loss, and nobody else.

use std::{collections::BTreeSet, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, kernel_test,
    kernel_view::{can_list_programs, linked_programs_of, programs_of, until_gone},
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, figure, in_parallel, skipped},
    peer::{Job, Peer},
    process,
    product::Limiter,
    queue::{OURS, tc, with_fq, with_fq_and_round_trip},
};
use rustix::process::Signal;

/// How long a limiter may take to see to a device on a slow machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// A window below this is one that was made smaller, in bytes.
const SMALL: u64 = 40_000;

/// A download that begins under its limit.
struct Download {
    near: Peer,
    far: Peer,
}

/// What a sender's socket tells.
#[derive(Clone, Copy, Debug)]
struct Sender {
    /// Segments sent again.
    retransmitted: u64,
    /// The window that it was given.
    window: u64,
}

impl Download {
    /// Prepares one; it begins with [`Self::begin`].
    fn prepare(lab: &Lab, family: Family) -> Result<Self> {
        // Faster than the limit, but not as fast as goes: on a slow machine that would disturb.
        let job = Job::tcp().rate(2_000_000);
        let far = lab
            .far()
            .traffic(job.listen(lab.far().any_port(family)).send())?;
        let near = lab
            .near()
            .traffic(Job::tcp().connect(far.address()?).wait())?;
        Ok(Self { near, far })
    }

    /// Returns once it moves: a slow machine takes its time to connect, and has no window till then.
    fn begin(&mut self) -> Result<()> {
        self.near.go()?;
        until("the download moves", PATIENCE, || {
            Ok(self.near.received()?.total() > 0)
        })
    }

    fn sender(&self, lab: &Lab) -> Result<Sender> {
        let mut ss = Command::new("ss");
        ss.args(["-tinHO", "sport", "="])
            .arg(format!(":{}", self.far.address()?.port()));
        let shown = process::run(ss, "", lab.far().place())?;
        let figure = |name: &str| {
            let words = shown.split_whitespace();
            words
                .filter_map(|word| word.strip_prefix(name))
                .find_map(|value| value.rsplit('/').next()?.parse().ok())
        };
        Ok(Sender {
            // Not shown before the first.
            retransmitted: figure("retrans:").unwrap_or(0),
            window: figure("snd_wnd:").with_context(|| format!("no window in {shown}"))?,
        })
    }
}

/// How the program is attached at the near end.
#[derive(Debug, PartialEq)]
enum Attached {
    /// By links, of these programs.
    Links(BTreeSet<u64>),
    /// By a filter of clsact, before Linux 6.6.
    Filter,
}

fn attached(lab: &Lab, limiter: &Limiter) -> Result<Option<Attached>> {
    let links = linked_programs_of(limiter.pid(), "tcx")?;
    if !links.is_empty() {
        return Ok(Some(Attached::Links(links)));
    }
    Ok((filters(lab)? != [false; 2]).then_some(Attached::Filter))
}

/// Whether there are filters of ours, of downloads and of uploads.
fn filters(lab: &Lab) -> Result<[bool; 2]> {
    let shows = |side: &str, name: &str| -> Result<bool> {
        Ok(tc(lab.near(), &format!("filter show dev lab {side}"))?.contains(name))
    };
    Ok([
        shows("egress", "chadthrottle_window")?,
        shows("ingress", "chadthrottle_send_window")?,
    ])
}

fn until_attached(lab: &Lab, limiter: &Limiter) -> Result<Attached> {
    let mut how = None;
    until("windows are advertised", PATIENCE, || {
        how = attached(lab, limiter)?;
        Ok(how.is_some())
    })?;
    how.context("it was")
}

/// Runs a test if the kernel has fq, and the tools are there.
fn with_tools(test: impl FnOnce(&Lab) -> TestResult) -> TestResult {
    let has_ss = Command::new("ss").arg("-V").output().is_ok();
    if !has_ss || !can_list_programs() {
        skipped("needs ss, of iproute2, and bpftool");
        return Ok(());
    }
    with_fq(test)
}

#[test]
fn a_slow_download_loses_nothing() -> TestResult {
    kernel_test!(alone);
    with_tools(|_| {
        let cases = [
            (64_000, Family::V4),
            (125_000, Family::V4),
            (125_000, Family::V6),
        ];
        in_parallel(&cases, |(rate, family)| {
            let lab = Lab::new()?;
            let mut download = Download::prepare(&lab, *family)?;
            let limit = format!("{rate}");
            let limiter = Limiter::start(&[download.near.pid()], &["--download", &limit])?;
            download.begin()?;
            until_attached(&lab, &limiter)?;
            // What was sent before is over by then.
            let from = Moment::now() + Duration::from_secs(4);
            from.wait();
            let before = download.sender(&lab)?;
            let to = from + Duration::from_secs(8);
            let goodput = download.near.received_until(to)?.rate(from, to)?;
            let after = download.sender(&lab)?;
            limiter.end(Signal::TERM)?;
            let again = after.retransmitted - before.retransmitted;
            let all = goodput * 8.0 / 1448.0;
            figure(&format!(
                "{rate} B/s, {family:?}: {again} of {all:.0} segments again, window {}",
                after.window
            ));
            // A machine that stands still makes senders try again what was not lost; without the
            // windows it would be 5 % and more.
            ensure!(again as f64 <= 0.01 * all, "{again} segments again");
            expect_ratio("goodput", goodput, f64::from(*rate), 0.85..=1.05)
        })
    })
}

/// They begin before the device has fq: what is lost until then takes long to send again.
#[test]
fn eight_flows_that_begin_together_lose_little() -> TestResult {
    kernel_test!(alone);
    with_fq_and_round_trip(Duration::from_millis(20), |lab| {
        let from_far = Job::tcp().listen(lab.far().any_port(Family::V4)).send();
        let far = lab.far().traffic(from_far)?;
        let to_near = Job::tcp().connect(far.address()?).connections(8).wait();
        let mut near = lab.near().traffic(to_near)?;
        let limiter = Limiter::start(&[near.pid()], &["--download", "64K"])?;
        // So long that it is only looked after once a second.
        (limiter.applied() + Duration::from_secs(4)).wait();
        near.go()?;
        let from = Moment::now();
        let to = from + Duration::from_secs(5);
        let moved = near.received_until(to)?.rate(from, to)? * 5.0 / 1448.0;
        let again = lab.far().counter("Tcp", "RetransSegs")?;
        limiter.end(Signal::TERM)?;
        figure(&format!("{again} segments again beside {moved:.0}"));
        // With fq only then, it was 170.
        ensure!(again < 60, "{again} segments again");
        Ok(())
    })
}

#[test]
fn only_windows_of_the_limited_process_are_small() -> TestResult {
    kernel_test!(alone);
    with_tools(|lab| {
        let mut limited = Download::prepare(lab, Family::V4)?;
        let mut other = Download::prepare(lab, Family::V4)?;
        let limiter = Limiter::start(&[limited.near.pid()], &["--download", "125K"])?;
        limited.begin()?;
        other.begin()?;
        until_attached(lab, &limiter)?;
        until("the window is small", PATIENCE, || {
            Ok(limited.sender(lab)?.window < SMALL)
        })?;
        let others = other.sender(lab)?.window;
        figure(&format!("the other process has {others} bytes"));
        ensure!(others > 60_000, "{others} bytes for the other process");
        let programs = programs_of(limiter.pid())?;
        limiter.end(Signal::TERM)?;
        ensure!(filters(lab)? == [false; 2], "still attached");
        until_gone(&programs)?;
        until("the window is large again", PATIENCE, || {
            Ok(limited.sender(lab)?.window > 60_000)
        })
    })
}

#[test]
fn an_upload_limit_sees_to_the_windows_of_uploads_alone() -> TestResult {
    kernel_test!(alone);
    with_tools(|lab| {
        let mut download = Download::prepare(lab, Family::V4)?;
        let options = ["--upload", "1M"];
        let limiter = Limiter::start(&[download.near.pid()], &options)?;
        download.begin()?;
        until("fq is there", PATIENCE, || {
            Ok(tc(lab.near(), "qdisc show dev lab")?.contains(OURS))
        })?;
        (Moment::now() + Duration::from_secs(1)).wait();
        match until_attached(lab, &limiter)? {
            Attached::Links(programs) => {
                ensure!(programs.len() == 1, "attached without need: {programs:?}");
            }
            Attached::Filter => {
                let filters = filters(lab)?;
                ensure!(filters == [false, true], "{filters:?}");
            }
        }
        limiter.end(Signal::TERM)?;
        ensure!(filters(lab)? == [false; 2], "a filter is still there");
        Ok(())
    })
}

#[test]
fn windows_of_a_killed_limiter_are_let_go() -> TestResult {
    kernel_test!(alone);
    with_tools(|lab| {
        // Somebody else's clsact stays, ours goes.
        for there in [false, true] {
            if there {
                tc(lab.near(), "qdisc add dev lab clsact")?;
            }
            let before = tc(lab.near(), "qdisc show dev lab")?;
            let mut download = Download::prepare(lab, Family::V4)?;
            let options = ["--download", "125K", "--upload", "10M"];
            let limiter = Limiter::start(&[download.near.pid()], &options)?;
            download.begin()?;
            let how = until_attached(lab, &limiter)?;
            until("the window is small", PATIENCE, || {
                Ok(download.sender(lab)?.window < SMALL)
            })?;
            limiter.end(Signal::KILL)?;
            if let Attached::Links(programs) = how {
                until_gone(&programs)?;
            }
            // A filter is left, as fq is, but it does nothing.
            until("the window is large again", PATIENCE, || {
                Ok(download.sender(lab)?.window > 60_000)
            })?;
            let next = Limiter::start(&[std::process::id()], &["--upload", "1M"])?;
            let left = filters(lab)?;
            let after = tc(lab.near(), "qdisc show dev lab")?;
            next.end(Signal::TERM)?;
            ensure!(left == [false; 2], "a filter is still there: {left:?}");
            ensure!(after == before, "before: {before}\nafter: {after}");
        }
        Ok(())
    })
}
