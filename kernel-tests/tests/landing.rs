//! Limits that come while traffic runs: what was in flight is let in, nothing is lost, and from the
//! second second on the limit is kept. Where the kernel has fq they are paced, elsewhere policed;
//! both hold downloads by the windows that they advertise.

use std::{ops::RangeInclusive, time::Duration};

use anyhow::{Result, ensure};
use kernel_tests::{
    TestResult,
    flow::{Direction, Flow},
    kernel_test,
    lab::{Family, Lab},
    limiting::Limiting,
    moment::{Moment, until},
    outcome::{expect_ratio, figure, is_slow},
    peer::Job,
    product::Limiter,
    queue::has_fq,
};
use rustix::process::Signal;

const SECOND: Duration = Duration::from_secs(1);

/// How long flows run before they are limited.
const BEFORE: Duration = Duration::from_millis(1500);

/// Of a limit, what each of five seconds may be, from one second after it came. Wide, for busy
/// machines; a policed sender is held by its own timer, five times a second.
fn each_second() -> RangeInclusive<f64> {
    0.70..=1.30
}

/// What all of them may be.
fn together() -> RangeInclusive<f64> {
    if is_slow() { 0.90..=1.06 } else { 0.92..=1.06 }
}

/// Segments that may be sent again of a flow over a landing and the seconds after it. Timers of the
/// sender expire now and then; a flight that is lost is thousands.
const AGAIN: f64 = 60.0;

/// The same of eight flows.
const AGAIN_OF_EIGHT: f64 = 200.0;

/// Segments that may be marked of a flow that is held by its window. A flight that is marked is thousands.
const MARKED: u64 = 20;

/// A flow at full speed, without a limit for a while.
fn running(lab: &Lab, job: Job, direction: Direction) -> Result<Flow> {
    let job = job.segments().report_every(Duration::from_millis(20));
    let flow = Flow::start(lab, job, direction, Family::V4)?;
    (Moment::now() + BEFORE).wait();
    Ok(flow)
}

/// A limit, and how what comes of it is judged.
#[derive(Clone, Copy)]
struct Judged {
    rate: u64,
    /// Segments that may be sent again.
    again: f64,
    /// How long after the limit the five seconds begin.
    after: Duration,
}

/// As most are judged.
const fn of_one(rate: u64) -> Judged {
    Judged {
        rate,
        again: AGAIN,
        after: SECOND,
    }
}

/// Of eight flows at full speed, receive buffers hold some 50 MB, which a busy machine's receiver may read in the
/// second second still.
const fn of_eight(rate: u64) -> Judged {
    Judged {
        again: AGAIN_OF_EIGHT,
        after: Duration::from_secs(2),
        ..of_one(rate)
    }
}

/// Judges five seconds from some time after `set`, and what was sent again since `from`.
fn landed(what: &str, flow: &Flow, from: Moment, set: Moment, judged: Judged) -> TestResult {
    let Judged { rate, again, after } = judged;
    let (begin, end) = (set + after, set + after + 5 * SECOND);
    let arrivals = flow.receiver().received_until(end)?;
    let seconds = arrivals.rates(begin, end, SECOND)?;
    flow.sender().received_until(end)?;
    let (_, repeated) = flow
        .sender()
        .segments_between(from, end)?
        .unwrap_or_default();
    let shares: Vec<String> = (seconds.iter())
        .map(|second| format!("{:.2}", second / rate as f64))
        .collect();
    figure(&format!(
        "{what}: {} of {rate} B/s, {repeated:.0} segments again",
        shares.join(" ")
    ));
    expect_ratio(what, arrivals.rate(begin, end)?, rate as f64, together())?;
    for second in seconds {
        expect_ratio(what, second, rate as f64, each_second())?;
    }
    ensure!(repeated <= again, "{what}: {repeated:.0} segments again");
    Ok(())
}

/// A limit that `chadthrottle limit` sets on a flow at full speed.
fn lands(what: &str, lab: &Lab, job: Job, direction: Direction, judged: Judged) -> TestResult {
    let flow = running(lab, job, direction)?;
    let options = [direction.option(), &judged.rate.to_string()];
    let limiter = Limiter::start(&[flow.near().pid()], &options)?;
    let set = limiter.applied();
    landed(what, &flow, set, set, judged)?;
    limiter.end(Signal::TERM)?;
    Ok(())
}

/// A lab with a round trip, where the kernel has netem, which comes with fq.
fn lab_with_round_trip() -> Result<Lab> {
    let lab = Lab::new()?;
    if has_fq(&lab)? {
        return Lab::with_round_trip(Duration::from_millis(20));
    }
    Ok(lab)
}

#[test]
fn a_download_at_full_speed_lands_without_loss() -> TestResult {
    kernel_test!(alone);
    for rate in [125_000, 1_250_000] {
        let lab = lab_with_round_trip()?;
        lands(
            "one flow",
            &lab,
            Job::tcp(),
            Direction::Download,
            of_one(rate),
        )?;
    }
    let lab = lab_with_round_trip()?;
    // Emulated processors that are busy with eight take longer than is waited for to begin a limit.
    let eight = if is_slow() {
        Job::tcp().rate(2_000_000).connections(8)
    } else {
        Job::tcp().connections(8)
    };
    let down = Direction::Download;
    lands("eight flows", &lab, eight, down, of_eight(1_250_000))
}

#[test]
fn flows_that_understand_ecn_land_without_loss() -> TestResult {
    kernel_test!(alone);
    let lab = lab_with_round_trip()?;
    for end in [lab.near(), lab.far()] {
        end.set("ipv4/tcp_ecn", "1")?;
    }
    let down = Direction::Download;
    lands("ECN", &lab, Job::tcp(), down, of_one(1_250_000))?;
    let marked = lab.far().counter("TcpExt", "TCPDeliveredCE")?;
    figure(&format!("ECN: {marked} segments marked"));
    ensure!(marked <= MARKED, "{marked} segments marked");
    Ok(())
}

/// Its sender is held by its window, one flow and many, in packets as small as the limit.
#[test]
fn an_upload_at_full_speed_lands_without_loss() -> TestResult {
    kernel_test!(alone);
    let up = Direction::Upload;
    let lab = lab_with_round_trip()?;
    lands("one flow", &lab, Job::tcp(), up, of_one(1_250_000))?;
    let lab = lab_with_round_trip()?;
    // See above.
    let eight = if is_slow() {
        Job::tcp().rate(2_000_000).connections(8)
    } else {
        Job::tcp().connections(8)
    };
    lands("eight flows", &lab, eight, up, of_eight(125_000))
}

#[test]
fn a_lowered_limit_loses_nothing() -> TestResult {
    kernel_test!(alone);
    let lab = lab_with_round_trip()?;
    let flow = running(&lab, Job::tcp(), Direction::Download)?;
    let limiting = Limiting::start()?;
    let pid = flow.near().pid();
    (limiting.set(pid, Direction::Download, 25_000_000)? + 2 * SECOND).wait();
    let from = Moment::now();
    // What was allowed is worth ten seconds of this.
    let set = limiting.set(pid, Direction::Download, 125_000)?;
    landed("lowered", &flow, from, set, of_one(125_000))
}

#[test]
fn twenty_changes_lose_no_more_than_one() -> TestResult {
    kernel_test!(alone);
    let lab = lab_with_round_trip()?;
    let flow = running(&lab, Job::tcp(), Direction::Download)?;
    let limiting = Limiting::start()?;
    let pid = flow.near().pid();
    let from = Moment::now();
    let mut set = from;
    for change in 0..20 {
        let rate = if change % 2 == 0 {
            2_500_000
        } else {
            1_250_000
        };
        set = limiting.set(pid, Direction::Download, rate)?;
        (set + SECOND / 4).wait();
    }
    landed("twenty changes", &flow, from, set, of_one(1_250_000))
}

/// A limit that is taken away and set again lands like a first one. A limit that is set again and
/// again lets nothing more through than its rate: what is in flight then is what it allowed.
#[test]
fn a_limit_that_is_toggled_is_no_way_around_it() -> TestResult {
    kernel_test!(alone);
    const RATE: u64 = 1_000_000;
    let lab = lab_with_round_trip()?;
    let flow = running(&lab, Job::tcp(), Direction::Download)?;
    let limiting = Limiting::start()?;
    let pid = flow.near().pid();
    let from = (limiting.set(pid, Direction::Download, RATE)?) + 2 * SECOND;
    from.wait();
    for _ in 0..20 {
        limiting.set(pid, Direction::Download, RATE - 1)?;
        (limiting.set(pid, Direction::Download, RATE)? + SECOND / 5).wait();
    }
    let arrivals = flow.receiver().received_until(Moment::now())?;
    let to = arrivals.until().unwrap_or(from);
    expect_ratio(
        "set again and again",
        arrivals.rate(from, to)?,
        RATE as f64,
        0.85..=1.10,
    )?;
    limiting.lift(pid, Direction::Download)?;
    (Moment::now() + SECOND).wait();
    let from = Moment::now();
    let set = limiting.set(pid, Direction::Download, RATE)?;
    landed("taken away and set again", &flow, from, set, of_one(RATE))
}

/// Each connection is new, so nothing of it was in flight.
#[test]
fn opening_and_closing_connections_is_no_way_around_a_limit() -> TestResult {
    kernel_test!(alone);
    const RATE: u64 = 1_000_000;
    let lab = Lab::new()?;
    let job = Job::tcp().connections(8).wait();
    let far = lab.far().traffic(
        Job::tcp()
            .amount(200_000)
            .listen(lab.far().any_port(Family::V4))
            .send(),
    )?;
    let limiting = Limiting::start()?;
    let mut passed = 0.0;
    let mut began = None;
    for _ in 0..4 {
        let mut near = lab.near().traffic(job.clone().connect(far.address()?))?;
        // One limit for whoever comes: the process is new, its limit with it.
        let set = limiting.set(near.pid(), Direction::Download, RATE)?;
        near.go()?;
        let from = *began.get_or_insert(set);
        let until = set + SECOND;
        passed += near.received_until(until)?.total() as f64;
        figure(&format!(
            "{passed:.0} bytes after {:.1} s",
            until.seconds_since(from)
        ));
        // Each process may be ahead by the bound of its limit, and no more.
        let most = RATE as f64 * 1.4 * until.seconds_since(from);
        ensure!(passed <= most, "{passed:.0} bytes of {most:.0}");
    }
    Ok(())
}

/// Of each connection that received something before, as much may land as its window allowed, once; not more
/// because there are many, and nothing for long.
#[test]
fn many_connections_are_no_way_around_a_limit() -> TestResult {
    kernel_test!(alone);
    const RATE: u64 = 1_000_000;
    const CONNECTIONS: u32 = 60;
    // What a receiver allows on a connection that has moved little: tcp_rmem's second figure, half of it.
    const WINDOW: f64 = 65_536.0;
    let lab = Lab::new()?;
    let job = Job::tcp().pause_after(20_000);
    let mut far = lab
        .far()
        .traffic(job.listen(lab.far().any_port(Family::V4)).send())?;
    let job = Job::tcp().connections(CONNECTIONS);
    let near = lab.near().traffic(job.connect(far.address()?))?;
    let before = 20_000 * u64::from(CONNECTIONS);
    until("all received something", BEFORE * 10, || {
        Ok(near.received()?.total() == before)
    })?;
    let limiting = Limiting::start()?;
    let set = limiting.set(near.pid(), Direction::Download, RATE)?;
    far.go()?;
    let arrivals = near.received_until(set + 7 * SECOND)?;
    let landed = arrivals.between(set, set + 2 * SECOND)?;
    let later = arrivals.rate(set + 2 * SECOND, set + 7 * SECOND)?;
    figure(&format!(
        "{landed:.0} bytes in two seconds, then {later:.0} a second"
    ));
    // Two seconds, half a one ahead, and as much again for windows that grow and a busy machine.
    let most = f64::from(CONNECTIONS) * WINDOW + 4.0 * RATE as f64;
    ensure!(landed <= most, "{landed:.0} bytes of {most:.0}");
    expect_ratio("after that", later, RATE as f64, 0.85..=1.06)
}

/// A stack that ends its connection when a send fails goes on.
#[test]
fn a_sender_of_datagrams_sees_no_error() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    let job = Job::udp().rate(4_000_000).strict();
    let flow = Flow::start(&lab, job, Direction::Upload, Family::V4)?;
    let limiter = Limiter::start(&[flow.near().pid()], &["--upload", "500K"])?;
    let goodput = flow.judged(limiter.applied())?;
    expect_ratio("datagrams", goodput, 500_000.0, 0.9..=1.1)?;
    limiter.end(Signal::TERM)?;
    Ok(())
}
