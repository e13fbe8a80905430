//! The daemon: rules without a screen, from a file, on a real kernel.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::{Direction, Flow, goodput_between, judged},
    home::{Home, rule_for},
    kernel_test,
    kernel_view::{can_list_programs, programs_of, until_gone},
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, figure, is_slow, kept, patience},
    peer::{Job, Peer},
};
use rustix::process::Signal;

fn shared(program: &str, limits: &str) -> String {
    format!("[[rule]]\nname = \"all\"\nprogram = \"{program}\"\nshared = true\n{limits}\n")
}

/// Where datagrams go at the far end.
fn sink(lab: &Lab) -> Result<Peer> {
    let listen = Job::udp().listen(lab.far().any_port(Family::V4));
    lab.far().traffic(listen)
}

/// A sender of the near end, faster than the limits of the tests.
fn sender_to(sink: &Peer, lab: &Lab) -> Result<Peer> {
    let job = Job::udp().connect(sink.address()?).send().rate(2_000_000);
    lab.near().traffic(job)
}

/// A server of the far end for downloads by HTTP.
fn server(lab: &Lab) -> Result<Peer> {
    let listen = Job::http().listen(lab.far().any_port(Family::V4));
    lab.far().traffic(listen)
}

#[test]
fn fifty_curls_at_a_time_share_a_limit_by_name() -> TestResult {
    kernel_test!(alone);
    // Emulated processors don't start more than five curls a second, and do other things.
    let rate = if is_slow() { 1_000_000 } else { 20_000_000 };
    fifty_curls(rate, rate / if is_slow() { 3 } else { 10 })
}

#[test]
fn fifty_short_curls_at_a_time_share_a_low_limit_by_name() -> TestResult {
    kernel_test!(alone);
    let rate = if is_slow() { 500_000 } else { 5_000_000 };
    fifty_curls(rate, rate / if is_slow() { 3 } else { 25 })
}

/// Fifty at any time, each of which gets that many bytes and is followed by the next; all together
/// limited to that many bytes a second.
fn fifty_curls(rate: u32, each: u32) -> TestResult {
    if clients::is_missing("curl") {
        return Ok(());
    }
    let lab = Lab::new()?;
    // What waits to be sent counts as sent.
    lab.far().set("ipv4/tcp_wmem", "4096 32768 32768")?;
    let server = server(&lab)?;
    let home = Home::new(&shared("curl", &format!("download = \"{rate}\"")))?;
    let _daemon = home.daemon()?;
    let url = format!("http://{}/{each}", server.address()?);
    let (begun, judged) = if is_slow() { (8, 15) } else { (3, 10) };
    let longest = begun + judged + 2;
    let script = format!(
        "for n in $(seq 50); do timeout {longest} sh -c 'while curl -sS --noproxy \"*\" -o /dev/null {url}; \
         do :; done' & done; wait"
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script);
    let _curls = lab.near().start(shell)?;
    let from = Moment::now() + Duration::from_secs(begun);
    from.wait();
    let before = curls_moved(&home)?;
    let to = from + Duration::from_secs(judged);
    to.wait();
    let moved = curls_moved(&home)? - before;
    let took = Moment::now().seconds_since(from);
    let rate = f64::from(rate);
    figure(&format!("counted: {:.3} of the limit", moved / took / rate));
    // What the server sent, as what passed before a limit was in force is not in the daemon's
    // count.
    server.received_until(to)?;
    let sent = server.sent()?.rate(from, to)?;
    expect_ratio("all together", sent, rate, 0.85..=1.05)
}

/// What the rule's processes have received, as the daemon counts it.
fn curls_moved(home: &Home) -> Result<f64> {
    let status = home.status()?;
    let moved = status["limits"][0]["bytes"]["download"].as_f64();
    moved.with_context(|| format!("no limit in {status}"))
}

#[test]
fn a_quota_trips_and_survives_a_restart() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let rule = "quota = \"5MB/day\"\nthen = \"block\"";
    let home = Home::new(&rule_for(lab.near(), rule)?)?;
    let mut daemon = home.daemon()?;
    let sink = sink(&lab)?;
    let first = sender_to(&sink, &lab)?;
    until("the quota is used up", patience(), || {
        Ok(daemon
            .errors()
            .contains("has used up its 5.00 MB this day; it is blocked"))
    })?;
    let blocked_at = Moment::now() + Duration::from_millis(500);
    let passed = sink.received_until(blocked_at)?.total();
    figure(&format!("{:.2} MB of 5 passed", passed as f64 / 1e6));
    // It is counted once a second.
    ensure!((5_000_000..9_000_000).contains(&passed), "{passed} passed");
    let later = blocked_at + Duration::from_secs(2);
    ensure!(sink.received_until(later)?.total() == passed, "not blocked");

    daemon.signal(Signal::TERM)?;
    ensure!(daemon.wait(patience())?.success());
    drop(first);
    let between = sink.received_until(Moment::now())?.total();
    let _daemon = home.daemon()?;
    let status = home.status()?;
    let used = status["rules"][0]["quota"]["used"].as_u64();
    ensure!(used >= Some(5_000_000), "{status}");
    let _second = sender_to(&sink, &lab)?;
    let now = Moment::now() + Duration::from_secs(2);
    let after = sink.received_until(now)?.total() - between;
    figure(&format!("{after} B passed after the restart"));
    ensure!(after < 200_000, "{after} passed after the restart");
    Ok(())
}

#[test]
fn a_used_up_quota_limits_also_after_a_restart() -> TestResult {
    kernel_test!();
    const RATE: f64 = 500e3;
    let lab = Lab::new()?;
    let home = Home::new(&rule_for(
        lab.near(),
        "quota = \"5MB/day\"\nupload = \"500K\"",
    )?)?;
    let mut daemon = home.daemon()?;
    let sink = sink(&lab)?;
    let first = sender_to(&sink, &lab)?;
    until("the quota is used up", patience(), || {
        Ok(daemon.errors().contains("has used up its 5.00 MB this day"))
    })
    .with_context(|| daemon.errors())?;
    let passed = sink.received_until(Moment::now())?.total();
    // It is counted once a second.
    ensure!((5_000_000..9_000_000).contains(&passed), "{passed} passed");
    expect_ratio("used up", judged(&sink, Moment::now())?, RATE, kept())?;
    daemon.signal(Signal::TERM)?;
    ensure!(daemon.wait(patience())?.success());
    drop(first);
    let _daemon = home.daemon()?;
    let _second = sender_to(&sink, &lab)?;
    expect_ratio(
        "after a restart",
        judged(&sink, Moment::now())?,
        RATE,
        kept(),
    )
}

#[test]
fn a_killed_daemon_leaves_nothing_and_the_next_takes_its_place() -> TestResult {
    kernel_test!();
    let home = Home::new(&shared("no-such-program", "upload = \"1M\""))?;
    let mut daemon = home.daemon()?;
    let (status, second) = home.refusal(&["daemon"])?;
    ensure!(
        !status.success() && second.contains(&format!("(process {})", daemon.pid())),
        "{second}"
    );
    let programs = can_list_programs().then(|| programs_of(daemon.pid()));
    daemon.signal(Signal::KILL)?;
    daemon.wait(patience())?;
    if let Some(programs) = programs {
        until_gone(&programs?)?;
    }
    let (status, errors) = home.refusal(&["status"])?;
    ensure!(
        !status.success() && errors.contains("no daemon is running"),
        "{errors}"
    );
    ensure!(
        home.path().join("run/control.sock").exists(),
        "no stale socket"
    );
    let mut next = home.daemon()?;
    ensure!(home.status()?["pid"] == next.pid());
    next.signal(Signal::TERM)?;
    ensure!(next.wait(patience())?.success(), "{}", next.errors());
    ensure!(
        !home.path().join("run/control.sock").exists(),
        "a socket is left"
    );
    Ok(())
}

#[test]
fn broken_and_missing_rules_keep_the_old_ones_in_force() -> TestResult {
    kernel_test!();
    let home = Home::new(&shared("no-such-program", "upload = \"1M\""))?;
    let daemon = home.daemon()?;
    let in_force = |home: &Home| -> Result<usize> {
        Ok(home.status()?["limits"].as_array().map_or(0, Vec::len))
    };
    home.write("[[rule]]\nname = \"x\"\nupload = \"fast\"\n")?;
    let (status, errors) = home.refusal(&["rules", "apply"])?;
    ensure!(
        !status.success() && errors.contains("rules.toml:3:10:"),
        "{errors}"
    );
    fs::remove_file(home.path().join("rules.toml"))?;
    daemon.signal(Signal::HUP)?;
    until("it says so", patience(), || {
        Ok(daemon.errors().contains("stay as they were: there is no "))
    })?;
    ensure!(in_force(&home)? == 1);
    // Rules that others may write are not trusted.
    home.write(&shared("curl", "upload = \"2M\""))?;
    let path = home.path().join("rules.toml");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let (_, errors) = home.refusal(&["rules", "apply"])?;
    ensure!(errors.contains("may be written by everybody"), "{errors}");
    ensure!(in_force(&home)? == 1);
    home.write("")?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    home.say(&["rules", "apply"])?;
    ensure!(in_force(&home)? == 0);
    Ok(())
}

#[test]
fn a_shared_limit_that_is_changed_to_one_each_is_one_each_from_then_on() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let upload = || Flow::start(&lab, Job::busy(), Direction::Upload, Family::V4);
    let flows = [upload()?, upload()?];
    let together = || -> Result<f64> {
        let from = Moment::now() + Duration::from_secs(1);
        let to = from + Duration::from_secs(5);
        let goodput = |flow: &Flow| goodput_between(flow.receiver(), from, to);
        flows.iter().map(goodput).sum()
    };
    let home = Home::new(&rule_for(lab.near(), "upload = \"1M\"\nshared = true")?)?;
    let _daemon = home.daemon()?;
    for (shared, sum) in [(true, 1e6), (false, 2e6), (true, 1e6)] {
        let rule = format!("upload = \"1M\"\nshared = {shared}");
        home.write(&rule_for(lab.near(), &rule)?)?;
        home.say(&["rules", "apply"])?;
        expect_ratio(&rule, together()?, sum, kept())?;
    }
    Ok(())
}
