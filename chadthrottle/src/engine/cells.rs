//! The kernel's cells in which the limits of rules are kept, by the rule's number.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chadthrottle_common::{limit::Enforced, traffic::Direction};

use crate::{
    kernel::{Cell, LimitCells, Present, UNHELD_RATE},
    model::{direction::PerDirection, limit::LimitId},
    policy::active::{ActiveRule, ActiveRules},
    priority::sharing::{Part, Tier},
    rate::{Bytes, Rate},
};

/// What passed is told for so long, in seconds.
const LATELY: f64 = 0.2;

/// A cell in use, and what was last read of it.
pub struct LimitCell {
    /// The cell.
    pub cell: Cell,
    /// Whose it is.
    pub limit: LimitId,
    /// Which direction of it.
    pub direction: Direction,
    /// What it lets through.
    rate: Rate,
    /// Of background traffic: what it lets through at the most.
    pub ceiling: Option<Rate>,
    /// Of background traffic: what passed lately, in bytes a second, and [`Present::worked`] until then.
    used: f64,
    worked: Duration,
    /// What it has done.
    pub enforced: Enforced,
    /// What it does now.
    pub present: Present,
}

impl LimitCell {
    /// A new cell.
    ///
    /// # Errors
    ///
    /// [`crate::kernel::CellsExhausted`], or the kernel's.
    pub fn allocate(
        cells: &mut LimitCells,
        limit: LimitId,
        direction: Direction,
        rate: Rate,
    ) -> anyhow::Result<Self> {
        let cell = cells.allocate(direction, rate)?;
        Ok(Self::new(cell, limit, direction, rate))
    }

    /// One that has done nothing yet.
    fn new(cell: Cell, limit: LimitId, direction: Direction, rate: Rate) -> Self {
        Self {
            cell,
            limit,
            direction,
            rate,
            ceiling: None,
            used: 0.0,
            worked: Duration::ZERO,
            enforced: Enforced::default(),
            present: Present::default(),
        }
    }

    /// A cell of all background traffic, of no rule in particular. The rate that it begins with is soon another.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn of_background(
        cells: &mut LimitCells,
        direction: Direction,
        rate: Rate,
    ) -> anyhow::Result<Self> {
        let cell = cells.background(direction, rate)?;
        Ok(Self::new(cell, LimitId(0), direction, rate))
    }

    /// A cell of a background rule that has a rate besides.
    ///
    /// # Errors
    ///
    /// [`crate::kernel::CeilingsExhausted`], or the kernel's.
    fn below_ceiling(
        cells: &mut LimitCells,
        limit: LimitId,
        direction: Direction,
        left: Rate,
        ceiling: Rate,
    ) -> anyhow::Result<Self> {
        let rate = left.min(ceiling);
        let cell = cells.ceiling(direction, rate)?;
        Ok(Self {
            ceiling: Some(ceiling),
            ..Self::new(cell, limit, direction, rate)
        })
    }

    /// A cell of everybody else's traffic where some is more important. It holds nothing yet.
    ///
    /// # Errors
    ///
    /// As of [`Self::below_ceiling`].
    fn of_everybody_else(
        cells: &mut LimitCells,
        limit: LimitId,
        direction: Direction,
    ) -> anyhow::Result<Self> {
        let cell = cells.ceiling(direction, UNHELD_RATE)?;
        Ok(Self::new(cell, limit, direction, UNHELD_RATE))
    }

    /// What it lets through.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Lets it have another rate.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_rate(&mut self, cells: &mut LimitCells, rate: Rate) -> anyhow::Result<()> {
        if self.rate != rate {
            cells.change(&mut self.cell, self.direction, rate)?;
            self.rate = rate;
        }
        Ok(())
    }

    /// Its part of what the link has, if it is of so many rules.
    pub fn part(&self, tier: Tier, rules: usize) -> Part {
        Part {
            tier,
            weight: rules as f64,
            ceiling: self
                .ceiling
                .map_or(f64::INFINITY, |rate| rate.bytes_per_second() as f64),
            used: self.used,
            held: self.is_held(),
        }
    }

    /// Whether there was more than it let through.
    pub fn is_held(&self) -> bool {
        !self.present.delay.is_zero()
    }

    /// Begins anew, as if it had let nothing through yet.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn restart(&self, cells: &mut LimitCells) -> anyhow::Result<()> {
        cells.restart(&self.cell, self.direction, self.rate)
    }

    /// Reads what it did.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read(&mut self, cells: &LimitCells) -> anyhow::Result<()> {
        self.enforced = cells.enforced(&self.cell)?;
        self.present = cells.present(&self.cell)?;
        Ok(())
    }

    /// Reads what it did, and what passed since that was done `elapsed` ago.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read_use(&mut self, cells: &LimitCells, elapsed: Duration) -> anyhow::Result<()> {
        self.read(cells)?;
        let before = std::mem::replace(&mut self.worked, self.present.worked);
        let worked = self.worked.saturating_sub(before).as_secs_f64();
        let elapsed = elapsed.as_secs_f64();
        if elapsed > 0.0 {
            let now = worked * self.rate.bytes_per_second() as f64 / elapsed;
            self.used += (now - self.used) * (elapsed / LATELY).min(1.0);
        }
        Ok(())
    }
}

/// A sum of what cells did.
#[derive(Clone, Copy, Default)]
pub struct Done {
    /// Payload dropped.
    pub dropped: PerDirection<Bytes>,
    /// Packets marked.
    pub marked: PerDirection<u64>,
    /// The longest delay.
    pub delay: PerDirection<Duration>,
    /// Whether any is settling.
    pub settling: bool,
}

impl Done {
    /// Adds what a cell did.
    pub fn add(&mut self, cell: &LimitCell) {
        let direction = cell.direction;
        let dropped = self.dropped.get_mut(direction);
        *dropped = Bytes::new(dropped.count() + cell.enforced.dropped_bytes);
        *self.marked.get_mut(direction) += cell.enforced.marked_packets;
        let delay = self.delay.get_mut(direction);
        *delay = (*delay).max(cell.present.delay);
        self.settling |= cell.present.settling;
    }

    /// Adds what a cell did that does nothing any more.
    pub fn take_over(&mut self, cell: &LimitCell) {
        self.add(cell);
        *self.delay.get_mut(cell.direction) = Duration::ZERO;
        self.settling = false;
    }
}

/// The cells of one rule.
#[derive(Default)]
struct OfRule {
    /// Those that its processes share.
    shared: Vec<LimitCell>,
    /// Where each process has cells of its own: those that new processes share until they do.
    newcomers: Vec<LimitCell>,
    /// What cells did that are not in use any more.
    before: Done,
}

/// The cells that the processes of each rule have in common.
#[derive(Default)]
pub struct RuleCells {
    of_rules: HashMap<LimitId, OfRule>,
    /// Those of all background traffic.
    background: Vec<LimitCell>,
    /// The rules whose rates are what the link has for their traffic.
    adaptive: BTreeSet<LimitId>,
}

impl RuleCells {
    /// The cell that a rule's processes share in a direction.
    pub fn shared(&self, id: LimitId, direction: Direction) -> Option<&LimitCell> {
        let own = self.of_rules.get(&id).map(|own| own.shared.as_slice());
        let own = own.unwrap_or_default();
        match self.adaptive.contains(&id) {
            true => {
                find_of(own, direction, true).or_else(|| find_of(&self.background, direction, true))
            }
            false => find_of(own, direction, false),
        }
    }

    /// The cells whose rates are what the link has for their traffic, to be changed.
    pub fn adaptive_mut(&mut self) -> impl Iterator<Item = &mut LimitCell> {
        let own = self.of_rules.values_mut().flat_map(|own| &mut own.shared);
        let own = own.filter(|cell| cell.cell.is_adaptive());
        self.background.iter_mut().chain(own)
    }

    /// The cell with which new processes of a rule begin.
    pub fn of_newcomers(&self, active: &ActiveRule, direction: Direction) -> Option<&LimitCell> {
        if active.is_each() {
            find(&self.of_rules.get(&active.id)?.newcomers, direction)
        } else {
            self.shared(active.id, direction)
        }
    }

    /// Adds a cell with which new processes begin.
    pub fn add_for_newcomers(&mut self, cell: LimitCell) {
        self.of_rules
            .entry(cell.limit)
            .or_default()
            .newcomers
            .push(cell);
    }

    /// Takes out all cells with which new processes begin.
    pub fn take_from_newcomers(&mut self) -> Vec<LimitCell> {
        let mut taken = Vec::new();
        for cells in self.of_rules.values_mut() {
            for cell in cells.newcomers.drain(..) {
                cells.before.take_over(&cell);
                taken.push(cell);
            }
        }
        taken
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &LimitCell> {
        let all = self.of_rules.values();
        let of_rules = all.flat_map(|cells| cells.shared.iter().chain(&cells.newcomers));
        of_rules.chain(&self.background)
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut LimitCell> {
        let all = self.of_rules.values_mut();
        let of_rules = all.flat_map(|cells| cells.shared.iter_mut().chain(&mut cells.newcomers));
        of_rules.chain(&mut self.background)
    }

    /// What a rule's cells did, with those that are not in use any more.
    pub fn done(&self, id: LimitId) -> Done {
        let mut done = Done::default();
        if self.adaptive.contains(&id) {
            let cells = Direction::BOTH.map(|direction| self.shared(id, direction));
            cells.into_iter().flatten().for_each(|cell| done.add(cell));
        } else if let Some(cells) = self.of_rules.get(&id) {
            done = cells.before;
            let all = cells.shared.iter().chain(&cells.newcomers);
            all.for_each(|cell| done.add(cell));
        }
        done
    }

    /// Remembers what a cell did that is not in use any more.
    pub fn take_over(&mut self, cell: &LimitCell) {
        if let Some(cells) = self.of_rules.get_mut(&cell.limit) {
            cells.before.take_over(cell);
        }
    }

    /// Gives a rule the cells that it has none of yet. Background traffic begins with what is `left` of the link.
    ///
    /// # Errors
    ///
    /// [`crate::kernel::CellsExhausted`], or the kernel's.
    pub fn allocate(
        &mut self,
        active: &ActiveRule,
        left: PerDirection<Rate>,
        cells: &mut LimitCells,
    ) -> anyhow::Result<()> {
        if active.rule.is_background() {
            self.adaptive.insert(active.id);
            return self.allocate_background(active, left, cells);
        }
        let own = self.of_rules.entry(active.id).or_default();
        for (direction, rate) in wanted(active) {
            if find_of(&own.shared, direction, false).is_none() {
                let cell = LimitCell::allocate(cells, active.id, direction, rate)?;
                own.shared.push(cell);
            }
        }
        Ok(())
    }

    /// The same for the limit of everybody else.
    ///
    /// # Errors
    ///
    /// As of [`Self::allocate`].
    pub fn allocate_for_everybody_else(
        &mut self,
        active: &ActiveRule,
        cells: &mut LimitCells,
    ) -> anyhow::Result<()> {
        self.adaptive.insert(active.id);
        let own = &mut self.of_rules.entry(active.id).or_default().shared;
        for direction in Direction::BOTH {
            if find_of(own, direction, true).is_none() {
                own.push(LimitCell::of_everybody_else(cells, active.id, direction)?);
            }
        }
        Ok(())
    }

    fn allocate_background(
        &mut self,
        active: &ActiveRule,
        left: PerDirection<Rate>,
        cells: &mut LimitCells,
    ) -> anyhow::Result<()> {
        for direction in Direction::BOTH {
            let left = *left.get(direction);
            let Some(ceiling) = *active.rule.ceiling.get(direction) else {
                if find(&self.background, direction).is_none() {
                    self.background
                        .push(LimitCell::of_background(cells, direction, left)?);
                }
                continue;
            };
            let own = &mut self.of_rules.entry(active.id).or_default().shared;
            if find_of(own, direction, true).is_none() {
                let cell = LimitCell::below_ceiling(cells, active.id, direction, left, ceiling)?;
                own.push(cell);
            }
        }
        Ok(())
    }

    /// Brings the cells of a rule to its rates. Those of background traffic have what is found out; what it is at the
    /// most is as asked for.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_rates(&mut self, active: &ActiveRule, cells: &mut LimitCells) -> anyhow::Result<()> {
        let shared = self.of_rules.get_mut(&active.id).map(|own| &mut own.shared);
        for cell in shared.into_iter().flatten() {
            if cell.cell.is_adaptive() {
                cell.ceiling = *active.rule.ceiling.get(cell.direction);
            } else if let Some(rate) = *active.rule.limits.get(cell.direction) {
                cell.set_rate(cells, rate)?;
            }
        }
        Ok(())
    }

    /// Takes the cells out that these rules have no use for. Slots may still name them.
    pub fn take_surplus(&mut self, rules: &ActiveRules) -> Vec<LimitCell> {
        let mut surplus = Vec::new();
        let background = |id| {
            rules
                .get(id)
                .is_some_and(|active| active.rule.is_background())
        };
        self.adaptive
            .retain(|id| background(*id) || rules.is_rest(*id));
        let in_common = |cell: &LimitCell| rules.without_ceiling(cell.direction) > 0;
        surplus.extend(self.background.extract_if(.., |cell| !in_common(cell)));
        self.of_rules.retain(|id, own| {
            if rules.is_rest(*id) {
                return true;
            }
            let Some(active) = rules.get(*id) else {
                surplus.append(&mut own.shared);
                surplus.append(&mut own.newcomers);
                return false;
            };
            if active.rule.is_background() {
                surplus.append(&mut own.newcomers);
            }
            let needed = |cell: &LimitCell| {
                let direction = cell.direction;
                match active.rule.is_background() {
                    true => cell.cell.is_adaptive() && active.rule.ceiling.get(direction).is_some(),
                    false => {
                        !cell.cell.is_adaptive() && wanted(active).any(|(d, _)| d == direction)
                    }
                }
            };
            for cell in own.shared.extract_if(.., |cell| !needed(cell)) {
                own.before.take_over(&cell);
                surplus.push(cell);
            }
            true
        });
        surplus
    }
}

/// The cells that the processes of a rule share.
fn wanted(active: &ActiveRule) -> impl Iterator<Item = (Direction, Rate)> {
    let directions = Direction::BOTH.into_iter().filter(|_| !active.is_each());
    directions.filter_map(|direction| Some((direction, (*active.rule.limits.get(direction))?)))
}

/// Of a rule that was in the background and is not any more, or the other way round, there are both for a moment.
fn find_of(cells: &[LimitCell], direction: Direction, background: bool) -> Option<&LimitCell> {
    let is_meant =
        |cell: &&LimitCell| cell.direction == direction && cell.cell.is_adaptive() == background;
    cells.iter().find(is_meant)
}

fn find(cells: &[LimitCell], direction: Direction) -> Option<&LimitCell> {
    cells.iter().find(|cell| cell.direction == direction)
}
