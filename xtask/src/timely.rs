//! Runs a program that prints lines, and ends it and all its children when its time is over.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::privilege::{Ask, as_root};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Itself(ExitStatus),
    /// It was killed, and its children with it.
    OutOfTime,
}

/// Runs a command and hands on its lines as they come, for no longer than `patience`.
///
/// # Errors
///
/// It cannot be started, or cannot be ended.
pub fn run(command: &mut Command, patience: Duration, mut line: impl FnMut(&str)) -> Result<End> {
    let deadline = Instant::now() + patience;
    let mut child = (command.stdout(Stdio::piped()).spawn()).context("cannot start it")?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let lines = read(stdout);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(text) => line(&text),
            // It may have closed its output and go on.
            Err(RecvTimeoutError::Disconnected) => match wait(&mut child, deadline)? {
                Some(status) => return Ok(End::Itself(status)),
                None => break,
            },
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    kill(&mut child)?;
    // What it had said; not what a process that escaped may say.
    for text in lines.try_iter() {
        line(&text);
    }
    Ok(End::OutOfTime)
}

fn read(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into()).is_err() {
                return;
            }
        }
    });
    lines
}

fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait().context("cannot wait for it")?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Kills a child and its descendants, as root if that is within reach: they may have been started
/// through sudo.
fn kill(child: &mut Child) -> Result<()> {
    for _ in 0..100 {
        // Found before their parents die and they get another. What is started meanwhile has a
        // dead parent, or is found next time.
        let mut doomed = descendants(child.id(), &parents());
        if child.try_wait().context("cannot wait for it")?.is_none() {
            doomed.push(child.id());
        }
        if doomed.is_empty() {
            return Ok(());
        }
        const NO_MORE: &[(&str, &str)] = &[];
        let mut kill = as_root("kill", Ask::Never, NO_MORE).unwrap_or_else(|| Command::new("kill"));
        kill.arg("-KILL").args(doomed.iter().map(u32::to_string));
        // Some may have ended by themselves.
        let _status = kill.stderr(Stdio::null()).status();
        thread::sleep(Duration::from_millis(20));
    }
    bail!("process {} can't be killed", child.id())
}

/// All processes, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // proc(5): pid (name) state parent …; the name may hold anything.
            let (_, rest) = stat.rsplit_once(") ")?;
            let (state, parent) = rest.split_once(' ')?;
            let (parent, _) = parent.split_once(' ')?;
            (state != "Z").then_some((pid, parent.parse().ok()?))
        })
        .collect()
}

/// The children of `root`, their children and so on.
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = (parents.iter()).filter(|(pid, its)| *its == parent && *pid != root);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_ends_has_its_lines_and_status() -> Result<()> {
        let mut lines = Vec::new();
        let mut script = shell("echo one; echo two; exit 3");
        let end = run(&mut script, Duration::from_secs(60), |line| {
            lines.push(line.to_owned());
        })?;
        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(end, End::Itself(status) if status.code() == Some(3)));
        Ok(())
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() -> Result<()> {
        for script in [
            "echo $$; sleep 600 & echo $!; wait",
            // Silent, and out of reach of the pipe.
            "echo $$; sleep 600 >/dev/null & echo $!; exec >/dev/null; wait",
        ] {
            let mut pids = Vec::new();
            let end = run(&mut shell(script), Duration::from_millis(300), |line| {
                pids.push(line.to_owned());
            })?;
            assert_eq!(end, End::OutOfTime);
            assert_eq!(pids.len(), 2, "{pids:?}");
            let alive = parents();
            for pid in pids {
                let pid: u32 = pid.parse()?;
                assert!(!alive.iter().any(|(it, _)| *it == pid), "{pid} lives");
            }
        }
        Ok(())
    }

    #[test]
    fn descendants_are_children_and_theirs() {
        let parents = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 7)];
        assert_eq!(descendants(5, &parents), [6, 7, 9]);
        assert!(descendants(9, &parents).is_empty());
    }
}
