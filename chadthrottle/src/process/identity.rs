//! Who a process is.

use std::sync::Arc;

use procfs::process::{Process, StatFlags};
use uzers::{Users as _, UsersCache};

use crate::model::process::{Identity, Pid, ProcessKey};

/// Reads identities, remembering user names.
pub struct Identifier {
    users: UsersCache,
}

impl Default for Identifier {
    fn default() -> Self {
        Self {
            users: UsersCache::new(),
        }
    }
}

impl Identifier {
    /// Who has this id now; nothing if nobody has.
    pub fn identify(&self, pid: Pid) -> Option<Identity> {
        let process = Process::new(pid.0.cast_signed()).ok()?;
        let stat = process.stat().ok()?;
        let exe = process
            .exe()
            .map(|path| path.to_string_lossy().into())
            .unwrap_or_default();
        let uid = process.uid().ok();
        Some(Identity {
            key: ProcessKey {
                pid,
                start_time: stat.starttime,
            },
            exe,
            command_line: process
                .cmdline()
                .map(|arguments| arguments.join(" ").into())
                .unwrap_or_default(),
            user: uid.map(|uid| self.user(uid)).unwrap_or_default(),
            uid,
            cgroup: cgroup(&process).unwrap_or_default(),
            kernel_thread: stat
                .flags()
                .is_ok_and(|flags| flags.contains(StatFlags::PF_KTHREAD)),
            name: stat.comm.into(),
        })
    }

    /// What is left to say of a process that was gone before it could be looked at.
    pub fn of_departed(&self, pid: Pid, name: &[u8], uid: u32) -> Identity {
        Identity {
            key: ProcessKey { pid, start_time: 0 },
            name: String::from_utf8_lossy(name).into(),
            exe: Arc::default(),
            command_line: Arc::default(),
            user: self.user(uid),
            uid: Some(uid),
            cgroup: Arc::default(),
            kernel_thread: false,
        }
    }

    fn user(&self, uid: u32) -> Arc<str> {
        match self.users.get_user_by_uid(uid) {
            Some(user) => user.name().to_string_lossy().into(),
            None => uid.to_string().into(),
        }
    }
}

/// A user's number and name, by either; nothing if there is no such name. A number need not have a
/// name.
pub fn user(text: &str) -> Option<(u32, String)> {
    if let Some(user) = uzers::get_user_by_name(text) {
        return Some((user.uid(), text.to_owned()));
    }
    let uid = text.parse().ok()?;
    let name = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
    Some((uid, name.unwrap_or_else(|| text.to_owned())))
}

/// When the process that has this id now was started, as in [`ProcessKey::start_time`].
pub fn start_time(pid: Pid) -> Option<u64> {
    let stat = Process::new(pid.0.cast_signed()).ok()?.stat().ok()?;
    Some(stat.starttime)
}

/// The cgroup v2 path of a process now.
pub fn cgroup_of(pid: Pid) -> Option<Arc<str>> {
    cgroup(&Process::new(pid.0.cast_signed()).ok()?)
}

/// The process's path in the cgroup v2 hierarchy, which has the number 0.
fn cgroup(process: &Process) -> Option<Arc<str>> {
    process
        .cgroups()
        .ok()?
        .into_iter()
        .find(|cgroup| cgroup.hierarchy == 0)
        .map(|cgroup| cgroup.pathname.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_i_am() {
        let me = Identifier::default()
            .identify(Pid(std::process::id()))
            .unwrap();
        assert!(me.key.start_time > 0);
        assert!(!me.kernel_thread && !me.name.is_empty() && me.exe.starts_with('/'));
    }

    #[test]
    fn nobody_and_the_departed() {
        let identifier = Identifier::default();
        assert_eq!(identifier.identify(Pid(5_000_000)), None);
        let gone = identifier.of_departed(Pid(7), b"curl", u32::MAX - 7);
        assert_eq!((&*gone.name, &*gone.user), ("curl", "4294967288"));
    }
}
