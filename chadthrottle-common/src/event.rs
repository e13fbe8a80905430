//! What the kernel tells user space.

use crate::{map_value, tag::Tag};

/// A process that was given a slot, because it created its first inet socket since chadthrottle
/// watches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSeen {
    /// The slot it was given.
    pub tag: Tag,
    /// Its process id (thread group id) in the initial PID namespace.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// Its name as in `/proc/PID/comm`, NUL-padded; all there is to know if it ends at once.
    pub name: [u8; 16],
}
map_value!(ProcessSeen, 32);
