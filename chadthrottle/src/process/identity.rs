//! Who a process is.

use std::{fs::File, io::Read as _, sync::Arc};

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
            command_line: command_line(pid).unwrap_or_default(),
            user: uid.map(|uid| self.user(uid)).unwrap_or_default(),
            uid,
            cgroup: cgroup_of(pid).unwrap_or_default(),
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

    /// The processes of a user and cgroup that are not told apart.
    pub fn of_crowd(&self, uid: u32, cgroup: &str) -> Identity {
        Identity {
            cgroup: cgroup.into(),
            ..self.of_departed(Pid(0), b"(others)", uid)
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

/// Whether a process has ended, with all its threads, and its parent has not asked for its exit status.
pub fn is_zombie(pid: Pid) -> bool {
    let stat = Process::new(pid.0.cast_signed()).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state == 'Z' && stat.num_threads <= 1)
}

/// The process that a thread is of; of what is none, the same id.
pub fn process_of(pid: Pid) -> Pid {
    let status = Process::new(pid.0.cast_signed()).and_then(|process| process.status());
    status.map_or(pid, |status| Pid(status.tgid.cast_unsigned()))
}

/// The arguments, joined by spaces. They are bytes: what is not UTF-8 is replaced.
fn command_line(pid: Pid) -> Option<Arc<str>> {
    let bytes = read(pid, "cmdline")?;
    let arguments = bytes.split(|byte| *byte == 0);
    let arguments: Vec<_> = arguments
        .filter(|argument| !argument.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    Some(arguments.join(" ").into())
}

/// The path of a process in the cgroup v2 hierarchy, which has the number 0, now; as far as it is
/// UTF-8.
pub fn cgroup_of(pid: Pid) -> Option<Arc<str>> {
    let bytes = read(pid, "cgroup")?;
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    Some(readable(path).into())
}

/// A path, or the nearest above it that is UTF-8.
fn readable(path: &[u8]) -> &str {
    let valid = match str::from_utf8(path) {
        Ok(path) => return path,
        Err(error) => &path[..error.valid_up_to()],
    };
    let valid = str::from_utf8(valid).unwrap_or_default();
    match valid.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((above, _)) => above,
    }
}

/// More than arguments are by default, of which the kernel allows a quarter of the stack's limit: execve(2).
const MOST: u64 = 4 << 20;

/// A file of a process; of what is larger, the beginning.
fn read(pid: Pid, file: &str) -> Option<Vec<u8>> {
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    // Nearly all fit in here; these files don't say how large they are.
    let mut bytes = Vec::with_capacity(1024);
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
    fn a_thread_is_of_its_process() {
        let me = Pid(std::process::id());
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(Pid(id.cast_unsigned())).unwrap();
            let _ = ended.recv();
        });
        let id = told.recv().unwrap();
        assert_ne!(id, me);
        assert_eq!((process_of(id), process_of(me)), (me, me));
        assert_eq!(process_of(Pid(5_000_000)), Pid(5_000_000));
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn of_a_path_that_is_not_utf_8_the_part_above_is_known() {
        for (path, known) in [
            (&b"/a/b"[..], "/a/b"),
            (b"/a/caf\xe9/b", "/a"),
            (b"/caf\xe9", "/"),
            (b"/a/b/\xe9", "/a/b"),
        ] {
            assert_eq!(readable(path), known);
        }
    }

    #[test]
    fn arguments_need_not_be_utf_8() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process};
        let mut child = process::Command::new("sh")
            .args(["-c", "echo; read line"])
            .arg(OsStr::from_bytes(b"caf\xe9.iso"))
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its arguments are there when it runs.
        let mut said = [0];
        child.stdout.take().unwrap().read_exact(&mut said).unwrap();
        let identity = Identifier::default().identify(Pid(child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let shown = "sh -c echo; read line caf\u{fffd}.iso";
        assert_eq!(&*identity.command_line, shown);
    }

    #[test]
    fn nobody_and_the_departed() {
        let identifier = Identifier::default();
        assert_eq!(identifier.identify(Pid(5_000_000)), None);
        let gone = identifier.of_departed(Pid(7), b"curl", u32::MAX - 7);
        assert_eq!((&*gone.name, &*gone.user), ("curl", "4294967288"));
    }
}
