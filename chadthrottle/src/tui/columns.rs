//! The table's columns: which fit, and how wide they are.

use chadthrottle_common::traffic::Direction;

use super::rows::View;
use crate::rate::Units;

/// The name has at least so many columns before another column is shown beside it.
const NAME: u16 = 10;

/// A process's name has at most 15 bytes.
const WIDEST_NAME: u16 = 16;

/// Columns of a limit where there is little room: `↓1.5M ↑250K`.
const SHORT_LIMIT: u16 = 11;

/// From this width on the part of a limit that is used is drawn beside the figure.
pub const GAUGE: u16 = 10;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// Tagged; and limited, at its limit, blocked, not enforced or ended: a character each.
    Mark,
    /// The process's id; of a group, how many processes it has.
    Id,
    /// Its user.
    User,
    /// The process's name, or the group's.
    Name,
    /// The unit of its cgroup.
    Unit,
    /// Its open sockets.
    Connections,
    /// Payload a second.
    Rate(Direction),
    /// Payload so far.
    Total(Direction),
    /// Its limit.
    Limit,
    /// What it gets of its limit.
    OfLimit,
    /// The last minute.
    History,
    /// Its program file, or its whole cgroup path.
    Path,
}

use Column::{Connections, History, Id, Limit, Mark, Name, OfLimit, Path, Rate, Total, Unit, User};
use Direction::{Download, Upload};

/// As they stand from left to right.
const IN_PLACE: &[Column] = &[
    Mark,
    Id,
    User,
    Name,
    Connections,
    Rate(Download),
    Rate(Upload),
    Total(Download),
    Total(Upload),
    Limit,
    OfLimit,
    History,
    Unit,
    Path,
];

/// The first to be shown first; as a terminal narrows they give way from the last. Those in one
/// step come and go together.
const BY_WORTH: &[&[Column]] = &[
    &[Mark, Name, Rate(Download), Rate(Upload)],
    &[Id],
    &[Limit],
    &[OfLimit],
    &[Connections],
    &[History],
    &[User],
    &[Unit],
    &[Total(Download), Total(Upload)],
];

/// What the table can be sorted by, in the order in which a key goes through it.
const SORTABLE: &[Column] = &[
    Rate(Download),
    Rate(Upload),
    Total(Download),
    Total(Upload),
    Limit,
    OfLimit,
    Connections,
    Id,
    Name,
    User,
    Unit,
];

impl Column {
    /// Its heading, where there are so many columns for it.
    pub fn heading(self, view: View, width: u16) -> &'static str {
        match (self, view) {
            (Mark, _) => "",
            (Id, View::Processes) => "PID",
            (Id, _) => "PROCS",
            (User, _) => "USER",
            (Name, View::Processes | View::Programs) => "PROGRAM",
            (Name, View::Units) => "UNIT",
            (Name, View::Users) => "USER",
            (Connections, _) if width > 4 => "CONNS",
            (Connections, _) => "CONN",
            (Rate(Download), _) => "DOWN/s",
            (Rate(Upload), _) => "UP/s",
            (Total(Download), _) => "DOWN",
            (Total(Upload), _) => "UP",
            (Limit, _) => "LIMIT",
            (OfLimit, _) => "USED",
            (History, _) => "LAST MINUTE",
            (Unit, _) => "UNIT",
            (Path, View::Units) => "CGROUP",
            (Path, _) => "PATH",
        }
    }

    /// Numbers are right-aligned.
    pub const fn is_number(self) -> bool {
        matches!(self, Id | Connections | Rate(_) | Total(_) | OfLimit)
    }

    /// What it is called where preferences are kept.
    pub const fn key(self) -> &'static str {
        match self {
            Mark => "mark",
            Id => "id",
            User => "user",
            Name => "name",
            Unit => "unit",
            Connections => "connections",
            Rate(Download) => "download",
            Rate(Upload) => "upload",
            Total(Download) => "total-download",
            Total(Upload) => "total-upload",
            Limit => "limit",
            OfLimit => "of-limit",
            History => "history",
            Path => "path",
        }
    }

    /// The column that [`Self::key`] names, if it can be sorted by.
    pub fn from_key(key: &str) -> Option<Self> {
        let mut columns = SORTABLE.iter().copied();
        columns.find(|column| column.key() == key)
    }

    /// Whether the table can be sorted by it.
    pub fn is_sortable(self) -> bool {
        SORTABLE.contains(&self)
    }

    /// The column that a key sorts by after this one, or before it; nothing is the order by what
    /// moves most.
    pub fn after(by: Option<Self>, forward: bool) -> Option<Self> {
        let at = by.and_then(|by| SORTABLE.iter().position(|column| *column == by));
        let next = match (at, forward) {
            (None, true) => 0,
            (None, false) => SORTABLE.len() - 1,
            (Some(at), true) => at + 1,
            (Some(0), false) => return None,
            (Some(at), false) => at - 1,
        };
        SORTABLE.get(next).copied()
    }

    /// Whether it says anything in this view.
    const fn belongs(self, view: View) -> bool {
        match self {
            User | Unit => matches!(view, View::Processes),
            Path => !matches!(view, View::Users),
            _ => true,
        }
    }
}

/// What the table shows, as far as its columns depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// What a row is.
    pub view: View,
    /// Digits of the largest process id.
    pub pid_digits: u16,
    /// What amounts are shown in.
    pub units: Units,
}

/// The columns that fit, with their widths, from left to right; a space stands between them.
pub fn fitting(width: u16, layout: Layout) -> Vec<(Column, u16)> {
    let Layout { view, units, .. } = layout;
    let least = |column: Column| match column {
        Mark => 2,
        Id => layout.pid_digits,
        User => 8,
        Name => NAME,
        Unit => 14,
        Connections => 4,
        Rate(_) | Total(_) => units.width(),
        Limit => SHORT_LIMIT.max(units.width() + 1),
        OfLimit => 4,
        History => 11,
        Path => 20,
    };
    let mut shown: Vec<Column> = Vec::new();
    // No gap after the last.
    let mut left_over = i32::from(width) + 1;
    for step in BY_WORTH {
        let step = step.iter().filter(|column| column.belongs(view));
        let needed: i32 = step.clone().map(|c| i32::from(least(*c)) + 1).sum();
        if needed > left_over && !shown.is_empty() {
            break;
        }
        left_over -= needed;
        shown.extend(step);
    }
    let mut widths: Vec<(Column, u16)> = IN_PLACE
        .iter()
        .filter(|column| shown.contains(column))
        .map(|column| (*column, least(*column)))
        .collect();
    // What is left over goes where it is missed most.
    let mut spare = left_over.max(0) as u16;
    let mut widen = |wanted: Column, to: u16, whole: bool| {
        for (column, width) in &mut widths {
            let by = to.saturating_sub(*width);
            if *column == wanted && (!whole || spare >= by) {
                let more = by.min(spare);
                *width += more;
                spare -= more;
            }
        }
    };
    let name = match view {
        View::Processes => WIDEST_NAME,
        _ => 32,
    };
    widen(Name, WIDEST_NAME, false);
    widen(Limit, 2 * units.width() + 3, true);
    widen(Connections, 5, true);
    widen(Id, layout.pid_digits + 1, true);
    widen(OfLimit, GAUGE, true);
    widen(User, 12, true);
    widen(Name, name, false);
    widen(History, 30, false);
    widen(Unit, 28, false);
    if Path.belongs(view) && spare > least(Path) {
        widths.push((Path, spare - 1));
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(view: View, units: Units) -> Layout {
        Layout {
            view,
            pid_digits: 7,
            units,
        }
    }

    #[test]
    fn columns_never_overflow_and_give_way_in_a_fixed_order() {
        for view in View::ALL {
            for units in Units::ALL {
                let mut shown_before = usize::MAX;
                for width in (40..260).rev() {
                    let columns = fitting(width, layout(view, units));
                    let needed: u16 = columns.iter().map(|(_, width)| width + 1).sum();
                    let whole = columns.iter().any(|(column, _)| *column == Id);
                    assert!(
                        needed <= width + 1 || !whole,
                        "{view:?} {units:?} {width}: {columns:?}"
                    );
                    assert!(columns.len() <= shown_before, "{width}");
                    shown_before = columns.len();
                }
            }
        }
    }

    #[test]
    fn what_matters_most_is_there_at_forty_columns() {
        let columns = fitting(40, layout(View::Processes, Units::DecimalBytes));
        let shown: Vec<Column> = columns.into_iter().map(|(column, _)| column).collect();
        assert_eq!(shown, [Mark, Id, Name, Rate(Download), Rate(Upload)]);
    }

    #[test]
    fn a_key_goes_through_all_orders_and_back() {
        let mut by = None;
        for column in SORTABLE {
            by = Column::after(by, true);
            assert_eq!(by, Some(*column));
            assert_eq!(Column::from_key(column.key()), Some(*column));
        }
        assert_eq!(Column::after(by, true), None);
        assert_eq!(Column::after(None, false), by);
        assert_eq!(Column::after(Some(SORTABLE[0]), false), None);
    }
}
