//! The unit as it is, under a real systemd: `cargo xtask vm --systemd systemd`.

use std::{env, fs, os::fd::AsRawFd as _, path::Path, process, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult,
    flow::judged,
    kernel_test,
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, figure, kept, skipped},
    peer::{Job, Peer},
    process::{Place, run},
    product,
    queue::{OURS, has_fq, tc},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long the test may take on emulated processors.
const LONGEST: Duration = Duration::from_secs(300);
const UNIT: &str = "chadthrottle.service";
const RULES: &str = "/etc/chadthrottle/rules.toml";
/// In place of the journal.
const LOG: &str = "/run/chadthrottle-test.log";

/// Whether systemd is the first program of a machine made for tests: nobody's own gets a unit.
fn is_there() -> bool {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    env::var_os("CHADTHROTTLE_VM").is_some() && first.trim() == "systemd"
}

fn systemctl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    run(command, "", Place::default())
}

fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_default()
}

fn status() -> Result<Value> {
    let command = product::command(&["status", "--json"])?;
    Ok(serde_json::from_str(&run(command, "", Place::default())?)?)
}

fn write_rules(upload: &str) -> Result<()> {
    let rules = format!(
        "[[rule]]\nname = \"load\"\nunit = \"load.service\"\nupload = \"{upload}\"\nshared = true\n"
    );
    Ok(fs::write(RULES, rules)?)
}

/// Installs the program and its unit, with nothing changed but where it writes to, and that no other
/// services are started for it.
fn install() -> Result<()> {
    fs::copy(product::program()?, "/usr/bin/chadthrottle")?;
    let folder = Path::new("/etc/systemd/system");
    fs::copy(product::UNIT, folder.join(UNIT))?;
    let changes = folder.join(format!("{UNIT}.d"));
    fs::create_dir_all(&changes)?;
    let output = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n"
    );
    fs::write(changes.join("output.conf"), output)?;
    fs::create_dir_all("/etc/chadthrottle")?;
    systemctl(&["daemon-reload"]).map(drop)
}

/// Starts a service of systemd's that sends datagrams from the near end.
fn start_load(lab: &Lab, sink: &Peer) -> Result<()> {
    let network = lab.near().place().network.context("no namespace")?;
    let network = format!("/proc/{}/fd/{}", process::id(), network.as_raw_fd());
    let job = Job::udp().connect(sink.address()?).send().rate(5_000_000);
    let job = job.at_most(LONGEST).command()?;
    let mut load = Command::new("systemd-run");
    load.args(["--unit=load.service", "--property=DefaultDependencies=no"])
        .arg(format!("--property=NetworkNamespacePath={network}"))
        .arg("--property=StandardOutput=null")
        .arg(job.get_program())
        .args(job.get_args());
    run(load, "", Place::default()).map(drop)
}

#[test]
fn the_unit_limits_a_unit_under_systemd() -> TestResult {
    kernel_test!(alone);
    if !is_there() {
        skipped("needs a machine with systemd: cargo xtask vm --systemd");
        return Ok(());
    }
    let lab = Lab::new()?;
    let paced = has_fq(&lab)?;
    let listen = Job::udp()
        .listen(lab.far().any_port(Family::V4))
        .at_most(LONGEST);
    let sink = lab.far().traffic(listen)?;
    install()?;
    write_rules("1M")?;
    systemctl(&["start", UNIT]).with_context(log)?;
    figure(&systemctl(&[
        "show",
        "--property=MemoryCurrent,TasksCurrent",
        UNIT,
    ])?);

    let goodput = |what: &str, rate: f64| {
        let after = Moment::now() + Duration::from_secs(1);
        let goodput = judged(&sink, after).with_context(log)?;
        expect_ratio(what, goodput, rate, kept()).with_context(log)
    };
    start_load(&lab, &sink)?;
    goodput("started after it", 1e6)?;
    let mechanism = status()?["limits"][0]["effect"]["mechanism"].clone();
    ensure!(
        mechanism == if paced { "pacing" } else { "policing" },
        "{mechanism}: {}",
        log()
    );

    write_rules("2M")?;
    systemctl(&["reload", UNIT]).with_context(log)?;
    goodput("reloaded", 2e6)?;
    fs::write(RULES, "[[rule]]\nnmae = \"load\"\n")?;
    let broken = systemctl(&["reload", UNIT]);
    ensure!(broken.is_err(), "broken rules were taken");
    ensure!(log().contains("did you mean 'name'?"), "{}", log());
    goodput("after broken rules", 2e6)?;
    write_rules("2M")?;

    // Its end without a warning: systemd starts it again.
    let pid = || status().map(|status| status["pid"].as_u64());
    let before = pid()?;
    systemctl(&["kill", "--signal=KILL", UNIT])?;
    until("it is back", PATIENCE, || {
        Ok(pid().is_ok_and(|pid| pid != before))
    })
    .with_context(log)?;
    goodput("started again", 2e6)?;

    systemctl(&["stop", UNIT]).with_context(log)?;
    let after = Moment::now() + Duration::from_secs(1);
    // It makes up for what it could not send.
    let free = judged(&sink, after).with_context(log)?;
    ensure!(free > 3e6, "{free} B/s: {}", log());
    let queues = tc(lab.near(), "qdisc show dev lab")?;
    ensure!(!queues.contains(OURS), "{queues}");
    ensure!(
        !Path::new("/run/chadthrottle").exists(),
        "its socket is left"
    );
    systemctl(&["stop", "load.service"])?;
    let said = log();
    for word in ["not permitted", "denied", "panicked", "WARN", "ERROR"] {
        let lines: Vec<_> = said.lines().filter(|line| line.contains(word)).collect();
        let expected = |line: &&str| line.contains("did you mean");
        ensure!(lines.iter().all(expected), "{lines:#?}");
    }
    Ok(())
}
