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

impl ProcessSeen {
    /// Reads a record of the ring buffer; nothing if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut name = [0; 16];
        name.copy_from_slice(&bytes[16..]);
        Some(Self {
            tag: Tag {
                slot: word(0),
                generation: word(4),
            },
            pid: word(8),
            uid: word(12),
            name,
        })
    }

    /// The name up to its NUL.
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_field_by_field() {
        let mut bytes = [0u8; 32];
        for (at, value) in [(0, 7u32), (4, 3), (8, 4242), (12, 1000)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[16..20].copy_from_slice(b"curl");
        let seen = ProcessSeen::from_bytes(&bytes).unwrap();
        assert_eq!((seen.tag.slot, seen.tag.generation), (7, 3));
        assert_eq!(
            (seen.pid, seen.uid, seen.name()),
            (4242, 1000, &b"curl"[..])
        );
        assert_eq!(ProcessSeen::from_bytes(&bytes[1..]), None);
    }
}
