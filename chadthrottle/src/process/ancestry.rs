//! Who descends from whom.

use super::descriptors;
use crate::model::process::Pid;
use procfs::process::Process;

/// More generations than a tree of processes has; a bound for ids that are used again while one
/// looks.
const GENERATIONS: usize = 128;

/// The ancestors of a process, its parent first, as far as they are there.
pub fn ancestors(pid: Pid) -> Vec<Pid> {
    let parent = |pid| Some(Process::new(pid).ok()?.stat().ok()?.ppid);
    let ancestors = of(pid.0.cast_signed(), parent);
    ancestors.map(|pid| Pid(pid.cast_unsigned())).collect()
}

/// The same, with parents from wherever they are known. The kernel is nobody's parent here.
pub fn of(pid: i32, parent: impl Fn(i32) -> Option<i32>) -> impl Iterator<Item = i32> {
    let parent = move |pid: &i32| parent(*pid).filter(|parent| *parent > 0);
    std::iter::successors(parent(&pid), parent).take(GENERATIONS)
}

/// The descendants of a process that have not ended.
pub fn descendants(pid: Pid) -> Vec<Pid> {
    (descriptors::all_processes().into_iter())
        .filter(|other| ancestors(*other).contains(&pid) && is_alive(*other))
        .collect()
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

    #[test]
    fn a_child_descends_from_this_process_until_it_ends() {
        let me = Pid(std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid(child.id());
        assert!(descendants(me).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(me).contains(&pid));
    }
}
