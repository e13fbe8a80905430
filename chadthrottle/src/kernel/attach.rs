//! Where programs are attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, cgroup_skb::CgroupSkbLink,
        cgroup_sock::CgroupSockLink,
    },
};
use chadthrottle_common::{
    names::{
        PROGRAM_COUNT_EGRESS, PROGRAM_COUNT_INGRESS, PROGRAM_EGRESS, PROGRAM_INGRESS, PROGRAM_TRACK,
    },
    traffic::Direction,
};

use super::object;
use crate::process::mounts;

/// Since Linux 5.7 aya attaches with `bpf_link_create`, whose flags must be 0: `AllowMultiple`
/// would fail with EINVAL. A link never excludes other programs, so nothing is lost.
pub(super) const MODE: CgroupAttachMode = CgroupAttachMode::Single;

/// Set, the throttle pair goes to the cgroup root at once, to tell trouble with attaching from
/// trouble with matching.
const TEST_ROOT_CGROUP: &str = "CHADTHROTTLE_TEST_ROOT_CGROUP";

/// Where cgroup v2 is mounted, from `/proc/self/mountinfo`; on hybrid machines that is not
/// `/sys/fs/cgroup`. Where it is not, or hidden from this process, as `ip netns exec` does with all that is below
/// `/sys`, it is mounted for this process alone.
///
/// # Errors
///
/// There is no such mount.
pub fn cgroup_root() -> anyhow::Result<PathBuf> {
    // Of several (containers bind parts of it), the one that shows the hierarchy's root.
    let best = |mounts: Vec<mounts::Mount>| {
        let best = (mounts.into_iter()).min_by_key(|mount| mount.root.as_os_str().len());
        best.map(|mount| mount.point)
    };
    let ours = mounts::of_type("cgroup2").context("/proc/self/mountinfo can't be read")?;
    if let Some(point) = best(ours) {
        return Ok(point);
    }
    // For as long as this program runs.
    static OWN: OnceLock<OwnedFd> = OnceLock::new();
    let own = match OWN.get() {
        Some(own) => own,
        None => {
            let own = mounts::detached("cgroup2").context(
                "cgroup v2 is not mounted; mount it with: mount -t cgroup2 none /sys/fs/cgroup/unified",
            )?;
            OWN.get_or_init(|| own)
        }
    };
    Ok(format!("/proc/self/fd/{}", own.as_raw_fd()).into())
}

/// A throttle pair at one cgroup; dropping it detaches it.
struct ThrottlePair {
    /// The inode of the cgroup, by which it is told from one that is made in its place.
    inode: u64,
    _ingress: CgroupSkbLink,
    _egress: CgroupSkbLink,
}

impl ThrottlePair {
    /// Whether it is at the cgroup that has this path now.
    fn is_at(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|there| there.ino() == self.inode)
    }
}

/// Everything that is attached.
pub(super) struct Attachments {
    root: PathBuf,
    at_root: bool,
    observers: Vec<CgroupSkbLink>,
    tracker: Option<CgroupSockLink>,
    pairs: BTreeMap<PathBuf, ThrottlePair>,
}

impl Attachments {
    pub(super) fn new(root: PathBuf) -> Self {
        let at_root = std::env::var_os(TEST_ROOT_CGROUP).is_some_and(|value| value == "1");
        Self {
            root,
            at_root,
            observers: Vec::new(),
            tracker: None,
            pairs: BTreeMap::new(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Attaches the observers at the root. The tracker comes first, so that no socket is made
    /// between the scan of old sockets and the tagging of new ones.
    pub(super) fn observe(&mut self, ebpf: &mut Ebpf) -> anyhow::Result<()> {
        let cgroup = open(&self.root)?;
        let tracker = object::tracker(ebpf)?;
        let link = tracker
            .attach(&cgroup, MODE)
            .and_then(|id| tracker.take_link(id))
            .with_context(|| refused(PROGRAM_TRACK, &self.root))?;
        self.tracker = Some(link);
        log::debug!(
            "Attached {PROGRAM_TRACK} to {:?} with mode: {MODE:?}",
            self.root
        );
        for direction in Direction::BOTH {
            let name = match direction {
                Direction::Download => PROGRAM_COUNT_INGRESS,
                Direction::Upload => PROGRAM_COUNT_EGRESS,
            };
            self.observers
                .push(attach(ebpf, name, direction, &cgroup, &self.root)?);
        }
        Ok(())
    }

    /// Whether a pair is at each of these cgroups, or above it.
    pub(super) fn cover(&self, cgroups: &BTreeSet<PathBuf>) -> bool {
        all_below(cgroups, |cgroup| {
            let pair = self.pairs.get(cgroup);
            pair.is_some_and(|pair| pair.is_at(&below(&self.root, cgroup)))
        })
    }

    /// Makes the pairs be at `wanted`, less what lies below another wanted cgroup: programs of a
    /// cgroup's ancestors run too, and a packet must not be charged twice. In test mode they are
    /// at the root, whatever is wanted.
    pub(super) fn set(
        &mut self,
        ebpf: &mut Ebpf,
        wanted: &BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        let wanted = if self.at_root {
            BTreeSet::from([PathBuf::from("/")])
        } else {
            topmost(wanted)
        };
        // A unit that was started again has a new cgroup in the old one's place.
        self.pairs
            .retain(|cgroup, pair| pair.is_at(&below(&self.root, cgroup)));
        for cgroup in &wanted {
            if !self.pairs.contains_key(cgroup) {
                let path = below(&self.root, cgroup);
                if !path.exists() {
                    // Gone with all its processes.
                    continue;
                }
                let file = open(&path)?;
                let pair = ThrottlePair {
                    inode: file.metadata().context("a cgroup's inode")?.ino(),
                    _ingress: attach(ebpf, PROGRAM_INGRESS, Direction::Download, &file, &path)?,
                    _egress: attach(ebpf, PROGRAM_EGRESS, Direction::Upload, &file, &path)?,
                };
                self.pairs.insert(cgroup.clone(), pair);
            }
        }
        self.pairs.retain(|cgroup, _| {
            let keep = wanted.contains(cgroup);
            if !keep {
                log::debug!(
                    "Detached the throttle pair from {:?}",
                    below(&self.root, cgroup)
                );
            }
            keep
        });
        Ok(())
    }
}

/// Whether each of `cgroups` is one of those that `has` says so of, or lies below one.
fn all_below(cgroups: &BTreeSet<PathBuf>, has: impl Fn(&Path) -> bool) -> bool {
    cgroups.iter().all(|path| path.ancestors().any(&has))
}

/// Those of `cgroups` that lie below no other of them.
fn topmost(cgroups: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    cgroups
        .iter()
        .filter(|path| {
            !path
                .ancestors()
                .skip(1)
                .any(|above| cgroups.contains(above))
        })
        .cloned()
        .collect()
}

/// `cgroup`, a path as `/proc/PID/cgroup` shows it, below the mount.
fn below(root: &Path, cgroup: &Path) -> PathBuf {
    // Component by component, so that the root's path gets no slash at its end.
    root.components()
        .chain(
            cgroup
                .components()
                .filter(|part| *part != Component::RootDir),
        )
        .collect()
}

/// Opens a cgroup. Reading is enough to attach, and all that is allowed on some.
fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).with_context(|| format!("cgroup {path:?} can't be opened"))?;
    log::debug!("Opened cgroup file: {path:?}");
    Ok(file)
}

fn refused(name: &str, path: &Path) -> String {
    format!(
        "{name} could not be attached to {path:?}; docs/troubleshooting.md lists what causes that"
    )
}

fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    direction: Direction,
    cgroup: &File,
    path: &Path,
) -> anyhow::Result<CgroupSkbLink> {
    let (attach_type, word) = match direction {
        Direction::Download => (CgroupSkbAttachType::Ingress, "ingress"),
        Direction::Upload => (CgroupSkbAttachType::Egress, "egress"),
    };
    let program = object::cgroup_skb(ebpf, name)?;
    let link = program
        .attach(cgroup, attach_type, MODE)
        .and_then(|id| program.take_link(id))
        .with_context(|| refused(name, path))?;
    log::debug!("Attached {name} to {path:?} with mode: {MODE:?}");
    if [PROGRAM_INGRESS, PROGRAM_EGRESS].contains(&name) {
        log::info!("Successfully attached eBPF {word} program");
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_below_another_needs_no_pair_of_its_own() {
        let set = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        for (wanted, attached) in [
            (&[][..], &[][..]),
            (&["/a", "/a/b", "/ab"], &["/a", "/ab"]),
            (&["/", "/a", "/a/b"], &["/"]),
            (&["/a/b", "/a/c"], &["/a/b", "/a/c"]),
        ] {
            assert_eq!(topmost(&set(wanted)), set(attached));
            assert!(all_below(&set(wanted), |path| set(attached).contains(path)));
        }
        assert!(!all_below(&set(&["/a", "/b"]), |path| path == "/a"));
        assert!(!all_below(&set(&["/ab"]), |path| path == "/a"));
    }

    #[test]
    fn cgroup_paths_lie_below_the_mount() {
        let root = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(below(root, Path::new("/a/b")), root.join("a/b"));
        assert_eq!(below(root, Path::new("/")).as_os_str(), root.as_os_str());
    }
}
