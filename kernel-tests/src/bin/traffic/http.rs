//! An HTTP server for real clients: a GET of `/N` brings N bytes.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::atomic::Ordering,
    thread,
};

use anyhow::{Context, Result};

use crate::{SENT, report_from_now_on, say, settings::Settings, tcp::listen};

/// The mode `http`.
pub fn run(settings: &Settings) -> Result<()> {
    let address = settings.listen()?.context("no listen=")?;
    let listener = listen(address, settings)?;
    say(
        "started",
        &format!(",\"address\":\"{}\"", listener.local_addr()?),
    );
    report_from_now_on(settings)?;
    for stream in listener.incoming() {
        let stream = stream.context("can't accept")?;
        thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("traffic: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    let wanted = request.split(' ').nth(1).unwrap_or_default();
    let mut left: usize = wanted.trim_start_matches('/').parse().context("GET /N")?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {left}\r\nConnection: close\r\n\r\n"
    )?;
    let zeros = [0; 65_536];
    while left > 0 {
        let written = stream.write(&zeros[..left.min(zeros.len())])?;
        SENT.fetch_add(written as u64, Ordering::SeqCst);
        left -= written;
    }
    Ok(())
}
