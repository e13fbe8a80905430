//! The event loop, with a made-up terminal, engine and person.

use std::{
    future::{self, pending},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use chadthrottle::{
    demo::{self, MadeUpSurroundings},
    model::{
        command::{Command, CommandError},
        handle::EngineHandle,
        process::Pid,
        snapshot::Snapshot,
    },
    rate::Rate,
    tui::{
        Input, Keeper, LogTail, Options, Outside, Screen, Shown, drive, preferences::Preferences,
    },
};
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use futures_util::{Stream, StreamExt, stream};
use ratatui::{Terminal, backend::TestBackend};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::scene::{busy, text};

struct Fake {
    terminal: Terminal<TestBackend>,
    retaken: usize,
    suspended: usize,
}

impl Fake {
    fn new() -> Self {
        Self {
            terminal: Terminal::new(TestBackend::new(100, 30)).unwrap(),
            retaken: 0,
            suspended: 0,
        }
    }

    fn shows(&self) -> String {
        text(self.terminal.backend().buffer())
    }
}

impl Screen for Fake {
    type Backend = TestBackend;

    fn terminal(&mut self) -> &mut Terminal<TestBackend> {
        &mut self.terminal
    }

    fn is_held(&self) -> bool {
        self.retaken > 0
    }

    fn suspend(&mut self, _: bool) -> io::Result<()> {
        self.suspended += 1;
        Ok(())
    }

    fn set_mouse(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn retake(&mut self) -> io::Result<()> {
        self.retaken += 1;
        Ok(())
    }
}

struct Log;

impl LogTail for Log {
    fn lines(&self, _: usize) -> Vec<String> {
        vec!["a line of the log".into()]
    }

    fn path(&self) -> Option<PathBuf> {
        Some("/tmp/made-up.log".into())
    }
}

const OPTIONS: Options = Options {
    colour: true,
    light: false,
    unicode: true,
};

fn outside(engine: EngineHandle) -> Outside<'static> {
    starting(future::ready(Ok(Shown::of(engine, Keeper::This))))
}

fn starting(shown: impl Future<Output = anyhow::Result<Shown>> + 'static) -> Outside<'static> {
    Outside {
        shown: Box::pin(shown),
        log: &Log,
        surroundings: Arc::new(MadeUpSurroundings::default()),
        preferences: Preferences::default(),
    }
}

/// Long enough for a busy machine; every test ends long before.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two keys, so that the engine's answers come in between.
const PAUSE: Duration = Duration::from_millis(30);

fn key(code: KeyCode) -> io::Result<Input> {
    Ok(Input::Terminal(Event::Key(KeyEvent::from(code))))
}

fn typed(text: &str) -> Vec<io::Result<Input>> {
    let key_of = |c| match c {
        '\n' => key(KeyCode::Enter),
        '\t' => key(KeyCode::Tab),
        c => key(KeyCode::Char(c)),
    };
    text.chars().map(key_of).collect()
}

/// Runs the loop until the inputs have ended it.
async fn play(engine: EngineHandle, inputs: Vec<io::Result<Input>>) -> Fake {
    let inputs = stream::iter(inputs).then(|input| async {
        tokio::time::sleep(PAUSE).await;
        input
    });
    let (screen, outcome) = play_in(outside(engine), inputs).await;
    outcome.unwrap();
    screen
}

/// The same in any world, which may have no engine.
async fn play_in(
    outside: Outside<'_>,
    inputs: impl Stream<Item = io::Result<Input>>,
) -> (Fake, anyhow::Result<()>) {
    let mut screen = Fake::new();
    let inputs = inputs.chain(stream::pending());
    let session = drive(&mut screen, inputs, outside, pending(), OPTIONS);
    let outcome = timeout(PATIENCE, session).await.expect("the loop ends");
    (screen, outcome)
}

#[tokio::test]
async fn a_person_limits_the_busiest_process_and_frees_it() {
    let (engine, world) = demo::engine(3, 20);
    let world = tokio::spawn(world);
    let snapshots = engine.snapshots.clone();
    play(engine.clone(), typed("t500K\t0\nqy")).await;
    let snapshot = snapshots.borrow().clone();
    let mut limited = snapshot
        .processes
        .iter()
        .filter_map(|row| row.limit.as_ref());
    let limits = limited.next().expect("one is limited").limits;
    assert_eq!(limits.download, Some(Rate::from_bytes_per_second(500_000)));
    assert_eq!(limits.upload, Some(Rate::ZERO));
    assert_eq!(limited.count(), 0);

    // The process whose dialog was open stays selected, wherever its limit moves it.
    play(engine, typed("jt1M\nrqy")).await;
    assert_eq!(snapshots.borrow().limited(), 1);
    world.abort();
}

#[tokio::test]
async fn an_engine_that_refuses_leaves_the_dialog_open() {
    let (show, snapshots) = watch::channel(Arc::new(busy(5)));
    let (commands, mut requests) = tokio::sync::mpsc::channel(1);
    let engine = EngineHandle {
        snapshots,
        commands,
    };
    let refuse = tokio::spawn(async move {
        let mut asked: Vec<Command> = Vec::new();
        while let Some((command, answer)) = requests.recv().await {
            asked.push(command);
            answer
                .send(Err(CommandError::KernelThread(Pid(2))))
                .unwrap();
        }
        asked
    });
    let mut keys = typed("t1M\n ");
    keys.push(key(KeyCode::Backspace));
    keys.extend(typed("\n"));
    keys.push(Ok(Input::Terminal(Event::FocusGained)));
    keys.push(Ok(Input::Terminal(Event::Key(KeyEvent::new(
        KeyCode::Char('c'),
        KeyModifiers::CONTROL,
    )))));
    let screen = play(engine, keys).await;
    let shown = screen.shows();
    assert!(shown.contains("process 2 is a kernel thread"), "{shown}");
    assert!(shown.contains("1M"), "{shown}");
    assert_eq!(refuse.await.unwrap().len(), 2);
    drop(show);
}

#[tokio::test]
async fn a_slow_engine_does_not_hold_keys_up() {
    let (show, snapshots) = watch::channel(Arc::new(busy(5)));
    // Nobody ever answers.
    let (commands, _requests) = tokio::sync::mpsc::channel(1);
    let engine = EngineHandle {
        snapshots,
        commands,
    };
    let mut keys = typed("t1M\n");
    keys.push(key(KeyCode::Esc));
    keys.extend(typed("Lq"));
    let shown = play(engine, keys).await.shows();
    assert!(shown.contains("a line of the log"), "{shown}");
    assert!(shown.contains("/tmp/made-up.log"), "{shown}");
    drop(show);
}

#[tokio::test]
async fn an_engine_that_stops_is_said_and_can_be_left() {
    let (show, snapshots) = watch::channel(Arc::new(busy(5)));
    let (commands, requests) = tokio::sync::mpsc::channel(1);
    drop((show, requests));
    let engine = EngineHandle {
        snapshots,
        commands,
    };
    let shown = play(engine, typed("jjq")).await.shows();
    assert!(shown.contains("the engine has stopped"), "{shown}");
}

#[tokio::test]
async fn a_terminal_that_goes_away_ends_it() {
    let (engine, _world) = demo::engine(1, 5);
    play(
        engine.clone(),
        vec![Err(io::ErrorKind::UnexpectedEof.into())],
    )
    .await;
    let mut screen = Fake::new();
    let session = drive(
        &mut screen,
        stream::empty(),
        outside(engine),
        pending(),
        OPTIONS,
    );
    let outcome = timeout(PATIENCE, session).await.expect("the loop ends");
    outcome.unwrap();
}

#[tokio::test]
async fn a_signal_ends_it() {
    let (engine, _world) = demo::engine(1, 5);
    let mut screen = Fake::new();
    let session = drive(
        &mut screen,
        stream::pending(),
        outside(engine),
        async {},
        OPTIONS,
    );
    let outcome = timeout(PATIENCE, session).await.expect("the loop ends");
    outcome.unwrap();
}

#[tokio::test]
async fn stopping_continuing_and_redrawing_set_the_terminal_up_anew() {
    let (engine, _world) = demo::engine(1, 5);
    let ctrl = |c| {
        let event = KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        Ok(Input::Terminal(Event::Key(event)))
    };
    let screen = play(
        engine,
        vec![ctrl('z'), Ok(Input::Continued), ctrl('l'), ctrl('c')],
    )
    .await;
    // Once more at the start: it was not held.
    assert_eq!((screen.suspended, screen.retaken), (1, 3));
}

#[tokio::test]
async fn samples_reach_the_screen() {
    let (show, snapshots) = watch::channel(Arc::new(busy(5)));
    let (commands, _requests) = tokio::sync::mpsc::channel(1);
    let engine = EngineHandle {
        snapshots,
        commands,
    };
    let mut changed = Snapshot::clone(&busy(5));
    changed.processes[0].name = "a-new-name".into();
    show.send_replace(Arc::new(changed));
    let shown = play(engine, typed("jq")).await.shows();
    assert!(shown.contains("a-new-name"), "{shown}");
}

#[tokio::test]
async fn what_is_typed_while_the_engine_is_loaded_is_seen_with_it() {
    let (engine, world) = demo::engine(3, 20);
    let world = tokio::spawn(world);
    let (typed_all, go) = oneshot::channel();
    let (loaded, seen) = oneshot::channel();
    let loading = async {
        go.await.unwrap();
        loaded.send(()).unwrap();
        Ok(Shown::of(engine, Keeper::This))
    };
    let then_quit = async {
        typed_all.send(()).unwrap();
        seen.await.unwrap();
        key(KeyCode::Char('q'))
    };
    let inputs = stream::iter(typed("/firefox\n")).chain(stream::once(then_quit));
    let (screen, outcome) = play_in(starting(loading), inputs).await;
    outcome.unwrap();
    let shown = screen.shows();
    assert!(
        shown.contains(" of 20") && shown.contains(" firefox "),
        "{shown}"
    );
    world.abort();
}

#[tokio::test]
async fn it_can_be_left_before_the_engine_is_loaded() {
    let inputs = stream::iter(typed("tlRfuq"));
    let (screen, outcome) = play_in(starting(pending()), inputs).await;
    outcome.unwrap();
    let shown = screen.shows();
    assert!(shown.contains(" starting"), "{shown}");
}

#[tokio::test]
async fn an_engine_that_cannot_be_loaded_ends_it_with_the_reason() {
    let (looked, go) = oneshot::channel();
    let failing = async {
        go.await.unwrap();
        Err(anyhow::anyhow!("the kernel refused"))
    };
    let looks = async {
        looked.send(()).unwrap();
        pending().await
    };
    let inputs = stream::iter(typed("?")).chain(stream::once(looks));
    let (screen, outcome) = play_in(starting(failing), inputs).await;
    assert!(screen.shows().contains(" Keys "), "{}", screen.shows());
    assert_eq!(outcome.unwrap_err().to_string(), "the kernel refused");
}
