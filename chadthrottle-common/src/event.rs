//! What the kernel tells user space.

use crate::{map_value, newcomer::Kind, tag::Tag};

/// A process that was given a slot, because it created its first inet socket since chadthrottle
/// watches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSeen {
    /// What is known of it; all there is to know if it ends at once.
    pub kind: Kind,
    /// The slot it was given.
    pub tag: Tag,
    /// Its process id (thread group id) in the initial PID namespace.
    pub pid: u32,
    /// Nothing.
    pub reserved: u32,
}
map_value!(ProcessSeen, 56);

impl ProcessSeen {
    /// Reads a record of the ring buffer; nothing if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Some(Self {
            kind: Kind::from_bytes(bytes)?,
            tag: Tag {
                slot: word(40),
                generation: word(44),
            },
            pid: word(48),
            reserved: word(52),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_field_by_field() {
        let mut bytes = [0u8; 56];
        for (at, value) in [(16, 1000u32), (40, 7), (44, 3), (48, 4242)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        for (at, value) in [(0, 1u64 << 40), (8, 5)] {
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[24..28].copy_from_slice(b"curl");
        let seen = ProcessSeen::from_bytes(&bytes).unwrap();
        assert_eq!((seen.tag.slot, seen.tag.generation), (7, 3));
        let kind = seen.kind;
        assert_eq!((kind.cgroup, kind.trees), (1 << 40, 5));
        assert_eq!(
            (seen.pid, kind.uid, kind.name()),
            (4242, 1000, &b"curl"[..])
        );
        assert_eq!(ProcessSeen::from_bytes(&bytes[1..]), None);
    }
}
