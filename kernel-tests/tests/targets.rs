//! What a limit can be for: programs, trees of processes, cgroups, users; each or shared; all
//! traffic or a part.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use kernel_tests::{
    TestResult,
    cgroup::Cgroup,
    flow::{Direction, Flow, judged},
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    named_program::NamedProgram,
    outcome::{expect_ratio, kept, patience},
    peer::{Job, Peer, busy_rate},
    process::{Place, Process},
    product::{Limiter, command, limit_command},
};
use rustix::process::Signal;

/// A limit for other targets than processes.
fn limit(options: &[&str]) -> Result<Limiter> {
    Limiter::from_command(limit_command(&[], options)?)
}

fn sink(lab: &Lab) -> Result<Peer> {
    lab.far()
        .traffic(Job::busy().listen(lab.far().any_port(Family::V4)))
}

/// A sender to a sink, as a shell has it.
fn shell_words(sink: &Peer) -> Result<String> {
    let job = Job::busy().at_most(Duration::from_secs(15));
    words(&job.connect(sink.address()?).send())
}

fn words(job: &Job) -> Result<String> {
    let job = job.command()?;
    let words = job.get_args().map(|word| word.to_string_lossy());
    let program = job.get_program().to_string_lossy();
    Ok([program]
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join(" "))
}

/// Begins to send from the near end; the receiver at the far end is returned, too.
fn upload(program: &NamedProgram, lab: &Lab) -> Result<(Peer, Peer)> {
    let sink = sink(lab)?;
    let job = Job::busy().connect(sink.address()?).send();
    let sender = Peer::from_command(program.command(&job)?, lab.near().place())?;
    Ok((sender, sink))
}

#[test]
fn a_program_is_limited_by_name_also_when_it_starts_later() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-by-name")?;
    let (_running, before) = upload(&program, &lab)?;
    let limiter = limit(&["--program", "ct-by-na*", "--upload", "1M"])?;
    let (_later, after) = upload(&program, &lab)?;
    let started = Moment::now();
    let other = Flow::start(&lab, Job::busy(), Direction::Upload, Family::V4)?;
    expect_ratio("running", judged(&before, limiter.applied())?, 1e6, kept())?;
    expect_ratio("later", judged(&after, started)?, 1e6, kept())?;
    let free = other.goodput_for(Duration::from_secs(1))?;
    expect_ratio("another program", free, 20e6, 0.5..=1.1)
}

#[test]
fn a_program_whose_file_is_replaced_stays_limited() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-replaced")?;
    let (_sender, receiver) = upload(&program, &lab)?;
    let path = program.path().to_string_lossy();
    let limiter = limit(&["--path", &path, "--upload", "1M"])?;
    // As an upgrade does it.
    let newer = program.path().with_extension("new");
    fs::copy(program.path(), &newer)?;
    fs::rename(&newer, program.path())?;
    // Who it is was read again by then.
    let goodput = judged(&receiver, Moment::now() + Duration::from_secs(2))?;
    expect_ratio("running", goodput, 1e6, kept())?;
    drop(limiter);
    let limiter = limit(&["--path", &path, "--upload", "1M"])?;
    expect_ratio(
        "limited afterwards",
        judged(&receiver, limiter.applied())?,
        1e6,
        kept(),
    )
}

#[test]
fn a_shared_limit_is_one_for_all_and_each_has_its_own_without() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let program = NamedProgram::new("ct-shared")?;
    let limit = |options: &[&str]| -> Result<f64> {
        let base = ["--program", "ct-shared", "--upload", "1500K"];
        let limiter = Limiter::from_command(limit_command(&[], &[&base, options].concat())?)?;
        let flows = [
            upload(&program, &lab)?,
            upload(&program, &lab)?,
            upload(&program, &lab)?,
        ];
        let started = Moment::now();
        let mut sum = 0.0;
        for (_, sink) in &flows {
            sum += judged(sink, started)?;
        }
        ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
        Ok(sum)
    };
    expect_ratio("three together", limit(&["--shared"])?, 1.5e6, kept())?;
    expect_ratio("each its own", limit(&[])?, 4.5e6, kept())
}

#[test]
fn two_processes_can_share_a_limit() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let start = || Flow::start(&lab, Job::busy(), Direction::Download, Family::V6);
    let flows = [start()?, start()?];
    let pids = flows.each_ref().map(|flow| flow.near().pid());
    let limiter = Limiter::start(&pids, &["--download", "1M", "--shared"])?;
    let mut sum = 0.0;
    for flow in &flows {
        sum += flow.judged(limiter.applied())?;
    }
    expect_ratio("both", sum, 1e6, kept())
}

#[test]
fn a_tree_is_limited_with_the_children_to_come() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let sinks = [sink(&lab)?, sink(&lab)?];
    // A child, and a grandchild whose parent ends when it has been seen.
    let script = format!(
        "read go; {} & ({} & sleep 0.5) ; wait; sleep 60",
        shell_words(&sinks[0])?,
        shell_words(&sinks[1])?
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let mut shell = Process::start(shell, lab.near().place())?;
    let pid = shell.pid().to_string();
    let limiter = limit(&["--tree", &pid, "--shared", "--upload", "1M"])?;
    shell.tell("go")?;
    let started = Moment::now();
    let sum = judged(&sinks[0], started)? + judged(&sinks[1], started)?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("child and grandchild", sum, 1e6, kept())
}

#[test]
fn a_cgroup_is_limited_and_what_is_outside_is_not() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let path = lab.near().cgroup().name()?;
    let limiter = limit(&["--cgroup", &path, "--shared", "--download", "1M"])?;
    let start = |place| Flow::start_in(place, &lab, Job::busy(), Direction::Download, Family::V4);
    let inside = [start(lab.near().place())?, start(lab.near().place())?];
    let outside = start(lab.near().place_in(None))?;
    let started = Moment::now();
    let mut sum = 0.0;
    for flow in &inside {
        sum += flow.judged(started)?;
    }
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("inside", sum, 1e6, kept())?;
    let free = outside.goodput_for(Duration::from_secs(1))?;
    expect_ratio("outside", free, 20e6, 0.5..=1.1)
}

#[test]
fn a_unit_is_limited_with_its_cgroups_as_systemd_lays_them_out() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let machine = Cgroup::new()?;
    let slice = machine.child("system.slice")?;
    let unit = format!("ct-{}.service", std::process::id());
    let service = slice.child(&unit)?;
    // What a unit with Delegate= makes for its workers.
    let worker = service.child("worker")?;
    let other = slice.child("ct-other.service")?;
    let limiter = limit(&["--unit", &unit, "--shared", "--upload", "1M"])?;
    let start = |cgroup: &Cgroup| {
        let place = lab.near().place_in(Some(cgroup));
        Flow::start_in(place, &lab, Job::busy(), Direction::Upload, Family::V4)
    };
    let inside = [start(&service)?, start(&worker)?];
    let outside = start(&other)?;
    let together = |flows: &[Flow]| -> Result<f64> {
        let started = Moment::now();
        flows.iter().map(|flow| flow.judged(started)).sum()
    };
    expect_ratio("the unit", together(&inside)?, 1e6, kept())?;
    let free = outside.goodput_for(Duration::from_secs(1))?;
    expect_ratio("another unit", free, 20e6, 0.5..=1.1)?;
    // The unit is started again: systemd removes its cgroups, and makes them anew.
    drop(inside);
    drop(worker);
    drop(service);
    let service = slice.child(&unit)?;
    expect_ratio("started again", together(&[start(&service)?])?, 1e6, kept())?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    Ok(())
}

#[test]
fn a_cgroup_that_is_made_anew_is_limited_where_it_is() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let outer = Cgroup::new()?;
    let cgroup = outer.child("again")?;
    let name = cgroup.name()?;
    let mut limiter = limit_command(&[], &["--cgroup", &name, "--upload", "1M"])?;
    limiter.env("RUST_LOG", "info");
    let limiter = Limiter::from_command(limiter)?;
    let upload = |cgroup: &Cgroup| {
        let place = lab.near().place_in(Some(cgroup));
        Flow::start_in(place, &lab, Job::busy(), Direction::Upload, Family::V4)
    };
    let flow = upload(&cgroup)?;
    expect_ratio("first", flow.judged(Moment::now())?, 1e6, kept())?;
    drop(flow);
    drop(cgroup);
    let cgroup = outer.child("again")?;
    let flow = upload(&cgroup)?;
    expect_ratio("again", flow.judged(Moment::now())?, 1e6, kept())?;
    // Not by looking for it at the root: that would be the machine's packets.
    let errors = limiter.errors();
    ensure!(!errors.contains("moves to the root"), "{errors}");
    Ok(())
}

/// A shell's words: eight loops, each of which starts one child after the other, as `make -j8`
/// does. Each child sends 100 kB and ends. The loops end with the shell.
fn like_make(sink: &Peer) -> Result<String> {
    let job = Job::tcp().connect(sink.address()?).send().amount(100_000);
    let child = words(&job.live(Duration::from_millis(1)))?;
    Ok(format!(
        "for n in 1 2 3 4 5 6 7 8; do (while kill -0 $$; do {child}; done) & done; wait"
    ))
}

#[test]
fn a_tree_is_limited_whose_children_come_and_go() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let sink = sink(&lab)?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("read go; {}", like_make(&sink)?)]);
    let mut shell = Process::start(shell, lab.near().place())?;
    let pid = shell.pid().to_string();
    let limiter = limit(&["--tree", &pid, "--shared", "--upload", "2M"])?;
    shell.tell("go")?;
    let goodput = judged(&sink, Moment::now())?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("all together", goodput, 2e6, kept())
}

#[test]
fn a_command_that_is_run_is_limited_when_its_children_come_and_go() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let sink = sink(&lab)?;
    let mut run = command(&["run", "--upload", "2M", "--", "sh", "-c"])?;
    run.arg(like_make(&sink)?);
    let mut run = Process::start(run, lab.near().place())?;
    // Its first child has connected.
    sink.event("accepted")?;
    let goodput = judged(&sink, Moment::now())?;
    run.signal(Signal::TERM)?;
    run.wait(patience())?;
    expect_ratio("all together", goodput, 2e6, kept())
}

#[test]
fn a_user_is_limited() -> TestResult {
    kernel_test!();
    // No process of another test has this user.
    const UID: u32 = 64_321;
    let lab = Lab::new()?;
    let limiter = limit(&["--user", &UID.to_string(), "--upload", "1M"])?;
    let sink = sink(&lab)?;
    let job = Job::busy().connect(sink.address()?).send().command()?;
    // Only there: a user can't go to another namespace. Nor choose a congestion control.
    let mut sender = Command::new("setpriv");
    sender.args([&format!("--reuid={UID}"), "--clear-groups"]);
    sender.args(["--inh-caps=+net_admin", "--ambient-caps=+net_admin"]);
    sender.arg(job.get_program()).args(job.get_args());
    let _sender = Peer::from_command(sender, lab.near().place())?;
    let started = Moment::now();
    let goodput = judged(&sink, started)?;
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("the user's process", goodput, 1e6, kept())
}

/// Gives the far end an address of a documentation network (RFC 5737), which is not local, as the near end reaches
/// it over a gateway. Returns it.
fn internet(lab: &Lab) -> Result<std::net::SocketAddr> {
    let gateway = lab.far().address(Family::V4);
    lab.far().ip("address add 198.51.100.2/32 dev lab")?;
    (lab.near()).ip(&format!("route add 198.51.100.2/32 via {gateway}"))?;
    Ok("198.51.100.2:0".parse()?)
}

/// Gives both ends an address of one network that is nobody's private one (RFC 3849). Returns the far one.
fn on_link(lab: &Lab) -> Result<std::net::SocketAddr> {
    for (end, address) in [(lab.near(), "2001:db8:1::1"), (lab.far(), "2001:db8:1::2")] {
        end.ip(&format!("address add {address}/64 dev lab nodad"))?;
    }
    Ok("[2001:db8:1::2]:0".parse()?)
}

#[test]
fn a_limit_on_internet_traffic_leaves_the_local_network_alone() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let remote = internet(&lab)?;
    // One process with a connection of each kind would be one sender; two show it as well.
    let program = NamedProgram::new("ct-classes")?;
    let upload = |address| -> Result<(Peer, Peer)> {
        let sink = lab.far().traffic(Job::busy().listen(address))?;
        let job = Job::busy().connect(sink.address()?).send();
        Ok((
            Peer::from_command(program.command(&job)?, lab.near().place())?,
            sink,
        ))
    };
    let flows = [
        remote,
        lab.far().any_port(Family::V4),
        lab.far().any_port(Family::V6),
        on_link(&lab)?,
    ];
    let flows: Vec<_> = flows.into_iter().map(upload).collect::<Result<_>>()?;
    for (part, limited) in [
        ("internet", [true, false, false, false]),
        ("local", [false, true, true, true]),
    ] {
        let options = [
            "--program",
            "ct-classes",
            "--upload",
            "1M",
            "--traffic",
            part,
        ];
        let limiter = limit(&options)?;
        for ((_, sink), limited) in flows.iter().zip(limited) {
            let goodput = judged(sink, limiter.applied())?;
            let (rate, bounds) = if limited {
                (1e6, kept())
            } else {
                (busy_rate() as f64, 0.5..=1.1)
            };
            expect_ratio(part, goodput, rate, bounds)?;
        }
    }
    Ok(())
}

#[test]
fn block_lets_nothing_through_and_then_all() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let flow = Flow::start(&lab, Job::busy(), Direction::Download, Family::V4)?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--block"])?;
    let from = limiter.applied() + Duration::from_millis(200);
    let to = from + Duration::from_secs(1);
    let blocked = flow.receiver().received_until(to)?.rate(from, to)?;
    ensure!(blocked == 0.0, "{blocked} bytes a second while blocked");
    limiter.end(Signal::TERM)?;
    // TCP tries again after what it has learned to be a long time.
    let free = judged(flow.receiver(), Moment::now() + Duration::from_secs(2))?;
    expect_ratio("free again", free, busy_rate() as f64, 0.5..=1.5)
}

#[test]
fn a_command_that_is_run_is_limited_from_its_start_with_its_children() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let sinks = [sink(&lab)?, sink(&lab)?];
    let script = format!(
        "trap 'kill $(jobs -p); exit 7' TERM; {} & ({} &) ; wait; sleep 60",
        shell_words(&sinks[0])?,
        shell_words(&sinks[1])?
    );
    let mut run = command(&["run", "--upload", "1M", "--", "sh", "-c"])?;
    run.arg(script);
    let mut run = Process::start(run, lab.near().place())?;
    sinks[0].received_until(Moment::now())?;
    let started = Moment::now();
    let sum = judged(&sinks[0], started)? + judged(&sinks[1], started)?;
    run.signal(Signal::TERM)?;
    let status = run.wait(patience())?;
    ensure!(status.code() == Some(7), "{status}: {}", run.errors());
    expect_ratio("the command's processes", sum, 1e6, kept())
}

#[test]
fn run_passes_on_what_became_of_the_command() -> TestResult {
    kernel_test!();
    for (script, code) in [
        ("exit 3", 3),
        ("kill -9 $$", 137),
        ("exec /nowhere/at/all", 127),
    ] {
        let run = command(&["run", "--download", "1M", "--", "sh", "-c", script])?;
        let mut run = Process::start(run, Place::default())?;
        let status = run.wait(Duration::from_secs(10))?;
        ensure!(status.code() == Some(code), "{script}: {status}");
    }
    for (program, code) in [("/nowhere/at/all", 127), ("/etc/passwd", 126)] {
        let mut run = Process::start(
            command(&["run", "--block", "--", program])?,
            Place::default(),
        )?;
        let status = run.wait(Duration::from_secs(10))?;
        ensure!(status.code() == Some(code), "{program}: {status}");
    }
    Ok(())
}
