//! Signals of a command that is run: each comes once, and the limit stays as long as the command.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult,
    flow::judged,
    kernel_test,
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, kept, patience},
    peer::Job,
    process::{Place, Process},
    product::{self, command},
};
use pty_session::{Session, Size};

/// What people and programs send, as kill(1) names it. Those that stop a process by default are
/// there, too: the command decides about them.
const NAMES: [&str; 20] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "CONT", "PIPE", "TSTP", "TTIN", "TTOU",
    "ABRT", "URG", "IO", "PROF", "VTALRM", "PWR", "RTMIN", "RTMAX",
];

/// A script of bash that says the names of the signals that it hears, and ends with 7 after TERM.
/// It waits all the time, so that it hears a second one that follows closely.
fn ear(names: &[&str], before: &str) -> String {
    format!(
        "for name in {}; do trap \"echo heard $name\" $name; done
         trap 'kill $(jobs -p); exit 7' TERM
         {before}
         sleep 300 &
         echo ready
         while :; do wait; done",
        names.join(" ")
    )
}

fn kill(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("bash")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill -s {name}: {status}");
    Ok(())
}

#[test]
fn run_passes_on_every_signal_once_and_keeps_the_limit() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let sink = lab
        .far()
        .traffic(Job::busy().listen(lab.far().any_port(Family::V4)))?;
    let job = Job::busy().at_most(Duration::from_secs(60));
    let sender = job.connect(sink.address()?).send().command()?;
    let words = [sender.get_program()].into_iter().chain(sender.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let before = format!("{} >/dev/null &", words.join(" "));
    let mut run = command(&["run", "--upload", "1M", "--", "bash", "-c"])?;
    run.arg(ear(&NAMES, &before));
    let mut run = Process::start(run, lab.near().place())?;
    let line = |run: &Process| -> Result<String> {
        let line = run.line(patience())?;
        Ok(line.with_context(|| run.errors())?.text)
    };
    ensure!(line(&run)? == "ready");
    for name in NAMES {
        kill(name, run.pid())?;
        // One that came twice is there instead of the next.
        let heard = line(&run).with_context(|| format!("after {name}"))?;
        ensure!(heard == format!("heard {name}"), "after {name}: {heard}");
    }
    let goodput = judged(&sink, Moment::now())?;
    ensure!(!run.has_ended()?, "chadthrottle ended: {}", run.errors());
    kill("TERM", run.pid())?;
    let status = run.wait(patience())?;
    ensure!(status.code() == Some(7), "{status}: {}", run.errors());
    ensure!(run.waiting_lines().next().is_none(), "more was heard");
    expect_ratio("after all signals", goodput, 1e6, kept())
}

fn size(rows: u16) -> Size {
    Size { columns: 100, rows }
}

#[test]
fn what_the_terminal_sends_comes_once_and_its_jobs_stop_and_go_on() -> TestResult {
    kernel_test!();
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script");
    let ready = "trap 'echo heard QUIT; kill $(jobs -p); exit 7' QUIT";
    fs::write(&script, ear(&["INT", "CONT", "WINCH"], ready))?;
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    let mut session = Session::start(shell, size(30))?;
    let program = product::program()?;
    session.type_in(&format!(
        "{} run --block -- bash {}\r",
        program.display(),
        script.display()
    ))?;
    session.wait_for_text("ready")?;
    session.type_in("\x03")?;
    session.wait_for_text("heard INT")?;
    session.resize(size(31))?;
    session.wait_for_text("heard WINCH")?;
    session.type_in("\x1a")?;
    session.wait_for_text("Stopped")?;
    session.type_in("fg\r")?;
    session.wait_for_text("heard CONT")?;
    session.type_in("\x1c")?;
    session.wait_for_text("heard QUIT")?;
    session.type_in("echo code=$?\r")?;
    session.wait_for_text("code=7")?;
    let contents = session.contents();
    for name in ["INT", "WINCH", "CONT", "QUIT"] {
        let heard = contents.matches(&format!("heard {name}")).count();
        ensure!(heard == 1, "{name} {heard} times:\n{contents}");
    }
    session.type_in("exit\r")?;
    session.end()?;
    Ok(())
}

#[test]
fn the_end_of_the_terminal_comes_to_the_command() -> TestResult {
    kernel_test!();
    // As in a window of its own: the kernel tells the leader of the session, and nobody else.
    let script = "trap 'exit 7' HUP; echo ready; while :; do sleep 0.01; echo; done";
    let run = command(&["run", "--block", "--", "bash", "-c", script])?;
    let mut session = Session::start(run, size(30))?;
    session.wait_for_written("ready", |written| written.contains("ready"))?;
    session.hang_up();
    let status = session.end()?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

#[test]
fn what_was_to_be_ignored_is_ignored_by_the_command() -> TestResult {
    kernel_test!();
    let mut run = Command::new("nohup");
    let script = "kill -HUP $$; echo alive";
    run.arg(product::program()?)
        .args(["run", "--block", "--", "sh", "-c", script]);
    let mut run = Process::start(run, Place::default())?;
    let line = run.line(patience())?.with_context(|| run.errors())?;
    ensure!(line.text == "alive", "{}", line.text);
    let status = run.wait(patience())?;
    ensure!(status.success(), "{status}: {}", run.errors());
    Ok(())
}

#[test]
fn run_says_what_is_left_without_a_limit() -> TestResult {
    kernel_test!();
    for (script, said) in [
        ("sleep 30 >/dev/null 2>&1 & echo $!", "1 process"),
        (
            "(sleep 30 & sleep 30 & echo $(jobs -p)) 2>/dev/null",
            "2 processes",
        ),
        ("sleep 0.01 & echo; wait", ""),
    ] {
        let mut run = Process::start(
            command(&["run", "--block", "--", "bash", "-c", script])?,
            Place::default(),
        )?;
        let left = run.line(patience())?.with_context(|| run.errors())?.text;
        until("run ends", patience(), || run.has_ended())?;
        for pid in left.split_whitespace() {
            kill("KILL", pid.parse()?)?;
        }
        let status = run.wait(patience())?;
        ensure!(status.success(), "{status}: {}", run.errors());
        let errors = run.errors();
        ensure!(
            errors.contains("still run") != said.is_empty() && errors.contains(said),
            "{script}: {errors}"
        );
    }
    Ok(())
}
