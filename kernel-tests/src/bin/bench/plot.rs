//! Rate over time, as SVG by hand: a plotting library would draw for one background, and this must
//! look well on a light and on a dark one.

use std::{fmt::Write as _, time::Duration};

use crate::{
    cell::{Case, Cell, SETTLING, WINDOW},
    table::mean,
};

/// A picture of several panels.
pub struct Plot {
    /// Its file is so called, with `.svg`.
    pub name: &'static str,
    /// What the lines are, in the order of their colours.
    pub lines: Vec<String>,
    /// Panels from left to right, then down.
    pub panels: Vec<Panel>,
}

/// How many windows of a case's results make one of its diagram.
fn together(case: &Case) -> usize {
    match case.limit {
        0..1_000_000 => SLOW,
        _ => 1,
    }
}

/// A diagram.
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// For each line rates in percent of the limit, one for each window; nothing if it was not
    /// measured.
    pub rates: Vec<Option<Vec<f64>>>,
    /// How long a window is.
    pub window: Duration,
}

/// Below a megabyte a second a window of 100 ms holds a few segments: so many are taken together.
const SLOW: usize = 5;

const COLUMNS: usize = 2;
// All in pixels.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 58.0;
const ABOVE: f64 = 30.0;
const BELOW: f64 = 34.0;
const LEGEND: f64 = 34.0;
/// The most that is drawn, in percent of the limit.
const MOST: f64 = 200.0;

/// Middling colours, to be told apart on both backgrounds and by most eyes (after Okabe and Ito).
const STYLE: &str = "\
text { font: 12px sans-serif; fill: #768390; }
.title { font-weight: bold; }
.frame, .grid, .limit { fill: none; stroke: #8c959f; }
.grid { stroke-opacity: .35; }
.limit { stroke-dasharray: 5 4; }
.early { fill: #8c959f; fill-opacity: .12; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.l0 { stroke: #0072b2; } .l1 { stroke: #d55e00; } .l2 { stroke: #009e73; } .l3 { stroke: #cc79a7; }
@media (prefers-color-scheme: dark) {
  text { fill: #adbac7; }
  .l0 { stroke: #56b4e9; } .l1 { stroke: #e69f00; } .l2 { stroke: #2fc998; } .l3 { stroke: #e39bc4; }
}
";

impl Plot {
    /// For each panel, the cells that are its lines.
    pub fn of_cells(
        name: &'static str,
        lines: Vec<String>,
        cells: &[Cell],
        panels: Vec<(String, Vec<Case>)>,
    ) -> Self {
        let rates = |case: &Case| {
            let cell = cells.iter().find(|cell| cell.case == *case)?;
            let outcome = cell.outcome.as_ref().ok()?;
            let percent = |rates: &[u64]| {
                let rates: Vec<f64> = rates.iter().map(|rate| *rate as f64).collect();
                mean(&rates) / case.limit as f64 * 100.0
            };
            let windows = outcome.rates.chunks_exact(together(case));
            Some(windows.map(percent).collect())
        };
        let panels = panels
            .into_iter()
            .map(|(title, cases)| Panel {
                title,
                rates: cases.iter().map(rates).collect(),
                window: WINDOW * cases.first().map_or(1, together) as u32,
            })
            .filter(|panel| panel.rates.iter().any(Option::is_some))
            .collect();
        Self {
            name,
            lines,
            panels,
        }
    }

    /// The picture's text; nothing if there is nothing to show.
    pub fn svg(&self) -> Option<String> {
        if self.panels.is_empty() {
            return None;
        }
        let columns = COLUMNS.min(self.panels.len());
        let rows = self.panels.len().div_ceil(columns);
        let width = columns as f64 * (LEFT + WIDTH) + 16.0;
        let height = LEGEND + rows as f64 * (ABOVE + HEIGHT + BELOW);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\">\n<style>\n{STYLE}</style>\n"
        );
        let mut x = LEFT;
        for (number, name) in self.lines.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<path class=\"line l{number}\" d=\"M{x} 16h22\"/>\
                 <text x=\"{}\" y=\"20\">{name}</text>",
                x + 28.0
            );
            x += 52.0 + name.len() as f64 * 7.0;
        }
        let _ = writeln!(
            svg,
            "<path class=\"limit\" d=\"M{x} 16h22\"/><text x=\"{}\" y=\"20\">the limit</text>\
             <rect class=\"early\" x=\"{}\" y=\"9\" width=\"22\" height=\"14\"/>\
             <text x=\"{}\" y=\"20\">not judged</text>",
            x + 28.0,
            x + 100.0,
            x + 128.0
        );
        for (number, panel) in self.panels.iter().enumerate() {
            let left = (number % columns) as f64 * (LEFT + WIDTH) + LEFT;
            let top = LEGEND + (number / columns) as f64 * (ABOVE + HEIGHT + BELOW) + ABOVE;
            let _ = writeln!(svg, "<g transform=\"translate({left} {top})\">");
            panel.draw(&mut svg);
            svg.push_str("</g>\n");
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let windows = self.rates.iter().flatten().map(Vec::len).max();
        let time = self.window.as_secs_f64() * windows.unwrap_or(1) as f64;
        let x = |seconds: f64| seconds / time * WIDTH;
        let y = |percent: f64| HEIGHT - percent.clamp(0.0, MOST) / MOST * HEIGHT;
        // Writing to a string can't fail.
        let mut say = |text: String| svg.push_str(&text);
        say(format!(
            "<text class=\"title\" y=\"-8\">{}</text>\n\
             <rect class=\"early\" width=\"{}\" height=\"{HEIGHT}\"/>\n",
            self.title,
            x(SETTLING.as_secs_f64()),
        ));
        for percent in [0.0, 50.0, 100.0, 150.0, 200.0] {
            let class = if percent == 100.0 { "limit" } else { "grid" };
            let y = y(percent);
            say(format!("<path class=\"{class}\" d=\"M0 {y}h{WIDTH}\"/>"));
            say(format!(
                "<text x=\"-6\" y=\"{}\" text-anchor=\"end\">{percent} %</text>\n",
                y + 4.0
            ));
        }
        let mut second = 0.0;
        while second <= time {
            say(format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{second} s</text>\n",
                x(second),
                HEIGHT + 16.0
            ));
            second += 2.0;
        }
        for (number, rates) in self.rates.iter().enumerate() {
            let Some(rates) = rates else { continue };
            let mut path = String::new();
            for (index, percent) in rates.iter().enumerate() {
                let middle = (index as f64 + 0.5) * self.window.as_secs_f64();
                let to = if index == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{to}{:.1} {:.1}", x(middle), y(*percent));
            }
            say(format!("<path class=\"line l{number}\" d=\"{path}\"/>\n"));
        }
        say(format!(
            "<rect class=\"frame\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
        ));
    }
}
