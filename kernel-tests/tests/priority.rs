//! Background traffic: it has what others leave of a link that nobody told of, and no more. Wide bounds; the bench has
//! the figures.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::ensure;
use kernel_tests::{
    TestResult,
    bottleneck::{Bottleneck, Link, Queue},
    cgroup::Cgroup,
    home::Home,
    kernel_test,
    lab::{End, Family, Lab},
    moment::Moment,
    named_program::NamedProgram,
    outcome::{figure, skipped},
    peer::{Job, Peer},
    process::Place,
    product::Limiter,
    queue::tcp_round_trips,
    table::{least, mean},
};

const SECOND: Duration = Duration::from_secs(1);

const LINK: Link = Link {
    down: 10,
    up: 2,
    round_trip: 20,
    queue: Queue::Bloated,
};
/// What it carries, in bytes a second.
const DOWN: f64 = 1.19e6;
const UP: f64 = 0.238e6;

/// A download of so many flows; its receiver, and who sends, who ends with it.
fn download(from: &End, place: Place<'_>, flows: u32) -> anyhow::Result<[Peer; 2]> {
    let job = || Job::tcp().at_most(Duration::from_secs(90));
    let far = from.traffic(job().listen(from.any_port(Family::V4)).send())?;
    let near = Peer::start(job().connect(far.address()?).connections(flows), place)?;
    Ok([near, far])
}

/// A cgroup at an end whose processes are in the background, for as long as the limiter runs.
fn in_background(end: &End) -> anyhow::Result<(Cgroup, Limiter)> {
    in_background_with(end, &[])
}

fn in_background_with(end: &End, options: &[&str]) -> anyhow::Result<(Cgroup, Limiter)> {
    let group = end.cgroup().child("background")?;
    let limiter = Limiter::in_background(&group, options)?;
    Ok((group, limiter))
}

fn share(receiver: &Peer, from: Moment, seconds: u32) -> anyhow::Result<f64> {
    let until = from + SECOND * seconds;
    Ok(receiver.received_until(until)?.rate(from, until)? / DOWN)
}

/// A kernel without these queueing disciplines has no bottleneck.
fn bottleneck() -> Option<Bottleneck> {
    match Bottleneck::new(LINK) {
        Ok(lab) => Some(lab),
        Err(error) => {
            skipped(&format!("no slow link: {error:#}"));
            None
        }
    }
}

#[test]
fn background_traffic_uses_a_link_and_leaves_it_at_once_to_a_download_of_this_machine() -> TestResult
{
    kernel_test!(alone);
    let Some(lab) = bottleneck() else {
        return Ok(());
    };
    let (group, _limiter) = in_background(lab.near())?;
    let [background, _sender] = download(lab.far(), lab.near().place_in(Some(&group)), 4)?;
    let begin = Moment::now() + 5 * SECOND;
    let alone = share(&background, begin, 5)?;
    let [normal, _its_sender] = download(lab.far(), lab.near().place(), 1)?;
    let from = Moment::now() + 2 * SECOND;
    let (beside, meanwhile) = (share(&normal, from, 4)?, share(&background, from, 4)?);
    drop(normal);
    let back = share(&background, Moment::now() + 4 * SECOND, 3)?;
    figure(&format!(
        "of the link: alone {alone:.2}; beside it {beside:.2}, and {meanwhile:.2} for it; then {back:.2}"
    ));
    ensure!(alone > 0.6, "{alone} alone");
    ensure!(
        beside > 0.75 && meanwhile < 0.15,
        "{beside} and {meanwhile}"
    );
    ensure!(back > 0.5, "{back} back");
    Ok(())
}

#[test]
fn background_traffic_leaves_the_link_to_a_download_of_another_machine() -> TestResult {
    kernel_test!(alone);
    let Some(lab) = bottleneck() else {
        return Ok(());
    };
    let (group, _limiter) = in_background(lab.near())?;
    let [background, _sender] = download(lab.far(), lab.near().place_in(Some(&group)), 4)?;
    (Moment::now() + 6 * SECOND).wait();
    let [normal, _its_sender] = download(lab.far(), lab.other().place(), 1)?;
    let from = Moment::now() + 4 * SECOND;
    let (beside, meanwhile) = (share(&normal, from, 4)?, share(&background, from, 4)?);
    figure(&format!("of the link: {beside:.2} beside {meanwhile:.2}"));
    ensure!(beside > 0.6 && meanwhile < 0.35, "{beside} and {meanwhile}");
    Ok(())
}

/// Uploads of this machine fill the queue of the link, and what is important would wait in it for more than a second.
#[test]
fn what_is_important_does_not_wait_for_everybody_else_who_has_the_rest() -> TestResult {
    kernel_test!(alone);
    let Some(lab) = bottleneck() else {
        return Ok(());
    };
    let echo = Job::echo().listen(lab.far().any_port(Family::V4));
    let echo = lab.far().traffic(echo)?;
    let group = lab.near().cgroup().child("important")?;
    let ping = |count| {
        let ping = Job::ping(count).connect(echo.address()?);
        let ping = Peer::start(ping, lab.near().place_in(Some(&group)))?;
        ping.round_trips(60 * SECOND)
    };
    let empty = ping(20)?.median();
    let receiver = Job::tcp().at_most(90 * SECOND);
    let receiver = receiver.listen(lab.far().any_port(Family::V4));
    let receiver = lab.far().traffic(receiver)?;
    let sender = Job::tcp().connect(receiver.address()?).send();
    let _sender = (lab.near()).traffic(sender.connections(4).at_most(90 * SECOND))?;
    (Moment::now() + 6 * SECOND).wait();
    let plain = tcp_round_trips(lab.near())?;
    let plain = plain.into_iter().fold(0.0, f64::max) - empty;
    let home = lab.important(&group, "priority = \"high\"")?;
    let _daemon = home.daemon()?;
    let begin = Moment::now();
    // A call: 200 bytes fifty times a second.
    let other_end = Job::udp().listen(lab.far().any_port(Family::V4));
    let other_end = lab.far().traffic(other_end)?;
    let call = Job::udp().connect(other_end.address()?).send();
    let call = call.rate(10_000).chunk(200);
    let call = Peer::start(call, lab.near().place_in(Some(&group)))?;
    // The queue is emptied meanwhile.
    (begin + 3 * SECOND).wait();
    let from = Moment::now();
    let longer = ping(150)?.quantile(0.95) - empty;
    let until = Moment::now();
    let held = receiver.received_until(until)?.rate(from, until)? / UP;
    drop(call);
    let pause = Moment::now() + 12 * SECOND;
    let free = receiver.received_until(pause + 5 * SECOND)?;
    let free = free.rate(pause, pause + 5 * SECOND)? / UP;
    figure(&format!(
        "a ping waits {:.0} ms, and {:.0} ms where it is important, from {:.1} s on; everybody else has {held:.2} of the \
         link, and {free:.2} without it",
        plain * 1e3,
        longer * 1e3,
        from.seconds_since(begin),
    ));
    ensure!(
        longer < 0.1 && longer < plain / 4.0,
        "{longer}, not {plain}"
    );
    ensure!(held > 0.5 && free > 0.8, "{held} and {free}");
    Ok(())
}

/// A fifth of the link is guaranteed to one flow beside eight, which has a ninth otherwise.
#[test]
fn who_is_guaranteed_a_part_has_it_beside_everybody_else() -> TestResult {
    kernel_test!(alone);
    let Some(lab) = bottleneck() else {
        return Ok(());
    };
    let group = lab.near().cgroup().child("guaranteed")?;
    let part = 0.2;
    let guaranteed = format!("at_least = \"{:.0}/-\"", DOWN * part);
    let [others, _sender] = download(lab.far(), lab.near().place(), 8)?;
    (Moment::now() + 5 * SECOND).wait();
    let home = lab.important(&group, &guaranteed)?;
    let _daemon = home.daemon()?;
    let idle = share(&others, Moment::now() + SECOND, 3)?;
    let [it, _its_sender] = download(lab.far(), lab.near().place_in(Some(&group)), 1)?;
    let from = Moment::now() + 2 * SECOND;
    let seconds = (0..8).map(|second| share(&it, from + second * SECOND, 1));
    let seconds = seconds.collect::<Result<Vec<f64>, _>>()?;
    let meanwhile = share(&others, from, 8)?;
    let (least, mean) = (least(&seconds), mean(&seconds));
    figure(&format!(
        "of the link: {part} guaranteed, {mean:.2} had, by seconds {seconds:.2?}; the others {idle:.2} before and \
         {meanwhile:.2} beside it"
    ));
    ensure!(idle > 0.8, "{idle} idle");
    ensure!(mean > 0.9 * part && least > 0.6 * part, "{mean}, {least}");
    ensure!(mean < 3.0 * part && meanwhile > 0.3, "{mean}, {meanwhile}");
    Ok(())
}

#[test]
fn what_background_traffic_does_on_this_machine_is_let_through() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let (group, _limiter) = in_background(lab.near())?;
    let place = || lab.near().place_in(Some(&group));
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let sender = Peer::start(Job::tcp().listen(address).send(), place())?;
    let receiver = Peer::start(Job::tcp().connect(sender.address()?), place())?;
    let from = Moment::now() + SECOND / 5;
    let until = from + SECOND;
    let rate = receiver.received_until(until)?.rate(from, until)?;
    figure(&format!("{:.0} MB/s over loopback", rate / 1e6));
    // A link that nobody knows begins with 32 kB/s, and has some megabytes a second by then.
    ensure!(rate > 30e6, "{rate}");
    Ok(())
}

/// UDP tells no round trips: what this machine's others leave of the link is known all the same. What a container
/// sends by a device with the same number is none of the link's.
#[test]
fn background_datagrams_have_what_is_left_of_a_link_whose_speed_was_said() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let (group, _limiter) = in_background_with(lab.near(), &["--link", "80mbit/16mbit"])?;
    let elsewhere = Lab::new()?;
    let container_sink = Job::udp().listen(elsewhere.far().any_port(Family::V4));
    let container_sink = elsewhere.far().traffic(container_sink)?;
    let container = Job::udp().connect(container_sink.address()?).send();
    let _container = (elsewhere.near()).traffic(container.rate(3_000_000).chunk(1200))?;
    let far = || lab.far().any_port(Family::V4);
    let sink = lab.far().traffic(Job::udp().listen(far()))?;
    let sends = Job::udp().connect(sink.address()?).send().rate(10_000_000);
    let _sender = Peer::start(sends.chunk(1200), lab.near().place_in(Some(&group)))?;
    let from = Moment::now() + 2 * SECOND;
    let alone = sink.received_until(from + 3 * SECOND)?;
    let alone = alone.rate(from, from + 3 * SECOND)? / 2e6;
    let other_sink = lab.far().traffic(Job::udp().listen(far()))?;
    let other = Job::udp()
        .connect(other_sink.address()?)
        .send()
        .rate(1_000_000);
    let _other = lab.near().traffic(other.chunk(1200))?;
    let from = Moment::now() + SECOND;
    let until = from + 3 * SECOND;
    let beside = sink.received_until(until)?.rate(from, until)? / 2e6;
    let its = other_sink.received_until(until)?.rate(from, until)? / 2e6;
    figure(&format!(
        "of what was said: {alone:.2}; beside {its:.2} for another, {beside:.2}"
    ));
    ensure!((0.8..1.0).contains(&alone), "{alone} alone");
    ensure!(
        its > 0.45 && (0.3..0.5).contains(&beside),
        "{its} and {beside}"
    );
    Ok(())
}

/// What a rule does not use of its part the others have.
#[test]
fn background_rules_share_what_there_is_and_keep_to_their_rates() -> TestResult {
    kernel_test!();
    let lab = Lab::new()?;
    let [modest, greedy] = ["ct-modest", "ct-greedy"].map(NamedProgram::new);
    let (modest, greedy) = (modest?, greedy?);
    let home = Home::new(
        "[[rule]]\nname = \"modest\"\nprogram = \"ct-modest\"\npriority = \"background\"\nupload = \"200K\"\n\
         [[rule]]\nname = \"greedy\"\nprogram = \"ct-greedy\"\npriority = \"background\"\n\
         [link]\nupload = \"8mbit\"\n",
    )?;
    let _daemon = home.daemon()?;
    let start = |program: &NamedProgram| -> anyhow::Result<[Peer; 2]> {
        let sink = Job::udp().listen(lab.far().any_port(Family::V4));
        let sink = lab.far().traffic(sink)?;
        let sends = Job::udp().connect(sink.address()?).send().rate(3_000_000);
        let sender = Peer::from_command(program.command(&sends.chunk(1200))?, lab.near().place())?;
        Ok([sink, sender])
    };
    let [sink, _sender] = start(&modest)?;
    let [greedy_sink, _greedy_sender] = start(&greedy)?;
    let from = Moment::now() + 2 * SECOND;
    let until = from + 3 * SECOND;
    let rate = |sink: &Peer| anyhow::Ok(sink.received_until(until)?.rate(from, until)? / 1e6);
    let (modest, greedy) = (rate(&sink)?, rate(&greedy_sink)?);
    figure(&format!(
        "of 1 MB/s: {modest:.3} of 0.2 asked for, {greedy:.3} for the other"
    ));
    ensure!((0.18..0.21).contains(&modest), "{modest}");
    ensure!((0.6..0.8).contains(&greedy), "{greedy}");
    Ok(())
}
