//! One end of a transfer, for the kernel tests: `traffic MODE key=value…`.
//!
//! Prints JSON lines: events (`{"event":"started",…}`) and, every 100 ms, what was sent and
//! received so far with the time of `CLOCK_MONOTONIC`. Bounded in time and, where asked, amount.

mod echo;
mod family;
mod http;
mod quic;
mod segments;
mod settings;
mod tcp;
mod udp;

use std::{
    io::{self, Write},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kernel_tests::moment::Moment;
use settings::Settings;

/// Bytes given to the kernel.
static SENT: AtomicU64 = AtomicU64::new(0);
/// Bytes taken from the kernel.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

fn main() {
    if let Err(error) = run() {
        eprintln!("traffic: {error:#}");
        process::exit(1);
    }
}

fn run() -> Result<()> {
    let settings = Settings::from_arguments()?;
    if settings.is_set("wait") {
        say("started", "");
        wait_for_go()?;
    }
    match settings.text("thread") {
        // Named as threads name themselves, by prctl.
        Some(name) => thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || begin(&settings))?
            .join()
            .unwrap_or_else(|_| bail!("the thread panicked")),
        None => begin(&settings),
    }
}

fn begin(settings: &Settings) -> Result<()> {
    // Receivers have none to speak of, and UDP has no such thing.
    if settings.is_set("segments") && settings.sends() && settings.mode != "udp" {
        segments::begin();
    }
    match settings.mode.as_str() {
        "tcp" => tcp::run(settings)?,
        "handover" => tcp::hand_over(settings)?,
        "prefork" => tcp::prefork(settings)?,
        "udp" => udp::run(settings)?,
        "refused" => udp::until_refused(settings)?,
        "sockets" => udp::many_sockets(settings)?,
        "family" => family::run(settings)?,
        "echo" => echo::echo(settings)?,
        "ping" => echo::ping(settings)?,
        "call" => echo::call(settings)?,
        "quic" => quic::run(settings)?,
        "http" => http::run(settings)?,
        mode => bail!("no mode {mode}"),
    }
    Ok(())
}

/// Prints an event; `more` is nothing, or further members that begin with a comma.
fn say(event: &str, more: &str) {
    print_line(&format!("{{\"event\":\"{event}\"{more}}}\n"));
}

fn print_line(line: &str) {
    if io::stdout().lock().write_all(line.as_bytes()).is_err() {
        // Nobody listens any more.
        process::exit(0);
    }
}

fn report() {
    // The time is taken last: what is counted had arrived by then.
    let sent = SENT.load(Ordering::SeqCst);
    let received = RECEIVED.load(Ordering::SeqCst);
    let at = Moment::now().nanoseconds();
    let segments = segments::report();
    print_line(&format!(
        "{{\"at_ns\":{at},\"sent\":{sent},\"received\":{received}{segments}}}\n"
    ));
}

/// Begins to report, and ends the process when its time is over.
fn report_from_now_on(settings: &Settings) -> Result<()> {
    let every = Duration::from_millis(settings.number("every_ms", 100)?);
    let at_most = Duration::from_millis(settings.number("at_most_ms", 60_000)?);
    // The first report is of zero bytes.
    report();
    thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < at_most {
            thread::sleep(every);
            report();
        }
        process::exit(0);
    });
    Ok(())
}

/// Sleeps until the reporting thread ends the process.
fn stay() -> ! {
    loop {
        thread::park();
    }
}

/// Says that the connections are there, and waits if it is to hold then.
fn connected_and_going(settings: &Settings) -> Result<()> {
    let waited = settings.is_set("wait");
    say(if waited { "going" } else { "started" }, "");
    if settings.is_set("hold") {
        wait_for_go()?;
    }
    Ok(())
}

fn wait_for_go() -> Result<()> {
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    if read.context("can't read standard input")? == 0 {
        bail!("standard input was closed");
    }
    Ok(())
}

/// Keeps a rate: sleeps whenever more was sent than is due.
struct Pace {
    start: Instant,
    sent: u64,
    /// Bytes a second; 0 is no limit.
    rate: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self {
            start: Instant::now(),
            sent: 0,
            rate,
        }
    }

    fn after(&mut self, bytes: u64) {
        self.sent += bytes;
        if self.rate == 0 {
            return;
        }
        let due = Duration::from_secs_f64(self.sent as f64 / self.rate as f64);
        let ahead = due.saturating_sub(self.start.elapsed());
        // Shorter sleeps cost more than they are worth.
        if ahead > Duration::from_millis(1) {
            thread::sleep(ahead);
        }
    }
}
