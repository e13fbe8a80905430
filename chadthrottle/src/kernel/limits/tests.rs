use super::*;

#[test]
fn bounds_are_times_and_at_low_rates_segments() {
    let ms = TICKS_PER_SECOND / 1000;
    for (rate, policing, signal, download) in [
        (1_000_000, 350 * ms, 150 * ms, 500 * ms),
        (10_000_000_000, 350 * ms, 150 * ms, 500 * ms),
        (80_000, 350 * ms, clock::cost(32 * 1448, 80_000), 1448 * ms),
        (8_000, 724 * ms, 5792 * ms, 8000 * ms),
    ] {
        assert_eq!(
            (
                policing_bound(rate),
                signal_after(rate),
                download_pacing_bound(rate)
            ),
            (policing, signal, download),
            "{rate}"
        );
    }
}

#[test]
fn what_is_in_flight_lands_when_much_less_is_allowed() {
    let mut allowed = Allowed::default();
    let mut old = 0;
    let mut landings = Vec::new();
    for (ms, new) in [
        (0, 1000),
        // By steps that are small each.
        (10, 900),
        (20, 800),
        (30, 700),
        (40, 600),
        (50, 525),
        // What was in flight by then has arrived.
        (2060, 420),
        (4100, 320),
        // Up, and down again.
        (4110, 800),
        (4120, 500),
        (9000, 0),
        (9010, 500),
    ] {
        let now = ms * TICKS_PER_SECOND / 1000;
        let after = allowed.after(now, old, new);
        if after.is_none() {
            landings.push(new);
        }
        (allowed, old) = (after.unwrap_or_default(), new);
    }
    assert_eq!(landings, [1000, 700, 500, 0, 500]);
}

#[test]
fn a_changed_rate_keeps_the_time_that_the_clock_is_ahead() {
    let ms = TICKS_PER_SECOND / 1000;
    for (debt, old, new, kept) in [
        (0, 10, 20, 0),
        (150 * ms, 1_000_000, 8_000_000, 150 * ms),
        (150 * ms, 8_000_000, 1_000_000, 150 * ms),
        // A slow upload's queue in fq.
        (4000 * ms, 8_000, 4_000, 4000 * ms),
        (4000 * ms, 8_000, 8_000_000, 350 * ms),
        (4000 * ms, 8_000, 8_000, 350 * ms),
    ] {
        assert_eq!(kept_debt(debt, old, new), kept, "{debt} {old} {new}");
    }
}
