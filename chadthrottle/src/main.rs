//! Parses the command line, starts what it asks for, and maps errors to exit codes.

mod unattended;

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use chadthrottle::{
    cli::{Action, Cli, LimitArgs, RunArgs},
    demo, engine,
    kernel::features,
    launch, log_sink,
    model::{command::Command, handle::EngineHandle, link::LinkSpeed, rule::Rule},
    report, tui,
};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};

/// How often there is a sample, unless asked otherwise.
const EVERY_SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(why) = cli.check() {
        Cli::command()
            .error(ErrorKind::ArgumentConflict, why)
            .exit();
    }
    match run(cli) {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chadthrottle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.action {
        Some(Action::Limit(args)) => {
            log_sink::to_stderr();
            let rules = args.rules().map_err(anyhow::Error::msg)?;
            let limiting = |engine| limit(engine, rules, &args);
            with_engine(EVERY_SECOND, |engine, end| until(end, limiting(engine)))?;
        }
        Some(Action::Run(args)) => {
            log_sink::to_stderr();
            return Ok(start(args));
        }
        Some(Action::Hold { ear, user, command }) => {
            return Ok(ExitCode::from(launch::hold(ear, user.as_deref(), &command)));
        }
        Some(Action::Top(args)) => {
            log_sink::to_stderr();
            with_engine(args.interval, |engine, end| {
                until(end, report::top::run(engine, &args))
            })?;
        }
        Some(Action::Doctor { fix, json }) => {
            log_sink::to_stderr();
            if !report::doctor::run(json, fix)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Some(Action::Unattended(action)) => unattended::run(action)?,
        None if cli.demo => demo(cli.demo_seed, cli.demo_processes)?,
        None => interface(cli.link.link)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command under a limit. Its exit codes are its own, so ours must not be mistaken for them.
fn start(args: RunArgs) -> ExitCode {
    let ignored = launch::signals::ignored();
    let limits = args.rates.limits().map_err(anyhow::Error::msg);
    let code = limits.and_then(|limits| {
        with_engine(EVERY_SECOND, |engine, end| async move {
            say_link_speed(&engine, args.link.link).await?;
            let limit = |target| args.rule(target, limits);
            let user = args.user.as_deref();
            launch::run(engine, &args.command, user, limit, ignored, end).await
        })
    });
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("chadthrottle: {error:#}");
            ExitCode::from(launch::FAILED)
        }
    }
}

/// Opens the interface.
fn interface(link: Option<LinkSpeed>) -> anyhow::Result<()> {
    needs_a_terminal()?;
    features::check()?;
    let log = log_sink::for_interface();
    let (machine, preferences) = tui::Machine::here();
    run_to_end(async {
        // Before anything is put into the kernel, so that no signal can come too early.
        let end = asked_to_end()?;
        // Dropped last: the terminal is given back before the engine's end is waited for.
        let mut thread = None;
        let shown = async {
            if let Some(shown) = unattended::engine_of_daemon().await? {
                anyhow::ensure!(
                    link.is_none(),
                    "a daemon keeps the limits: how fast the link is belongs into its rules file, in [link]"
                );
                return Ok(shown);
            }
            let (engine, of_engine) = engine::start(EVERY_SECOND)?;
            thread = Some(of_engine);
            let engine = engine.await?;
            say_link_speed(&engine, link).await?;
            Ok(tui::Shown::of(engine, tui::Keeper::This))
        };
        let outside = tui::Outside {
            shown: Box::pin(shown),
            log: &log,
            surroundings: Arc::new(machine),
            preferences,
        };
        tui::run(outside, end, tui::Options::from_env()).await
    })
}

/// Opens the interface over a made-up world.
fn demo(seed: u64, processes: usize) -> anyhow::Result<()> {
    needs_a_terminal()?;
    run_to_end(async {
        let end = asked_to_end()?;
        let (demo, world) = demo::start(seed, processes);
        let world = tokio::spawn(world);
        let outside = demo.outside();
        let result = tui::run(outside, end, tui::Options::from_env()).await;
        world.abort();
        result
    })
}

fn needs_a_terminal() -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdin().is_terminal() && io::stdout().is_terminal(),
        "the interface needs a terminal; `chadthrottle top` prints the table without one"
    );
    Ok(())
}

/// Runs something on an event loop of its own.
fn run_to_end<T>(body: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop")?;
    let result = runtime.block_on(body);
    // A name server that does not answer must not keep the person waiting.
    runtime.shutdown_background();
    result
}

/// Starts the engine, runs `body` on it, and takes everything out of the kernel again. `body` is
/// handed what completes when a signal asks to end.
fn with_engine<F, T>(
    every: Duration,
    body: impl FnOnce(EngineHandle, Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    features::check()?;
    run_to_end(async {
        // Before anything is put into the kernel, so that no signal can come too early.
        let asked_to_end = asked_to_end()?;
        let (engine, _thread) = engine::start(every)?;
        body(engine.await?, Box::pin(asked_to_end)).await
    })
}

/// Runs `body` until it is asked to end.
async fn until(
    asked_to_end: impl Future<Output = ()>,
    body: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        result = body => result,
        () = asked_to_end => Ok(()),
    }
}

/// Waits for SIGINT, SIGTERM or SIGHUP.
fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("signals can't be caught");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// Tells the engine how fast the link is, if somebody said so.
async fn say_link_speed(engine: &EngineHandle, link: Option<LinkSpeed>) -> anyhow::Result<()> {
    match link {
        Some(said) => Ok(engine.ask(Command::SetLinkSpeed(said)).await?),
        None => Ok(()),
    }
}

async fn limit(engine: EngineHandle, rules: Vec<Rule>, args: &LimitArgs) -> anyhow::Result<()> {
    say_link_speed(&engine, args.link.link).await?;
    let limiting = report::limit::run(engine, rules, args.json);
    match args.duration {
        None => limiting.await,
        Some(duration) => tokio::time::timeout(duration, limiting)
            .await
            .unwrap_or(Ok(())),
    }
}
