//! What comes and goes.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use kernel_tests::{
    clients,
    flow::{Direction, Flow},
    home::Home,
    lab::{Family, Lab},
    moment::Moment,
    nginx::{self, Nginx},
    peer::{Job, Peer},
    process::{Process, as_user},
};
use tempfile::TempDir;

/// The limit of nginx, in bytes a second.
pub const WEB: u64 = 20_000_000;
/// The limit of the user.
pub const CROWD: u64 = 1_000_000;

/// No process of a test has this user.
const UID: &str = "64326";
/// So many slots the daemon is given, and there are more processes.
const SLOTS: &str = "8192";
const PROCESSES: u32 = 9000;

/// What is there all the time.
pub struct Stage {
    /// nginx is at its near end, and its clients at the far one.
    pub web: Lab,
    /// The user's processes are at its near end.
    pub crowd: Lab,
    pub home: Home,
    pub daemon: Mutex<Process>,
    _sink: Mutex<Peer>,
    nginx: Mutex<Nginx>,
    /// Where nginx listens, and what the user's processes send to.
    addresses: [SocketAddr; 2],
    /// Short connections that got what they asked for, and others.
    pub short: [AtomicU64; 2],
    _folder: TempDir,
}

impl Stage {
    /// Starts the daemon and nginx.
    pub fn new() -> Result<Self> {
        let rules = format!(
            "[[rule]]\nname = \"web\"\nprogram = \"{}\"\nupload = {WEB}\nshared = true\n\
             [[rule]]\nname = \"crowd\"\nuser = \"{UID}\"\nupload = {CROWD}\nshared = true\n",
            nginx::PROGRAM
        );
        let home = Home::new(&rules)?;
        let mut daemon = home.command(&["daemon"])?;
        daemon.env("CHADTHROTTLE_TEST_SLOTS", SLOTS);
        let daemon = home.daemon_by(daemon)?;
        let (web, crowd) = (Lab::new()?, Lab::new()?);
        let folder = tempfile::tempdir()?;
        let nginx = Nginx::start(web.near(), folder.path())?.context("nginx is not installed")?;
        let sink = Job::udp().listen(crowd.far().any_port(Family::V4));
        let sink = sink.at_most(Duration::from_secs(24 * 3600));
        let sink = crowd
            .far()
            .traffic(sink.report_every(Duration::from_secs(10)))?;
        Ok(Self {
            addresses: [nginx.address(), sink.address()?],
            web,
            crowd,
            home,
            daemon: Mutex::new(daemon),
            _sink: Mutex::new(sink),
            nginx: Mutex::new(nginx),
            short: Default::default(),
            _folder: folder,
        })
    }

    fn nginx(&self) -> MutexGuard<'_, Nginx> {
        self.nginx.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who does something again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Actor {
    /// Downloads for twenty seconds.
    Downloads,
    /// Two hundred short connections a second.
    ShortConnections,
    /// Reloads nginx.
    Reloads,
    /// Processes that send a little and end.
    Forks,
    /// Ids of processes that are used again.
    Ids,
    /// A user with more processes than there are slots.
    Crowd,
    /// Network namespaces.
    Namespaces,
}

impl Actor {
    pub const ALL: [Self; 7] = [
        Self::Downloads,
        Self::ShortConnections,
        Self::Reloads,
        Self::Forks,
        Self::Ids,
        Self::Crowd,
        Self::Namespaces,
    ];

    /// Does it once.
    pub fn play(self, stage: &Stage, done: &AtomicBool) -> Result<()> {
        match self {
            Self::Downloads => downloads(stage),
            Self::ShortConnections => short_connections(stage),
            Self::Reloads => {
                pause(Duration::from_secs(10), done);
                stage.nginx().reload()
            }
            Self::Forks => fork(stage),
            Self::Ids => use_ids_again(done),
            Self::Crowd => crowd(stage, done),
            Self::Namespaces => namespaces(done),
        }
    }
}

/// Waits, but not beyond the end.
fn pause(time: Duration, done: &AtomicBool) {
    let until = Moment::now() + time;
    while Moment::now() < until && !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
    }
}

fn downloads(stage: &Stage) -> Result<()> {
    let time = Duration::from_secs(20);
    let curls = (0..4).map(|_| stage.web.far().start(stage.nginx().curl(time)));
    for mut curl in curls.collect::<Result<Vec<_>>>()? {
        // That its time is over is an error to curl.
        curl.wait(time + Duration::from_secs(30))?;
    }
    Ok(())
}

fn short_connections(stage: &Stage) -> Result<()> {
    let [to, _] = stage.addresses;
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    let arguments = [&*address, &*port, "/small", "200", "10"];
    let gets = stage
        .web
        .far()
        .start(clients::python("many_gets.py", &arguments))?;
    let line = gets.line(Duration::from_secs(60))?;
    let line = line.with_context(|| gets.errors())?;
    for (sum, count) in stage.short.iter().zip(line.text.split_whitespace()) {
        sum.fetch_add(count.parse()?, Ordering::Relaxed);
    }
    Ok(())
}

/// Of a name that no rule has.
fn fork(stage: &Stage) -> Result<()> {
    let job = Job::many_processes(20).connect(stage.addresses[1]);
    let job = job.amount(1000).chunk(100).rate(1_000_000).leave();
    let mut family = stage.crowd.near().traffic(job)?;
    family.event("started")?;
    family.go()?;
    thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// The next process gets an id that was used ten seconds ago, unless it is still taken.
fn use_ids_again(done: &AtomicBool) -> Result<()> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let last = fs::read_to_string(LAST)?;
    pause(Duration::from_secs(10), done);
    fs::write(LAST, last.trim()).context(LAST)
}

fn crowd(stage: &Stage, done: &AtomicBool) -> Result<()> {
    // Each a datagram a second.
    let job = Job::many_processes(PROCESSES).connect(stage.addresses[1]);
    let job = job.amount(1_000_000).chunk(1000).rate(1000);
    let job = job.at_most(Duration::from_secs(120)).command()?;
    let mut family = Peer::from_command(as_user(UID, &job), stage.crowd.near().place())?;
    family.event_within("started", Duration::from_secs(60))?;
    family.go()?;
    pause(Duration::from_secs(40), done);
    drop(family);
    pause(Duration::from_secs(5), done);
    Ok(())
}

fn namespaces(done: &AtomicBool) -> Result<()> {
    let lab = Lab::new()?;
    let job = Job::tcp().amount(200_000);
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V6)?;
    pause(Duration::from_secs(2), done);
    drop(flow);
    Ok(())
}
