//! What it costs to watch: ours and others', in processor time, in error, and in the speed of what
//! is watched.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    lab::{Family, Lab},
    moment::{Moment, until},
    peer::Job,
    process::Process,
    product::Top,
};
use serde::{Deserialize, Serialize};

use crate::{
    progress,
    results::{Output, Part},
    table::{Table, furthest, median, with_range},
};

const RUNS: usize = 3;
/// For the longest transfer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// bandwhich shows means over five seconds, nethogs what it got to.
const LAST_WORD: Duration = Duration::from_secs(8);
/// Of one core, in percent.
const MOST_CPU: f64 = 1.0;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Load {
    /// As fast as it goes.
    Full,
    /// 200 Mbit/s in writes of 200 bytes.
    SmallWrites,
}

impl Load {
    const ALL: [Self; 2] = [Self::Full, Self::SmallWrites];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "as fast as it goes",
            Self::SmallWrites => "200 Mbit/s in writes of 200 bytes",
        }
    }

    /// Some ten seconds each.
    fn job(self) -> (Job, u64) {
        match self {
            Self::Full => (Job::tcp(), 24_000_000_000),
            Self::SmallWrites => (Job::tcp().rate(25_000_000).chunk(200), 250_000_000),
        }
    }
}

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Monitor {
    /// Nobody.
    Nobody,
    /// Nobody, once more at the end of the round: how much the machine itself varies.
    NobodyAgain,
    Chadthrottle,
    Nethogs,
    Bandwhich,
}

impl Monitor {
    const ALL: [Self; 5] = [
        Self::Nobody,
        Self::Chadthrottle,
        Self::Nethogs,
        Self::Bandwhich,
        Self::NobodyAgain,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::NobodyAgain => "nobody, again",
            Self::Chadthrottle => "`chadthrottle top --json`",
            Self::Nethogs => "`nethogs -t -v 2`",
            Self::Bandwhich => "`bandwhich --raw`",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::Nethogs => Command::new("nethogs").arg("-V").output().is_ok(),
            Self::Bandwhich => bandwhich().is_some(),
            _ => true,
        }
    }
}

fn bandwhich() -> Option<PathBuf> {
    let tools = env::var_os("CHADTHROTTLE_BENCH_TOOLS")?;
    Some(PathBuf::from(tools).join("bandwhich")).filter(|path| path.is_file())
}

/// A watcher at work.
enum Watching {
    Nobody,
    Chadthrottle(Top),
    /// Those that print lines, and the PID that works.
    Other(Monitor, Process, u32),
}

impl Watching {
    fn start(monitor: Monitor, lab: &Lab) -> Result<Self> {
        Ok(match monitor {
            Monitor::Nobody | Monitor::NobodyAgain => Self::Nobody,
            Monitor::Chadthrottle => Self::Chadthrottle(Top::start("1s")?),
            Monitor::Nethogs => {
                let mut command = Command::new("nethogs");
                command.args(["-t", "-v", "2", "-d", "1", "lab"]);
                let process = lab.near().start(command)?;
                let pid = process.pid();
                process.line(Duration::from_secs(20))?;
                Self::Other(monitor, process, pid)
            }
            Monitor::Bandwhich => {
                let program = bandwhich().context("no bandwhich")?;
                // It wants a terminal, which script makes.
                let mut command = Command::new("script");
                command.args(["--quiet", "--flush", "--command"]);
                command.arg(format!(
                    "exec {} --raw --no-resolve --interface lab",
                    program.display()
                ));
                command.arg("/dev/null");
                let process = lab.near().start(command)?;
                let pid = child_of(process.pid())?;
                process.line(Duration::from_secs(20))?;
                Self::Other(monitor, process, pid)
            }
        })
    }

    /// Seconds of processor time so far.
    fn processor_time(&self) -> Result<f64> {
        match self {
            Self::Nobody => Ok(0.0),
            Self::Chadthrottle(top) => processor_time(top.pid()),
            Self::Other(_, _, pid) => processor_time(*pid),
        }
    }

    /// The bytes that it says the process has sent, once it has had the time to.
    fn sent(&mut self, pid: u32) -> Result<Option<f64>> {
        Ok(match self {
            Self::Nobody => None,
            Self::Chadthrottle(top) => Some(top.settled(pid, "upload_bytes")? as f64),
            Self::Other(monitor, process, _) => {
                (Moment::now() + LAST_WORD).wait();
                let lines: Vec<String> = process.waiting_lines().map(|line| line.text).collect();
                Some(match monitor {
                    Monitor::Nethogs => nethogs_sent(&lines, pid),
                    _ => bandwhich_sent(&lines),
                })
            }
        })
    }

    /// What chadthrottle says the process has received.
    fn received(&mut self, pid: u32) -> Result<Option<f64>> {
        Ok(match self {
            Self::Chadthrottle(top) => Some(top.settled(pid, "download_bytes")? as f64),
            _ => None,
        })
    }
}

/// Its lines are `program/PID/UID`, total sent, total received.
fn nethogs_sent(lines: &[String], pid: u32) -> f64 {
    let mut totals = lines.iter().rev().filter_map(|line| {
        let mut fields = line.split('\t');
        let mut name = fields.next()?.rsplit('/').skip(1);
        let sent: f64 = fields.next()?.parse().ok()?;
        (name.next()?.parse() == Ok(pid)).then_some(sent)
    });
    totals.next().unwrap_or(0.0)
}

/// Its lines are `process: <TIME> "NAME" up/down Bps: UP/DOWN connections: N`, once a second; the
/// lab has the one process that sends.
fn bandwhich_sent(lines: &[String]) -> f64 {
    let rates = lines.iter().filter_map(|line| {
        let (_, rates) = line.trim().strip_prefix("process: ")?.split_once("Bps: ")?;
        rates.split_once('/')?.0.parse::<f64>().ok()
    });
    rates.sum()
}

fn child_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    until("a child", Duration::from_secs(10), || {
        child = fs::read_to_string(&path)?
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        Ok(child.is_some())
    })?;
    child.context("no child")
}

/// A transfer that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    load: Load,
    monitor: Monitor,
    /// It is not installed.
    missing: bool,
    /// Of the transfer, in bytes a second.
    speed: f64,
    /// Of the monitor, in percent of one core.
    processor: f64,
    /// What the monitor counted of the sender, in percent too much.
    sender_off: Option<f64>,
    /// The same of the receiver.
    receiver_off: Option<f64>,
}

/// Measures all, in turn.
pub fn measure(out: &Output) -> Result<()> {
    for load in Load::ALL {
        for run in 1..=RUNS {
            for monitor in Monitor::ALL {
                progress(&format!(
                    "  {}, run {run} of {RUNS}, {}",
                    load.name(),
                    monitor.name()
                ));
                if monitor.is_there() {
                    out.keep(&transfer(load, monitor)?)?;
                } else if run == 1 {
                    out.keep(&Run {
                        load,
                        monitor,
                        missing: true,
                        speed: f64::MAX,
                        processor: 0.0,
                        sender_off: None,
                        receiver_off: None,
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// Sends from near to far, beside a monitor.
fn transfer(load: Load, monitor: Monitor) -> Result<Run> {
    let lab = Lab::new()?;
    let far = lab.far().traffic(
        Job::tcp()
            .at_most(PATIENCE)
            .listen(lab.far().any_port(Family::V4)),
    )?;
    let (job, amount) = load.job();
    let job = job
        .at_most(PATIENCE)
        .connect(far.address()?)
        .send()
        .amount(amount)
        .hold();
    let mut near = lab.near().traffic(job)?;
    let mut watching = Watching::start(monitor, &lab)?;

    let (used_before, start) = (watching.processor_time()?, Moment::now());
    near.go()?;
    far.event_within("end", PATIENCE)?;
    let (used_after, now) = (watching.processor_time()?, Moment::now());
    let arrived = far.received()?;
    ensure!(arrived.total() == amount, "not all arrived");
    // The receiver reports at the end of the connection, before it says so.
    let end = arrived.until().context("the receiver reports nothing")?;
    let off = |counted: Option<f64>| counted.map(|it| (it / amount as f64 - 1.0) * 100.0);
    Ok(Run {
        load,
        monitor,
        missing: false,
        speed: amount as f64 / end.seconds_since(start),
        processor: (used_after - used_before) / now.seconds_since(start) * 100.0,
        sender_off: off(watching.sent(near.pid())?),
        receiver_off: off(watching.received(far.pid())?),
    })
}

/// Seconds of processor time that a process used so far.
pub fn processor_time(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    // proc(5): the name, which may hold anything, ends with the last parenthesis; utime and stime
    // are the 14th and 15th fields, the 12th and 13th after it.
    let (_, after) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: Vec<u64> = after
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The text.
pub fn render(parts: &[Part<Run>]) -> String {
    let runs: Vec<&Run> = parts.iter().flat_map(|part| &part.results).collect();
    let mut table = Table::new(&[
        "transfer, watched by",
        "CPU",
        "sender counted",
        "receiver counted",
        "speed",
        "ratio",
    ]);
    let mut verdict = String::new();
    for load in Load::ALL {
        let of = |monitor| {
            let runs = runs.iter().copied();
            runs.filter(move |run| run.load == load && run.monitor == monitor)
                .collect::<Vec<_>>()
        };
        let speeds = |runs: &[&Run]| runs.iter().map(|run| run.speed).collect::<Vec<_>>();
        let alone = speeds(&of(Monitor::Nobody));
        let again = speeds(&of(Monitor::NobodyAgain));
        // Each round beside its own two transfers that nobody watched.
        let ratios = |watched: &[&Run], against_both: bool| -> Vec<f64> {
            watched
                .iter()
                .zip(alone.iter().zip(&again))
                .map(|(run, (alone, again))| match against_both {
                    true => run.speed / f64::midpoint(*alone, *again),
                    false => run.speed / alone,
                })
                .collect()
        };
        for monitor in Monitor::ALL {
            let watched = of(monitor);
            let name = format!("{}, {}", load.name(), monitor.name());
            if watched.is_empty() {
                continue;
            }
            if watched.iter().any(|run| run.missing) {
                let none = ["not installed", "", "", "", ""].map(str::to_owned);
                table.row(&[vec![name], none.to_vec()].concat());
                continue;
            }
            let off = |of: fn(&Run) -> Option<f64>| {
                let off: Vec<f64> = watched.iter().filter_map(|run| of(run)).collect();
                match off.as_slice() {
                    [] => "–".to_owned(),
                    off => format!("{:+.3} %", furthest(off)),
                }
            };
            let nobody = matches!(monitor, Monitor::Nobody | Monitor::NobodyAgain);
            let cpu = median(&watched.iter().map(|run| run.processor).collect::<Vec<_>>());
            let ratios = ratios(&watched, !nobody);
            table.row(&[
                name,
                match nobody {
                    true => "–".to_owned(),
                    false => format!("{cpu:.1} %"),
                },
                off(|run| run.sender_off),
                off(|run| run.receiver_off),
                format!("{:.1} MB/s", median(&speeds(&watched)) / 1e6),
                match monitor {
                    Monitor::Nobody => "1".to_owned(),
                    _ => with_range(&ratios),
                },
            ]);
            if monitor == Monitor::Chadthrottle {
                let noise: Vec<f64> = again.iter().zip(&alone).map(|(b, a)| b / a).collect();
                let least = noise.iter().copied().fold(1.0, f64::min);
                let word = |met| if met { "met" } else { "**missed**" };
                verdict.push_str(&format!(
                    "- {}: at most {MOST_CPU} % of a core: {cpu:.1} %, {}; no loss of speed beyond \
                     what the machine varies by itself (down to {least:.3}): {:.3}, {}\n",
                    load.name(),
                    word(cpu <= MOST_CPU),
                    median(&ratios),
                    // To the figures that are shown: a transfer at a set rate varies by less.
                    word(median(&ratios) >= least - 0.0005),
                ));
            }
        }
    }
    table.below(&format!(
        "One TCP flow of 24 GB, or 250 MB in small writes, watched by one monitor after the other, \
         {RUNS} rounds. CPU is the monitor's own time (utime and stime) during the transfer in \
         percent of one core, counted is what it said of the sending or receiving program against \
         what that sent or received (the worst run; nethogs and bandwhich see the sender's network \
         namespace only and count headers, too; bandwhich's rates are added up until they are \
         zero), speed is the flow's (medians), and the \
         ratio is against the mean of the same round's two transfers that nobody watched (with its \
         least and its greatest); it holds what programs in the kernel cost. The second of those \
         against the first shows what the machine varies by itself. Targets for chadthrottle:\n\n\
         {verdict}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_print_is_read() {
        let lines = [
            "Refreshing:",
            "/x/traffic/42/0\t100\t7",
            "unknown TCP/0/0\t0\t0",
            "/x/traffic/42/0\t250\t9",
            "/x/traffic/7/0\t1\t1",
        ];
        assert_eq!(nethogs_sent(&lines.map(str::to_owned), 42), 250.0);
        let lines = [
            "process: <1700000000> \"traffic\" up/down Bps: 100/3 connections: 1\r",
            "connection: <1700000000> <lab>:1 => 10.77.0.2:2 (tcp) up/down Bps: 100/3 process: \"traffic\"",
            "process: <1700000001> \"traffic\" up/down Bps: 50/3 connections: 1",
        ];
        assert_eq!(bandwhich_sent(&lines.map(str::to_owned)), 150.0);
    }
}
