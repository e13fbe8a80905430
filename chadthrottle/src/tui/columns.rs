//! The table's columns on the screen: which fit, and how wide they are.

use chadthrottle_common::traffic::Direction;

use crate::{
    listing::{column::Column, rows::View},
    rate::Units,
};

/// The name has at least so many columns before another column is shown beside it.
const NAME: u16 = 10;

/// A process's name has at most 15 bytes.
const WIDEST_NAME: u16 = 16;

/// Columns of a limit where there is little room: `↓1.5M ↑250K`.
const SHORT_LIMIT: u16 = 11;

/// From this width on the part of a limit that is used is drawn beside the figure.
pub const GAUGE: u16 = 10;

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

impl Column {
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
}
