//! What the table shows, and in which order.

use tui_input::{Input, InputRequest};

use super::say;
use crate::{
    listing::{
        column::Column,
        filter::Filter,
        rows::{Sort, Subject, View},
    },
    tui::{
        dialog::first_line,
        state::{Selection, State},
    },
};

/// Longer than any filter; what is pasted beyond it is cut.
const LONGEST: usize = 200;

/// Opens the filter's line.
pub(super) fn open(state: &mut State) {
    let input = Input::new(state.filter.text().to_owned());
    state.editing = Some((input, state.filter.clone()));
}

/// Changes what is typed, and at once what is shown.
pub(super) fn edit(state: &mut State, request: InputRequest) {
    let Some((input, _)) = &mut state.editing else {
        return;
    };
    if let InputRequest::InsertChar(c) = request
        && (c.is_control() || input.value().chars().count() >= LONGEST)
    {
        return;
    }
    if input.handle(request).is_some_and(|changed| changed.value) {
        state.filter = Filter::new(input.value());
        state.arrange();
    }
}

pub(super) fn paste(state: &mut State, text: &str) {
    for c in first_line(text).chars() {
        edit(state, InputRequest::InsertChar(c));
    }
}

/// Leaves the filter's line without a filter.
pub(super) fn drop_edit(state: &mut State) {
    state.editing = None;
    state.filter = Filter::default();
    state.narrowed = None;
    state.arrange();
}

/// From a group to its processes.
pub(super) fn narrow(state: &mut State, subject: &Subject) {
    let before = (state.preferences.view, state.filter.clone());
    let text = format!("{} {}", state.filter.text(), subject.filter());
    state.filter = Filter::new(text.trim());
    state.narrowed = Some(before);
    state.preferences.view = View::Processes;
    state.selection = Selection::Top;
    state.arrange();
}

/// Back to where it was narrowed from, or to everything.
pub(super) fn widen(state: &mut State) {
    match state.narrowed.take() {
        Some((view, filter)) => {
            state.preferences.view = view;
            state.filter = filter;
        }
        None => state.filter = Filter::default(),
    }
    state.arrange();
}

/// The next of the table's orders, or the one before.
pub(super) fn sort_next(state: &mut State, forward: bool) {
    let by = Column::after(state.preferences.sort.by, forward);
    set_sort(
        state,
        Sort {
            by,
            reversed: false,
        },
    );
}

/// As a click on a column's heading asks: by this column, then the other way round, then back.
pub(super) fn sort_by(state: &mut State, column: Column) {
    let Sort { by, reversed } = state.preferences.sort;
    let sort = match (by == Some(column), reversed) {
        (false, _) => Sort {
            by: Some(column),
            reversed: false,
        },
        (true, false) => Sort { by, reversed: true },
        (true, true) => Sort::default(),
    };
    set_sort(state, sort);
}

pub(super) fn reverse(state: &mut State) {
    let Sort { by, reversed } = state.preferences.sort;
    set_sort(
        state,
        Sort {
            by,
            reversed: !reversed,
        },
    );
}

fn set_sort(state: &mut State, sort: Sort) {
    state.preferences.sort = sort;
    state.arrange();
    let by = match sort.by {
        None => "what moves most, both ways together".to_owned(),
        Some(column) => column.heading(state.preferences.view, u16::MAX).to_owned(),
    };
    let round = if sort.reversed {
        ", the other way round"
    } else {
        ""
    };
    say(state, format!("sorted by {by}{round}"));
}

/// Other rows.
pub(super) fn view_next(state: &mut State, forward: bool) {
    if let Some((_, filter)) = state.narrowed.take() {
        state.filter = filter;
    }
    state.preferences.view = state.preferences.view.next(forward);
    state.tags.clear();
    state.selection = Selection::Top;
    state.arrange();
}
