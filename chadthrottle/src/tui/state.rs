//! Everything the screen shows, and nothing else.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use ratatui::layout::Size;

use super::{dialog::Dialog, keymap::Context, notices::Notices, view};
use crate::{
    engine::snapshot::{ProcessRow, Snapshot},
    process::ProcessKey,
};

/// The state behind a picture.
#[derive(Clone, Debug)]
pub struct State {
    /// When this is; the view asks no clock.
    pub now: SystemTime,
    /// The terminal's size.
    pub size: Size,
    /// The latest sample.
    pub snapshot: Arc<Snapshot>,
    /// Positions in the snapshot's list, as the table shows them.
    pub order: Vec<usize>,
    /// Which process is selected.
    pub selection: Selection,
    /// The first table line that is shown.
    pub offset: usize,
    /// What lies over the table.
    pub overlay: Overlay,
    /// What the person should know.
    pub notices: Notices,
    /// The last log lines, oldest first; read only while the log pane is open.
    pub log: Vec<String>,
    /// The file they are in.
    pub log_path: Option<PathBuf>,
    /// No more samples will come.
    pub engine_stopped: bool,
    /// Digits of the largest process id seen: the column must not jump.
    pub pid_digits: u16,
    /// The next dialog's.
    pub next_dialog: u64,
}

/// Which process is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Whichever is the busiest: so it starts, and so the first line stays in view.
    Busiest,
    /// This one, wherever it goes.
    Process {
        /// The process.
        key: ProcessKey,
        /// Where it was last; when it is gone, whatever is there now is selected.
        line: usize,
    },
}

/// What lies over the table.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// Nothing.
    None,
    /// The keys, scrolled down by so many lines.
    Help {
        /// Lines above the first that is shown.
        scroll: usize,
    },
    /// Notices and log lines.
    Log(LogPane),
    /// The throttle dialog.
    Dialog(Box<Dialog>),
}

/// A part of the log pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// What the engine and the screen had to say.
    Notices,
    /// Lines of the log.
    Lines,
}

/// The log pane's state.
#[derive(Clone, Copy, Debug)]
pub struct LogPane {
    /// The part that keys scroll.
    pub focus: LogPart,
    /// How far each part is scrolled back from its newest line: notices, lines.
    pub back: [usize; 2],
}

impl State {
    /// The state before anything has happened.
    pub fn new(snapshot: Arc<Snapshot>, size: Size, now: SystemTime) -> Self {
        let mut state = Self {
            now,
            size,
            snapshot: Arc::clone(&snapshot),
            order: Vec::new(),
            selection: Selection::Busiest,
            offset: 0,
            overlay: Overlay::None,
            notices: Notices::default(),
            log: Vec::new(),
            log_path: None,
            engine_stopped: false,
            pid_digits: 5,
            next_dialog: 0,
        };
        state.take(snapshot);
        state
    }

    /// Takes a new sample in.
    pub fn take(&mut self, snapshot: Arc<Snapshot>) {
        self.notices.take_from(&snapshot, self.now);
        let rows = &snapshot.processes;
        self.order = (0..rows.len()).collect();
        self.order
            .sort_by_cached_key(|&index| rows[index].by_rate());
        let widest = rows.iter().map(|row| row.pid().0).max().unwrap_or(0);
        let digits = widest.checked_ilog10().map_or(1, |log| log as u16 + 1);
        self.pid_digits = self.pid_digits.max(digits);
        self.snapshot = snapshot;
        if let Overlay::Dialog(dialog) = &mut self.overlay {
            let mut rows = self.snapshot.processes.iter();
            let row = rows.find(|row| row.key == dialog.key);
            // A process that is not listed may live: it only has no sockets. An ended one stays so.
            dialog.ended |= row.is_some_and(|row| row.ended);
        }
        self.settle();
    }

    /// Puts the selection on a process that exists, and keeps it in view.
    pub fn settle(&mut self) {
        if let Selection::Process { key, line } = self.selection {
            let at = self
                .order
                .iter()
                .position(|&i| self.snapshot.processes[i].key == key);
            match at {
                Some(line) => self.selection = Selection::Process { key, line },
                None => self.select(line),
            }
        }
        let shown = view::table_lines(self.size);
        let line = self.line();
        self.offset = self
            .offset
            .min(self.order.len().saturating_sub(shown))
            .min(line)
            .max((line + 1).saturating_sub(shown));
    }

    /// Selects the process on a line, or the nearest.
    pub fn select(&mut self, line: usize) {
        let line = line.min(self.order.len().saturating_sub(1));
        self.selection = match self.order.get(line) {
            Some(&index) => Selection::Process {
                key: self.snapshot.processes[index].key,
                line,
            },
            None => Selection::Busiest,
        };
    }

    /// The selected line.
    pub fn line(&self) -> usize {
        match self.selection {
            Selection::Busiest => 0,
            Selection::Process { line, .. } => line,
        }
    }

    /// The selected process.
    pub fn selected(&self) -> Option<&ProcessRow> {
        let index = *self.order.get(self.line())?;
        self.snapshot.processes.get(index)
    }

    /// The processes in the table's order.
    pub fn rows(&self) -> impl Iterator<Item = &ProcessRow> {
        self.order
            .iter()
            .filter_map(|&index| self.snapshot.processes.get(index))
    }

    /// What keys go to.
    pub fn context(&self) -> Context {
        match self.overlay {
            Overlay::None => Context::Table,
            Overlay::Help { .. } => Context::Help,
            Overlay::Log(_) => Context::Log,
            Overlay::Dialog(_) => Context::Dialog,
        }
    }
}
