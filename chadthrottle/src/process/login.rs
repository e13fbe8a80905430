//! Users that commands run as: who called sudo, or whoever is named.

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

/// What belongs to the graphical session of whoever called sudo, and to nobody else.
const GRAPHICAL_SESSION: [&str; 4] = [
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// There is no such user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no user '{0}' on this machine; type a name or a number")]
pub struct NoSuchUser(String);

/// A user, with what a login gives.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    uid: u32,
    gid: u32,
    name: String,
    home: PathBuf,
    shell: PathBuf,
}

impl Login {
    /// The user with this name or number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn of(user: &str) -> Result<Self, NoSuchUser> {
        let by_name = uzers::get_user_by_name(user);
        let found = by_name.or_else(|| uzers::get_user_by_uid(user.parse().ok()?));
        let found = found.ok_or_else(|| NoSuchUser(user.to_owned()))?;
        Ok(Self::from_entry(&found, found.primary_group_id()))
    }

    fn from_entry(user: &uzers::User, gid: u32) -> Self {
        Self {
            uid: user.uid(),
            gid,
            name: user.name().to_string_lossy().into_owned(),
            home: user.home_dir().to_owned(),
            shell: user.shell().to_owned(),
        }
    }

    /// The user who called sudo, from what sudo leaves in the environment; nothing if this is not
    /// root, or root called it.
    pub fn of_sudo_caller() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = |name| env::var(name).ok()?.parse().ok();
        Self::known(number("SUDO_UID")?, number("SUDO_GID")?)
    }

    fn known(uid: u32, gid: u32) -> Option<Self> {
        let user = uzers::get_user_by_uid(uid).filter(|_| uid != 0)?;
        Some(Self::from_entry(&user, gid))
    }

    /// The user's and group's numbers.
    pub fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }

    /// Makes `command` run as the user: with the user's groups, home, name and shell; with the graphical
    /// session if it is the user's own.
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
        command.env("SHELL", &self.shell);
        if Self::of_sudo_caller().is_none_or(|caller| caller.uid != self.uid) {
            for name in GRAPHICAL_SESSION {
                command.env_remove(name);
            }
        }
        let runtime = PathBuf::from(format!("/run/user/{}", self.uid));
        if runtime.is_dir() {
            command.env("XDG_RUNTIME_DIR", runtime);
        } else {
            command.env_remove("XDG_RUNTIME_DIR");
        }
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
        let user = Login {
            uid: 4242,
            gid: 4243,
            name: "nobody-has-this-name".to_owned(),
            home: "/nowhere".into(),
            shell: "/bin/none".into(),
        };
        let mut command = Command::new("sh");
        command.env("DISPLAY", ":0");
        command.args(["-c", "id -u; id -G; echo $HOME $SHELL $DISPLAY"]);
        user.run(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "4242\n4243\n/nowhere /bin/none\n");
    }

    #[test]
    fn root_is_nobody_to_go_back_to() {
        assert_eq!(Login::known(0, 0), None);
        assert_eq!(Login::known(4_000_000_000, 1), None);
    }

    #[test]
    fn users_go_by_name_and_by_number() {
        let root = Login::of("root").unwrap();
        assert_eq!(Login::of("0"), Ok(root));
        for none in ["nobody-has-this-name", "4000000000", ""] {
            assert_eq!(Login::of(none), Err(NoSuchUser(none.to_owned())));
        }
    }
}
