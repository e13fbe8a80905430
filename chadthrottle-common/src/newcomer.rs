//! Processes that have just made their first socket: which limits they begin with.
//!
//! User space compares a new process with the rules within milliseconds, but in a millisecond a
//! fast network carries a whole file. So what it finds out is kept by the kind of the process, and
//! the next of that kind is limited from its first byte. For the first of a kind there is what the
//! rules say of its trees, its name and its user.

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
    /// Which of the others count: 0 for all, else those of [`STAND_INS`].
    pub counts: u32,
    /// Its name as in `/proc/PID/comm`, NUL-padded.
    pub name: [u8; 16],
}
map_value!(Kind, 40);

/// A bit for each tree of processes that a limit is for.
pub type Trees = u64;

/// [`Kind::counts`]: the trees do.
pub const TREES: u32 = 1;
/// [`Kind::counts`]: the name does.
pub const NAME: u32 = 2;
/// [`Kind::counts`]: the user does.
pub const USER: u32 = 4;
/// [`Kind::counts`]: the cgroup and the user do, of processes for which no slot is left.
pub const CROWD: u32 = 8;

/// What stands for a kind of which nothing is known by itself, by the fields that count: the first
/// that is known.
pub const STAND_INS: [u32; 7] = [
    TREES | NAME | USER,
    TREES | NAME,
    TREES | USER,
    NAME | USER,
    TREES,
    NAME,
    USER,
];

impl Kind {
    /// What stands for all kinds that are like this one in the fields that count.
    #[inline(always)]
    pub const fn counting(&self, fields: u32) -> Self {
        Self {
            cgroup: 0,
            trees: if fields & TREES == 0 { 0 } else { self.trees },
            uid: if fields & USER == 0 { 0 } else { self.uid },
            counts: fields,
            name: if fields & NAME == 0 {
                [0; 16]
            } else {
                self.name
            },
        }
    }

    /// What stands for all processes of its cgroup and user for which no slot is left.
    #[inline(always)]
    pub const fn crowd(&self) -> Self {
        Self {
            cgroup: self.cgroup,
            trees: 0,
            uid: self.uid,
            counts: CROWD,
            name: [0; 16],
        }
    }

    /// Whether it is such.
    pub const fn is_crowd(&self) -> bool {
        self.counts == CROWD
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
