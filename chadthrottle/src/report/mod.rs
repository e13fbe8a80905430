//! Everything that is printed without a screen.

pub mod definition;
pub mod doctor;
pub mod limit;
pub mod record;
pub mod rules;
mod spreadsheet;
pub mod status;
mod table;
pub mod top;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::model::uplink::Devices;

/// Prints a line, or some, at once; what reads it may be a pipe. Processes choose their own names,
/// so what a terminal would obey is not passed on.
///
/// # Errors
///
/// Standard output's; a reader that went away is [`io::ErrorKind::BrokenPipe`].
pub fn line(text: &str) -> io::Result<()> {
    let harmless = |c: char| match c {
        '\n' | '\t' => c,
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    let text: String = text.chars().map(harmless).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints a value as a line of JSON.
///
/// # Errors
///
/// As [`line()`].
pub fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// What devices carry that is no process's, each after `between`.
fn strangers(devices: &Devices, between: &str) -> String {
    let strangers = devices.with_strangers();
    let said = strangers
        .map(|(uplink, rate)| format!("{between}{}: {rate} by no process here", uplink.name));
    said.collect()
}

/// A time as RFC 3339 in UTC, to the millisecond.
pub fn timestamp(time: std::time::SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::new(),
    }
}
