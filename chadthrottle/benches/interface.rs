//! How long the interface takes, and how much of the machine: each figure beside its target.
//!
//!     cargo bench -p chadthrottle --bench interface
//!     cargo bench -p chadthrottle --bench interface -- frame    # by a word of the figure's name
//!
//! What is said of the real interface, not of a made-up world, needs root.

// The tests' scenes are not known as tests here, and not all of them are needed.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/tui/scene.rs"]
mod scene;

use std::{
    env, fs, io,
    net::UdpSocket,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use chadthrottle::tui::{
    action::Message,
    view::{
        self,
        theme::{Palette, Theme},
    },
};
use crossterm::event::KeyCode;
use pty_session::{Session, Size};
use ratatui::{
    Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout, layout::Rect,
};
use rustix::{
    param::clock_ticks_per_second,
    process::{Signal, geteuid, set_parent_process_death_signal},
};
use scene::{Large, Person};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chadthrottle");

/// Set for children that only have a socket and use it now and then.
const LIVE: &str = "CHADTHROTTLE_BENCH_LIVE";

const LARGE: layout::Size = layout::Size::new(200, 60);
const LARGE_TERMINAL: Size = Size {
    columns: LARGE.width,
    rows: LARGE.height,
};

/// At 200x60.
const MOST_OF_A_FRAME: Duration = Duration::from_millis(10);
const MOST_OF_A_KEY: Duration = Duration::from_millis(50);
const MOST_OF_A_START: Duration = Duration::from_millis(150);
const MOST_IDLE: f64 = 0.5;
const MOST_LIVE: f64 = 2.0;

const PROCESSES: usize = 10_000;
const LIVE_PROCESSES: usize = 1_000;

/// How long processors' time is counted.
const COUNTED: Duration = Duration::from_secs(10);

type Figure = (&'static str, fn() -> Result<()>);

const FIGURES: &[Figure] = &[
    ("frame", frames),
    ("key", keys),
    ("key in a terminal", keys_in_a_terminal),
    ("first frame", first_frame),
    ("first frame of the real interface", first_real_frame),
    ("share of a core, idle", idle),
    ("share of a core, live", live),
];

fn main() -> Result<()> {
    if env::var_os(LIVE).is_some() {
        return be_live();
    }
    // cargo adds --bench.
    let wanted = env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    for (name, measure) in FIGURES.iter().filter(|(name, _)| name.contains(&wanted)) {
        measure().with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

/// What something took, each time.
#[derive(Default)]
struct Times(Vec<(Duration, String)>);

impl Times {
    fn add(&mut self, took: Duration, what: impl Into<String>) {
        self.0.push((took, what.into()));
    }

    fn print(mut self, name: &str, target: Duration) {
        self.0.sort();
        let median = self
            .0
            .get(self.0.len() / 2)
            .map_or(Duration::ZERO, |it| it.0);
        let (worst, of) = self.0.pop().unwrap_or_default();
        let verdict = if worst > target { ", MISSED" } else { "" };
        let of = if of.is_empty() {
            of
        } else {
            format!(" ({of})")
        };
        println!(
            "FIGURE: {name}: median {}, worst {}{of}; target {}{verdict}",
            milliseconds(median),
            milliseconds(worst),
            milliseconds(target)
        );
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A terminal that takes all that is written to a real one, and shows it to nobody.
struct Canvas(Terminal<CrosstermBackend<io::Sink>>);

impl Canvas {
    fn new() -> Result<Self> {
        let viewport = Viewport::Fixed(Rect::from(LARGE));
        let backend = CrosstermBackend::new(io::sink());
        Ok(Self(Terminal::with_options(
            backend,
            TerminalOptions { viewport },
        )?))
    }

    fn draw(&mut self, person: &Person) -> Result<Duration> {
        let theme = Theme::new(Palette::Dark);
        let begin = Instant::now();
        self.0
            .draw(|frame| view::render(frame, &person.state, &theme))?;
        Ok(begin.elapsed())
    }
}

/// What is on the screen while frames are timed, by the keys that bring it there.
const PANES: &[(&str, &str)] = &[
    ("processes", ""),
    ("programs", "v"),
    ("units", "vv"),
    ("filtered", "/port:4\n"),
    ("details", "\n"),
    ("help", "?"),
];

fn frames() -> Result<()> {
    let mut large = Large::new(LARGE);
    let (mut frames, mut samples) = (Times::default(), Times::default());
    for (pane, way) in PANES {
        let mut canvas = Canvas::new()?;
        type_in(&mut large.person, way);
        large.watch();
        for _ in 0..10 {
            let snapshot = large.next();
            let begin = Instant::now();
            large.person.tell(Message::Snapshot(snapshot));
            let taken = begin.elapsed();
            let drawn = canvas.draw(&large.person)?;
            frames.add(drawn, *pane);
            samples.add(taken + drawn, *pane);
        }
        for _ in 0..4 {
            large.person.press(KeyCode::Esc);
        }
        while large.person.state.preferences.view != Default::default() {
            large.person.press(KeyCode::Char('v'));
        }
    }
    frames.print("frame at 200x60, 10,000 processes", MOST_OF_A_FRAME);
    samples.print("sample to frame, 10,000 processes", MOST_OF_A_KEY);
    Ok(())
}

fn type_in(person: &mut Person, keys: &str) {
    for key in keys.chars() {
        person.press(match key {
            '\n' => KeyCode::Enter,
            key => KeyCode::Char(key),
        });
    }
}

fn keys() -> Result<()> {
    use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown};
    let mut large = Large::new(LARGE);
    println!("{PROCESSES} processes have {} sockets", large.sockets());
    let mut canvas = Canvas::new()?;
    canvas.draw(&large.person)?;
    let way = [
        Down,
        PageDown,
        End,
        Home,
        Char('s'),
        Char('S'),
        Char('i'),
        Char('i'),
        Char('v'),
        Char('v'),
        Char('v'),
        Char('v'),
        Char('/'),
        Char('f'),
        Char('i'),
        Char('r'),
        Char('e'),
        Enter,
        Esc,
        Char(' '),
        Char(' '),
        Char('t'),
        Char('5'),
        Char('M'),
        Esc,
        Esc,
        Enter,
        Down,
        Esc,
        Char('l'),
        Esc,
        Char('?'),
        Esc,
        Char('f'),
        Char('f'),
        Char('/'),
        Char('p'),
        Char('o'),
        Char('r'),
        Char('t'),
        Char(':'),
        Char('4'),
        Enter,
        Esc,
    ];
    let mut times = Times::default();
    for _ in 0..5 {
        for key in way {
            let snapshot = large.next();
            large.person.tell(Message::Snapshot(snapshot));
            let begin = Instant::now();
            large.person.press(key);
            canvas.draw(&large.person)?;
            times.add(begin.elapsed(), key.to_string());
            large.watch();
        }
    }
    times.print("key to frame at 200x60, 10,000 processes", MOST_OF_A_KEY);
    Ok(())
}

fn demo(processes: usize) -> Command {
    let mut command = Command::new(PROGRAM);
    let processes = processes.to_string();
    command.args(["--demo", "--demo-processes", &processes]);
    command
}

fn keys_in_a_terminal() -> Result<()> {
    let session = Session::start(demo(PROCESSES), LARGE_TERMINAL)?;
    session.wait_for_text("coverage")?;
    let mut times = Times::default();
    for _ in 0..50 {
        for (key, shown) in [("?", true), ("\x1b", false)] {
            let begin = Instant::now();
            session.type_in(key)?;
            session.wait_for("the keys", |screen| {
                screen.contents().contains(" Keys ") == shown
            })?;
            // Esc waits for what may follow it.
            if shown {
                times.add(begin.elapsed(), "");
            }
        }
        // At any time of the made-up world's second.
        thread::sleep(Duration::from_millis(37));
    }
    times.print(
        "key to screen in a terminal of 200x60, 10,000 processes",
        MOST_OF_A_KEY,
    );
    session.type_in("q")?;
    session.left_clean()
}

/// How often a start is timed.
const STARTS: usize = 10;

fn first_frame() -> Result<()> {
    for processes in [40, PROCESSES] {
        let mut times = Times::default();
        for _ in 0..STARTS {
            let begin = Instant::now();
            let session = Session::start(demo(processes), LARGE_TERMINAL)?;
            session.wait_for_text("coverage")?;
            times.add(begin.elapsed(), "");
            session.type_in("q")?;
            session.left_clean()?;
        }
        times.print(
            &format!("first frame of --demo, {processes} processes"),
            MOST_OF_A_START,
        );
    }
    Ok(())
}

/// The real interface, in a place of its own; nothing without root.
fn real() -> Result<Option<(Session, tempfile::TempDir)>> {
    if !geteuid().is_root() {
        println!("SKIPPED: the real interface needs root");
        return Ok(None);
    }
    let place = tempfile::tempdir()?;
    let mut command = Command::new(PROGRAM);
    command
        .env("STATE_DIRECTORY", place.path())
        .env("CHADTHROTTLE_SOCKET", place.path().join("control.sock"));
    Ok(Some((Session::start(command, LARGE_TERMINAL)?, place)))
}

fn first_real_frame() -> Result<()> {
    let (mut frames, mut samples) = (Times::default(), Times::default());
    for _ in 0..STARTS {
        let begin = Instant::now();
        let Some((session, _place)) = real()? else {
            return Ok(());
        };
        session.wait_for("a frame", |screen| {
            let shown = screen.contents();
            shown.contains("starting") || shown.contains("coverage")
        })?;
        frames.add(begin.elapsed(), "");
        session.wait_for_text("coverage")?;
        samples.add(begin.elapsed(), "");
        session.type_in("q")?;
        session.left_clean()?;
    }
    frames.print("first frame of the real interface", MOST_OF_A_START);
    samples.print("first sample on its screen", Duration::from_secs(1));
    Ok(())
}

fn idle() -> Result<()> {
    share("idle", MOST_IDLE)
}

fn live() -> Result<()> {
    if !geteuid().is_root() {
        return share("", MOST_LIVE);
    }
    let mut children = Vec::new();
    for _ in 0..LIVE_PROCESSES {
        children.push(Live::start()?);
    }
    share("with 1,000 live processes", MOST_LIVE)
}

/// Processors' time that the real interface takes.
fn share(when: &str, target: f64) -> Result<()> {
    let Some((session, _place)) = real()? else {
        return Ok(());
    };
    session.wait_for_text("coverage")?;
    // What it does once at the start is not what it takes.
    thread::sleep(Duration::from_secs(3));
    let (begin, before) = (Instant::now(), ticks(session.pid())?);
    thread::sleep(COUNTED);
    let used = (ticks(session.pid())? - before) as f64 / clock_ticks_per_second() as f64;
    let percent = 100.0 * used / begin.elapsed().as_secs_f64();
    let verdict = if percent > target { ", MISSED" } else { "" };
    println!("FIGURE: share of a core, {when}: {percent:.2} %; target {target} %{verdict}");
    session.type_in("q")?;
    session.left_clean()
}

/// What all threads of a process have taken, in the kernel's ticks.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may have spaces: see proc_pid_stat(5).
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    let field =
        |n: usize| -> Result<u64> { Ok(fields.get(n - 3).context("no such field")?.parse()?) };
    Ok(field(14)? + field(15)?)
}

/// A process with a socket that it uses each second.
struct Live(Child);

impl Live {
    fn start() -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .env(LIVE, "1")
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may have died with an earlier failure.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn be_live() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let address = socket.local_addr()?;
    loop {
        socket.send_to(&[0; 1000], address)?;
        socket.recv(&mut [0; 1000])?;
        thread::sleep(Duration::from_secs(1));
    }
}
