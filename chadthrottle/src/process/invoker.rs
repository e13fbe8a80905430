//! Who called sudo.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use rustix::{process::Gid, thread::set_thread_groups};
use uzers::os::unix::UserExt as _;

/// A user who called this program by sudo.
#[derive(Debug, PartialEq, Eq)]
pub struct Invoker {
    uid: u32,
    gid: u32,
    name: String,
    home: PathBuf,
}

impl Invoker {
    /// The user who called sudo, from what sudo leaves in the environment; nothing if this is not
    /// root, or root called it.
    pub fn of_sudo() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = |name| env::var(name).ok()?.parse().ok();
        Self::known(number("SUDO_UID")?, number("SUDO_GID")?)
    }

    fn known(uid: u32, gid: u32) -> Option<Self> {
        let user = uzers::get_user_by_uid(uid).filter(|_| uid != 0)?;
        Some(Self {
            uid,
            gid,
            name: user.name().to_string_lossy().into_owned(),
            home: user.home_dir().to_owned(),
        })
    }

    /// Makes `command`, to be executed by this very process, run as the user: with the user's
    /// groups, home and name.
    ///
    /// # Errors
    ///
    /// The kernel's; this process is not to go on then.
    pub fn become_on(&self, command: &mut Command) -> io::Result<()> {
        let groups = uzers::get_user_groups(&self.name, self.gid).unwrap_or_default();
        let groups: Vec<Gid> = groups
            .iter()
            .map(|group| Gid::from_raw(group.gid()))
            .collect();
        set_thread_groups(&groups)?;
        command.gid(self.gid).uid(self.uid);
        command.env("HOME", OsStr::from_bytes(self.home.as_os_str().as_bytes()));
        command.env("USER", &self.name).env("LOGNAME", &self.name);
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"] {
            command.env_remove(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_nobody_to_go_back_to() {
        assert_eq!(Invoker::known(0, 0), None);
        assert_eq!(Invoker::known(4_000_000_000, 1), None);
    }
}
