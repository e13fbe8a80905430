//! Measures chadthrottle on this machine and prints a document of what it found, all of it
//! measured in this run: `cargo xtask bench` starts it as root and keeps the document. Progress
//! goes to standard error.

mod accuracy;
mod clients;
mod counting;
mod machine;
mod neighbour;
mod reaction;
mod table;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

/// A part of the document.
type Section = fn() -> Result<String>;

fn main() -> ExitCode {
    match run() {
        Ok(document) => {
            print!("{document}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root: `cargo xtask bench` sees to it"
    );
    let start = Instant::now();
    // What the machine is busy with before the bench is.
    let mut document = machine::head()?;
    let sections: [(&str, Section); 5] = [
        ("Accuracy", accuracy::section),
        ("Reaction", reaction::section),
        ("Counting", counting::section),
        ("A neighbour", neighbour::section),
        ("Real clients", clients::section),
    ];
    for (title, section) in sections {
        progress(&format!("{title}, {} s so far", start.elapsed().as_secs()));
        let text = section().with_context(|| title.to_owned())?;
        document.push_str(&format!("\n## {title}\n\n{text}"));
    }
    progress(&format!("done after {} s", start.elapsed().as_secs()));
    Ok(document)
}

/// Tells the person who waits.
fn progress(text: &str) {
    eprintln!("bench: {text}");
}

/// Does the same for each case at once, each in a thread of its own.
fn each_at_once<T: Sync, R: Send>(
    cases: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(move || work(case)))
            .collect();
        let done: Vec<_> = running.into_iter().map(|case| case.join()).collect();
        done.into_iter()
            .map(|done| done.map_err(|_| anyhow!("a case panicked"))?)
            .collect()
    })
}
