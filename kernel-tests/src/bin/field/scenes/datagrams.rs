//! Programs that send by UDP, whether it arrives or not.

use std::process::Command;

use anyhow::Result;
use kernel_tests::{flow::Direction, process::Process};

use super::{CLIENT, Scene, serving};
use crate::{meter::Transport, stage::Post};

const PORT: u16 = 5004;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "iperf3 by UDP, up",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -c*",
            direction: Direction::Upload,
            transport: Transport::Udp,
            server: serving::iperf3,
            client: iperf3_up,
            ..CLIENT
        },
        Scene {
            name: "iperf3 by UDP, down",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -c*",
            transport: Transport::Udp,
            server: serving::iperf3,
            client: iperf3_down,
            ..CLIENT
        },
        Scene {
            name: "iperf3 by UDP, 64 bytes each",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -c*",
            direction: Direction::Upload,
            transport: Transport::Udp,
            server: serving::iperf3,
            client: iperf3_small,
            ..CLIENT
        },
        Scene {
            name: "dnsperf",
            needs: &["dnsperf", "dnsmasq"],
            carrier: "dnsperf",
            direction: Direction::Upload,
            transport: Transport::Udp,
            server: dnsmasq,
            client: dnsperf,
            ..CLIENT
        },
        Scene {
            name: "FFmpeg, a video stream",
            needs: &["ffmpeg", "socat"],
            carrier: "ffmpeg",
            command: "*ffmpeg*",
            direction: Direction::Upload,
            transport: Transport::Udp,
            server: watcher,
            client: ffmpeg,
            ..CLIENT
        },
    ]
}

fn iperf3_up(post: &Post<'_>) -> Result<Process> {
    serving::iperf3_client(post, "-u -b 24M -l 1200")
}

fn iperf3_down(post: &Post<'_>) -> Result<Process> {
    serving::iperf3_client(post, "-u -b 24M -l 1200 -R")
}

fn iperf3_small(post: &Post<'_>) -> Result<Process> {
    serving::iperf3_client(post, "-u -b 24M -l 64")
}

const DNS_PORT: u16 = 5353;

fn dnsmasq(post: &Post<'_>) -> Result<Process> {
    let mut dnsmasq = Command::new(post.program("dnsmasq")?);
    dnsmasq.args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts"]);
    dnsmasq.args(["--bind-interfaces", "--user=root", "--pid-file="]);
    dnsmasq.arg(format!("--port={DNS_PORT}"));
    dnsmasq.arg(format!("--listen-address={}", post.server()));
    dnsmasq.arg("--address=/field/192.0.2.1");
    post.serve(dnsmasq, DNS_PORT)
}

/// Asks until it is ended; a query without an answer is given up so soon that it never waits for many of them.
fn dnsperf(post: &Post<'_>) -> Result<Process> {
    let names = (0..1000).map(|number| format!("a-name-of-usual-length-{number}.field A\n"));
    let queries = post.write("queries", &names.collect::<String>())?;
    let mut dnsperf = Command::new(post.program("dnsperf")?);
    dnsperf.args(["-s", &post.server(), "-p", &DNS_PORT.to_string()]);
    dnsperf.args(["-l", "600", "-c", "8", "-q", "100000", "-t", "0.2"]);
    dnsperf.args(["-O", "suppress=timeout", "-d"]);
    dnsperf.arg(queries);
    post.start(dnsperf)
}

fn watcher(post: &Post<'_>) -> Result<Process> {
    let mut socat = Command::new(post.program("socat")?);
    socat
        .arg("-u")
        .arg(format!("UDP-RECV:{PORT},bind={}", post.server()))
        .arg("OPEN:/dev/null");
    post.start(socat)
}

/// Noise, at 24 Mbit/s.
fn ffmpeg(post: &Post<'_>) -> Result<Process> {
    let mut ffmpeg = Command::new(post.program("ffmpeg")?);
    ffmpeg.args([
        "-v",
        "error",
        "-nostdin",
        "-re",
        "-f",
        "lavfi",
        "-i",
        "nullsrc=s=640x360:r=30,geq=random(1)*255:128:128",
    ]);
    ffmpeg.args([
        "-c:v",
        "mpeg2video",
        "-b:v",
        "24M",
        "-minrate",
        "24M",
        "-maxrate",
        "24M",
        "-bufsize",
        "4M",
    ]);
    ffmpeg
        .args(["-f", "mpegts"])
        .arg(format!("udp://{}:{PORT}?pkt_size=1316", post.server()));
    post.start(ffmpeg)
}
