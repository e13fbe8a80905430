//! UDP, and many sockets.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    net::sockopt,
    process::{Resource, Rlimit, setrlimit},
};

use crate::{
    Pace, RECEIVED, SENT, connected_and_going, report, report_from_now_on, say, settings::Settings,
    stay, wait_for_go,
};

/// The mode `udp`. The listening end sends only once it has heard from the other.
pub fn run(settings: &Settings) -> Result<()> {
    let socket = match settings.listen()? {
        Some(address) => {
            let socket = UdpSocket::bind(address).context("can't listen")?;
            say(
                "started",
                &format!(",\"address\":\"{}\"", socket.local_addr()?),
            );
            if settings.sends() {
                let (_, peer) = socket.recv_from(&mut [0; 64])?;
                socket.connect(peer)?;
            }
            socket
        }
        None => {
            let socket = connected(settings.connect()?)?;
            connected_and_going(settings)?;
            if !settings.sends() {
                socket.send(b"hello").context("can't say hello")?;
            }
            socket
        }
    };
    // As much as the machine allows: a lost datagram should be the limit's doing.
    sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
    report_from_now_on(settings)?;
    if settings.sends() {
        send(&socket, settings)?;
        report();
        say("done", "");
        stay();
    }
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => RECEIVED.fetch_add(length as u64, Ordering::SeqCst),
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error).context("receive"),
        };
    }
}

/// The mode `refused`: sends from the moment it has a socket until it may not, and says how long that
/// was from before it asked for the socket.
pub fn until_refused(settings: &Settings) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(5);
    let start = Instant::now();
    let socket = connected(settings.connect()?)?;
    let mut passed = 0;
    let after = loop {
        match socket.send(&[0]) {
            Ok(_) => passed += 1,
            // What a cgroup's program drops.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break start.elapsed(),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error).context("send"),
        }
        ensure!(start.elapsed() < LONGEST, "{passed} datagrams passed");
        // So that whoever is to refuse them gets a turn.
        thread::sleep(Duration::from_micros(20));
    };
    let after = after.as_nanos();
    say(
        "refused",
        &format!(",\"after_ns\":{after},\"passed\":{passed}"),
    );
    Ok(())
}

fn send(socket: &UdpSocket, settings: &Settings) -> Result<()> {
    let datagram = vec![0; settings.number("chunk", 1200)?];
    let mut left: u64 = match settings.number("amount", 0)? {
        0 => u64::MAX,
        amount => amount,
    };
    let mut pace = Pace::new(settings.number("rate", 1_000_000)?);
    let strict = settings.is_set("strict");
    while left > 0 {
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(datagram.len());
        if strict {
            // As QUIC stacks do: whatever goes wrong ends the connection.
            let sent = socket.send(&datagram[..length]).context("send")?;
            SENT.fetch_add(sent as u64, Ordering::SeqCst);
        } else {
            send_one(socket, &datagram[..length])?;
        }
        left -= length as u64;
        pace.after(length as u64);
    }
    Ok(())
}

/// Sends a datagram, or sees it refused: a limit's drop is EPERM at the sender, and whoever sent
/// to a port that is closed hears of it later.
pub fn send_one(socket: &UdpSocket, datagram: &[u8]) -> Result<()> {
    match socket.send(datagram) {
        Ok(length) => {
            SENT.fetch_add(length as u64, Ordering::SeqCst);
            Ok(())
        }
        Err(error) if is_passing(&error) => Ok(()),
        Err(error) => Err(error).context("send"),
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ConnectionRefused | ErrorKind::Interrupted
    )
}

/// A socket that is connected to an address.
pub fn connected(address: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("can't make a socket")?;
    socket.connect(address).context("can't connect")?;
    Ok(socket)
}

/// The mode `sockets`: makes many, and on "go" sends one datagram on each.
pub fn many_sockets(settings: &Settings) -> Result<()> {
    let count: u64 = settings.number("count", 1)?;
    let files = count + 100;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(files),
            maximum: Some(files),
        },
    )
    .context("can't raise the limit of open files")?;
    let address = settings.connect()?;
    let sockets = (0..count)
        .map(|_| connected(address))
        .collect::<Result<Vec<_>>>()?;
    say("started", "");
    report_from_now_on(settings)?;
    let datagram = vec![0; settings.number("chunk", 100)?];
    loop {
        wait_for_go()?;
        let mut pace = Pace::new(settings.number("rate", 1_000_000)?);
        for socket in &sockets {
            send_one(socket, &datagram)?;
            pace.after(datagram.len() as u64);
        }
        report();
        say("done", "");
    }
}
