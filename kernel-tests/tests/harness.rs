//! The harness itself, without chadthrottle: what it measures is so.

use std::{fs, time::Duration};

use anyhow::ensure;
use kernel_tests::{
    TestResult,
    cgroup::Cgroup,
    flow::{Direction, Flow},
    kernel_test,
    lab::{Family, Lab},
    outcome::{expect_ratio, in_parallel, is_slow},
    peer::Job,
};

const PACED: u64 = 2_000_000;

#[test]
fn goodput_is_what_a_paced_sender_sends() -> TestResult {
    kernel_test!();
    let cases: Vec<_> = Direction::ALL
        .into_iter()
        .flat_map(|direction| Family::ALL.map(|family| (direction, family)))
        .flat_map(|(direction, family)| {
            [Job::tcp(), Job::udp()].map(|job| (job, direction, family))
        })
        .collect();
    in_parallel(&cases, |(job, direction, family)| {
        let lab = Lab::new()?;
        // Eight flows at once are too much for emulated processors to be on time.
        let (paced, bounds) = match is_slow() {
            true => (PACED / 4, 0.85..=1.15),
            false => (PACED, 0.95..=1.05),
        };
        let flow = Flow::start(&lab, job.clone().rate(paced), *direction, *family)?;
        let goodput = flow.goodput_for(Duration::from_secs(4))?;
        let what = format!("{job:?} {direction:?} {family:?}");
        expect_ratio(&what, goodput, paced as f64, bounds)
    })
}

#[test]
fn an_amount_arrives_to_the_byte() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let job = Job::tcp().amount(1_234_567);
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V4)?;
    flow.far().event("end")?;
    ensure!(flow.far().received()?.total() == 1_234_567);
    flow.near().event("done")?;
    ensure!(flow.near().sent()?.total() == 1_234_567);
    Ok(())
}

#[test]
fn a_handed_over_connection_is_served_by_the_child() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let server = lab.near().traffic(
        Job::hand_over()
            .listen(lab.near().any_port(Family::V4))
            .send()
            .rate(PACED),
    )?;
    let client = lab.far().traffic(Job::tcp().connect(server.address()?))?;
    let child = server.event("handed")?["pid"].as_u64().unwrap();
    ensure!(child != u64::from(server.pid()));
    let parent: u64 = fs::read_to_string(format!("/proc/{child}/stat"))?
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok())
        .unwrap();
    ensure!(parent == u64::from(server.pid()));
    let now = kernel_tests::moment::Moment::now();
    let goodput = kernel_tests::flow::goodput_between(&client, now, now + Duration::from_secs(1))?;
    expect_ratio("handed over", goodput, PACED as f64, 0.9..=1.1)
}

#[test]
fn nothing_is_left_behind() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let other = Cgroup::new()?;
    let flow = Flow::start(
        &lab,
        Job::tcp().rate(PACED),
        Direction::Download,
        Family::V6,
    )?;
    other.take(flow.near().pid())?;
    let family = lab
        .near()
        .traffic(Job::many_processes(20).connect(flow.far().address()?))?;
    let started = family.event("started")?;
    let children = started["pids"].as_array().unwrap().iter();
    let processes: Vec<_> = children
        .filter_map(|pid| pid.as_u64())
        .chain([&family, flow.near(), flow.far()].map(|peer| peer.pid().into()))
        .map(|pid| format!("/proc/{pid}"))
        .collect();
    ensure!(processes.len() == 23);
    let cgroups = [lab.near().cgroup(), lab.far().cgroup(), &other].map(|c| c.path().to_owned());
    for process in &processes {
        ensure!(fs::exists(process)?);
    }
    drop((family, flow, lab, other));
    for process in &processes {
        ensure!(!fs::exists(process)?, "{process} is still there");
    }
    for cgroup in &cgroups {
        ensure!(!fs::exists(cgroup)?, "{} is still there", cgroup.display());
    }
    Ok(())
}
