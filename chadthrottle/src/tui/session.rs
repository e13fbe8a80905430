//! The event loop: waits for whatever comes next, updates the state, draws.

use std::{
    collections::HashSet,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crossterm::event::{Event, MouseButton, MouseEvent, MouseEventKind};
use futures_util::{
    FutureExt as _, Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use ratatui::{
    Terminal,
    backend::Backend,
    layout::{Position, Size},
};
use tokio::{signal::unix::SignalKind, time::sleep};

use super::{
    Options, Outside, Surroundings,
    action::{Ask, Effect, Message, Mouse},
    keymap,
    preferences::Preferences,
    shown::Source,
    state::{Overlay, State},
    terminal::{Events, Guard},
    update::update,
    view::{self, theme::Theme},
};
use crate::model::{
    command::{Command, CommandError},
    connections::Watch,
    handle::EngineHandle,
};

/// Log lines that the log pane can show.
const LOG_LINES: usize = 1000;

/// What comes from the person's side.
#[derive(Clone, Debug)]
pub enum Input {
    /// From the terminal.
    Terminal(Event),
    /// Somebody asks the process to stop, as Ctrl-Z does.
    Stop,
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

    /// Stops the program until it is continued, with all of its process group if it was asked by
    /// a key.
    ///
    /// # Errors
    ///
    /// The terminal has gone.
    fn suspend(&mut self, group: bool) -> io::Result<()>;

    /// Takes the mouse, or leaves it to the terminal.
    ///
    /// # Errors
    ///
    /// The terminal has gone.
    fn set_mouse(&mut self, taken: bool) -> io::Result<()>;

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

    fn suspend(&mut self, group: bool) -> io::Result<()> {
        self.suspend(group)
    }

    fn set_mouse(&mut self, taken: bool) -> io::Result<()> {
        self.set_mouse(taken)
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
/// There is no terminal that can be used, or no engine.
pub async fn run(
    outside: Outside<'_>,
    shutdown: impl Future<Output = ()>,
    options: Options,
) -> anyhow::Result<()> {
    use rustix::process::Signal;
    let told = |signal: Signal, input: Input| -> io::Result<_> {
        let mut told = tokio::signal::unix::signal(SignalKind::from_raw(signal.as_raw()))?;
        let told = stream::poll_fn(move |cx| told.poll_recv(cx));
        Ok(told.map(move |()| Ok(input.clone())))
    };
    let continued = told(Signal::CONT, Input::Continued)?;
    let stop = told(Signal::TSTP, Input::Stop)?;
    let mut guard = Guard::take()?;
    // The terminal's end must end the whole stream, which `stream::select` would not do.
    let terminal = Events::new()
        .map(|event| event.map(Input::Terminal))
        .chain(stream::once(async {
            Err(io::ErrorKind::UnexpectedEof.into())
        }));
    let inputs = stream::select(terminal, stream::select(continued, stop));
    drive(&mut guard, inputs, outside, shutdown, options).await
}

/// The loop itself, with all of the outside world handed in.
///
/// # Errors
///
/// There is no engine.
pub async fn drive<S: Screen>(
    screen: &mut S,
    inputs: impl Stream<Item = io::Result<Input>>,
    outside: Outside<'_>,
    shutdown: impl Future<Output = ()>,
    options: Options,
) -> anyhow::Result<()> {
    let Outside {
        shown,
        log,
        surroundings,
        preferences,
    } = outside;
    let mut inputs = pin!(inputs);
    let mut shutdown = pin!(shutdown);
    let size = screen.terminal().size().unwrap_or(Size::new(80, 24));
    let mut source = Source::Starting(shown);
    let mut wishes = Wishes::new(surroundings, preferences.clone());
    let mut state = State::new(size, SystemTime::now(), preferences);
    update(
        &mut state,
        Message::Log(Vec::new(), log.path()),
        SystemTime::now(),
    );
    // An engine that is there already needs no picture without it.
    if let Some(started) = source.next().now_or_never() {
        update(&mut state, started?, SystemTime::now());
    }
    let mut changed = true;

    let outcome = loop {
        if changed {
            if matches!(state.overlay, Overlay::Log(_)) {
                let message = Message::Log(log.lines(LOG_LINES), log.path());
                update(&mut state, message, SystemTime::now());
            }
            let drawn = wishes
                .of_the_screen(screen, &state)
                .and_then(|()| draw(screen, &state, options));
            if let Err(error) = drawn {
                log::info!("the terminal has gone: {error:#}");
                break Ok(());
            }
            wishes.grant(&state, source.engine());
        }
        changed = true;

        let fades = state.changes_in(SystemTime::now());
        let message = tokio::select! {
            () = &mut shutdown => break Ok(()),
            input = inputs.next() => match input {
                Some(Ok(input)) => match message(&state, screen, input) {
                    Some(message) => message,
                    None => {
                        changed = !screen.is_held();
                        continue;
                    }
                },
                Some(Err(error)) => {
                    log::info!("the terminal has gone: {error}");
                    break Ok(());
                }
                None => break Ok(()),
            },
            message = source.next() => match message {
                Ok(message) => message,
                Err(error) => break Err(error),
            },
            Some(message) = wishes.granted.next() => match message {
                Some(message) => message,
                None => continue,
            },
            () = sleep(fades.unwrap_or_default()), if fades.is_some() => Message::Tick,
        };
        if matches!(message, Message::Answered(..))
            && let Some(latest) = source.unseen()
        {
            // What was asked for is in the sample published before the answer.
            update(&mut state, Message::Snapshot(latest), SystemTime::now());
        }
        let effect = update(&mut state, message, SystemTime::now());
        let done = match effect {
            None => Ok(()),
            Some(Effect::Ask(question)) => {
                wishes.ask(question, source.engine());
                Ok(())
            }
            Some(Effect::Redraw) => screen.retake(),
            Some(Effect::Suspend) => screen.suspend(true),
            Some(Effect::Quit) => break Ok(()),
        };
        if let Err(error) = done {
            log::info!("the terminal has gone: {error}");
            break Ok(());
        }
    };
    wishes.remember_now(&state.preferences).await;
    outcome
}

/// How long preferences must be unchanged before they are written.
const SETTLED: Duration = Duration::from_secs(2);

/// Addresses that are looked up at the same time.
const LOOKUPS: usize = 8;

type Granted = Pin<Box<dyn Future<Output = Option<Message>>>>;

/// What the state wants of the outside world, and what is under way. The state only says how it
/// wants things to be: here is seen to it that they come to be so.
struct Wishes {
    surroundings: Arc<dyn Surroundings>,
    granted: FuturesUnordered<Granted>,
    watch: Watch,
    /// The interval that the engine has.
    interval: Duration,
    /// What the file has, and what was wanted last.
    kept: Preferences,
    written: Preferences,
    saving: bool,
    mouse: bool,
    resolving: HashSet<IpAddr>,
    in_dialog: bool,
}

impl Wishes {
    fn new(surroundings: Arc<dyn Surroundings>, preferences: Preferences) -> Self {
        let mut wishes = Self {
            surroundings,
            granted: FuturesUnordered::new(),
            watch: Watch::default(),
            interval: Preferences::default().interval,
            kept: Preferences::default(),
            written: preferences,
            saving: false,
            mouse: false,
            resolving: HashSet::new(),
            in_dialog: false,
        };
        // Never empty, or the loop would not look at it again.
        wishes.granted.push(Box::pin(std::future::pending()));
        wishes.look_for_carriers();
        wishes
    }

    /// Asks the engine, and passes its answer on.
    fn ask(&mut self, ask: Ask, engine: Option<&EngineHandle>) {
        let engine = engine.cloned();
        self.granted.push(Box::pin(async move {
            let mut result = Ok(());
            for command in &ask.commands {
                let answer = match &engine {
                    Some(engine) => engine.ask(command.clone()).await,
                    None => Err(CommandError::Stopped),
                };
                if let Err(error) = answer {
                    log::warn!("{}: {error}", ask.subject);
                    // The others of several are carried out all the same.
                    result = result.and(Err(error.to_string()));
                }
            }
            Some(Message::Answered(ask, result))
        }));
    }

    /// Tells the engine something whose answer is nobody's concern.
    fn tell(&mut self, engine: &EngineHandle, command: Command) {
        let engine = engine.clone();
        self.granted.push(Box::pin(async move {
            if let Err(error) = engine.ask(command).await {
                log::warn!("{error}");
            }
            None
        }));
    }

    fn of_the_screen<S: Screen>(&mut self, screen: &mut S, state: &State) -> anyhow::Result<()> {
        if self.mouse != state.preferences.mouse {
            self.mouse = state.preferences.mouse;
            screen.set_mouse(self.mouse)?;
        }
        Ok(())
    }

    fn grant(&mut self, state: &State, engine: Option<&EngineHandle>) {
        if let Some(engine) = engine {
            let (interval, watch) = (state.preferences.interval, state.watch());
            if self.interval != interval {
                self.interval = interval;
                self.tell(engine, Command::SetInterval(interval));
            }
            if self.watch != watch {
                self.watch = watch;
                self.tell(engine, Command::Watch(watch));
            }
        }
        self.look_up(state);
        let in_dialog = matches!(state.overlay, Overlay::Dialog(_));
        if in_dialog && !self.in_dialog {
            self.look_for_carriers();
        }
        self.in_dialog = in_dialog;
        if self.written != state.preferences && !self.saving {
            self.saving = true;
            self.granted.push(Box::pin(async {
                sleep(SETTLED).await;
                Some(Message::Tick)
            }));
        } else if self.saving && self.kept == state.preferences {
            self.saving = false;
            self.write(&state.preferences);
        }
        self.kept.clone_from(&state.preferences);
    }

    fn write(&mut self, preferences: &Preferences) {
        self.written.clone_from(preferences);
        let (surroundings, preferences) = (Arc::clone(&self.surroundings), preferences.clone());
        tokio::task::spawn_blocking(move || surroundings.remember(&preferences));
    }

    /// At the end, whatever has changed last.
    async fn remember_now(self, preferences: &Preferences) {
        if self.written != *preferences {
            let (surroundings, preferences) = (self.surroundings, preferences.clone());
            let written = tokio::task::spawn_blocking(move || surroundings.remember(&preferences));
            // A disk that hangs must not keep the terminal.
            let _ = tokio::time::timeout(Duration::from_secs(1), written).await;
        }
    }

    fn look_for_carriers(&mut self) {
        let surroundings = Arc::clone(&self.surroundings);
        let looking = tokio::task::spawn_blocking(move || surroundings.carriers());
        self.granted.push(Box::pin(async {
            looking.await.ok().map(Message::Carriers)
        }));
    }

    fn look_up(&mut self, state: &State) {
        self.resolving
            .retain(|address| !state.names.contains_key(address));
        for address in state.nameless() {
            if self.resolving.len() == LOOKUPS {
                break;
            }
            if self.resolving.insert(address) {
                let surroundings = Arc::clone(&self.surroundings);
                let looking = tokio::task::spawn_blocking(move || surroundings.name_of(address));
                self.granted.push(Box::pin(async move {
                    let name = looking.await.ok().flatten();
                    Some(Message::Names(vec![(address, name)]))
                }));
            }
        }
    }
}

fn draw<S: Screen>(screen: &mut S, state: &State, options: Options) -> anyhow::Result<()> {
    if !screen.is_held() {
        screen.retake()?;
    }
    let theme = Theme::new(options.palette(state.preferences.palette));
    let drawn = screen.terminal().draw(|frame| {
        view::render(frame, state, &theme);
        if !options.unicode {
            view::ascii::plain(frame.buffer_mut());
        }
    });
    drawn.map(drop).map_err(|error| anyhow::anyhow!("{error}"))
}

/// What an input means; nothing when it means nothing.
fn message(state: &State, screen: &mut impl Screen, input: Input) -> Option<Message> {
    match input {
        Input::Terminal(Event::Key(key)) => keymap::action(state.context(), key).map(Message::Act),
        Input::Terminal(Event::Mouse(event)) => pointed(event),
        Input::Terminal(Event::Paste(text)) => Some(Message::Paste(text)),
        Input::Terminal(Event::Resize(width, height)) => {
            Some(Message::Resize(Size::new(width, height)))
        }
        Input::Terminal(_) => None,
        Input::Stop | Input::Continued => {
            // Where it fails, drawing will fail next, and say so.
            let _ = match input {
                Input::Stop => screen.suspend(false),
                _ => screen.retake(),
            };
            let size = screen.terminal().size().unwrap_or(state.size);
            Some(Message::Resize(size))
        }
    }
}

fn pointed(event: MouseEvent) -> Option<Message> {
    let mouse = match event.kind {
        MouseEventKind::Down(MouseButton::Left) => Mouse::Press,
        MouseEventKind::ScrollUp => Mouse::Wheel { up: true },
        MouseEventKind::ScrollDown => Mouse::Wheel { up: false },
        _ => return None,
    };
    Some(Message::Mouse(
        mouse,
        Position::new(event.column, event.row),
    ))
}
