//! The document and its pictures, from the results of all parts.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use kernel_tests::document;
use serde::de::DeserializeOwned;

use crate::{
    PARTS, Place, accepting, alternatives, beside, clients, cost, guarantee, importance, landing,
    monitors, neighbour, newcomers, pacing, peers, plot::Plot, policing, priority, quic, reaction,
    results::Part, table::Table, tending,
};

const HEAD: &str = "\
# Benchmarks

Made by `cargo xtask bench`, which measures and writes this whole file and its pictures: change the
bench in `kernel-tests/src/bin/bench`, not what is here. `cargo xtask bench pacing` measures one
section again; `cargo xtask bench --write` only writes this file, from the latest results in
`target/bench`. A section of which there are none stays as it was. All traffic is between two network namespaces joined by a veth pair, which carries
packets of up to 64 KiB whole; 1 kB is 1000 bytes. Figures in bold miss their target.
";

/// Writes all of it.
pub fn write(results: &Path, docs: &Path) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let mut writer = Writer {
        results,
        docs,
        before: fs::read_to_string(&path).unwrap_or_default(),
        text: HEAD.to_owned(),
    };
    writer.section("Landing", "landing", landing::render)?;
    writer.section("Pacing", "pacing", pacing::render)?;
    writer.section("Others beside it", "peers", peers::render)?;
    writer.section("Policing", "policing", policing::render)?;
    writer.section("QUIC", "quic", quic::render)?;
    let plain = |text: String| (text, Vec::new());
    writer.section("Priorities", "priority", |it| plain(priority::render(it)))?;
    writer.section("Beside background traffic", "beside", |it| {
        plain(beside::render(it))
    })?;
    writer.section("Alternatives to the background", "alternatives", |it| {
        plain(alternatives::render(it))
    })?;
    writer.section("Sharing a link", "tending", |it| plain(tending::render(it)))?;
    writer.section("Importance", "importance", |it| {
        plain(importance::render(it))
    })?;
    writer.section("Guarantees", "guarantee", |it| plain(guarantee::render(it)))?;
    writer.section("Cost of a packet", "cost", |it| plain(cost::render(it)))?;
    writer.section("Monitoring", "monitors", |it| plain(monitors::render(it)))?;
    writer.section("Accepting", "accepting", |it| plain(accepting::render(it)))?;
    writer.section("Reaction", "reaction", |it| plain(reaction::render(it)))?;
    writer.section("New processes", "newcomers", |it| {
        plain(newcomers::render(it))
    })?;
    writer.section("A neighbour", "neighbour", |it| {
        plain(neighbour::render(it))
    })?;
    writer.section("Real clients", "clients", |it| plain(clients::render(it)))?;
    // Parts end as they like; one empty line is enough.
    let mut text = writer.text;
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

struct Writer<'a> {
    results: &'a Path,
    docs: &'a Path,
    /// The document that there is.
    before: String,
    text: String,
}

impl Writer<'_> {
    /// A section of the parts that begin with a word.
    fn section<T: DeserializeOwned>(
        &mut self,
        title: &str,
        word: &str,
        render: impl FnOnce(&[Part<T>]) -> (String, Vec<Plot>),
    ) -> Result<()> {
        let parts = (PARTS.iter())
            .filter(|part| part.name.split('-').next() == Some(word))
            .map(|part| Part::read(self.results, part.name))
            .collect::<Result<Vec<_>>>()?;
        if parts.iter().all(|part| part.machine.is_none())
            && let Some((_, kept)) = document::sections(&self.before).find(|(its, _)| *its == title)
        {
            self.text.push_str(&kept);
            return Ok(());
        }
        self.text.push_str(&format!("\n## {title}\n"));
        if parts.iter().any(|part| !part.results.is_empty()) {
            let (text, plots) = render(&parts);
            self.text.push_str(&format!("\n{}\n", text.trim()));
            for plot in plots {
                self.picture(title, &plot)?;
            }
        }
        self.text.push_str(&measured_on(&parts));
        Ok(())
    }

    fn picture(&mut self, title: &str, plot: &Plot) -> Result<()> {
        let Some(svg) = plot.svg() else {
            return Ok(());
        };
        let file = format!("bench-{}.svg", plot.name);
        let path = self.docs.join(&file);
        fs::write(&path, svg).with_context(|| format!("can't write {}", path.display()))?;
        self.text.push_str(&format!(
            "\n![{title}: rate over time in percent of the limit]({file})\n"
        ));
        Ok(())
    }
}

/// What each part was measured on, and what of it was not.
fn measured_on<T>(parts: &[Part<T>]) -> String {
    let mut table = Table::of_words(&[
        "measured by",
        "on",
        "kernel and machine",
        "mechanism",
        "commit",
    ]);
    let mut missing = String::new();
    let mut measured = false;
    for part in parts {
        let place = PARTS
            .iter()
            .find(|known| known.name == part.name)
            .map_or(Place::Here, |known| known.place);
        if let Some(machine) = &part.machine {
            measured = true;
            table.row(&[
                format!("`cargo xtask bench {}`", part.name),
                format!("{}, load {}", machine.date, machine.load),
                match place {
                    Place::Here => machine.words(),
                    Place::Virtual => format!("virtual: {}", machine.words()),
                },
                machine.mechanism.clone(),
                machine.commit.clone(),
            ]);
        }
        if let Some(why) = &part.missing {
            missing.push_str(&format!(
                "- not measured, or not to its end: {}: {why}\n",
                part.name
            ));
        }
    }
    let table = if measured {
        table.below("")
    } else {
        String::new()
    };
    match missing.as_str() {
        "" => table,
        missing => format!("{}\n{missing}", table),
    }
}
