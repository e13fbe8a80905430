//! The terminal: the only place that touches raw mode and the alternate screen.

use std::{
    fs::File,
    io::{self, IsTerminal, Stdout, stdout},
    mem::ManuallyDrop,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use anyhow::Context as _;
use crossterm::{
    cursor::{Hide, Show},
    event::{DisableBracketedPaste, EnableBracketedPaste, Event, EventStream},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use futures_util::Stream;
use ratatui::{Terminal, backend::CrosstermBackend, layout::Rect};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Signal, kill_current_process_group, kill_process},
    time::Timespec,
};

/// Whether the terminal is ours now; a panic hook has no other way to know.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; dropping it gives the terminal back as it was.
#[derive(Debug)]
pub struct Guard {
    /// Never dropped: its own drop writes to standard error when the terminal has gone, and that
    /// panics. All it would do, showing the cursor, is done by ours.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    /// The mouse is ours, too.
    mouse: bool,
}

impl Guard {
    /// Takes the terminal. From now on a panic gives it back before it prints.
    ///
    /// # Errors
    ///
    /// Standard output is no terminal, or it refuses.
    pub fn take() -> anyhow::Result<Self> {
        if !stdout().is_terminal() {
            anyhow::bail!(
                "the interface needs a terminal on standard output; `chadthrottle top` does not"
            );
        }
        restore_on_panic();
        enter().context("the terminal can't be used")?;
        match Terminal::new(CrosstermBackend::new(stdout())) {
            Ok(terminal) => Ok(Self {
                terminal: ManuallyDrop::new(terminal),
                mouse: false,
            }),
            Err(error) => {
                restore();
                Err(error).context("the terminal can't be used")
            }
        }
    }

    /// What to draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }

    /// Whether it is still ours: a panic elsewhere in the program gives it back.
    pub fn is_held(&self) -> bool {
        TAKEN.load(Ordering::SeqCst)
    }

    /// Gives the terminal back and stops, as Ctrl-Z stops any program; returns when continued.
    ///
    /// # Errors
    ///
    /// It can't be taken again.
    pub fn suspend(&mut self, group: bool) -> io::Result<()> {
        restore();
        // Somebody listens for this signal so that it is handled here; for a moment it must do
        // what it does to every program. Without a shell to continue us the kernel ignores it.
        let stopped = with_default_action(Signal::TSTP, || match group {
            // A `sudo` or `cargo` in front of us must stop too, or the shell never learns of it.
            true => kill_current_process_group(Signal::TSTP),
            false => kill_process(rustix::process::getpid(), Signal::TSTP),
        });
        stopped??;
        self.retake()
    }

    /// Takes the mouse, or leaves it to the terminal.
    ///
    /// # Errors
    ///
    /// The terminal refuses.
    pub fn set_mouse(&mut self, taken: bool) -> io::Result<()> {
        self.mouse = taken;
        match taken {
            true => execute!(stdout(), TakeMouse),
            false => execute!(stdout(), LeaveMouse),
        }
    }

    /// Takes it again, whatever has happened to it meanwhile.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub fn retake(&mut self) -> io::Result<()> {
        // crossterm believes that raw mode is still on if someone else switched it off.
        restore();
        enter()?;
        if self.mouse {
            execute!(stdout(), TakeMouse)?;
        }
        // Not `clear`: that asks the terminal where the cursor is and waits for the answer, which
        // the reader of keys has in its hands.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from(size))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    let entered = enable_raw_mode()
        .and_then(|()| execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide));
    if entered.is_err() {
        restore();
    }
    entered
}

/// Gives the terminal back; does nothing when it is not ours.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that has gone can't be restored, and nothing is left to tell it to.
    let _ = execute!(
        stdout(),
        LeaveMouse,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}

/// Presses and the wheel in SGR's coordinates, which know no largest column; not every movement,
/// as crossterm's own command asks for, which would wake the program for nothing.
struct TakeMouse;

impl crossterm::Command for TakeMouse {
    fn write_ansi(&self, f: &mut impl std::fmt::Write) -> std::fmt::Result {
        f.write_str("\x1b[?1000h\x1b[?1006h")
    }
}

/// The other way round.
struct LeaveMouse;

impl crossterm::Command for LeaveMouse {
    fn write_ansi(&self, f: &mut impl std::fmt::Write) -> std::fmt::Result {
        f.write_str("\x1b[?1006l\x1b[?1000l")
    }
}

/// Does something while a signal does what it does to every program.
fn with_default_action<T>(signal: Signal, act: impl FnOnce() -> T) -> io::Result<T> {
    let number = signal.as_raw();
    // SAFETY: a zeroed sigaction is a valid one: the default action, no flags, an empty mask.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above; it is overwritten before it is used.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to sigactions that live on.
    if unsafe { libc::sigaction(number, &raw const default, &raw mut ours) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let done = act();
    // SAFETY: what is put back is what the kernel handed out above.
    if unsafe { libc::sigaction(number, &raw const ours, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(done)
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print(panic);
        }));
    });
}

/// Keys, pastes and resizes, until the terminal goes away.
#[derive(Debug)]
pub struct Events {
    inner: EventStream,
    /// What crossterm reads: standard input if that is a terminal, else the controlling one.
    tty: Option<OwnedFd>,
}

impl Events {
    /// Begins to read the terminal.
    pub fn new() -> Self {
        let stdin = io::stdin();
        let tty = match stdin.is_terminal() {
            true => stdin.as_fd().try_clone_to_owned(),
            false => File::open("/dev/tty").map(OwnedFd::from),
        };
        Self {
            inner: EventStream::new(),
            tty: tty.ok(),
        }
    }

    fn hung_up(&self) -> bool {
        let Some(tty) = &self.tty else { return false };
        let mut fds = [PollFd::new(tty, PollFlags::IN)];
        let at_once = Timespec::default();
        rustix::event::poll(&mut fds, Some(&at_once)).is_ok()
            && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream for Events {
    type Item = io::Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // crossterm 0.29 reads a terminal that hung up for ever, without a pause, and would never
        // come back from here.
        if self.hung_up() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_next(cx)
    }
}
