//! A program in a terminal (a pty), and the person before it: types, looks, waits for what is to be
//! seen. For tests and benches of the interface, over a made-up world and on a real kernel.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::{
        Pid, Signal, ioctl_tiocsctty, kill_process, set_parent_process_death_signal, setsid,
    },
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use vt100::Parser;
pub use vt100::{MouseProtocolMode, Screen};

/// Long enough for a busy machine; what is waited for comes long before.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns; not 0.
    pub columns: u16,
    /// Rows; not 0.
    pub rows: u16,
}

impl Size {
    /// The usual one.
    pub const USUAL: Self = Self {
        columns: 80,
        rows: 24,
    };

    fn winsize(self) -> Winsize {
        Winsize {
            ws_row: self.rows,
            ws_col: self.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// What has come to the terminal.
struct Shown {
    parser: Parser,
    /// Everything the program has written.
    written: String,
}

/// The terminal's picture, and who waits for it to change.
struct Picture {
    shown: Mutex<Shown>,
    changed: Condvar,
    watched: AtomicBool,
}

impl Picture {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: &[u8]) {
        let mut shown = self.lock();
        shown.parser.process(bytes);
        shown.written.push_str(&String::from_utf8_lossy(bytes));
        self.changed.notify_all();
    }
}

/// A program with a terminal of its own, and the person's end of that. When dropped, the program is
/// killed; it also dies with the thread that started it.
pub struct Session {
    child: Child,
    person: Option<File>,
    /// Keeps the terminal and its modes readable when the program is gone.
    terminal: OwnedFd,
    picture: Arc<Picture>,
}

impl Session {
    /// Starts a program in a terminal that knows colours and UTF-8.
    ///
    /// # Errors
    ///
    /// There is no such program, or no terminal to be had.
    pub fn start(mut command: Command, size: Size) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).context("no terminal")?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let terminal = ioctl_tiocgptpeer(&person, flags)?;
        tcsetwinsize(&person, size.winsize())?;

        let side = || terminal.try_clone().map(Stdio::from);
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("COLORFGBG")
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .stdin(side()?)
            .stdout(side()?)
            .stderr(side()?);
        // SAFETY: all are system calls, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                setsid()?;
                ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("can't start {command:?}"))?;
        let parser = Parser::new(cells(size.rows)?, cells(size.columns)?, 0);
        let session = Self {
            child,
            person: Some(File::from(person)),
            terminal,
            picture: Arc::new(Picture {
                shown: Mutex::new(Shown {
                    parser,
                    written: String::new(),
                }),
                changed: Condvar::new(),
                watched: AtomicBool::new(true),
            }),
        };
        session.watch()?;
        Ok(session)
    }

    /// Draws what the program writes, until there is nothing more.
    fn watch(&self) -> Result<()> {
        let mut from = self.person()?.try_clone()?;
        let picture = Arc::clone(&self.picture);
        thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                picture.take(&bytes[..count]);
                if !picture.watched.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        Ok(())
    }

    fn person(&self) -> Result<&File> {
        self.person.as_ref().context("the person has gone")
    }

    /// The program's PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    ///
    /// # Errors
    ///
    /// The terminal has gone.
    pub fn type_in(&self, text: &str) -> Result<()> {
        Ok(self.person()?.write_all(text.as_bytes())?)
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    ///
    /// The terminal has gone, or the size has no cells.
    pub fn resize(&self, size: Size) -> Result<()> {
        let (rows, columns) = (cells(size.rows)?, cells(size.columns)?);
        let mut shown = self.picture.lock();
        shown.parser.screen_mut().set_size(rows, columns);
        drop(shown);
        Ok(tcsetwinsize(self.person()?, size.winsize())?)
    }

    /// Another program writes to the same terminal.
    pub fn scribble(&self, text: &str) {
        self.picture.lock().parser.process(text.as_bytes());
    }

    /// Looks at the screen.
    pub fn look<T>(&self, at: impl FnOnce(&Screen) -> T) -> T {
        at(self.picture.lock().parser.screen())
    }

    /// All text on the screen.
    pub fn contents(&self) -> String {
        self.look(Screen::contents)
    }

    /// Waits until the screen is as it should be.
    ///
    /// # Errors
    ///
    /// It never is; the error has what it was instead.
    pub fn wait_for(&self, what: &str, mut seen: impl FnMut(&Screen) -> bool) -> Result<()> {
        self.wait(what, |shown| seen(shown.parser.screen()))
    }

    /// Waits until a text is on the screen.
    ///
    /// # Errors
    ///
    /// It never is.
    pub fn wait_for_text(&self, text: &str) -> Result<()> {
        self.wait_for(text, |screen| screen.contents().contains(text))
    }

    /// Waits until the program has written what is wanted, though it may have left the screen since.
    ///
    /// # Errors
    ///
    /// It never does.
    pub fn wait_for_written(&self, what: &str, seen: impl Fn(&str) -> bool) -> Result<()> {
        self.wait(what, |shown| seen(&shown.written))
    }

    fn wait(&self, what: &str, mut seen: impl FnMut(&Shown) -> bool) -> Result<()> {
        let start = Instant::now();
        let mut shown = self.picture.lock();
        while !seen(&shown) {
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                bail!("no {what} in\n{}", shown.parser.screen().contents());
            }
            shown = match self.picture.changed.wait_timeout(shown, left) {
                Ok((shown, _)) => shown,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(())
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    ///
    /// It has gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// The person's end goes away, as when a connection breaks: as soon as the program has written
    /// something more.
    pub fn hang_up(&mut self) {
        self.person = None;
        self.picture.watched.store(false, Ordering::SeqCst);
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "it does not end; the screen is\n{}",
                self.contents()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end, and sees to it that the terminal is as it was before.
    ///
    /// # Errors
    ///
    /// It does not end, or the terminal is not.
    pub fn terminal_after_end(&mut self) -> Result<ExitStatus> {
        let status = self.end()?;
        let modes = tcgetattr(&self.terminal)?.local_modes;
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        ensure!(modes.contains(usual), "modes are left as {modes:?}");
        self.wait_for("main screen", |screen| {
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && !screen.bracketed_paste()
                && screen.mouse_protocol_mode() == MouseProtocolMode::None
        })?;
        Ok(status)
    }

    /// The same, and the program has ended well.
    ///
    /// # Errors
    ///
    /// As there, or it has not.
    pub fn left_clean(mut self) -> Result<()> {
        let status = self.terminal_after_end()?;
        ensure!(status.success(), "{status}:\n{}", self.contents());
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> Result<NonZero<u16>> {
    NonZero::new(count).context("a terminal without cells")
}
