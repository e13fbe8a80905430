//! The embedded object: what build.rs chose, and loading it.

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSkb, CgroupSock, Program},
};
use chadthrottle_common::names::{
    MAP_COUNTERS, MAP_ENFORCED, MAP_FREE_SLOTS, MAP_LIMITS, MAP_PACED, MAP_PROCESS_SLOTS,
    MAP_SLOTS, PROGRAM_COUNT_EGRESS, PROGRAM_COUNT_INGRESS, PROGRAM_EGRESS, PROGRAM_INGRESS,
    PROGRAM_TRACK,
};

/// The object itself.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/chadthrottle.o"));

/// The fingerprint of the sources that the object was built from; build.rs embeds no other.
pub const FINGERPRINT: &str = env!("CHADTHROTTLE_FINGERPRINT");

/// Whether the object was built on this machine (`fresh`) or is the committed one.
pub const ORIGIN: &str = env!("CHADTHROTTLE_OBJECT_ORIGIN");

/// Loads all programs, and maps for so many slots; attaches nothing.
pub(super) fn load(slots: u32) -> anyhow::Result<Ebpf> {
    log::debug!(
        "embedded object: {ORIGIN}, fingerprint {FINGERPRINT}, {} bytes",
        OBJECT.len()
    );
    // Messages of the programs cost time in the kernel, so they are compiled out by the verifier
    // unless someone reads them.
    let level: u8 = if log::log_enabled!(target: "chadthrottle", log::Level::Debug) {
        aya_log::Level::Debug as u8
    } else {
        0
    };
    let mut ebpf = EbpfLoader::new()
        .override_global(aya_log::LEVEL, &level, true)
        .map_max_entries(MAP_SLOTS, slots)
        .map_max_entries(MAP_FREE_SLOTS, slots)
        .map_max_entries(MAP_PROCESS_SLOTS, slots)
        .map_max_entries(MAP_COUNTERS, slots)
        .map_max_entries(MAP_PACED, slots)
        .map_max_entries(MAP_LIMITS, 2 * slots)
        .map_max_entries(MAP_ENFORCED, 2 * slots)
        .load(OBJECT)
        .context("the kernel refused the embedded object's maps")?;
    for name in [
        PROGRAM_COUNT_INGRESS,
        PROGRAM_COUNT_EGRESS,
        PROGRAM_INGRESS,
        PROGRAM_EGRESS,
    ] {
        let program = cgroup_skb(&mut ebpf, name)?;
        program.load().with_context(|| refused(name))?;
        log::debug!(
            "Program '{name}' loaded with expected_attach_type: {:?}",
            program.expected_attach_type()
        );
        anyhow::ensure!(
            program.expected_attach_type().is_some(),
            "program '{name}' has no expected_attach_type, so attaching it would fail with EINVAL; \
             the embedded object is not the one these sources make: run `cargo xtask build-release`"
        );
    }
    cgroup_sock(&mut ebpf, PROGRAM_TRACK)?
        .load()
        .with_context(|| refused(PROGRAM_TRACK))?;
    log::debug!("Program '{PROGRAM_TRACK}' loaded for sock_create");
    Ok(ebpf)
}

fn refused(name: &str) -> String {
    format!("the kernel refused program '{name}'; `chadthrottle doctor` says what may be missing")
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the embedded object has no program '{name}'"))?;
    program
        .try_into()
        .with_context(|| format!("program '{name}' of the embedded object"))
}

/// A program of the throttle pair, or an observer.
pub(super) fn cgroup_skb<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut CgroupSkb> {
    program(ebpf, name)
}

/// The program that tags new sockets.
pub(super) fn cgroup_sock<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> anyhow::Result<&'a mut CgroupSock> {
    program(ebpf, name)
}
