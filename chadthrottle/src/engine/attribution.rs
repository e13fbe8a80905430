//! Whose are the sockets that exist already?
//!
//! The kernel tags new sockets by itself. This finds the others: those older than chadthrottle,
//! and those whose tagged process no longer holds them, because it handed them to a child or a
//! worker.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, OwnedFd},
    time::Instant,
};

use chadthrottle_common::{newcomer::Kind, tag::Tag};

use super::{
    Engine, LOOK_AT_ALL,
    notices::Notices,
    owners::{Owner, Owners},
};
use crate::{
    kernel::{SlotsExhausted, Socket},
    model::process::{Identity, Pid},
    process::{
        descriptors::{self, Family, SocketDescriptor},
        identity::Identifier,
        open_pidfd,
    },
};

/// What is known of a socket, by its inode.
#[derive(Clone, Copy)]
struct Known {
    /// Its tag; nothing if it is no inet socket.
    tag: Option<Tag>,
    /// The pass over all processes in which it was last met.
    pass: u64,
}

/// Finds out whose sockets are.
#[derive(Default)]
pub struct Attribution {
    identifier: Identifier,
    known: HashMap<u64, Known>,
    pass: u64,
    /// Said once: duplicating sockets is forbidden.
    forbidden: bool,
    /// Said once: slots ran out.
    exhausted: bool,
}

/// One look around: descriptors of owners are read at most once in it.
#[derive(Default)]
struct Look {
    held: HashMap<Pid, HashSet<u64>>,
    /// Of those in a crowd, who should have a slot of its own.
    in_need: HashMap<Pid, bool>,
}

impl Look {
    /// Whether a process holds a socket right now.
    fn holds(&mut self, pid: Pid, inode: u64) -> bool {
        self.held
            .entry(pid)
            .or_insert_with(|| descriptors::socket_inodes(pid))
            .contains(&inode)
    }
}

impl Attribution {
    /// Who has this id now.
    pub fn identify(&self, pid: Pid) -> Option<Identity> {
        self.identifier.identify(pid)
    }

    /// Who has a slot: the process that has this id now, if it can still be looked at; else what the
    /// kernel saw of it.
    pub fn owner(&self, tag: Tag, pid: Pid, kind: Option<Kind>) -> Owner {
        // The descriptor first: if it opens and the process is still there afterwards, both are
        // of the same process.
        let pidfd = open_pidfd(pid).ok();
        let (identity, pidfd) = match self.identify(pid) {
            Some(identity) if pidfd.is_some() && !identity.is_leaving() => (identity, pidfd),
            _ => {
                let (name, uid) = kind
                    .as_ref()
                    .map_or((&b"?"[..], 0), |kind| (kind.name(), kind.uid));
                (self.identifier.of_departed(pid, name, uid), None)
            }
        };
        Owner::new(identity, tag, pidfd, Instant::now())
    }

    /// The processes that share a slot, by their cgroup's path.
    pub fn crowd(&self, tag: Tag, kind: Kind, cgroup: &str) -> Owner {
        Owner::of_crowd(self.identifier.of_crowd(kind.uid, cgroup), tag)
    }

    fn remember(&mut self, inode: u64, tag: Option<Tag>) {
        let pass = self.pass;
        self.known.insert(inode, Known { tag, pass });
    }

    fn report(&mut self, notices: &mut Notices, pid: Pid, error: &anyhow::Error) {
        let forbidden = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
        });
        if forbidden && !self.forbidden {
            self.forbidden = true;
            notices.warn(
                "the kernel forbids looking at running processes' sockets \
                 (kernel.yama.ptrace_scope=3?): sockets older than chadthrottle are not seen",
            );
        } else if error.is::<SlotsExhausted>() && !self.exhausted {
            self.exhausted = true;
            notices.warn(format!("{error}: further processes count as unattributed"));
        } else {
            log::debug!("a socket of process {pid} was not tagged: {error:#}");
        }
    }
}

impl Engine {
    /// Looks at the sockets of one process and tags those that are not yet, or no longer, tagged
    /// right.
    pub(super) fn look_at(&mut self, pid: Pid) {
        self.look(pid, &mut Look::default());
    }

    /// Looks at all processes. Returns how many sockets it tagged.
    pub(super) fn look_at_all(&mut self) -> usize {
        self.attribution.pass += 1;
        let mut look = Look::default();
        let tagged = descriptors::all_processes()
            .into_iter()
            .map(|pid| self.look(pid, &mut look))
            .sum();
        let pass = self.attribution.pass;
        self.attribution.known.retain(|_, known| known.pass == pass);
        self.admit_unannounced();
        self.looked_at_all = Instant::now();
        self.look_at_all_after = if tagged > 0 {
            LOOK_AT_ALL[0]
        } else {
            (self.look_at_all_after * 2).min(LOOK_AT_ALL[1])
        };
        tagged
    }

    fn look(&mut self, pid: Pid, look: &mut Look) -> usize {
        let mut inet = 0;
        let mut tagged = 0;
        let mut pidfd = None;
        self.attend();
        let was_known = self.owners.of_process(pid).is_some();
        for descriptor in descriptors::sockets(pid) {
            self.attend();
            let attribution = &mut self.attribution;
            let inode = descriptor.inode;
            let known = attribution.known.get_mut(&inode).map(|known| {
                known.pass = attribution.pass;
                known.tag
            });
            match known {
                Some(None) => continue,
                None if descriptors::family(pid, descriptor.fd) == Family::Other => {
                    attribution.remember(inode, None);
                    continue;
                }
                _ => inet += 1,
            }
            if let Some(Some(tag)) = known
                && rightly_tagged(&self.owners, look, tag, pid, inode)
                && !self.is_passed_over(look, tag, pid)
            {
                continue;
            }
            if pidfd.is_none() {
                pidfd = open_pidfd(pid).ok();
            }
            let Some(process) = &pidfd else { break };
            match self.tag(look, pid, process, descriptor) {
                Ok(Tagged::Anew) => tagged += 1,
                Ok(Tagged::Rightly) => {}
                Ok(Tagged::NotInet) => inet -= 1,
                Err(error) => self.attribution.report(&mut self.notices, pid, &error),
            }
        }
        if let Some(owner) = self.owners.of_process_mut(pid)
            && owner.ended.is_none()
        {
            owner.connections = inet;
            owner.scanned = Some(Instant::now());
            // A process that calls exec keeps its id and its sockets. Who has become known just now was identified.
            if was_known
                && let Some(identity) = self.attribution.identify(pid)
                && identity.key == owner.identity.key
                && identity != owner.identity
            {
                owner.changed = true;
                owner.identity = identity;
            }
        }
        tagged
    }

    /// Whether a process has the tag of a crowd, and should have one of its own.
    fn is_passed_over(&mut self, look: &mut Look, tag: Tag, pid: Pid) -> bool {
        if !(self.owners.of_tag(tag)).is_some_and(Owner::is_crowd) {
            return false;
        }
        if let Some(known) = look.in_need.get(&pid) {
            return *known;
        }
        let identity = self.attribution.identify(pid);
        let in_need = identity.is_some_and(|identity| self.is_in_need(&identity, tag));
        look.in_need.insert(pid, in_need);
        in_need
    }

    fn tag(
        &mut self,
        look: &mut Look,
        pid: Pid,
        process: &OwnedFd,
        SocketDescriptor { fd, inode }: SocketDescriptor,
    ) -> anyhow::Result<Tagged> {
        let socket = match Socket::of_process(process.as_fd(), fd) {
            // Closed since it was listed.
            Err(error) if is_gone(&error) => return Ok(Tagged::NotInet),
            socket => socket?,
        };
        if !socket.is_inet() {
            self.attribution.remember(inode, None);
            return Ok(Tagged::NotInet);
        }
        if let Some(tag) = self.kernel.sockets.get(&socket)?
            && rightly_tagged(&self.owners, look, tag, pid, inode)
            && !self.is_passed_over(look, tag, pid)
        {
            self.attribution.remember(inode, Some(tag));
            return Ok(Tagged::Rightly);
        }
        let tag = self.known_or_crowd(pid)?;
        self.kernel.sockets.set(&socket, tag)?;
        self.attribution.remember(inode, Some(tag));
        Ok(Tagged::Anew)
    }
}

/// What became of a socket that was looked at.
enum Tagged {
    Anew,
    Rightly,
    NotInet,
}

/// Whether a socket that `pid` holds may keep its tag: it is the process's own, or its tagged
/// process still holds the socket, too.
fn rightly_tagged(owners: &Owners, look: &mut Look, tag: Tag, pid: Pid, inode: u64) -> bool {
    owners.of_tag(tag).is_some_and(|owner| {
        let mut is_its_own = || match owner.is_crowd() {
            true => owners.of_process(pid).is_none(),
            false => owner.pid() == pid || look.holds(owner.pid(), inode),
        };
        owner.ended.is_none() && is_its_own()
    })
}

fn is_gone(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::BADF, Errno::SRCH]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}
