//! Whose is a socket? Tags at creation, and their lookup for a packet.

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_NOEXIST, bpf_sock},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes,
        generated::{bpf_get_current_cgroup_id, bpf_get_current_task},
    },
    programs::{FExitContext, SkBuffContext, SockAddrContext, SockContext},
};
use aya_log_ebpf::debug;
use chadthrottle_common::{
    event::ProcessSeen,
    newcomer::{Kind, STAND_INS, TREES},
    tag::{SlotState, SocketTag, Tag, UNATTRIBUTED},
    traffic::Direction,
};

use crate::{
    maps::{
        BEGINNINGS, CROWD_SLOTS, CROWDS, EVENTS, FAMILIES, FREE_SLOTS, LOST, PROCESS_SLOTS, SLOTS,
        TAGS,
    },
    socket, throttle,
};

/// Where the kernel keeps `task_struct.group_leader`, in bytes; 0 where it is not known, or may not be
/// read here.
#[unsafe(no_mangle)]
pub static TASK_LEADER_OFFSET: Global<u32> = Global::new(0);

/// The same of `task_struct.comm`.
#[unsafe(no_mangle)]
pub static TASK_COMM_OFFSET: Global<u32> = Global::new(0);

/// Tags a socket at its creation with the slot of the process that creates it.
#[inline(always)]
pub fn new_socket(ctx: &SockContext) {
    if let Some(tag) = of_current(ctx) {
        // SAFETY: the context is the socket being created.
        unsafe { TAGS.get_or_insert(ctx.as_ptr(), SocketTag::new(tag)) };
    }
}

/// Tags a socket that was accepted with the slot of the process that accepts it, whoever made the listener:
/// until then it had the listener's tag, or none if that is MPTCP's.
#[inline(always)]
pub fn accepted(ctx: &FExitContext, socket: *mut c_void) {
    if socket.is_null() {
        return;
    }
    if let Some(tag) = of_current(ctx) {
        // SAFETY: a socket, as the verifier knows by the function's type.
        unsafe { set(socket, tag) };
    }
}

/// A socket on which a datagram is sent is that of the process which sends it: one that was handed a socket, by a
/// parent or a service manager, need not have made it, and who made it may hold it still.
#[inline(always)]
pub fn sends(ctx: &SockAddrContext) {
    // SAFETY: a valid context.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return;
    }
    if let Some(tag) = of_current(ctx) {
        // SAFETY: the socket that sends.
        unsafe { set(socket.cast(), tag) };
    }
}

/// Tags a socket, whatever tag it had.
///
/// # Safety
///
/// `socket` must be a full socket, as the verifier sees it.
#[inline(always)]
unsafe fn set(socket: *mut c_void, tag: Tag) {
    // SAFETY: the caller's, and the socket's own storage. A tag that is read half written has no slot's generation.
    unsafe {
        if let Some(there) = TAGS.get_or_insert(socket, SocketTag::new(tag))
            && there.as_ref().tag != tag
        {
            (&raw mut (*there.as_ptr()).tag).write_volatile(tag);
        }
    }
}

/// The slot of the process that runs; its first one if it had none.
#[inline(always)]
fn of_current(ctx: &impl EbpfContext) -> Option<Tag> {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    known(pid).or_else(|| first_socket(ctx, pid))
}

#[inline(always)]
fn known(pid: u32) -> Option<Tag> {
    // SAFETY: entries are preallocated and only ever replaced whole; the copy is made at once.
    unsafe { PROCESS_SLOTS.get(&pid) }.copied()
}

/// Gives a process its slot, with what processes of its kind begin with, and announces it. When
/// slots have run out, it has one together with others.
#[inline(always)]
fn first_socket(ctx: &impl EbpfContext, pid: u32) -> Option<Tag> {
    let Ok(Some(tag)) = FREE_SLOTS.pop() else {
        debug!(ctx, "no free slot for process {}", pid);
        return of_crowd(kind(pid).crowd());
    };
    if PROCESS_SLOTS
        .insert(&pid, &tag, BPF_NOEXIST.into())
        .is_err()
    {
        // Another thread of the process, or user space, was faster: use its slot.
        if let Some(theirs) = known(pid) {
            let _ = FREE_SLOTS.push(tag, 0);
            return Some(theirs);
        }
    }
    debug!(ctx, "process {} gets slot {}", pid, tag.slot);
    let kind = kind(pid);
    begin(tag, &kind);
    announce(kind, tag, pid);
    Some(tag)
}

/// All that is known of the process that runs.
#[inline(always)]
fn kind(pid: u32) -> Kind {
    Kind {
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        // SAFETY: as above in `known`.
        trees: unsafe { FAMILIES.get(&pid) }.copied().unwrap_or(0),
        uid: bpf_get_current_uid_gid() as u32,
        counts: 0,
        name: name(),
    }
}

#[inline(always)]
fn announce(kind: Kind, tag: Tag, pid: u32) {
    if let Some(mut entry) = EVENTS.reserve(0) {
        entry.write(ProcessSeen {
            kind,
            tag,
            pid,
            reserved: 0,
        });
        entry.submit(0);
    } else if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: an existing array element.
        unsafe { throttle::add(lost, 1) };
    }
}

/// The slot of those for which no other is left, so that limits hold them. The first of a crowd begins as others of
/// its user do.
#[inline(always)]
fn of_crowd(kind: Kind) -> Option<Tag> {
    // SAFETY: as above in `known`.
    let there = || unsafe { CROWDS.get(&kind) }.copied();
    if let Some(tag) = there() {
        return Some(tag);
    }
    let Ok(Some(tag)) = CROWD_SLOTS.pop() else {
        return None;
    };
    if CROWDS.insert(&kind, &tag, BPF_NOEXIST.into()).is_err() {
        let _ = CROWD_SLOTS.push(tag, 0);
        return there();
    }
    begin(tag, &kind);
    announce(kind, tag, 0);
    Some(tag)
}

/// The name of the process, which is that of its first thread: the one that makes the socket may have
/// another. Where that can't be known, the latter's.
#[inline(always)]
fn name() -> [u8; 16] {
    of_first_thread().unwrap_or_else(|| bpf_get_current_comm().unwrap_or_default())
}

#[inline(always)]
fn of_first_thread() -> Option<[u8; 16]> {
    let (leader, comm) = (TASK_LEADER_OFFSET.load(), TASK_COMM_OFFSET.load());
    if leader == 0 || comm == 0 {
        return None;
    }
    let field = |task: *const u8, offset: u32| task.wrapping_add(offset as usize);
    let mut name = [0; 16];
    // SAFETY: a helper without arguments, and helpers that check the address.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let first: *const u8 = bpf_probe_read_kernel(field(task, leader).cast()).ok()?;
        // Zeros follow the name, as in the keys of what is known of names.
        bpf_probe_read_kernel_str_bytes(field(first, comm), &mut name).ok()?;
    }
    Some(name)
}

/// Limits a new process as the last one of its kind was. Whatever is written here, user space writes
/// again when the process is announced.
#[inline(always)]
fn begin(tag: Tag, kind: &Kind) {
    // SAFETY: as above in `known`.
    let mut beginning = unsafe { BEGINNINGS.get(kind) }.copied();
    for fields in STAND_INS {
        if beginning.is_some() {
            break;
        }
        if fields & TREES == 0 || kind.trees != 0 {
            // SAFETY: the same.
            beginning = unsafe { BEGINNINGS.get(&kind.counting(fields)) }.copied();
        }
    }
    let (Some(beginning), Some(state)) = (beginning, SLOTS.get_ptr_mut(tag.slot)) else {
        return;
    };
    // SAFETY: an existing array element, whose generation is the tag's already.
    unsafe {
        (&raw mut (*state).metered).write_volatile(beginning.metered);
        (&raw mut (*state).limits).write_volatile(beginning.limits);
    }
}

/// What is known of a packet's socket.
#[derive(Clone, Copy)]
pub struct Known {
    /// Of its slot.
    pub state: &'static SlotState,
    /// What is stored with it.
    pub socket: NonNull<SocketTag>,
}

/// The packet's slot and what is known of it; [`UNATTRIBUTED`] when it has no full socket, its
/// socket no tag, or the tag is of an owner before the current one.
#[inline(always)]
pub fn of_packet(ctx: &SkBuffContext, direction: Direction) -> (u32, Option<Known>) {
    let Some(socket) = socket::of_packet(&ctx.skb) else {
        return (UNATTRIBUTED, None);
    };
    // SAFETY: a full socket.
    let stored = unsafe { TAGS.get(socket.as_ptr().cast()) };
    let found = match direction {
        Direction::Download => stored,
        Direction::Upload => stored.or_else(|| of_mptcp(socket)),
    };
    let Some(socket) = found else {
        return (UNATTRIBUTED, None);
    };
    // SAFETY: the socket's own storage; the copy is made at once.
    let tag = unsafe { socket.as_ref().tag };
    match SLOTS.get(tag.slot) {
        Some(state) if state.generation == tag.generation => {
            (tag.slot, Some(Known { state, socket }))
        }
        _ => (UNATTRIBUTED, None),
    }
}

/// The tag of the MPTCP socket that a subflow belongs to: the kernel makes subflows by itself, where no
/// program sees them begin. It is the subflow's own from then on.
#[inline(always)]
fn of_mptcp(subflow: NonNull<bpf_sock>) -> Option<NonNull<SocketTag>> {
    let socket = socket::mptcp(subflow)?;
    // SAFETY: full sockets. The copy is made at once.
    unsafe {
        let tag = TAGS.get(socket.as_ptr().cast())?.as_ref().tag;
        TAGS.get_or_insert(subflow.as_ptr().cast(), SocketTag::new(tag))
    }
}
