//! Signals for a command, as they come to the process that started it.
//!
//! What the terminal's driver sends (Ctrl-C, Ctrl-\, Ctrl-Z, a new size) goes to the whole process
//! group, so the command has it already. What a process sends is for the command.

use std::{io, thread};

use libc::c_int;
use rustix::process::{Pid as RawPid, getpid, getsid};
use signal_hook::{
    consts::{FORBIDDEN, SIGBUS, SIGCHLD, SIGHUP, SIGPIPE, SIGSYS, SIGTRAP},
    iterator::{Handle, SignalsInfo, exfiltrator::WithRawSiginfo},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What a process brings upon itself, apart from those that can't be caught: a handler that
/// returned would only meet the same fault again. And the end of children, which is ours.
const NOT_FOR_THE_COMMAND: [c_int; 4] = [SIGBUS, SIGTRAP, SIGSYS, SIGCHLD];

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: c_int,
    /// The process that sent it; none if the kernel did by itself, for the terminal's driver.
    pub sender: Option<c_int>,
}

impl Received {
    fn new(info: &libc::siginfo_t) -> Self {
        let by_process = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL];
        let sender = by_process.contains(&info.si_code).then(|| {
            // SAFETY: these three codes say that the sender's id is filled in (sigaction(2)).
            unsafe { info.si_pid() }
        });
        Self {
            signal: info.si_signo,
            sender,
        }
    }

    /// Whether the command has yet to hear of it.
    fn is_news_for(self, command: RawPid, this: RawPid, leads_session: bool) -> bool {
        match self.sender {
            // It knows what it did, `kill 0` for example. What we do to ourselves is ours (a
            // write to a closed pipe).
            Some(sender) => ![command, this]
                .map(|pid| pid.as_raw_nonzero().get())
                .contains(&sender),
            // The end of a terminal is told to the leader of its session alone.
            None => self.signal == SIGHUP && leads_session,
        }
    }

    /// Sends it to the command too, if it was not sent to it already. The command must not have
    /// been waited for.
    pub fn pass_on(self, command: RawPid) {
        let leads_session = getsid(None).is_ok_and(|leader| leader == getpid());
        if self.is_news_for(command, getpid(), leads_session) {
            // SAFETY: kill(2) takes no pointers.
            if unsafe { libc::kill(command.as_raw_nonzero().get(), self.signal) } != 0 {
                let error = io::Error::last_os_error();
                log::debug!("signal {} was not passed on: {error}", self.signal);
            }
        }
    }
}

/// Signals that whoever started this process wants ignored, as nohup does SIGHUP and a shell
/// SIGINT of what it starts with `&`. To be asked before anything is done about signals here.
pub fn ignored() -> Vec<c_int> {
    let is_ignored = |signal: &c_int| {
        // SAFETY: a zeroed sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: nothing is set; what is read goes where there is room for it.
        let read = unsafe { libc::sigaction(*signal, std::ptr::null(), &raw mut action) };
        read == 0 && action.sa_sigaction == libc::SIG_IGN
    };
    // Of a broken pipe the Rust runtime decides before we can ask; commands get the default.
    let asked = passed_on().filter(|signal| *signal != SIGPIPE);
    asked.filter(is_ignored).collect()
}

/// Makes this process ignore signals. Between fork and exec this is allowed.
pub fn ignore(signals: &[c_int]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: no handler of ours is installed.
        if unsafe { libc::signal(*signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// All that can be passed on, the real-time signals too.
fn passed_on() -> impl Iterator<Item = c_int> {
    let ordinary = 1..libc::SIGSYS + 1;
    let ordinary = ordinary
        .filter(|signal| !FORBIDDEN.contains(signal) && !NOT_FOR_THE_COMMAND.contains(signal));
    ordinary.chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// The signals that come to this process.
pub struct Signals {
    received: UnboundedReceiver<Received>,
    handle: Handle,
}

impl Signals {
    /// Catches all that can be passed on, but for those that are to be ignored.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn catch(ignored: &[c_int]) -> io::Result<Self> {
        let caught = passed_on().filter(|signal| !ignored.contains(signal));
        let mut signals = SignalsInfo::<WithRawSiginfo>::new(caught)?;
        let handle = signals.handle();
        let (sender, received) = unbounded_channel();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for info in signals.forever() {
                    if sender.send(Received::new(&info)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { received, handle })
    }

    /// The next one.
    pub async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            // The thread ends only with this.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGWINCH};

    #[test]
    fn the_command_hears_what_it_has_not_heard() {
        let pid = |pid| RawPid::from_raw(pid).unwrap();
        let (command, this, other) = (pid(20), pid(10), 30);
        for (signal, sender, leads_session, news) in [
            (SIGINT, Some(other), false, true),
            (SIGUSR1, Some(other), true, true),
            // kill from another PID namespace has no id.
            (SIGTERM, Some(0), false, true),
            (SIGTERM, Some(20), false, false),
            (SIGPIPE, Some(10), false, false),
            (SIGINT, None, false, false),
            (SIGINT, None, true, false),
            (SIGWINCH, None, true, false),
            (SIGHUP, None, false, false),
            (SIGHUP, None, true, true),
        ] {
            let received = Received { signal, sender };
            assert_eq!(
                received.is_news_for(command, this, leads_session),
                news,
                "{received:?}"
            );
        }
    }

    #[test]
    fn what_a_process_brings_upon_itself_is_not_caught() {
        let all: Vec<c_int> = passed_on().collect();
        for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, SIGBUS, SIGCHLD] {
            assert!(!all.contains(&signal), "{signal}");
        }
        for signal in [
            SIGINT,
            SIGWINCH,
            libc::SIGTSTP,
            libc::SIGALRM,
            libc::SIGRTMAX(),
        ] {
            assert!(all.contains(&signal), "{signal}");
        }
    }
}
