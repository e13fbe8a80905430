//! The interface on a real terminal: what it looks like there, and how it leaves it.
//!
//! The program under test is the real one over a made-up world. Where it has to meet with an
//! accident, it is this test binary itself, started again for its test `child`.

// clippy.toml allows these in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env,
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chadthrottle::{
    demo::{self, MadeUpLog},
    tui::{self, Options, Outside},
};
use rustix::{
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use tokio::signal::unix::{SignalKind, signal};
use vt100::{MouseProtocolMode, Parser, Screen};

/// Set for the child: what it does besides.
const ROLE: &str = "CHADTHROTTLE_PTY_CHILD";

/// Long enough for a busy machine; what is waited for comes long before.
const PATIENCE: Duration = Duration::from_secs(20);

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

const PROGRAM: &str = env!("CARGO_BIN_EXE_chadthrottle");

fn demo_command(mut command: Command) -> Command {
    command.args(["--demo", "--demo-seed", "3", "--demo-processes", "20"]);
    command
}

/// The interface in a child, and the person's end of its terminal.
struct Session {
    child: Child,
    person: Option<File>,
    /// Keeps the terminal and its modes readable when the child is gone.
    terminal: OwnedFd,
    screen: Arc<Mutex<Parser>>,
    /// Everything the child has written.
    written: Arc<Mutex<String>>,
    watching: Arc<AtomicBool>,
}

impl Session {
    /// The real program.
    fn start() -> Self {
        Self::of(demo_command(Command::new(PROGRAM)))
    }

    /// This test binary, which meets with an accident.
    fn with_accident(role: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--nocapture"])
            .env(ROLE, role);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let (rows, columns) = (24, 80);
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let terminal = ioctl_tiocgptpeer(&person, flags).unwrap();
        tcsetwinsize(&person, size(rows, columns)).unwrap();

        let side = || Stdio::from(terminal.try_clone().unwrap());
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .stdin(side())
            .stdout(side())
            .stderr(side());
        // SAFETY: both are system calls, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let person = File::from(person);
        let screen = Arc::new(Mutex::new(Parser::new(cells(rows), cells(columns), 0)));
        let session = Self {
            child,
            person: Some(person),
            terminal,
            screen,
            written: Arc::default(),
            watching: Arc::new(AtomicBool::new(true)),
        };
        session.watch();
        session
    }

    /// Draws what the child writes, until there is nothing more.
    fn watch(&self) {
        let mut from = self.person.as_ref().unwrap().try_clone().unwrap();
        let (screen, written) = (Arc::clone(&self.screen), Arc::clone(&self.written));
        let watching = Arc::clone(&self.watching);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let bytes = &bytes[..count];
                screen.lock().unwrap().process(bytes);
                written
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(bytes));
                if !watching.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
    }

    fn type_in(&self, text: &str) {
        self.person
            .as_ref()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Waits until the screen is as it should be, and says what it was if it never is.
    fn wait_for(&self, what: &str, seen: impl Fn(&Screen) -> bool) {
        let start = Instant::now();
        while !seen(self.screen.lock().unwrap().screen()) {
            let shown = self.screen.lock().unwrap().screen().contents();
            assert!(start.elapsed() < PATIENCE, "no {what} in\n{shown}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// It has ended well, and the terminal is as it was.
    fn assert_left_clean(mut self) {
        let status = self.end();
        assert!(status.success(), "{status}");
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        self.wait_for("main screen", |screen| {
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && !screen.bracketed_paste()
                && screen.mouse_protocol_mode() == MouseProtocolMode::None
        });
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
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
