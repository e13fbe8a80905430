//! Round trips of small datagrams.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{say, settings::Settings, stay, udp::connected};

/// The mode `echo`: sends every datagram back.
pub fn echo(settings: &Settings) -> Result<()> {
    let address = settings.listen()?.context("no listen=")?;
    let socket = UdpSocket::bind(address).context("can't listen")?;
    let address = socket.local_addr()?;
    say("started", &format!(",\"address\":\"{address}\""));
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

/// The mode `ping`: one datagram after the other, and how long each took there and back.
pub fn ping(settings: &Settings) -> Result<()> {
    let count: u64 = settings.number("count", 100)?;
    let gap = Duration::from_millis(settings.number("gap_ms", 10)?);
    let socket = connected(settings.connect()?)?;
    // A reply that is later than that is lost.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    say("started", "");
    let mut times = Vec::new();
    let mut lost = 0;
    for number in 0..count {
        let sent = Instant::now();
        socket.send(&number.to_be_bytes())?;
        match reply(&socket, number) {
            Ok(()) => times.push(sent.elapsed().as_nanos().to_string()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => lost += 1,
            Err(error) => return Err(error).context("receive"),
        }
        thread::sleep(gap);
    }
    let times = times.join(",");
    say(
        "round_trips",
        &format!(",\"lost\":{lost},\"nanoseconds\":[{times}]"),
    );
    stay();
}

/// The mode `call`: a datagram each gap, whether others were answered or not, and how long each took there and back.
pub fn call(settings: &Settings) -> Result<()> {
    let count: u64 = settings.number("count", 100)?;
    let gap = Duration::from_millis(settings.number("gap_ms", 20)?);
    let mut sent: Vec<u8> = vec![0; settings.number("chunk", 200)?];
    let socket = connected(settings.connect()?)?;
    let answers = socket.try_clone()?;
    // The last one is waited for that long.
    answers.set_read_timeout(Some(Duration::from_secs(2)))?;
    let begin = Instant::now();
    let listens = thread::spawn(move || -> std::io::Result<Vec<(u64, Duration)>> {
        let mut arrived = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match answers.recv(&mut buffer) {
                Ok(_) => {
                    if let Some(number) = buffer.first_chunk() {
                        arrived.push((u64::from_be_bytes(*number), begin.elapsed()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(arrived),
                Err(error) => return Err(error),
            }
        }
    });
    say("started", "");
    let mut left = Vec::new();
    for next in 0..count {
        let due = gap * u32::try_from(next)?;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        let number = sent.first_chunk_mut().context("chunk= is too small")?;
        *number = next.to_be_bytes();
        left.push(begin.elapsed());
        socket.send(&sent)?;
    }
    let arrived = listens.join().ok().context("the listener failed")??;
    let times = arrived.iter().filter_map(|(number, at)| {
        let left = left.get(usize::try_from(*number).ok()?)?;
        Some(at.saturating_sub(*left).as_nanos().to_string())
    });
    let times: Vec<String> = times.collect();
    let lost = count - times.len() as u64;
    say(
        "round_trips",
        &format!(",\"lost\":{lost},\"nanoseconds\":[{}]", times.join(",")),
    );
    stay();
}

/// Waits for this datagram; older ones were given up.
fn reply(socket: &UdpSocket, number: u64) -> std::io::Result<()> {
    let mut buffer = [0; 8];
    loop {
        let length = socket.recv(&mut buffer)?;
        if length == buffer.len() && buffer == number.to_be_bytes() {
            return Ok(());
        }
    }
}
