//! The interface on a real terminal: what it looks like there, and how it leaves it.
//!
//! The program under test is the real one over a made-up world. Where it has to meet with an
//! accident, it is this test binary itself, started again for its test `child`.

// clippy.toml allows these in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;
mod edit;
mod session;

use std::{
    env,
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use chadthrottle::{
    demo::{self, MadeUpLog},
    tui::{self, Options, Outside},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::tcsetwinsize,
};
use session::{PROGRAM, ROLE, Session, cells, demo_command, size};
use tokio::signal::unix::{SignalKind, signal};
use vt100::MouseProtocolMode;

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
        let outside = Outside {
            engine: demo.engine,
            past: demo.past,
            log: &MadeUpLog,
            surroundings: Arc::new(demo.surroundings),
            preferences: Default::default(),
        };
        let options = Options::from_env();
        tui::run(outside, shutdown, options).await.unwrap();
    });
    // The test harness must not write its result to a terminal that may have gone.
    std::process::exit(0);
}

#[test]
fn a_limit_is_typed_seen_and_removed() {
    let session = Session::start();
    session.wait_for_text("coverage");
    assert!(session.screen.lock().unwrap().screen().alternate_screen());
    session.type_in("t");
    session.wait_for_text("Download");
    // As a terminal pastes.
    session.type_in("\x1b[200~500K\r\x1b[201~");
    session.wait_for_text("may download 500 KB/s");
    session.type_in("\r");
    session.wait_for_text("1 limit ");
    session.wait_for_text("▽");
    session.wait_for("closed dialog", |s| !s.contents().contains("Download"));
    session.type_in("r");
    session.wait_for_text("0 limits");
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn ctrl_c_ends_it() {
    let session = Session::start();
    session.wait_for_text("coverage");
    session.type_in("t\x03");
    session.assert_left_clean();
}

#[test]
fn a_signal_ends_it() {
    let session = Session::start();
    session.wait_for_text("coverage");
    session.signal(Signal::TERM);
    session.assert_left_clean();
}

#[test]
fn a_panic_elsewhere_leaves_it_usable() {
    let session = Session::with_accident("panic");
    session.wait_for("panic and an interface after it", |_| {
        let written = session.written.lock().unwrap();
        let after = written.split("a task of the child panics").nth(1);
        after.is_some_and(|after| after.contains("coverage"))
    });
    session.type_in("?");
    session.wait_for_text("Keys");
    session.type_in("q");
    // It can be read once the interface is gone.
    session.wait_for_text("a task of the child panics");
    session.assert_left_clean();
}

#[test]
fn it_fills_a_terminal_that_is_resized() {
    let session = Session::start();
    session.wait_for_text("coverage");
    let resize = |rows: u16, columns: u16| {
        session
            .screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(cells(rows), cells(columns));
        tcsetwinsize(session.person.as_ref().unwrap(), size(rows, columns)).unwrap();
    };
    resize(40, 200);
    session.wait_for_text("PATH");
    resize(9, 39);
    session.wait_for_text("40×10 is needed");
    resize(10, 40);
    session.wait_for_text("PROGRAM");
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn it_comes_back_after_others_used_the_terminal() {
    let session = Session::start();
    session.wait_for_text("coverage");
    // Without a shell to continue it, Ctrl-Z must not stop it for good.
    session.type_in("\x1a");
    session.signal(Signal::STOP);
    let garbage = "\x1b[2J\x1b[?1049l garbage";
    session.screen.lock().unwrap().process(garbage.as_bytes());
    session.signal(Signal::CONT);
    session.wait_for("a clean screen", |screen| {
        let shown = screen.contents();
        screen.alternate_screen() && shown.contains("coverage") && !shown.contains("garbage")
    });
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn it_ends_when_the_terminal_goes_away() {
    let mut session = Session::with_accident("no hang-up signal");
    session.wait_for_text("coverage");
    session.person = None;
    // The watching thread lets go after what the child writes next.
    session.watching.store(false, Ordering::SeqCst);
    let status = session.end();
    assert!(status.success(), "{status}");
}

#[test]
fn it_gives_the_terminal_back_when_somebody_stops_it() {
    // A shell with job control: without one the kernel ignores the signal.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "set -m; \"$0\" \"$@\"; echo; echo IT STOPPED; read line; fg",
        PROGRAM,
    ]);
    let session = Session::of(demo_command(shell));
    session.wait_for_text("coverage");
    let shell = session.child.id();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let program: i32 = children.trim().parse().unwrap();
    kill_process(Pid::from_raw(program).unwrap(), Signal::TSTP).unwrap();
    session.wait_for("the shell on its own screen", |screen| {
        let shown = screen.contents();
        !screen.alternate_screen() && !screen.hide_cursor() && shown.contains("IT STOPPED")
    });
    session.type_in("\n");
    session.wait_for("the interface again", |screen| {
        screen.alternate_screen() && screen.contents().contains("coverage")
    });
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn the_mouse_selects_and_sorts() {
    let session = Session::start();
    session.wait_for_text("coverage");
    session.wait_for("a mouse", |screen| {
        screen.mouse_protocol_mode() != MouseProtocolMode::None
    });
    // The heading of the ids: the eighth column of the fourth line, in SGR's counting.
    session.type_in("\x1b[<0;8;4M\x1b[<0;8;4m");
    session.wait_for_text("PID▾");
    session.type_in("m");
    session.wait_for("no mouse", |screen| {
        screen.mouse_protocol_mode() == MouseProtocolMode::None
    });
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn a_filter_narrows_and_details_open() {
    let session = Session::start();
    session.wait_for_text("coverage");
    session.type_in("/firefox\r");
    session.wait_for_text("/firefox: ");
    session.wait_for("no other program", |s| !s.contents().contains("nginx"));
    session.type_in("\r");
    session.wait_for_text("RTT");
    session.wait_for_text(":443");
    session.type_in("n");
    session.wait_for_text("host-");
    session.type_in("\x1b");
    session.wait_for_text("LAST MINUTE");
    session.type_in("q");
    session.assert_left_clean();
}

#[test]
fn without_unicode_everything_is_ascii() {
    let mut command = Command::new("env");
    command.args(["LC_ALL=C", PROGRAM]);
    let command = demo_command(command);
    let session = Session::of(command);
    session.wait_for_text("coverage");
    session.type_in("t");
    session.wait_for_text("+ Limit");
    let shown = session.screen.lock().unwrap().screen().contents();
    assert!(shown.is_ascii(), "{shown}");
    session.type_in("\x03");
    session.assert_left_clean();
}
