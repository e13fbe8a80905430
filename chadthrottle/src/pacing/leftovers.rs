//! What a killed run left on network devices.

use std::{collections::HashSet, fs::File, os::fd::AsFd as _};

use super::{
    instances::Instances,
    netlink::{Netlink, ROOT, namespace_of},
    plan::HANDLE,
};

/// A device that still has our fq.
pub struct Leftover {
    namespace: File,
    number: u64,
    index: u32,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "device {} of network namespace {}",
            self.index, self.number
        )
    }
}

/// Qdiscs with our handle, in every network namespace that a process lives in.
fn find() -> Vec<Leftover> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for pid in crate::process::descriptors::all_processes() {
        let Ok((namespace, number)) = namespace_of(pid) else {
            continue;
        };
        if !seen.insert(number) {
            continue;
        }
        let qdiscs = Netlink::in_namespace(namespace.as_fd())
            .and_then(|mut netlink| netlink.qdiscs(0))
            .inspect_err(|error| log::debug!("network namespace {number}: {error}"));
        for qdisc in qdiscs.unwrap_or_default() {
            if qdisc.parent == ROOT && qdisc.handle == HANDLE {
                let namespace = match namespace.try_clone() {
                    Ok(namespace) => namespace,
                    Err(error) => {
                        log::debug!("network namespace {number}: {error}");
                        continue;
                    }
                };
                found.push(Leftover {
                    namespace,
                    number,
                    index: qdisc.device,
                });
            }
        }
    }
    found
}

impl Leftover {
    fn remove(&self) -> std::io::Result<()> {
        Netlink::in_namespace(self.namespace.as_fd())?.delete_root(self.index, HANDLE)
    }
}

/// Takes away what was left. To be called only by an instance that is alone. Returns what could
/// not be taken away, with the reason.
pub(super) fn remove() -> Vec<String> {
    let mut failures = Vec::new();
    for leftover in find() {
        match leftover.remove() {
            Ok(()) => log::info!("removed fq that a killed run left on {leftover}"),
            Err(error) => failures.push(format!("{leftover}: {error}")),
        }
    }
    failures
}

/// What there is of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing, or what is there belongs to an instance that runs.
    None,
    /// A killed run left fq on these.
    On(Vec<String>),
    /// It can't be told, and why.
    Unknown(String),
}

/// Looks whether a killed run left anything.
pub fn look() -> Leftovers {
    let instances = match Instances::join() {
        Ok(instances) => instances,
        Err(error) => return Leftovers::Unknown(format!("/run/chadthrottle.lock: {error}")),
    };
    let mut found = Vec::new();
    instances.if_alone(|| found = find());
    if found.is_empty() {
        Leftovers::None
    } else {
        Leftovers::On(found.iter().map(ToString::to_string).collect())
    }
}

/// Takes away what a killed run left; does nothing while an instance runs.
///
/// # Errors
///
/// What could not be taken away, and why.
pub fn fix() -> anyhow::Result<()> {
    let instances = Instances::join()?;
    let mut failures = Vec::new();
    if !instances.if_alone(|| failures = remove()) {
        anyhow::bail!("another chadthrottle runs; it takes its fq away itself when it ends");
    }
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
