//! Whose a connection is that another process listened for, or that the kernel made of parts, and whose a datagram: by Python's
//! socket module, as any program uses it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use chadthrottle::kernel::features::{self, KernelVersion};
use kernel_tests::{
    TestResult, clients, kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    outcome::{self, expect_ratio, patience},
    peer::Job,
    process::{self, Place, Process},
    product::{Limiter, command},
};
use rustix::process::Signal;

const TCP: &str = "0";
const MPTCP: &str = "262";

/// How long a client is measured, in seconds.
const MEASURED: &str = "4";
/// A connection that lives longer than it is measured.
const LONG: &str = "100";
/// One that is over before anybody can have looked for it.
const SHORT: &str = "0.2";

/// By then it was found who sends on a connection that was passed on.
const PASSED_ON_FOUND_AFTER: Duration = Duration::from_secs(4);

/// A server, and which processes serve.
struct Server {
    process: Process,
    port: String,
    workers: Vec<u32>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended already, so have its workers.
        let _ = self.process.signal(Signal::TERM);
        let _ = self.process.wait(Duration::from_secs(5));
    }
}

/// A server at the near end, or at the far one.
fn server(lab: &Lab, near: bool, protocol: &str, workers: &str) -> Result<Server> {
    let end = if near { lab.near() } else { lab.far() };
    let address = end.any_port(Family::V4).ip().to_string();
    let process = end.start(clients::python("server.py", &[&address, protocol, workers]))?;
    let line = process.line(Duration::from_secs(10))?.context("no port")?;
    let mut words = line.text.split_whitespace();
    Ok(Server {
        port: words.next().context("no port")?.to_owned(),
        workers: words.map(str::parse).collect::<Result<_, _>>()?,
        process,
    })
}

/// A client at the other end of a server.
fn client(lab: &Lab, near: bool, server: &Server, protocol: &str, lives: &str) -> Result<Process> {
    let (end, other) = if near {
        (lab.near(), lab.far())
    } else {
        (lab.far(), lab.near())
    };
    let address = other.any_port(Family::V4).ip().to_string();
    let arguments = [&*address, &server.port, protocol, lives, MEASURED];
    let process = end.start(clients::python("client.py", &arguments))?;
    process
        .line(Duration::from_secs(10))?
        .context("no client")?;
    Ok(process)
}

/// What a client receives a second.
fn received(client: &mut Process) -> Result<f64> {
    client.tell("go")?;
    let line = client.line(patience())?.context("no rate")?;
    Ok(line.text.parse()?)
}

fn is_at_least(major: u32, minor: u32) -> bool {
    let here = KernelVersion::parse(&features::kernel_release());
    here.is_some_and(|here| here >= KernelVersion { major, minor })
}

/// Whether the test can't be run here, and says so.
fn is_skipped(mptcp: bool) -> bool {
    let enabled = || fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    if clients::is_missing("python3") {
        return true;
    }
    let why = if mptcp && enabled().trim() != "1" {
        "needs MPTCP"
    } else if mptcp && !is_at_least(5, 19) {
        "needs Linux 5.19"
    } else if !is_at_least(5, 11) {
        "needs Linux 5.11"
    } else {
        return false;
    };
    outcome::skipped(why);
    true
}

/// Whether this machine forbids programs that see who accepts, whatever they are.
fn is_forbidden() -> Result<bool> {
    let said = process::run(command(&["doctor"])?, "", Place::default())?;
    let refused = |line: &str| {
        line.contains("who accepts a connection") && line.contains("Operation not permitted")
    };
    let forbidden = said.lines().any(refused);
    if forbidden {
        outcome::skipped("this machine forbids tracing programs");
    }
    Ok(forbidden)
}

#[test]
fn connections_shorter_than_a_look_are_those_of_the_worker_that_accepted_them() -> TestResult {
    kernel_test!();
    if is_skipped(false) || is_forbidden()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let server = server(&lab, true, TCP, "1")?;
    let limiter = Limiter::start(&server.workers, &["--upload", "1M"])?;
    let mut client = client(&lab, false, &server, TCP, SHORT)?;
    expect_ratio("short connections", received(&mut client)?, 1e6, 0.3..=1.2)?;
    limiter.end(Signal::TERM)?;
    Ok(())
}

#[test]
fn an_mptcp_client_is_limited() -> TestResult {
    kernel_test!();
    if is_skipped(true) {
        return Ok(());
    }
    for (what, protocol) in [("plain server", TCP), ("MPTCP server", MPTCP)] {
        let lab = Lab::new()?;
        let server = server(&lab, false, protocol, "0")?;
        let mut client = client(&lab, true, &server, MPTCP, LONG)?;
        let limiter = Limiter::start(&[client.pid()], &["--download", "1M"])?;
        expect_ratio(what, received(&mut client)?, 1e6, 0.8..=1.2)?;
        limiter.end(Signal::TERM)?;
    }
    Ok(())
}

/// As of service managers, inetd and QUIC servers: who made the socket holds it still.
#[test]
fn datagrams_on_a_socket_that_was_handed_over_are_those_of_who_sends_them() -> TestResult {
    kernel_test!();
    if clients::is_missing("python3") {
        return Ok(());
    }
    for family in Family::ALL {
        let lab = Lab::new()?;
        let sink = lab
            .far()
            .traffic(Job::udp().listen(lab.far().any_port(family)))?;
        let to = sink.address()?;
        let arguments = [&*to.ip().to_string(), &to.port().to_string()];
        let mut parent = lab.near().start(clients::python("handed.py", &arguments))?;
        let child = parent.line(Duration::from_secs(10))?.context("no child")?;
        let limiter = Limiter::start(&[child.text.parse()?], &["--upload", "50K"])?;
        parent.tell("go")?;
        let from = Moment::now() + Duration::from_secs(2);
        let until = from + Duration::from_secs(4);
        let arrived = sink.received_until(until)?.rate(from, until)?;
        expect_ratio(&format!("{family:?}"), arrived, 5e4, 0.3..=1.15)?;
        limiter.end(Signal::TERM)?;
    }
    Ok(())
}

/// Neither is the other's child; the one that opened the connection stays, or ends.
#[test]
fn a_connection_that_was_passed_on_is_limited() -> TestResult {
    kernel_test!();
    if clients::is_missing("python3") {
        return Ok(());
    }
    for stays in [true, false] {
        let lab = Lab::new()?;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("socket");
        let path = path.to_str().context("a path that is no text")?;
        let sink = lab
            .far()
            .traffic(Job::tcp().listen(lab.far().any_port(Family::V4)))?;
        let to = sink.address()?;
        let taker = (lab.near()).start(clients::python("passed.py", &["take", path]))?;
        taker.line(patience())?.context("it does not wait")?;
        // It has no slot: it never made a socket of the kinds that are counted.
        let which = format!("*passed.py take {path}");
        let limiter = Limiter::start(&[], &["--command", &which, "--upload", "100K"])?;
        let arguments = ["give", path, &to.ip().to_string(), &to.port().to_string()];
        let mut giver = (lab.near()).start(clients::python("passed.py", &arguments))?;
        giver.line(patience())?.context("it was not passed on")?;
        if !stays {
            giver.signal(Signal::TERM)?;
            giver.wait(patience())?;
        }
        let from = Moment::now() + PASSED_ON_FOUND_AFTER;
        let until = from + Duration::from_secs(4);
        let arrived = sink.received_until(until)?.rate(from, until)?;
        expect_ratio(&format!("giver stays: {stays}"), arrived, 1e5, 0.9..=1.1)?;
        limiter.end(Signal::TERM)?;
    }
    Ok(())
}

/// Go's `net.Listen` makes such listeners since 1.24. Of connections that live for 0.8 s, a part of the time goes
/// into their beginning; without a limit they move hundreds of times as much. MPTCP repeats at times what it only
/// believes to be lost, and when that is refused the kernel waits for half a second (`TCP_RESOURCE_PROBE_INTERVAL`).
#[test]
fn clients_of_an_mptcp_listener_are_limited() -> TestResult {
    kernel_test!();
    if is_skipped(true) {
        return Ok(());
    }
    for (what, protocol) in [("plain clients", TCP), ("MPTCP clients", MPTCP)] {
        let lab = Lab::new()?;
        let server = server(&lab, true, MPTCP, "0")?;
        let limiter = Limiter::start(&[server.process.pid()], &["--upload", "1M"])?;
        let mut client = client(&lab, false, &server, protocol, "0.8")?;
        expect_ratio(what, received(&mut client)?, 1e6, 0.1..=1.2)?;
        limiter.end(Signal::TERM)?;
    }
    Ok(())
}
