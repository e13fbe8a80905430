//! The programs of a running chadthrottle, and runs of them on a packet.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd, thread, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    bpf::{self, EXIT, Hook, Instruction, MapKind, call, copy, load_map, load64, op, set},
    table::median,
};

/// How often a packet is run, as one measurement.
pub const REPEAT: u32 = 1_000_000;
/// How many measurements are made.
pub const RUNS: usize = 5;

/// Longer than a limit lands.
const LANDING: Duration = Duration::from_millis(1200);

/// The programs that meet packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Program {
    /// Counts what sockets receive.
    CountIngress,
    /// Counts what they send.
    CountEgress,
    /// The throttle pair's for what sockets receive.
    Ingress,
    /// Its other.
    Egress,
}

impl Program {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::CountIngress,
        Self::CountEgress,
        Self::Ingress,
        Self::Egress,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::CountIngress => "observer, received",
            Self::CountEgress => "observer, sent",
            Self::Ingress => "throttle, received",
            Self::Egress => "throttle, sent",
        }
    }

    /// Where it is attached.
    pub fn hook(self) -> Hook {
        match self {
            Self::CountIngress | Self::Ingress => Hook::Ingress,
            Self::CountEgress | Self::Egress => Hook::Egress,
        }
    }
}

/// The programs of a running chadthrottle.
pub struct Loaded {
    programs: BTreeMap<Program, OwnedFd>,
    tags: OwnedFd,
    process_slots: OwnedFd,
}

impl Loaded {
    /// By what the descriptors of the process tell.
    pub fn find(pid: u32) -> Result<Self> {
        let mut programs = BTreeMap::new();
        let mut maps = BTreeMap::new();
        for (id, hook) in links(pid)? {
            let program = bpf::program(id)?;
            let about = bpf::describe(&program)?;
            for id in &about.maps {
                let map = bpf::map(*id)?;
                maps.insert(bpf::map_name(&map)?, map);
            }
            let which = match (&*about.name, hook) {
                ("chadthrottle_co", Hook::Ingress) => Program::CountIngress,
                ("chadthrottle_co", Hook::Egress) => Program::CountEgress,
                ("chadthrottle_in", _) => Program::Ingress,
                ("chadthrottle_eg", _) => Program::Egress,
                (name, _) => anyhow::bail!("no program is known as {name}"),
            };
            programs.insert(which, program);
        }
        // What only the tracker uses.
        for id in tracker_maps(pid)? {
            let map = bpf::map(id)?;
            maps.insert(bpf::map_name(&map)?, map);
        }
        let mut map = |name: &str| maps.remove(name).with_context(|| format!("no map {name}"));
        Ok(Self {
            programs,
            tags: map("TAGS")?,
            process_slots: map("PROCESS_SLOTS")?,
        })
    }

    /// One of them.
    pub fn program(&self, program: Program) -> Result<&OwnedFd> {
        (self.programs.get(&program)).with_context(|| format!("{program:?} is not attached"))
    }

    /// What sockets of that process carry: slot and generation.
    pub fn tag(&self, pid: u32) -> Result<u64> {
        bpf::look_up(&self.process_slots, pid)
    }

    /// Nanoseconds of a run on a packet of a socket with that tag, less those of an empty program;
    /// and the verdict.
    pub fn cost(&self, program: Program, tag: Option<u64>) -> Result<(f64, u32)> {
        let real = self.program(program)?;
        let empty = bpf::load(&[set(0, 1), EXIT], program.hook())?;
        let packet = packet();
        let run = |inner: &OwnedFd| -> Result<(f64, u32)> {
            // The socket of a test run is the kernel's own and has no tag. A prologue gives it one,
            // and then becomes the program.
            let prologue = tag
                .map(|tag| self.tagged(tag, inner, program.hook()))
                .transpose()?;
            let (_programs, entry) = match &prologue {
                Some((programs, prologue)) => (Some(programs), prologue),
                None => (None, inner),
            };
            let mut times = Vec::new();
            let mut last = 0;
            // A limit's first packet begins its landing, the second in which what was in flight is let in.
            bpf::test_run(entry, &packet, 1)?;
            thread::sleep(LANDING);
            // The first one warms up.
            for _ in 0..=RUNS {
                let (verdict, time) = bpf::test_run(entry, &packet, REPEAT)?;
                times.push(f64::from(time));
                last = verdict;
            }
            Ok((median(&times[1..]), last))
        };
        let (with, verdict) = run(real)?;
        let (without, _) = run(&empty)?;
        Ok((with - without, verdict))
    }

    /// A program that tags the packet's socket and goes on as another, and the map by which it does.
    fn tagged(&self, tag: u64, inner: &OwnedFd, hook: Hook) -> Result<(OwnedFd, OwnedFd)> {
        let programs = bpf::create_map(MapKind::Programs, 4, 1)?;
        bpf::put_program(&programs, 0, inner)?;
        let prologue = bpf::load(&prologue(tag, &self.tags, &programs), hook)?;
        Ok((programs, prologue))
    }
}

fn prologue(tag: u64, tags: &OwnedFd, programs: &OwnedFd) -> Vec<Instruction> {
    const TAIL_CALL: i32 = 12;
    const SK_FULLSOCK: i32 = 95;
    const SK_STORAGE_GET: i32 = 107;
    const CREATE: i32 = 1;
    /// In struct __sk_buff.
    const SK: i16 = 168;
    let mut program = vec![
        copy(6, 1),
        op(0x79, 1, 1, SK, 0),
        // To the end without a socket.
        op(0x15, 1, 0, 19, 0),
        call(SK_FULLSOCK),
        op(0x15, 0, 0, 17, 0),
        copy(2, 0),
    ];
    program.extend(load64(3, tag));
    // And nothing else of `SocketTag`.
    program.extend([op(0x7b, 10, 3, -16, 0), set(3, 0), op(0x7b, 10, 3, -8, 0)]);
    program.extend(load_map(1, tags));
    program.extend([
        copy(3, 10),
        op(0x07, 3, 0, 0, -16),
        set(4, CREATE),
        call(SK_STORAGE_GET),
        copy(1, 6),
    ]);
    program.extend(load_map(2, programs));
    program.extend([
        set(3, 0),
        call(TAIL_CALL),
        // Not the verdict of any program here.
        set(0, 0),
        EXIT,
    ]);
    program
}

/// A TCP segment of 1448 bytes over IPv4, as Ethernet carries it.
fn packet() -> Vec<u8> {
    let mut packet = vec![0; 14 + 20 + 32 + 1448];
    packet[12..14].copy_from_slice(&[0x08, 0x00]);
    packet[14] = 0x45;
    let length = u16::try_from(packet.len() - 14).unwrap_or(u16::MAX);
    packet[16..18].copy_from_slice(&length.to_be_bytes());
    packet[22] = 64;
    packet[23] = 6;
    packet[26..30].copy_from_slice(&[10, 77, 0, 2]);
    packet[30..34].copy_from_slice(&[10, 77, 0, 1]);
    // A header of 32 bytes; ACK.
    packet[46] = 0x80;
    packet[47] = 0x10;
    packet
}

/// The fields of a process's BPF descriptors.
fn descriptors(pid: u32) -> Result<Vec<BTreeMap<String, String>>> {
    let directory = format!("/proc/{pid}/fdinfo");
    let mut descriptors = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("can't read {directory}"))? {
        // It may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        descriptors.push(
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        );
    }
    Ok(descriptors)
}

/// IDs of the programs that meet packets, and where.
fn links(pid: u32) -> Result<Vec<(u32, Hook)>> {
    let mut links = Vec::new();
    for fields in descriptors(pid)? {
        let hook = match fields.get("attach_type").map(String::as_str) {
            Some("0") => Hook::Ingress,
            Some("1") => Hook::Egress,
            _ => continue,
        };
        let id = fields.get("prog_id").context("a link without a program")?;
        links.push((id.parse()?, hook));
    }
    Ok(links)
}

/// The program that a process has run for each accepted connection, if it has one.
pub fn accepts(pid: u32) -> Result<Option<OwnedFd>> {
    program_with(pid, "link_type", "tracing")
}

fn tracker_maps(pid: u32) -> Result<Vec<u32>> {
    match program_with(pid, "attach_type", "2")? {
        Some(tracker) => Ok(bpf::describe(&tracker)?.maps),
        None => Ok(Vec::new()),
    }
}

/// The program of a process's first link with a field of that value.
fn program_with(pid: u32, field: &str, value: &str) -> Result<Option<OwnedFd>> {
    let descriptors = descriptors(pid)?;
    let mut links =
        (descriptors.iter()).filter(|fields| fields.get(field).is_some_and(|its| its == value));
    let id = links.find_map(|fields| fields.get("prog_id"));
    id.map(|id| bpf::program(id.parse()?)).transpose()
}
