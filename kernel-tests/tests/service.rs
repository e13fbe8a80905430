//! The daemon as a service manager has it: what it says, and what it may do.

use std::{
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, cgroup,
    flow::judged,
    home::{Home, rule_for},
    kernel_test,
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, is_slow, kept, patience, skipped},
    peer::{Job, Peer},
    process::{Place, run},
    product,
    queue::has_fq,
};
use rustix::process::Signal;
use serde_json::Value;

/// The unit for systemd.
fn unit() -> Result<String> {
    std::fs::read_to_string(product::UNIT).context(product::UNIT)
}

#[test]
fn the_service_manager_hears_how_it_is() -> TestResult {
    kernel_test!();
    let home = Home::new("")?;
    let path: PathBuf = home.path().join("notify");
    hears(&home, &UnixDatagram::bind(&path)?, path.as_os_str())?;
    // systemd's own is a path, containers' managers often have a name without a file.
    let home = Home::new("")?;
    let name = format!("chadthrottle-test-{}", process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    hears(&home, &socket, OsStr::new(&format!("@{name}")))
}

fn hears(home: &Home, socket: &UnixDatagram, name: &OsStr) -> Result<()> {
    socket.set_read_timeout(Some(patience()))?;
    let hear = |word: &str| -> Result<String> {
        loop {
            let mut said = [0; 4096];
            let length = socket
                .recv(&mut said)
                .with_context(|| format!("no {word}"))?;
            let said = String::from_utf8_lossy(&said[..length]).into_owned();
            if said.lines().any(|line| line == word) {
                return Ok(said);
            }
        }
    };
    let reloaded = |daemon: &kernel_tests::process::Process, status: &str| -> Result<()> {
        daemon.signal(Signal::HUP)?;
        let began = hear("RELOADING=1")?;
        ensure!(began.contains("MONOTONIC_USEC="), "{began}");
        let ready = hear("READY=1")?;
        ensure!(
            ready.contains("STATUS=") && ready.contains(status),
            "{ready}"
        );
        Ok(())
    };
    let mut command = home.command(&["daemon"])?;
    command.env("NOTIFY_SOCKET", name);
    let mut daemon = home.daemon_by(command)?;
    let ready = hear("READY=1")?;
    ensure!(ready.contains("STATUS=0 of 0 rules"), "{ready}");
    hear("WATCHDOG=1")?;
    home.write("[[rule]]\nname = \"a\"\nprogram = \"no-such-program\"\nupload = \"1M\"\n")?;
    reloaded(&daemon, "1 of 1 rule in force")?;
    home.write("[[rule]]\nnmae = \"a\"\n[[rule]]\n")?;
    reloaded(&daemon, "did you mean 'name'?")?;
    daemon.signal(Signal::TERM)?;
    hear("STOPPING=1")?;
    ensure!(daemon.wait(patience())?.success(), "{}", daemon.errors());
    Ok(())
}

#[test]
fn a_service_without_its_rules_fails_and_says_so() -> TestResult {
    kernel_test!();
    let unit = unit()?;
    // systemd looks at conditions again when it restarts, and what they prevent is no failure.
    ensure!(!unit.contains("\nCondition"), "{unit}");
    let home = Home::new("")?;
    std::fs::remove_file(home.path().join("rules.toml"))?;
    let mut command = home.command(&["daemon"])?;
    let mut settings = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="));
    let (name, value) = settings
        .find_map(|setting| setting.split_once('='))
        .context("the unit names no rules")?;
    ensure!(value == "/etc/chadthrottle/rules.toml", "{value}");
    command.env(name, home.path().join("rules.toml"));
    let (status, errors) = product::refusal(command)?;
    ensure!(
        !status.success() && errors.contains("there is no "),
        "{errors}"
    );
    Ok(())
}

/// The capabilities that the unit leaves, as `setpriv` names them: `bpf`.
fn capabilities() -> Result<Vec<String>> {
    let unit = unit()?;
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.context("no bounding set in the unit")?;
    let name = |name: &str| Some(name.strip_prefix("CAP_")?.to_lowercase());
    Ok(names.split(' ').filter_map(name).collect())
}

/// A command with these capabilities at most, and no way to more; cgroups and settings of the kernel
/// can only be read.
fn confined(command: &Command, capabilities: &[String]) -> Result<Command> {
    let script = "mount -o remount,bind,ro \"$1\" && mount -o bind,ro /proc/sys /proc/sys && \
                  mount -o remount,bind,ro /proc/sys && shift && exec \"$@\"";
    let set: String = capabilities
        .iter()
        .map(|name| format!(",+{name}"))
        .collect();
    let mut confined = Command::new("unshare");
    confined
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(cgroup::root()?)
        .args(["setpriv", "--no-new-privs", "--inh-caps=-all"])
        .arg(format!("--bounding-set=-all{set}"))
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => confined.env(name, value),
            None => confined.env_remove(name),
        };
    }
    Ok(confined)
}

/// Makes `setpriv` start another user's process, which may choose its congestion control.
const AS_NOBODY: &[&str] = &[
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+net_admin",
    "--ambient-caps=+net_admin",
];

/// A sender at the near end of a lab, started by a program that becomes it, and the receiver.
fn upload(lab: &Lab, by: &str, arguments: &[&str]) -> Result<(Peer, Peer)> {
    let listen = Job::busy().listen(lab.far().any_port(Family::V4));
    let sink = lab.far().traffic(listen)?;
    let job = Job::busy().connect(sink.address()?).send().command()?;
    let mut command = Command::new(by);
    command
        .args(arguments)
        .arg(job.get_program())
        .args(job.get_args());
    Ok((Peer::from_command(command, lab.near().place())?, sink))
}

#[test]
fn the_units_capabilities_are_enough() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    // Another user's socket, in another network namespace, from before the daemon.
    let (sender, sink) = upload(&lab, "setpriv", AS_NOBODY)?;
    let home = Home::new(&rule_for(lab.near(), "upload = \"1M\"")?)?;
    let command = confined(&home.command(&["daemon"])?, &capabilities()?)?;
    let daemon = home.daemon_by(command)?;
    let has = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    ensure!(
        !has.contains("CapEff:\t000001ffffffffff"),
        "it is not confined: {has}"
    );
    expect_ratio("upload", judged(&sink, Moment::now())?, 1e6, kept())?;
    let status = home.status()?;
    let limit = &status["limits"][0];
    ensure!(limit["members"] == 1, "{status}");
    let mechanism = if has_fq(&lab)? { "pacing" } else { "policing" };
    ensure!(limit["effect"]["mechanism"] == mechanism, "{status}");
    ensure!(limit["effect"]["not_enforced"].is_null(), "{status}");
    drop(sender);
    ensure!(!daemon.errors().contains("WARN"), "{}", daemon.errors());
    Ok(())
}

/// Sets the machine's clock, in UTC.
fn set_clock(time: &str) -> Result<()> {
    let mut date = Command::new("date");
    date.args(["-u", "-s", time]);
    run(date, "", Place::default()).map(drop)
}

#[test]
fn a_clock_that_jumps_changes_what_is_due_at_once() -> TestResult {
    kernel_test!(alone);
    if !is_slow() {
        skipped("sets the clock: in a virtual machine only");
        return Ok(());
    }
    let lab = Lab::new()?;
    let day = rule_for(
        lab.near(),
        "upload = \"1M\"\nfrom = \"08:00\"\nuntil = \"20:00\"",
    )?;
    let night = "upload = \"4M\"\nfrom = \"20:00\"\nuntil = \"08:00\"";
    let night = rule_for(lab.near(), night)?.replace("near", "night");
    let home = Home::new(&(day + &night))?;
    set_clock("2031-05-05 12:00:00")?;
    let mut command = home.command(&["daemon"])?;
    command.env("TZ", "UTC");
    let _daemon = home.daemon_by(command)?;
    let (_sender, sink) = upload(&lab, "env", &[])?;
    for (time, rule, rate) in [
        ("2031-05-05 23:00:00", "night", 4e6),
        ("2031-05-05 12:00:00", "near", 1e6),
        ("2001-01-01 00:00:00", "night", 4e6),
    ] {
        set_clock(time)?;
        until("the other rule is in force", patience(), || {
            Ok(home.status()?["limits"][0]["rule"]["origin"]["file"] == rule)
        })?;
        expect_ratio(rule, judged(&sink, Moment::now())?, rate, kept())?;
    }
    Ok(())
}

/// Reads OpenMetrics with the parser of Prometheus' Python client, the strictest there is, and
/// prints the samples.
const PARSER: &str = "\
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
print(json.dumps([[sample.name, sample.labels, sample.value]
                  for family in families for sample in family.samples]))";

#[test]
fn a_strict_parser_reads_the_metrics() -> TestResult {
    kernel_test!();
    // Not the first python3 on PATH: Debian's packages are for the system's.
    let python = || {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", PARSER]);
        python
    };
    if run(python(), "# EOF\n", Place::default()).is_err() {
        skipped("needs python3-prometheus-client");
        return Ok(());
    }
    let refused = run(
        python(),
        "a_total 1\n# TYPE a counter\n# EOF\n",
        Place::default(),
    );
    ensure!(refused.is_err(), "the parser takes anything");
    let lab = Lab::new()?;
    let rule = rule_for(
        lab.near(),
        "upload = \"1M\"\nquota = \"5GB/day\"\nthen = \"notify\"",
    )?;
    // A name with all that has to be escaped in a label.
    let odd = "[[rule]]\nname = 'a\\ \"b\"'\nuser = \"nobody\"\nupload = \"1M\"\n";
    let home = Home::new(&(rule + odd))?;
    let _daemon = home.daemon_by(home.command(&["daemon", "--metrics", "127.0.0.1:0"])?)?;
    let (_sender, sink) = upload(&lab, "env", &[])?;
    sink.received_until(Moment::now() + Duration::from_secs(3))?;
    let address = home.status()?["metrics"].as_str().map(str::to_owned);
    let page = page(&address.context("no metrics are served")?)?;
    let samples: Value = serde_json::from_str(&run(python(), &page, Place::default())?)?;
    let value = |name: &str, label: &str, is: &str| {
        let mut samples = samples.as_array()?.iter();
        let found = samples.find(|sample| sample[0] == name && sample[1][label] == is);
        found?[2].as_f64()
    };
    let limit = value("chadthrottle_limit_rate_bytes_per_second", "rule", "near");
    ensure!(limit == Some(1e6), "{limit:?} in {page}");
    let odd = value(
        "chadthrottle_limit_rate_bytes_per_second",
        "rule",
        "a\\ \"b\"",
    );
    ensure!(odd == Some(1e6), "{odd:?} in {page}");
    let moved = value("chadthrottle_quota_used_bytes", "rule", "near");
    ensure!(moved > Some(1e6), "{moved:?} in {page}");
    let program = value(
        "chadthrottle_program_payload_bytes_total",
        "program",
        "traffic",
    );
    ensure!(program > Some(1e6), "{program:?} in {page}");
    Ok(())
}

/// The metrics as they are served.
fn page(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience()))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 OK"), "{head}");
    Ok(page.to_owned())
}
