//! The list of limits in force, those without running processes among them.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Position, Rect, Size},
    style::Style,
    text::{Line, Span},
};

use super::{
    Areas, Spot,
    fitting::fit,
    pane,
    text::{cell, count},
    theme::Theme,
};
use crate::{
    model::{
        limit::LimitRow,
        rule::{Origin, Scope, Sharing},
        terms::Terms,
    },
    rate::{Rate, Units},
    tui::{
        Phase,
        reach::Reach,
        state::{LimitsPane, State},
        text::{age, may, terms},
    },
};

/// A column of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Target,
    Limit(Direction),
    Traffic,
    Sharing,
    Processes,
    Achieved(Direction),
    Delay,
    Dropped,
    Since,
    From,
}

/// Columns of a target: longer ones are cut, wider terminals show more.
const TARGET: u16 = 20;

impl Column {
    const fn heading(self) -> &'static str {
        match self {
            Self::Target => "APPLIES TO",
            Self::Limit(Direction::Download) => "↓ LIMIT",
            Self::Limit(Direction::Upload) => "↑ LIMIT",
            Self::Traffic => "TRAFFIC",
            Self::Sharing => "LIMIT IS",
            Self::Processes => "PROCS",
            Self::Achieved(Direction::Download) => "↓ GETS",
            Self::Achieved(Direction::Upload) => "↑ GETS",
            Self::Delay => "DELAY",
            Self::Dropped => "DROPPED",
            Self::Since => "SINCE",
            Self::From => "FROM",
        }
    }

    const fn is_number(self) -> bool {
        !matches!(
            self,
            Self::Target | Self::Traffic | Self::Sharing | Self::From
        )
    }
}

/// The columns that fit, with their widths.
fn columns(width: u16, units: Units) -> Vec<(Column, u16)> {
    use Column::{
        Achieved, Delay, Dropped, From, Limit, Processes, Sharing, Since, Target, Traffic,
    };
    let figure = units.width().max(8);
    let mut columns = vec![
        (Target, TARGET),
        (Limit(Direction::Download), figure),
        (Limit(Direction::Upload), figure),
        (Traffic, 8),
        (Sharing, 8),
        (Processes, 5),
        (Achieved(Direction::Download), figure),
        (Achieved(Direction::Upload), figure),
        (Delay, 7),
        (Dropped, figure),
        (Since, 7),
        (From, 10),
    ];
    let giving_way = [
        From,
        Since,
        Dropped,
        Delay,
        Sharing,
        Achieved(Direction::Upload),
        Achieved(Direction::Download),
        Traffic,
        Processes,
    ];
    let spare = fit(&mut columns, width, giving_way);
    if let Some((_, target)) = columns.first_mut() {
        *target += spare.min(60);
    }
    columns
}

/// Limits shown at once, in a terminal of this size.
pub fn lines(size: Size) -> usize {
    let inner = pane::inner(Areas::of_size(size).body);
    usize::from(inner.height.saturating_sub(1)).max(1)
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, open: &LimitsPane, theme: &Theme) {
    let inner = pane::inner(area);
    let columns = columns(inner.width, state.preferences.units);
    let headings = columns
        .iter()
        .map(|&(column, width)| Span::raw(cell(column.heading(), width, column.is_number())));
    let mut drawn = vec![Line::from_iter(headings).style(theme.title)];
    let limits: Vec<&LimitRow> = state.limits().collect();
    for (index, limit) in limits
        .iter()
        .enumerate()
        .skip(open.offset)
        .take(lines(state.size))
    {
        let spans = columns.iter().map(|&(column, width)| {
            let (text, style) = content(state, limit, column, width, theme);
            let text = cell(&text, width, column.is_number());
            match index == open.line {
                true => Span::raw(text),
                false => Span::styled(text, style),
            }
        });
        let line = Line::from_iter(spans);
        drawn.push(match index == open.line {
            true => line.style(theme.selected),
            false => line,
        });
    }
    if limits.is_empty() {
        let text = match state.phase {
            Phase::Starting => "not known yet: the engine is being loaded",
            _ => "nothing is limited; t on a row of the table sets a limit",
        };
        drawn = super::text::wrap(text, inner.width)
            .into_iter()
            .map(|line| Line::styled(line, theme.faint))
            .collect();
    }
    frame.render_widget(pane::block(" Limits in force ", theme.border, theme), area);
    for (line, y) in drawn.into_iter().zip(inner.top()..inner.bottom()) {
        let line_area = Rect {
            y,
            height: 1,
            ..inner
        };
        frame.render_widget(line, line_area);
    }
}

/// What is where the mouse points.
pub fn spot(state: &State, open: &LimitsPane, area: Rect, position: Position) -> Option<Spot> {
    let inner = pane::inner(area);
    if !inner.contains(position) {
        return None;
    }
    let line = open.offset + usize::from((position.y - inner.y).checked_sub(1)?);
    (line < state.limits().count()).then_some(Spot::Limit(line))
}

fn content(
    state: &State,
    limit: &LimitRow,
    column: Column,
    width: u16,
    theme: &Theme,
) -> (String, Style) {
    let (units, rule, effect) = (state.preferences.units, &limit.rule, &limit.effect);
    let faint_if = |quiet: bool| if quiet { theme.faint } else { Style::new() };
    match column {
        Column::Target => {
            let words = Reach::of_rule(rule, &state.snapshot.processes).words;
            let words = words.strip_prefix("the ").unwrap_or(&words).to_owned();
            (words, theme.title)
        }
        Column::Limit(direction) => match *rule.limits.get(direction) {
            None if rule.is_high() => (rule.priority.to_string(), theme.limited),
            None => match *rule.at_least.get(direction) {
                Some(least) => (format!("min {}", least.exact()), theme.limited),
                None => ("-".into(), theme.faint),
            },
            Some(Rate::ZERO) => ("blocked".into(), theme.blocked),
            Some(rate) => (units.figure(rate), theme.limited),
        },
        Column::Traffic => (rule.scope.to_string(), faint_if(rule.scope == Scope::All)),
        Column::Sharing => (sharing(limit).into(), Style::new()),
        Column::Processes => (count(limit.members, width), faint_if(limit.members == 0)),
        Column::Achieved(direction) => {
            let rate = *effect.achieved.get(direction);
            (units.figure(rate), faint_if(rate == Rate::ZERO))
        }
        Column::Delay => match effect.delay.download.max(effect.delay.upload).as_millis() {
            0 => ("-".into(), theme.faint),
            delay => (format!("{delay} ms"), Style::new()),
        },
        Column::Dropped => {
            let dropped = effect.dropped.map(crate::rate::Bytes::count);
            let sum = dropped.download.saturating_add(dropped.upload);
            (
                units.amount(crate::rate::Bytes::new(sum)),
                faint_if(sum == 0),
            )
        }
        Column::Since => (age(limit.since, state.now), theme.faint),
        Column::From => match &rule.origin {
            Origin::Hand => ("here".into(), theme.faint),
            Origin::File(name) => (name.to_string(), Style::new()),
        },
    }
}

fn sharing(limit: &LimitRow) -> &'static str {
    match (&limit.rule.target, limit.rule.sharing) {
        (crate::model::target::Target::Process(_), _) => "-",
        (_, Sharing::Each) => "each",
        (_, Sharing::Shared) => "shared",
    }
}

/// A limit in a sentence, for what the list has no room for.
pub fn in_full(state: &State, limit: &LimitRow, theme: &Theme) -> (String, Style) {
    if let Some(why) = &limit.effect.not_enforced {
        return (format!("! not enforced: {why}"), theme.warning);
    }
    let reach = Reach::of_rule(&limit.rule, &state.snapshot.processes);
    let whom = reach.whom(limit.rule.sharing);
    let may = may(limit.rule.terms(), state.preferences.units);
    let most = match limit.rule.ceiling.is_unlimited() {
        true => String::new(),
        false => {
            let units = state.preferences.units;
            let ceiling = terms(Terms::limits(limit.rule.ceiling), units);
            format!(", limited{ceiling} in any case")
        }
    };
    let how = limit.effect.manner();
    (format!(" {whom} {may}{most} · {how}"), theme.faint)
}
