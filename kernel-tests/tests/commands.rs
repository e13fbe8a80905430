//! Limiting twice, again, in vain, and a PID that gets another owner.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::{Direction, Flow, goodput_between},
    kernel_test,
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, figure, kept, patience},
    peer::{Job, Peer, busy_rate},
    process::{Place, Process, run},
    product::{self, Limiter, Top, process, refusal},
};
use rustix::process::Signal;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

fn busy() -> Job {
    Job::busy()
}

/// Goodput between one and six seconds from now.
fn soon(flow: &Flow) -> Result<f64> {
    let from = Moment::now() + SECOND;
    goodput_between(flow.receiver(), from, from + 5 * SECOND)
}

#[test]
fn of_two_limits_the_lower_one_wins_and_the_other_outlives_it() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let pid = flow.near().pid();
    let _higher = Limiter::start(&[pid], &["--download", "4M"])?;
    let lower = Limiter::start(&[pid], &["--download", "1M"])?;
    expect_ratio("both", soon(&flow)?, 1e6, 0.7..=1.1)?;
    lower.end(Signal::TERM)?;
    expect_ratio("the higher one alone", soon(&flow)?, 4e6, kept())
}

#[test]
fn a_process_can_be_limited_again() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Upload, Family::V6)?;
    let pid = flow.near().pid();
    for (rate, typed) in [(1e6, "1M"), (3e6, "3M"), (1.5e6, "12mbit")] {
        let limiter = Limiter::start(&[pid], &["--upload", typed])?;
        expect_ratio(typed, soon(&flow)?, rate, kept())?;
        limiter.end(Signal::INT)?;
    }
    Ok(())
}

#[test]
fn a_pid_named_twice_is_limited_once() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let pid = flow.near().pid();
    let _limiter = Limiter::start(&[pid, pid], &["--download", "1M"])?;
    expect_ratio("named twice", soon(&flow)?, 1e6, kept())
}

#[test]
fn a_thread_is_taken_for_its_process() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let pid = flow.near().pid();
    let mut other = None;
    until("another thread", Duration::from_secs(5), || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
        let mut ids = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
        other = ids.find(|thread| *thread != pid);
        Ok(other.is_some())
    })?;
    let limiter = Limiter::start(other.as_slice(), &["--download", "1M"])?;
    expect_ratio("its process", soon(&flow)?, 1e6, kept())?;
    let sample = limiter.next_event()?.context("it ended")?;
    ensure!(process(&sample, pid).is_some(), "not in {sample}");
    Ok(())
}

#[test]
fn the_samples_of_a_limiter_say_what_the_receiver_sees() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--download", "1M"])?;
    let mut sum = 0.0;
    for second in 0..8 {
        let sample = limiter.next_event()?.context("it ended")?;
        ensure!(sample["event"] == "sample", "{sample}");
        let row = process(&sample, flow.near().pid()).context("not in its sample")?;
        let rate = row["download_rate"].as_f64().context("no download_rate")?;
        if second >= 2 {
            sum += rate / 6.0;
        }
    }
    expect_ratio("reported", sum, 1e6, kept())
}

#[test]
fn top_shows_a_download_under_a_limit_as_what_arrives() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let _limiter = Limiter::start(&[flow.near().pid()], &["--upload", "0", "--download", "1M"])?;
    // Another chadthrottle, which knows nothing of what the first one drops.
    let mut top = Top::start("1s")?;
    top.fresh()?;
    let from = Moment::now();
    let mut sum = 0.0;
    for _ in 0..5 {
        let row = process(top.next_sample()?, flow.near().pid()).context("not shown")?;
        sum += row["download_rate"].as_f64().context("no rate")? / 5.0;
    }
    let arrived = goodput_between(flow.receiver(), from, Moment::now())?;
    figure(&format!("shown {sum:.0} B/s, arrived {arrived:.0} B/s"));
    ensure!(
        sum < 4.0 * arrived,
        "shown {sum:.0} B/s, arrived {arrived:.0} B/s"
    );
    Ok(())
}

/// The refusal is one clear line with these words, and a failure.
fn expect_refusal(command: Command, words: &[&str]) -> TestResult {
    let (status, errors) = refusal(command)?;
    figure(&format!("{status}: {}", errors.trim_end()));
    ensure!(!status.success(), "it succeeded");
    ensure!(
        status.code().is_some_and(|code| code != 101),
        "{status}: {errors}"
    );
    ensure!(
        errors.trim_end().lines().count() == 1,
        "not one line: {errors}"
    );
    for word in words {
        let found = errors.to_lowercase().contains(&word.to_lowercase());
        ensure!(found, "no '{word}' in: {errors}");
    }
    Ok(())
}

#[test]
fn a_pid_that_is_gone_is_refused() -> TestResult {
    kernel_test!();
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    let pid = gone.id();
    let command = product::limit_command(&[pid], &["--download", "1M"])?;
    expect_refusal(command, &[&pid.to_string()])
}

#[test]
fn a_zombie_is_refused() -> TestResult {
    kernel_test!();
    let mut ended = Command::new("true").spawn()?;
    let pid = ended.id();
    let is_zombie = || -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.contains(") Z "))
    };
    while !is_zombie()? {
        thread::sleep(Duration::from_millis(5));
    }
    let command = product::limit_command(&[pid], &["--download", "1M"])?;
    expect_refusal(command, &[&pid.to_string(), "zombie"])?;
    ended.wait()?;
    Ok(())
}

#[test]
fn one_pid_that_is_gone_among_others_is_named() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    let pids = [flow.near().pid(), gone.id()];
    let command = product::limit_command(&pids, &["--download", "1M"])?;
    expect_refusal(command, &[&gone.id().to_string()])
}

#[test]
fn a_kernel_thread_is_refused() -> TestResult {
    kernel_test!();
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        let command = product::limit_command(&[2], &["--download", "1M"])?;
        return expect_refusal(command, &["2", "kernel"]);
    }
    kernel_tests::outcome::skipped("no kernel threads in this PID namespace");
    Ok(())
}

#[test]
fn a_limit_without_a_rate_is_refused() -> TestResult {
    kernel_test!();
    let command = product::limit_command(&[std::process::id()], &[])?;
    let (status, errors) = refusal(command)?;
    ensure!(!status.success(), "it succeeded");
    ensure!(errors.contains("--download"), "{errors}");
    Ok(())
}

#[test]
fn without_root_it_says_what_is_missing() -> TestResult {
    kernel_test!();
    // Where everybody can reach it: a home directory may be closed to others.
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let reachable = directory.path().join("chadthrottle");
    fs::copy(product::program()?, &reachable)?;
    for arguments in [
        &["limit", "--pid", "1", "--download", "1M"][..],
        &["top", "--once"],
    ] {
        let mut command = Command::new(&reachable);
        command.args(arguments).env_remove("RUST_LOG");
        // nobody
        command.uid(65_534).gid(65_534);
        expect_refusal(command, &["root"])?;
    }
    Ok(())
}

#[test]
fn a_command_that_moved_nothing_by_itself_is_told_so() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let sink = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V4)))?;
    let job = Job::busy().at_most(Duration::from_secs(3));
    let sender = job.connect(sink.address()?).send().command()?;
    let sender: Vec<_> = [sender.get_program()]
        .into_iter()
        .chain(sender.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let sleeper = |time: &str| vec!["sleep".to_owned(), time.to_owned()];
    for (words, options, told) in [
        (sleeper("2.5"), ["--upload", "1M"], true),
        (sleeper("0.5"), ["--upload", "1M"], false),
        (sleeper("2.5"), ["--upload", "0"], false),
        (sender, ["--upload", "1M"], false),
    ] {
        let mut command = product::command(&["run"])?;
        command.args(options).arg("--").args(&words);
        let mut run = Process::start(command, lab.near().place())?;
        run.wait(patience())?;
        let said = run.errors();
        ensure!(said.contains("moved nothing") == told, "{words:?}: {said}");
    }
    Ok(())
}

/// A program that closes its connection and ends leaves to the kernel what it has not sent.
#[test]
fn what_a_command_leaves_unsent_is_sent_under_its_limit() -> TestResult {
    kernel_test!();
    if clients::is_missing("python3") {
        return Ok(());
    }
    const LEFT: u64 = 300_000;
    let lab = Lab::new()?;
    let sink = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V4)))?;
    let to = sink.address()?;
    let program = "import socket, sys; c = socket.socket(); \
                   c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400000); \
                   c.connect((sys.argv[1], int(sys.argv[2]))); c.sendall(bytes(int(sys.argv[3])))";
    let mut command = product::command(&["run", "--upload", "100K", "--"])?;
    let arguments = [to.ip().to_string(), to.port().to_string(), LEFT.to_string()];
    command.args(["python3", "-c", program]).args(arguments);
    let mut run = Process::start(command, lab.near().place())?;
    let begun = Moment::now();
    run.wait(patience())?;
    let seconds = Moment::now().seconds_since(begun);
    let arrived = sink.received()?.total();
    let said = run.errors();
    figure(&format!("{arrived} bytes in {seconds:.1} s"));
    ensure!(said.contains("sent under its limit"), "{said}");
    ensure!(arrived * 100 >= LEFT * 95, "{arrived} of {LEFT} bytes");
    ensure!(seconds >= LEFT as f64 / 1e5 * 0.8, "{seconds} s: {said}");
    Ok(())
}

/// A network namespace with a name, until it is dropped.
struct Named(String);

impl Named {
    fn new() -> Result<Self> {
        let name = format!("chadthrottle-test-{}", std::process::id());
        let mut add = Command::new("ip");
        add.args(["netns", "add", &name]);
        run(add, "", Place::default())?;
        Ok(Self(name))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = (Command::new("ip").args(["netns", "delete", &self.0])).status();
    }
}

/// It hides all that is mounted below `/sys`.
#[test]
fn everything_works_under_ip_netns_exec() -> TestResult {
    kernel_test!();
    let named = Named::new()?;
    let inside = |command: Command| {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &named.0]);
        ip.arg(command.get_program()).args(command.get_args());
        ip
    };
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, busy(), Direction::Download, Family::V4)?;
    let limit = product::limit_command(&[flow.near().pid()], &["--download", "1M"])?;
    let limiter = Limiter::from_command(inside(limit))?;
    expect_ratio("limit", flow.judged(limiter.applied())?, 1e6, kept())?;
    drop(limiter);
    let mut command = product::command(&["run", "--download", "1M"])?;
    command.args(["--", "cat", "/sys/class/net/lo/ifindex"]);
    let said = run(inside(command), "", Place::default())?;
    ensure!(said == "1\n", "{said}");
    let top = product::command(&["top", "--once"])?;
    let said = run(inside(top), "", Place::default())?;
    ensure!(said.contains("coverage"), "{said}");
    Ok(())
}

/// As `nice` and `timeout` do: what sudo says of its caller changes nothing.
#[test]
fn a_command_runs_as_whoever_calls_or_as_the_user_that_is_named() -> TestResult {
    kernel_test!();
    let who = |options: &[&str]| -> Result<String> {
        let mut command = product::command(&["run", "--download", "1M"])?;
        command
            .args(options)
            .args(["--", "sh", "-c", "id -u; echo $HOME"]);
        command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        command
            .env("SUDO_USER", "nobody")
            .env("HOME", "/of/the/caller");
        run(command, "", Place::default())
    };
    ensure!(who(&[])? == "0\n/of/the/caller\n", "{}", who(&[])?);
    let mut getent = Command::new("getent");
    getent.args(["passwd", "nobody"]);
    let entry = run(getent, "", Place::default())?;
    let home = entry.split(':').nth(5).context("nobody has no home")?;
    let expected = format!("65534\n{home}\n");
    for user in ["nobody", "65534"] {
        let said = who(&["--user", user])?;
        ensure!(said == expected, "{said}");
    }
    let mut nobody = product::command(&["run", "--download", "1M", "--user", "nobody-has-this"])?;
    nobody.args(["--", "true"]);
    expect_refusal(nobody, &["there is no user 'nobody-has-this'"])?;
    let mut firefox = product::command(&["run", "--download", "1M", "--", "/no/firefox"])?;
    firefox.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let (_, said) = refusal(firefox)?;
    ensure!(said.contains("--user \"$SUDO_USER\""), "{said}");
    Ok(())
}

#[test]
fn doctor_finds_this_machine_fit() -> TestResult {
    kernel_test!();
    let report = run(
        product::command(&["doctor", "--json"])?,
        "",
        Place::default(),
    )?;
    let report: Value = serde_json::from_str(&report)?;
    let checks = report.as_array().context("no list of checks")?;
    ensure!(checks.len() > 5, "{report}");
    for check in checks {
        let standing = check["standing"].as_str().unwrap_or_default();
        ensure!(["ok", "degraded"].contains(&standing), "{check}");
    }
    Ok(())
}

/// A process with a PID of choice. Other processes are started meanwhile, so it takes some tries.
fn with_pid(wanted: u32, lab: &Lab, job: &Job) -> Result<Peer> {
    for _ in 0..100 {
        fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string())
            .context("can't choose a PID")?;
        let peer = lab.near().traffic(job.clone())?;
        if peer.pid() == wanted {
            return Ok(peer);
        }
    }
    bail!("PID {wanted} was never free")
}

#[test]
fn the_next_owner_of_a_limited_pid_is_not_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let source = lab
        .far()
        .traffic(busy().listen(lab.far().any_port(Family::V4)).send())?;
    let job = Job::tcp().connect(source.address()?);
    let first = lab.near().traffic(job.clone())?;
    let pid = first.pid();
    let mut limiter = Limiter::start(&[pid], &["--download", "500K"])?;
    let from = limiter.applied() + SECOND;
    let limited = goodput_between(&first, from, from + 3 * SECOND)?;
    expect_ratio("first owner", limited, 5e5, 0.5..=1.3)?;
    drop(first);
    // At once, before anybody could look at /proc.
    let second = with_pid(pid, &lab, &job)?;
    let start = Moment::now();
    let at_once = goodput_between(&second, start, start + SECOND / 4)?;
    figure(&format!(
        "second owner, first 250 ms: {:.0} kB/s",
        at_once / 1e3
    ));
    let from = start + SECOND;
    let later = goodput_between(&second, from, from + 3 * SECOND)?;
    expect_ratio("second owner", later, busy_rate() as f64, 0.9..=1.1)?;
    // The limiter has nothing left to limit.
    let status = limiter.wait(Duration::from_secs(5))?;
    figure(&format!(
        "the limiter ended: {status}: {}",
        limiter.errors().trim_end()
    ));
    Ok(())
}
