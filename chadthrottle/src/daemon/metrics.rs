//! Metrics: what a snapshot says, in the OpenMetrics text format.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use chadthrottle_common::traffic::Direction;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};

use super::protocol::VERSION;
use crate::{
    model::{
        direction::PerDirection,
        limit::LimitRow,
        link::{Link, LinkDirection},
        process::ProcessKey,
        rule::Origin,
        snapshot::Snapshot,
        uplink::Uplink,
    },
    rate::Bytes,
    rules::plan::Standing,
};

/// The media type of what [`Metrics::page`] returns.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many programs have series of their own; the others are summed.
const MOST_PROGRAMS: usize = 100;

/// A program has series of its own once it has moved so much.
const WORTH_A_SERIES: u64 = 100_000;

/// How many names are counted, waiting for series of their own.
const MOST_CANDIDATES: usize = 2000;

/// How many limits are shown: the first.
const MOST_LIMITS: usize = 500;

const BYTES_PER_SECOND: &str = "bytes_per_second";

/// The program of those that have no series of their own.
const OTHERS: &str = "(others)";

/// What is served: counts that go on when processes end, and the latest snapshot.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    programs: Programs,
    snapshot: Option<Arc<Snapshot>>,
    standings: Vec<Standing>,
}

impl Metrics {
    /// Takes in a snapshot, and how the file's rules stand.
    pub fn observe(&self, snapshot: &Arc<Snapshot>, standings: &[Standing]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.programs.observe(snapshot);
        inner.snapshot = Some(Arc::clone(snapshot));
        inner.standings = standings.to_vec();
    }

    /// All metrics as text.
    ///
    /// # Errors
    ///
    /// None that a text in memory can have.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut page = Page::default();
        {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            page.fill(&inner);
        }
        let mut text = String::new();
        encode(&mut text, &page.registry)?;
        Ok(text)
    }
}

/// What programs moved, by name. A counter may not fall, so a program that gets series of its own
/// keeps them, and what it moved before stays with the others.
#[derive(Default)]
struct Programs {
    last: HashMap<ProcessKey, PerDirection<u64>>,
    /// What those moved that have no series yet, both directions together.
    candidates: HashMap<Arc<str>, u64>,
    own: BTreeMap<Arc<str>, PerDirection<u64>>,
    others: PerDirection<u64>,
}

impl Programs {
    fn observe(&mut self, snapshot: &Snapshot) {
        let mut now = HashMap::with_capacity(snapshot.processes.len());
        for row in &snapshot.processes {
            let bytes = row.bytes.map(Bytes::count);
            let before = self.last.get(&row.key).copied().unwrap_or_default();
            let moved = PerDirection::of(|direction| {
                bytes.get(direction).saturating_sub(*before.get(direction))
            });
            now.insert(row.key, bytes);
            if moved != PerDirection::default() {
                self.add(&row.name, moved);
            }
        }
        self.last = now;
    }

    fn add(&mut self, name: &Arc<str>, moved: PerDirection<u64>) {
        let sum = |a: PerDirection<u64>| {
            PerDirection::of(|direction| a.get(direction).saturating_add(*moved.get(direction)))
        };
        if let Some(own) = self.own.get_mut(name) {
            *own = sum(*own);
            return;
        }
        self.others = sum(self.others);
        if self.own.len() >= MOST_PROGRAMS {
            return;
        }
        if self.candidates.len() >= MOST_CANDIDATES {
            self.candidates.clear();
        }
        let so_far = self.candidates.entry(Arc::clone(name)).or_default();
        *so_far = so_far.saturating_add(moved.download.saturating_add(moved.upload));
        if *so_far >= WORTH_A_SERIES {
            self.candidates.remove(name);
            self.own.insert(Arc::clone(name), PerDirection::default());
        }
    }
}

type Labels = Vec<(&'static str, String)>;

type Decimal = Gauge<f64, AtomicU64>;

/// A page in the making.
#[derive(Default)]
struct Page {
    registry: Registry,
}

impl Page {
    fn add(&mut self, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric),
            None => self.registry.register(name, help, metric),
        }
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.add(name, help, unit, family);
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let family = Family::<Labels, Decimal>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.add(name, help, unit, family);
    }

    /// A gauge without labels.
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) {
        let gauge = Decimal::default();
        gauge.set(value);
        self.add(name, help, unit, gauge);
    }

    fn fill(&mut self, inner: &Inner) {
        let version = vec![("version", VERSION.to_owned())];
        self.gauges(
            "chadthrottle_build_info",
            "The version of chadthrottle",
            None,
            [(version, 1.0)],
        );
        let Some(snapshot) = &inner.snapshot else {
            return;
        };
        self.totals(snapshot);
        if let Some(link) = &snapshot.link {
            self.link(link);
        }
        self.programs(&inner.programs);
        self.limits(snapshot);
        self.quotas(&inner.standings);
    }

    fn totals(&mut self, snapshot: &Snapshot) {
        let both = |bytes: PerDirection<Bytes>| {
            Direction::BOTH.map(|direction| {
                let label = vec![("direction", direction.to_string())];
                (label, bytes.get(direction).count())
            })
        };
        self.counters(
            "chadthrottle_payload",
            "Payload of all inet traffic",
            Some(Unit::Bytes),
            both(snapshot.total),
        );
        self.counters(
            "chadthrottle_unattributed",
            "Payload that belongs to no known process",
            Some(Unit::Bytes),
            both(snapshot.unattributed),
        );
        let by_device = |bytes: fn(&Uplink) -> PerDirection<Bytes>| {
            let uplinks = snapshot.devices.uplinks.iter();
            uplinks.flat_map(move |uplink| {
                Direction::BOTH.map(|direction| {
                    let labels = vec![
                        ("device", uplink.name.to_string()),
                        ("direction", direction.to_string()),
                    ];
                    (labels, bytes(uplink).get(direction).count())
                })
            })
        };
        self.counters(
            "chadthrottle_device",
            "What a device by which packets leave the machine carried, from the IP header on",
            Some(Unit::Bytes),
            by_device(|uplink| uplink.bytes),
        );
        self.counters(
            "chadthrottle_unaccounted",
            "At least so much of what a device carried was no process's",
            Some(Unit::Bytes),
            by_device(|uplink| uplink.unaccounted),
        );
        self.gauge(
            "chadthrottle_coverage",
            "The part of everything that belongs to known processes",
            Some(Unit::Other("ratio".to_owned())),
            snapshot.coverage(),
        );
        self.gauge(
            "chadthrottle_processes",
            "Processes with inet sockets or a limit",
            None,
            snapshot.processes.len() as f64,
        );
        self.gauge(
            "chadthrottle_sample_timestamp",
            "When the latest sample was taken",
            Some(Unit::Seconds),
            snapshot
                .time
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        );
    }

    fn link(&mut self, link: &Link) {
        let by_direction = |value: fn(&LinkDirection) -> Option<f64>| {
            Direction::BOTH.into_iter().filter_map(move |direction| {
                let labels = vec![
                    ("device", link.device.to_string()),
                    ("direction", direction.to_string()),
                ];
                Some((labels, value(link.directions.get(direction))?))
            })
        };
        self.gauges(
            "chadthrottle_link_carries",
            "What the link by which background traffic goes carries, as far as it is known",
            Some(Unit::Other("bytes_per_second".to_owned())),
            by_direction(|known| {
                known
                    .carries
                    .map(|carries| carries.bytes_per_second() as f64)
            }),
        );
        self.gauges(
            "chadthrottle_link_queue",
            "How long packets wait in the queue of that link",
            Some(Unit::Seconds),
            by_direction(|known| Some(known.queue.as_secs_f64())),
        );
    }

    fn programs(&mut self, programs: &Programs) {
        let own = programs.own.iter().map(|(name, bytes)| (&**name, bytes));
        let all = own.chain([(OTHERS, &programs.others)]);
        let values = all.flat_map(|(name, bytes)| {
            Direction::BOTH.map(|direction| {
                let labels = vec![
                    ("program", name.to_owned()),
                    ("direction", direction.to_string()),
                ];
                (labels, *bytes.get(direction))
            })
        });
        self.counters(
            "chadthrottle_program_payload",
            "Payload by the name of the program",
            Some(Unit::Bytes),
            values,
        );
    }

    fn limits(&mut self, snapshot: &Snapshot) {
        let rows = || snapshot.limits.iter().take(MOST_LIMITS);
        let by_direction = |value: fn(&LimitRow, Direction) -> Option<f64>| {
            rows().flat_map(move |row| {
                Direction::BOTH.into_iter().filter_map(move |direction| {
                    let mut labels = labels_of(row);
                    labels.push(("direction", direction.to_string()));
                    Some((labels, value(row, direction)?))
                })
            })
        };
        self.gauges(
            "chadthrottle_limit_rate",
            "The most payload a second that a limit lets through",
            Some(Unit::Other(BYTES_PER_SECOND.to_owned())),
            by_direction(|row, direction| {
                let rate = (*row.rule.limits.get(direction))?;
                Some(rate.bytes_per_second() as f64)
            }),
        );
        self.gauges(
            "chadthrottle_limit_achieved",
            "Payload a second that a limit let through in the last interval",
            Some(Unit::Other(BYTES_PER_SECOND.to_owned())),
            by_direction(|row, direction| {
                let rate = row.effect.achieved.get(direction);
                Some(rate.bytes_per_second() as f64)
            }),
        );
        self.gauges(
            "chadthrottle_limit_delay",
            "What a limit adds to the round trip now",
            Some(Unit::Seconds),
            by_direction(|row, direction| Some(row.effect.delay.get(direction).as_secs_f64())),
        );
        self.gauges(
            "chadthrottle_limit_members",
            "Running processes under a limit",
            None,
            rows().map(|row| (labels_of(row), f64::from(row.members))),
        );
        self.gauges(
            "chadthrottle_limit_not_enforced",
            "1 while a limit does not hold, or not for all its processes",
            None,
            rows().map(|row| {
                let fails = row.effect.not_enforced.is_some();
                (labels_of(row), f64::from(u8::from(fails)))
            }),
        );
        let counted = |value: fn(&LimitRow, Direction) -> u64| {
            rows().flat_map(move |row| {
                Direction::BOTH.map(|direction| {
                    let mut labels = labels_of(row);
                    labels.push(("direction", direction.to_string()));
                    (labels, value(row, direction))
                })
            })
        };
        self.counters(
            "chadthrottle_limit_payload",
            "Payload under a limit since it came into force",
            Some(Unit::Bytes),
            counted(|row, direction| row.bytes.get(direction).count()),
        );
        self.counters(
            "chadthrottle_limit_dropped",
            "Payload that a limit dropped since it came into force",
            Some(Unit::Bytes),
            counted(|row, direction| row.effect.dropped.get(direction).count()),
        );
        self.counters(
            "chadthrottle_limit_marked_packets",
            "Packets that a limit marked as having met congestion",
            None,
            counted(|row, direction| *row.effect.marked.get(direction)),
        );
    }

    fn quotas(&mut self, standings: &[Standing]) {
        let quotas = || {
            standings.iter().filter_map(|standing| {
                let labels = vec![("rule", standing.name.to_string())];
                Some((labels, standing.quota?))
            })
        };
        self.gauges(
            "chadthrottle_quota_used",
            "What a rule has moved of its quota in this period",
            Some(Unit::Bytes),
            quotas().map(|(labels, quota)| (labels, quota.used.count() as f64)),
        );
        self.gauges(
            "chadthrottle_quota",
            "What a rule may move in a period",
            Some(Unit::Bytes),
            quotas().map(|(labels, quota)| (labels, quota.amount.count() as f64)),
        );
    }
}

fn labels_of(row: &LimitRow) -> Labels {
    let rule = match &row.rule.origin {
        Origin::File(name) => name.to_string(),
        Origin::Hand => String::new(),
    };
    vec![
        ("limit", row.id.0.to_string()),
        ("rule", rule),
        ("target", row.rule.target.to_string()),
        ("traffic", row.rule.scope.to_string()),
    ]
}

#[cfg(test)]
mod tests;
