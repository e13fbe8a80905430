//! The interface beside a daemon.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use chadthrottle::{
    daemon::{self, Daemon, client::Connection, protocol::Status},
    demo,
    kernel::features,
    model::rule::Origin,
};
use futures_util::stream;
use pty_session::{PATIENCE, Session, Size};
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::PROGRAM;

/// A daemon over a made-up engine, in this process.
struct MadeUpDaemon {
    folder: tempfile::TempDir,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl MadeUpDaemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = "[[rule]]\nname = \"web\"\nprogram = \"firefox\"\ndownload = \"3M\"\n";
        std::fs::write(folder.path().join("rules.toml"), rules).unwrap();
        let daemon = Daemon::prepare(&daemon::Options {
            rules: folder.path().join("rules.toml"),
            rules_must_exist: true,
            socket: folder.path().join("run/control.sock"),
            state: folder.path().to_owned(),
            metrics: None,
        });
        let daemon = daemon.unwrap();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            block_on(async {
                let (engine, world) = demo::engine(3, 20);
                tokio::spawn(world);
                let run = daemon.run(engine, stream::pending(), std::future::pending());
                // Dropped in the middle, as if it were killed.
                tokio::select! {
                    result = run => result.unwrap(),
                    _ = ended => {}
                }
            });
        });
        Self {
            folder,
            end,
            thread,
        }
    }

    /// The real interface, as root opens it beside a daemon. What it remembers, and its log, are
    /// nobody else's.
    fn interface(&self) -> Result<Session> {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /var/lib && mount -t tmpfs none /var/log && exec \"$0\"";
        command.args(["--mount", "sh", "-c", script, PROGRAM]).env(
            "CHADTHROTTLE_SOCKET",
            self.folder.path().join("run/control.sock"),
        );
        Session::start(command, Size::USUAL)
    }

    /// Waits until the daemon says so.
    fn wait_until(&self, what: &str, seen: impl Fn(&Status) -> bool) {
        let socket = self.folder.path().join("run/control.sock");
        let start = Instant::now();
        block_on(async {
            let mut connection = Connection::open(&socket).await.unwrap();
            loop {
                let status = connection.status().await.unwrap();
                if seen(&status) {
                    return;
                }
                assert!(
                    start.elapsed() < PATIENCE,
                    "never {what}: {:?}",
                    status.limits
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    fn die(self) {
        self.end.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn set_by_hand(status: &Status) -> usize {
    let limits = status.limits.iter();
    limits.filter(|row| row.rule.origin == Origin::Hand).count()
}

#[test]
fn the_interface_shows_and_changes_a_daemons_limits_and_survives_its_death() -> Result<()> {
    if let Err(missing) = features::check() {
        eprintln!("skipped: {missing}");
        return Ok(());
    }
    let daemon = MadeUpDaemon::start();
    let first = daemon.interface()?;
    first.wait_for_text("limits of the daemon")?;
    first.wait_for_text("1 limit ")?;
    first.type_in("l")?;
    first.wait_for_text("Limits in force")?;
    first.wait_for_text("program firefox")?;
    first.type_in("\x1b")?;
    first.wait_for("closed list", |screen| {
        !screen.contents().contains("Limits in force")
    })?;
    first.type_in("t")?;
    first.wait_for_text("Download")?;
    first.type_in("\x1b[200~500K\r\x1b[201~")?;
    first.wait_for_text("may download 500 KB/s")?;
    first.type_in("\r")?;
    first.wait_for_text("2 limits")?;
    daemon.wait_until("limited", |status| set_by_hand(status) == 1);
    // The limit is on the screen before its answer is, and until then keys are the dialog's.
    first.wait_for("closed dialog", |screen| {
        !screen.contents().contains("may download 500 KB/s")
    })?;
    first.type_in("r")?;
    daemon.wait_until("free again", |status| set_by_hand(status) == 0);
    first.wait_for_text("1 limit ")?;
    first.wait_for_text("removed the limit")?;
    first.type_in("u")?;
    daemon.wait_until("limited again", |status| set_by_hand(status) == 1);
    first.signal(Signal::TERM)?;
    first.left_clean()?;
    // What is a daemon's stays.
    daemon.wait_until("limited still", |status| set_by_hand(status) == 1);
    let second = daemon.interface()?;
    second.wait_for_text("2 limits")?;
    daemon.die();
    second.wait_for_text("! the daemon has stopped")?;
    // Notices fade, and of two at once the newer is shown; the log has all.
    second.type_in("L")?;
    second.wait_for_text("its limits are gone")?;
    second.signal(Signal::TERM)?;
    second.left_clean()
}
