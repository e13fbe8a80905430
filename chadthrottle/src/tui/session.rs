//! The event loop: waits for whatever comes next, updates the state, draws.

use std::{io, pin::pin, time::SystemTime};

use crossterm::event::Event;
use futures_util::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use ratatui::{Terminal, backend::Backend, layout::Size};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    LogTail, Options,
    action::{Ask, Effect, Message},
    keymap,
    state::{Overlay, State},
    terminal::{Events, Guard},
    update::update,
    view::{self, theme::Theme},
};
use crate::engine::command::EngineHandle;

/// Log lines that the log pane can show.
const LOG_LINES: usize = 1000;

/// What comes from the person's side.
#[derive(Clone, Debug)]
pub enum Input {
    /// From the terminal.
    Terminal(Event),
    /// The process was stopped and goes on; another program may have drawn meanwhile.
    Continued,
}

/// What the loop draws on; the real terminal, or one made up for a test.
pub trait Screen {
    /// How it draws.
    type Backend: Backend;

    /// What to draw on.
    fn terminal(&mut self) -> &mut Terminal<Self::Backend>;

    /// Whether it is still ours; if not, it is set up again before the next picture.
    fn is_held(&self) -> bool;

    /// Stops the program until it is continued.
    ///
    /// # Errors
    ///
    /// The terminal has gone.
    fn suspend(&mut self) -> io::Result<()>;

    /// Sets the terminal up again after someone else may have used it.
    ///
    /// # Errors
    ///
    /// The terminal has gone.
    fn retake(&mut self) -> io::Result<()>;
}

impl Screen for Guard {
    type Backend = ratatui::backend::CrosstermBackend<io::Stdout>;

    fn terminal(&mut self) -> &mut Terminal<Self::Backend> {
        self.terminal()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.suspend()
    }

    fn retake(&mut self) -> io::Result<()> {
        self.retake()
    }
}

/// Shows the interface on the real terminal until the person quits, `shutdown` completes (a
/// signal came, say) or the terminal goes away. The terminal is as it was before, whatever
/// happens.
///
/// # Errors
///
/// There is no terminal that can be used.
pub async fn run(
    engine: EngineHandle,
    log: &dyn LogTail,
    shutdown: impl Future<Output = ()>,
    options: Options,
) -> anyhow::Result<()> {
    let mut continued = signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
    let continued = stream::poll_fn(move |cx| continued.poll_recv(cx));
    let mut guard = Guard::take()?;
    // The terminal's end must end the whole stream, which `stream::select` would not do.
    let terminal = Events::new()
        .map(|event| event.map(Input::Terminal))
        .chain(stream::once(async {
            Err(io::ErrorKind::UnexpectedEof.into())
        }));
    let inputs = stream::select(terminal, continued.map(|()| Ok(Input::Continued)));
    drive(&mut guard, inputs, engine, log, shutdown, options).await;
    Ok(())
}

/// The loop itself, with all of the outside world handed in.
pub async fn drive<S: Screen>(
    screen: &mut S,
    inputs: impl Stream<Item = io::Result<Input>>,
    mut engine: EngineHandle,
    log: &dyn LogTail,
    shutdown: impl Future<Output = ()>,
    options: Options,
) {
    let mut inputs = pin!(inputs);
    let mut shutdown = pin!(shutdown);
    let mut asked = FuturesUnordered::new();
    let theme = Theme::new(options.colour);
    let size = screen.terminal().size().unwrap_or(Size::new(80, 24));
    let snapshot = engine.snapshots.borrow_and_update().clone();
    let mut state = State::new(snapshot, size, SystemTime::now());
    update(
        &mut state,
        Message::Log(Vec::new(), log.path()),
        SystemTime::now(),
    );

    loop {
        if matches!(state.overlay, Overlay::Log(_)) {
            let message = Message::Log(log.lines(LOG_LINES), log.path());
            update(&mut state, message, SystemTime::now());
        }
        if let Err(error) = draw(screen, &state, &theme) {
            log::info!("the terminal has gone: {error:#}");
            return;
        }

        let fades = state.notices.fades_in(SystemTime::now());
        let message = tokio::select! {
            () = &mut shutdown => return,
            input = inputs.next() => match input {
                Some(Ok(input)) => match message(&state, screen, input) {
                    Some(message) => message,
                    None => continue,
                },
                Some(Err(error)) => {
                    log::info!("the terminal has gone: {error}");
                    return;
                }
                None => return,
            },
            changed = engine.snapshots.changed(), if !state.engine_stopped => match changed {
                Ok(()) => Message::Snapshot(engine.snapshots.borrow_and_update().clone()),
                Err(_) => Message::EngineStopped,
            },
            Some((ask, result)) = asked.next() => Message::Answered(ask, result),
            () = sleep(fades.unwrap_or_default()), if fades.is_some() => Message::Tick,
        };
        let effect = update(&mut state, message, SystemTime::now());
        let done = match effect {
            None => Ok(()),
            Some(Effect::Ask(question)) => {
                asked.push(ask(engine.clone(), question));
                Ok(())
            }
            Some(Effect::Redraw) => screen.retake(),
            Some(Effect::Suspend) => screen.suspend(),
            Some(Effect::Quit) => return,
        };
        if let Err(error) = done {
            log::info!("the terminal has gone: {error}");
            return;
        }
    }
}

fn draw<S: Screen>(screen: &mut S, state: &State, theme: &Theme) -> anyhow::Result<()> {
    if !screen.is_held() {
        screen.retake()?;
    }
    let drawn = screen
        .terminal()
        .draw(|frame| view::render(frame, state, theme));
    drawn.map(drop).map_err(|error| anyhow::anyhow!("{error}"))
}

/// What an input means; nothing when it means nothing.
fn message(state: &State, screen: &mut impl Screen, input: Input) -> Option<Message> {
    match input {
        Input::Terminal(Event::Key(key)) => keymap::action(state.context(), key).map(Message::Act),
        Input::Terminal(Event::Paste(text)) => Some(Message::Paste(text)),
        Input::Terminal(Event::Resize(width, height)) => {
            Some(Message::Resize(Size::new(width, height)))
        }
        Input::Terminal(_) => None,
        Input::Continued => {
            // Where it fails, drawing will fail next, and say so.
            let _ = screen.retake();
            let size = screen.terminal().size().unwrap_or(state.size);
            Some(Message::Resize(size))
        }
    }
}

async fn ask(engine: EngineHandle, ask: Ask) -> (Ask, Result<(), String>) {
    let result = engine.ask(ask.command.clone()).await;
    if let Err(error) = &result {
        log::warn!("{}: {error}", ask.subject);
    }
    (ask, result.map_err(|error| error.to_string()))
}
