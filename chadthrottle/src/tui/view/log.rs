//! Notices and log lines, each scrolled on its own.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
};

use super::{
    Areas, pane,
    text::{cut, wrap},
    theme::Theme,
};
use crate::{
    model::notice::Severity,
    tui::{
        notices::Entry,
        state::{LogPane, LogPart, State},
    },
};

/// From this height on both parts are shown at once.
const ROOM_FOR_BOTH: u16 = 12;

/// Lines of a part, and lines of it shown at once.
pub fn lines_and_page(state: &State, part: LogPart) -> [usize; 2] {
    let theme = Theme::new(super::theme::Palette::Plain);
    let areas = areas(Areas::of_size(state.size).body, part);
    let area = pane::inner(areas[part as usize]);
    [
        lines(state, part, area.width, &theme).len(),
        usize::from(area.height),
    ]
}

/// Where the parts are: notices, lines. The one without focus may have no room.
fn areas(area: Rect, focus: LogPart) -> [Rect; 2] {
    let notices = match (area.height >= ROOM_FOR_BOTH, focus) {
        (true, _) => Constraint::Percentage(35),
        (false, LogPart::Notices) => Constraint::Percentage(100),
        (false, LogPart::Lines) => Constraint::Length(0),
    };
    Layout::vertical([notices, Constraint::Fill(1)]).areas(area)
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, open: &LogPane, theme: &Theme) {
    let areas = areas(area, open.focus);
    for part in [LogPart::Notices, LogPart::Lines] {
        let area = areas[part as usize];
        if area.height < 3 {
            continue;
        }
        let border = match open.focus == part {
            true => theme.key,
            false => theme.border,
        };
        let inner = pane::inner(area);
        let lines = lines(state, part, inner.width, theme);
        let last_first = lines.len().saturating_sub(usize::from(inner.height));
        let first = last_first.saturating_sub(open.back[part as usize]);
        let title = cut(&title(state, part), area.width.saturating_sub(2));
        pane::render(frame, area, &title, lines, first, border, theme);
    }
}

fn title(state: &State, part: LogPart) -> String {
    match (part, &state.log_path) {
        (LogPart::Notices, _) => " Notices ".into(),
        (LogPart::Lines, Some(path)) => format!(" Log: {} ", path.display()),
        (LogPart::Lines, None) => " Log ".into(),
    }
}

fn lines(state: &State, part: LogPart, width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let lines: Vec<Line<'static>> = match part {
        LogPart::Notices => {
            let notices = state.notices.all().iter();
            notices
                .flat_map(|notice| self::notice(notice, width, theme))
                .collect()
        }
        LogPart::Lines => {
            let lines = state.log.iter();
            lines
                .flat_map(|line| wrap(line, width))
                .map(Line::from)
                .collect()
        }
    };
    if lines.is_empty() {
        let text = match part {
            LogPart::Notices => "nothing has happened",
            LogPart::Lines => "no line has been logged; RUST_LOG=debug logs more",
        };
        return wrap(text, width)
            .into_iter()
            .map(|l| Line::styled(l, theme.faint))
            .collect();
    }
    lines
}

fn notice(notice: &Entry, width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let time = jiff::Timestamp::try_from(notice.time)
        .map(|time| time.strftime("%H:%M:%SZ").to_string())
        .unwrap_or_default();
    let (mark, style) = match notice.severity {
        Severity::Info => ("  ", theme.faint),
        Severity::Warning => ("! ", theme.warning),
    };
    let text = format!("{time} {mark}{}", notice.text);
    wrap(&text, width)
        .into_iter()
        .map(|line| Line::styled(line, style))
        .collect()
}
