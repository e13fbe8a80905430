//! Where the running kernel keeps a field of a struct, from its own type information (BTF).

use std::{fs, io};

/// The kernel's types, in the format of `Documentation/bpf/btf.rst`.
///
/// Read here because aya keeps what it parses to itself, and crates that parse BTF make an object
/// of each of the hundred thousand types, which takes as long as everything else at the start.
pub struct Btf {
    bytes: Vec<u8>,
    types: usize,
    strings: usize,
}

const MAGIC: u16 = 0xeb9f;

// Kinds of types, `BTF_KIND_*` in linux/btf.h.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

impl Btf {
    /// The running kernel's types.
    ///
    /// # Errors
    ///
    /// The kernel has none (`CONFIG_DEBUG_INFO_BTF`).
    pub fn of_kernel() -> io::Result<Self> {
        let bytes = fs::read("/sys/kernel/btf/vmlinux")?;
        Self::new(bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn new(bytes: Vec<u8>) -> Option<Self> {
        let mut btf = Self {
            bytes,
            types: 0,
            strings: 0,
        };
        let magic = btf.bytes.get(..2)?.try_into().ok()?;
        if u16::from_ne_bytes(magic) != MAGIC {
            return None;
        }
        let header = btf.word(4)? as usize;
        btf.types = header + btf.word(8)? as usize;
        btf.strings = header + btf.word(16)? as usize;
        Some(btf)
    }

    /// How far a field is from the beginning of a struct, in bits; nothing if it is not there.
    pub fn bit_offset(&self, structure: &str, field: &str) -> Option<u32> {
        let named =
            |(_, at): &(u32, usize)| self.kind(*at) == STRUCT && self.is_named(*at, structure);
        self.types().filter(named).find_map(|(_, at)| {
            let info = self.word(at + 4)?;
            let mut members = (0..info as usize & 0xffff).map(|member| at + 12 + member * 12);
            let member = members.find(|member| self.is_named(*member, field))?;
            let offset = self.word(member + 8)?;
            let has_bitfields = info >> 31 != 0;
            Some(if has_bitfields {
                offset & 0x00ff_ffff
            } else {
                offset
            })
        })
    }

    /// How many parameters a function has; nothing if there is none of that name.
    pub fn parameters(&self, function: &str) -> Option<u32> {
        let named = |(_, at): &(u32, usize)| self.kind(*at) == FUNC && self.is_named(*at, function);
        let (_, function) = self.types().find(named)?;
        let prototype = self.word(function + 8)?;
        let (_, prototype) = self.types().find(|(id, _)| *id == prototype)?;
        (self.kind(prototype) == FUNC_PROTO).then(|| self.word(prototype + 4).unwrap_or(0) & 0xffff)
    }

    /// The kind of the type at a place.
    fn kind(&self, at: usize) -> u32 {
        self.word(at + 4).map_or(0, |info| (info >> 24) & 0x1f)
    }

    /// All types, by their numbers, and where they are.
    fn types(&self) -> impl Iterator<Item = (u32, usize)> {
        let mut at = self.types;
        (1..).map_while(move |id| {
            let here = at;
            let info = self.word(here + 4)?;
            let count = info as usize & 0xffff;
            at = here
                + 12
                + match (info >> 24) & 0x1f {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                    ENUM | FUNC_PROTO => 8 * count,
                    _ => 0,
                };
            (here < self.strings).then_some((id, here))
        })
    }

    /// Whether the type or member at `at`, which begins with the offset of its name, is called so.
    fn is_named(&self, at: usize, name: &str) -> bool {
        let there = self.word(at).and_then(|offset| {
            let from = self.strings + offset as usize;
            self.bytes.get(from..=from + name.len())
        });
        there.is_some_and(|there| there.strip_suffix(b"\0") == Some(name.as_bytes()))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An int, an array, and a struct `s` with the fields `a`, at 32 bits, and `b`, a bitfield at
    /// 36 bits.
    fn small() -> Vec<u8> {
        let names = b"\0int\0s\0a\0b\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, INT << 24, 4, 32]);
        types.extend([0, ARRAY << 24, 0, 1, 1, 8]);
        types.extend([5, STRUCT << 24 | 1 << 31 | 2, 8]);
        types.extend([7, 1, 32]);
        types.extend([9, 1, 4 << 24 | 36]);
        // A function `a` of two integers.
        types.extend([0, FUNC_PROTO << 24 | 2, 1, 0, 1, 0, 1]);
        types.extend([7, FUNC << 24, 4]);
        let length = 4 * types.len() as u32;
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, length, length, names.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(names);
        bytes
    }

    #[test]
    fn fields_are_found_by_name() {
        let btf = Btf::new(small()).unwrap();
        for (structure, field, offset) in [
            ("s", "a", Some(32)),
            ("s", "b", Some(36)),
            ("s", "int", None),
            ("s", "", None),
            ("int", "a", None),
            ("st", "a", None),
        ] {
            let found = btf.bit_offset(structure, field);
            assert_eq!(found, offset, "{structure}.{field}");
        }
    }

    #[test]
    fn parameters_are_counted() {
        let btf = Btf::new(small()).unwrap();
        assert_eq!(btf.parameters("a"), Some(2));
        assert_eq!(btf.parameters("s"), None, "no function");
    }

    #[test]
    fn what_is_cut_off_is_no_panic() {
        let whole = small();
        for length in 0..whole.len() {
            if let Some(btf) = Btf::new(whole[..length].to_vec()) {
                assert_eq!(btf.bit_offset("s", "none"), None);
                let _no_panic = btf.parameters("a");
            }
        }
        assert!(Btf::new(vec![0; 100]).is_none());
    }

    #[test]
    fn the_running_kernel_tells_where_the_scale_of_windows_is() {
        let Ok(btf) = Btf::of_kernel() else { return };
        let scale = btf.bit_offset("tcp_options_received", "rcv_wscale");
        assert_eq!(
            scale.map(|bits| bits % 8),
            Some(4),
            "the upper half of a byte"
        );
        assert!(btf.bit_offset("tcp_sock", "rx_opt").is_some());
    }
}
