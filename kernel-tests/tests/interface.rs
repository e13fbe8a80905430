//! The real interface in a terminal, before real traffic: a person's whole way, and every way out.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, clients, kernel_test,
    kernel_view::{can_list_programs, loaded_programs, programs_of, until_gone},
    lab::{Family, Lab},
    moment::{Moment, until},
    outcome::{expect_ratio, figure, kept},
    peer::{Job, Peer, busy_rate},
    process::{Place, Process},
    product,
    queue::tc,
};
use pty_session::{Session, Size};
use rustix::process::Signal;
use tempfile::TempDir;

const SIZE: Size = Size {
    columns: 100,
    rows: 30,
};

/// As it is typed, and in bytes a second.
const TYPED: &str = "1M";
const RATE: f64 = 1e6;

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(4);

/// The interface, which keeps what it remembers apart from the machine's.
struct Interface {
    session: Session,
    place: TempDir,
}

impl Interface {
    fn start() -> Result<Self> {
        Self::start_at(tempfile::tempdir()?)
    }

    fn start_at(place: TempDir) -> Result<Self> {
        // Log lines don't go to the terminal's own standard error, so that a failure can tell them.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" 2>\"$STATE_DIRECTORY/log\""])
            .arg(product::program()?)
            .env_remove("RUST_LOG")
            .env("STATE_DIRECTORY", place.path())
            .env("CHADTHROTTLE_SOCKET", socket(place.path()));
        Ok(Self {
            session: Session::start(shell, SIZE)?,
            place,
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// Waits for a text on the screen.
    fn shows(&self, text: &str) -> TestResult {
        let shown = self.session.wait_for_text(text);
        shown.with_context(|| format!("its log is\n{}", self.log()))
    }

    /// Types a filter until a process's row is the only one.
    fn filters(&self, curl: &Process) -> TestResult {
        self.shows("curl")?;
        let pid = curl.pid();
        self.session.type_in(&format!("/curl pid:{pid}\r"))?;
        self.session.wait_for("its row alone", |screen| {
            let shown = screen.contents();
            let row = |line: &str| line.contains("curl") && line.contains(&format!(" {pid} "));
            shown.contains(": 1 of ") && shown.lines().any(row)
        })
    }

    /// Opens the details of the only row, limits it there, and waits until it gets what it may.
    fn limits(&self, curl: &Process) -> TestResult {
        self.session.type_in("\r")?;
        self.shows("not limited")?;
        self.session.type_in("t")?;
        self.shows(&format!("Limit curl ({})", curl.pid()))?;
        self.session.type_in(TYPED)?;
        self.shows("may download 1.00 MB/s")?;
        self.session.type_in("\r")?;
        self.shows("download limited to 1.00 MB/s")?;
        self.settles()
    }

    fn settles(&self) -> TestResult {
        self.session.wait_for("a rate at the limit", |screen| {
            achieved(&screen.contents()).is_some_and(|part| kept().contains(&part))
        })
    }
}

fn socket(place: &Path) -> std::path::PathBuf {
    place.join("run/control.sock")
}

/// A server, and a curl that downloads for as long as it lives, faster than the limit.
fn download(lab: &Lab) -> Result<(Peer, Process)> {
    let listen = Job::http().listen(lab.far().any_port(Family::V4));
    let server = lab.far().traffic(listen)?;
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "-o", "/dev/null", "--limit-rate"])
        .arg(busy_rate().to_string())
        .arg(format!("http://{}/1000000000000", server.address()?));
    let curl = lab.near().start(curl)?;
    Ok((server, curl))
}

/// What curl has written to its file so far. Its sockets are read by other calls.
fn downloaded(curl: &Process) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{}/io", curl.pid()))?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(written.context("no wchar")?.parse()?)
}

fn goodput(curl: &Process, time: Duration) -> Result<f64> {
    let (from, before) = (Moment::now(), downloaded(curl)?);
    (from + time).wait();
    let bytes = downloaded(curl)? - before;
    Ok(bytes as f64 / Moment::now().seconds_since(from))
}

/// The part of its limit that the details say a process gets: `gets 998 KB/s (100 %)`.
fn achieved(shown: &str) -> Option<f64> {
    let (_, after) = shown.split_once(" gets ")?;
    let (_, percent) = after.split_once('(')?;
    let (percent, _) = percent.split_once(" %")?;
    Some(percent.parse::<f64>().ok()? / 100.0)
}

#[test]
fn a_person_finds_a_curl_limits_it_and_frees_it() -> TestResult {
    kernel_test!();
    if clients::is_missing("curl") {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (server, curl) = download(&lab)?;

    let interface = Interface::start()?;
    let Interface { session, .. } = &interface;
    interface.filters(&curl)?;
    let ours = programs_of(session.pid())?;
    ensure!(!ours.is_empty(), "nothing of it is in the kernel");

    interface.limits(&curl)?;
    interface.shows("1 limit ")?;
    interface.shows(&server.address()?.to_string())?;
    // What was on its way is there; what is said holds.
    expect_ratio("curl", goodput(&curl, MEASURED)?, RATE, kept())?;
    interface.settles()?;

    session.type_in("r")?;
    interface.shows("0 limits")?;
    interface.shows("not limited")?;
    until("curl is free", pty_session::PATIENCE, || {
        Ok(goodput(&curl, Duration::from_millis(500))? > 3.0 * RATE)
    })?;
    session.type_in("\x1b")?;
    interface.shows("PROGRAM")?;
    session.type_in("q")?;
    let log = interface.log();
    interface.session.left_clean().context(log)?;
    if can_list_programs() {
        until_gone(&ours)?;
    }
    let qdiscs = tc(lab.near(), "qdisc show")?;
    ensure!(!qdiscs.contains("cd7a:"), "left behind: {qdiscs}");
    ensure!(goodput(&curl, Duration::from_secs(1))? > 3.0 * RATE);
    Ok(())
}

/// Keys and signals that come before there is an engine are not lost, and the terminal is given
/// back; what was loaded meanwhile is taken out again.
#[test]
fn it_can_be_left_while_the_engine_is_loaded() -> TestResult {
    kernel_test!(alone);
    type Way = fn(&Session) -> Result<()>;
    let ways: [(&str, Way); 3] = [
        ("q", |session| session.type_in("q")),
        ("SIGTERM", |session| session.signal(Signal::TERM)),
        ("SIGHUP", |session| session.signal(Signal::HUP)),
    ];
    let look = || match can_list_programs() {
        true => loaded_programs(),
        false => Ok(Default::default()),
    };
    for (name, leave) in ways {
        let before = look()?;
        let begin = Moment::now();
        let interface = Interface::start()?;
        let session = &interface.session;
        session.wait_for_written("first frame", |written| written.contains("starting"))?;
        let drawn = Moment::now().seconds_since(begin);
        leave(session)?;
        let log = interface.log();
        interface.session.left_clean().context(log)?;
        let took = Moment::now().seconds_since(begin);
        figure(&format!(
            "{name}: first frame after {:.0} ms, left after {:.0} ms",
            drawn * 1e3,
            took * 1e3
        ));
        until_gone(&look()?.difference(&before).copied().collect())?;
    }
    Ok(())
}

/// A daemon that greets when it is told to, with a version that nobody has.
fn other_daemon(socket: &Path) -> Result<impl FnOnce() -> Result<()> + use<>> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    let listener = UnixListener::bind(socket)?;
    Ok(move || {
        let (mut stream, _) = listener.accept()?;
        writeln!(stream, r#"{{"protocol":0,"version":"0.0.0","pid":1}}"#)?;
        // Until the other end is closed.
        let _ = BufReader::new(stream).lines().count();
        Ok(())
    })
}

#[test]
fn an_engine_that_cannot_be_had_is_said_on_the_terminal_as_it_was() -> TestResult {
    kernel_test!();
    let place = tempfile::tempdir()?;
    let greet = other_daemon(&socket(place.path()))?;
    let mut interface = Interface::start_at(place)?;
    interface.shows("starting")?;
    let greeting = thread::spawn(greet);
    let status = interface.session.terminal_after_end()?;
    ensure!(status.code() == Some(1), "{status}");
    let log = interface.log();
    let said = "chadthrottle: the running daemon (process 1) is chadthrottle 0.0.0";
    ensure!(log.contains(said), "{log}");
    ensure!(matches!(greeting.join(), Ok(Ok(()))));
    Ok(())
}

#[test]
fn it_can_be_left_while_a_daemon_does_not_answer() -> TestResult {
    kernel_test!();
    let place = tempfile::tempdir()?;
    let _silent = other_daemon(&socket(place.path()))?;
    let interface = Interface::start_at(place)?;
    interface.shows("starting")?;
    interface.session.type_in("?")?;
    interface.shows(" Keys ")?;
    interface.session.type_in("q")?;
    interface.session.left_clean()
}

/// A daemon without rules, where the interface looks for one.
fn daemon(place: &Path) -> Result<Process> {
    let rules = place.join("rules.toml");
    fs::write(&rules, "")?;
    let mut command = product::command(&["daemon"])?;
    command
        .env("CHADTHROTTLE_CONFIG", rules)
        .env("CHADTHROTTLE_SOCKET", socket(place))
        .env("STATE_DIRECTORY", place)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM");
    let daemon = Process::start(command, Place::default())?;
    until("the daemon is ready", pty_session::PATIENCE, || {
        Ok(daemon.errors().contains("ready:"))
    })
    .with_context(|| daemon.errors())?;
    Ok(daemon)
}

#[test]
fn a_limit_of_a_daemon_stays_when_the_interface_is_left_and_it_says_so() -> TestResult {
    kernel_test!();
    if clients::is_missing("curl") {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (_server, curl) = download(&lab)?;
    let place = tempfile::tempdir()?;
    let mut daemon = daemon(place.path())?;

    let interface = Interface::start_at(place)?;
    interface.shows("0 limits of the daemon")?;
    interface.filters(&curl)?;
    let Interface { session, .. } = &interface;
    interface.limits(&curl)?;
    interface.shows("1 limit of the daemon")?;
    session.type_in("q")?;
    interface.shows("1 limit stays in force when you leave: the daemon")?;
    interface.shows(&format!("{}) keeps it", daemon.pid()))?;
    session.type_in("y")?;
    let log = interface.log();
    interface.session.left_clean().context(log)?;
    expect_ratio(
        "kept",
        goodput(&curl, Duration::from_secs(4))?,
        RATE,
        kept(),
    )?;

    daemon.signal(Signal::TERM)?;
    daemon.wait(pty_session::PATIENCE)?;
    until("curl is free", pty_session::PATIENCE, || {
        Ok(goodput(&curl, Duration::from_millis(500))? > 3.0 * RATE)
    })
}
