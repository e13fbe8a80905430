//! Who called sudo.

use std::{
    env,
    ffi::OsStr,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
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

    /// The user's and group's numbers.
    pub fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }

    /// Makes `command` run as the user: with the user's groups, home and name.
    pub fn run(&self, command: &mut Command) {
        let groups = uzers::get_user_groups(&self.name, self.gid).unwrap_or_default();
        let groups: Vec<Gid> = groups
            .iter()
            .map(|group| Gid::from_raw(group.gid()))
            .collect();
        let (uid, gid) = self.owner();
        // Command::uid would take all groups away, and nothing may follow it.
        //
        // SAFETY: the closure makes system calls only; after fork they concern the one thread that
        // there is.
        unsafe {
            command.pre_exec(move || {
                set_thread_groups(&groups)?;
                set_thread_gid(gid)?;
                Ok(set_thread_uid(uid)?)
            });
        }
        command.env("HOME", OsStr::from_bytes(self.home.as_os_str().as_bytes()));
        command.env("USER", &self.name).env("LOGNAME", &self.name);
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"] {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_users_rights_and_no_others() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // Of this thread alone. They must not be the command's.
        set_thread_groups(&[Gid::from_raw(4244)]).unwrap();
        // Each user has a primary group, and here no other.
        let user = Invoker {
            uid: 4242,
            gid: 4243,
            name: "nobody-has-this-name".to_owned(),
            home: "/nowhere".into(),
        };
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -G; echo $HOME"]);
        user.run(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "4242\n4243\n/nowhere\n");
    }

    #[test]
    fn root_is_nobody_to_go_back_to() {
        assert_eq!(Invoker::known(0, 0), None);
        assert_eq!(Invoker::known(4_000_000_000, 1), None);
    }
}
