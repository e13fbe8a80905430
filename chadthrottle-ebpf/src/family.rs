//! Which trees of processes a process belongs to.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    programs::RawTracePointContext,
};

use crate::maps::FAMILIES;

/// Where the kernel keeps `task_struct.pid`, in bytes. User space finds it in the kernel's BTF; it
/// attaches the program only if it does.
#[unsafe(no_mangle)]
pub static TASK_PID_OFFSET: Global<u32> = Global::new(0);

/// The same of `task_struct.tgid`, the id of the process.
#[unsafe(no_mangle)]
pub static TASK_TGID_OFFSET: Global<u32> = Global::new(0);

/// A process was forked, or a thread begun: `trace_sched_process_fork(parent, child)`, in the
/// parent. A child belongs to the trees of its parent, however soon that ends.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    let child: *const u8 = ctx.arg(1);
    let field = |offset: &Global<u32>| {
        let at = child.wrapping_add(offset.load() as usize).cast::<u32>();
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(at) }.ok()
    };
    let (Some(pid), Some(process)) = (field(&TASK_PID_OFFSET), field(&TASK_TGID_OFFSET)) else {
        return;
    };
    if pid != process {
        // A thread.
        return;
    }
    // SAFETY: entries are preallocated and only ever replaced whole; the copy is made at once.
    match unsafe { FAMILIES.get(&parent) }.copied() {
        Some(trees) => {
            let _ = FAMILIES.insert(&pid, &trees, 0);
        }
        // Of a process before it that had the id.
        None => {
            let _ = FAMILIES.remove(&pid);
        }
    }
}
