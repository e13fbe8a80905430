//! The throttle dialog's state: two fields, what they mean, and what came of applying them.

use chadthrottle_common::traffic::Direction;
use tui_input::{Input, InputRequest};

use crate::{
    engine::snapshot::{Limits, PerDirection, ProcessRow},
    process::ProcessKey,
    rate::{Rate, RateError},
};

/// Longer than any rate; what is pasted beyond it is cut.
const LONGEST_ENTRY: usize = 64;

/// The dialog for one process.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Tells one opening of the dialog from the next, for answers that come late.
    pub id: u64,
    /// The process it is about.
    pub key: ProcessKey,
    /// Its name and id, kept for when it is gone.
    pub subject: String,
    /// It had a limit when the dialog was opened.
    pub limited: bool,
    /// What was typed.
    pub fields: PerDirection<Input>,
    /// The field that keys go to.
    pub focus: Direction,
    /// Applied while an entry was wrong: the explanation is an error now, not a hint.
    pub insisted: bool,
    /// The engine has been asked and has not answered yet.
    pub waiting: bool,
    /// Why applying failed.
    pub error: Option<String>,
    /// The process has ended meanwhile.
    pub ended: bool,
}

impl Dialog {
    /// Opens it, filled with the present limits.
    pub fn new(id: u64, row: &ProcessRow) -> Self {
        let limits = row.limit.as_ref().map(|limit| limit.limits);
        let field = |direction| {
            let limit = limits.and_then(|limits| *limits.get(direction));
            Input::new(limit.map(Rate::exact).unwrap_or_default())
        };
        Self {
            id,
            key: row.key,
            subject: subject(row),
            limited: limits.is_some(),
            fields: PerDirection {
                download: field(Direction::Download),
                upload: field(Direction::Upload),
            },
            focus: Direction::Download,
            insisted: false,
            waiting: false,
            error: None,
            ended: row.ended,
        }
    }

    /// Goes to the other field.
    pub fn switch(&mut self) {
        self.focus = match self.focus {
            Direction::Download => Direction::Upload,
            Direction::Upload => Direction::Download,
        };
    }

    /// Changes the focused field.
    pub fn edit(&mut self, request: InputRequest) {
        if self.waiting {
            // What is being applied is what stays to be seen.
            return;
        }
        let field = self.fields.get_mut(self.focus);
        if matches!(request, InputRequest::InsertChar(c) if c.is_control())
            || matches!(request, InputRequest::InsertChar(_))
                && field.value().chars().count() >= LONGEST_ENTRY
        {
            return;
        }
        if field.handle(request).is_some_and(|changed| changed.value) {
            self.insisted = false;
            self.error = None;
        }
    }

    /// Types a pasted text; of several lines the first that says something.
    pub fn paste(&mut self, text: &str) {
        // Terminals send a pasted line end as a carriage return.
        let mut lines = text.split(['\r', '\n']).map(str::trim);
        for c in lines
            .find(|line| !line.is_empty())
            .unwrap_or_default()
            .chars()
        {
            self.edit(InputRequest::InsertChar(c));
        }
    }

    /// What one field means; an empty one is unlimited.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the person who typed it.
    pub fn entry(&self, direction: Direction) -> Result<Option<Rate>, RateError> {
        match self.fields.get(direction).value().parse() {
            Ok(rate) => Ok(Some(rate)),
            Err(RateError::Empty) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What both fields mean.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub fn limits(&self) -> Result<Limits, Direction> {
        let entry = |direction| self.entry(direction).map_err(|_| direction);
        Ok(Limits {
            download: entry(Direction::Download)?,
            upload: entry(Direction::Upload)?,
        })
    }

    /// What applying would do, in one sentence; nothing while an entry is wrong.
    pub fn sentence(&self) -> Option<String> {
        let (subject, limits) = (&self.subject, self.limits().ok()?);
        Some(match (limits.is_unlimited(), self.limited) {
            (false, _) => format!("limits {subject}{}", terms(&limits)),
            (true, true) => format!("removes the limits of {subject}"),
            (true, false) => format!("{subject} stays unlimited; type a rate to limit it"),
        })
    }
}

/// A process in words: `curl (4242)`.
pub fn subject(row: &ProcessRow) -> String {
    format!("{} ({})", row.name, row.pid())
}

/// Limits in words, to follow the name of a process: ` to 500 KB/s down; upload unlimited`.
pub fn terms(limits: &Limits) -> String {
    let (mut rates, mut others) = (Vec::new(), Vec::new());
    for (direction, way, noun) in [
        (Direction::Download, "down", "download"),
        (Direction::Upload, "up", "upload"),
    ] {
        match *limits.get(direction) {
            Some(Rate::ZERO) => others.push(format!("{noun} blocked")),
            Some(rate) => rates.push(format!("{rate} {way}")),
            None => others.push(format!("{noun} unlimited")),
        }
    }
    let rates = match rates.is_empty() {
        true => String::new(),
        false => format!(" to {}", rates.join(" and ")),
    };
    match (rates.is_empty(), others.is_empty()) {
        (_, true) => rates,
        (true, false) => format!(": {}", others.join("; ")),
        (false, false) => format!("{rates}; {}", others.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_words() {
        let rate = |bytes| Some(Rate::from_bytes_per_second(bytes));
        for (download, upload, words) in [
            (rate(500_000), None, " to 500 KB/s down; upload unlimited"),
            (None, rate(500_000), " to 500 KB/s up; download unlimited"),
            (
                rate(1_500_000),
                rate(1_000),
                " to 1.50 MB/s down and 1.00 KB/s up",
            ),
            (rate(0), rate(1_000), " to 1.00 KB/s up; download blocked"),
            (rate(0), rate(0), ": download blocked; upload blocked"),
            (rate(0), None, ": download blocked; upload unlimited"),
            (None, None, ": download unlimited; upload unlimited"),
        ] {
            assert_eq!(terms(&Limits { download, upload }), words);
        }
    }
}
