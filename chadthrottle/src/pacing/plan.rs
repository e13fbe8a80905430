//! Where fq goes on a device, and what must be left alone.

use super::netlink::{Qdisc, ROOT};

/// The handle of every fq, or mq, that is ours at a root: it tells a leftover from others' work.
pub const HANDLE: u32 = 0xcd7a_0000;

/// The handles of our leaves under mq begin here.
const LEAVES: u32 = 0xcd80_0000;

/// The most hardware queues whose leaves get handles; beyond it there are none left.
const MOST_QUEUES: u32 = 0x1000;

/// What kernels and distributions put on devices: the kernel's own choices, and what systemd sets as
/// `net.core.default_qdisc`. Any other default was set by somebody.
const DEFAULTS: [&str; 4] = ["noqueue", "pfifo_fast", "fq_codel", "fq"];

/// What is to be done with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// fq is there already and holds packets; it is not ours, nothing is to be done.
    UseAsItIs,
    /// Ours is there, from now or left over from a run that was killed: it is set up again.
    /// Otherwise the kernel's default is there, and fq takes its place.
    Install(Vec<Placement>),
    /// Somebody chose this qdisc: it is left alone.
    LeaveAlone(String),
}

/// A qdisc and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// fq or mq.
    pub kind: &'static str,
    /// The root, or a class of our mq.
    pub parent: u32,
    /// Its handle.
    pub handle: u32,
}

/// Decides by the qdiscs that a device has. What the kernel attached by default has the handle 0, what anybody
/// chose for the device another; of the former, what kernels and distributions
/// set by themselves is nobody's choice.
pub fn plan(qdiscs: &[Qdisc]) -> Plan {
    let root = qdiscs.iter().find(|qdisc| qdisc.parent == ROOT);
    let fq = Placement {
        kind: "fq",
        parent: ROOT,
        handle: HANDLE,
    };
    let Some(root) = root else {
        // A device that is down shows none.
        return Plan::Install(vec![fq]);
    };
    let ours = root.handle == HANDLE;
    let leaves = || {
        qdiscs
            .iter()
            // Leaves of a default mq hang under the handle 0, ours under our own.
            .filter(|leaf| leaf.parent != ROOT && leaf.parent & 0xffff_0000 == root.handle)
    };
    match &*root.kind {
        "fq" if !ours => Plan::UseAsItIs,
        "mq" if ours || root.handle == 0 => {
            let is_default = |leaf: &Qdisc| leaf.handle == 0 && DEFAULTS.contains(&&*leaf.kind);
            let chosen = leaves().find(|leaf| !is_default(leaf) && leaf.handle < LEAVES);
            if let Some(chosen) = chosen {
                return Plan::LeaveAlone(chosen.kind.clone());
            }
            let queues = leaves().map(|leaf| leaf.parent & 0xffff);
            let mut placements = vec![Placement {
                kind: "mq",
                parent: ROOT,
                handle: HANDLE,
            }];
            placements.extend(
                queues
                    .filter(|queue| *queue < MOST_QUEUES)
                    .map(|queue| Placement {
                        kind: "fq",
                        parent: HANDLE | queue,
                        handle: LEAVES + (queue << 16),
                    }),
            );
            Plan::Install(placements)
        }
        kind if ours || (root.handle == 0 && DEFAULTS.contains(&kind)) => Plan::Install(vec![fq]),
        kind => Plan::LeaveAlone(kind.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qdisc(kind: &str, handle: u32, parent: u32) -> Qdisc {
        Qdisc {
            device: 2,
            handle,
            parent,
            kind: kind.to_owned(),
            queued: 0,
        }
    }

    fn root_fq() -> Plan {
        Plan::Install(vec![Placement {
            kind: "fq",
            parent: ROOT,
            handle: HANDLE,
        }])
    }

    #[test]
    fn defaults_are_replaced_and_what_somebody_chose_is_left_alone() {
        for (qdiscs, expected) in [
            (vec![], root_fq()),
            (vec![qdisc("noqueue", 0, ROOT)], root_fq()),
            (vec![qdisc("pfifo_fast", 0, ROOT)], root_fq()),
            (vec![qdisc("fq_codel", 0, ROOT)], root_fq()),
            (vec![qdisc("fq", HANDLE, ROOT)], root_fq()),
            (vec![qdisc("fq", 0, ROOT)], Plan::UseAsItIs),
            (vec![qdisc("fq", 0x8001_0000, ROOT)], Plan::UseAsItIs),
            (
                vec![qdisc("fq_codel", 0x8001_0000, ROOT)],
                Plan::LeaveAlone("fq_codel".into()),
            ),
            (
                vec![
                    qdisc("htb", 0x1_0000, ROOT),
                    qdisc("fq", 0x2_0000, 0x1_0001),
                ],
                Plan::LeaveAlone("htb".into()),
            ),
            (
                vec![qdisc("cake", 0x8002_0000, ROOT)],
                Plan::LeaveAlone("cake".into()),
            ),
            // By net.core.default_qdisc.
            (
                vec![qdisc("cake", 0, ROOT)],
                Plan::LeaveAlone("cake".into()),
            ),
            (
                vec![qdisc("mq", 0, ROOT), qdisc("cake", 0, 1)],
                Plan::LeaveAlone("cake".into()),
            ),
            (
                vec![qdisc("mq", 0x1_0000, ROOT)],
                Plan::LeaveAlone("mq".into()),
            ),
        ] {
            assert_eq!(plan(&qdiscs), expected, "{qdiscs:?}");
        }
    }

    #[test]
    fn under_mq_every_queue_gets_its_own() {
        let placements = |plan| match plan {
            Plan::Install(placements) => placements
                .into_iter()
                .map(|p| (p.kind, p.parent, p.handle))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let expected = [
            ("mq", ROOT, HANDLE),
            ("fq", HANDLE | 1, LEAVES + 0x1_0000),
            ("fq", HANDLE | 2, LEAVES + 0x2_0000),
        ];
        let by_default = [
            qdisc("mq", 0, ROOT),
            qdisc("fq_codel", 0, 1),
            qdisc("fq_codel", 0, 2),
        ];
        assert_eq!(placements(plan(&by_default)), expected);
        // And again over our own leftovers.
        let ours = [
            qdisc("mq", HANDLE, ROOT),
            qdisc("fq", LEAVES + 0x1_0000, HANDLE | 1),
            qdisc("fq", LEAVES + 0x2_0000, HANDLE | 2),
        ];
        assert_eq!(placements(plan(&ours)), expected);
    }
}
