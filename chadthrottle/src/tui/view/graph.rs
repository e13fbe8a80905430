//! Small graphs made of characters.

/// An eighth of a line to a whole one.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for each value, as tall as `lines` lines of text; the first line is the top. A value
/// that is not zero has at least the smallest bar.
pub(super) fn bars(values: &[f32], most: f32, lines: usize) -> Vec<String> {
    let steps = (lines * 8) as f32;
    let height = |value: f32| match value > 0.0 {
        true => (value / most.max(1.0) * steps).round().clamp(1.0, steps) as usize,
        false => 0,
    };
    (0..lines)
        .rev()
        .map(|line| {
            let level = |value: &f32| LEVELS[height(*value).saturating_sub(line * 8).min(8)];
            values.iter().map(level).collect()
        })
        .collect()
}

/// A bar from left to right: `part` of so many columns.
pub(super) fn gauge(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let partial = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let mut gauge = "█".repeat(eighths / 8);
    if let Some(eighth) = (eighths % 8).checked_sub(1) {
        gauge.push(partial[eighth]);
    }
    let missing = width - gauge.chars().count();
    gauge.extend(std::iter::repeat_n(' ', missing));
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_tall_as_their_values() {
        let values = [0.0, 0.1, 25.0, 50.0, 100.0];
        assert_eq!(bars(&values, 100.0, 1), [" ▁▂▄█"]);
        assert_eq!(bars(&values, 100.0, 2), ["    █", " ▁▄██"]);
        assert_eq!(bars(&[], 100.0, 1), [""]);
        assert_eq!(bars(&[5.0], 0.0, 1), ["█"]);
    }

    #[test]
    fn a_gauge_fills_up() {
        for (part, text) in [
            (0.0, "    "),
            (0.5, "██  "),
            (0.9, "███▋"),
            (1.0, "████"),
            (7.0, "████"),
        ] {
            assert_eq!(gauge(part, 4), text);
        }
    }
}
