use super::*;
use crate::demo;
use prometheus_parse::{Scrape, Value};

fn parsed(text: &str) -> Scrape {
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = scrape.samples.iter().find(|sample| {
        sample.metric == name
            && labels
                .iter()
                .all(|(key, value)| sample.labels.get(key) == Some(value))
    });
    match found?.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        _ => None,
    }
}

#[test]
fn units_are_units() {
    let page = Metrics::default().page().unwrap();
    assert!(page.contains("chadthrottle_build_info{version="), "{page}");
    assert!(!page.contains("# UNIT chadthrottle_build_info"), "{page}");
}

#[test]
fn a_parser_reads_what_is_served() {
    let mut world = demo::World::new(7, 30, std::time::SystemTime::UNIX_EPOCH);
    let mut rule = crate::model::rule::Rule::by_hand(
        crate::model::target::Target::program("curl"),
        PerDirection {
            download: Some("1M".parse().unwrap()),
            upload: None,
        },
    );
    rule.origin = Origin::File("night run".into());
    // A name with all that has to be escaped in a label.
    let odd = crate::model::rule::Rule {
        origin: Origin::File("a\\b \"c\"".into()),
        ..rule.clone()
    };
    world
        .apply(&crate::model::command::Command::SetFile(vec![rule, odd]))
        .unwrap();
    let metrics = Metrics::default();
    let standing = Standing {
        name: "night".into(),
        state: crate::rules::plan::State::InForce,
        quota: Some(crate::rules::plan::Used {
            used: Bytes::new(5),
            amount: Bytes::new(10),
            period: crate::rules::quota::Period::Day,
            then: crate::rules::quota::Then::Block,
        }),
    };
    for _ in 0..20 {
        world.advance(std::time::Duration::from_secs(1));
        metrics.observe(
            &Arc::new(world.snapshot().clone()),
            std::slice::from_ref(&standing),
        );
    }
    let page = metrics.page().unwrap();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let scrape = parsed(&page);
    let snapshot = world.snapshot();
    let down = [("direction", "download")];
    let total = value(&scrape, "chadthrottle_payload_bytes_total", &down);
    assert_eq!(total, Some(snapshot.total.download.count() as f64));
    let limit = [("rule", "night run"), ("direction", "download")];
    let rate = value(&scrape, "chadthrottle_limit_rate_bytes_per_second", &limit);
    assert_eq!(rate, Some(1e6), "{page}");
    let holds = [("rule", "night run")];
    let fails = value(&scrape, "chadthrottle_limit_not_enforced", &holds);
    assert_eq!(fails, Some(0.0), "{page}");
    assert_eq!(
        value(
            &scrape,
            "chadthrottle_quota_used_bytes",
            &[("rule", "night")]
        ),
        Some(5.0)
    );
    let coverage = value(&scrape, "chadthrottle_coverage_ratio", &[]).unwrap();
    assert!((coverage - snapshot.coverage()).abs() < 1e-9);
    let escaped = r#",rule="a\\b \"c\"","#;
    assert!(page.contains(escaped), "{page}");
    // Programs and the others add up to what processes moved.
    let name = "chadthrottle_program_payload_bytes_total";
    let programs = scrape.samples.iter().filter(|sample| sample.metric == name);
    assert!(programs.count() > 4, "{page}");
    // Every metric says what it is.
    for sample in &scrape.samples {
        let family = sample.metric.trim_end_matches("_total");
        assert!(page.contains(&format!("# TYPE {family} ")), "{family}");
        assert!(page.contains(&format!("# HELP {family} ")), "{family}");
    }
}

fn moved(programs: &mut Programs, name: &str, bytes: u64) {
    let moved = PerDirection {
        download: bytes,
        upload: 1,
    };
    programs.add(&name.into(), moved);
}

#[test]
fn a_program_that_moves_little_is_summed() {
    let mut programs = Programs::default();
    moved(&mut programs, "curl", WORTH_A_SERIES);
    moved(&mut programs, "ntpd", 48);
    moved(&mut programs, "curl", 7);
    assert_eq!(programs.own.len(), 1);
    assert_eq!(programs.own["curl"].download, 7);
    assert_eq!(programs.others.download, WORTH_A_SERIES + 48);
    for n in 0..3 * MOST_CANDIDATES {
        moved(
            &mut programs,
            &format!("p{n}"),
            1 + WORTH_A_SERIES * (n as u64 % 2),
        );
    }
    assert_eq!(programs.own.len(), MOST_PROGRAMS);
    assert!(programs.candidates.len() <= MOST_CANDIDATES);
}
