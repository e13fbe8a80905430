//! What processes begin with that make their first socket, and which trees they belong to.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{self, MapData},
    programs::raw_trace_point::RawTracePointLink,
};
use chadthrottle_common::{
    address::TrafficClass,
    names::{MAP_BEGINNINGS, MAP_FAMILIES},
    newcomer::{Beginning, Kind, MAX_KINDS, Trees},
    traffic::Direction,
};

use super::{limits::Cell, object, refusal, slots::indexes};
use crate::model::process::Pid;

/// Where processes are forked.
const TRACEPOINT: &str = "sched_process_fork";

/// The maps about new processes.
pub struct Newcomers {
    beginnings: maps::HashMap<MapData, Kind, Beginning>,
    /// What is in that map.
    known: HashMap<Kind, Beginning>,
    families: maps::HashMap<MapData, u32, Trees>,
}

impl Newcomers {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            beginnings: super::take_map(ebpf, MAP_BEGINNINGS)?,
            known: HashMap::new(),
            families: super::take_map(ebpf, MAP_FAMILIES)?,
        })
    }

    /// Lets further processes of a kind begin with these cells.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn expect<'a>(
        &mut self,
        kind: Kind,
        cell: impl Fn(Direction, TrafficClass) -> Option<&'a Cell>,
        metered: bool,
    ) -> anyhow::Result<()> {
        let beginning = Beginning {
            metered: metered.into(),
            limits: indexes(cell),
        };
        if self.known.get(&kind) == Some(&beginning) {
            return Ok(());
        }
        if self.known.len() >= MAX_KINDS as usize {
            self.forget();
        }
        self.beginnings
            .insert(kind, beginning, 0)
            .context("what new processes begin with")?;
        self.known.insert(kind, beginning);
        Ok(())
    }

    /// Lets all processes begin without limits.
    pub fn forget(&mut self) {
        for (kind, _) in self.known.drain() {
            // Not being there is what is wanted.
            let _ = self.beginnings.remove(&kind);
        }
    }

    /// The processes of trees, as far as they are known in the kernel.
    pub fn families(&self) -> HashMap<Pid, Trees> {
        self.families
            .iter()
            .filter_map(Result::ok)
            .map(|(pid, trees)| (Pid(pid), trees))
            .collect()
    }

    /// Lets a process, and all that it forks from now on, belong to these trees.
    ///
    /// # Errors
    ///
    /// The kernel's, also when it knows as many as it can.
    pub fn join(&mut self, pid: Pid, trees: Trees) -> anyhow::Result<()> {
        self.families
            .insert(pid.0, trees, 0)
            .with_context(|| format!("the tree of process {pid}"))
    }

    /// The end of that.
    pub fn leave(&mut self, pid: Pid) {
        // Not being there is what is wanted.
        let _ = self.families.remove(&pid.0);
    }
}

/// Whether children are seen when they are forked.
pub(super) struct Forks {
    loaded: Result<(), String>,
    link: Option<RawTracePointLink>,
}

impl Forks {
    pub(super) fn new(loaded: Result<(), String>) -> Self {
        Self { loaded, link: None }
    }

    /// Sees to it that they are, or are not.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, wanted: bool) {
        if !wanted {
            self.link = None;
        } else if self.link.is_none() && self.loaded.is_ok() {
            match attach(ebpf) {
                Ok(link) => self.link = Some(link),
                Err(error) => self.loaded = Err(format!("{error:#}")),
            }
            if let Err(why) = &self.loaded {
                log::info!("children are not seen when they are forked: {why}");
            }
        }
    }

    pub(super) fn why_not_seen(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    pub(super) fn are_followed(&self) -> bool {
        self.link.is_some()
    }
}

fn attach(ebpf: &mut Ebpf) -> anyhow::Result<RawTracePointLink> {
    let program = object::fork(ebpf)?;
    let id = program.attach(TRACEPOINT)?;
    Ok(program.take_link(id)?)
}

/// Loads the program that sees forks, if it is known where the kernel keeps the ids of processes.
pub(super) fn load(ebpf: &mut Ebpf, known: bool) -> anyhow::Result<()> {
    ensure!(
        known,
        "the kernel's type information has no task_struct.tgid"
    );
    object::fork(ebpf)?.load().map_err(refusal::why)
}
