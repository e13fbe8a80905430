//! The interface over a made-up world, without root: `cargo run --example demo [SEED [PROCESSES]]`.

use std::path::PathBuf;

use chadthrottle::{
    demo,
    tui::{self, LogTail, Options},
};
use tokio::signal::unix::{SignalKind, signal};

struct NoLog;

impl LogTail for NoLog {
    fn lines(&self, most: usize) -> Vec<String> {
        let lines = ["[2026-01-01T00:00:00Z INFO  chadthrottle] a made-up log line".to_owned()];
        lines.into_iter().take(most).collect()
    }

    fn path(&self) -> Option<PathBuf> {
        Some("/run/chadthrottle/chadthrottle.log".into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let processes = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let (engine, world) = demo::engine(seed, processes);
    let world = tokio::spawn(world);
    let (mut terminated, mut hung_up) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let shutdown = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
        }
    };
    let result = tui::run(engine, &NoLog, shutdown, Options::from_env()).await;
    world.abort();
    result
}
