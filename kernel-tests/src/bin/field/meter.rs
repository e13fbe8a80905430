//! What arrived at the other end, by what the kernels of both ends counted.

use std::{collections::HashMap, process::Command};

use anyhow::{Context, Result};
use kernel_tests::{flow::Direction, lab::End, lab::Lab, moment::Moment};

/// What carries the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// TCP whose packets are carried by other packets of the same ends.
    Tunnelled,
    /// The datagrams that carry them.
    Tunnel,
}

/// Of an IPv4 or IPv6 header and TCP's with timestamps, and of one with UDP's; in bytes.
const TCP_HEADERS: [f64; 2] = [52.0, 72.0];
const UDP_HEADERS: [f64; 2] = [28.0, 48.0];
/// What a segment carries that is sent again.
const SEGMENT: f64 = 1448.0;

/// Of Ethernet and IPv4, and of UDP.
const FRAGMENT_HEADERS: f64 = 34.0;
const DATAGRAM_HEADER: f64 = 8.0;

/// In `/proc/net/dev`, after the device's name: bytes, then packets.
const SENT_COLUMN: usize = 8;

// In tables of the kernel, of IPv4 and of IPv6.
const IN_OCTETS: [&str; 2] = ["IpExt:InOctets", "Ip6InOctets"];
const IN_PACKETS: [&str; 2] = ["Ip:InReceives", "Ip6InReceives"];
const IN_DATAGRAMS: [&str; 2] = ["Udp:InDatagrams", "Udp6InDatagrams"];

/// What was counted until a moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When.
    pub at: Moment,
    /// Payload that arrived, in bytes.
    pub delivered: f64,
    /// TCP segments that the sending end sent.
    pub sent: f64,
    /// Those among them that it sent again.
    pub resent: f64,
}

/// Reads the counters of both ends.
///
/// # Errors
///
/// A counter is missing.
pub fn read(lab: &Lab, direction: Direction, transport: Transport) -> Result<Reading> {
    let (from, to) = match direction {
        Direction::Download => (lab.far(), lab.near()),
        Direction::Upload => (lab.near(), lab.far()),
    };
    let sender = Counters::of(from)?;
    let at = Moment::now();
    let receiver = Counters::of(to)?;
    let (sent, resent) = (sender.get("Tcp:OutSegs")?, sender.get("Tcp:RetransSegs")?);
    let delivered = match (transport, direction) {
        (Transport::Tunnelled, _) => acknowledged(from)?,
        // A limit drops what came in by the device; all datagrams of these ends are the tunnel's.
        (Transport::Tunnel, _) => {
            let size = sender.datagram_by_device(device_out(from)?)?;
            receiver.datagrams_in()? * size
        }
        // A limit drops what came in after it was counted: what was sent is known, and what of it again.
        (Transport::Tcp, Direction::Download) => sender.tcp_payload_out()? - resent * SEGMENT,
        // And it drops what goes out after it was counted.
        (Transport::Tcp, Direction::Upload) => receiver.tcp_payload_in()?,
        (Transport::Udp, Direction::Download) => receiver.datagrams_in()? * receiver.datagram()?,
        (Transport::Udp, Direction::Upload) => receiver.udp_payload_in()?,
    };
    Ok(Reading {
        at,
        delivered,
        sent: sent + resent,
        resent,
    })
}

/// What the other end acknowledged of the TCP connections that an end has, in bytes.
fn acknowledged(sender: &End) -> Result<f64> {
    let mut ss = Command::new("ss");
    ss.args(["-tinH"]);
    let text = sender.run(ss)?;
    let counts = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("bytes_acked:"));
    Ok(counts.map(str::parse::<f64>).sum::<Result<f64, _>>()?)
}

/// Bytes and packets, or fragments, that left by the device between the ends.
fn device_out(sender: &End) -> Result<[f64; 2]> {
    let mut cat = Command::new("cat");
    cat.arg("/proc/net/dev");
    let text = sender.run(cat)?;
    let counts = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lab:"))
        .context("there is no device between the ends")?;
    let mut sent = counts.split_whitespace().skip(SENT_COLUMN);
    let mut next = || anyhow::Ok(sent.next().context("no count of what was sent")?.parse()?);
    Ok([next()?, next()?])
}

/// What an end's kernel counted since the end was made, by table and name.
struct Counters(HashMap<String, f64>);

impl Counters {
    fn of(end: &End) -> Result<Self> {
        let mut cat = Command::new("cat");
        cat.args(["/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6"]);
        let text = end.run(cat)?;
        let mut counts = HashMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            // A line of names, then one of values, both after the table's name; for IPv6 a line for each.
            if let Some((table, names)) = line.split_once(": ") {
                let values = lines.next().and_then(|line| line.split_once(": "));
                let (_, values) = values.with_context(|| format!("{table} has no values"))?;
                for (name, value) in names.split(' ').zip(values.split(' ')) {
                    counts.insert(format!("{table}:{name}"), value.parse()?);
                }
            } else if let Some((name, value)) = line.split_once(char::is_whitespace) {
                counts.insert(name.to_owned(), value.trim().parse()?);
            }
        }
        Ok(Self(counts))
    }

    fn get(&self, name: &str) -> Result<f64> {
        let count = self.0.get(name);
        count
            .copied()
            .with_context(|| format!("the kernel counts no {name}"))
    }

    fn tcp_payload_out(&self) -> Result<f64> {
        let packets = ["Ip:OutRequests", "Ip6OutRequests"];
        let datagrams = ["Udp:OutDatagrams", "Udp6OutDatagrams"];
        self.tcp_payload(["IpExt:OutOctets", "Ip6OutOctets"], packets, datagrams)
    }

    fn tcp_payload_in(&self) -> Result<f64> {
        self.tcp_payload(IN_OCTETS, IN_PACKETS, IN_DATAGRAMS)
    }

    /// Of packets that are TCP's, but for a few small datagrams.
    fn tcp_payload(
        &self,
        octets: [&str; 2],
        packets: [&str; 2],
        datagrams: [&str; 2],
    ) -> Result<f64> {
        let mut payload = 0.0;
        for family in 0..2 {
            let datagrams = self.get(datagrams[family])?;
            payload += self.get(octets[family])?
                - TCP_HEADERS[family] * (self.get(packets[family])? - datagrams)
                - UDP_HEADERS[family] * datagrams;
        }
        Ok(payload)
    }

    /// Of packets that are UDP's: many datagrams that left in one (UDP_SEGMENT) have its headers once, and
    /// are one packet of it, where nothing on the way took them apart.
    fn udp_payload_in(&self) -> Result<f64> {
        let mut payload = 0.0;
        for family in 0..2 {
            payload += self.get(IN_OCTETS[family])?
                - UDP_HEADERS[family] * self.get(IN_PACKETS[family])?;
        }
        Ok(payload)
    }

    /// What a datagram carries in the mean, if nothing else leaves by the device.
    fn datagram_by_device(&self, [bytes, packets]: [f64; 2]) -> Result<f64> {
        let datagrams = self.get("Udp:OutDatagrams")?;
        let headers = FRAGMENT_HEADERS * packets + DATAGRAM_HEADER * datagrams;
        Ok((bytes - headers) / datagrams.max(1.0))
    }

    fn datagrams_in(&self) -> Result<f64> {
        Ok(self.get(IN_DATAGRAMS[0])? + self.get(IN_DATAGRAMS[1])?)
    }

    /// What a datagram carries that reaches this end, in the mean. Only what is counted by its ECN bits is counted
    /// datagram by datagram.
    fn datagram(&self) -> Result<f64> {
        let mut datagrams = 0.0;
        for ecn in ["NoECT", "ECT1", "ECT0", "CE"] {
            datagrams += self.get(&format!("IpExt:In{ecn}Pkts"))?;
            datagrams += self.get(&format!("Ip6In{ecn}Pkts"))?;
        }
        Ok(self.udp_payload_in()? / datagrams.max(1.0))
    }
}
