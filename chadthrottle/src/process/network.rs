//! Network namespaces of processes.

use std::{
    fs::File,
    io,
    os::{
        fd::BorrowedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    thread,
};

use super::numbered;
use crate::model::process::Pid;

/// The number by which the kernel tells a network namespace from the others that there are (`ns_common.inum`).
pub type NamespaceId = u64;

/// The network namespace of a process, held open, and its number.
///
/// # Errors
///
/// The process has gone.
pub fn namespace_of(pid: Pid) -> io::Result<(File, NamespaceId)> {
    let file = File::open(format!("/proc/{pid}/ns/net"))?;
    let number = file.metadata()?.ino();
    Ok((file, number))
}

/// The number of the network namespace of a process; nothing if the process has gone.
pub fn namespace_number(pid: Pid) -> Option<NamespaceId> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    numbered("net", link.as_os_str().as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_namespace_is_that_of_what_is_opened() {
        let me = Pid(std::process::id());
        let (_, number) = namespace_of(me).unwrap();
        assert_eq!(namespace_number(me), Some(number));
        assert_eq!(namespace_number(Pid(5_000_000)), None);
    }
}
