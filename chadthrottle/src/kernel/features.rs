//! What the kernel and this process must have.

use std::{fmt, path::Path};

use procfs::process::Process;

/// A kernel release, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KernelVersion {
    /// The oldest kernel that has all that is used: socket storage in cgroup_skb and from user
    /// space, ring buffers, `pidfd_getfd`.
    pub const OLDEST: Self = Self {
        major: 5,
        minor: 10,
    };

    /// Reads a release as `uname -r` prints it; nothing if it does not begin with two numbers.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

/// The running kernel's release.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// A capability that is needed, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    number: u32,
    /// What it is needed for.
    pub needed_for: &'static str,
}

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;

/// The capabilities that are needed; `CAP_SYS_ADMIN` stands for the first two, `CAP_DAC_OVERRIDE`
/// for the last.
pub const CAPABILITIES: [Capability; 5] = [
    Capability {
        name: "CAP_BPF",
        number: 39,
        needed_for: "loading eBPF programs",
    },
    Capability {
        name: "CAP_PERFMON",
        number: 38,
        needed_for: "loading eBPF programs that read packets",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        number: 12,
        needed_for: "attaching to cgroups",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        number: 19,
        needed_for: "finding the sockets of running processes",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        number: CAP_DAC_READ_SEARCH,
        needed_for: "finding those of other users' processes",
    },
];

/// The capabilities that this process does not have.
pub fn missing_capabilities() -> Vec<Capability> {
    let effective = Process::myself()
        .and_then(|me| me.status())
        .map_or(0, |status| status.capeff);
    missing_from(effective)
}

fn missing_from(effective: u64) -> Vec<Capability> {
    let has = |number: u32| effective & (1 << number) != 0;
    CAPABILITIES
        .into_iter()
        .filter(|capability| {
            let by_another = match capability.number {
                38.. => has(CAP_SYS_ADMIN),
                CAP_DAC_READ_SEARCH => has(CAP_DAC_OVERRIDE),
                _ => false,
            };
            !has(capability.number) && !by_another
        })
        .collect()
}

/// Why chadthrottle can't work here; each message says how to get what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Not root.
    #[error("chadthrottle needs root ({0} is missing): run it with sudo")]
    Root(&'static str),
    /// Too old a kernel.
    #[error("Linux {0} is too old: chadthrottle needs {OLDEST} or newer", OLDEST = KernelVersion::OLDEST)]
    Kernel(KernelVersion),
    /// Process ids here are not the kernel's.
    #[error(
        "chadthrottle runs in a PID namespace of its own and can't tell processes apart there. {0}"
    )]
    HostPids(Inside),
    /// cgroup v2 is missing.
    #[error("{0}")]
    CgroupV2(String),
}

/// What has a PID namespace of its own, and how to get out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inside {
    /// A distribution of the Windows Subsystem for Linux.
    #[error(
        "From Windows, `wsl --debug-shell` opens a root shell outside the distribution's; run it there"
    )]
    Wsl,
    /// A toolbox or distrobox container.
    #[error(
        "On the host it sees into containers: `flatpak-spawn --host sudo chadthrottle` from in here"
    )]
    Toolbox,
    /// A container of docker or podman.
    #[error(
        "On the host it sees into containers; in one it needs `--privileged --pid=host --cgroupns=host`"
    )]
    Container,
    /// Something else, as LXC, or `unshare`.
    #[error(
        "Run it on the host, it sees into containers; if this is the host, leave the namespace: \
         `sudo nsenter --target 1 --all chadthrottle` from a shell that sees the host's process 1"
    )]
    Other,
}

impl Inside {
    /// What this process runs in.
    pub fn here() -> Self {
        let is_there = |path: &str| Path::new(path).exists();
        Self::of(
            &kernel_release(),
            is_there("/run/.toolboxenv"),
            is_there("/.dockerenv") || is_there("/run/.containerenv"),
        )
    }

    /// By a kernel's release, and which marks are there.
    fn of(release: &str, toolbox: bool, container: bool) -> Self {
        match (toolbox, container) {
            (true, _) => Self::Toolbox,
            (false, true) => Self::Container,
            (false, false) if release.to_lowercase().contains("microsoft") => Self::Wsl,
            (false, false) => Self::Other,
        }
    }
}

/// The inode of the initial PID namespace (`PROC_PID_INIT_INO` in `linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether process ids in `/proc` are the kernel's own.
pub fn in_initial_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| *link == *INITIAL_PID_NAMESPACE)
}

/// Looks for everything that chadthrottle can't do without.
///
/// # Errors
///
/// The first thing that is missing.
pub fn check() -> Result<(), Missing> {
    check_version(&kernel_release())?;
    if let Some(capability) = missing_capabilities().first() {
        return Err(Missing::Root(capability.name));
    }
    if !in_initial_pid_namespace() {
        return Err(Missing::HostPids(Inside::here()));
    }
    super::cgroup_root()
        .map(|_| ())
        .map_err(|error| Missing::CgroupV2(format!("{error:#}")))
}

/// Checks a release as `uname -r` prints it; one that can't be read is given the benefit of the
/// doubt.
fn check_version(release: &str) -> Result<(), Missing> {
    match KernelVersion::parse(release) {
        Some(version) if version < KernelVersion::OLDEST => Err(Missing::Kernel(version)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_that_of_the_place() {
        for (release, toolbox, container, inside) in [
            ("6.6.87-microsoft-standard-WSL2", false, false, Inside::Wsl),
            (
                "6.6.87-microsoft-standard-WSL2",
                false,
                true,
                Inside::Container,
            ),
            ("6.12.0-fc42", true, true, Inside::Toolbox),
            ("6.12.0-fc42", false, false, Inside::Other),
        ] {
            assert_eq!(Inside::of(release, toolbox, container), inside, "{release}");
        }
    }

    #[test]
    fn releases() {
        for (release, version) in [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("7.2-rc1", Some((7, 2))),
            ("junk", None),
        ] {
            let parsed = KernelVersion::parse(release).map(|v| (v.major, v.minor));
            assert_eq!(parsed, version, "{release}");
        }
    }

    #[test]
    fn an_old_kernel_gets_one_clear_line() {
        let error = check_version("5.4.0-150-generic").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Linux 5.4 is too old: chadthrottle needs 5.10 or newer"
        );
        assert_eq!(check_version("5.10.1"), Ok(()));
        assert_eq!(check_version("who knows"), Ok(()));
    }

    #[test]
    fn capabilities() {
        let names = |bits: u64| -> Vec<_> { missing_from(bits).iter().map(|c| c.name).collect() };
        assert_eq!(names(u64::MAX), [] as [&str; 0]);
        assert_eq!(names(0).len(), 5);
        // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, as before Linux 5.8.
        assert_eq!(names(1 << 21 | 1 << 1), ["CAP_NET_ADMIN", "CAP_SYS_PTRACE"]);
    }
}
