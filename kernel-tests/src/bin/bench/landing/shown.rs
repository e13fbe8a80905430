//! The tables and the plot of landings.

use kernel_tests::flow::Direction;

use super::{Change, LIMITS, Landing, POLICED, Sender, beside};
use crate::{
    cell::{WINDOW, rate},
    mechanism::Mechanism,
    plot::{Panel, Plot},
    results::{Part, of_all},
    table::{Table, mean},
};

/// Words of a figure, bold where it misses.
fn figure(text: String, met: bool, missed: &mut usize) -> String {
    if met {
        text
    } else {
        *missed += 1;
        format!("**{text}**")
    }
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Landing>]) -> (String, Vec<Plot>) {
    let landings = of_all(parts);
    let ours = |landing: &&Landing| landing.case.mechanism != Mechanism::Htb;
    let mut missed = 0;
    let mut tables = String::new();
    for (name, cake, mechanism, limits) in [
        ("paced", false, Mechanism::Chadthrottle, &LIMITS[..]),
        ("policed, no fq", false, Mechanism::Policing, &POLICED[..]),
        ("policed, cake", true, Mechanism::Chadthrottle, &POLICED[..]),
    ] {
        for limit in limits {
            let mut table = Table::new(&[
                &format!("{}, {name}", rate(*limit)),
                "worst second",
                "mean of 10 s",
                "sent again",
            ]);
            let these = landings.iter().filter(|landing| {
                let case = &landing.case;
                (case.cake, case.mechanism, case.limit, case.change)
                    == (cake, mechanism, *limit, Change::Set)
            });
            let mut any = false;
            for landing in these {
                any = true;
                table.row(&row(landing, &mut missed));
            }
            if any {
                tables.push_str(&table.below(""));
            }
        }
    }
    let mut table = Table::new(&[
        "a limit that changes, paced, 20 ms",
        "worst second",
        "mean of 10 s",
        "sent again",
    ]);
    let changes = || {
        landings
            .iter()
            .filter(|landing| landing.case.change != Change::Set)
    };
    for landing in changes() {
        table.row(&row(landing, &mut missed));
    }
    if changes().next().is_some() {
        tables.push_str(&table.below(""));
    }
    let text = format!(
        "A flow, or eight of one process, runs at full speed for 3 s; then it is limited. The worst \
         of the ten seconds from one second after, as a part of the limit; their mean; and the \
         segments sent again from the moment of the limit to the end. Promised are seconds within \
         5 % (10 % below 1.25 MB/s and where it is policed), a mean within 2 % (5 %), and at most \
         0.1 % of the segments sent again (2 %), or 10. {missed} figures of {} landings miss.\n\n\
         BBR empties its path for 0.2 s of every 10 s (PROBE_RTT), in whatever second that is, and does not \
         make up for it. At 64 kB/s a second is 44 segments: two packets of two more or less are a tenth. Eight \
         downloads at 64 and 125 kB/s may have two segments each on their way, more than the limit's queue \
         holds without a round trip, so some of their senders are told by a loss. Where acknowledgements \
         can't be held, a flow without a round trip is held by its sender's persist timer, and a second has \
         four or five of its rounds.\n",
        landings.iter().filter(ours).count()
    );
    (format!("{text}\n{tables}"), vec![plot(&landings)])
}

fn row(landing: &Landing, missed: &mut usize) -> Vec<String> {
    let case = &landing.case;
    let many = if case.flows == 1 { "" } else { "8 × " };
    let sender = match case.sender {
        Sender::Cubic => "CUBIC",
        Sender::Ecn => "CUBIC with ECN",
        Sender::Bbr => "BBR",
    };
    let direction = case.direction;
    let name = match case.change {
        Change::Set => format!("{direction:?}, {many}{sender}, {} ms", case.round_trip),
        change => format!(
            "{direction:?}, {many}{sender}, to {}: {}",
            rate(case.limit),
            change.words()
        ),
    };
    let Ok(outcome) = &landing.outcome else {
        *missed += 3;
        return vec![name, "failed".into(), "failed".into(), "failed".into()];
    };
    let (worst, mean) = (outcome.worst(), mean(outcome.judged()));
    // Judged as it is shown.
    let near = |figure: f64, digits: i32, most: f64| {
        let unit = 10_f64.powi(digits);
        ((figure * unit).round() / unit - 1.0).abs() <= most + 1e-9
    };
    let together = if case.is_policed() { 0.05 } else { 0.02 };
    vec![
        name,
        figure(
            format!("{worst:.2}"),
            near(worst, 2, case.tolerance()),
            missed,
        ),
        figure(format!("{mean:.3}"), near(mean, 3, together), missed),
        figure(
            format!("{:.0} of {:.0}", outcome.again, outcome.segments),
            outcome.again <= outcome.may_repeat(case),
            missed,
        ),
    ]
}

/// One CUBIC flow over 20 ms, beside HTB and IFB.
fn plot(landings: &[Landing]) -> Plot {
    let lines = [Mechanism::Chadthrottle, Mechanism::Htb];
    let panels = LIMITS.into_iter().flat_map(|limit| {
        Direction::ALL.map(|direction| {
            let rates = lines.map(|mechanism| {
                let case = beside(limit, direction, mechanism);
                let landing = landings.iter().find(|landing| landing.case == case)?;
                let rates = &landing.outcome.as_ref().ok()?.rates;
                let percent = |rate: &u64| *rate as f64 / limit as f64 * 100.0;
                Some(rates.iter().map(percent).collect())
            });
            Panel {
                title: format!("{direction:?}, {}, from 1 s before", rate(limit)),
                rates: rates.to_vec(),
                window: WINDOW,
            }
        })
    });
    Plot {
        name: "landing",
        lines: lines.map(|mechanism| mechanism.to_string()).to_vec(),
        panels: (panels)
            .filter(|panel| panel.rates.iter().any(Option::is_some))
            .collect(),
    }
}
