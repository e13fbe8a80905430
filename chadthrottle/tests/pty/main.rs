//! The interface on a real terminal: what it looks like there, and how it leaves it.
//!
//! The program under test is the real one over a made-up world. Where it has to meet with an
//! accident, it is this test binary itself, started again for its test `child`.

// clippy.toml allows these in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;
mod edit;

use std::{env, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use chadthrottle::{
    demo,
    tui::{self, Options},
};
use pty_session::{MouseProtocolMode, Screen, Session, Size};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Set for the child: what it does besides.
const ROLE: &str = "CHADTHROTTLE_PTY_CHILD";

/// Does nothing in a test run; see above.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (demo, world) = demo::start(3, 20);
        tokio::spawn(world);
        if role == "panic" {
            tokio::spawn(async { panic!("a task of the child panics") });
        }
        if role == "no hang-up signal" {
            // Taken and never looked at.
            std::mem::forget(signal(SignalKind::hangup()).unwrap());
        }
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        let shutdown = async {
            terminated.recv().await;
        };
        let options = Options::from_env();
        tui::run(demo.outside(), shutdown, options).await.unwrap();
    });
    // The test harness must not write its result to a terminal that may have gone.
    std::process::exit(0);
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_chadthrottle");

fn demo_command(mut command: Command) -> Command {
    command.args(["--demo", "--demo-seed", "3", "--demo-processes", "20"]);
    command
}

/// The real program.
fn start() -> Result<Session> {
    Session::start(demo_command(Command::new(PROGRAM)), Size::USUAL)
}

/// This test binary, which meets with an accident.
fn with_accident(role: &str) -> Result<Session> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role);
    Session::start(command, Size::USUAL)
}

#[test]
fn a_limit_is_typed_seen_and_removed() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    assert!(session.look(Screen::alternate_screen));
    session.type_in("t")?;
    session.wait_for_text("Download")?;
    // As a terminal pastes.
    session.type_in("\x1b[200~500K\r\x1b[201~")?;
    session.wait_for_text("may download 500 KB/s")?;
    session.type_in("\r")?;
    session.wait_for_text("1 limit ")?;
    session.wait_for_text("▽")?;
    session.wait_for("closed dialog", |s| !s.contents().contains("Download"))?;
    session.type_in("r")?;
    session.wait_for_text("0 limits")?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn ctrl_c_ends_it() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    session.type_in("t\x03")?;
    session.left_clean()
}

#[test]
fn a_signal_ends_it() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    session.signal(Signal::TERM)?;
    session.left_clean()
}

#[test]
fn a_panic_elsewhere_leaves_it_usable() -> Result<()> {
    let session = with_accident("panic")?;
    session.wait_for_written("panic and an interface after it", |written| {
        let after = written.split("a task of the child panics").nth(1);
        after.is_some_and(|after| after.contains("coverage"))
    })?;
    session.type_in("?")?;
    session.wait_for_text("Keys")?;
    session.type_in("q")?;
    // It can be read once the interface is gone.
    session.wait_for_text("a task of the child panics")?;
    session.left_clean()
}

#[test]
fn it_fills_a_terminal_that_is_resized() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    let resize = |columns, rows| session.resize(Size { columns, rows });
    resize(200, 40)?;
    session.wait_for_text("PATH")?;
    resize(39, 9)?;
    session.wait_for_text("40×10 is needed")?;
    resize(40, 10)?;
    session.wait_for_text("PROGRAM")?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn it_comes_back_after_others_used_the_terminal() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    // Without a shell to continue it, Ctrl-Z must not stop it for good.
    session.type_in("\x1a")?;
    session.signal(Signal::STOP)?;
    session.scribble("\x1b[2J\x1b[?1049l garbage");
    session.signal(Signal::CONT)?;
    session.wait_for("a clean screen", |screen| {
        let shown = screen.contents();
        screen.alternate_screen() && shown.contains("coverage") && !shown.contains("garbage")
    })?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn it_ends_when_the_terminal_goes_away() -> Result<()> {
    let mut session = with_accident("no hang-up signal")?;
    session.wait_for_text("coverage")?;
    session.hang_up();
    let status = session.end()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn it_gives_the_terminal_back_when_somebody_stops_it() -> Result<()> {
    // A shell with job control: without one the kernel ignores the signal.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "set -m; \"$0\" \"$@\"; echo; echo IT STOPPED; read line; fg",
        PROGRAM,
    ]);
    let session = Session::start(demo_command(shell), Size::USUAL)?;
    session.wait_for_text("coverage")?;
    let shell = session.pid();
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
    let program = Pid::from_raw(children.trim().parse()?).context("no program")?;
    kill_process(program, Signal::TSTP)?;
    session.wait_for("the shell on its own screen", |screen| {
        let shown = screen.contents();
        !screen.alternate_screen() && !screen.hide_cursor() && shown.contains("IT STOPPED")
    })?;
    session.type_in("\n")?;
    session.wait_for("the interface again", |screen| {
        screen.alternate_screen() && screen.contents().contains("coverage")
    })?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn the_mouse_selects_and_sorts() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    session.wait_for("a mouse", |screen| {
        screen.mouse_protocol_mode() != MouseProtocolMode::None
    })?;
    // The heading of the ids: the eighth column of the fourth line, in SGR's counting.
    session.type_in("\x1b[<0;8;4M\x1b[<0;8;4m")?;
    session.wait_for_text("PID▾")?;
    session.type_in("m")?;
    session.wait_for("no mouse", |screen| {
        screen.mouse_protocol_mode() == MouseProtocolMode::None
    })?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn a_filter_narrows_and_details_open() -> Result<()> {
    let session = start()?;
    session.wait_for_text("coverage")?;
    session.type_in("/firefox\r")?;
    session.wait_for_text("/firefox: ")?;
    session.wait_for("no other program", |s| !s.contents().contains("nginx"))?;
    session.type_in("\r")?;
    session.wait_for_text("RTT")?;
    session.wait_for_text(":443")?;
    session.type_in("n")?;
    session.wait_for_text("host-")?;
    session.type_in("\x1b")?;
    session.wait_for_text("LAST MINUTE")?;
    session.type_in("q")?;
    session.left_clean()
}

#[test]
fn without_unicode_everything_is_ascii() -> Result<()> {
    let mut command = Command::new("env");
    command.args(["LC_ALL=C", PROGRAM]);
    let session = Session::start(demo_command(command), Size::USUAL)?;
    session.wait_for_text("coverage")?;
    session.type_in("t")?;
    session.wait_for_text("+ Limit")?;
    let shown = session.contents();
    assert!(shown.is_ascii(), "{shown}");
    session.type_in("\x03")?;
    session.left_clean()
}
