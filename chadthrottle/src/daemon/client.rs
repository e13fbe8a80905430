//! Speaking with a running daemon.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::{
    notices::Merged,
    place,
    protocol::{
        Hello, LONGEST_MESSAGE, Message, Numbered, Outcome, Request, Status, VERSION, line,
    },
};
use crate::model::{
    command::CommandError,
    handle::{self, EngineHandle},
    notice::Severity,
    snapshot::Snapshot,
};

/// How long the daemon may take to answer; its engine answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the daemon can't be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none.
    #[error(
        "no daemon is running; start it with `systemctl start chadthrottle` or `chadthrottle daemon`"
    )]
    NotRunning,
    /// There is one, and no way to it.
    #[error(
        "the daemon (process {pid}) has no socket {}: if it did not start just now, the socket was \
         removed; restart it: `systemctl restart chadthrottle`", .socket.display()
    )]
    NoSocket {
        /// Its process.
        pid: String,
        /// Where the socket should be.
        socket: PathBuf,
    },
    /// It listens to others only.
    #[error("only root may speak with the daemon at {}; use sudo", .0.display())]
    NotAllowed(PathBuf),
    /// It is another version.
    #[error(
        "the running daemon (process {pid}) is chadthrottle {theirs}, and this is {VERSION}; \
         restart it: `systemctl restart chadthrottle`"
    )]
    OtherVersion {
        /// Its process.
        pid: u32,
        /// Its version.
        theirs: String,
    },
    /// It does not answer.
    #[error("the daemon has stopped answering; see its log: `journalctl -u chadthrottle`")]
    Gone,
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// The socket's.
    #[error("the daemon can't be reached: {0}")]
    Socket(#[from] io::Error),
    /// It says what makes no sense.
    #[error("the daemon says what makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
}

impl From<LinesCodecError> for ClientError {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::Io(error) => Self::Socket(error),
            LinesCodecError::MaxLineLengthExceeded => {
                Self::Socket(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }
}

/// Why there is no connection.
pub(super) fn unreachable(socket: &Path, error: io::Error) -> ClientError {
    match error.kind() {
        // The second is a socket that a killed daemon left.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => match place::holder(socket) {
            Ok(Some(pid)) => ClientError::NoSocket {
                pid,
                socket: socket.to_owned(),
            },
            Ok(None) | Err(_) => ClientError::NotRunning,
        },
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed(socket.to_owned()),
        _ => error.into(),
    }
}

/// A connection to a daemon of this version.
pub struct Connection {
    lines: FramedRead<OwnedReadHalf, LinesCodec>,
    write: OwnedWriteHalf,
    hello: Hello,
    last: u64,
}

impl Connection {
    /// Connects to the daemon at a socket.
    ///
    /// # Errors
    ///
    /// There is none, it can't be reached, or it is another version.
    pub async fn open(socket: &Path) -> Result<Self, ClientError> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) => return Err(unreachable(socket, error)),
        };
        let (read, write) = stream.into_split();
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(LONGEST_MESSAGE));
        let hello = timeout(PATIENCE, lines.next()).await;
        let hello = hello.ok().flatten().ok_or(ClientError::Gone)??;
        let hello: Hello = serde_json::from_str(&hello)?;
        if !hello.fits() {
            return Err(ClientError::OtherVersion {
                pid: hello.pid,
                theirs: hello.version,
            });
        }
        Ok(Self {
            lines,
            write,
            hello,
            last: 0,
        })
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The daemon said no, or has gone.
    pub async fn ask(&mut self, request: Request) -> Result<Outcome, ClientError> {
        let asked = self.send(request).await?;
        loop {
            let message = timeout(PATIENCE, self.next()).await;
            match message.map_err(|_| ClientError::Gone)?? {
                Message::Answer { id, result } if id == asked => {
                    return result.map_err(ClientError::Refused);
                }
                Message::Answer { .. } | Message::Snapshot(_) => {}
            }
        }
    }

    /// How the daemon is.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(Request::Status).await? {
            Outcome::Status(status) => Ok(*status),
            _ => Err(ClientError::Gone),
        }
    }

    async fn send(&mut self, request: Request) -> Result<u64, ClientError> {
        self.last += 1;
        let id = self.last;
        let line = line(&Numbered { id, request })?;
        self.write
            .write_all(&line)
            .await
            .map_err(|_| ClientError::Gone)?;
        Ok(id)
    }

    async fn next(&mut self) -> Result<Message, ClientError> {
        let line = self.lines.next().await.ok_or(ClientError::Gone)??;
        Ok(serde_json::from_str(&line)?)
    }

    /// The daemon's engine, as if it were our own: to be seen and told what to do until the daemon
    /// or the caller goes away. What it does stays when the caller goes.
    ///
    /// # Errors
    ///
    /// The daemon has gone already.
    pub async fn into_engine(mut self) -> Result<EngineHandle, ClientError> {
        self.send(Request::Watch).await?;
        let first = loop {
            let message = timeout(PATIENCE, self.next()).await;
            if let Message::Snapshot(snapshot) = message.map_err(|_| ClientError::Gone)?? {
                break snapshot;
            }
        };
        let mut notices = Merged::default();
        let _ = notices.merge(&first);
        notices.add(
            Severity::Info,
            format!(
                "these are the limits of the daemon (process {}); they stay when you quit",
                self.pid()
            ),
        );
        let (publish, snapshots) = watch::channel(notices.merge(&first));
        let (commands, requests) = mpsc::channel(16);
        let relay = Relay {
            connection: self,
            publish,
            notices,
            latest: first,
            waiting: HashMap::new(),
        };
        tokio::spawn(relay.run(requests));
        Ok(EngineHandle {
            snapshots,
            commands,
        })
    }
}

/// Carries snapshots and commands to and fro.
struct Relay {
    connection: Connection,
    publish: watch::Sender<Arc<Snapshot>>,
    notices: Merged,
    latest: Arc<Snapshot>,
    waiting: HashMap<u64, oneshot::Sender<Result<(), CommandError>>>,
}

impl Relay {
    async fn run(mut self, mut requests: mpsc::Receiver<handle::Request>) {
        let error = loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some((command, answer)) = request else {
                        return;
                    };
                    match self.connection.send(Request::Command(command)).await {
                        Ok(id) => drop(self.waiting.insert(id, answer)),
                        Err(error) => break error,
                    }
                }
                message = self.connection.next() => match message {
                    Ok(Message::Snapshot(snapshot)) => {
                        self.publish.send_replace(self.notices.merge(&snapshot));
                        self.latest = snapshot;
                    }
                    Ok(Message::Answer { id, result }) => {
                        if let Some(answer) = self.waiting.remove(&id) {
                            let result = result.map(drop).map_err(CommandError::Daemon);
                            // Who asked may not wait any more.
                            let _ = answer.send(result);
                        }
                    }
                    Err(error) => break error,
                },
            }
        };
        log::warn!("{error}");
        let text = "the daemon has stopped, and its limits are gone; quit, and start it again";
        for answer in self.waiting.into_values() {
            let _ = answer.send(Err(CommandError::Daemon(text.to_owned())));
        }
        self.notices.add(Severity::Warning, text);
        self.publish.send_replace(self.notices.merge(&self.latest));
    }
}
