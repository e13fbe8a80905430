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
