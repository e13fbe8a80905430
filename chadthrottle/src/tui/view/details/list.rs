//! The list of a process's connections.

use std::{borrow::Cow, time::Duration};

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    super::{
        fitting::fit,
        text::{cell, cut},
        theme::Theme,
    },
    Parts, connections,
};
use crate::{
    model::connections::Connection,
    rate::{Rate, Units},
    tui::{
        Phase,
        state::{DetailsPane, State},
    },
};

/// A column of the list of connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Protocol,
    Local,
    Remote,
    State,
    Rate(Direction),
    RoundTrip,
    Retransmits,
}

/// The widest address with its port: `[2001:db8:1111:2222:3333:4444:5555:6666]:65535`.
const WIDEST_ADDRESS: u16 = 47;

/// An IPv4 address with its port.
const ADDRESS: u16 = 21;

/// Where there is little room, only the port of this machine's end.
const PORT: u16 = 6;

/// Those that fit, with their widths.
fn columns(width: u16, units: Units) -> Vec<(Column, u16)> {
    use Column::{Local, Protocol, Rate, Remote, Retransmits, RoundTrip, State};
    let rate = units.width();
    let mut columns = vec![
        (Protocol, 5),
        (Local, PORT),
        (Remote, ADDRESS),
        (State, 9),
        (Rate(Direction::Download), rate),
        (Rate(Direction::Upload), rate),
        (RoundTrip, 7),
        (Retransmits, 6),
    ];
    let giving_way = [
        Local,
        Protocol,
        State,
        Retransmits,
        RoundTrip,
        Rate(Direction::Upload),
    ];
    // The other end says more than this one.
    let mut spare = fit(&mut columns, width, giving_way);
    for (wanted, most, whole) in [
        (Remote, 30, false),
        (Local, ADDRESS, true),
        (Remote, WIDEST_ADDRESS, false),
        (Local, WIDEST_ADDRESS, false),
    ] {
        for (_, width) in columns.iter_mut().filter(|(column, _)| *column == wanted) {
            let by = most.saturating_sub(*width);
            if !whole || by <= spare {
                *width += by.min(spare);
                spare -= by.min(spare);
            }
        }
    }
    columns
}

impl Column {
    const fn is_number(self) -> bool {
        matches!(self, Self::Rate(_) | Self::RoundTrip | Self::Retransmits)
    }
}

/// Draws it.
pub(super) fn render(
    frame: &mut Frame,
    parts: &Parts,
    state: &State,
    open: &DetailsPane,
    theme: &Theme,
) {
    let units = state.preferences.units;
    let columns = columns(parts.headings.width, units);
    let heading = |column| match column {
        Column::Protocol => "PROTO",
        Column::Local => "LOCAL",
        Column::Remote => "REMOTE",
        Column::State => "STATE",
        Column::Rate(Direction::Download) => "DOWN/s",
        Column::Rate(Direction::Upload) => "UP/s",
        Column::RoundTrip => "RTT",
        Column::Retransmits => "RESENT",
    };
    let headings = columns
        .iter()
        .map(|&(column, width)| cell(heading(column), width, column.is_number()));
    frame.render_widget(
        Line::from(headings.collect::<String>()).style(theme.title),
        parts.headings,
    );
    let known = connections(state);
    let mut shown: Vec<&Connection> = known.iter().collect();
    shown.sort_by_key(|connection| order(connection));
    let page = usize::from(parts.connections.height);
    let first = open.scroll.min(known.len().saturating_sub(page));
    let mut lines: Vec<Line> = Vec::new();
    for connection in shown.into_iter().skip(first).take(page) {
        let spans = columns.iter().map(|&(column, width)| {
            let (text, style) = content(state, connection, column, width, theme);
            Span::styled(cell(&text, width, column.is_number()), style)
        });
        lines.push(Line::from_iter(spans));
    }
    if known.is_empty() {
        lines.push(Line::styled(nothing(state, open), theme.faint));
    }
    for (line, y) in lines
        .into_iter()
        .zip(parts.connections.top()..parts.connections.bottom())
    {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..parts.connections
            },
        );
    }
}

/// Why there is nothing in the list.
fn nothing(state: &State, open: &DetailsPane) -> String {
    let details = state.snapshot.watched.details.as_ref();
    match details.filter(|details| details.key == open.last.key) {
        Some(details) => match &details.missing {
            Some(why) => format!("connections can't be read: {why}"),
            None => "no connections".into(),
        },
        None if state.frozen.is_some() => "connections are not read while frozen".into(),
        None if matches!(state.phase, Phase::Stopped(_)) => "not known any more".into(),
        None => "reading…".into(),
    }
}

type Order = (
    std::cmp::Reverse<u64>,
    std::cmp::Reverse<u64>,
    std::net::SocketAddr,
);

/// What moves most first, then those that are connected, then by address.
fn order(connection: &Connection) -> Order {
    let sum = |a: u64, b: u64| a.saturating_add(b);
    let rate = connection.rate.map_or(0, |rate| {
        sum(
            rate.download.bytes_per_second(),
            rate.upload.bytes_per_second(),
        )
    });
    let bytes = connection
        .bytes
        .map_or(0, |bytes| sum(bytes.download.count(), bytes.upload.count()));
    let connected = u64::from(connection.remote.is_some());
    (
        std::cmp::Reverse(rate),
        std::cmp::Reverse(bytes.saturating_add(connected)),
        connection.remote.unwrap_or(connection.local),
    )
}

fn content<'a>(
    state: &'a State,
    connection: &'a Connection,
    column: Column,
    width: u16,
    theme: &Theme,
) -> (Cow<'a, str>, Style) {
    let units = state.preferences.units;
    let plain = Style::new();
    let unknown = (Cow::Borrowed("-"), theme.faint);
    match column {
        Column::Protocol => (connection.protocol.name().into(), theme.faint),
        Column::Local if width < ADDRESS => {
            (format!(":{}", connection.local.port()).into(), theme.faint)
        }
        Column::Local => (address(state, connection.local, width).into(), theme.faint),
        Column::Remote => match connection.remote {
            Some(remote) => (address(state, remote, width).into(), plain),
            None => ("*".into(), theme.faint),
        },
        Column::State => (Cow::Borrowed(&*connection.state), theme.faint),
        Column::Rate(direction) => match &connection.rate {
            Some(rate) => {
                let rate = *rate.get(direction);
                let style = if rate == Rate::ZERO {
                    theme.faint
                } else {
                    plain
                };
                (units.figure(rate).into(), style)
            }
            None => unknown,
        },
        Column::RoundTrip => match connection.round_trip {
            Some(time) => (milliseconds(time).into(), plain),
            None => unknown,
        },
        Column::Retransmits => match connection.retransmits {
            Some(0) => ("0".into(), theme.faint),
            Some(count) => (count.to_string().into(), plain),
            None => unknown,
        },
    }
}

/// An address, or its name, and the port; where there is no room for both, the port stays whole.
fn address(state: &State, address: std::net::SocketAddr, width: u16) -> String {
    let name = state.names.get(&address.ip()).filter(|_| state.show_names);
    let whole = match name {
        Some(Some(name)) => format!("{name}:{}", address.port()),
        _ => address.to_string(),
    };
    match whole.rsplit_once(':') {
        Some((host, port)) if whole.len() > usize::from(width) => {
            let room = width.saturating_sub(port.len() as u16 + 1);
            format!("{}:{port}", cut(host, room))
        }
        _ => whole,
    }
}

fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        0.0..9.95 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}
