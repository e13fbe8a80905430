//! Socket tags and process slots.

use crate::{map_value, traffic::Direction};

/// How many processes can be told apart at once (slot 0 is nobody's).
///
/// Per CPU a slot costs `size_of::<Counters>()`. When all are taken, further processes' sockets
/// stay untagged and their traffic counts as unattributed, which the coverage figure shows.
pub const MAX_SLOTS: u32 = 8192;

/// The slot that counts what belongs to no known process.
pub const UNATTRIBUTED: u32 = 0;

/// What a socket carries: whose it is.
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
    /// By [`Direction`]: index into the limits, 0 for unlimited.
    pub limits: [u32; 2],
}
map_value!(SlotState, 12);

impl SlotState {
    /// The index of the limit for `direction`; 0 means unlimited.
    #[inline(always)]
    pub const fn limit(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Download => self.limits[0],
            Direction::Upload => self.limits[1],
        }
    }
}
