//! What a killed run left on network devices.

use std::{collections::HashSet, fs::File, io, os::fd::AsFd as _};

use super::{
    instances::Instances,
    netlink::{Qdisc, ROOT},
    plan::HANDLE,
};
use crate::process::{
    network::{namespace_number, namespace_of},
    rtnetlink::Netlink,
};

/// What can be left.
#[derive(Clone, Copy)]
enum Kind {
    /// Our fq.
    Fq,
    /// Our filter of clsact, before Linux 6.6.
    Filter,
}

/// A device that still has something of ours.
pub struct Leftover {
    kind: Kind,
    namespace: File,
    number: u64,
    index: u32,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} on device {} of network namespace {}",
            match self.kind {
                Kind::Fq => "fq",
                Kind::Filter => "a filter",
            },
            self.index,
            self.number
        )
    }
}

/// Qdiscs with our handle and filters with our name, in every network namespace that a process lives in.
fn find() -> Vec<Leftover> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for pid in crate::process::descriptors::all_processes() {
        if namespace_number(pid).is_none_or(|number| seen.contains(&number)) {
            continue;
        }
        let Ok((namespace, number)) = namespace_of(pid) else {
            continue;
        };
        seen.insert(number);
        let here = find_in(&namespace, number)
            .inspect_err(|error| log::debug!("network namespace {number}: {error}"));
        found.extend(here.unwrap_or_default());
    }
    found
}

fn find_in(namespace: &File, number: u64) -> io::Result<Vec<Leftover>> {
    let mut netlink = Netlink::in_namespace(namespace.as_fd())?;
    let mut found = Vec::new();
    for qdisc in netlink.qdiscs(0)? {
        if let Some(kind) = ours(&mut netlink, &qdisc)? {
            found.push(Leftover {
                kind,
                namespace: namespace.try_clone()?,
                number,
                index: qdisc.device,
            });
        }
    }
    Ok(found)
}

fn ours(netlink: &mut Netlink, qdisc: &Qdisc) -> io::Result<Option<Kind>> {
    if qdisc.parent == ROOT && qdisc.handle == HANDLE {
        Ok(Some(Kind::Fq))
    } else if qdisc.kind == "clsact" && netlink.has_filters(qdisc.device)? {
        Ok(Some(Kind::Filter))
    } else {
        Ok(None)
    }
}

impl Leftover {
    fn remove(&self) -> io::Result<()> {
        let mut netlink = Netlink::in_namespace(self.namespace.as_fd())?;
        match self.kind {
            Kind::Fq => netlink.delete_root(self.index, HANDLE),
            Kind::Filter => netlink.remove_all_filters(self.index),
        }
    }
}

/// Takes away what was left. To be called only by an instance that is alone. Returns what could
/// not be taken away, with the reason.
pub(super) fn remove() -> Vec<String> {
    let mut failures = Vec::new();
    for leftover in find() {
        match leftover.remove() {
            Ok(()) => log::info!("removed what a killed run left: {leftover}"),
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
    /// A killed run left these.
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
        anyhow::bail!("another chadthrottle runs; it takes away what is its own when it ends");
    }
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
