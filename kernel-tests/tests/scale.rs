//! Many processes, many sockets.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kernel_tests::{
    TestResult, kernel_test,
    lab::{End, Family, Lab},
    moment::{Moment, until},
    named_program::NamedProgram,
    outcome::{expect_ratio, figure},
    peer::{Job, Peer},
    process::as_user,
    product::{Limiter, Top, limit_command},
};
use rustix::process::Signal;
use serde_json::Value;

const SOCKETS: u32 = 10_000;
/// A datagram on each socket.
const ROUND: u64 = 100 * SOCKETS as u64;

fn sink(end: &End) -> anyhow::Result<Peer> {
    end.traffic(Job::udp().listen(end.any_port(Family::V4)))
}

/// All that a sink received once nothing more comes.
fn received(sink: &Peer) -> anyhow::Result<u64> {
    let now = Moment::now() + Duration::from_millis(500);
    Ok(sink.received_until(now)?.total())
}

#[test]
fn ten_thousand_older_sockets_are_counted() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let sink = sink(lab.far())?;
    let job = Job::many_sockets(SOCKETS).connect(sink.address()?);
    let mut near = lab.near().traffic(job)?;
    let start = Instant::now();
    let mut top = Top::start("1s")?;
    figure(&format!("first sample after {:.2?}", start.elapsed()));
    near.go()?;
    near.event("done")?;
    ensure!(received(&sink)? == ROUND, "{} arrived", received(&sink)?);
    let counted = top.settled(near.pid(), "upload_bytes")?;
    ensure!(counted == ROUND, "{counted} counted of {ROUND}");
    Ok(())
}

#[test]
fn ten_thousand_older_sockets_are_limited() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let sink = sink(lab.far())?;
    let job = Job::many_sockets(SOCKETS).connect(sink.address()?);
    let mut near = lab.near().traffic(job)?;
    let start = Instant::now();
    let _limiter = Limiter::start(&[near.pid()], &["--upload", "0"])?;
    figure(&format!("applied after {:.2?}", start.elapsed()));
    near.go()?;
    near.event("done")?;
    ensure!(received(&sink)? == 0, "{} arrived", received(&sink)?);
    Ok(())
}

#[test]
fn a_thousand_processes_are_limited_at_once() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let sink = sink(lab.far())?;
    // One more than are limited, to see that the others would have sent.
    let job = Job::many_processes(1001).connect(sink.address()?);
    let mut family = lab.near().traffic(job.amount(1000).rate(1000))?;
    let started = family.event("started")?;
    let pids = pids(&started)?;
    ensure!(pids.len() == 1001);
    let start = Instant::now();
    let limiter = Limiter::start(&pids[..1000], &["--upload", "0"])?;
    figure(&format!("applied after {:.2?}", start.elapsed()));
    family.go()?;
    std::thread::sleep(Duration::from_secs(1));
    let arrived = received(&sink)?;
    ensure!(arrived == 1000, "{arrived} arrived, not one process's 1000");
    let ended = limiter.end(Signal::TERM)?;
    let took = ended.gone.seconds_since(ended.signalled);
    figure(&format!("removed within {took:.2} s"));
    ensure!(took < 5.0);
    Ok(())
}

#[test]
fn two_thousand_processes_that_come_and_go_are_counted_to_the_byte() -> TestResult {
    kernel_test!(alone);
    const COUNT: u32 = 2000;
    const EACH: u64 = 1000;
    let lab = Lab::new()?;
    let sink = sink(lab.far())?;
    let mut top = Top::start("1s")?;
    let job = Job::many_processes(COUNT).connect(sink.address()?);
    let mut family = lab
        .near()
        .traffic(job.amount(EACH).rate(1_000_000).leave())?;
    let started = family.event("started")?;
    let pids = pids(&started)?;
    ensure!(pids.len() == COUNT as usize);
    family.go()?;
    // Not what arrived: on a slow machine the sink's queue overflows, after all was counted.
    let datagrams = u64::from(COUNT) * EACH / 100;
    until("all was sent", Duration::from_secs(60), || {
        Ok(lab.near().counter("Udp", "OutDatagrams")? == datagrams)
    })?;
    let sum = top.settled_together(&pids, "upload_bytes")?;
    let sent = u64::from(COUNT) * EACH;
    ensure!(sum == sent, "{sum} counted of {sent}");
    Ok(())
}

/// The PIDs that many processes say they have.
fn pids(started: &Value) -> anyhow::Result<Vec<u32>> {
    let pids = started["pids"].as_array().context("no PIDs")?;
    Ok((pids.iter())
        .filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
        .collect())
}

/// So many slots are asked for, and there are more processes.
const SLOTS: &str = "8192";
const CROWD: u32 = 9000;
/// No process of another test has this user.
const UID: &str = "64325";

/// Few enough for a test to use them all: half of them are for single processes.
const FEW_SLOTS: &str = "512";

/// A limiter that has so many slots.
fn limiter_with(slots: &str, options: &[&str]) -> anyhow::Result<Limiter> {
    let mut limit = limit_command(&[], options)?;
    limit.env("CHADTHROTTLE_TEST_SLOTS", slots);
    Limiter::from_command(limit)
}

/// More processes than [`FEW_SLOTS`] has room for, and whom they speak with.
fn with_few_slots_used(lab: &Lab) -> anyhow::Result<(Peer, Peer)> {
    let sink = lab.far().any_port(Family::V4);
    let sink = (lab.far()).traffic(Job::busy().listen(sink))?;
    let others = Job::many_processes(400).connect(sink.address()?);
    let others = lab.near().traffic(others)?;
    others.event("started")?;
    Ok((sink, others))
}

/// What processes without a slot of their own get through a limit, of 1 MB/s, in bytes a second.
fn crowd_gets(options: &[&str]) -> anyhow::Result<f64> {
    let lab = Lab::new()?;
    let far = lab.far();
    let sink = Job::udp().listen(far.any_port(Family::V4));
    let sink = far.traffic(sink.at_most(Duration::from_secs(120)))?;
    let cgroup = lab.near().cgroup().name()?;
    let options: Vec<&str> = (options.iter())
        .map(|option| {
            if *option == "CGROUP" {
                &*cgroup
            } else {
                *option
            }
        })
        .collect();
    let _limiter = limiter_with(SLOTS, &options)?;
    let job = Job::many_processes(CROWD).connect(sink.address()?);
    // Each a datagram a second.
    let job = job.amount(100_000).chunk(1000).rate(1000);
    let job = job.at_most(Duration::from_secs(120)).command()?;
    let start = Instant::now();
    let mut family = Peer::from_command(as_user(UID, &job), lab.near().place())?;
    let patience = Duration::from_secs(60);
    family.event_within("started", patience)?;
    figure(&format!("{CROWD} processes after {:.1?}", start.elapsed()));
    family.go()?;
    let from = Moment::now() + Duration::from_secs(2);
    let until = from + Duration::from_secs(3);
    let arrived = sink.received_until(until)?;
    arrived.rate(from, until)
}

#[test]
fn processes_without_a_slot_are_limited_by_user_and_by_cgroup() -> TestResult {
    kernel_test!(alone);
    for (what, options) in [
        ("user", ["--user", UID]),
        ("cgroup", ["--cgroup", "CGROUP"]),
    ] {
        // Without a limit they send 9 MB/s.
        let limit = ["--shared", "--upload", "1M"];
        let options: Vec<&str> = options.iter().chain(&limit).copied().collect();
        // They all send at the same moment, once a second: most of that is too much at once.
        expect_ratio(what, crowd_gets(&options)?, 1e6, 0.3..=1.1)?;
    }
    Ok(())
}

/// Their slots go to others, and nothing that the kernel still knows of them takes those away again.
#[test]
fn processes_that_end_before_they_are_looked_at_leave_their_slots_whole() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-later")?;
    let options = ["--program", "ct-later", "--upload", "200K"];
    let limiter = limiter_with(FEW_SLOTS, &options)?;
    let begun = Moment::now();
    // As if it were busy with others.
    limiter.signal(Signal::STOP)?;
    let address = lab.far().any_port(Family::V4).ip();
    let mut bash = Command::new("bash");
    let many = format!("for i in {{1..300}}; do (exec 3<>/dev/udp/{address}/9); done");
    bash.args(["-c", &many]);
    lab.near().run(bash)?;
    limiter.signal(Signal::CONT)?;
    // They keep their slots for a second, as few are left.
    (Moment::now() + Duration::from_secs(5)).wait();
    let sink = lab.far().any_port(Family::V4);
    let sink = (lab.far()).traffic(Job::busy().listen(sink))?;
    let job = Job::busy().connect(sink.address()?).send();
    let later = (0..5)
        .map(|_| Peer::from_command(program.command(&job)?, lab.near().place()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // All processes are looked at after half a minute at the latest.
    (begun + Duration::from_secs(36)).wait();
    let from = Moment::now();
    let until = from + Duration::from_secs(3);
    let arrived = sink.received_until(until)?.rate(from, until)?;
    drop(later);
    expect_ratio("five of them", arrived, 1e6, 0.7..=1.2)
}

/// More than fit into the ring buffer begin while nobody reads it. The kernel can't tell by itself that the rule is for
/// the last of them, so it is user space that has to find it.
#[test]
fn a_process_whose_announcement_was_lost_is_limited() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-unheard")?;
    let options = ["--command", "*ct-unheard*", "--upload", "200K"];
    let limiter = limiter_with(SLOTS, &options)?;
    let sink = lab.far().any_port(Family::V4);
    let sink = (lab.far()).traffic(Job::busy().listen(sink))?;
    // What a new device's IPv6 says is nobody's, for which it looks at all processes, less and less often.
    (Moment::now() + Duration::from_secs(17)).wait();
    limiter.signal(Signal::STOP)?;
    let address = sink.address()?.ip();
    let mut bash = Command::new("bash");
    let many = format!("for i in {{1..5000}}; do (exec 3<>/dev/udp/{address}/9); done");
    bash.args(["-c", &many]);
    lab.near().run(bash)?;
    let unheard = program.command(&Job::busy().connect(sink.address()?).send())?;
    let _unheard = Peer::from_command(unheard, lab.near().place())?;
    limiter.signal(Signal::CONT)?;
    let from = Moment::now() + Duration::from_secs(3);
    let until = from + Duration::from_secs(3);
    let arrived = sink.received_until(until)?.rate(from, until)?;
    expect_ratio("not announced", arrived, 2e5, 0.7..=1.2)
}

/// When no slot is left, each cgroup and user has one together, of which there are 256. Containers come and go.
#[test]
fn slots_of_cgroups_that_are_gone_go_to_others() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let options = ["--user", UID, "--upload", "500K"];
    let _limiter = limiter_with(FEW_SLOTS, &options)?;
    let (sink, _others) = with_few_slots_used(&lab)?;
    let cgroup = lab.near().cgroup().path().display().to_string();
    let address = lab.far().any_port(Family::V4).ip();
    let mut bash = Command::new("bash");
    let many = format!(
        "for i in {{1..300}}; do c={cgroup}/gone-$i; mkdir $c; (echo $BASHPID > $c/cgroup.procs; \
         exec 3<>/dev/udp/{address}/9; echo >&3); rmdir $c; done"
    );
    bash.args(["-c", &many]);
    lab.near().run(bash)?;
    // It looks each five seconds which are gone, and for some seconds more what they had is shown.
    (Moment::now() + Duration::from_secs(20)).wait();
    let late = lab.near().cgroup().child("late")?;
    let job = Job::busy().connect(sink.address()?).send().command()?;
    let _late = Peer::from_command(as_user(UID, &job), lab.near().place_in(Some(&late)))?;
    let from = Moment::now() + Duration::from_secs(2);
    let until = from + Duration::from_secs(3);
    let arrived = sink.received_until(until)?.rate(from, until)?;
    // Without a slot it would have many times that. On a busy machine TCP has less of what is policed.
    expect_ratio("in a new cgroup", arrived, 5e5, 0.3..=1.2)
}

/// Slots are kept for those that a limit is for.
#[test]
fn a_program_is_limited_when_no_slot_is_left() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-needy")?;
    let options = ["--program", "ct-needy", "--upload", "500K"];
    let _limiter = limiter_with(FEW_SLOTS, &options)?;
    let (sink, _others) = with_few_slots_used(&lab)?;
    let needy = program.command(&Job::busy().connect(sink.address()?).send())?;
    let _needy = Peer::from_command(needy, lab.near().place())?;
    // It is found among the others with the second look after it.
    let from = Moment::now() + Duration::from_secs(4);
    let until = from + Duration::from_secs(3);
    let arrived = sink.received_until(until)?.rate(from, until)?;
    expect_ratio("without a free slot", arrived, 5e5, 0.7..=1.2)
}
