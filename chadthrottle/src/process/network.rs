//! Network namespaces of processes.

use std::{
    fs::File,
    io,
    os::{fd::BorrowedFd, unix::fs::MetadataExt as _},
    thread,
};

use crate::model::process::Pid;

/// The network namespace of a process, held open, and its number.
///
/// # Errors
///
/// The process has gone.
pub fn namespace_of(pid: Pid) -> io::Result<(File, u64)> {
    let file = File::open(format!("/proc/{pid}/ns/net"))?;
    let number = file.metadata()?.ino();
    Ok((file, number))
}

/// Does something in a network namespace, on a thread that goes in for it.
///
/// # Errors
///
/// The namespace can't be entered, or what is done fails.
pub fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let enter = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        work()
    };
    thread::scope(|scope| {
        let done = scope.spawn(enter).join();
        done.unwrap_or_else(|_| Err(io::Error::other("the thread that went in panicked")))
    })
}
