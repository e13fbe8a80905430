//! CUBIC's curve (RFC 9438, section 4.2): quickly where the speed is far below the one found last, hardly near it, and
//! quickly again beyond it.

use std::time::Duration;

/// Beyond the speed found last, it has doubled after the cube root of 1/CURVE seconds.
const CURVE: f64 = 0.03;

/// How long it takes from nothing to the speed found last, in seconds.
fn bend() -> f64 {
    (1.0 / CURVE).cbrt()
}

/// The part of the speed found last that is had after so long.
pub fn part_after(time: Duration) -> f64 {
    let from_bend = time.as_secs_f64() - bend();
    1.0 + CURVE * from_bend.powi(3)
}

/// After how long so much of it is had.
pub fn time_of(part: f64) -> Duration {
    let from_bend = ((part - 1.0) / CURVE).cbrt();
    Duration::from_secs_f64((bend() + from_bend).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_slow_near_the_speed_found_last() {
        for part in [0.0, 0.01, 0.5, 0.9, 1.0, 1.15, 2.0] {
            let there = part_after(time_of(part));
            assert!((there - part).abs() < 1e-6, "{part} {there}");
        }
        let between = |from, to| time_of(to).saturating_sub(time_of(from)).as_secs_f64();
        assert!(between(0.0, 0.5) < 0.7);
        assert!(between(0.9, 1.1) > 2.5);
        assert!(between(1.5, 2.0) < 0.7);
        assert_eq!(time_of(-3.0), Duration::ZERO);
    }
}
