//! Answers on the control socket, to root only.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::protocol::{Hello, LONGEST_REQUEST, Message, Numbered, Outcome, Request, line};
use crate::model::snapshot::Snapshot;

/// How many may be connected at once.
const MOST_CLIENTS: usize = 32;

/// Who does not take a message within this time is not spoken to any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks, and where the answer goes.
pub struct Call {
    /// What.
    pub request: Request,
    /// Where to.
    pub answer: oneshot::Sender<Result<Outcome, String>>,
    /// Given back when the client has gone.
    pub client: Arc<OwnedSemaphorePermit>,
}

/// Accepts clients until it is dropped. Only root, and who the daemon itself runs as, is answered.
pub async fn serve(
    listener: UnixListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    calls: mpsc::Sender<Call>,
) {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors left, say.
                log::warn!("nobody can connect: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if let Err(error) = check_peer(&stream) {
            log::warn!("{error:#}");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            log::warn!("more than {MOST_CLIENTS} are connected; another was turned away");
            continue;
        };
        let client = Client {
            snapshots: snapshots.clone(),
            calls: calls.clone(),
            place: Arc::new(place),
        };
        tokio::spawn(async move {
            if let Err(error) = client.serve(stream).await {
                log::info!("a client has gone: {error:#}");
            }
        });
    }
}

fn check_peer(stream: &UnixStream) -> anyhow::Result<()> {
    let peer = stream.peer_cred().context("a peer that can't be known")?;
    if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    bail!("user {} is not root, and not answered", peer.uid());
}

struct Client {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    calls: mpsc::Sender<Call>,
    place: Arc<OwnedSemaphorePermit>,
}

impl Client {
    async fn serve(mut self, stream: UnixStream) -> anyhow::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(LONGEST_REQUEST));
        say(&mut write, &Hello::ours()).await?;
        let mut watching = false;
        loop {
            tokio::select! {
                request = next(&mut lines) => {
                    let Some(Numbered { id, request }) = request? else {
                        return Ok(());
                    };
                    let result = if request == Request::Watch {
                        watching = true;
                        self.snapshots.mark_changed();
                        Ok(Outcome::Done)
                    } else {
                        self.call(request).await?
                    };
                    // What came of it first: who hears the answer looks at that.
                    if watching && self.snapshots.has_changed().context("the daemon stops")? {
                        self.show(&mut write).await?;
                    }
                    say(&mut write, &Message::Answer { id, result }).await?;
                }
                // The latest only: who is slow misses some.
                changed = self.snapshots.changed(), if watching => {
                    changed.context("the daemon stops")?;
                    self.show(&mut write).await?;
                }
            }
        }
    }

    async fn show(&mut self, write: &mut OwnedWriteHalf) -> anyhow::Result<()> {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        say(write, &Message::Snapshot(snapshot)).await
    }

    async fn call(&self, request: Request) -> anyhow::Result<Result<Outcome, String>> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            request,
            answer,
            client: Arc::clone(&self.place),
        };
        self.calls
            .send(call)
            .await
            .ok()
            .context("the daemon stops")?;
        answered.await.context("the daemon stops")
    }
}

async fn next(
    lines: &mut FramedRead<OwnedReadHalf, LinesCodec>,
) -> anyhow::Result<Option<Numbered>> {
    match lines.next().await {
        Some(line) => Ok(Some(serde_json::from_str(&line?)?)),
        None => Ok(None),
    }
}

async fn say(write: &mut OwnedWriteHalf, message: &impl serde::Serialize) -> anyhow::Result<()> {
    let line = line(message)?;
    timeout(PATIENCE, write.write_all(&line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
        .flatten()
        .context("it takes no messages")
}
