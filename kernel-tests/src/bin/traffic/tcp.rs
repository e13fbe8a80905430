//! TCP: listening or connecting, sending or receiving.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process,
    sync::{OnceLock, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    net::sockopt,
    process::{Signal, set_parent_process_death_signal},
};
use socket2::{Domain, Socket, Type};

use crate::{
    Pace, RECEIVED, SENT, connected_and_going, report, report_from_now_on, say, segments,
    settings::Settings, stay, wait_for_go,
};

/// What happens on each connection.
#[derive(Clone, Copy)]
struct Plan {
    send: bool,
    rate: u64,
    chunk: usize,
    /// 0 is no end.
    amount: u64,
    /// After so many it waits until the process is told to go; 0 is never.
    pause: u64,
    segments: bool,
}

impl Plan {
    fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            send: settings.sends(),
            rate: settings.number("rate", 0)?,
            chunk: settings.number("chunk", 65_536)?,
            amount: settings.number("amount", 0)?,
            pause: settings.number("pause", 0)?,
            segments: settings.is_set("segments"),
        })
    }

    fn carry_out(self, stream: TcpStream) {
        let done = if self.send {
            self.send(stream)
        } else {
            receive(stream)
        };
        // A connection that the other end cut is no reason to end the others.
        if let Err(error) = done {
            eprintln!("traffic: {error:#}");
        }
    }

    fn send(self, mut stream: TcpStream) -> Result<()> {
        if self.segments {
            segments::count_tcp(stream.try_clone()?);
        }
        if self.chunk < 1400 {
            stream.set_nodelay(true)?;
        }
        let zeros = vec![0; self.chunk];
        let mut pace = Pace::new(self.rate);
        let mut left = if self.amount == 0 {
            u64::MAX
        } else {
            self.amount
        };
        let mut begins = self.pause;
        while left > 0 {
            let most = if begins > 0 { left.min(begins) } else { left };
            let chunk = usize::try_from(most).unwrap_or(usize::MAX).min(self.chunk);
            let written = stream.write(&zeros[..chunk]).context("send")? as u64;
            SENT.fetch_add(written, Ordering::SeqCst);
            left -= written;
            if begins > 0 {
                begins -= written;
                if begins == 0 {
                    all_go();
                }
            }
            pace.after(written);
        }
        stream.shutdown(Shutdown::Write)?;
        report();
        say("done", "");
        Ok(())
    }
}

/// Waits until the process is told to go, on however many connections.
fn all_go() {
    static TOLD: OnceLock<()> = OnceLock::new();
    TOLD.get_or_init(|| {
        if let Err(error) = wait_for_go() {
            eprintln!("traffic: {error:#}");
            process::exit(1);
        }
    });
}

fn receive(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 262_144];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => RECEIVED.fetch_add(length as u64, Ordering::SeqCst),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("receive"),
        };
    }
    report();
    say("end", "");
    Ok(())
}

/// A listener; the connections that it accepts inherit its congestion control.
pub fn listen(address: SocketAddr, settings: &Settings) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).context("can't listen")?;
    sockopt::set_tcp_congestion(&listener, settings.congestion_control())
        .context("can't set the congestion control")?;
    Ok(listener)
}

fn connect(settings: &Settings) -> Result<TcpStream> {
    let address = settings.connect()?;
    let stream = if settings.is_set("inherited") {
        let socket = Socket::new_raw(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect(&address.into()).context("can't connect")?;
        socket.into()
    } else {
        TcpStream::connect(address).context("can't connect")?
    };
    sockopt::set_tcp_congestion(&stream, settings.congestion_control())
        .context("can't set the congestion control")?;
    Ok(stream)
}

/// The mode `tcp`.
pub fn run(settings: &Settings) -> Result<()> {
    let born = Instant::now();
    let plan = Plan::new(settings)?;
    if let Some(address) = settings.listen()? {
        let listener = listen(address, settings)?;
        say(
            "started",
            &format!(",\"address\":\"{}\"", listener.local_addr()?),
        );
        report_from_now_on(settings)?;
        return accept_all(&listener, plan);
    }
    let connections: u32 = settings.number("connections", 1)?;
    let live_ms: u64 = settings.number("live_ms", 0)?;
    let streams = (0..connections)
        .map(|_| connect(settings))
        .collect::<Result<Vec<_>>>()?;
    connected_and_going(settings)?;
    if live_ms == 0 {
        report_from_now_on(settings)?;
    }
    let workers: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let kept = stream.try_clone();
            (thread::spawn(move || plan.carry_out(stream)), kept)
        })
        .collect();
    if live_ms == 0 {
        stay();
    }
    for (worker, _) in workers {
        if worker.join().is_err() {
            bail!("a connection's thread panicked");
        }
    }
    thread::sleep(Duration::from_millis(live_ms).saturating_sub(born.elapsed()));
    Ok(())
}

/// The mode `handover`: accepts one connection; a forked child serves it, and the parent closes
/// its copy.
pub fn hand_over(settings: &Settings) -> Result<()> {
    let plan = Plan::new(settings)?;
    let address = settings.listen()?.context("no listen=")?;
    let listener = listen(address, settings)?;
    say(
        "started",
        &format!(",\"address\":\"{}\"", listener.local_addr()?),
    );
    let (stream, _) = listener.accept().context("can't accept")?;
    // SAFETY: this process has one thread so far, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => bail!("can't fork"),
        0 => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            drop(listener);
            report_from_now_on(settings)?;
            plan.carry_out(stream);
            process::exit(0);
        }
        child => {
            drop(stream);
            say("handed", &format!(",\"pid\":{child}"));
            stay();
        }
    }
}

/// The mode `prefork`: children accept from the listener that their parent made, as the workers of
/// many servers do.
pub fn prefork(settings: &Settings) -> Result<()> {
    let plan = Plan::new(settings)?;
    let address = settings.listen()?.context("no listen=")?;
    let listener = listen(address, settings)?;
    let mut workers = Vec::new();
    for _ in 0..settings.number("workers", 1)? {
        // SAFETY: this process has one thread so far, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => bail!("can't fork"),
            0 => {
                if settings.is_set("worker_uid") {
                    give_up_rights(settings.number("worker_uid", 0)?)?;
                }
                set_parent_process_death_signal(Some(Signal::KILL))?;
                return accept_all(&listener, plan);
            }
            child => workers.push(child.to_string()),
        }
    }
    let (address, workers) = (listener.local_addr()?, workers.join(","));
    say(
        "started",
        &format!(",\"address\":\"{address}\",\"workers\":[{workers}]"),
    );
    report_from_now_on(settings)?;
    stay();
}

/// Becomes a user, as servers do that begin as root.
fn give_up_rights(uid: u32) -> Result<()> {
    // SAFETY: it only changes whose process this is.
    match unsafe { libc::setuid(uid) } {
        0 => Ok(()),
        _ => bail!("can't become user {uid}"),
    }
}

fn accept_all(listener: &TcpListener, plan: Plan) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream.context("can't accept")?;
        say("accepted", "");
        thread::spawn(move || plan.carry_out(stream));
    }
    Ok(())
}
