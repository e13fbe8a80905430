//! The daemon: applies the rules without a screen, and lets others see and change what is in force.

pub mod client;
mod exporter;
mod keeper;
mod metrics;
mod notices;
pub mod place;
pub mod protocol;
mod server;
mod service;
mod wishes;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use jiff::Zoned;
use sd_notify::NotifyState;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use self::{
    exporter::Exporter,
    keeper::{Keeper, Said},
    metrics::Metrics,
    notices::Merged,
    place::Place,
    protocol::{Clear, Counts, Outcome, Request, Status, VERSION},
    server::Call,
    service::notify,
    wishes::Wishes,
};
use crate::model::{
    command::{Command, CommandError},
    handle::EngineHandle,
    limit::LimitId,
    notice::Severity,
    rule::Origin,
    snapshot::Snapshot,
};

/// How many requests of clients may wait.
const WAITING_CALLS: usize = 16;

/// The time between samples.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rules file.
    pub rules: PathBuf,
    /// Whether it must be there.
    pub rules_must_exist: bool,
    /// The control socket.
    pub socket: PathBuf,
    /// The folder for what must outlive the daemon.
    pub state: PathBuf,
    /// Where to serve metrics, whatever the rules file says.
    pub metrics: Option<SocketAddr>,
}

/// A daemon that has its place and its rules, and no engine yet.
pub struct Daemon {
    place: Place,
    keeper: Keeper,
    said: Vec<Said>,
    metrics: Option<SocketAddr>,
}

impl Daemon {
    /// Takes the daemon's place and reads the rules. Nothing is limited yet.
    ///
    /// # Errors
    ///
    /// Another daemon runs; the rules are not right, or must be there and are not.
    pub fn prepare(options: &Options) -> anyhow::Result<Self> {
        let place = Place::take(&options.socket)?;
        let (keeper, said) =
            Keeper::start(&options.rules, options.rules_must_exist, &options.state)?;
        Ok(Self {
            place,
            keeper,
            said,
            metrics: options.metrics,
        })
    }

    /// Applies the rules until `end` completes; each item of `reload` makes it read them again.
    ///
    /// # Errors
    ///
    /// The socket can't be made, or the engine has stopped.
    pub async fn run(
        self,
        engine: EngineHandle,
        mut reload: impl Stream<Item = ()> + Unpin,
        end: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let listener = self.place.listen()?;
        let mut notices = Merged::default();
        let (publish, snapshots) = watch::channel(notices.merge(&engine.snapshots.borrow()));
        let (calls, mut called) = mpsc::channel(WAITING_CALLS);
        let server = tokio::spawn(server::serve(listener, snapshots, calls));
        let mut running = Running {
            engine,
            keeper: self.keeper,
            notices,
            publish,
            since: SystemTime::now(),
            wishes: Wishes::default(),
            metrics: Metrics::default(),
            metrics_on: self.metrics,
            exporter: None,
        };
        running.serve_metrics().await?;
        running.say_link_speed().await;
        self.said.into_iter().for_each(|said| running.say(said));
        running.step().await;
        let words = running.in_words();
        notify(&[NotifyState::Ready, NotifyState::Status(&words)]);
        log::info!("ready: {words}");
        let mut end = std::pin::pin!(end);
        let result = loop {
            tokio::select! {
                () = &mut end => break Ok(()),
                Some(()) = reload.next() => running.reload_as_asked().await,
                Some(call) = called.recv() => running.answer(call).await,
                changed = running.engine.snapshots.changed() => {
                    if changed.is_err() {
                        break Err(CommandError::Stopped).context("nothing is limited any more");
                    }
                    running.step().await;
                    notify(&[NotifyState::Watchdog]);
                }
            }
        };
        notify(&[NotifyState::Stopping]);
        server.abort();
        if let Some(said) = running.keeper.save() {
            running.say(said);
        }
        result
    }
}

struct Running {
    engine: EngineHandle,
    keeper: Keeper,
    notices: Merged,
    publish: watch::Sender<Arc<Snapshot>>,
    since: SystemTime,
    wishes: Wishes<OwnedSemaphorePermit>,
    metrics: Metrics,
    /// Where metrics are to be served, whatever the rules file says.
    metrics_on: Option<SocketAddr>,
    exporter: Option<Exporter>,
}

impl Running {
    /// What is done at every sample.
    async fn step(&mut self) {
        let snapshot = Arc::clone(&self.engine.snapshots.borrow_and_update());
        let now = Zoned::now();
        for said in self.keeper.observe(&snapshot, &now) {
            self.say(said);
        }
        self.put_in_force(&now).await;
        if self.wishes.forget_gone() {
            for command in [
                Command::SetInterval(self.wishes.interval()),
                Command::Watch(self.wishes.watched()),
            ] {
                let done = self.engine.ask(command).await;
                done.unwrap_or_else(|error| log::warn!("{error}"));
            }
        }
        self.show();
    }

    /// Shows everybody what there is now.
    fn show(&mut self) {
        let snapshot = Arc::clone(&self.engine.snapshots.borrow_and_update());
        if self.exporter.is_some() {
            self.metrics
                .observe(&snapshot, &self.keeper.plan().standings);
        }
        self.publish.send_replace(self.notices.merge(&snapshot));
    }

    /// Serves metrics where they are to be served now.
    async fn serve_metrics(&mut self) -> anyhow::Result<()> {
        let wanted = self.metrics_on.or(self.keeper.file().metrics);
        if self.exporter.as_ref().map(|exporter| exporter.wanted) == wanted {
            return Ok(());
        }
        self.exporter = None;
        if let Some(address) = wanted {
            self.exporter = Some(Exporter::start(address, self.metrics.clone()).await?);
        }
        Ok(())
    }

    /// Tells the engine what the file says of the link.
    async fn say_link_speed(&mut self) {
        let said = Command::SetLinkSpeed(self.keeper.file().link);
        let done = self.engine.ask(said).await;
        done.unwrap_or_else(|error| log::warn!("{error}"));
    }

    async fn put_in_force(&mut self, now: &Zoned) {
        let Some(rules) = self.keeper.due(now) else {
            return;
        };
        let result = self.engine.ask(Command::SetFile(rules)).await;
        self.keeper.put_in_force(result.is_ok());
        if let Err(error) = result {
            self.say((
                Severity::Warning,
                format!("not all rules are in force: {error}"),
            ));
        }
    }

    fn say(&mut self, (severity, text): Said) {
        let level = match severity {
            Severity::Info => log::Level::Info,
            Severity::Warning => log::Level::Warn,
        };
        // Mistakes of the rules are a line each.
        let text = text.replace('\n', "; ");
        log::log!(level, "{text}");
        self.notices.add(severity, text);
    }

    fn in_words(&self) -> String {
        let (path, ..) = self.keeper.source();
        format!("{}, of {}", self.counts(), path.display())
    }

    fn counts(&self) -> Counts {
        let plan = self.keeper.plan();
        Counts {
            in_force: plan.rules.len(),
            all: plan.standings.len(),
        }
    }

    async fn reload_as_asked(&mut self) {
        // What is said belongs to the log, and is said there.
        let _ = self.reload().await;
    }

    async fn reload(&mut self) -> Result<Counts, String> {
        // Newer managers want to know when it began.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let result = self.keeper.reload();
        match &result {
            Ok(_) => {
                self.say_link_speed().await;
                self.put_in_force(&Zoned::now()).await;
                if let Err(error) = self.serve_metrics().await {
                    self.say((Severity::Warning, format!("{error:#}")));
                }
                let text = format!("rules read again: {}", self.in_words());
                self.say((Severity::Info, text));
            }
            Err(error) => {
                let text = format!("the rules stay as they were: {error}");
                self.say((Severity::Warning, text));
            }
        }
        self.show();
        let mut words = self.in_words();
        if let Err(error) = &result {
            // A line for each mistake; a status is one.
            words = format!("{words}; {}", error.replace('\n', "; "));
        }
        notify(&[NotifyState::Ready, NotifyState::Status(&words)]);
        result.map(|()| self.counts())
    }

    async fn answer(&mut self, call: Call) {
        let Call {
            request,
            answer,
            client,
        } = call;
        let result = match request {
            Request::Command(command) => self.command(command, &client).await,
            Request::Watch => Ok(Outcome::Done),
            Request::Reload => self.reload().await.map(Outcome::Reloaded),
            Request::Status => Ok(Outcome::Status(Box::new(self.status()))),
            Request::Clear(which) => self.clear(&which).await.map(Outcome::Cleared),
        };
        self.show();
        // Who asked may have gone.
        let _ = answer.send(result);
    }

    async fn command(
        &mut self,
        command: Command,
        client: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Outcome, String> {
        let command = match command {
            Command::Remove(id) => {
                return self.clear(&Clear::Limit(id)).await.map(|_| Outcome::Done);
            }
            Command::RemoveAll => return self.clear(&Clear::All).await.map(|_| Outcome::Done),
            Command::SetFile(_) => {
                return Err(
                    "the rules file is the daemon's; change it, then `chadthrottle rules apply`"
                        .to_owned(),
                );
            }
            Command::SetLinkSpeed(_) => {
                return Err(
                    "how fast the link is, the daemon's rules file says in [link]; change it, then `chadthrottle rules \
                     apply`"
                        .to_owned(),
                );
            }
            Command::Set(rule) if rule.origin != Origin::Hand => {
                return Err("a rule set by hand is none of the file's".to_owned());
            }
            Command::SetInterval(interval) => {
                self.wishes.set_interval(client, interval);
                Command::SetInterval(self.wishes.interval())
            }
            Command::Watch(watch) => {
                self.wishes.watch(client, watch);
                Command::Watch(self.wishes.watched())
            }
            Command::Set(_) => command,
        };
        let done = self.engine.ask(command).await;
        done.map(|()| Outcome::Done).map_err(|e| e.to_string())
    }

    /// Ends limits; those of the file stay out of force until it is read again.
    async fn clear(&mut self, which: &Clear) -> Result<usize, String> {
        let snapshot = Arc::clone(&self.engine.snapshots.borrow());
        let rows = snapshot.limits.iter();
        let meant = rows.filter(|row| match (which, &row.rule.origin) {
            (Clear::ByHand, origin) => *origin == Origin::Hand,
            (Clear::All, _) => true,
            (Clear::Limit(id), _) => row.id == *id,
        });
        let meant: Vec<(LimitId, Origin)> =
            meant.map(|row| (row.id, row.rule.origin.clone())).collect();
        if meant.is_empty() && matches!(which, Clear::Limit(_)) {
            return Err(CommandError::NoSuchLimit.to_string());
        }
        for (id, origin) in &meant {
            if let Origin::File(name) = origin {
                self.keeper.pause(name);
            }
            match self.engine.ask(Command::Remove(*id)).await {
                // It has ended meanwhile.
                Ok(()) | Err(CommandError::NoSuchLimit) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.put_in_force(&Zoned::now()).await;
        Ok(meant.len())
    }

    fn status(&self) -> Status {
        let snapshot = Arc::clone(&self.engine.snapshots.borrow());
        let (path, read, error) = self.keeper.source();
        Status {
            version: VERSION.to_owned(),
            pid: std::process::id(),
            since: self.since,
            rules_file: path.to_owned(),
            rules_read: read,
            rules_error: error.map(str::to_owned),
            rules: self.keeper.plan().standings.clone(),
            limits: snapshot.limits.clone(),
            mechanism: snapshot.mechanism,
            coverage: snapshot.coverage(),
            devices: snapshot.devices.clone(),
            link: snapshot.link.clone(),
            metrics: self.exporter.as_ref().map(|exporter| exporter.address),
        }
    }
}

#[cfg(test)]
mod tests;
