//! The document, from all results.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use kernel_tests::{
    document,
    machine::Machine,
    table::{Table, least, shown as judged},
};

use crate::{
    cell::{BOUNDS, Cell, Outcome, Phase, Shared, Target},
    scenes,
    stage::Line,
};

const HEAD: &str = "\
# In the field

Made by `cargo xtask field`, which runs other people's programs under limits and writes this file. One end of a
line is limited to 1 MB/s, and the other end's kernel tells what came through. The line has 400 Mbit/s and a round
trip of 10 ms; on a kernel without netem it is as fast as a veth pair goes. A figure is the mean of five seconds,
from the second one after the limit on, of the limit. **Midway** means that the limit came while the program moved
data at full speed, **before** that it was there before the program. Figures that are not from 0.90 to 1.05 are in
bold. A virtual machine without KVM is slow: what a program can't send there, no limit held.
";

/// What titles of sections end with that are about the background.
const IN_BACKGROUND: &str = "in the background";

/// Cells by what they are of; a later one counts instead of one before.
type Cells = BTreeMap<(String, Phase, Target), Cell>;

/// Writes it.
pub fn write(results: &Path, docs: &Path) -> Result<()> {
    let mut kernels: BTreeMap<Vec<u32>, (Machine, Cells)> = BTreeMap::new();
    for file in files(results)? {
        let text = fs::read_to_string(&file)?;
        let mut lines = text.lines();
        let Some(first) = lines.next() else { continue };
        let machine: Machine =
            serde_json::from_str(first).with_context(|| file.display().to_string())?;
        let kernel = kernels
            .entry(numbers(&machine.kernel))
            .or_insert_with(|| (machine.clone(), Cells::new()));
        kernel.0 = machine;
        for line in lines {
            let cell: Cell = serde_json::from_str(line)
                .with_context(|| format!("{}: {line}", file.display()))?;
            // It stands for all of its scene, whatever came of that before.
            if let Outcome::Skipped(_) = cell.outcome {
                kernel.1.retain(|(scene, ..), _| *scene != cell.scene);
            }
            kernel
                .1
                .insert((cell.scene.clone(), cell.phase, cell.target), cell);
        }
    }
    let path = docs.join("field.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut sections: BTreeMap<(Vec<u32>, bool), String> = (document::sections(&before))
        .map(|(title, text)| ((numbers(title), title.ends_with(IN_BACKGROUND)), text))
        .collect();
    for (kernel, (machine, cells)) in kernels {
        let (shared, limited): (Cells, Cells) =
            (cells.into_iter()).partition(|((_, phase, _), _)| *phase == Phase::Background);
        for (is_background, cells) in [(false, limited), (true, shared)] {
            let text = match is_background {
                _ if cells.is_empty() => continue,
                true => in_background(&machine, &cells),
                false => of_kernel(&machine, &cells),
            };
            let kept = sections.entry((kernel.clone(), is_background)).or_default();
            let (had, has) = (figures(kept), figures(&text));
            if has < had {
                eprintln!(
                    "field: Linux {}: {has} figures are measured, and {} has {had}: its section stays as it is. \
                     Measure the rest as well, or take that section out.",
                    machine.kernel,
                    path.display()
                );
                continue;
            }
            *kept = text;
        }
    }
    let text = HEAD.to_owned() + &sections.into_values().collect::<String>();
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

/// How many figures a section has, by what it says itself.
fn figures(section: &str) -> usize {
    let line = section.lines().find_map(|line| line.strip_prefix("Of "));
    let count = line.and_then(|line| line.split(' ').next()?.parse().ok());
    count.unwrap_or(0)
}

/// A version, to be compared.
fn numbers(version: &str) -> Vec<u32> {
    let parts = version.split(|letter: char| !letter.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Why something failed, in a line: without the paths of the machine that it was on.
fn shortly(why: &str) -> String {
    let words = why.split_whitespace().filter(|word| !word.contains('/'));
    let text = words.collect::<Vec<_>>().join(" ");
    text.trim_matches([' ', ':']).chars().take(120).collect()
}

/// The results' files, oldest first.
fn files(results: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(results)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn of_kernel(machine: &Machine, cells: &Cells) -> String {
    let mut head = vec!["program".to_owned(), "limited".to_owned()];
    head.extend(Target::ALL.map(|target| target.words().to_owned()));
    head.push("resent".to_owned());
    let columns: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut text = title(machine, "");
    let measured = cells.values().filter(|cell| cell.mean().is_some()).count();
    let kept = cells.values().filter(|cell| cell.is_kept()).count();
    text += &format!(
        "Of {measured} figures, {kept} are within {:.2} to {:.2}.\n",
        BOUNDS.start(),
        BOUNDS.end()
    );
    let mut notes = BTreeSet::new();
    for (phase, title) in [(Phase::Midway, "Midway"), (Phase::Before, "Before")] {
        let mut table = Table::of_words(&columns);
        for scene in scenes::all() {
            let of = |target| cells.get(&(scene.name.to_owned(), phase, target));
            if Target::ALL.iter().all(|target| of(*target).is_none()) {
                continue;
            }
            let mut row = vec![scene.name.to_owned(), scene.direction.to_string()];
            row.extend(Target::ALL.map(|target| of(target).map_or_else(|| "–".to_owned(), shown)));
            row.push(resent(Target::ALL.iter().filter_map(|target| of(*target))));
            table.row(&row);
        }
        text += &format!("\n### {title}");
        text += &table.below("");
    }
    let mut table = Table::of_words(&["program", "after a reload", "short connections"]);
    let mut special = false;
    for scene in scenes::all() {
        let of = |phase| cells.get(&(scene.name.to_owned(), phase, Target::Program));
        let row = [of(Phase::Reloaded), of(Phase::Short)];
        if row.iter().all(Option::is_none) {
            continue;
        }
        special = true;
        let [reloaded, short] = row.map(|cell| cell.map_or_else(|| "–".to_owned(), shown));
        table.row(&[scene.name.to_owned(), reloaded, short]);
    }
    if special {
        text += "\n### By program, before";
        text += &table.below("");
    }
    for cell in cells.values() {
        match &cell.outcome {
            Outcome::Skipped(why) => {
                notes.insert(format!("{}: {why}.", cell.scene));
            }
            Outcome::Failed(why) => {
                notes.insert(format!(
                    "{}, {:?} by {}: not measured: {}.",
                    cell.scene,
                    cell.phase,
                    cell.target.words(),
                    shortly(why)
                ));
            }
            Outcome::Measured { said, .. } if !said.is_empty() => {
                notes.insert(format!(
                    "{}, {:?} by {}: it said: {}",
                    cell.scene,
                    cell.phase,
                    cell.target.words(),
                    shortly(&said.join("; "))
                ));
            }
            Outcome::Measured { .. } | Outcome::Shared(_) => {}
        }
    }
    text + &list(&notes)
}

/// The title of a kernel's section, and what was measured there by what.
fn title(machine: &Machine, about: &str) -> String {
    format!(
        "\n## Linux {}{about}\n\n{}, {}; {}, commit {}.\n",
        machine.kernel, machine.mechanism, machine.processors, machine.date, machine.commit
    )
}

/// Notes below a table.
fn list(notes: &BTreeSet<String>) -> String {
    let lines = notes.iter().map(|note| format!("- {note}\n"));
    match notes.is_empty() {
        true => String::new(),
        false => format!("\n{}", lines.collect::<String>()),
    }
}

/// What programs have of a slow line from its background.
fn in_background(machine: &Machine, cells: &Cells) -> String {
    let mut text = title(machine, &format!(", {IN_BACKGROUND}"));
    let shared = |cell: &Cell| match &cell.outcome {
        Outcome::Shared(shared) => Some(shared.clone()),
        _ => None,
    };
    let all: Vec<Shared> = cells.values().filter_map(shared).collect();
    let met = all.iter().filter(|shared| shared.is_met()).count();
    text += &format!(
        "Of {} programs, {met} have at least {:.2} of the line alone, and a normal flow beside them at least {:.2} of what it has alone.\n",
        all.len(),
        Shared::LEAST_ALONE,
        Shared::LEAST_BESIDE
    );
    let mut table = Table::of_words(&[
        "program",
        "moves",
        "alone, of the line",
        "own flow, of what it has alone",
        "least second",
        "program meanwhile",
    ]);
    let mut notes = BTreeSet::new();
    for cell in cells.values() {
        let Some(shared) = shared(cell) else {
            if let Outcome::Failed(why) | Outcome::Skipped(why) = &cell.outcome {
                notes.insert(format!("{}: not measured: {}.", cell.scene, shortly(why)));
            }
            continue;
        };
        table.row(&[
            cell.scene.clone(),
            cell.direction.to_string(),
            judged(
                format!("{:.2}", shared.alone),
                shared.alone >= Shared::LEAST_ALONE,
            ),
            judged(
                format!("{:.2}", shared.beside()),
                shared.beside() >= Shared::LEAST_BESIDE,
            ),
            format!("{:.2}", least(shared.judged())),
            shared
                .meanwhile
                .map_or_else(|| "–".to_owned(), |rate| format!("{rate:.2}")),
        ]);
        if !shared.said.is_empty() {
            notes.insert(format!(
                "{}: it said: {}",
                cell.scene,
                shortly(&shared.said.join("; "))
            ));
        }
    }
    text += &table.below(&format!(
        "`chadthrottle limit --program NAME --priority background`, a line of {} Mbit/s each way, 40 ms and a queue of 0.3 s at \
         either end, whose speed nobody told chadthrottle. Then a CUBIC flow of the same machine, from its second second on.",
        Line::MEGABITS
    ));
    text + &list(&notes)
}

fn shown(cell: &Cell) -> String {
    match (&cell.outcome, cell.mean()) {
        (Outcome::Skipped(_), _) => "skipped".to_owned(),
        (_, Some(mean)) if cell.is_kept() => format!("{mean:.2}"),
        (_, Some(mean)) => format!("**{mean:.2}**"),
        (_, None) => "**failed**".to_owned(),
    }
}

/// The largest share of segments that were sent again.
fn resent<'a>(cells: impl Iterator<Item = &'a Cell>) -> String {
    let shares = cells.filter_map(|cell| match &cell.outcome {
        Outcome::Measured { resent, .. } => Some(*resent),
        _ => None,
    });
    match shares.fold(f64::NAN, f64::max) {
        worst if worst.is_nan() => "–".to_owned(),
        worst => format!("{:.1} %", worst * 100.0),
    }
}
