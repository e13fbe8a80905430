//! The `traffic` program as one end of a transfer.

use std::{
    cell::RefCell,
    env,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    goodput::Arrivals,
    moment::Moment,
    outcome::is_slow,
    process::{Place, Process},
    queue::RoundTrips,
};

/// How long a peer may take for what should be immediate. Emulated processors take ten seconds to
/// start two thousand processes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The rate of [`Job::busy`] in bytes a second: far above the limits of the tests, and no more than
/// a few of them get on the machine.
pub fn busy_rate() -> u64 {
    if is_slow() { 8_000_000 } else { 20_000_000 }
}

/// The name in the certificates of QUIC.
pub const QUIC_NAME: &str = "traffic";

/// What the traffic program shall do: a mode and its settings.
#[derive(Clone, Debug)]
pub struct Job(Vec<String>);

impl Job {
    fn new(mode: &str) -> Self {
        Self(vec![mode.to_owned()])
    }

    /// TCP; `listen` accepts any number of connections.
    pub fn tcp() -> Self {
        Self::new("tcp")
    }

    /// TCP at a rate that is far above the limits of the tests.
    pub fn busy() -> Self {
        Self::tcp().rate(busy_rate())
    }

    /// UDP.
    pub fn udp() -> Self {
        Self::new("udp")
    }

    /// Accepts one TCP connection and hands it to a forked child, which sends.
    pub fn hand_over() -> Self {
        Self::new("handover")
    }

    /// Workers of [`Self::prefork`] give up root's rights for a user's.
    pub fn worker_user(self, uid: &str) -> Self {
        self.set("worker_uid", uid)
    }

    /// That many children accept from the listener that their parent made.
    pub fn prefork(workers: u32) -> Self {
        Self::new("prefork").set("workers", workers)
    }

    /// QUIC; one stream on one connection. Both ends must have the same job's certificate.
    pub fn quic() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([QUIC_NAME.to_owned()])?;
        Ok(Self::new("quic")
            .set("certificate", hexadecimal(made.cert.der()))
            .set("key", hexadecimal(&made.signing_key.serialize_der())))
    }

    /// An HTTP server: a GET of `/N` brings N bytes.
    pub fn http() -> Self {
        Self::new("http")
    }

    /// Makes a UDP socket and sends until it may not; the event `refused` tells what came of it.
    pub fn until_refused() -> Self {
        Self::new("refused")
    }

    /// One process with that many UDP sockets; told to go, it sends a datagram on each.
    pub fn many_sockets(count: u32) -> Self {
        Self::new("sockets").set("count", count)
    }

    /// That many processes with a UDP socket each; told to go, each sends datagrams.
    pub fn many_processes(count: u32) -> Self {
        Self::new("family").set("count", count)
    }

    /// Sends every UDP datagram back.
    pub fn echo() -> Self {
        Self::new("echo")
    }

    /// Sends that many small datagrams to an echo, one after the other; see
    /// [`Peer::round_trips`].
    pub fn ping(count: u32) -> Self {
        Self::new("ping").set("count", count)
    }

    /// Sends that many datagrams of [`Self::chunk`] bytes to an echo, fifty a second; see [`Peer::call`].
    pub fn call(count: u32) -> Self {
        Self::new("call").set("count", count)
    }

    fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.0.push(format!("{key}={}", value.to_string()));
        self
    }

    /// Listens there.
    pub fn listen(self, address: SocketAddr) -> Self {
        self.set("listen", address)
    }

    /// Connects to there.
    pub fn connect(self, address: SocketAddr) -> Self {
        self.set("connect", address)
    }

    /// Sends; without this it receives.
    pub fn send(self) -> Self {
        self.set("do", "send")
    }

    /// Sends at that many bytes a second, not as fast as it goes.
    pub fn rate(self, bytes_per_second: u64) -> Self {
        self.set("rate", bytes_per_second)
    }

    /// Bytes given to each write; small ones are sent at once.
    pub fn chunk(self, bytes: u32) -> Self {
        self.set("chunk", bytes)
    }

    /// Sends that many bytes on each connection and no more.
    pub fn amount(self, bytes: u64) -> Self {
        self.set("amount", bytes)
    }

    /// Sends UDP until something goes wrong with it, and then ends; usually a refusal passes.
    pub fn strict(self) -> Self {
        self.set("strict", 1)
    }

    /// Uses another congestion control than cubic, which most machines have.
    pub fn congestion_control(self, name: &str) -> Self {
        self.set("congestion", name)
    }

    /// Several connections.
    pub fn connections(self, count: u32) -> Self {
        self.set("connections", count)
    }

    /// Makes its sockets without SOCK_CLOEXEC; trickle does not know others for TCP.
    pub fn without_cloexec(self) -> Self {
        self.set("inherited", 1)
    }

    /// Ends by itself, that long after it began, as soon as the amount is sent.
    pub fn live(self, time: Duration) -> Self {
        self.set("live_ms", time.as_millis())
    }

    /// Each of many processes ends when it has sent its amount.
    pub fn leave(self) -> Self {
        self.set("leave", 1)
    }

    /// All of it is done by a thread with a name of its own.
    pub fn in_thread(self, name: &str) -> Self {
        self.set("thread", name)
    }

    /// Makes no socket before it is told to go.
    pub fn wait(self) -> Self {
        self.set("wait", 1)
    }

    /// Sends that many bytes on each connection, and the rest when told to go.
    pub fn pause_after(self, bytes: u64) -> Self {
        self.set("pause", bytes)
    }

    /// Makes its socket at once but sends only when told to go.
    pub fn hold(self) -> Self {
        self.set("hold", 1)
    }

    /// Counts the segments that it sends, too.
    pub fn segments(self) -> Self {
        self.set("segments", 1)
    }

    /// Reports that often; usually each 100 ms.
    pub fn report_every(self, time: Duration) -> Self {
        self.set("every_ms", time.as_millis())
    }

    /// Ends after that time, whatever happens; usually 60 seconds.
    pub fn at_most(self, time: Duration) -> Self {
        self.set("at_most_ms", time.as_millis())
    }

    /// The command that does it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(traffic_program()?);
        command.args(&self.0);
        Ok(command)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running traffic program.
pub struct Peer {
    process: Process,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    sent: Vec<(Moment, u64)>,
    received: Vec<(Moment, u64)>,
    segments: Vec<(Moment, u64)>,
    repeated: Vec<(Moment, u64)>,
    events: Vec<Value>,
}

impl Peer {
    /// Starts it, and waits until it listens, is connected, or waits to be told.
    pub fn start(job: Job, place: Place<'_>) -> Result<Self> {
        Self::from_command(job.command()?, place)
    }

    /// The same from a command that ends in a job's, in another namespace for example.
    pub fn from_command(command: Command, place: Place<'_>) -> Result<Self> {
        let peer = Self {
            process: Process::start(command, place)?,
            seen: RefCell::default(),
        };
        peer.event("started")?;
        Ok(peer)
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        let started = self.event("started")?;
        let address = started["address"].as_str().context("it doesn't listen")?;
        Ok(address.parse()?)
    }

    /// Lets it go on.
    pub fn go(&mut self) -> Result<()> {
        self.process.tell("go")
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<()> {
        let status = self.process.wait(patience)?;
        if !status.success() {
            bail!("traffic: {status}: {}", self.process.errors());
        }
        Ok(())
    }

    /// Waits for what it says under that name, or finds it among what it said.
    pub fn event(&self, name: &str) -> Result<Value> {
        self.event_within(name, PATIENCE)
    }

    /// The same, with another patience.
    pub fn event_within(&self, name: &str, patience: Duration) -> Result<Value> {
        let start = Instant::now();
        loop {
            let mut seen = self.seen.borrow_mut();
            if let Some(event) = seen.events.iter().find(|event| event["event"] == name) {
                return Ok(event.clone());
            }
            let left = patience.saturating_sub(start.elapsed());
            match self.process.line(left)? {
                Some(line) => seen.take(&line.text)?,
                None => bail!("it ended before '{name}': {}", self.process.errors()),
            }
        }
    }

    /// Waits until all pings of [`Job::ping`] are done. None may be lost.
    pub fn round_trips(&self, patience: Duration) -> Result<RoundTrips> {
        match self.call(patience)? {
            (times, 0) => Ok(times),
            (_, lost) => bail!("{lost} pings were lost"),
        }
    }

    /// Waits for the end of [`Job::call`]: what the answers took, and how many did not come.
    pub fn call(&self, patience: Duration) -> Result<(RoundTrips, u64)> {
        let event = self.event_within("round_trips", patience)?;
        let times = event["nanoseconds"].as_array().context("no times")?;
        let seconds = (times.iter().filter_map(Value::as_f64)).map(|time| time / 1e9);
        let lost = event["lost"].as_u64().context("no count of losses")?;
        Ok((RoundTrips::new(seconds.collect())?, lost))
    }

    /// What it received so far.
    pub fn received(&self) -> Result<Arrivals> {
        self.catch_up()?;
        Ok(Arrivals::new(self.seen.borrow().received.clone()))
    }

    /// What it gave to the kernel so far.
    pub fn sent(&self) -> Result<Arrivals> {
        self.catch_up()?;
        Ok(Arrivals::new(self.seen.borrow().sent.clone()))
    }

    /// Segments (of QUIC: packets) that it sent, and how many of them because others were lost; both
    /// between two moments of which it has reported. Nothing unless it counts them.
    pub fn segments_between(&self, from: Moment, to: Moment) -> Result<Option<(f64, f64)>> {
        self.catch_up()?;
        let seen = self.seen.borrow();
        if seen.segments.is_empty() {
            return Ok(None);
        }
        let count = |row: &Vec<(Moment, u64)>| Arrivals::new(row.clone()).between(from, to);
        Ok(Some((count(&seen.segments)?, count(&seen.repeated)?)))
    }

    /// What it received, once it reports about that moment.
    pub fn received_until(&self, moment: Moment) -> Result<Arrivals> {
        moment.wait();
        let deadline = Moment::now() + PATIENCE;
        loop {
            let received = self.received()?;
            if received.until().is_some_and(|last| last >= moment) {
                return Ok(received);
            }
            if Moment::now() > deadline {
                bail!("the receiver reports nothing: {}", self.process.errors());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn catch_up(&self) -> Result<()> {
        let mut seen = self.seen.borrow_mut();
        self.process
            .waiting_lines()
            .try_for_each(|line| seen.take(&line.text))
    }
}

impl Seen {
    fn take(&mut self, line: &str) -> Result<()> {
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("not JSON from the traffic program: {line}"))?;
        match (
            value["at_ns"].as_u64(),
            value["sent"].as_u64(),
            value["received"].as_u64(),
        ) {
            (Some(at), Some(sent), Some(received)) => {
                let at = Moment::from_nanoseconds(at);
                self.sent.push((at, sent));
                self.received.push((at, received));
                if let (Some(segments), Some(repeated)) =
                    (value["segments"].as_u64(), value["repeated"].as_u64())
                {
                    self.segments.push((at, segments));
                    self.repeated.push((at, repeated));
                }
            }
            _ => self.events.push(value),
        }
        Ok(())
    }
}

/// The traffic program: `KERNEL_TESTS_TRAFFIC`, else the one built beside this program.
fn traffic_program() -> Result<PathBuf> {
    match env::var_os("KERNEL_TESTS_TRAFFIC") {
        Some(path) => Ok(path.into()),
        None => beside_this_program("traffic"),
    }
}

/// A program of the same build: beside this executable, or above its `deps`.
pub(crate) fn beside_this_program(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no program '{name}' beside {}", this.display()))
}
