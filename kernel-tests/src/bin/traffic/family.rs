//! Many processes with a socket each.

use std::{
    io::{self, PipeReader, Read},
    process,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    Pace, report_from_now_on, say,
    settings::Settings,
    stay,
    udp::{connected, send_one},
    wait_for_go,
};

/// The mode `family`: each child makes its socket at once and sends when the parent is told to go.
pub fn run(settings: &Settings) -> Result<()> {
    let count: u32 = settings.number("count", 1)?;
    // Closed by the parent: all children go.
    let (gate, gate_keeper) = io::pipe()?;
    // Closed by the last child: all have their sockets.
    let (ready, ready_writer) = io::pipe()?;
    let mut children = Vec::new();
    for _ in 0..count {
        // SAFETY: this process has one thread so far, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => bail!("can't fork"),
            0 => {
                drop(gate_keeper);
                let served = serve(settings, gate, || drop(ready_writer));
                process::exit(i32::from(served.is_err()));
            }
            child => children.push(child.to_string()),
        }
    }
    drop(ready_writer);
    closed(ready)?;
    say("started", &format!(",\"pids\":[{}]", children.join(",")));
    report_from_now_on(settings)?;
    wait_for_go()?;
    drop(gate_keeper);
    stay();
}

fn serve(settings: &Settings, gate: PipeReader, ready: impl FnOnce()) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = connected(settings.connect()?)?;
    ready();
    closed(gate)?;
    let datagram = vec![0; settings.number("chunk", 100)?];
    let mut pace = Pace::new(settings.number("rate", 10_000)?);
    let amount: u64 = settings.number("amount", 100_000)?;
    for _ in 0..amount / datagram.len() as u64 {
        send_one(&socket, &datagram)?;
        pace.after(datagram.len() as u64);
    }
    if settings.is_set("leave") {
        return Ok(());
    }
    // Stays, with its socket, until the parent's end.
    stay();
}

/// Waits until all writers have closed the pipe.
fn closed(mut pipe: PipeReader) -> Result<()> {
    let read = pipe.read(&mut [0]).context("can't read the pipe")?;
    if read != 0 {
        bail!("something was written to the pipe");
    }
    Ok(())
}
