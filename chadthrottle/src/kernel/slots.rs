//! Slots: which are free, whose the others are.

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, Queue},
};
use chadthrottle_common::{
    address::TrafficClass,
    names::{MAP_CROWD_SLOTS, MAP_CROWDS, MAP_FREE_SLOTS, MAP_PROCESS_SLOTS, MAP_SLOTS},
    newcomer::Kind,
    slots::slots_for,
    tag::{MAX_CROWDS, MAX_SLOTS, SlotState, Tag, UNATTRIBUTED},
    traffic::Direction,
};

use super::limits::Cell;
use crate::model::process::Pid;

/// Asks for so many slots in place of those that a machine has: so that tests can use them all.
const TEST_SLOTS: &str = "CHADTHROTTLE_TEST_SLOTS";

/// Flag of `bpf_map_update_elem`: fail if the entry is there.
const BPF_NOEXIST: u64 = 1;

/// No slot is free.
#[derive(Debug, thiserror::Error)]
#[error("{0} processes are being told apart already, which is the most this machine's slots allow")]
pub struct SlotsExhausted(pub u32);

/// How many slots this machine has, whose CPUs are so many.
///
/// # Errors
///
/// A test asks for too few or too many.
pub(super) fn of_this_machine(cpus: usize) -> anyhow::Result<u32> {
    if let Some(asked) = std::env::var_os(TEST_SLOTS) {
        let least = 2 * MAX_CROWDS;
        let asked = asked.to_str().and_then(|asked| asked.parse().ok());
        return asked
            .filter(|asked| (least..=MAX_SLOTS).contains(asked))
            .with_context(|| format!("{TEST_SLOTS} must be from {least} to {MAX_SLOTS}"));
    }
    let memory = rustix::system::sysinfo();
    let memory = u64::from(memory.mem_unit) * memory.totalram as u64;
    Ok(slots_for(cpus, memory))
}

/// The places of cells, by direction and class; 0 for unlimited.
pub(super) fn indexes<'a>(
    cell: impl Fn(Direction, TrafficClass) -> Option<&'a Cell>,
) -> [[u32; 2]; 2] {
    let index = |direction, class| cell(direction, class).map_or(0, Cell::index);
    Direction::BOTH.map(|direction| TrafficClass::BOTH.map(|class| index(direction, class)))
}

/// So many slots are kept for processes that need one of their own, because a limit is for them that does not hold
/// all of their user and cgroup: an eighth where there are fewer.
const RESERVED: u32 = 512;

/// The slot maps.
pub struct Slots {
    states: Array<MapData, SlotState>,
    free: Queue<MapData, Tag>,
    processes: HashMap<MapData, u32, Tag>,
    crowds: HashMap<MapData, Kind, Tag>,
    free_for_crowds: Queue<MapData, Tag>,
    /// Those that are kept, the next one last; and how many are kept at the most.
    reserve: Vec<Tag>,
    reserved: usize,
    count: u32,
}

impl Slots {
    pub(super) fn take(ebpf: &mut Ebpf, count: u32) -> anyhow::Result<Self> {
        let mut slots = Self {
            states: super::take_map(ebpf, MAP_SLOTS)?,
            free: super::take_map(ebpf, MAP_FREE_SLOTS)?,
            processes: super::take_map(ebpf, MAP_PROCESS_SLOTS)?,
            crowds: super::take_map(ebpf, MAP_CROWDS)?,
            free_for_crowds: super::take_map(ebpf, MAP_CROWD_SLOTS)?,
            reserve: Vec::new(),
            reserved: RESERVED.min(count / 8) as usize,
            count: count - MAX_CROWDS,
        };
        let first = |slot| Tag {
            slot,
            generation: 0,
        };
        for slot in UNATTRIBUTED + 1..count {
            slots.release(first(slot))?;
        }
        Ok(slots)
    }

    /// How many slots there are for single processes, free or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many processes have slots when none is free: all but those that are kept still.
    pub fn told_apart(&self) -> u32 {
        self.count - 1 - self.reserve.len() as u32
    }

    /// Whether there is still one of those that are kept for processes in need.
    pub fn keeps_any(&self) -> bool {
        !self.reserve.is_empty()
    }

    /// The slot of a process: the one the kernel gave it, else a free one, or one of those that are kept if it is `in_need`
    /// of one.
    ///
    /// # Errors
    ///
    /// [`SlotsExhausted`], or the kernel's.
    pub fn of_process(&mut self, pid: Pid, in_need: bool) -> anyhow::Result<Tag> {
        if let Some(tag) = self.known(pid)? {
            return Ok(tag);
        }
        let tag = match self.free.pop(0) {
            Ok(tag) => tag,
            Err(MapError::ElementNotFound) if in_need => {
                (self.reserve.pop()).ok_or(SlotsExhausted(self.count - 1))?
            }
            Err(MapError::ElementNotFound) => return Err(SlotsExhausted(self.count - 1).into()),
            Err(error) => return Err(error).context("taking a free slot"),
        };
        if self.processes.insert(pid.0, tag, BPF_NOEXIST).is_ok() {
            return Ok(tag);
        }
        // The process made its first socket at this very moment: the kernel's choice stands.
        self.release(tag)?;
        self.known(pid)?
            .with_context(|| format!("process {pid} could not be given a slot"))
    }

    /// The slot of all processes of a cgroup and user that have none of their own.
    ///
    /// # Errors
    ///
    /// [`SlotsExhausted`] when there are too many such pairs, or the kernel's.
    pub fn of_crowd(&mut self, kind: Kind) -> anyhow::Result<Tag> {
        let known = |crowds: &HashMap<MapData, Kind, Tag>| match crowds.get(&kind, 0) {
            Ok(tag) => Ok(Some(tag)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking up a shared slot"),
        };
        if let Some(tag) = known(&self.crowds)? {
            return Ok(tag);
        }
        let tag = match self.free_for_crowds.pop(0) {
            Ok(tag) => tag,
            Err(MapError::ElementNotFound) => return Err(SlotsExhausted(self.count - 1).into()),
            Err(error) => return Err(error).context("taking a slot to share"),
        };
        if self.crowds.insert(kind, tag, BPF_NOEXIST).is_ok() {
            return Ok(tag);
        }
        // As in `of_process`.
        (self.free_for_crowds.push(tag, 0)).context("giving a slot back")?;
        known(&self.crowds)?.context("a slot could not be shared")
    }

    fn known(&self, pid: Pid) -> anyhow::Result<Option<Tag>> {
        match self.processes.get(&pid.0, 0) {
            Ok(tag) => Ok(Some(tag)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking up a process's slot"),
        }
    }

    /// Every process the kernel knows a slot of, for finding announcements that were lost.
    pub fn processes(&self) -> impl Iterator<Item = (Pid, Tag)> {
        self.processes
            .iter()
            .filter_map(Result::ok)
            .map(|(pid, tag)| (Pid(pid), tag))
    }

    /// Every slot that processes of a cgroup and user share, for the same.
    pub fn crowds(&self) -> impl Iterator<Item = (Kind, Tag)> {
        self.crowds.iter().filter_map(Result::ok)
    }

    /// Whether a slot is still that of the owner whose tag this is, or of the next one.
    pub fn is_current(&self, tag: Tag) -> bool {
        (self.states.get(&tag.slot, 0)).is_ok_and(|state| state.generation == tag.generation)
    }

    /// Forgets that a process, which has ended, has a slot; its sockets keep it. Another process that has its id by
    /// now keeps its own slot.
    pub fn forget_process(&mut self, pid: Pid, tag: Tag) {
        if matches!(self.known(pid), Ok(Some(its)) if its == tag) {
            // Not being there is what is wanted.
            let _ = self.processes.remove(&pid.0);
        }
    }

    /// Forgets the slot that processes of a cgroup and user share: there are none any more. Sockets that they left to
    /// others keep it.
    pub fn forget_crowd(&mut self, kind: Kind) {
        // As above.
        let _ = self.crowds.remove(&kind);
    }

    /// Says in which other network namespace an owner is, by number; what it began with stays.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_namespace(&mut self, tag: Tag, namespace: u32) -> anyhow::Result<()> {
        let slot = || format!("slot {}", tag.slot);
        let state = self.states.get(&tag.slot, 0).with_context(slot)?;
        if state.generation != tag.generation {
            return Ok(());
        }
        let state = SlotState { namespace, ..state };
        self.states.set(tag.slot, state, 0).with_context(slot)
    }

    /// Writes what the kernel looks at for every packet of a slot: the cell of each direction and
    /// class, whether its traffic is told apart by class in any case, the number of its owner's network namespace, and
    /// whether its limits are those of everybody else (`is_rest`).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_limits<'a>(
        &mut self,
        tag: Tag,
        namespace: u32,
        cell: impl Fn(Direction, TrafficClass) -> Option<&'a Cell>,
        metered: bool,
        is_rest: bool,
    ) -> anyhow::Result<()> {
        let limits = indexes(cell);
        let any = limits.as_flattened().iter().find(|index| **index != 0);
        let state = SlotState {
            generation: tag.generation,
            metered: metered.into(),
            limits,
            namespace,
            rest: any.copied().filter(|_| is_rest).unwrap_or_default(),
        };
        self.states
            .set(tag.slot, state, 0)
            .with_context(|| format!("slot {}", tag.slot))
    }

    /// Ends an owner's time: sockets with its tag are nobody's from now on. Returns the tag for
    /// the next owner, to be given to [`Self::release`] once the counters are cleared.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn retire(&mut self, tag: Tag) -> anyhow::Result<Tag> {
        let next = Tag {
            slot: tag.slot,
            generation: tag.generation.wrapping_add(1),
        };
        self.set_limits(next, 0, |_, _| None, false, false)?;
        Ok(next)
    }

    /// Makes a slot free for the next process, or keeps it; one that is shared for the next cgroup and user.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn release(&mut self, tag: Tag) -> anyhow::Result<()> {
        if tag.slot >= self.count {
            return (self.free_for_crowds.push(tag, 0))
                .with_context(|| format!("freeing slot {}", tag.slot));
        }
        if self.reserve.len() < self.reserved {
            self.reserve.push(tag);
            return Ok(());
        }
        self.free
            .push(tag, 0)
            .with_context(|| format!("freeing slot {}", tag.slot))
    }
}
