//! The kernel side: the only place that knows aya.
//!
//! [`Kernel`] owns the loaded object, its maps and every attachment. Each attachment is a file
//! descriptor: when this process ends, in whatever way, the kernel takes all of it away.

mod accept;
mod attach;
mod btf;
mod counters;
mod events;
pub mod features;
mod limits;
mod newcomers;
pub mod object;
mod prefixes;
pub mod probe;
mod refusal;
mod sending;
mod slots;
mod sockets;
mod window;

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{cgroup_sock_addr::CgroupSockAddrLink, fexit::FExitLink},
};
use chadthrottle_common::traffic::Direction;

pub use attach::cgroup_root;
pub use counters::DeviceTraffic;
pub use events::{Announcements, Events, Roads, RoundTrips, WatchedEvents};
pub use limits::{CeilingsExhausted, Cell, CellsExhausted, LimitCells, Present, UNHELD_RATE};
pub use newcomers::Newcomers;
pub use prefixes::LocalPrefixes;
pub use slots::{Slots, SlotsExhausted};
pub use sockets::{Socket, SocketTags};
pub use window::{WindowLink, WithoutWindow};

use attach::Attachments;
use counters::{CounterMap, DeviceMap};
use newcomers::Forks;

use crate::model::direction::PerDirection;

/// The loaded programs and their maps.
pub struct Kernel {
    /// Which slots are free, and which process has which.
    pub slots: Slots,
    /// Which networks are local.
    pub local_prefixes: LocalPrefixes,
    /// Socket tags.
    pub sockets: SocketTags,
    /// Traffic by slot.
    pub counters: CounterMap,
    /// What sockets moved by devices.
    pub devices: DeviceMap,
    /// The cells that limits live in.
    pub limits: LimitCells,
    /// Which processes were given slots.
    pub announcements: Announcements,
    /// What new processes begin with.
    pub newcomers: Newcomers,
    /// Whose packets came to leave by a device without pacing.
    pub roads: Roads,
    /// How long packets of background traffic are on their way.
    pub round_trips: RoundTrips,
    attachments: Attachments,
    forks: Forks,
    /// The program that sees who accepts a connection, or why it does not.
    accept: Result<FExitLink, String>,
    /// The programs that see who sends a datagram, or why they do not.
    sending: Result<[CgroupSockAddrLink; 2], String>,
    /// Whether limits of a direction can use windows.
    pub windows: PerDirection<Result<(), WithoutWindow>>,
    // Last, so that maps and links go first. Holds the programs.
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads the embedded object and attaches the observers at the cgroup v2 root. The second value
    /// tells when there is something to be read of what the kernel tells from then on.
    ///
    /// # Errors
    ///
    /// What the kernel refused, and where. [`features::check`] finds the usual causes beforehand
    /// and says them better.
    pub fn load() -> anyhow::Result<(Self, Events)> {
        let root = cgroup_root()?;
        lift_resource_limits();
        let slots = slots::of_this_machine(cpus()?)?;
        let object::Loaded {
            mut ebpf,
            windows,
            forks,
            accept_arguments,
        } = object::load(slots)?;
        for direction in Direction::BOTH {
            if let Err(why) = windows.get(direction) {
                log::info!("{direction} limits do without windows: {why}");
            }
        }
        let mut attachments = Attachments::new(root);
        let accept = accept::attach(&mut ebpf, accept_arguments);
        if let Err(why) = &accept {
            log::info!("who accepts a connection is looked for, not seen: {why:#}");
        }
        let sending = File::open(attachments.root())
            .map_err(anyhow::Error::from)
            .and_then(|root| sending::attach(&mut ebpf, &root));
        if let Err(why) = &sending {
            log::info!("who sends a datagram is not seen: {why:#}");
        }
        let (announcements, roads, events) = Events::take(&mut ebpf)?;
        let kernel = Self {
            slots: Slots::take(&mut ebpf, slots)?,
            local_prefixes: LocalPrefixes::take(&mut ebpf)?,
            sockets: SocketTags::take(&mut ebpf)?,
            counters: CounterMap::take(&mut ebpf)?,
            devices: DeviceMap::take(&mut ebpf)?,
            limits: LimitCells::take(&mut ebpf, 2 * slots)?,
            announcements,
            newcomers: Newcomers::take(&mut ebpf)?,
            forks: Forks::new(forks),
            roads,
            round_trips: RoundTrips::take(&mut ebpf)?,
            attachments: {
                attachments.observe(&mut ebpf)?;
                attachments
            },
            accept: accept.map_err(|why| format!("{why:#}")),
            sending: sending.map_err(|why| format!("{why:#}")),
            windows,
            ebpf,
        };
        Ok((kernel, events))
    }

    /// Where cgroup v2 is mounted.
    pub fn cgroup_root(&self) -> &Path {
        self.attachments.root()
    }

    /// Sees to it that the throttle pair is attached where the packets of every cgroup in
    /// `cgroups` (paths below the mount) meet it exactly once, and nowhere else.
    ///
    /// # Errors
    ///
    /// The cgroup that the pair could not be attached to; what was in force stays in force.
    pub fn throttle_at(&mut self, cgroups: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
        self.attachments
            .set(&mut self.ebpf, cgroups)
            .context("limits can't be enforced")
    }

    /// Sees to it that children belong to the trees of their parents, or does not. Returns whether
    /// they do.
    pub fn follow_forks(&mut self, wanted: bool) -> bool {
        self.forks.follow(&mut self.ebpf, wanted);
        self.forks.are_followed()
    }

    /// Why children are not seen when they are forked; nothing while they are or could be.
    pub fn why_forks_are_not_seen(&self) -> Option<&str> {
        self.forks.why_not_seen()
    }

    /// Why it is not seen who sends a datagram on a socket that somebody else made; nothing while it is.
    pub fn why_sending_is_not_seen(&self) -> Option<&str> {
        self.sending.as_ref().err().map(String::as_str)
    }

    /// Why it is not seen who accepts a connection; nothing while it is.
    pub fn why_accepting_is_not_seen(&self) -> Option<&str> {
        self.accept.as_ref().err().map(String::as_str)
    }

    /// Whether the packets of all these cgroups meet the throttle pair already.
    pub fn throttles_at(&self, cgroups: &BTreeSet<PathBuf>) -> bool {
        self.attachments.cover(cgroups)
    }

    /// Attaches the program that sees to the windows of a direction to a device of a network namespace,
    /// until the link is dropped.
    ///
    /// # Errors
    ///
    /// The kernel's, before Linux 6.6 or if the device has gone.
    pub fn see_to_windows_at(
        &mut self,
        direction: Direction,
        namespace: BorrowedFd<'_>,
        device: u32,
    ) -> anyhow::Result<WindowLink> {
        window::attach(&mut self.ebpf, direction, namespace, device)
    }

    /// The same program, to be attached in another way.
    ///
    /// # Errors
    ///
    /// It was not loaded; [`Self::windows`] says why.
    pub fn window_program(&mut self, direction: Direction) -> anyhow::Result<BorrowedFd<'_>> {
        Ok(object::window(&mut self.ebpf, direction)?.fd()?.as_fd())
    }
}

/// How many CPUs the kernel may have: per-CPU maps hold a value for each.
fn cpus() -> anyhow::Result<usize> {
    aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))
}

/// Lifts the limits of this process that maps (before Linux 5.11) and descriptors of processes
/// count against. Where that is not allowed, what runs into them says so.
fn lift_resource_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let descriptors = Rlimit {
        current: getrlimit(Resource::Nofile).maximum,
        ..getrlimit(Resource::Nofile)
    };
    for (resource, limit) in [
        (Resource::Memlock, unlimited),
        (Resource::Nofile, descriptors),
    ] {
        if let Err(error) = setrlimit(resource, limit) {
            log::debug!("{resource:?} could not be raised: {error}");
        }
    }
}

/// Takes a map out of the object by name, as the type it must have.
fn take_map<M>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<M>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the embedded object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("map {name} of the embedded object"))
}
