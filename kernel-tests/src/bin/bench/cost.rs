//! What each program costs a packet, alone and as sockets and limits grow in number.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    moment::Moment,
    peer::{Job, Peer},
    product::Limiter,
};
use serde::{Deserialize, Serialize};

use crate::{
    bpf::{self, EXIT, Hook, set},
    loaded::{Loaded, Program, REPEAT, RUNS},
    progress,
    results::{Output, Part},
    table::Table,
};

/// What a run of a program may cost, in nanoseconds.
const OBSERVERS: f64 = 20.0;
const PAIR: f64 = 100.0;

/// As many as a process may have files for on most machines, and a lab has ports for.
const SOCKETS_OF_A_LAB: u32 = 10_000;

/// A rate that no test reaches, and one that each exceeds at once.
const NEVER_REACHED: &str = "100GB";
const EXCEEDED: &str = "1kB";

/// What surrounds the packets that are measured: tagged sockets, and limits.
const SURROUNDINGS: [(u32, u32); 4] = [(1, 1), (1000, 1), (100_000, 1), (1, 1000)];

/// What a run may cost, in nanoseconds.
fn target(program: Program) -> f64 {
    match program {
        Program::CountIngress | Program::CountEgress => OBSERVERS,
        Program::Ingress | Program::Egress => PAIR,
    }
}

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Situation {
    /// Of a socket without a tag.
    Unattributed,
    /// Of a process without a limit.
    Unlimited,
    /// Of a limited process, let through.
    Admitted,
    /// Of a limited process, dropped.
    Dropped,
    /// Real packets of a limited process, let through.
    RealTraffic,
}

impl Situation {
    fn name(self) -> &'static str {
        match self {
            Self::Unattributed => "socket without a tag",
            Self::Unlimited => "process without a limit",
            Self::Admitted => "limited, let through",
            Self::Dropped => "limited, dropped",
            Self::RealTraffic => "real traffic, limited, let through",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    program: Program,
    situation: Situation,
    sockets: u32,
    limits: u32,
    /// Of a run, less those of an empty program in its place.
    nanoseconds: f64,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    for (sockets, limits) in SURROUNDINGS {
        progress(&format!("  {sockets} sockets, {limits} limits"));
        surrounded(sockets, limits, out)?;
    }
    progress("  drops");
    drops(out)?;
    progress("  real traffic");
    real_traffic(out)
}

/// A process with one UDP socket, or several.
fn idle(lab: &Lab, sink: &Peer, sockets: u32) -> Result<Peer> {
    let job = Job::many_sockets(sockets).connect(sink.address()?);
    lab.near().traffic(job.at_most(LONG))
}

const LONG: Duration = Duration::from_secs(600);

fn sink(lab: &Lab) -> Result<Peer> {
    let job = Job::udp().at_most(LONG);
    lab.far()
        .traffic(job.listen(lab.far().any_port(Family::V4)))
}

fn surrounded(sockets: u32, limits: u32, out: &Output) -> Result<()> {
    let lab = Lab::new()?;
    let sink = sink(&lab)?;
    // The limited ones: one that is measured, and others that only sleep.
    let limited = idle(&lab, &sink, 1)?;
    let mut pids = vec![limited.pid()];
    let mut others = Vec::new();
    if limits > 1 {
        let job = Job::many_processes(limits - 1).connect(sink.address()?);
        let family = lab.near().traffic(job.at_most(LONG))?;
        let started = family.event("started")?;
        let children = started["pids"].as_array().context("no PIDs")?;
        pids.extend(
            children
                .iter()
                .filter_map(|pid| u32::try_from(pid.as_u64()?).ok()),
        );
        others.push(family);
    }
    let limiter = limiter(&pids, NEVER_REACHED)?;
    // Tagged at their creation, as those of old processes are not in every surrounding.
    let unlimited = idle(&lab, &sink, 1)?;
    let mut crowd = Vec::new();
    let mut left = sockets.saturating_sub(2);
    while left > 0 {
        let count = left.min(SOCKETS_OF_A_LAB);
        let lab = Lab::new()?;
        let sink = self::sink(&lab)?;
        let peer = idle(&lab, &sink, count)?;
        crowd.push((peer, sink, lab));
        left -= count;
    }
    let loaded = Loaded::find(limiter.pid())?;
    for program in Program::ALL {
        let mut cases = vec![
            (Situation::Unattributed, None),
            (Situation::Admitted, Some(loaded.tag(limited.pid())?)),
        ];
        if matches!(program, Program::Ingress | Program::Egress) {
            cases.push((Situation::Unlimited, Some(loaded.tag(unlimited.pid())?)));
        }
        for (situation, tag) in cases {
            let (nanoseconds, verdict) = loaded.cost(program, tag)?;
            ensure!(verdict == 1, "{program:?}, {situation:?}: it is dropped");
            out.keep(&Figure {
                program,
                situation,
                sockets,
                limits,
                nanoseconds,
            })?;
        }
    }
    Ok(())
}

fn drops(out: &Output) -> Result<()> {
    let lab = Lab::new()?;
    let sink = sink(&lab)?;
    let limited = idle(&lab, &sink, 1)?;
    let limiter = limiter(&[limited.pid()], EXCEEDED)?;
    let loaded = Loaded::find(limiter.pid())?;
    let tag = loaded.tag(limited.pid())?;
    for program in [Program::Ingress, Program::Egress] {
        let (nanoseconds, verdict) = loaded.cost(program, Some(tag))?;
        // So the tag is the limited process's: what holds for drops holds for the rest.
        // What is sent is refused by NET_XMIT_DROP, 2.
        ensure!(verdict != 1, "{program:?}: it is let through");
        out.keep(&Figure {
            program,
            situation: Situation::Dropped,
            sockets: 1,
            limits: 1,
            nanoseconds,
        })?;
    }
    Ok(())
}

fn limiter(pids: &[u32], rate: &str) -> Result<Limiter> {
    Limiter::start(pids, &["--download", rate, "--upload", rate])
}

/// What the kernel counts of real packets' runs, less an empty program's at the same cgroup.
fn real_traffic(out: &Output) -> Result<()> {
    const TIME: Duration = Duration::from_secs(5);
    for direction in Direction::ALL {
        let lab = Lab::new()?;
        let job = Job::tcp().rate(50_000_000);
        let flow = Flow::start(&lab, job, direction, Family::V4)?;
        let limiter = limiter(&[flow.near().pid()], NEVER_REACHED)?;
        let loaded = Loaded::find(limiter.pid())?;
        let cgroup = File::open(lab.near().cgroup().path()).context("can't open the cgroup")?;
        let mut empty = BTreeMap::new();
        let mut attached = Vec::new();
        for hook in [Hook::Ingress, Hook::Egress] {
            let program = bpf::load(&[set(0, 1), EXIT], hook)?;
            attached.push(bpf::attach(&program, cgroup.as_fd(), hook)?);
            empty.insert(hook as u32, program);
        }
        let _counting = bpf::count_runs()?;
        // The data's own programs: those of acknowledgements are measured the other way round.
        let hook = match direction {
            Direction::Download => Hook::Ingress,
            Direction::Upload => Hook::Egress,
        };
        let base = empty.get(&(hook as u32)).context("no empty program")?;
        let programs: Vec<Program> = (Program::ALL.into_iter())
            .filter(|program| program.hook() == hook)
            .collect();
        let all = || -> Result<Vec<(u64, u64)>> {
            let mut counts = Vec::new();
            for program in &programs {
                counts.push(runs(loaded.program(*program)?)?);
            }
            counts.push(runs(base)?);
            Ok(counts)
        };
        let before = all()?;
        (Moment::now() + TIME).wait();
        let after = all()?;
        let mean = |index: usize| -> Result<f64> {
            let (before, after) = (before.get(index), after.get(index));
            let (before, after) = before.zip(after).context("no such program")?;
            let runs = after.0 - before.0;
            ensure!(runs > 1000, "only {runs} packets");
            Ok((after.1 - before.1) as f64 / runs as f64)
        };
        for (index, program) in programs.iter().enumerate() {
            out.keep(&Figure {
                program: *program,
                situation: Situation::RealTraffic,
                sockets: 1,
                limits: 1,
                nanoseconds: mean(index)? - mean(programs.len())?,
            })?;
        }
    }
    Ok(())
}

/// Runs so far, and their nanoseconds.
fn runs(program: &OwnedFd) -> Result<(u64, u64)> {
    let about = bpf::describe(program)?;
    Ok((about.runs, about.nanoseconds))
}

/// The text.
pub fn render(parts: &[Part<Figure>]) -> String {
    let figures: Vec<&Figure> = parts.iter().flat_map(|part| &part.results).collect();
    let mut columns = vec!["program, packet of a".to_owned()];
    columns.extend(SURROUNDINGS.map(|(sockets, limits)| {
        let plural = |count: u32, what: &str| match count {
            1 => format!("1 {what}"),
            1000.. => format!("{},{:03} {what}s", count / 1000, count % 1000),
            _ => format!("{count} {what}s"),
        };
        format!("{}, {}", plural(sockets, "socket"), plural(limits, "limit"))
    }));
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    let situations = [
        Situation::Unattributed,
        Situation::Unlimited,
        Situation::Admitted,
        Situation::Dropped,
        Situation::RealTraffic,
    ];
    let mut missed = Vec::new();
    for program in Program::ALL {
        for situation in situations {
            let of = |sockets, limits| {
                figures.iter().find(|figure| {
                    figure.program == program
                        && figure.situation == situation
                        && (figure.sockets, figure.limits) == (sockets, limits)
                })
            };
            // Observers don't know of limits.
            let name = match (program, situation) {
                (Program::CountIngress | Program::CountEgress, Situation::Admitted) => {
                    "known process"
                }
                (_, situation) => situation.name(),
            };
            let name = format!("{}, {name}", program.name());
            let mut row = vec![name.clone()];
            // The target is that of test runs.
            let most = match situation {
                Situation::RealTraffic => f64::INFINITY,
                _ => target(program),
            };
            let mut worst = None;
            for (sockets, limits) in SURROUNDINGS {
                row.push(match of(sockets, limits) {
                    None => "–".to_owned(),
                    Some(figure) => {
                        let nanoseconds = figure.nanoseconds.round();
                        let text = format!("{nanoseconds:.0} ns");
                        if nanoseconds <= most {
                            text
                        } else {
                            worst = Some(nanoseconds.max(worst.unwrap_or_default()));
                            format!("**{text}**")
                        }
                    }
                });
            }
            if let Some(worst) = worst {
                missed.push(format!("{name} (up to {worst:.0} ns)"));
            }
            if row.iter().skip(1).any(|cell| cell != "–") {
                table.row(&row);
            }
        }
    }
    let verdict = match missed.as_slice() {
        [] => "every figure meets it".to_owned(),
        missed => format!("**missed** by {}", missed.join("; ")),
    };
    table.below(&format!(
        "Nanoseconds that a run of each program takes, less those of an empty program in its \
         place. By `BPF_PROG_TEST_RUN`, {REPEAT} times on a TCP segment of 1448 bytes, the median \
         of {RUNS}: everything is in the processor's caches then. The socket of such a run is the \
         kernel's own; a small program tags it as a process's and goes on as the one measured, by \
         a tail call, and the empty program is measured behind the same. Real traffic is one TCP \
         flow at 50 MB/s over 5 s, counted by `BPF_ENABLE_STATS`, less an empty program attached \
         to the same cgroup; it holds cache misses and interrupts, and is not judged. The \
         columns are how many tagged sockets and how many limits there are. A packet meets one \
         observer and, of a limited process's cgroup, one of the throttle pair. The target is at \
         most {OBSERVERS:.0} ns for an observer, and {PAIR:.0} ns for one of the pair: {verdict}."
    ))
}
