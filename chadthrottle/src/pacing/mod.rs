//! fq where a limited process's packets leave, so that they can be given a departure time.
//!
//! It goes only in the place of a qdisc that the kernel chose, in the network namespace of the
//! process, with a handle of our own, and is taken away when no limit needs it any more.

mod filters;
mod instances;
pub mod leftovers;
pub mod netlink;
pub mod plan;
mod windows;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::AsFd as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    kernel::features::kernel_release,
    model::{limit::Mechanism, process::Pid},
    process::{network::namespace_of, rtnetlink::Netlink},
};
use instances::Instances;
use netlink::{Qdisc, QdiscOption};
use plan::{HANDLE, Plan, plan};
pub use windows::Windows;

// Options of fq, from linux/pkt_sched.h.
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;
const TCA_FQ_RATE_ENABLE: u16 = 5;

/// How our fq is set up.
const FQ: [QdiscOption; 3] = [
    // A limited download holds one acknowledgement for every other segment of its virtual queue;
    // the default of 100 a flow would drop them.
    (TCA_FQ_FLOW_PLIMIT, 20_000),
    (TCA_FQ_PLIMIT, 100_000),
    // Departure times are kept all the same; only TCP's own pacing is left as it was, for every
    // socket that happens to use the device.
    (TCA_FQ_RATE_ENABLE, 0),
];

/// How long a device keeps fq after its last limit ended, for packets to leave at their times.
const DRAIN: Duration = Duration::from_secs(10);

/// The same when chadthrottle ends: a person waits.
const DRAIN_AT_THE_END: Duration = Duration::from_millis(300);

/// Why packets can't be paced on a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpaced {
    /// Somebody chose another qdisc.
    #[error("the qdisc {0} was chosen for the device and is left alone")]
    OwnQdisc(String),
    /// The kernel has no fq.
    #[error("this kernel has no sch_fq")]
    NoFq,
    /// Something else.
    #[error("fq could not be installed: {0}")]
    Netlink(String),
}

/// A device in a network namespace, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The inode of the network namespace.
    pub namespace: u64,
    /// The interface index.
    pub index: u32,
}

/// A device with our fq on it.
struct Installed {
    namespace: File,
    unused_since: Option<Instant>,
}

/// The fq that we installed.
pub struct Pacing {
    installed: HashMap<Device, Installed>,
    /// Who else may use the same devices. Without it, nothing is installed.
    instances: Result<Instances, String>,
    /// Whether the kernel seems to have fq. Tried it is all the same: built in, it need not show.
    seen: bool,
    /// The kernel said that it has no fq.
    no_fq: bool,
}

impl Default for Pacing {
    fn default() -> Self {
        let instances =
            Instances::join().map_err(|error| format!("/run/chadthrottle.lock: {error}"));
        if let Ok(instances) = &instances {
            instances.if_alone(|| {
                for failure in leftovers::remove() {
                    log::warn!("fq that a killed run left: {failure}");
                }
            });
        }
        Self {
            installed: HashMap::new(),
            instances,
            seen: fq_in_kernel().is_some(),
            no_fq: false,
        }
    }
}

/// How the running kernel has fq: loaded, built in or as a module; nothing if it has not.
pub fn fq_in_kernel() -> Option<&'static str> {
    if Path::new("/sys/module/sch_fq").exists() {
        return Some("loaded");
    }
    let modules = Path::new("/lib/modules").join(kernel_release());
    let lists = [
        ("modules.builtin", "built in"),
        ("modules.dep", "there as a module"),
    ];
    lists.into_iter().find_map(|(list, how)| {
        let list = std::fs::read_to_string(modules.join(list)).ok()?;
        list.contains("/sch_fq.ko").then_some(how)
    })
}

impl Pacing {
    /// Sees to it that packets of `pid` that leave by the device with this index are held until
    /// their departure time, or says why they can't be.
    ///
    /// # Errors
    ///
    /// The network namespace of the process can't be told.
    pub fn ensure(&mut self, pid: Pid, index: u32) -> io::Result<(Device, Result<(), Unpaced>)> {
        let (namespace, number) = namespace_of(pid)?;
        let device = Device {
            namespace: number,
            index,
        };
        Ok((device, self.install(device, namespace)))
    }

    fn install(&mut self, device: Device, namespace: File) -> Result<(), Unpaced> {
        let Device {
            index,
            namespace: number,
        } = device;
        if self.no_fq {
            return Err(Unpaced::NoFq);
        }
        if let Err(why) = &self.instances {
            return Err(Unpaced::Netlink(why.clone()));
        }
        if let Some(installed) = self.installed.get_mut(&device) {
            installed.unused_since = None;
            return Ok(());
        }
        let mut netlink = Netlink::in_namespace(namespace.as_fd()).map_err(failed)?;
        match plan(&netlink.qdiscs(index).map_err(failed)?) {
            Plan::UseAsItIs => Ok(()),
            Plan::LeaveAlone(kind) => Err(Unpaced::OwnQdisc(kind)),
            Plan::Install(placements) => {
                for placement in placements {
                    let options = if placement.kind == "fq" { &FQ[..] } else { &[] };
                    let replaced = netlink.replace(
                        index,
                        placement.parent,
                        placement.handle,
                        placement.kind,
                        options,
                    );
                    if let Err(error) = replaced {
                        // What was done of it is undone.
                        let _ = netlink.delete_root(index, HANDLE);
                        let no_fq =
                            error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error());
                        self.no_fq = no_fq;
                        return Err(if no_fq { Unpaced::NoFq } else { failed(error) });
                    }
                }
                log::info!("fq installed on device {index} of network namespace {number}");
                self.installed.insert(
                    device,
                    Installed {
                        namespace,
                        unused_since: None,
                    },
                );
                Ok(())
            }
        }
    }

    /// The devices of a process's network namespace on which fq holds packets already.
    pub fn ready(&self, pid: Pid) -> Vec<Device> {
        if self.installed.is_empty() {
            return Vec::new();
        }
        let number = namespace_of(pid).map(|(_, number)| number).ok();
        let devices = self.installed.keys().copied();
        devices
            .filter(|device| Some(device.namespace) == number)
            .collect()
    }

    /// Takes fq away from devices that are not `used` any more, once they hold no packets.
    pub fn retain(&mut self, used: &HashSet<Device>) {
        let now = Instant::now();
        self.installed.retain(|device, installed| {
            if used.contains(device) {
                installed.unused_since = None;
                return true;
            }
            let since = *installed.unused_since.get_or_insert(now);
            let drained = now.duration_since(since) >= DRAIN || queued(*device, installed) == 0;
            if drained && let Ok(instances) = &self.instances {
                // Another instance may rely on it, and takes it away at its own end or start.
                instances.if_alone(|| remove(*device, installed));
            }
            !drained
        });
    }

    /// Looks whether fq is still where it was put; returns the devices from which somebody took
    /// it.
    pub fn lost(&mut self) -> HashSet<Device> {
        let lost: HashSet<Device> = self
            .installed
            .iter()
            .filter(|(device, installed)| fqs(**device, installed).is_empty())
            .map(|(device, _)| *device)
            .collect();
        for device in &lost {
            self.installed.remove(device);
        }
        lost
    }

    /// How limits can be expected to be enforced, before a packet was seen.
    pub fn expected(&self) -> (Mechanism, Option<String>) {
        if self.no_fq || (!self.seen && self.installed.is_empty()) {
            (Mechanism::Policing, Some(Unpaced::NoFq.to_string()))
        } else {
            (Mechanism::Pacing, None)
        }
    }

    /// Whether there is nothing to take away.
    pub fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }
}

impl Drop for Pacing {
    fn drop(&mut self) {
        let end = Instant::now() + DRAIN_AT_THE_END;
        loop {
            let full = self
                .installed
                .iter()
                .any(|(device, installed)| queued(*device, installed) > 0);
            if !full || Instant::now() >= end {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        if let Ok(instances) = &self.instances {
            instances.if_alone(|| {
                for (device, installed) in &self.installed {
                    remove(*device, installed);
                }
            });
        }
    }
}

/// What a device has of fq: one for each hardware queue. If it can't be asked, it is gone, and so
/// is its traffic.
fn fqs(device: Device, installed: &Installed) -> Vec<Qdisc> {
    let qdiscs = Netlink::in_namespace(installed.namespace.as_fd())
        .and_then(|mut netlink| netlink.qdiscs(device.index));
    let mut qdiscs = qdiscs.unwrap_or_default();
    qdiscs.retain(|qdisc| qdisc.kind == "fq");
    qdiscs
}

fn failed(error: io::Error) -> Unpaced {
    Unpaced::Netlink(error.to_string())
}

/// Packets that our fq holds.
fn queued(device: Device, installed: &Installed) -> u32 {
    fqs(device, installed).iter().map(|fq| fq.queued).sum()
}

fn remove(device: Device, installed: &Installed) {
    let removed = Netlink::in_namespace(installed.namespace.as_fd())
        .and_then(|mut netlink| netlink.delete_root(device.index, HANDLE));
    match removed {
        Ok(()) => log::info!("fq removed from device {}", device.index),
        // The device or its namespace has gone, and fq with it; or somebody chose another.
        Err(error) => log::debug!("fq on device {}: {error}", device.index),
    }
}
