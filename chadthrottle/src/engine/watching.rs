//! The connections of the process that somebody looks at, and the ports of all while somebody
//! filters by them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    model::{
        connections::{Connection, Details, Ports, Watch, Watched},
        direction::PerDirection,
        process::ProcessKey,
    },
    process::{
        identity,
        sockets::{self, Reading},
    },
    rate::{Bytes, Rate},
};

/// More connections are not read: each costs some microseconds with every sample.
const MOST: usize = 2000;

/// With each sample reading ports may take so long; who had no turn is read with the next ones.
const FOR_PORTS: Duration = Duration::from_millis(15);

/// The ports of processes, and with which sample they were read.
type KnownPorts = HashMap<ProcessKey, (u64, Vec<u16>)>;

/// What is wanted, and what the sample before had.
#[derive(Default)]
pub struct Watching {
    watch: Watch,
    /// Payload by socket cookie, when last read.
    before: HashMap<u64, PerDirection<u64>>,
    ports: KnownPorts,
    /// Counts samples with ports.
    turn: u64,
    watched: Watched,
}

impl Watching {
    /// Something else is wanted from now on. `between` two sockets the caller may see to something
    /// else.
    pub fn set(&mut self, watch: Watch, between: &mut dyn FnMut()) {
        if self.watch.process != watch.process {
            self.before.clear();
            self.watched.details = None;
        }
        if !watch.ports {
            self.ports.clear();
            self.watched.ports = None;
        }
        self.watch = watch;
        if let Some(key) = watch.process
            && self.watched.details.is_none()
        {
            // At once, though without rates.
            self.watched.details = Some(Arc::new(self.details(key, Duration::ZERO, between)));
        }
    }

    /// Reads what is wanted. `processes` are those that have sockets; `between` as above.
    pub fn sample(
        &mut self,
        interval: Duration,
        processes: impl Iterator<Item = ProcessKey>,
        between: &mut dyn FnMut(),
    ) {
        if let Some(key) = self.watch.process {
            self.watched.details = Some(Arc::new(self.details(key, interval, between)));
        }
        if self.watch.ports {
            self.read_ports(processes, FOR_PORTS, between);
        }
    }

    /// Reads the ports of those that were read longest ago, or never, for so long.
    fn read_ports(
        &mut self,
        processes: impl Iterator<Item = ProcessKey>,
        budget: Duration,
        between: &mut dyn FnMut(),
    ) {
        let begin = Instant::now();
        self.turn += 1;
        let mut known = std::mem::take(&mut self.ports);
        // Who is not among them any more is forgotten.
        self.ports = processes
            .map(|key| (key, known.remove(&key).unwrap_or_default()))
            .collect();
        let mut order: Vec<(u64, ProcessKey)> = self
            .ports
            .iter()
            .map(|(key, (turn, _))| (*turn, *key))
            .collect();
        order.sort_unstable();
        for (_, key) in order {
            // Whoever has vanished, or can't be looked at, has none.
            let ports = sockets::ports(key.pid, MOST, between).unwrap_or_default();
            self.ports.insert(key, (self.turn, ports));
            if begin.elapsed() >= budget {
                break;
            }
        }
        let known = self.ports.iter();
        let ports: Ports = known
            .map(|(key, (_, ports))| (*key, ports.clone()))
            .collect();
        self.watched.ports = Some(Arc::new(ports));
    }

    /// What was read last.
    pub fn watched(&self) -> Watched {
        self.watched.clone()
    }

    fn details(
        &mut self,
        key: ProcessKey,
        interval: Duration,
        between: &mut dyn FnMut(),
    ) -> Details {
        let (readings, missing) = match read(key, between) {
            Ok((readings, false)) => (readings, None),
            Ok((readings, true)) => (readings, Some(format!("only {MOST} are read"))),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut after = HashMap::new();
        let connections = readings
            .into_iter()
            .map(|reading| {
                let bytes = reading.tcp.map(|tcp| tcp.bytes());
                if let Some(bytes) = bytes {
                    after.insert(reading.cookie, bytes);
                }
                let before = self.before.get(&reading.cookie);
                connection(&reading, bytes, before, interval)
            })
            .collect();
        self.before = after;
        Details {
            key,
            connections,
            missing,
        }
    }
}

fn read(key: ProcessKey, between: &mut dyn FnMut()) -> Result<(Vec<Reading>, bool), String> {
    let readings = sockets::read(key.pid, MOST, between).map_err(|error| error.to_string())?;
    // Afterwards: if it is still the same process now, it was while it was read.
    match identity::start_time(key.pid) {
        Some(start_time) if start_time == key.start_time => Ok(readings),
        _ => Err("the process has ended".to_owned()),
    }
}

fn connection(
    reading: &Reading,
    bytes: Option<PerDirection<u64>>,
    before: Option<&PerDirection<u64>>,
    interval: Duration,
) -> Connection {
    let rate = |bytes: PerDirection<u64>| {
        // What was there before the first look was not moved in this interval.
        let before = before.copied().unwrap_or(bytes);
        PerDirection::of(|direction| {
            let moved = bytes.get(direction).saturating_sub(*before.get(direction));
            Rate::over(moved, interval)
        })
    };
    Connection {
        protocol: reading.protocol,
        local: reading.local,
        remote: reading.remote,
        state: reading.state.into(),
        rate: bytes.map(rate),
        bytes: bytes.map(|bytes| bytes.map(Bytes::new)),
        round_trip: reading.tcp.and_then(|tcp| tcp.round_trip),
        retransmits: reading.tcp.map(|tcp| tcp.retransmits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{connections::Watch, process::Pid};
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn rates_are_those_of_the_interval_and_only_while_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut send = |count: usize| {
            client.write_all(&vec![0; count]).unwrap();
            server.read_exact(&mut vec![0; count]).unwrap();
        };
        let pid = Pid(std::process::id());
        let key = ProcessKey {
            pid,
            start_time: identity::start_time(pid).unwrap(),
        };
        let port = listener.local_addr().unwrap().port();
        let received = |watching: &Watching| {
            let details = watching.watched().details.unwrap();
            let mut connections = details.connections.iter();
            let accepted = connections
                .find(|c| c.local.port() == port && c.remote.is_some())
                .unwrap();
            accepted.rate.unwrap().download.bytes_per_second()
        };
        let mut watching = Watching::default();
        watching.sample(Duration::from_secs(1), std::iter::empty(), &mut || ());
        assert_eq!(watching.watched(), Watched::default());
        send(5000);
        watching.set(
            Watch {
                process: Some(key),
                ports: false,
            },
            &mut || (),
        );
        assert_eq!(received(&watching), 0);
        send(3000);
        watching.sample(Duration::from_millis(500), std::iter::empty(), &mut || ());
        assert_eq!(received(&watching), 6000);
        watching.set(Watch::default(), &mut || ());
        assert_eq!(watching.watched(), Watched::default());
    }

    #[test]
    fn ports_are_read_by_turns_within_the_time_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = |pid| ProcessKey {
            pid: Pid(pid),
            start_time: 1,
        };
        let (me, other) = (key(std::process::id()), key(u32::MAX));
        let mut watching = Watching::default();
        watching.set(
            Watch {
                process: None,
                ports: true,
            },
            &mut || (),
        );
        // Time for one of them only.
        let mut has = |times: usize| {
            (0..times).for_each(|_| {
                watching.read_ports([me, other].into_iter(), Duration::ZERO, &mut || ())
            });
            watching.watched().ports.unwrap().of(me).contains(&port)
        };
        has(1);
        assert!(has(1), "after two turns both were read");
        watching.read_ports(std::iter::once(other), Duration::ZERO, &mut || ());
        assert!(watching.watched().ports.unwrap().of(me).is_empty());
        watching.set(Watch::default(), &mut || ());
        assert_eq!(watching.watched(), Watched::default());
    }

    #[test]
    fn another_process_with_the_id_is_not_looked_at() {
        let pid = Pid(std::process::id());
        let mut watching = Watching::default();
        watching.set(
            Watch {
                process: Some(ProcessKey { pid, start_time: 1 }),
                ports: false,
            },
            &mut || (),
        );
        let details = watching.watched().details.unwrap();
        assert!(details.connections.is_empty() && details.missing.is_some());
    }
}
