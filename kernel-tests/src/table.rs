//! Tables, and what becomes of several measurements.

/// A table in Markdown.
pub struct Table {
    text: String,
}

impl Table {
    /// With these columns, figures on the right.
    pub fn new(columns: &[&str]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(columns);
        table.text.push_str("|---|");
        table.text.push_str(&"--:|".repeat(columns.len() - 1));
        table.text.push('\n');
        table
    }

    /// With these columns, all of words.
    pub fn of_words(columns: &[&str]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(columns);
        table.text.push_str(&"|---".repeat(columns.len()));
        table.text.push_str("|\n");
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        for cell in cells {
            self.text.push_str("| ");
            self.text.push_str(cell.as_ref());
            self.text.push(' ');
        }
        self.text.push_str("|\n");
    }

    /// The table, with an empty line before it.
    pub fn below(self, text: &str) -> String {
        format!("{}\n\n{}", text.trim_end(), self.text)
    }
}

/// A figure, in bold if it is not as it is to be.
pub fn shown(figure: String, is_met: bool) -> String {
    match is_met {
        true => figure,
        false => format!("**{figure}**"),
    }
}

/// The one in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let above = sorted.get(sorted.len() / 2);
    let below = sorted.get(sorted.len().saturating_sub(1) / 2);
    match (below, above) {
        (Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => f64::NAN,
    }
}

/// The median, with the least and the greatest.
pub fn with_range(figures: &[f64]) -> String {
    let (median, least, greatest) = (median(figures), least(figures), worst(figures));
    format!("{median:.3} ({least:.3} to {greatest:.3})")
}

/// The smallest.
pub fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NAN, f64::min)
}

/// The largest.
pub fn worst(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NAN, f64::max)
}

/// The one furthest from zero.
pub fn furthest(figures: &[f64]) -> f64 {
    let further = |one: f64, other: f64| if other.abs() > one.abs() { other } else { one };
    figures.iter().copied().fold(0.0, further)
}

/// The mean.
pub fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

/// The standard deviation.
pub fn deviation(figures: &[f64]) -> f64 {
    let mean = mean(figures);
    let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
    (squares / figures.len() as f64).sqrt()
}
