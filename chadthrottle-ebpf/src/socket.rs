//! Sockets of packets, and what is stored with them.

use core::{ffi::c_void, ptr, ptr::NonNull};

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type, bpf_sock, bpf_tcp_sock,
        mptcp_sock, tcp_sock,
    },
    helpers::generated::{
        self, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock,
    },
    programs::sk_buff::SkBuff,
};

/// Linux's numbers (`net.h`, `in.h`).
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;

/// 1 if the kernel tells to which MPTCP socket a subflow belongs (Linux 5.19).
#[unsafe(no_mangle)]
pub static MPTCP: Global<u32> = Global::new(0);

/// The flag that every socket storage must have.
pub const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Socket storage with flags of one's own, and for the sockets of packets:
/// `aya_ebpf::btf_maps::SkStorage` has neither.
#[repr(C)]
pub struct Storage<T, const FLAGS: usize> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the pointers only carry a map definition in their types; nothing dereferences them.
unsafe impl<T, const FLAGS: usize> Sync for Storage<T, FLAGS> {}

impl<T, const FLAGS: usize> Storage<T, FLAGS> {
    pub const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// What is stored with a socket.
    ///
    /// # Safety
    ///
    /// `socket` must be a full socket, as the verifier sees it.
    #[inline(always)]
    pub unsafe fn get(&self, socket: *mut c_void) -> Option<NonNull<T>> {
        // SAFETY: the caller's; this is a map of T.
        unsafe { self.storage(socket, ptr::null_mut(), 0) }
    }

    /// The same; `initial` is stored if there was nothing.
    ///
    /// # Safety
    ///
    /// As [`Self::get`].
    #[inline(always)]
    pub unsafe fn get_or_insert(&self, socket: *mut c_void, mut initial: T) -> Option<NonNull<T>> {
        // SAFETY: the caller's; the helper copies the value from the stack.
        unsafe { self.storage(socket, &raw mut initial, BPF_SK_STORAGE_GET_F_CREATE.into()) }
    }

    #[inline(always)]
    unsafe fn storage(
        &self,
        socket: *mut c_void,
        initial: *mut T,
        flags: u64,
    ) -> Option<NonNull<T>> {
        // SAFETY: the caller's.
        NonNull::new(unsafe {
            bpf_sk_storage_get(
                ptr::from_ref(self).cast_mut().cast(),
                socket,
                initial.cast(),
                flags,
            )
            .cast()
        })
    }
}

/// The full socket that a packet is sent by or received for: no request, no TIME_WAIT.
#[inline(always)]
pub fn of_packet(skb: &SkBuff) -> Option<NonNull<bpf_sock>> {
    // SAFETY: the kernel hands the program a valid context, and each pointer is checked before
    // it is passed on, as the verifier demands.
    unsafe {
        let socket = NonNull::new((*skb.skb).__bindgen_anon_2.sk)?;
        NonNull::new(bpf_sk_fullsock(socket.as_ptr()))
    }
}

/// Whether a socket is TCP's: raw sockets may have its number, and are smaller than the kernel's helpers take them
/// for then.
#[inline(always)]
pub fn is_tcp(socket: NonNull<bpf_sock>) -> bool {
    // SAFETY: a full socket, as the verifier knows.
    unsafe {
        let socket = socket.as_ptr();
        (*socket).type_ == SOCK_STREAM && (*socket).protocol == IPPROTO_TCP
    }
}

/// What the kernel's helper tells of a TCP socket; nothing of others.
#[inline(always)]
pub fn tcp(socket: NonNull<bpf_sock>) -> Option<NonNull<bpf_tcp_sock>> {
    if !is_tcp(socket) {
        return None;
    }
    // SAFETY: a full socket.
    NonNull::new(unsafe { generated::bpf_tcp_sock(socket.as_ptr()) })
}

/// The kernel's own structure of a TCP socket; nothing of others.
#[inline(always)]
pub fn structure(socket: NonNull<bpf_sock>) -> Option<NonNull<tcp_sock>> {
    if !is_tcp(socket) {
        return None;
    }
    // SAFETY: a full socket.
    NonNull::new(unsafe { bpf_skc_to_tcp_sock(socket.as_ptr().cast()) })
}

/// The MPTCP socket that a subflow belongs to, if the kernel tells. Only of what sends a packet: it must be locked.
///
/// The helper goes by fields that the kernel may change meanwhile, unless the socket is locked: as it is by who sends,
/// and not when a packet arrives. And it takes any socket with TCP's number for TCP's (`bpf_mptcp_sock_from_subflow`
/// up to Linux 7.0), raw ones too, as the kernel has them to send resets: it reads behind them. Either is a null
/// pointer in the kernel.
#[inline(always)]
pub fn mptcp(subflow: NonNull<bpf_sock>) -> Option<NonNull<mptcp_sock>> {
    if MPTCP.load() == 0 || !is_tcp(subflow) {
        return None;
    }
    // SAFETY: a full socket of TCP; the helper returns null for what is no subflow.
    NonNull::new(unsafe { bpf_skc_to_mptcp_sock(subflow.as_ptr().cast()) })
}
