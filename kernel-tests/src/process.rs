//! Child processes that end with their owner.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::BorrowedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{
        Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper,
        set_parent_process_death_signal, waitpid,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{cgroup::Cgroup, moment::Moment, outcome::patience};

/// Where a process starts.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    /// Its network namespace, if not ours.
    pub network: Option<BorrowedFd<'a>>,
    /// Its cgroup, if not ours.
    pub cgroup: Option<&'a Cgroup>,
}

/// A line of a process's standard output.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub arrived: Moment,
    /// Without the line end.
    pub text: String,
}

/// A child process. When dropped it is killed and waited for, and so are its own children and theirs; it also dies
/// with the thread that started it.
pub struct Process {
    name: String,
    /// Whether it is chadthrottle.
    is_ours: bool,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    errors: Arc<Mutex<String>>,
    error_reader: Option<JoinHandle<()>>,
}

/// So long after a process's end its last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Process {
    /// Starts a command in its place.
    pub fn start(mut command: Command, place: Place<'_>) -> Result<Self> {
        let name = format!("{command:?}");
        let is_ours = Path::new(command.get_program()).ends_with("chadthrottle");
        // Some processes fork; who is left of them when they are killed is ours to wait for, not
        // init's.
        set_child_subreaper(Some(getpid()))?;
        let members: Option<File> = place
            .cgroup
            .map(|cgroup| {
                OpenOptions::new()
                    .write(true)
                    .open(cgroup.members_file())
                    .context("can't open the cgroup")
            })
            .transpose()?;
        let network = place
            .network
            .map(|network| network.try_clone_to_owned())
            .transpose()?;
        // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing
        // and takes no lock.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if let Some(mut members) = members.as_ref() {
                    // 0 is the writer itself.
                    members.write_all(b"0")?;
                }
                if let Some(network) = &network {
                    move_into_link_name_space(
                        std::os::fd::AsFd::as_fd(network),
                        Some(LinkNameSpaceType::Network),
                    )?;
                }
                Ok(())
            });
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let (sender, lines) = channel();
        let errors = Arc::new(Mutex::new(String::new()));
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for text in BufReader::new(output).lines().map_while(Result::ok) {
                    let arrived = Moment::now();
                    if sender.send(Line { arrived, text }).is_err() {
                        return;
                    }
                }
            });
        }
        let error_reader = child.stderr.take().map(|mut output| {
            let errors = Arc::clone(&errors);
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = output.read(&mut chunk) {
                    let text = String::from_utf8_lossy(&chunk[..length]);
                    errors
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_str(&text);
                }
            })
        });
        Ok(Self {
            name,
            is_ours,
            input: child.stdin.take(),
            child,
            lines,
            errors,
            error_reader,
        })
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line, or nothing when it closed its output.
    pub fn line(&self, patience: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!(
                "no line within {patience:?} from {}; it said: {}",
                self.name,
                self.errors()
            ),
        }
    }

    /// The lines that are there and were not taken yet.
    pub fn waiting_lines(&self) -> impl Iterator<Item = Line> {
        self.lines.try_iter()
    }

    /// What it wrote to standard error so far.
    pub fn errors(&self) -> String {
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "{line}").with_context(|| format!("can't write to {}", self.name))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("can't signal {}", self.name))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end. Afterwards [`Self::errors`] is complete, unless a child that it left holds its output open.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let ended = Instant::now();
                let reads = |reader: &JoinHandle<()>| !reader.is_finished();
                while self.error_reader.as_ref().is_some_and(reads) && ended.elapsed() < LAST_WORDS
                {
                    thread::sleep(Duration::from_millis(2));
                }
                return Ok(status);
            }
            if start.elapsed() > patience {
                bail!("still there after {patience:?}: {}", self.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut descendants = if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            descendants_of(self.pid())
        } else {
            Vec::new()
        };
        // Not yet waited for, so the PID is still its own.
        let _ = self.child.kill();
        let ended = self.child.wait();
        // Its children are ours now, because we adopt orphans, and theirs are when these are gone.
        loop {
            let ours = |pid: &Pid| parent_of(*pid) == Some(std::process::id());
            let (orphans, others): (Vec<Pid>, Vec<Pid>) = descendants.into_iter().partition(ours);
            if orphans.is_empty() {
                break;
            }
            // All before any is waited for: one may wait for another to end.
            for orphan in &orphans {
                let _ = kill_process(*orphan, Signal::KILL);
            }
            for orphan in orphans {
                let _ = waitpid(Some(orphan), WaitOptions::empty());
            }
            descendants = others;
        }
        // What a test saw afterwards, it saw without the program that it is about.
        if self.is_ours
            && !thread::panicking()
            && let Ok(Some(signal)) = ended.map(|status| status.signal())
            && CRASHES.iter().any(|crash| crash.as_raw() == signal)
        {
            panic!("{} crashed: {}", self.name, self.errors());
        }
    }
}

/// The signals of a program that can't go on. No test sends them.
const CRASHES: [Signal; 4] = [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL];

/// PIDs of a process's children and theirs, dead ones too, parents first.
fn descendants_of(pid: u32) -> Vec<Pid> {
    let mut found = children_of(pid);
    let mut looked = 0;
    while let Some(pid) = found
        .get(looked)
        .map(|pid| pid.as_raw_nonzero().get() as u32)
    {
        found.extend(children_of(pid));
        looked += 1;
    }
    found
}

/// The PID of a process's parent; nothing if the process has gone.
fn parent_of(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// PIDs of a process's children, dead ones too.
fn children_of(pid: u32) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Runs a command to its end and returns its output; an error if it failed.
pub fn run(mut command: Command, input: &str, place: Place<'_>) -> Result<String> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped());
    let mut process = Process::start(command, place)?;
    if let Some(mut stdin) = process.input.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let mut output = String::new();
    while let Some(line) = process.line(patience())? {
        output.push_str(&line.text);
        output.push('\n');
    }
    let status = process.wait(patience())?;
    if !status.success() {
        bail!(
            "{name}: {} (signal {:?}): {}",
            status,
            status.signal(),
            process.errors()
        );
    }
    Ok(output)
}

/// The traffic program as a user, by number, with the right to choose a congestion control. It can't
/// go to another namespace itself, which is done before.
pub fn as_user(uid: &str, job: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", uid, "--clear-groups"]);
    command.args(["--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--"]);
    command.arg(job.get_program()).args(job.get_args());
    command
}
