//! `chadthrottle run`: starts a command that is limited from its first byte.
//!
//! The command is started held: a copy of this program waits for a word on its pipe, gives up
//! root, and becomes the command only when the limit is in force. Whatever the command starts and
//! leaves behind becomes a child of this process (`PR_SET_CHILD_SUBREAPER`), so that it stays
//! known as a descendant.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use anyhow::Context as _;
use rustix::{
    io::FdFlags,
    process::{Pid as RawPid, Signal, WaitOptions, WaitStatus},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    engine::{
        command::{Command as EngineCommand, EngineHandle},
        snapshot::Limits,
    },
    process::{Pid, invoker::Invoker},
    rules::{
        rule::{Rule, Scope, Sharing},
        target::Target,
    },
};

/// chadthrottle itself failed; as `env` and `timeout` have it.
pub const FAILED: u8 = 125;
/// The command was found but can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// The word that a held command waits for.
const GO: [u8; 1] = *b"g";

/// A command that waits until it is let go.
struct Held {
    pid: RawPid,
    word: std::fs::File,
}

impl Held {
    fn start(command: &[OsString]) -> anyhow::Result<Self> {
        let (ear, word) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .context("no pipe for the command")?;
        let ear = keep_open_across_exec(ear)?;
        let child = Command::new("/proc/self/exe")
            .arg0("chadthrottle")
            .arg("hold")
            .arg(ear.as_raw_fd().to_string())
            .arg("--")
            .args(command)
            .spawn()
            .context("the command can't be started")?;
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

/// Waits for the word on descriptor `ear`, gives up root for the user who called sudo, and becomes
/// `command`. Returns, with an exit code, only if that fails.
pub fn hold(ear: RawFd, command: &[OsString]) -> u8 {
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
    if let Some(invoker) = Invoker::of_sudo() {
        invoker.run(&mut command);
    }
    let error = command.exec();
    eprintln!("chadthrottle: {}: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// Runs `command` and all that it starts under `limits`, which they share, or have each. Returns
/// its exit code; 128 and the signal's number if a signal ended it, as a shell has it.
///
/// # Errors
///
/// The command was not started, because it can't be limited.
pub async fn run(
    engine: EngineHandle,
    command: &[OsString],
    limits: Limits,
    scope: Scope,
    sharing: Sharing,
) -> anyhow::Result<u8> {
    rustix::process::set_child_subreaper(RawPid::from_raw(1))
        .context("what the command leaves behind can't be followed")?;
    // Before there is a child, so that none of its signals is missed.
    let mut child_ended = signal(SignalKind::child())?;
    // The terminal sends these to the command, too: it decides what they mean.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let held = Held::start(command)?;
    let rule = Rule {
        scope,
        sharing,
        // What it leaves behind descends from this process, and from none of its own any more.
        ..Rule::by_hand(
            Target::Any(vec![
                held.pid().into(),
                Target::Tree(Pid(std::process::id()).into()),
            ]),
            limits,
        )
    };
    engine
        .ask(EngineCommand::Set(Box::new(rule)))
        .await
        .context("the command was not started")?;
    let pid = held.go().context("the command can't be let go")?;
    loop {
        tokio::select! {
            _ = child_ended.recv() => {
                if let Some(code) = reap(pid)? {
                    return Ok(code);
                }
            }
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => pass_on(pid, Signal::TERM),
            _ = hang_up.recv() => pass_on(pid, Signal::HUP),
        }
    }
}

fn pass_on(pid: RawPid, signal: Signal) {
    if let Err(error) = rustix::process::kill_process(pid, signal) {
        log::debug!("{signal:?} was not passed on: {error}");
    }
}

/// Takes in all children that have ended, also those that the command left behind. Returns the
/// exit code of the command, if it is among them.
fn reap(command: RawPid) -> anyhow::Result<Option<u8>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => return Ok(Some(exit_code(status))),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error).context("the command's end can't be awaited"),
        }
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
