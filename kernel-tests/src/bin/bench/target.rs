//! What is promised of cells, and whether it is kept.

use std::ops::RangeInclusive;

use crate::{
    cell::{Cell, rate},
    disturbance::QUIET,
    table::{median, worst},
};

/// A promise.
pub struct Target {
    /// Of goodput, in percent of the limit.
    pub goodput: RangeInclusive<f64>,
    /// Of the median distance of goodput from the limit, in percent of it.
    pub median_error: Option<f64>,
    /// Of the segments sent again, in percent of all.
    pub repeated: Option<f64>,
    /// Of the coefficient of variation, from 1.25 MB/s up.
    pub variation: Option<f64>,
}

/// From which limit on a variation is promised: below, a window holds a few segments.
const EVEN_FROM: u64 = 1_250_000;

/// One figure of a cell, as it is shown, and whether it keeps the promise.
struct Shown {
    text: String,
    met: bool,
}

impl Target {
    fn goodput(&self, cell: &Cell) -> Option<Shown> {
        // Judged as it is shown.
        let percent = (cell.percent()? * 10.0).round() / 10.0;
        Some(Shown {
            text: format!("{percent:.1} %"),
            met: self.goodput.contains(&percent),
        })
    }

    fn repeated(&self, cell: &Cell) -> Option<Shown> {
        let share = cell.outcome.as_ref().ok()?.repeated?;
        let percent = (share * 10_000.0).round() / 100.0;
        Some(Shown {
            text: format!("{percent:.2} %"),
            met: self.repeated.is_none_or(|most| percent <= most),
        })
    }

    fn variation(&self, cell: &Cell) -> Option<Shown> {
        let variation = cell.outcome.as_ref().ok()?.variation;
        let variation = (variation * 100.0).round() / 100.0;
        let promised = self.variation.filter(|_| cell.case.limit >= EVEN_FROM);
        Some(Shown {
            text: format!("{variation:.2}"),
            met: promised.is_none_or(|most| variation <= most),
        })
    }

    /// A figure for a table, bold where the promise is broken.
    pub fn show(&self, figure: Figure, cell: Option<&Cell>) -> String {
        let Some(cell) = cell else {
            return "–".to_owned();
        };
        if cell.outcome.is_err() {
            return "failed".to_owned();
        }
        match self.figure(figure, cell) {
            None => "–".to_owned(),
            Some(Shown { text, met: true }) => text,
            Some(Shown { text, met: false }) => format!("**{text}**"),
        }
    }

    fn figure(&self, figure: Figure, cell: &Cell) -> Option<Shown> {
        match figure {
            Figure::Goodput => self.goodput(cell),
            Figure::Repeated => self.repeated(cell),
            Figure::Variation => self.variation(cell),
        }
    }

    /// What became of each promise, as a list.
    pub fn verdict(&self, cells: &[&Cell]) -> String {
        let mut text = String::new();
        let range = format!("{} to {} %", self.goodput.start(), self.goodput.end());
        let promises = [
            (Figure::Goodput, Some(format!("goodput within {range}"))),
            (
                Figure::Repeated,
                self.repeated
                    .map(|most| format!("at most {most} % of the segments sent again")),
            ),
            (
                Figure::Variation,
                self.variation.map(|most| {
                    format!(
                        "coefficient of variation at most {most} from {}",
                        rate(EVEN_FROM)
                    )
                }),
            ),
        ];
        for (figure, promise) in promises {
            let Some(promise) = promise else { continue };
            let judged: Vec<_> = cells
                .iter()
                .filter(|cell| figure != Figure::Variation || cell.case.limit >= EVEN_FROM)
                .filter_map(|cell| Some((cell, self.figure(figure, cell)?)))
                .collect();
            let missed: Vec<_> = judged
                .iter()
                .filter(|(_, shown)| !shown.met)
                .map(|(cell, shown)| format!("{} ({})", name(cell), shown.text))
                .collect();
            text.push_str(&format!(
                "- {promise}: {} of {} cells",
                judged.len() - missed.len(),
                judged.len()
            ));
            match missed.as_slice() {
                [] => text.push('\n'),
                missed => text.push_str(&format!("; **missed** by {}\n", missed.join("; "))),
            }
        }
        if let Some(most) = self.median_error {
            let errors: Vec<f64> = (cells.iter())
                .filter_map(|cell| Some((cell.percent()? - 100.0).abs()))
                .collect();
            let error = median(&errors);
            let verdict = if error <= most { "met" } else { "**missed**" };
            text.push_str(&format!(
                "- median error at most {most} %: {error:.2} %, {verdict}\n"
            ));
        }
        for cell in cells {
            if let Err(error) = &cell.outcome {
                text.push_str(&format!("- **failed**: {}: {error}\n", name(cell)));
            }
        }
        text
    }
}

/// How quiet the machine was.
pub fn quietness(cells: &[&Cell]) -> String {
    let late: Vec<f64> = cells.iter().filter_map(|cell| cell.lateness()).collect();
    if late.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "How late the machine woke a sleeper (99th percentile during a cell) tells how quiet it \
         was: {:.0} ms in the median over cells, at most {:.0} ms. ",
        median(&late),
        worst(&late)
    );
    let disturbed: Vec<_> = (cells.iter())
        .filter(|cell| cell.is_disturbed())
        .map(|cell| name(cell))
        .collect();
    let bound = QUIET.as_millis();
    if disturbed.is_empty() {
        text.push_str(&format!("More than {bound} ms in none.\n"));
    } else {
        text.push_str(&format!(
            "**More than {bound} ms**, also when measured again, in {} of {} cells: {}.\n",
            disturbed.len(),
            cells.len(),
            disturbed.join("; ")
        ));
    }
    text
}

/// What a table may show of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// In percent of the limit.
    Goodput,
    /// In percent of all segments.
    Repeated,
    /// The coefficient.
    Variation,
}

impl Figure {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Goodput, Self::Repeated, Self::Variation];

    /// The head of a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Goodput => "goodput",
            Self::Repeated => "sent again",
            Self::Variation => "CoV",
        }
    }
}

/// A cell in a list of the missed.
fn name(cell: &Cell) -> String {
    let case = cell.case;
    format!(
        "{}, {} ms, {}{}",
        rate(case.limit),
        case.round_trip,
        stream(cell),
        match case.mechanism.is_ours() {
            true => String::new(),
            false => format!(", {}", case.mechanism),
        }
    )
}

/// What flows in a cell.
pub fn stream(cell: &Cell) -> String {
    let case = cell.case;
    let flows = match case.flows {
        1 => String::new(),
        flows => format!("{flows} × "),
    };
    let family = match case.family {
        kernel_tests::lab::Family::V4 => "",
        kernel_tests::lab::Family::V6 => ", IPv6",
    };
    format!(
        "{} {flows}{}{family}",
        format!("{:?}", case.direction).to_lowercase(),
        case.traffic
    )
}

#[cfg(test)]
mod tests {
    use kernel_tests::{flow::Direction, lab::Family};

    use super::*;
    use crate::{
        cell::{Case, Outcome, Traffic},
        mechanism::Mechanism,
    };

    fn cell(limit: u64, goodput: f64, variation: f64, repeated: f64) -> Cell {
        Cell {
            case: Case {
                mechanism: Mechanism::Chadthrottle,
                limit,
                round_trip: 20,
                traffic: Traffic::Cubic,
                flows: 8,
                direction: Direction::Upload,
                family: Family::V4,
            },
            outcome: Ok(Outcome {
                goodput,
                variation,
                repeated: Some(repeated),
                lateness: 0.0,
                rates: Vec::new(),
            }),
        }
    }

    #[test]
    fn what_is_missed_is_named_and_bold() {
        let target = Target {
            goodput: 98.0..=102.0,
            median_error: Some(1.0),
            repeated: Some(0.1),
            variation: Some(0.15),
        };
        let good = cell(1_250_000, 1_250_000.0 * 0.9796, 0.154, 0.00104);
        let bad = cell(1_250_000, 1_250_000.0 * 1.0206, 0.156, 0.00106);
        // Of low rates no evenness is promised.
        let slow = cell(125_000, 125_000.0, 0.9, 0.0);
        assert_eq!(target.show(Figure::Goodput, Some(&good)), "98.0 %");
        assert_eq!(target.show(Figure::Goodput, Some(&bad)), "**102.1 %**");
        assert_eq!(target.show(Figure::Variation, Some(&slow)), "0.90");
        let expected = "\
- goodput within 98 to 102 %: 2 of 3 cells; **missed** by 1.25 MB/s, 20 ms, upload 8 × CUBIC (102.1 %)
- at most 0.1 % of the segments sent again: 2 of 3 cells; **missed** by 1.25 MB/s, 20 ms, upload 8 × CUBIC (0.11 %)
- coefficient of variation at most 0.15 from 1.25 MB/s: 1 of 2 cells; **missed** by 1.25 MB/s, 20 ms, upload 8 × CUBIC (0.16)
- median error at most 1 %: 2.04 %, **missed**
";
        assert_eq!(target.verdict(&[&good, &bad, &slow]), expected);
        let failed = Cell {
            outcome: Err("it died".to_owned()),
            ..slow
        };
        assert_eq!(target.show(Figure::Goodput, Some(&failed)), "failed");
        assert!(
            target
                .verdict(&[&failed])
                .ends_with("- **failed**: 125 kB/s, 20 ms, upload 8 × CUBIC: it died\n")
        );
    }
}
