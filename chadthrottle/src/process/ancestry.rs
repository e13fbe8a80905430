//! Who descends from whom.

use procfs::process::Process;

use super::Pid;

/// More generations than a tree of processes has; a bound for ids that are used again while one
/// looks.
const GENERATIONS: usize = 128;

/// The ancestors of a process, its parent first, as far as they are there.
pub fn ancestors(pid: Pid) -> Vec<Pid> {
    let mut ancestors = Vec::new();
    let mut next = parent(pid);
    while let Some(pid) = next
        && ancestors.len() < GENERATIONS
    {
        ancestors.push(pid);
        next = parent(pid);
    }
    ancestors
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = Process::new(pid.0.cast_signed()).ok()?.stat().ok()?;
    (stat.ppid > 0).then_some(Pid(stat.ppid.cast_unsigned()))
}

/// Whether there is a process with this id that has not ended.
pub fn is_alive(pid: Pid) -> bool {
    Process::new(pid.0.cast_signed())
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_descends_from_its_parent() {
        let me = Pid(std::process::id());
        let ancestors = ancestors(me);
        assert_eq!(
            ancestors.first(),
            Some(&Pid(std::os::unix::process::parent_id()))
        );
        assert!(!ancestors.contains(&me));
        assert!(is_alive(me) && !is_alive(Pid(5_000_000)));
    }
}
