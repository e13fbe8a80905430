//! `chadthrottle run`: starts a command that is limited from its first byte.
//!
//! The command is started held: a copy of this program waits for a word on its pipe, and becomes the
//! command, as the user who was asked for, only when the limit is in force. As with `nice` or `timeout`,
//! that is otherwise whoever called: under sudo, root. Whatever the command starts and
//! leaves behind becomes a child of this process (`PR_SET_CHILD_SUBREAPER`), so that it stays
//! known as a descendant.

pub mod signals;
mod unsent;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read as _, Write as _},
    mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chadthrottle_common::traffic::Direction;
use rustix::{
    io::{Errno, FdFlags},
    process::{Pid as RawPid, Signal, WaitOptions, WaitStatus},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    model::{
        command::Command as EngineCommand, handle::EngineHandle, limit::LimitRow, process::Pid,
        rule::Rule, snapshot::Snapshot, target::Target,
    },
    process::{ancestry, login::Login},
    rate::Rate,
};
use signals::Signals;

/// chadthrottle itself failed; as `env` and `timeout` have it.
pub const FAILED: u8 = 125;
/// The command was found but can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// Of a command that ran shorter it is not said that it moved nothing: perhaps there was nothing to do.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// Programs of the desktop that refuse to run as root, or are of no use as root.
const OF_THE_DESKTOP: [&str; 16] = [
    "brave-browser",
    "chromium",
    "chromium-browser",
    "code",
    "discord",
    "element-desktop",
    "firefox",
    "google-chrome",
    "microsoft-edge",
    "opera",
    "signal-desktop",
    "slack",
    "spotify",
    "steam",
    "vivaldi",
    "vlc",
];

/// The word that a held command waits for.
const GO: [u8; 1] = *b"g";

/// A command that waits until it is let go.
struct Held {
    pid: RawPid,
    word: std::fs::File,
}

impl Held {
    fn start(command: &[OsString], user: Option<&str>, ignored: Vec<i32>) -> anyhow::Result<Self> {
        let (ear, word) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .context("no pipe for the command")?;
        let ear = keep_open_across_exec(ear)?;
        let mut child = Command::new("/proc/self/exe");
        child
            .arg0("chadthrottle")
            .arg("hold")
            .arg(ear.as_raw_fd().to_string())
            .args(user.iter().flat_map(|user| ["--user", *user]))
            .arg("--")
            .args(command);
        // SAFETY: the closure makes system calls only.
        unsafe { child.pre_exec(move || signals::ignore(&ignored)) };
        let child = child.spawn().context("the command can't be started")?;
        let pid = RawPid::from_raw(child.id().cast_signed()).context("no process id")?;
        Ok(Self {
            pid,
            word: word.into(),
        })
    }

    fn pid(&self) -> Pid {
        Pid(self.pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Lets it go. Dropped before, it ends without having run.
    fn go(mut self) -> io::Result<RawPid> {
        self.word.write_all(&GO)?;
        Ok(self.pid)
    }
}

fn keep_open_across_exec(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::fcntl_setfd(&descriptor, FdFlags::empty())?;
    Ok(descriptor)
}

/// Waits for the word on descriptor `ear`, and becomes `command`, as a `user` if one is named. Returns, with
/// an exit code, only if that fails.
pub fn hold(ear: RawFd, user: Option<&str>, command: &[OsString]) -> u8 {
    // SAFETY: the descriptor was opened for this process alone, by the one that started it with
    // its number, and nothing else here knows it.
    let mut ear = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(ear) });
    let mut word = GO.map(|_| 0);
    if ear.read_exact(&mut word).is_err() || word != GO {
        // Who was to limit the command has failed, and said why.
        return FAILED;
    }
    drop(ear);
    let Some((program, arguments)) = command.split_first() else {
        return FAILED;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match user.map(Login::of) {
        Some(Ok(login)) => login.run(&mut command),
        Some(Err(error)) => {
            eprintln!("chadthrottle: {error}");
            return FAILED;
        }
        None => {}
    }
    let error = command.exec();
    eprintln!("chadthrottle: {}: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// Says how a program of the desktop is run as oneself, if it would be as root.
fn tell_of_user(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or(program);
    let of_the_desktop = OF_THE_DESKTOP.iter().any(|known| name == *known);
    if of_the_desktop && Login::of_sudo_caller().is_some() {
        eprintln!(
            "chadthrottle: {} runs as root; to run it as yourself add: --user \"$SUDO_USER\"",
            name.display()
        );
    }
}

/// Runs `command` and all that it starts, as a `user` if one is named, under the rule that `limit` makes for them. Returns its
/// exit code; 128 and the signal's number if a signal ended it, as a shell has it.
///
/// Signals are passed on, but for those that were `ignored` when this process started: the command
/// ignores them, too. Until the command has been let go, `asked_to_end` ends this.
///
/// # Errors
///
/// The command was not started, because it can't be limited, or because of that end.
pub async fn run(
    mut engine: EngineHandle,
    command: &[OsString],
    user: Option<&str>,
    limit: impl FnOnce(Target) -> Rule,
    ignored: Vec<i32>,
    asked_to_end: impl Future<Output = ()>,
) -> anyhow::Result<u8> {
    rustix::process::set_child_subreaper(RawPid::from_raw(1))
        .context("what the command leaves behind can't be followed")?;
    // Before there is a child, so that none of its signals is missed.
    let mut child_changed = signal(SignalKind::child())?;
    let mut signals = Signals::catch(&ignored).context("signals can't be caught")?;
    match (user, command.first()) {
        (Some(user), _) => drop(Login::of(user)?),
        (None, Some(program)) => tell_of_user(program),
        (None, None) => {}
    }
    let held = Held::start(command, user, ignored)?;
    // What it leaves behind descends from this process, and from none of its own any more.
    let rule = limit(Target::Any(vec![
        held.pid().into(),
        Target::Tree(Pid(std::process::id()).into()),
    ]));
    tokio::select! {
        biased;
        () = asked_to_end => anyhow::bail!("asked to end before the command was started"),
        set = engine.ask(EngineCommand::Set(Box::new(rule))) => {
            set.context("the command was not started")?;
        }
    }
    let pid = held.go().context("the command can't be let go")?;
    let began = Instant::now();
    // It was continued together with us, so it has that SIGCONT, which we are still to hear of.
    let mut has_it = false;
    loop {
        tokio::select! {
            _ = child_changed.recv() => {
                let mut change = latest_change(pid)?;
                while let Some(Change::Stopped(signal)) = change && stops_us(signal) {
                    stop()?;
                    change = latest_change(pid)?;
                    has_it = matches!(change, Some(Change::Continued));
                }
                if let Some(Change::Ended(code)) = change {
                    tell_if_nothing_moved(&mut engine, began.elapsed()).await;
                    unsent::see_out(&mut engine, &mut signals).await;
                    tell_who_is_left();
                    return Ok(code);
                }
            }
            received = signals.next() => {
                if received.signal != Signal::CONT.as_raw() || !mem::take(&mut has_it) {
                    received.pass_on(pid);
                }
            }
        }
    }
}

/// What became of the command.
#[derive(Clone, Copy)]
enum Change {
    /// It has ended, with this exit code.
    Ended(u8),
    /// This signal stopped it.
    Stopped(i32),
    Continued,
}

/// Takes in all children that have ended, also those that the command left behind. Returns what
/// happened to the command last, if anything did.
fn latest_change(command: RawPid) -> anyhow::Result<Option<Change>> {
    let mut latest = None;
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) if pid == command => {
                latest = Some(match status.stopping_signal() {
                    Some(signal) => Change::Stopped(signal),
                    None if status.continued() => Change::Continued,
                    None => Change::Ended(exit_code(status)),
                });
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(latest),
            // There is no child any more, so that the command has ended.
            Err(Errno::CHILD) if latest.is_some() => return Ok(latest),
            Err(error) => return Err(error).context("the command's end can't be awaited"),
        }
    }
}

/// Whether we stop when this signal stopped the command. If a terminal's user wants it, his shell
/// waits for us to stop; if somebody held the command alone, he will let it go alone.
fn stops_us(signal: i32) -> bool {
    let by_user = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
    by_user.map(Signal::as_raw).contains(&signal) || is_in_foreground()
}

fn is_in_foreground() -> bool {
    std::fs::File::open("/dev/tty")
        .ok()
        .and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok())
        .is_some_and(|group| group == rustix::process::getpgrp())
}

/// Returns when somebody has continued us.
fn stop() -> io::Result<()> {
    // SAFETY: raise(3) takes no pointers. It stops all threads before it returns.
    match unsafe { libc::raise(libc::SIGSTOP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says so if a command that ran for so long moved nothing by itself: somebody else may have done it for it,
/// without a limit.
async fn tell_if_nothing_moved(engine: &mut EngineHandle, ran: Duration) {
    let nothing = |snapshot: &Snapshot| {
        let idle = |limit: &LimitRow| {
            let is_blocked = |direction| *limit.rule.limits.get(direction) == Some(Rate::ZERO);
            let moved = limit.bytes.download.count() + limit.bytes.upload.count();
            moved == 0 && !Direction::BOTH.into_iter().any(is_blocked)
        };
        !snapshot.limits.is_empty() && snapshot.limits.iter().all(idle)
    };
    if ran < WORTH_TELLING || !nothing(&engine.snapshots.borrow()) {
        return;
    }
    // What it moved since then.
    let latest = tokio::time::timeout(WORTH_TELLING, engine.next_sample()).await;
    if latest.is_ok_and(|latest| latest.is_ok_and(|latest| nothing(&latest))) {
        eprintln!(
            "chadthrottle: the command itself moved nothing; if a service did it for the command (docker, \
             flatpak, snap), limit that: chadthrottle limit --unit or --program"
        );
    }
}

/// Says how many processes go on without a limit when the command has ended.
fn tell_who_is_left() {
    let left = ancestry::descendants(Pid(std::process::id())).len();
    match left {
        0 => {}
        1 => {
            eprintln!("chadthrottle: 1 process that the command started still runs, unlimited now")
        }
        _ => eprintln!(
            "chadthrottle: {left} processes that the command started still run, unlimited now"
        ),
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(FAILED),
    };
    u8::try_from(code).unwrap_or(FAILED)
}
