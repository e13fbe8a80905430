//! Starts the daemon, and what speaks with it.

use std::path::Path;

use anyhow::Context as _;
use chadthrottle::{
    cli::rules::{DaemonArgs, RulesAction, Unattended},
    daemon::{
        self, Daemon, Options,
        client::{ClientError, Connection},
        place,
    },
    engine,
    kernel::features,
    log_sink, report, tui,
};
use futures_util::stream;
use tokio::signal::unix::{SignalKind, signal};

/// Does what works without the screen.
pub fn run(action: Unattended) -> anyhow::Result<()> {
    match action {
        Unattended::Daemon(args) => return run_daemon(&args),
        Unattended::Completions { shell } => return report::definition::completions(shell),
        Unattended::Man { folder } => return report::definition::manual(&folder),
        _ => log_sink::to_stderr(),
    }
    let socket = place::socket();
    match action {
        Unattended::Rules(args) if matches!(args.action, RulesAction::Apply) => {
            let named = args.file.is_given().then(|| args.file.path());
            super::run_to_end(report::status::apply(&socket, named))
        }
        Unattended::Rules(args) => report::rules::run(&args),
        Unattended::Status { json, link } => {
            super::run_to_end(report::status::status(&socket, json, link))
        }
        Unattended::Clear { limits, all } => {
            super::run_to_end(report::status::clear(&socket, &limits, all))
        }
        Unattended::Daemon(_) | Unattended::Completions { .. } | Unattended::Man { .. } => Ok(()),
    }
}

fn run_daemon(args: &DaemonArgs) -> anyhow::Result<()> {
    log_sink::for_daemon(args.log);
    features::check()?;
    let daemon = Daemon::prepare(&Options {
        rules: absolute(args.file.path())?,
        rules_must_exist: args.file.is_given(),
        socket: place::socket(),
        state: place::state()?,
        metrics: args.metrics,
    })?;
    super::run_to_end(async {
        // Before anything is put into the kernel, so that no signal can come too early.
        let listen = |kind| signal(kind).context("signals can't be caught");
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let end = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let reload = stream::poll_fn(move |cx| hang_up.poll_recv(cx));
        let (engine, _thread) = engine::start(daemon::INTERVAL)?;
        daemon.run(engine.await?, reload, end).await
    })
}

/// The daemon may read it again long after the caller's folder has another meaning.
fn absolute(path: &Path) -> anyhow::Result<std::path::PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// The engine of a running daemon, if there is one.
pub async fn engine_of_daemon() -> anyhow::Result<Option<tui::Shown>> {
    match Connection::open(&place::socket()).await {
        Ok(connection) => {
            let pid = connection.pid();
            let engine = connection.into_engine().await?;
            Ok(Some(tui::Shown::of(engine, tui::Keeper::Daemon { pid })))
        }
        // Who may not speak with it may have capabilities for an engine of their own.
        Err(ClientError::NotRunning | ClientError::NotAllowed(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
