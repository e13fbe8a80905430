//! What comes before everybody else, on a link that nobody told chadthrottle of: how long a web page takes beside this
//! machine's own uploads, which fill the link.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::Result;
use kernel_tests::{
    bottleneck::{Bottleneck, Link, Queue},
    flow::Direction,
    lab::Family,
    moment::Moment,
    peer::{Job, Peer},
    process::{self, Place},
};
use serde::{Deserialize, Serialize};

use crate::{
    progress,
    results::{self, Output, Part},
    table::{Table, median},
};

const SECOND: Duration = Duration::from_secs(1);
/// A page: so many objects of so many bytes, over so many connections at once.
const OBJECTS: usize = 30;
const OBJECT: usize = 15_000;
const CONNECTIONS: &str = "6";
/// It is loaded so often, with a pause in which it is read.
const LOADS: u32 = 6;
const READING: Duration = Duration::from_secs(2);
/// Uploads of this machine, which have had this time to fill the link.
const UPLOADS: u32 = 8;
const FILLING: Duration = Duration::from_secs(8);
/// What takes longer than this is not waited for, in seconds.
const LONGEST: f64 = 40.0;
/// It may take so many times as long as alone.
const MOST: f64 = 1.2;

/// What a page took, in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// Without anything beside it.
    alone: f64,
    /// Beside uploads.
    beside: f64,
    /// Beside uploads, and more important: the first time, and from then on.
    first: f64,
    then: f64,
    /// What of the link the uploads had meanwhile, and without it.
    uploads: f64,
    before: f64,
}

/// A measured link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    link: Link,
    outcome: Result<Outcome, String>,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    let link = |down, up, queue| Link {
        down,
        up,
        round_trip: 40,
        queue,
    };
    for link in [
        link(10, 2, Queue::Bloated),
        link(10, 2, Queue::RoundTrip),
        link(10, 2, Queue::FqCodel),
        link(50, 10, Queue::Bloated),
    ] {
        let outcome = outcome(link).map_err(|error| format!("{error:#}"));
        progress(&format!("    {link:?}: {outcome:.2?}"));
        out.keep(&Measured { link, outcome })?;
    }
    Ok(())
}

/// The page in words.
pub fn page() -> String {
    format!(
        "A web page of {OBJECTS} objects of {OBJECT} bytes, by curl over {CONNECTIONS} connections"
    )
}

/// Loads the page, and says how long that took: [`LONGEST`] at the most.
pub fn load(server: SocketAddr, place: Place<'_>) -> Result<f64> {
    let url = format!("http://{server}/{OBJECT}");
    let mut curl = Command::new("timeout");
    curl.args([&LONGEST.to_string(), "curl", "-s", "-Z"]);
    curl.args(["--parallel-max", CONNECTIONS]);
    for _ in 0..OBJECTS {
        curl.args(["-o", "/dev/null", &url]);
    }
    let begin = Moment::now();
    let ran = process::run(curl, "", place);
    let took = Moment::now().seconds_since(begin);
    match ran {
        Err(error) if took < LONGEST => Err(error),
        _ => Ok(took.min(LONGEST)),
    }
}

fn outcome(link: Link) -> Result<Outcome> {
    let lab = Bottleneck::new(link)?;
    let patience = Duration::from_secs(300);
    let server = Job::http().listen(lab.far().any_port(Family::V4));
    let server = lab.far().traffic(server.at_most(patience))?;
    let address = server.address()?;
    let page = lab.near().cgroup().child("page")?;
    let load = || {
        let mut took = Vec::new();
        for _ in 0..LOADS {
            took.push(load(address, lab.near().place_in(Some(&page)))?);
            if took.last() == Some(&LONGEST) {
                break;
            }
            (Moment::now() + READING).wait();
        }
        anyhow::Ok(took)
    };
    let alone = median(&load()?);
    let receiver = Job::tcp().listen(lab.far().any_port(Family::V4));
    let receiver = lab.far().traffic(receiver.at_most(patience))?;
    let uploads = Job::tcp().connect(receiver.address()?).send();
    let _uploads: Peer = lab
        .near()
        .traffic(uploads.connections(UPLOADS).at_most(patience))?;
    let speed = link.payload(Direction::Upload);
    let part = |from: Moment| {
        let until = Moment::now();
        anyhow::Ok(receiver.received_until(until)?.rate(from, until)? / speed)
    };
    (Moment::now() + FILLING).wait();
    let begin = Moment::now();
    let beside = median(&load()?);
    let before = part(begin)?;
    let home = lab.important(&page, "priority = \"high\"")?;
    let _daemon = home.daemon()?;
    (Moment::now() + SECOND).wait();
    let begin = Moment::now();
    let took = load()?;
    Ok(Outcome {
        alone,
        beside,
        first: took[0],
        then: median(
            took.get(1..)
                .filter(|rest| !rest.is_empty())
                .unwrap_or(&took),
        ),
        uploads: part(begin)?,
        before,
    })
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let mut table = Table::new(&[
        "link",
        "alone",
        "beside uploads",
        "important, the first time",
        "from then on",
        "times as long",
        "uploads have of the link",
        "without it",
    ]);
    let mut failed = String::new();
    for Measured { link, outcome } in &results::of_all(parts) {
        let Outcome {
            alone,
            beside,
            first,
            then,
            uploads,
            before,
        } = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failed += &format!("\n- {link:?} failed: {error}");
                continue;
            }
        };
        let times = then / alone;
        let times = match times <= MOST {
            true => format!("{times:.2}"),
            false => format!("**{times:.2}**"),
        };
        table.row(&[
            link.to_string(),
            format!("{alone:.2} s"),
            match *beside < LONGEST {
                true => format!("{beside:.2} s"),
                false => format!("more than {LONGEST} s"),
            },
            format!("{first:.2} s"),
            format!("{then:.2} s"),
            times,
            format!("{uploads:.2}"),
            format!("{before:.2}"),
        ]);
    }
    let table = table.below(&format!(
        "{}, loaded {LOADS} times with {} s \
         between them; medians. Beside it {UPLOADS} uploads of this machine, which began {} s before. Then \
         `chadthrottle limit --priority high` is for curl: at most {MOST} times as long as alone, once the queue that was \
         there is empty.",
        page(),
        READING.as_secs(),
        FILLING.as_secs(),
    ));
    format!("{table}{failed}")
}
