//! The maps. Each has a stated bound, and a stated answer when it is full.

use aya_ebpf::{
    bindings::BPF_F_CLONE,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, Queue, RingBuf},
    macros::btf_map,
};
use chadthrottle_common::{
    address::MAX_PREFIXES,
    event::ProcessSeen,
    limit::{Enforced, Limit, MAX_LIMITS, MAX_MORE_PACED, Paced},
    newcomer::{Beginning, Kind, MAX_KINDS, Trees},
    round_trip::{Probe, RoundTrip},
    send_window::SendGrant,
    tag::{MAX_CROWDS, MAX_SLOTS, SlotState, SocketTag, Tag},
    traffic::{Counters, DeviceBytes, MAX_DEVICES, MAX_NAMESPACES},
    window::Grant,
};

use crate::socket::{NO_PREALLOC, Storage};

const CLONE: usize = BPF_F_CLONE as usize;

/// Bound: one tag a socket, memory owned by the socket. Full (no memory): the socket stays
/// untagged and counts as unattributed. Cloned, so that an accepted socket inherits its listener's.
#[btf_map]
pub static TAGS: Storage<SocketTag, { NO_PREALLOC | CLONE }> = Storage::new();

/// Bound: one a TCP socket whose download is limited and paced, memory owned by the socket. Full
/// (no memory): the socket advertises its own window.
#[btf_map]
pub static GRANTS: Storage<Grant, NO_PREALLOC> = Storage::new();

/// Bound: one a TCP socket whose upload is limited, memory owned by the socket. Full (no memory): its
/// send window is the peer's.
#[btf_map]
pub static SEND_GRANTS: Storage<SendGrant, NO_PREALLOC> = Storage::new();

/// Bound: every port there is. Until when a socket with this local port may have a send window granted, in
/// nanoseconds of `CLOCK_MONOTONIC`.
#[btf_map]
pub static SEND_PORTS: Array<u64, 65_536> = Array::new();

/// Bound: all slots exist from the start.
#[btf_map]
pub static SLOTS: Array<SlotState, { MAX_SLOTS as usize }> = Array::new();

/// Bound: every slot fits. Empty: new processes have a slot of [`CROWDS`] until user space frees slots.
#[btf_map]
pub static FREE_SLOTS: Queue<Tag, { MAX_SLOTS as usize }> = Queue::new();

/// Bound: 256 pairs of a cgroup and a user, whose processes without a slot of their own share one. Full: further
/// ones stay untagged.
#[btf_map]
pub static CROWDS: HashMap<Kind, Tag, { MAX_CROWDS as usize }> = HashMap::new();

/// Bound: the slots that are kept for them. Empty: as above.
#[btf_map]
pub static CROWD_SLOTS: Queue<Tag, { MAX_CROWDS as usize }> = Queue::new();

/// Bound: one entry a slot. Full: cannot be while slots are free; if it is, the socket is still
/// tagged, only its siblings get slots of their own.
#[btf_map]
pub static PROCESS_SLOTS: HashMap<u32, Tag, { MAX_SLOTS as usize }> = HashMap::new();

/// Bound: all slots exist from the start.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, { MAX_SLOTS as usize }> = PerCpuArray::new();

/// Bound: devices with a low interface index, and network namespaces with a number. Devices behind are not counted, and
/// user space leaves them out.
#[btf_map]
pub static DEVICES: PerCpuArray<DeviceBytes, { (MAX_DEVICES + MAX_NAMESPACES) as usize }> =
    PerCpuArray::new();

/// Bound: both directions of every slot.
#[btf_map]
pub static LIMITS: Array<Limit, { MAX_LIMITS as usize }> = Array::new();

/// Bound: as the limits. Shared by all CPUs: a cell for each of them would cost memory on every
/// machine, while only limited packets pay for the atomic adds.
#[btf_map]
pub static ENFORCED: Array<Enforced, { MAX_LIMITS as usize }> = Array::new();

/// Bound: all slots exist from the start.
#[btf_map]
pub static PACED: Array<Paced, { MAX_SLOTS as usize }> = Array::new();

/// Bound: 16,384 devices of slots that have more than four. Full: on further ones they are policed, and
/// user space says so.
#[btf_map]
pub static MORE_PACED: HashMap<u64, u32, { MAX_MORE_PACED as usize }> = HashMap::new();

/// Bound: 4096 kinds of processes. Full: user space forgets all of them, and the next process of
/// each kind begins without limits.
#[btf_map]
pub static BEGINNINGS: HashMap<Kind, Beginning, { MAX_KINDS as usize }> = HashMap::new();

/// Bound: as many as there are slots. Full: user space looks for further children.
#[btf_map]
pub static FAMILIES: HashMap<u32, Trees, { MAX_SLOTS as usize }> = HashMap::new();

/// Bound: 1024 prefixes. Full: addresses in further ones are of the internet, and user space says so.
#[btf_map]
pub static LOCAL_PREFIXES: LpmTrie<[u8; 16], u32, { MAX_PREFIXES as usize }> = LpmTrie::new();

/// Bound: 256 KiB, some 4,000 announcements. Full: the announcement is lost, the slot is not;
/// user space is told by [`LOST`], and finds it in `PROCESS_SLOTS`.
#[btf_map]
pub static EVENTS: RingBuf<ProcessSeen, { 256 * 1024 }> = RingBuf::new();

/// Bound: one number. How many announcements were lost.
#[btf_map]
pub static LOST: Array<u64, 1> = Array::new();

/// Bound: one a TCP socket of background traffic, memory owned by the socket. Full (no memory): its round trips are
/// not measured.
#[btf_map]
pub static PROBES: Storage<Probe, NO_PREALLOC> = Storage::new();

/// Bound: 64 KiB, 2,048 round trips: those of 30 flows in half a second. Full: further ones are not told.
#[btf_map]
pub static ROUND_TRIPS: RingBuf<RoundTrip, { 64 * 1024 }> = RingBuf::new();

/// Bound: 64 KiB, 4,096 slots. Full: user space finds the device when it checks the limit, within a
/// second.
#[btf_map]
pub static ROADS: RingBuf<u32, { 64 * 1024 }> = RingBuf::new();
