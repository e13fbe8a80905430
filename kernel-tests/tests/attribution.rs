//! Whose packets a limit catches, and whose it leaves alone.

use std::{process::Command, time::Duration};

use anyhow::{Context, ensure};
use kernel_tests::{
    TestResult,
    cgroup::Cgroup,
    flow::{Direction, Flow, judged},
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    outcome::{expect_ratio, is_slow, kept},
    peer::{Job, Peer, busy_rate},
    product::Limiter,
};

fn busy() -> Job {
    Job::busy()
}

#[test]
fn a_neighbour_in_the_same_cgroup_keeps_its_speed() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::tcp().rate(if is_slow() { busy_rate() } else { 50_000_000 });
    let neighbour = Flow::start(&lab, job.clone(), Direction::Download, Family::V4)?;
    let alone = neighbour.goodput_for(Duration::from_secs(3))?;
    let limited = Flow::start(&lab, job, Direction::Download, Family::V4)?;
    let limiter = Limiter::start(&[limited.near().pid()], &["--download", "1M"])?;
    let beside = neighbour.judged(limiter.applied())?;
    expect_ratio("neighbour", beside, alone, 0.9..=1.2)?;
    expect_ratio("limited", limited.judged(limiter.applied())?, 1e6, kept())
}

#[test]
fn each_of_two_limited_processes_has_a_limit_of_its_own() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let start = || Flow::start(&lab, busy(), Direction::Download, Family::V4);
    let flows = [start()?, start()?];
    let pids = flows.each_ref().map(|flow| flow.near().pid());
    let limiter = Limiter::start(&pids, &["--download", "1M"])?;
    for flow in &flows {
        expect_ratio("each", flow.judged(limiter.applied())?, 1e6, kept())?;
    }
    Ok(())
}

#[test]
fn the_connections_that_a_server_accepts_are_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let listen = busy().listen(lab.near().any_port(Family::V4));
    let server = lab.near().traffic(listen.send())?;
    let client = || lab.far().traffic(Job::tcp().connect(server.address()?));
    // One before the limit and two after.
    let before = client()?;
    let limiter = Limiter::start(&[server.pid()], &["--upload", "1M"])?;
    let after = [client()?, client()?];
    let mut sum = 0.0;
    for client in [&before].into_iter().chain(&after) {
        sum += judged(client, limiter.applied())?;
    }
    expect_ratio("three clients together", sum, 1e6, kept())
}

#[test]
fn sockets_made_after_the_limit_are_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let source = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V6)).send())?;
    let job = Job::tcp().connect(source.address()?).wait();
    let mut near = lab.near().traffic(job)?;
    let limiter = Limiter::start(&[near.pid()], &["--download", "1M"])?;
    near.go()?;
    near.event("going")?;
    let goodput = judged(&near, Moment::now())?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("new socket", goodput, 1e6, kept())
}

#[test]
fn a_process_that_changed_its_cgroup_is_limited_on_its_old_socket() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let elsewhere = Cgroup::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    elsewhere.take(flow.near().pid())?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--download", "1M"])?;
    let goodput = flow.judged(limiter.applied())?;
    expect_ratio("old socket", goodput, 1e6, kept())
}

#[test]
fn a_process_that_changes_its_cgroup_while_limited_stays_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let elsewhere = Cgroup::new()?;
    let source = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V4)).send())?;
    let mut near = lab
        .near()
        .traffic(Job::tcp().connect(source.address()?).wait())?;
    let limiter = Limiter::start(&[near.pid()], &["--download", "1M"])?;
    elsewhere.take(near.pid())?;
    near.go()?;
    near.event("going")?;
    let start = Moment::now();
    let goodput = judged(&near, start)?;
    ensure!(limiter.applied() < start);
    expect_ratio("its new socket, in the new cgroup", goodput, 1e6, kept())
}

#[test]
fn a_connection_handed_to_a_forked_child_is_limited_with_the_child() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::hand_over().listen(lab.near().any_port(Family::V4));
    let server = lab.near().traffic(job.send().rate(busy_rate()))?;
    let client = lab.far().traffic(Job::tcp().connect(server.address()?))?;
    let child = server.event("handed")?["pid"].as_u64().context("no PID")?;
    let limiter = Limiter::start(&[u32::try_from(child)?], &["--upload", "1M"])?;
    expect_ratio("child", judged(&client, limiter.applied())?, 1e6, kept())
}

#[test]
fn a_connection_handed_over_after_the_limit_is_not_the_parents() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::hand_over().listen(lab.near().any_port(Family::V4));
    let server = lab.near().traffic(job.send().rate(5_000_000))?;
    let _limiter = Limiter::start(&[server.pid()], &["--upload", "500K"])?;
    let client = lab.far().traffic(Job::tcp().connect(server.address()?))?;
    server.event("handed")?;
    // The child is found to be its only holder within a few seconds.
    let from = Moment::now() + Duration::from_secs(4);
    let to = from + Duration::from_secs(4);
    let goodput = client.received_until(to)?.rate(from, to)?;
    expect_ratio("child of a limited parent", goodput, 5e6, 0.9..=1.2)
}

#[test]
fn a_process_in_the_root_cgroup_is_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let place = lab.near().place_in(None);
    let flow = Flow::start_in(place, &lab, busy(), Direction::Upload, Family::V4)?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--upload", "1M"])?;
    expect_ratio("upload", flow.judged(limiter.applied())?, 1e6, kept())
}

/// What a container is to the kernel: a network namespace, a PID namespace and a cgroup of its
/// own; here the cgroup is inside another.
#[test]
fn a_process_in_a_container_is_limited_and_its_neighbour_outside_is_not() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let container = Cgroup::inside(lab.near().cgroup())?;
    let source = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V6)).send())?;
    let job = Job::tcp().connect(source.address()?);
    let inner = job.command()?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]);
    unshare.arg(inner.get_program()).args(inner.get_args());
    let place = lab.near().place_in(Some(&container));
    let contained = Peer::from_command(unshare, place)?;
    let outside = lab.near().traffic(job)?;
    let members = container.members()?;
    let pid = members.iter().find(|pid| **pid != contained.pid());
    let limiter = Limiter::start(&[*pid.context("no process inside")?], &["--download", "1M"])?;
    let applied = limiter.applied();
    expect_ratio("contained", judged(&contained, applied)?, 1e6, kept())?;
    expect_ratio(
        "outside",
        judged(&outside, applied)?,
        busy_rate() as f64,
        0.9..=1.1,
    )
}

#[test]
fn a_worker_that_accepts_from_its_parents_listener_is_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::prefork(1).listen(lab.near().any_port(Family::V4));
    let server = lab.near().traffic(job.send().rate(busy_rate()))?;
    let worker = server.event("started")?["workers"][0].as_u64();
    let worker = u32::try_from(worker.context("no PID")?)?;
    let limiter = Limiter::start(&[worker], &["--upload", "1M"])?;
    let client = lab.far().traffic(Job::tcp().connect(server.address()?))?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    // The connection has its listener's tag until it is found to be the worker's only.
    let accepted = Moment::now() + Duration::from_secs(2);
    expect_ratio("worker", judged(&client, accepted)?, 1e6, kept())
}

#[test]
fn traffic_over_the_loopback_is_limited_at_the_limited_end() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let anywhere = "127.0.0.1:0".parse()?;
    let source = lab.near().traffic(busy().listen(anywhere).send())?;
    let connect = || lab.near().traffic(Job::tcp().connect(source.address()?));
    let (limited, other) = (connect()?, connect()?);
    let limiter = Limiter::start(&[limited.pid()], &["--download", "1M"])?;
    let applied = limiter.applied();
    expect_ratio("limited", judged(&limited, applied)?, 1e6, kept())?;
    expect_ratio(
        "other",
        judged(&other, applied)?,
        busy_rate() as f64,
        0.9..=1.1,
    )
}
