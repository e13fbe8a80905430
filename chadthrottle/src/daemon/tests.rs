//! The daemon with a made-up engine: everything but the kernel.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{
    client::{ClientError, Connection},
    protocol::{Hello, PROTOCOL},
    *,
};
use crate::{
    demo,
    model::{
        direction::{Limits, PerDirection},
        process::Pid,
        rule::Rule,
        target::Target,
    },
    rate::Rate,
    report::status::{apply, clear},
    rules::plan::State,
};

const RULES: &str = r#"
[[rule]]
name = "web"
program = "firefox"
download = "1M"

[[rule]]
name = "mail"
program = "thunderbird"
upload = "2M"
"#;

struct Lab {
    folder: tempfile::TempDir,
    reload: mpsc::Sender<()>,
    end: Option<oneshot::Sender<()>>,
    daemon: JoinHandle<anyhow::Result<()>>,
    world: JoinHandle<()>,
}

fn options(folder: &Path) -> Options {
    Options {
        rules: folder.join("rules.toml"),
        rules_must_exist: true,
        socket: folder.join("run/control.sock"),
        state: folder.to_owned(),
        metrics: None,
    }
}

impl Lab {
    fn start(rules: &str, metrics: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rules.toml"), rules).unwrap();
        let options = Options {
            metrics,
            ..options(folder.path())
        };
        let daemon = Daemon::prepare(&options).unwrap();
        let (engine, world) = demo::engine(7, 30);
        let (reload, mut reloads) = mpsc::channel(1);
        let reloads = futures_util::stream::poll_fn(move |cx| reloads.poll_recv(cx));
        let (end, ended) = oneshot::channel::<()>();
        Self {
            folder,
            reload,
            end: Some(end),
            daemon: tokio::spawn(async move {
                daemon
                    .run(engine, reloads, async { drop(ended.await) })
                    .await
            }),
            world: tokio::spawn(world),
        }
    }

    fn write(&self, rules: &str) {
        fs::write(self.folder.path().join("rules.toml"), rules).unwrap();
    }

    async fn connect(&self) -> Connection {
        let socket = self.folder.path().join("run/control.sock");
        loop {
            match Connection::open(&socket).await {
                Err(ClientError::NotRunning | ClientError::NoSocket { .. }) => {
                    tokio::task::yield_now().await
                }
                connection => return connection.unwrap(),
            }
        }
    }

    /// Waits until the daemon says so.
    async fn until(&self, what: impl Fn(&Status) -> bool) -> Status {
        let mut connection = self.connect().await;
        let wait = async {
            loop {
                let status = connection.status().await.unwrap();
                if what(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap()
    }

    async fn stop(mut self) {
        drop(self.end.take());
        self.daemon.await.unwrap().unwrap();
    }
}

fn names(status: &Status) -> Vec<String> {
    let rows = status.limits.iter();
    rows.map(|row| match &row.rule.origin {
        Origin::File(name) => name.to_string(),
        Origin::Hand => row.rule.target.to_string(),
    })
    .collect()
}

fn megabyte() -> Limits {
    PerDirection {
        download: Some(Rate::from_bytes_per_second(1_000_000)),
        upload: None,
    }
}

#[tokio::test]
async fn rules_are_in_force_read_again_and_kept_when_they_are_broken() {
    let lab = Lab::start(RULES, None);
    let status = lab.until(|status| status.limits.len() == 2).await;
    assert_eq!(names(&status), ["web", "mail"]);
    let id = status.limits[1].id;

    // What stays of the file stays in force, with its number.
    lab.write(&RULES.replace("web", "browser").replace("2M", "3M"));
    lab.reload.send(()).await.unwrap();
    let status = lab.until(|status| names(status)[0] == "browser").await;
    assert_eq!(names(&status), ["browser", "mail"]);
    assert_eq!(status.limits[1].id, id);
    assert_eq!(
        status.limits[1].rule.limits.upload,
        Some("3M".parse().unwrap())
    );

    for broken in [Some("[[rule]]\nname = \"x\"\nprogam = \"y\"\n"), None] {
        let path = lab.folder.path().join("rules.toml");
        match broken {
            Some(text) => lab.write(text),
            None => fs::remove_file(path).unwrap(),
        }
        let mut connection = lab.connect().await;
        let error = connection
            .ask(Request::Reload)
            .await
            .unwrap_err()
            .to_string();
        let expected = match broken {
            Some(_) => "rules.toml:3:1: 'progam' is no key of a rule; did you mean 'program'?",
            None => "there is no ",
        };
        assert!(error.contains(expected), "{error}");
        let status = lab.until(|status| status.rules_error.is_some()).await;
        assert_eq!(names(&status), ["browser", "mail"]);
        assert!(status.rules_error.unwrap().contains(expected));
    }
    lab.write("");
    lab.reload.send(()).await.unwrap();
    let status = lab.until(|status| status.rules_error.is_none()).await;
    assert!(status.limits.is_empty());
    lab.stop().await;
}

#[tokio::test]
async fn the_file_says_how_fast_the_link_is() {
    let rule = "[[rule]]\nname = \"a\"\nprogram = \"firefox\"\npriority = \"background\"\n";
    let lab = Lab::start(&format!("{rule}[link]\ndownload = \"8mbit\"\n"), None);
    let said = |status: &Status| Some(status.link.as_ref()?.directions.map(|known| known.said));
    let download = Some("8mbit".parse().unwrap());
    let one = Some(PerDirection {
        download,
        upload: None,
    });
    lab.until(|status| said(status) == one).await;
    let mut connection = lab.connect().await;
    let other = Command::SetLinkSpeed("1mbit/1mbit".parse().unwrap());
    let refused = connection.ask(Request::Command(other)).await.unwrap_err();
    assert!(refused.to_string().contains("in [link]"), "{refused}");
    lab.write(rule);
    lab.reload.send(()).await.unwrap();
    lab.until(|status| said(status) == Some(PerDirection::default()))
        .await;
    lab.stop().await;
}

#[tokio::test]
async fn what_is_set_by_hand_and_what_is_cleared() {
    let lab = Lab::start(RULES, None);
    lab.until(|status| status.limits.len() == 2).await;
    let mut connection = lab.connect().await;
    let by_hand = Command::limit(Target::program("curl"), megabyte());
    connection.ask(Request::Command(by_hand)).await.unwrap();
    let status = connection.status().await.unwrap();
    assert_eq!(names(&status), ["program curl", "web", "mail"]);

    let clear = |which| Request::Clear(which);
    let cleared = connection.ask(clear(Clear::ByHand)).await.unwrap();
    assert_eq!(cleared, Outcome::Cleared(1));
    let web = Clear::Limit(status.limits[1].id);
    connection.ask(clear(web.clone())).await.unwrap();
    let status = connection.status().await.unwrap();
    assert_eq!(names(&status), ["mail"]);
    assert_eq!(status.rules[0].state, State::Paused);
    let error = connection.ask(clear(web)).await.unwrap_err().to_string();
    assert!(error.contains("has ended already"), "{error}");
    let id = status.limits[0].id;
    connection
        .ask(Request::Command(Command::Remove(id)))
        .await
        .unwrap();
    assert!(connection.status().await.unwrap().limits.is_empty());
    let again = connection.ask(clear(Clear::Limit(id))).await;
    assert!(again.is_err());
    let reloaded = connection.ask(Request::Reload).await.unwrap();
    let counts = Counts {
        in_force: 2,
        all: 2,
    };
    assert_eq!(reloaded, Outcome::Reloaded(counts));
    assert_eq!(counts.to_string(), "2 of 2 rules in force");
    lab.write(&RULES.replace(
        "program = \"thunderbird\"",
        "program = \"x\"\nenabled = false",
    ));
    let reloaded = connection.ask(Request::Reload).await.unwrap();
    let counts = Counts {
        in_force: 1,
        all: 2,
    };
    assert_eq!(reloaded, Outcome::Reloaded(counts));
    lab.write(RULES);
    connection.ask(Request::Reload).await.unwrap();
    assert_eq!(names(&connection.status().await.unwrap()), ["web", "mail"]);
    let all = connection.ask(clear(Clear::All)).await.unwrap();
    assert_eq!(all, Outcome::Cleared(2));

    // What is the daemon's is not a client's to set.
    let file = Rule {
        origin: Origin::File("web".into()),
        ..Rule::by_hand(Target::program("x"), megabyte())
    };
    for command in [Command::SetFile(Vec::new()), Command::Set(Box::new(file))] {
        let refused = connection.ask(Request::Command(command)).await;
        assert!(matches!(refused, Err(ClientError::Refused(_))));
    }
    lab.stop().await;
}

#[tokio::test]
async fn the_daemons_engine_is_like_ones_own_until_it_dies() {
    let lab = Lab::start(RULES, None);
    let mut engine = lab.connect().await.into_engine().await.unwrap();
    let first = engine.snapshots.borrow_and_update().clone();
    let newest = &first.notices.last().unwrap().text;
    assert!(newest.contains("they stay when you quit"), "{newest}");
    let busy = first.processes.iter().find(|row| !row.ended).unwrap().key;
    engine.ask(Command::limit(busy, megabyte())).await.unwrap();
    let limited = engine.snapshots.wait_for(|snapshot| {
        snapshot
            .limits
            .iter()
            .any(|row| row.rule.origin == Origin::Hand)
    });
    timeout(Duration::from_secs(5), limited)
        .await
        .unwrap()
        .unwrap();
    let gone = Command::limit(Pid(1), megabyte());
    let error = engine.ask(gone).await.unwrap_err().to_string();
    assert_eq!(error, "there is no process 1 (any more)");
    let next = timeout(Duration::from_secs(5), engine.next_sample()).await;
    assert!(next.unwrap().unwrap().sequence > first.sequence);

    // As if it were killed: the connection breaks.
    lab.daemon.abort();
    lab.world.abort();
    let stopped = async {
        while engine.snapshots.changed().await.is_ok() {}
        engine
            .snapshots
            .borrow()
            .notices
            .last()
            .unwrap()
            .text
            .clone()
    };
    let last = timeout(Duration::from_secs(5), stopped).await.unwrap();
    assert!(last.contains("the daemon has stopped"), "{last}");
    let error = engine.ask(Command::RemoveAll).await.unwrap_err();
    assert!(matches!(
        error,
        CommandError::Stopped | CommandError::Daemon(_)
    ));
}

#[tokio::test]
async fn a_stuck_client_stalls_nobody() {
    let lab = Lab::start(RULES, None);
    lab.until(|status| status.limits.len() == 2).await;
    let socket = lab.folder.path().join("run/control.sock");
    // It asks for snapshots, and reads none.
    let mut stuck = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stuck
        .write_all(b"{\"id\":1,\"request\":\"watch\"}\n")
        .unwrap();
    let mut engine = lab.connect().await.into_engine().await.unwrap();
    let faster = Command::SetInterval(Duration::from_millis(50));
    engine.ask(faster).await.unwrap();
    for _ in 0..40 {
        timeout(Duration::from_secs(5), engine.next_sample())
            .await
            .unwrap()
            .unwrap();
    }
    // Nonsense, and a request without end, end the connection.
    for nonsense in [b"what?\n".to_vec(), vec![b'x'; 100_000]] {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        // The daemon may hang up before all is written.
        let _ = client.write_all(&nonsense);
        let end = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said);
        });
        timeout(Duration::from_secs(5), end).await.unwrap().unwrap();
    }
    lab.stop().await;
}

#[tokio::test]
async fn of_two_interfaces_each_gets_what_it_wants() {
    let lab = Lab::start(RULES, None);
    let mut fast = lab.connect().await.into_engine().await.unwrap();
    let slow = lab.connect().await.into_engine().await.unwrap();
    let interval = Command::SetInterval;
    fast.ask(interval(Duration::from_millis(50))).await.unwrap();
    // An hour: a sample that comes within the test is not the slow one's.
    slow.ask(interval(Duration::from_secs(3600))).await.unwrap();
    for _ in 0..3 {
        let next = timeout(Duration::from_secs(5), fast.next_sample()).await;
        next.unwrap().unwrap();
    }
    lab.stop().await;
}

#[tokio::test]
async fn another_version_is_not_spoken_with() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let error = |result: Result<Connection, ClientError>| result.err().unwrap().to_string();
    let none = error(Connection::open(&socket).await);
    assert!(none.contains("no daemon is running; start it"), "{none}");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = Hello {
        version: "9.9.9".to_owned(),
        ..Hello::ours()
    };
    assert_eq!(other.protocol, PROTOCOL);
    let greeting = protocol::line(&other).unwrap();
    let greet = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &greeting)
            .await
            .unwrap();
    };
    let (opened, ()) = tokio::join!(Connection::open(&socket), greet);
    let other = error(opened);
    assert!(
        other.contains("is chadthrottle 9.9.9") && other.contains("restart it"),
        "{other}"
    );
}

#[tokio::test]
async fn only_the_file_that_the_daemon_reads_is_applied() {
    let lab = Lab::start(RULES, None);
    lab.until(|status| status.limits.len() == 2).await;
    let socket = lab.folder.path().join("run/control.sock");
    lab.write("");
    let other = lab.folder.path().join("other.toml");
    let error = apply(&socket, Some(&other)).await.unwrap_err().to_string();
    let expected = format!(
        "reads {}, not ",
        lab.folder.path().join("rules.toml").display()
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(lab.connect().await.status().await.unwrap().limits.len(), 2);
    let own = lab.folder.path().join("run/../rules.toml");
    apply(&socket, Some(&own)).await.unwrap();
    assert_eq!(lab.connect().await.status().await.unwrap().limits.len(), 0);
    lab.stop().await;
}

#[tokio::test]
async fn of_limits_to_clear_all_are_there_or_none_ends() {
    let lab = Lab::start(RULES, None);
    lab.until(|status| status.limits.len() == 2).await;
    let socket = lab.folder.path().join("run/control.sock");
    let limits = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let wrong = clear(&socket, &limits(&["web", "nosuch"]), false).await;
    assert!(wrong.unwrap_err().to_string().contains("nothing has ended"));
    let status = lab.connect().await.status().await.unwrap();
    assert_eq!(names(&status), ["web", "mail"]);
    let twice = [status.limits[0].id.0.to_string(), "web".to_owned()];
    clear(&socket, &twice, false).await.unwrap();
    let status = lab.connect().await.status().await.unwrap();
    assert_eq!(names(&status), ["mail"]);
    lab.stop().await;
}

#[test]
fn who_may_not_speak_with_the_daemon_hears_who_may() {
    let denied = std::io::ErrorKind::PermissionDenied.into();
    let error = client::unreachable(Path::new("/run/x.sock"), denied).to_string();
    assert!(
        error.contains("only root may speak with the daemon at /run/x.sock; use sudo"),
        "{error}"
    );
}

#[tokio::test]
async fn a_daemon_without_its_socket_is_told_from_none() {
    let lab = Lab::start(RULES, None);
    drop(lab.connect().await);
    let socket = lab.folder.path().join("run/control.sock");
    fs::remove_file(&socket).unwrap();
    let error = Connection::open(&socket).await.err().unwrap().to_string();
    let expected = format!("the daemon (process {}) has no socket", std::process::id());
    assert!(
        error.contains(&expected) && error.contains("restart it"),
        "{error}"
    );
    lab.stop().await;
    let error = Connection::open(&socket).await.err().unwrap();
    assert!(matches!(error, ClientError::NotRunning), "{error}");
}

#[tokio::test]
async fn metrics_are_served_where_they_are_asked_for() {
    let any = "127.0.0.1:0".parse().unwrap();
    let lab = Lab::start(RULES, Some(any));
    let status = lab.until(|status| status.limits.len() == 2).await;
    let address = status.metrics.unwrap();
    let get = |request: &'static str| async move {
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        timeout(Duration::from_secs(5), answer)
            .await
            .unwrap()
            .unwrap()
    };
    let page = get("GET /metrics").await;
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(page.contains("application/openmetrics-text; version=1.0.0"));
    assert!(
        page.contains("chadthrottle_limit_rate_bytes_per_second{limit=\"1\",rule=\"web\""),
        "{page}"
    );
    assert!(get("GET /").await.starts_with("HTTP/1.1 404"));
    assert!(get("POST /metrics").await.starts_with("HTTP/1.1 405"));
    lab.stop().await;
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_taken_port_for_metrics_is_said_with_how_to_choose_another() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lab = Lab::start(RULES, Some(taken.local_addr().unwrap()));
    let daemon = timeout(Duration::from_secs(5), &mut lab.daemon).await;
    let error = daemon.unwrap().unwrap().unwrap_err();
    assert!(
        format!("{error:#}").contains("choose another address with --metrics"),
        "{error:#}"
    );
}

#[test]
fn rules_that_are_not_right_start_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let error = |options: &Options| Daemon::prepare(options).err().map(|e| e.to_string());
    assert!(error(&options).unwrap().contains("there is no "));
    let anything = Options {
        rules_must_exist: false,
        ..options.clone()
    };
    assert_eq!(error(&anything), None);
    fs::write(&options.rules, "[[rule]]\n").unwrap();
    assert!(error(&anything).unwrap().contains("rules.toml:1:1: "));
}
