//! Processes that have just made their first socket: which limits they begin with.
//!
//! User space compares a new process with the rules within milliseconds, but in a millisecond a
//! fast network carries a whole file. So what it finds out is kept by the kind of the process, and
//! the next of that kind is limited from its first byte. For the first of a kind there is what the
//! rules say of its tree, its name or its user alone.

use crate::map_value;

/// How many kinds of processes the kernel remembers.
pub const MAX_KINDS: u32 = 4096;

/// How many trees of processes can be told apart in the kernel.
pub const MAX_TREES: u32 = 64;

/// All that is known in the kernel of a process that makes its first socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The id of its cgroup.
    pub cgroup: u64,
    /// The [`Trees`] it belongs to.
    pub trees: Trees,
    /// Its user id.
    pub uid: u32,
    /// Which of the others count: 0 for all, else one of the stand-ins'.
    pub counts: u32,
    /// Its name as in `/proc/PID/comm`, NUL-padded.
    pub name: [u8; 16],
}
map_value!(Kind, 40);

/// A bit for each tree of processes that a limit is for.
pub type Trees = u64;

impl Kind {
    /// What stands for all kinds that are in these trees.
    #[inline(always)]
    pub const fn any_in(trees: Trees) -> Self {
        Self {
            cgroup: 0,
            trees,
            uid: 0,
            counts: 1,
            name: [0; 16],
        }
    }

    /// What stands for all kinds of processes with this name.
    #[inline(always)]
    pub const fn any_named(name: [u8; 16]) -> Self {
        Self {
            cgroup: 0,
            trees: 0,
            uid: 0,
            counts: 2,
            name,
        }
    }

    /// What stands for all kinds of processes of this user.
    #[inline(always)]
    pub const fn any_of(uid: u32) -> Self {
        Self {
            cgroup: 0,
            trees: 0,
            uid,
            counts: 3,
            name: [0; 16],
        }
    }

    /// What stands for this kind where nothing is known of it by itself, the first that is known
    /// first.
    #[inline(always)]
    pub const fn stand_ins(&self) -> [Self; 3] {
        [
            Self::any_in(self.trees),
            Self::any_named(self.name),
            Self::any_of(self.uid),
        ]
    }

    /// Reads one; nothing if there are fewer bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            cgroup: u64::from_ne_bytes(*bytes.first_chunk()?),
            trees: u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
            uid: u32::from_ne_bytes(*bytes.get(16..)?.first_chunk()?),
            counts: u32::from_ne_bytes(*bytes.get(20..)?.first_chunk()?),
            name: *bytes.get(24..)?.first_chunk()?,
        })
    }

    /// The name up to its NUL.
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

/// What a process begins with, until user space has looked at it: the fields of
/// [`crate::tag::SlotState`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// See there.
    pub metered: u32,
    /// See there.
    pub limits: [[u32; 2]; 2],
}
map_value!(Beginning, 20);
