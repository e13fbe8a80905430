//! What is known of a process, or of a group of them: the columns of a table.

use chadthrottle_common::traffic::Direction;

use clap::{ValueEnum, builder::PossibleValue};

use super::rows::View;

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

    /// What it is called where preferences are kept, and on the command line.
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
}

impl ValueEnum for Column {
    fn value_variants<'a>() -> &'a [Self] {
        SORTABLE
    }

    /// By the names of `top --by` and of the headings, too.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let aliases: &[&str] = match self {
            Id => &["pid", "processes"],
            Name => &["program"],
            Unit => &["cgroup"],
            OfLimit => &["used"],
            _ => &[],
        };
        Some(PossibleValue::new(self.key()).aliases(aliases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
