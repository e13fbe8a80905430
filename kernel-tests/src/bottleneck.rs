//! Two machines behind a router, and the rest of the world behind a link that is slower than all else.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    flow::Direction,
    home::{Home, rule},
    lab::End,
    transfer::payload,
};

/// What waits at either end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queue {
    /// A second of the link, first in, first out, as in many modems.
    Bloated,
    /// A round trip of it.
    RoundTrip,
    /// fq_codel: flows are served in turn, and none waits long.
    FqCodel,
    /// cake: the same, and hosts are served in turn.
    Cake,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bloated => "fifo of 1 s",
            Self::RoundTrip => "fifo of a round trip",
            Self::FqCodel => "fq_codel",
            Self::Cake => "cake",
        })
    }
}

/// How the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Towards the router, in Mbit/s.
    pub down: u32,
    /// From it, in Mbit/s.
    pub up: u32,
    /// What a packet takes there and back when nothing waits, in milliseconds.
    pub round_trip: u64,
    /// What waits at its ends.
    pub queue: Queue,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            down,
            up,
            round_trip,
            queue,
        } = self;
        write!(f, "{down}/{up} Mbit/s, {round_trip} ms, {queue}")
    }
}

impl Link {
    /// How fast it is in a direction, in Mbit/s.
    pub fn megabits(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Download => self.down,
            Direction::Upload => self.up,
        }
    }

    /// The payload that it carries in a direction, in bytes a second.
    pub fn payload(&self, direction: Direction) -> f64 {
        payload(self.megabits(direction))
    }
}

/// No queue holds less, in bytes.
const LEAST_QUEUE: u64 = 15_000;

/// Machines behind a link.
pub struct Bottleneck {
    near: End,
    other: End,
    router: End,
    exchange: End,
    far: End,
}

impl Bottleneck {
    /// Sets it up. The kernel must have netem, tbf and the queue.
    pub fn new(link: Link) -> Result<Self> {
        let lab = Self {
            near: End::new(1, 1)?,
            other: End::new(2, 1)?,
            router: End::new(1, 2)?,
            exchange: End::new(3, 2)?,
            far: End::new(4, 2)?,
        };
        // In a namespace of their own all devices would have the same numbers, by which the observers count.
        for (count, end) in lab.ends().into_iter().enumerate() {
            end.ip(&"link add name spare type dummy\nlink delete dev spare\n".repeat(count * 7))?;
        }
        lab.near.join("lab", &lab.router, "near")?;
        lab.other.join("lab", &lab.router, "other")?;
        lab.router.join("wan", &lab.exchange, "wan")?;
        lab.exchange.join("far", &lab.far, "lab")?;
        for (end, addresses) in [
            (&lab.near, &["lab 1.1"][..]),
            (&lab.other, &["lab 2.1"]),
            (&lab.router, &["near 1.2", "other 2.2", "wan 3.1"]),
            (&lab.exchange, &["wan 3.2", "far 4.1"]),
            (&lab.far, &["lab 4.2"]),
        ] {
            end.ip("link set lo up")?;
            for address in addresses {
                if let Some((device, host)) = address.split_once(' ') {
                    end.ip(&format!(
                        "address add 10.77.{host}/24 dev {device}\nlink set {device} up"
                    ))?;
                }
            }
        }
        lab.near.ip("route add default via 10.77.1.2")?;
        lab.other.ip("route add default via 10.77.2.2")?;
        lab.router.ip("route add default via 10.77.3.2")?;
        lab.exchange.ip("route add 10.77.0.0/16 via 10.77.3.1")?;
        lab.far.ip("route add default via 10.77.4.1")?;
        for end in [&lab.router, &lab.exchange] {
            end.set("ipv4/ip_forward", "1")?;
        }
        lab.change(link)?;
        Ok(lab)
    }

    /// Makes it another link. What waits stays, unless it is another kind of queue.
    pub fn change(&self, link: Link) -> Result<()> {
        if link.round_trip > 0 {
            let delay = link.round_trip;
            self.far.tc(&format!(
                "qdisc replace dev lab root netem delay {delay}ms limit 100000"
            ))?;
        }
        self.narrow(&self.exchange, link.down, link)?;
        self.narrow(&self.router, link.up, link)
    }

    /// For a daemon whose rule `says` that a cgroup comes before everybody else, who are not also the other ends: these run on this
    /// machine, too.
    pub fn important(&self, group: &Cgroup, says: &str) -> Result<Home> {
        let important = rule("important", group, &format!("{says}\ntraffic = \"all\""))?;
        let free = "download = \"10G\"\nupload = \"10G\"";
        let far = rule("far", self.far.cgroup(), free)?;
        let other = rule("other", self.other.cgroup(), free)?;
        Home::new(&(important + &far + &other))
    }

    fn ends(&self) -> [&End; 5] {
        [
            &self.near,
            &self.other,
            &self.router,
            &self.exchange,
            &self.far,
        ]
    }

    /// Makes one end of the link as slow as it is to be.
    fn narrow(&self, end: &End, megabits: u32, link: Link) -> Result<()> {
        let bytes_a_second = u64::from(megabits) * 125_000;
        let round_trip = (bytes_a_second * link.round_trip / 1000).max(LEAST_QUEUE);
        let tbf = |limit: u64| {
            format!(
                "qdisc replace dev wan root handle 1: tbf rate {megabits}mbit burst 3200 limit {limit}"
            )
        };
        match link.queue {
            Queue::Bloated => end.tc(&tbf(bytes_a_second)),
            Queue::RoundTrip => end.tc(&tbf(round_trip)),
            Queue::FqCodel => {
                end.tc(&tbf(10_000_000))?;
                end.tc("qdisc replace dev wan parent 1:1 handle 2: fq_codel")
            }
            Queue::Cake => end.tc(&format!(
                "qdisc replace dev wan root cake bandwidth {megabits}mbit"
            )),
        }
    }

    /// The machine whose background traffic is looked at.
    pub fn near(&self) -> &End {
        &self.near
    }

    /// The other one behind the same router.
    pub fn other(&self) -> &End {
        &self.other
    }

    /// The rest of the world.
    pub fn far(&self) -> &End {
        &self.far
    }
}
