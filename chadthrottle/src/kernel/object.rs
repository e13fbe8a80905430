//! The embedded object: what build.rs chose, and loading it.

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSkb, CgroupSock, FExit, Program, RawTracePoint, SchedClassifier},
};
use chadthrottle_common::names::{
    MAP_COUNTERS, MAP_ENFORCED, MAP_FAMILIES, MAP_FREE_SLOTS, MAP_LIMITS, MAP_PACED,
    MAP_PROCESS_SLOTS, MAP_SLOTS, MPTCP, PROGRAM_COUNT_EGRESS, PROGRAM_COUNT_INGRESS,
    PROGRAM_EGRESS, PROGRAM_FORK, PROGRAM_INGRESS, PROGRAM_SEND_WINDOW, PROGRAM_TRACK,
    PROGRAM_WINDOW, RECEIVE_WINDOW_OFFSET, SEND_SCALE_OFFSET, TASK_COMM_OFFSET, TASK_LEADER_OFFSET,
    TASK_PID_OFFSET, TASK_TGID_OFFSET, WINDOW_SCALE_OFFSET, WINDOW_UPDATE_OFFSET,
};
use chadthrottle_common::traffic::Direction;

use super::{
    accept,
    btf::Btf,
    features::{self, KernelVersion},
    newcomers, refusal,
    window::WithoutWindow,
};
use crate::model::direction::PerDirection;

/// The object itself.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/chadthrottle.o"));

/// The fingerprint of the sources that the object was built from; build.rs embeds no other.
pub const FINGERPRINT: &str = env!("CHADTHROTTLE_FINGERPRINT");

/// Whether the object was built on this machine (`fresh`) or is the committed one.
pub const ORIGIN: &str = env!("CHADTHROTTLE_OBJECT_ORIGIN");

/// What the programs must know of the kernel, mostly where it keeps what they read of its structs; 0 for
/// unknown.
#[derive(Clone, Copy, Default)]
struct Offsets {
    /// See [`WINDOW_SCALE_OFFSET`].
    window_scale: u32,
    /// See [`SEND_SCALE_OFFSET`].
    send_scale: u32,
    /// See [`RECEIVE_WINDOW_OFFSET`].
    receive_window: u32,
    /// See [`WINDOW_UPDATE_OFFSET`].
    window_update: u32,
    /// See [`TASK_PID_OFFSET`].
    task_pid: u32,
    /// See [`TASK_TGID_OFFSET`].
    task_tgid: u32,
    /// See [`TASK_LEADER_OFFSET`].
    task_leader: u32,
    /// See [`TASK_COMM_OFFSET`].
    task_comm: u32,
    /// See [`MPTCP`].
    mptcp: u32,
}

/// What was loaded.
pub(super) struct Loaded {
    /// The object.
    pub(super) ebpf: Ebpf,
    /// Why limits of a direction do without windows, if they do.
    pub(super) windows: PerDirection<Result<(), WithoutWindow>>,
    /// Why forks are not seen, if they are not.
    pub(super) forks: Result<(), String>,
    /// How many arguments the function has that accepts connections, if that is known.
    pub(super) accept_arguments: Option<u32>,
}

/// Loads all programs, and maps for so many slots; attaches nothing.
pub(super) fn load(slots: u32) -> anyhow::Result<Loaded> {
    let btf = Btf::of_kernel().map_err(|error| WithoutWindow::Btf(error.to_string()));
    let mut offsets = Offsets {
        mptcp: knows_mptcp().into(),
        ..Offsets::default()
    };
    let mut accept_arguments = None;
    if let Ok(btf) = &btf {
        let bytes = |field| {
            btf.bit_offset("task_struct", field)
                .map_or(0, |bits| bits / 8)
        };
        offsets.task_pid = bytes("pid");
        offsets.task_tgid = bytes("tgid");
        offsets.task_leader = bytes("group_leader");
        offsets.task_comm = bytes("comm");
        accept_arguments = btf.parameters(accept::FUNCTION);
    }
    let with_window = btf.and_then(|btf| with_window_offsets(&btf, offsets));
    let (mut ebpf, windows) = match with_window.map(|offsets| load_with(slots, offsets)) {
        Ok(Ok(mut ebpf)) => {
            let mut load = |direction| -> anyhow::Result<_> {
                let loaded = window(&mut ebpf, direction)?.load();
                Ok(loaded
                    .map_err(|error| WithoutWindow::Refused(format!("{:#}", refusal::why(error)))))
            };
            let windows = PerDirection {
                download: load(Direction::Download)?,
                upload: load(Direction::Upload)?,
            };
            (ebpf, windows)
        }
        Ok(Err(error)) => {
            // Everything else is worth more than this.
            let ebpf = load_with(
                slots,
                Offsets {
                    mptcp: 0,
                    ..offsets
                },
            )?;
            log::warn!("{error:#}");
            (ebpf, without(&WithoutWindow::Refused(format!("{error:#}"))))
        }
        Err(why) => (load_with(slots, offsets)?, without(&why)),
    };
    let forks = newcomers::load(&mut ebpf, offsets.task_tgid != 0);
    Ok(Loaded {
        ebpf,
        windows,
        accept_arguments,
        forks: forks.map_err(|error| format!("{error:#}")),
    })
}

/// Whether the kernel tells to which MPTCP socket a subflow belongs.
fn knows_mptcp() -> bool {
    let since = KernelVersion {
        major: 5,
        minor: 19,
    };
    KernelVersion::parse(&features::kernel_release()).is_some_and(|version| version >= since)
}

/// Neither direction has windows.
fn without(why: &WithoutWindow) -> PerDirection<Result<(), WithoutWindow>> {
    PerDirection {
        download: Err(why.clone()),
        upload: Err(why.clone()),
    }
}

/// The offsets with those of what a TCP socket knows of windows.
fn with_window_offsets(btf: &Btf, offsets: Offsets) -> Result<Offsets, WithoutWindow> {
    let bits = |structure: &str, field: &str| {
        btf.bit_offset(structure, field)
            .ok_or_else(|| WithoutWindow::Btf(format!("it has no {structure}.{field}")))
    };
    let options = bits("tcp_sock", "rx_opt")?;
    Ok(Offsets {
        window_scale: options + bits("tcp_options_received", "rcv_wscale")?,
        send_scale: options + bits("tcp_options_received", "snd_wscale")?,
        receive_window: bits("tcp_sock", "rcv_wnd")? / 8,
        window_update: bits("tcp_sock", "rcv_wup")? / 8,
        ..offsets
    })
}

fn load_with(slots: u32, offsets: Offsets) -> anyhow::Result<Ebpf> {
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
        .override_global(WINDOW_SCALE_OFFSET, &offsets.window_scale, true)
        .override_global(SEND_SCALE_OFFSET, &offsets.send_scale, true)
        .override_global(MPTCP, &offsets.mptcp, true)
        .override_global(RECEIVE_WINDOW_OFFSET, &offsets.receive_window, true)
        .override_global(WINDOW_UPDATE_OFFSET, &offsets.window_update, true)
        .override_global(TASK_PID_OFFSET, &offsets.task_pid, true)
        .override_global(TASK_TGID_OFFSET, &offsets.task_tgid, true)
        .override_global(TASK_LEADER_OFFSET, &offsets.task_leader, true)
        .override_global(TASK_COMM_OFFSET, &offsets.task_comm, true)
        .map_max_entries(MAP_SLOTS, slots)
        .map_max_entries(MAP_FREE_SLOTS, slots)
        .map_max_entries(MAP_PROCESS_SLOTS, slots)
        .map_max_entries(MAP_COUNTERS, slots)
        .map_max_entries(MAP_PACED, slots)
        .map_max_entries(MAP_FAMILIES, slots)
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
        program
            .load()
            .map_err(refusal::why)
            .with_context(|| refused(name))?;
        let verified = program.info().ok();
        log::debug!(
            "Program '{name}' loaded with expected_attach_type: {:?}, {:?} instructions verified",
            program.expected_attach_type(),
            verified.and_then(|info| info.verified_instruction_count())
        );
        anyhow::ensure!(
            program.expected_attach_type().is_some(),
            "program '{name}' has no expected_attach_type, so attaching it would fail with EINVAL; \
             the embedded object is not the one these sources make: run `cargo xtask build-release`"
        );
    }
    match tracker(&mut ebpf)?.load() {
        Ok(()) => log::debug!("Program '{PROGRAM_TRACK}' loaded for sock_create"),
        // Kernels that don't let it read the name of the process: it takes the thread's.
        Err(error) if offsets.task_comm != 0 => {
            log::info!(
                "new processes go by the names of threads at first: {:#}",
                refusal::why(error)
            );
            let offsets = Offsets {
                task_leader: 0,
                task_comm: 0,
                ..offsets
            };
            return load_with(slots, offsets);
        }
        Err(error) => {
            return Err(refusal::why(error)).with_context(|| refused(PROGRAM_TRACK));
        }
    }
    Ok(ebpf)
}

fn refused(name: &str) -> String {
    format!("the kernel refused program '{name}'; `chadthrottle doctor` says what may be missing")
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
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
pub(super) fn tracker(ebpf: &mut Ebpf) -> anyhow::Result<&mut CgroupSock> {
    program(ebpf, PROGRAM_TRACK)
}

/// A program that sees who accepts.
pub(super) fn accept<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut FExit> {
    program(ebpf, name)
}

/// The program that sees forks.
pub(super) fn fork(ebpf: &mut Ebpf) -> anyhow::Result<&mut RawTracePoint> {
    program(ebpf, PROGRAM_FORK)
}

/// The program that sees to the windows of a direction.
pub(super) fn window(
    ebpf: &mut Ebpf,
    direction: Direction,
) -> anyhow::Result<&mut SchedClassifier> {
    program(
        ebpf,
        match direction {
            Direction::Download => PROGRAM_WINDOW,
            Direction::Upload => PROGRAM_SEND_WINDOW,
        },
    )
}
