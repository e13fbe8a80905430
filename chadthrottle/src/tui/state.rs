//! Everything the screen shows, and nothing else.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ratatui::layout::Size;
use tui_input::Input;

use super::{
    action::{Ask, Undo},
    columns::Layout,
    dialog::Dialog,
    history::History,
    keymap::Context,
    notices::Notices,
    preferences::Preferences,
    shown::{Keeper, Phase},
    view,
};
use crate::{
    listing::{
        filter::Filter,
        rows::{Row, Subject, View, rows},
    },
    model::{
        connections::Watch,
        limit::{LimitId, LimitRow},
        process::ProcessKey,
        snapshot::{ProcessRow, Snapshot},
    },
};

/// The state behind a picture.
#[derive(Clone, Debug)]
pub struct State {
    /// When this is; the view asks no clock.
    pub now: SystemTime,
    /// The terminal's size.
    pub size: Size,
    /// The sample that is shown.
    pub snapshot: Arc<Snapshot>,
    /// While the picture is held still: the latest sample, which is not shown.
    pub frozen: Option<Arc<Snapshot>>,
    /// What the table shows.
    pub rows: Vec<Row>,
    /// Which row is selected.
    pub selection: Selection,
    /// The first row that is shown.
    pub offset: usize,
    /// Rows that the dialog and keys mean, if there are any.
    pub tags: HashSet<Subject>,
    /// Which processes are shown.
    pub filter: Filter,
    /// The filter's line while it is open, and the filter there was before.
    pub editing: Option<(Input, Filter)>,
    /// Where to go back to from the processes of a group.
    pub narrowed: Option<(View, Filter)>,
    /// What was moved over the last minutes.
    pub history: History,
    /// What lies over the table.
    pub overlay: Overlay,
    /// What is shown again when that is closed.
    pub beneath: Option<Box<Overlay>>,
    /// What the person should know.
    pub notices: Notices,
    /// The last log lines, oldest first; read only while the log pane is open.
    pub log: Vec<String>,
    /// The file they are in.
    pub log_path: Option<PathBuf>,
    /// How far the engine is.
    pub phase: Phase,
    /// Digits of the largest process id seen: the column must not jump.
    pub pid_digits: u16,
    /// The next dialog's.
    pub next_dialog: u64,
    /// What is remembered from one session to the next.
    pub preferences: Preferences,
    /// What can be taken back, the latest last.
    pub undo: Vec<Undo>,
    /// Limits that are taken back soon.
    pub probation: Option<Probation>,
    /// The processes through which the person sees this.
    pub carriers: HashSet<ProcessKey>,
    /// Names are shown where they are known.
    pub show_names: bool,
    /// Names of addresses; nothing where there is none.
    pub names: HashMap<IpAddr, Option<String>>,
}

/// Which row is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Whichever is the first: so it starts, and so the first line stays in view.
    Top,
    /// This one, wherever it goes.
    Row {
        /// What it stands for.
        subject: Subject,
        /// Where it was last; when it is gone, whatever is there now is selected.
        line: usize,
    },
}

/// What lies over the table.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// Nothing.
    None,
    /// All about the selected row.
    Details(Box<DetailsPane>),
    /// The keys, scrolled down by so many lines.
    Help {
        /// Lines above the first that is shown.
        scroll: usize,
    },
    /// Notices and log lines.
    Log(LogPane),
    /// The limits in force.
    Limits(LimitsPane),
    /// The throttle dialog.
    Dialog(Box<Dialog>),
    /// A question.
    Question(Box<Question>),
}

/// All about one row.
#[derive(Clone, Debug)]
pub struct DetailsPane {
    /// The row.
    pub subject: Subject,
    /// Its process as it was last seen; of a group, its busiest.
    pub last: ProcessRow,
    /// Connections above the first that is shown.
    pub scroll: usize,
}

/// The list of limits in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitsPane {
    /// The selected limit; nothing before there was one.
    pub selected: Option<LimitId>,
    /// Where it stands, or stood last.
    pub line: usize,
    /// The first that is shown.
    pub offset: usize,
}

/// Something to be answered with yes or no.
#[derive(Clone, Debug)]
pub struct Question {
    /// What stands above it.
    pub title: String,
    /// The question, and what is to be known for the answer.
    pub text: Vec<String>,
    /// What is done at a yes.
    pub yes: Yes,
}

/// What is done at a yes.
#[derive(Clone, Debug)]
pub enum Yes {
    /// The engine is asked.
    Ask(Box<Ask>),
    /// The program ends.
    Quit,
}

/// Limits of what carries the terminal: they are taken back unless the person says in time that
/// they can still see this.
#[derive(Clone, Debug)]
pub struct Probation {
    /// Until when.
    pub until: SystemTime,
    /// What takes them back.
    pub undo: Undo,
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
    /// The state before anything has happened: the engine is being loaded.
    pub fn new(size: Size, now: SystemTime, preferences: Preferences) -> Self {
        Self {
            now,
            size,
            snapshot: Arc::new(Snapshot::empty(now)),
            frozen: None,
            rows: Vec::new(),
            selection: Selection::Top,
            offset: 0,
            tags: HashSet::new(),
            filter: Filter::default(),
            editing: None,
            narrowed: None,
            history: History::default(),
            overlay: Overlay::None,
            beneath: None,
            notices: Notices::default(),
            log: Vec::new(),
            log_path: None,
            phase: Phase::Starting,
            pid_digits: 5,
            next_dialog: 0,
            preferences,
            undo: Vec::new(),
            probation: None,
            carriers: HashSet::new(),
            show_names: false,
            names: HashMap::new(),
        }
    }

    /// The engine is loaded: takes its samples in, the latest last.
    pub fn start(&mut self, snapshot: Arc<Snapshot>, past: &[Arc<Snapshot>], keeper: Keeper) {
        self.phase = Phase::Running(keeper);
        past.iter().for_each(|snapshot| self.history.take(snapshot));
        self.take(snapshot);
    }

    /// Takes a new sample in.
    pub fn take(&mut self, snapshot: Arc<Snapshot>) {
        self.notices.take_from(&snapshot, self.now);
        self.history.take(&snapshot);
        if self.frozen.is_some() {
            // Numbers stand still; what a command did must be seen all the same.
            if snapshot.sequence == self.frozen.as_ref().map_or(0, |latest| latest.sequence) {
                self.show(Arc::new(with_limits_of(&self.snapshot, &snapshot)));
            }
            self.frozen = Some(snapshot);
        } else {
            self.show(snapshot);
        }
    }

    fn show(&mut self, snapshot: Arc<Snapshot>) {
        let widest = snapshot.processes.iter().map(|row| row.pid().0).max();
        let digits = widest
            .and_then(u32::checked_ilog10)
            .map_or(1, |log| log as u16 + 1);
        self.pid_digits = self.pid_digits.max(digits);
        self.snapshot = snapshot;
        match &mut self.overlay {
            Overlay::Dialog(dialog) => dialog.meet(&self.snapshot),
            Overlay::Details(pane) => {
                let mut rows = self.snapshot.processes.iter();
                if let Some(row) = rows.find(|row| row.key == pane.last.key) {
                    pane.last = row.clone();
                }
            }
            _ => {}
        }
        self.arrange();
    }

    /// Chooses and sorts what the table shows.
    pub fn arrange(&mut self) {
        self.rows = rows(
            &self.snapshot,
            self.preferences.view,
            self.preferences.sort,
            &self.filter,
            self.snapshot.watched.ports.as_deref(),
        );
        if !self.tags.is_empty() {
            let rows = &self.snapshot.processes;
            self.tags
                .retain(|tag| rows.iter().any(|row| !row.ended && tag.holds(row)));
        }
        self.settle();
    }

    /// Puts the selection on a row that exists, and keeps it in view.
    pub fn settle(&mut self) {
        if let Selection::Row { subject, line } = &mut self.selection {
            match self.rows.iter().position(|row| row.subject == *subject) {
                Some(at) => *line = at,
                None => {
                    let line = *line;
                    self.select(line);
                }
            }
        }
        if let Overlay::Limits(LimitsPane { selected, line, .. }) = self.overlay {
            let at = self.limits().position(|limit| Some(limit.id) == selected);
            self.select_limit(at.unwrap_or(line));
        }
        let shown = view::table_lines(self.size);
        let line = self.line();
        self.offset = self
            .offset
            .min(self.rows.len().saturating_sub(shown))
            .min(line)
            .max((line + 1).saturating_sub(shown));
    }

    /// Shows something over the table, or over the list that it is about.
    pub fn lay_over(&mut self, overlay: Overlay) {
        let before = std::mem::replace(&mut self.overlay, overlay);
        if matches!(before, Overlay::Details(_) | Overlay::Limits(_)) {
            self.beneath = Some(Box::new(before));
        }
    }

    /// Closes what lies over the table.
    pub fn close(&mut self) {
        self.overlay = match self.beneath.take() {
            Some(beneath) => *beneath,
            None => Overlay::None,
        };
        self.settle();
    }

    /// The limits in force, shown or not.
    pub fn limits_in_force(&self) -> &[LimitRow] {
        &self.frozen.as_ref().unwrap_or(&self.snapshot).limits
    }

    /// Those that limit something, as the list has them.
    pub fn limits(&self) -> impl Iterator<Item = &LimitRow> {
        let limits = self.snapshot.limits.iter();
        limits.filter(|limit| !limit.rule.limits.is_unlimited())
    }

    /// The limit that is selected in the list.
    pub fn selected_limit(&self) -> Option<&LimitRow> {
        match self.overlay {
            Overlay::Limits(pane) => self.limits().nth(pane.line),
            _ => None,
        }
    }

    /// Selects the limit on a line, or the nearest.
    pub fn select_limit(&mut self, line: usize) {
        let count = self.limits().count();
        let line = line.min(count.saturating_sub(1));
        let selected = self.limits().nth(line).map(|limit| limit.id);
        let shown = view::limits::lines(self.size);
        if let Overlay::Limits(pane) = &mut self.overlay {
            pane.selected = selected;
            pane.line = line;
            pane.offset = pane
                .offset
                .min(count.saturating_sub(shown))
                .min(line)
                .max((line + 1).saturating_sub(shown));
        }
    }

    /// Selects the row on a line, or the nearest.
    pub fn select(&mut self, line: usize) {
        let line = line.min(self.rows.len().saturating_sub(1));
        self.selection = match self.rows.get(line) {
            Some(row) => Selection::Row {
                subject: row.subject.clone(),
                line,
            },
            None => Selection::Top,
        };
    }

    /// The selected line.
    pub fn line(&self) -> usize {
        match self.selection {
            Selection::Top => 0,
            Selection::Row { line, .. } => line,
        }
    }

    /// The selected row.
    pub fn selected_row(&self) -> Option<&Row> {
        self.rows.get(self.line())
    }

    /// The selected process; of a group, its busiest.
    pub fn selected(&self) -> Option<&ProcessRow> {
        self.lead(self.selected_row()?)
    }

    /// A row's process; of a group, its busiest.
    pub fn lead(&self, row: &Row) -> Option<&ProcessRow> {
        self.snapshot.processes.get(row.lead)
    }

    /// The processes of a row that the filter lets pass.
    pub fn members<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a ProcessRow> {
        let ports = self.snapshot.watched.ports.as_deref();
        let rows = self.snapshot.processes.iter();
        rows.filter(move |row| {
            subject.holds(row) && (self.filter.is_empty() || self.filter.matches(row, ports))
        })
    }

    /// What the table's columns depend on.
    pub fn layout(&self) -> Layout {
        Layout {
            view: self.preferences.view,
            pid_digits: self.pid_digits,
            units: self.preferences.units,
        }
    }

    /// What keys go to.
    pub fn context(&self) -> Context {
        match self.overlay {
            Overlay::None if self.editing.is_some() => Context::Filter,
            Overlay::None => Context::Table,
            Overlay::Details(_) => Context::Details,
            Overlay::Help { .. } => Context::Help,
            Overlay::Log(_) => Context::Log,
            Overlay::Limits(_) => Context::Limits,
            Overlay::Dialog(_) => Context::Dialog,
            Overlay::Question(_) => Context::Question,
        }
    }

    /// What is wanted of the engine besides the table.
    pub fn watch(&self) -> Watch {
        Watch {
            process: match &self.overlay {
                Overlay::Details(pane) => match pane.subject {
                    Subject::Process(key) => Some(key),
                    _ => None,
                },
                _ => None,
            },
            ports: self.filter.needs_ports(),
        }
    }

    /// Addresses whose names are wanted and not known yet.
    pub fn nameless(&self) -> Vec<IpAddr> {
        let details = self.snapshot.watched.details.as_ref();
        let wanted = details.filter(|_| self.show_names && self.watch().process.is_some());
        let connections = wanted.into_iter().flat_map(|details| &details.connections);
        let remote = connections.filter_map(|connection| Some(connection.remote?.ip()));
        remote.filter(|ip| !self.names.contains_key(ip)).collect()
    }

    /// How long until time alone changes the picture.
    pub fn changes_in(&self, now: SystemTime) -> Option<Duration> {
        let probation = self.probation.as_ref();
        let revert =
            probation.map(|probation| probation.until.duration_since(now).unwrap_or_default());
        [self.notices.fades_in(now), revert]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A picture with the limits of another.
fn with_limits_of(picture: &Snapshot, other: &Snapshot) -> Snapshot {
    let mut picture = picture.clone();
    picture.limits.clone_from(&other.limits);
    let rows = other.processes.iter();
    let limits: HashMap<ProcessKey, &ProcessRow> = rows.map(|row| (row.key, row)).collect();
    for row in &mut picture.processes {
        let other = limits.get(&row.key);
        row.limits = other.map(|other| other.limits).unwrap_or_default();
        row.limit = other.and_then(|other| other.limit.clone());
        row.local_limit = other.and_then(|other| other.local_limit.clone());
    }
    picture
}
