//! Through which processes the person sees the terminal: limiting them may cut the person off.

use crate::model::process::{Pid, ProcessKey};
use std::collections::{HashMap, HashSet};

use procfs::process::Process;

use super::ancestry;

/// Terminal multiplexers: their server is nobody's child, and the person sits before a client.
const MULTIPLEXERS: [&str; 4] = ["tmux: server", "tmux", "screen", "zellij"];

#[derive(Clone, Debug)]
struct Known {
    parent: i32,
    start_time: u64,
    name: String,
}

/// This process's ancestors; where a terminal multiplexer is among them, the ancestors of its
/// clients, too. The first process of the system is none of them.
pub fn carriers() -> Vec<ProcessKey> {
    let processes = procfs::process::all_processes();
    let known: HashMap<i32, Known> = processes
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|process: Process| process.stat().ok())
        .map(|stat| {
            let known = Known {
                parent: stat.ppid,
                start_time: stat.starttime,
                name: stat.comm,
            };
            (stat.pid, known)
        })
        .collect();
    let me = std::process::id().cast_signed();
    found(&known, me)
}

fn found(known: &HashMap<i32, Known>, me: i32) -> Vec<ProcessKey> {
    let ancestors = |pid| ancestry::of(pid, |pid| known.get(&pid).map(|known| known.parent));
    let mut found: HashSet<i32> = ancestors(me).collect();
    let multiplexer = |name: &str| MULTIPLEXERS.iter().any(|m| name.eq_ignore_ascii_case(m));
    let inside = found
        .iter()
        .any(|pid| known.get(pid).is_some_and(|known| multiplexer(&known.name)));
    if inside {
        let clients = known
            .iter()
            .filter(|(_, known)| known.name == "tmux: client" || multiplexer(&known.name));
        let before: Vec<i32> = clients.flat_map(|(pid, _)| ancestors(*pid)).collect();
        found.extend(before);
    }
    let mut keys: Vec<ProcessKey> = found
        .into_iter()
        .filter(|pid| *pid > 1)
        .filter_map(|pid| {
            Some(ProcessKey {
                pid: Pid(pid.cast_unsigned()),
                start_time: known.get(&pid)?.start_time,
            })
        })
        .collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(i32, i32, &str)]) -> HashMap<i32, Known> {
        let known = |parent, name: &str| Known {
            parent,
            start_time: 7,
            name: name.to_owned(),
        };
        rows.iter()
            .map(|(pid, parent, name)| (*pid, known(*parent, name)))
            .collect()
    }

    fn pids(known: &HashMap<i32, Known>, me: i32) -> Vec<u32> {
        found(known, me).iter().map(|key| key.pid.0).collect()
    }

    #[test]
    fn a_session_hangs_on_its_ancestors() {
        let known = table(&[
            (1, 0, "systemd"),
            (10, 1, "sshd"),
            (20, 10, "sshd-session"),
            (30, 20, "bash"),
            (40, 30, "sudo"),
            (50, 40, "chadthrottle"),
            (21, 10, "sshd-session"),
            (31, 21, "bash"),
        ]);
        assert_eq!(pids(&known, 50), [10, 20, 30, 40]);
    }

    #[test]
    fn in_a_multiplexer_it_hangs_on_the_clients() {
        let known = table(&[
            (1, 0, "systemd"),
            (10, 1, "sshd"),
            (20, 10, "sshd-session"),
            (30, 20, "tmux: client"),
            (60, 1, "tmux: server"),
            (61, 60, "bash"),
            (62, 61, "chadthrottle"),
        ]);
        assert_eq!(pids(&known, 62), [10, 20, 60, 61]);
    }

    #[test]
    fn a_circle_ends() {
        let known = table(&[(10, 20, "a"), (20, 10, "b")]);
        assert_eq!(pids(&known, 10), [10, 20]);
    }

    #[test]
    fn the_test_itself_has_ancestors() {
        assert!(!carriers().is_empty());
    }
}
