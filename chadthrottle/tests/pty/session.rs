//! A program on a terminal of its own, and the person in front of it.

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

use rustix::{
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use vt100::{MouseProtocolMode, Parser, Screen};

/// Set for the child that is this test binary: what it does besides.
pub const ROLE: &str = "CHADTHROTTLE_PTY_CHILD";

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_chadthrottle");

/// Long enough for a busy machine; what is waited for comes long before.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The interface over a made-up world.
pub fn demo_command(mut command: Command) -> Command {
    command.args(["--demo", "--demo-seed", "3", "--demo-processes", "20"]);
    command
}

/// The interface in a child, and the person's end of its terminal.
pub struct Session {
    pub child: Child,
    pub person: Option<File>,
    /// Keeps the terminal and its modes readable when the child is gone.
    pub terminal: OwnedFd,
    pub screen: Arc<Mutex<Parser>>,
    /// Everything the child has written.
    pub written: Arc<Mutex<String>>,
    pub watching: Arc<AtomicBool>,
}

impl Session {
    /// The real program.
    pub fn start() -> Self {
        Self::of(demo_command(Command::new(PROGRAM)))
    }

    /// This test binary, which meets with an accident.
    pub fn with_accident(role: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--nocapture"])
            .env(ROLE, role);
        Self::of(command)
    }

    /// Any program.
    pub fn of(mut command: Command) -> Self {
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

    /// Types.
    pub fn type_in(&self, text: &str) {
        self.person
            .as_ref()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Waits until the screen is as it should be, and says what it was if it never is.
    pub fn wait_for(&self, what: &str, seen: impl Fn(&Screen) -> bool) {
        let start = Instant::now();
        while !seen(self.screen.lock().unwrap().screen()) {
            let shown = self.screen.lock().unwrap().screen().contents();
            assert!(start.elapsed() < PATIENCE, "no {what} in\n{shown}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a text is on the screen.
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text));
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                let shown = self.screen.lock().unwrap().screen().contents();
                panic!("it does not end:\n{shown}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// It has ended well, and the terminal is as it was.
    pub fn assert_left_clean(mut self) {
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

pub fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

pub fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}
