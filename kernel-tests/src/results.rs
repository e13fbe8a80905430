//! What was measured, as it is kept between measuring and writing the document: a file for each part,
//! one JSON value a line, the machine first.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::machine::Machine;

/// Where a part's results go while it is measured.
pub struct Output;

impl Output {
    /// Begins a part.
    pub fn begin(machine: &Machine) -> Result<Self> {
        print(machine)?;
        Ok(Self)
    }

    /// Keeps a result; what was kept stays if something later fails.
    pub fn keep(&self, result: &impl Serialize) -> Result<()> {
        print(result)
    }
}

fn print(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A part's results.
pub struct Part<T> {
    /// The part's name.
    pub name: &'static str,
    /// Where it was measured; nothing if it never was.
    pub machine: Option<Machine>,
    /// What was measured.
    pub results: Vec<T>,
    /// Why not all of it was.
    pub missing: Option<String>,
}

/// The results of all parts of a section.
pub fn of_all<T: Clone>(parts: &[Part<T>]) -> Vec<T> {
    let results = parts.iter().flat_map(|part| &part.results);
    results.cloned().collect()
}

impl<T: DeserializeOwned> Part<T> {
    /// Reads a part's file.
    pub fn read(directory: &Path, name: &'static str) -> Result<Self> {
        let mut part = Self {
            name,
            machine: None,
            results: Vec::new(),
            missing: None,
        };
        let path = directory.join(format!("{name}.jsonl"));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                part.missing = Some("not measured yet".to_owned());
                return Ok(part);
            }
            text => text.with_context(|| format!("can't read {}", path.display()))?,
        };
        for line in text.lines() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{}: {line}", path.display()))?;
            if let Some(why) = value["missing"].as_str() {
                part.missing = Some(why.to_owned());
            } else if part.machine.is_none() {
                part.machine = Some(serde_json::from_value(value)?);
            } else {
                // A line of an older bench is not read: the part wants to be measured again.
                match serde_json::from_value(value) {
                    Ok(result) => part.results.push(result),
                    Err(error) => part.missing = Some(format!("an older format: {error}")),
                }
            }
        }
        Ok(part)
    }
}
