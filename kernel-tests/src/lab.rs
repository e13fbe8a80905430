//! Two network namespaces joined by a veth pair.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{self, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    peer::{Job, Peer},
    process::{Place, Process, run},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// Two ends, each with a network namespace and a cgroup of its own, joined by a veth pair with
/// IPv4 and IPv6 addresses. The namespaces have no names: they go away with this value and the
/// processes in them, however those end.
pub struct Lab {
    near: End,
    far: End,
}

/// One end of a lab.
pub struct End {
    network: OwnedFd,
    cgroup: Cgroup,
    subnet: u8,
    host: u8,
}

impl Lab {
    /// Sets up a lab.
    pub fn new() -> Result<Self> {
        let near = End::new(0, 1)?;
        let far = End::new(0, 2)?;
        near.ip(&format!(
            "link add name lab address {} type veth peer name lab address {} netns /proc/{}/fd/{}",
            near.link_address(),
            far.link_address(),
            process::id(),
            far.network.as_raw_fd()
        ))?;
        // Both up before the addresses: an IPv6 address is not in use before there is a carrier.
        for end in [&near, &far] {
            end.ip("link set lo up\nlink set lab up")?;
        }
        // Neighbours are told, not discovered: discovery took a second now and then.
        for (end, other) in [(&near, &far), (&far, &near)] {
            let link = other.link_address();
            end.ip(&format!(
                "address add {}/24 dev lab\n\
                 address add {}/64 dev lab nodad\n\
                 neighbour replace {} lladdr {link} dev lab nud permanent\n\
                 neighbour replace {} lladdr {link} dev lab nud permanent",
                end.address(Family::V4),
                end.address(Family::V6),
                other.address(Family::V4),
                other.address(Family::V6),
            ))?;
        }
        Ok(Self { near, far })
    }

    /// A lab with a round trip of that length: all of it on the way from far to near, so that the
    /// near end's qdisc is nobody's choice.
    pub fn with_round_trip(round_trip: Duration) -> Result<Self> {
        let lab = Self::new()?;
        if !round_trip.is_zero() {
            lab.far.tc(&format!(
                "qdisc add dev lab root netem delay {}us limit 1000000",
                round_trip.as_micros()
            ))?;
        }
        Ok(lab)
    }

    /// The end whose processes get limited.
    pub fn near(&self) -> &End {
        &self.near
    }

    /// The rest of the world.
    pub fn far(&self) -> &End {
        &self.far
    }
}

impl End {
    /// One with a number of its own in a subnet; nothing leads there yet.
    pub(crate) fn new(subnet: u8, host: u8) -> Result<Self> {
        Ok(Self {
            network: new_network()?,
            cgroup: Cgroup::new()?,
            subnet,
            host,
        })
    }

    /// Its address on the veth pair.
    pub fn address(&self, family: Family) -> IpAddr {
        let (subnet, host) = (self.subnet, self.host);
        match family {
            Family::V4 => Ipv4Addr::new(10, 77, subnet, host).into(),
            Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, subnet.into(), 0, 0, 0, host.into()).into(),
        }
    }

    /// Joins it to another by a veth pair, whose devices have these names there.
    pub(crate) fn join(&self, name: &str, other: &Self, others_name: &str) -> Result<()> {
        self.ip(&format!(
            "link add name {name} type veth peer name {others_name} netns /proc/{}/fd/{}",
            process::id(),
            other.network.as_raw_fd()
        ))
    }

    /// Its Ethernet address.
    fn link_address(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.host)
    }

    /// Its address with port 0: any free port.
    pub fn any_port(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.address(family), 0)
    }

    /// The cgroup its processes start in.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its network namespace and cgroup.
    pub fn place(&self) -> Place<'_> {
        Place {
            network: Some(self.network.as_fd()),
            cgroup: Some(&self.cgroup),
        }
    }

    /// Its network namespace and another cgroup; none is the test's own.
    pub fn place_in<'a>(&'a self, cgroup: Option<&'a Cgroup>) -> Place<'a> {
        Place {
            network: Some(self.network.as_fd()),
            cgroup,
        }
    }

    /// Starts a process here.
    pub fn start(&self, command: Command) -> Result<Process> {
        Process::start(command, self.place())
    }

    /// Starts the traffic program here.
    pub fn traffic(&self, job: Job) -> Result<Peer> {
        Peer::start(job, self.place())
    }

    /// Runs a command here to its end, outside of the cgroup, and returns its output.
    pub fn run(&self, command: Command) -> Result<String> {
        run(command, "", self.place_in(None))
    }

    /// What the kernel counted here, by its names in `/proc/net/snmp` or `/proc/net/netstat`.
    pub fn counter(&self, group: &str, name: &str) -> Result<u64> {
        let mut cat = Command::new("cat");
        cat.args(["/proc/net/snmp", "/proc/net/netstat"]);
        let tables = self.run(cat)?;
        // A line of names, then one of values, both after the group's name.
        let mut lines = (tables.lines())
            .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'))
            .map(str::split_whitespace);
        (lines.next().into_iter().flatten())
            .zip(lines.next().into_iter().flatten())
            .find_map(|(its, value)| (its == name).then(|| value.parse().ok())?)
            .with_context(|| format!("the kernel counts no {group} {name}"))
    }

    /// Sets a parameter below `/proc/sys/net`.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("echo {value} >/proc/sys/net/{parameter}")]);
        self.run(shell).map(drop)
    }

    /// Runs commands of `ip` here, one a line.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.batch("ip", commands)
    }

    /// Runs commands of `tc` here, one a line.
    pub fn tc(&self, commands: &str) -> Result<()> {
        self.batch("tc", commands)
    }

    /// Lets what arrives from the other end go through a new device, which can have a qdisc. The kernel must have ifb.
    pub fn redirect_arriving(&self, device: &str) -> Result<()> {
        self.ip(&format!(
            "link add name {device} type ifb\nlink set {device} up"
        ))?;
        self.tc(&format!(
            "qdisc add dev lab handle ffff: ingress\n\
             filter add dev lab parent ffff: protocol all matchall action mirred egress redirect dev {device}"
        ))
    }

    fn batch(&self, program: &str, commands: &str) -> Result<()> {
        let mut command = Command::new(program);
        command.args(["-batch", "-"]);
        run(command, commands, self.place_in(None)).map(drop)
    }
}

fn new_network() -> Result<OwnedFd> {
    let made = thread::spawn(|| -> Result<OwnedFd> {
        // SAFETY: NEWNET leaves the table of file descriptors alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("can't make a namespace")?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
    .join();
    match made {
        Ok(network) => network,
        Err(_) => bail!("the thread that makes a namespace panicked"),
    }
}
