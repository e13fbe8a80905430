//! Whose is a socket? Tags at creation, and their lookup for a packet.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type,
    },
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_sk_fullsock, bpf_sk_storage_get},
    },
    programs::{SkBuffContext, SockContext},
};
use aya_log_ebpf::debug;
use chadthrottle_common::{
    event::ProcessSeen,
    tag::{SlotState, Tag, UNATTRIBUTED},
};

use crate::maps::{EVENTS, FREE_SLOTS, PROCESS_SLOTS, SLOTS, TAGS};

const TAGS_FLAGS: usize = (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize;

/// Socket storage with `BPF_F_CLONE`, so that an accepted socket inherits its listener's tag.
/// `aya_ebpf::btf_maps::SkStorage` has no place for that flag.
#[repr(C)]
pub struct Tags {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Tag,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; TAGS_FLAGS],
}

// SAFETY: the pointers only carry a map definition in their types; nothing dereferences them.
unsafe impl Sync for Tags {}

impl Tags {
    pub const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }
}

/// Tags a socket at its creation with the slot of the process that creates it.
#[inline(always)]
pub fn new_socket(ctx: &SockContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(mut tag) = known(pid).or_else(|| first_socket(ctx, pid)) else {
        return;
    };
    // SAFETY: TAGS is a socket storage map of Tag, the context is the socket being created, and
    // the helper copies the initial value from the stack.
    unsafe {
        bpf_sk_storage_get(
            (&raw const TAGS).cast_mut().cast(),
            ctx.as_ptr(),
            (&raw mut tag).cast(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        );
    }
}

#[inline(always)]
fn known(pid: u32) -> Option<Tag> {
    // SAFETY: entries are preallocated and only ever replaced whole; the copy is made at once.
    unsafe { PROCESS_SLOTS.get(&pid) }.copied()
}

/// Gives a process its slot and announces it. When slots have run out the socket stays untagged.
#[inline(always)]
fn first_socket(ctx: &SockContext, pid: u32) -> Option<Tag> {
    let Ok(Some(tag)) = FREE_SLOTS.pop() else {
        debug!(ctx, "no free slot for process {}", pid);
        return None;
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
    if let Some(mut entry) = EVENTS.reserve(0) {
        entry.write(ProcessSeen {
            tag,
            pid,
            uid: bpf_get_current_uid_gid() as u32,
            name: bpf_get_current_comm().unwrap_or_default(),
        });
        entry.submit(0);
    }
    Some(tag)
}

/// The packet's slot and what is known of it; [`UNATTRIBUTED`] when it has no full socket, its
/// socket no tag, or the tag is of an owner before the current one.
#[inline(always)]
pub fn of_packet(ctx: &SkBuffContext) -> (u32, Option<&'static SlotState>) {
    // SAFETY: the kernel hands the program a valid context, and each pointer is checked before
    // it is passed on, as the verifier demands.
    let tag = unsafe {
        let socket = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return (UNATTRIBUTED, None);
        }
        let socket = bpf_sk_fullsock(socket);
        if socket.is_null() {
            return (UNATTRIBUTED, None);
        }
        let tag = bpf_sk_storage_get(
            (&raw const TAGS).cast_mut().cast(),
            socket.cast(),
            ptr::null_mut(),
            0,
        )
        .cast::<Tag>();
        if tag.is_null() {
            return (UNATTRIBUTED, None);
        }
        *tag
    };
    match SLOTS.get(tag.slot) {
        Some(state) if state.generation == tag.generation => (tag.slot, Some(state)),
        _ => (UNATTRIBUTED, None),
    }
}
