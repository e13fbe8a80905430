//! What the kernel still sends for a command that has ended.
//!
//! A program may close its connection and end while its send queue is full; `nc` does. The kernel goes on sending
//! that, and without the limit it would do so at once.

use procfs::net::{TcpNetEntry, TcpState};

use super::signals::Signals;
use crate::{
    model::{handle::EngineHandle, snapshot::Snapshot},
    rate::Bytes,
};

/// Holds the limit for as long as something is sent under it that no process has any more, and until a signal
/// comes.
pub async fn see_out(engine: &mut EngineHandle, signals: &mut Signals) {
    let mut left = unsent();
    let mut before = sent(&engine.snapshots.borrow());
    let mut said = false;
    while left > 0 {
        let sample = tokio::select! {
            sample = engine.next_sample() => sample,
            received = signals.next() => match received.signal {
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => return,
                _ => continue,
            },
        };
        let Ok(now) = sample.as_deref().map(sent) else {
            return;
        };
        left = unsent();
        if now == before {
            // What is left is somebody else's.
            return;
        }
        before = now;
        if left > 0 && !said {
            said = true;
            eprintln!(
                "chadthrottle: the command has ended, and up to {} that it left are sent under its limit; \
                 Ctrl-C lets them go without",
                Bytes::new(left)
            );
        }
    }
}

fn sent(snapshot: &Snapshot) -> u64 {
    let limits = snapshot.limits.iter();
    limits.map(|limit| limit.bytes.upload.count()).sum()
}

/// What is in the send queues of connections that are closed at this end and that no process holds.
fn unsent() -> u64 {
    let entries = [procfs::net::tcp(), procfs::net::tcp6()];
    let entries = entries.into_iter().filter_map(Result::ok).flatten();
    entries.map(|entry| orphaned(&entry)).sum()
}

fn orphaned(entry: &TcpNetEntry) -> u64 {
    let is_closing = matches!(
        entry.state,
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck
    );
    if is_closing && entry.inode == 0 {
        // Its end (FIN) counts as a byte.
        u64::from(entry.tx_queue.saturating_sub(1))
    } else {
        0
    }
}
