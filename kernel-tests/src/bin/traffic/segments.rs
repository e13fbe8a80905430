//! What the senders of this process say of the segments that they sent.

use std::{
    mem,
    net::TcpStream,
    os::fd::AsRawFd,
    sync::{Mutex, PoisonError},
};

/// How many segments were sent so far, and how many of them because others were lost.
pub type Counter = Box<dyn Fn() -> (u64, u64) + Send>;

/// Nothing until segments are to be counted.
static SENDERS: Mutex<Option<Vec<Counter>>> = Mutex::new(None);

/// Reports say from now on how many segments were sent, beginning with none.
pub fn begin() {
    SENDERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default();
}

/// Counts a sender's segments from now on.
pub fn count(sender: Counter) {
    SENDERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .push(sender);
}

/// The same for a TCP connection.
pub fn count_tcp(stream: TcpStream) {
    count(Box::new(move || tcp_segments(&stream)));
}

/// Further members of a report; none if nothing is counted.
pub fn report() -> String {
    let senders = SENDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(senders) = senders.as_ref() else {
        return String::new();
    };
    let (segments, repeated) = senders
        .iter()
        .map(|sender| sender())
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    format!(",\"segments\":{segments},\"repeated\":{repeated}")
}

// Offsets in struct tcp_info of linux/tcp.h; libc's has only the older half.
const TOTAL_RETRANS: usize = 100;
/// Since Linux 4.6.
const DATA_SEGS_OUT: usize = 156;

fn tcp_segments(stream: &TcpStream) -> (u64, u64) {
    let mut info = [0_u8; 256];
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`.
    let read = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let number = |offset: usize| {
        info.get(offset..offset + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, |bytes| u64::from(u32::from_ne_bytes(bytes)))
    };
    match read {
        0 => (number(DATA_SEGS_OUT), number(TOTAL_RETRANS)),
        _ => (0, 0),
    }
}
