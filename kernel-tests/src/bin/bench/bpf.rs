//! The few calls of bpf(2) that the bench needs: programs made of instructions, and a look at those
//! of others. The structures are those of linux/bpf.h; there, too, each call has its own.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const PROG_GET_FD_BY_ID: u32 = 13;
const MAP_GET_FD_BY_ID: u32 = 14;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const LINK_CREATE: u32 = 28;
const ENABLE_STATS: u32 = 32;

const PROG_TYPE_CGROUP_SKB: u32 = 8;

/// Kinds of maps.
#[derive(Clone, Copy, Debug)]
pub enum MapKind {
    /// Values by index.
    Array = 2,
    /// Programs by index.
    Programs = 3,
}

/// Which packets of a cgroup a program meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Those that sockets receive.
    Ingress = 0,
    /// Those that they send.
    Egress = 1,
}

/// An instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Shorthand of linux/filter.h: the instruction with its registers (to, from), offset and immediate.
pub const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

/// `to = value`, two instructions long.
pub const fn load64(to: u8, value: u64) -> [Instruction; 2] {
    [
        op(0x18, to, 0, 0, value as i32),
        op(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

/// `to = map`, two instructions long.
pub fn load_map(to: u8, map: &OwnedFd) -> [Instruction; 2] {
    const PSEUDO_MAP_FD: u8 = 1;
    [
        op(0x18, to, PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        op(0, 0, 0, 0, 0),
    ]
}

/// `to = from`.
pub const fn copy(to: u8, from: u8) -> Instruction {
    op(0xbf, to, from, 0, 0)
}

/// `to = value`.
pub const fn set(to: u8, value: i32) -> Instruction {
    op(0xb7, to, 0, 0, value)
}

/// A helper by its number in linux/bpf.h.
pub const fn call(helper: i32) -> Instruction {
    op(0x85, 0, 0, 0, helper)
}

/// The end; the verdict is in register 0.
pub const EXIT: Instruction = op(0x95, 0, 0, 0, 0);

fn bpf<T>(command: u32, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes at most the attribute's size; pointers in it are to
    // memory that the callers below keep alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attribute,
            mem::size_of::<T>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value as i32),
    }
}

fn descriptor(result: io::Result<i32>, what: &str) -> Result<OwnedFd> {
    let descriptor = result.with_context(|| what.to_owned())?;
    // SAFETY: the calls that get here return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A new map with keys of 4 bytes.
pub fn create_map(kind: MapKind, value_size: u32, entries: u32) -> Result<OwnedFd> {
    #[repr(C)]
    struct Attribute {
        kind: u32,
        key_size: u32,
        value_size: u32,
        entries: u32,
    }
    let mut attribute = Attribute {
        kind: kind as u32,
        key_size: 4,
        value_size,
        entries,
    };
    descriptor(bpf(MAP_CREATE, &mut attribute), "can't create a map")
}

#[repr(C)]
struct Element {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new(map: &OwnedFd, key: &u32, value: u64) -> Self {
        Self {
            map: map.as_raw_fd() as u32,
            _padding: 0,
            key: &raw const *key as u64,
            value,
            flags: 0,
        }
    }
}

/// Puts a program into a map of programs.
pub fn put_program(map: &OwnedFd, index: u32, program: &OwnedFd) -> Result<()> {
    let value = program.as_raw_fd();
    let mut element = Element::new(map, &index, &raw const value as u64);
    bpf(MAP_UPDATE_ELEM, &mut element).context("can't put a program into a map")?;
    Ok(())
}

/// Eight bytes of a map that has values of that size.
pub fn look_up(map: &OwnedFd, key: u32) -> Result<u64> {
    let mut value = 0_u64;
    let mut element = Element::new(map, &key, &raw mut value as u64);
    bpf(MAP_LOOKUP_ELEM, &mut element).with_context(|| format!("no {key} in the map"))?;
    Ok(value)
}

/// Loads a cgroup_skb program.
pub fn load(instructions: &[Instruction], hook: Hook) -> Result<OwnedFd> {
    #[repr(C)]
    struct Attribute {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        device: u32,
        hook: u32,
    }
    let mut log = vec![0_u8; 65_536];
    let mut attribute = Attribute {
        kind: PROG_TYPE_CGROUP_SKB,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: 65_536,
        log: log.as_mut_ptr() as u64,
        kernel_version: 0,
        flags: 0,
        name: *b"chad_bench\0\0\0\0\0\0",
        device: 0,
        hook: hook as u32,
    };
    let loaded = bpf(PROG_LOAD, &mut attribute);
    let end = log.iter().position(|byte| *byte == 0).unwrap_or_default();
    descriptor(loaded, "can't load a program")
        .with_context(|| String::from_utf8_lossy(&log[..end]).into_owned())
}

/// Attaches a program to a cgroup for as long as the link is open.
pub fn attach(program: &OwnedFd, cgroup: BorrowedFd<'_>, hook: Hook) -> Result<OwnedFd> {
    #[repr(C)]
    struct Attribute {
        program: u32,
        cgroup: u32,
        hook: u32,
        flags: u32,
    }
    let mut attribute = Attribute {
        program: program.as_raw_fd() as u32,
        cgroup: cgroup.as_raw_fd() as u32,
        hook: hook as u32,
        flags: 0,
    };
    descriptor(bpf(LINK_CREATE, &mut attribute), "can't attach a program")
}

/// Runs a program on a packet (with an Ethernet header), and gives its verdict and the nanoseconds
/// that one run took.
pub fn test_run(program: &OwnedFd, packet: &[u8], repeat: u32) -> Result<(u32, u32)> {
    #[repr(C)]
    struct Attribute {
        program: u32,
        verdict: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }
    let mut attribute = Attribute {
        program: program.as_raw_fd() as u32,
        verdict: 0,
        size_in: u32::try_from(packet.len())?,
        size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat,
        duration: 0,
    };
    bpf(PROG_TEST_RUN, &mut attribute).context("can't run a program")?;
    Ok((attribute.verdict, attribute.duration))
}

fn by_id(command: u32, id: u32) -> io::Result<i32> {
    #[repr(C)]
    struct Attribute {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut attribute = Attribute {
        id,
        next: 0,
        flags: 0,
    };
    bpf(command, &mut attribute)
}

/// A loaded program.
pub fn program(id: u32) -> Result<OwnedFd> {
    descriptor(by_id(PROG_GET_FD_BY_ID, id), "no such program")
}

/// A loaded map.
pub fn map(id: u32) -> Result<OwnedFd> {
    descriptor(by_id(MAP_GET_FD_BY_ID, id), "no such map")
}

/// Fills in what the kernel knows of a program or map.
fn info(of: &OwnedFd, info: &mut [u64]) -> Result<()> {
    #[repr(C)]
    struct Attribute {
        descriptor: u32,
        size: u32,
        info: u64,
    }
    let mut attribute = Attribute {
        descriptor: of.as_raw_fd() as u32,
        size: u32::try_from(mem::size_of_val(info))?,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attribute).context("can't look into it")?;
    Ok(())
}

/// What is known of a program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The first fifteen characters of its name.
    pub name: String,
    /// IDs of its maps.
    pub maps: Vec<u32>,
    /// How often it ran while somebody counted, and for how many nanoseconds.
    pub runs: u64,
    /// See there.
    pub nanoseconds: u64,
}

/// Looks at a program: struct bpf_prog_info, by its 64-bit words.
pub fn describe(program: &OwnedFd) -> Result<Program> {
    let mut maps = [0_u32; 64];
    let mut words = [0_u64; 26];
    // nr_map_ids is the upper half of this word, map_ids the next.
    words[6] = (maps.len() as u64) << 32;
    words[7] = maps.as_mut_ptr() as u64;
    info(program, &mut words)?;
    let count = usize::try_from(words[6] >> 32)?.min(maps.len());
    Ok(Program {
        name: text(&words[8..10]),
        maps: maps[..count].to_vec(),
        nanoseconds: words[24],
        runs: words[25],
    })
}

/// A map's name: struct bpf_map_info, by its 64-bit words.
pub fn map_name(map: &OwnedFd) -> Result<String> {
    let mut words = [0_u64; 5];
    info(map, &mut words)?;
    Ok(text(&words[3..5]))
}

fn text(words: &[u64]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
    bytes
        .take_while(|byte| *byte != 0)
        .map(char::from)
        .collect()
}

/// Has the kernel count every program's runs for as long as this is open.
pub fn count_runs() -> Result<OwnedFd> {
    let mut run_time = 0_u32;
    descriptor(bpf(ENABLE_STATS, &mut run_time), "can't count runs")
}
