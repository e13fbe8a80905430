//! Socket tags and process slots.

use crate::{address::TrafficClass, limit::is_adaptive, map_value, traffic::Direction};

/// The most slots there are (slot 0 is nobody's); [`crate::slots::slots_for`] says how many there are here.
///
/// When all are taken, further processes share slots, one for each pair of cgroup and user; see
/// [`MAX_CROWDS`].
pub const MAX_SLOTS: u32 = 65_536;

/// How many of the slots are kept for processes that have none of their own, so that limits by user and by
/// cgroup hold them, too. When these are taken as well, further sockets stay untagged, and their traffic counts as
/// unattributed, which the coverage figure shows.
pub const MAX_CROWDS: u32 = 256;

/// The slot that counts what belongs to no known process.
pub const UNATTRIBUTED: u32 = 0;

/// What is stored with every socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketTag {
    /// Whose it is.
    pub tag: Tag,
    /// When it was last granted a send window, see [`crate::send_window::Granted`]; 0 before it was.
    pub granted: u64,
}
map_value!(SocketTag, 16);

impl SocketTag {
    /// Of a socket that was granted nothing yet.
    #[inline(always)]
    pub const fn new(tag: Tag) -> Self {
        Self { tag, granted: 0 }
    }
}

/// Whose a socket is.
///
/// `generation` tells a slot's successive owners apart, so that a socket that outlives its
/// process can never be charged to the next one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Index into the slot arrays.
    pub slot: u32,
    /// Must equal [`SlotState::generation`] for the tag to count.
    pub generation: u32,
}
map_value!(Tag, 8);

/// What the kernel needs to know of a slot for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    /// The owner's generation; tags with another one are stale.
    pub generation: u32,
    /// Not 0: what the slot moves is told apart by class, whether it is limited or not.
    pub metered: u32,
    /// By [`Direction`] and [`TrafficClass`]: index into the limits, 0 for unlimited.
    pub limits: [[u32; 2]; 2],
    /// The number of the network namespace that the owner is in, 0 for the program's own; see
    /// [`crate::traffic::device_entry`]. It is user space that finds it out.
    pub namespace: u32,
    /// A limit, if the slot has none but that of everybody else: while it holds nothing
    /// ([`UNHELD`](crate::limit::UNHELD)), there is nothing to do for the slot's packets. 0 if not.
    pub rest: u32,
}
map_value!(SlotState, 32);

impl SlotState {
    /// Whether the throttle pair has nothing to do for packets of this direction.
    #[inline(always)]
    pub const fn passes(&self, direction: Direction) -> bool {
        let [internet, local] = self.limits[direction.index()];
        internet == 0 && local == 0 && self.metered == 0
    }

    /// Whether any of its traffic has what the link has for it, see [`is_adaptive`].
    #[inline(always)]
    pub const fn has_adaptive(&self) -> bool {
        let [[down, local_down], [up, local_up]] = self.limits;
        is_adaptive(down) || is_adaptive(up) || is_adaptive(local_down) || is_adaptive(local_up)
    }

    /// Whether what stays on this machine is let through: to others it leaves all that there is.
    #[inline(always)]
    pub const fn frees_loopback(&self) -> bool {
        let [[_, down], [_, up]] = self.limits;
        is_adaptive(down) && is_adaptive(up)
    }

    /// Whether it matters which class a packet is of.
    #[inline(always)]
    pub const fn tells_classes(&self) -> bool {
        let [[down, local_down], [up, local_up]] = self.limits;
        self.metered != 0 || down != local_down || up != local_up
    }

    /// The index of the limit for packets of this direction and class; 0 means unlimited.
    #[inline(always)]
    pub const fn limit(&self, direction: Direction, class: TrafficClass) -> u32 {
        let [internet, local] = self.limits[direction.index()];
        match class {
            TrafficClass::Internet => internet,
            TrafficClass::Local => local,
        }
    }
}
