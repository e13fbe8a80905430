//! How processes become known: each meets the rules, and what counts for it is what the next of its
//! kind begin with.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chadthrottle_common::{
    event::ProcessSeen,
    newcomer::{Kind, Trees},
    tag::Tag,
};

use super::{Engine, cells::LimitCell, owners::Owner};
use crate::{
    kernel::SlotsExhausted,
    model::process::{Identity, Pid},
    policy::{
        choose::Choice,
        prewarm::{self, stand_ins},
    },
    process::{ancestry, cgroups, descriptors},
};

/// How long it may take until it is noticed that a cgroup whose processes share a slot is gone.
const LOOK_AT_CROWDS: Duration = Duration::from_secs(5);

/// That some share a slot is told so often at the most; each has a row that shows it.
const TELL_OF_CROWDS: Duration = Duration::from_secs(600);

impl Engine {
    /// Takes in the processes that the kernel gave slots, each with what counts for it, and the
    /// devices that limited packets came to leave by. It costs next to nothing when there are none;
    /// so whatever may take longer than a millisecond calls it in between, and nothing new waits for
    /// it.
    pub(super) fn attend(&mut self) {
        // What is done for one may call this; the next has its turn afterwards. Inside it, ten thousand that come at
        // once would need as many frames of the stack.
        if std::mem::replace(&mut self.is_attending, true) {
            return;
        }
        while let Some(seen) = self.kernel.announcements.next() {
            self.announced(&seen);
        }
        while let Some(slot) = self.kernel.roads.next() {
            self.see_to_road(slot);
        }
        self.is_attending = false;
    }

    /// Takes in those whose announcements were lost, if any were.
    pub(super) fn notice_lost_announcements(&mut self) {
        match self.kernel.announcements.newly_lost() {
            Ok(0) => {}
            Ok(lost) => {
                log::debug!("{lost} announcements were lost: all slots are looked at");
                self.admit_unannounced();
            }
            Err(error) => log::warn!("{error:#}"),
        }
    }

    /// Takes in all that have slots and are not known.
    pub(super) fn admit_unannounced(&mut self) {
        let with_slots: Vec<(Pid, Tag)> = self.kernel.slots.processes().collect();
        for (pid, tag) in with_slots {
            self.attend();
            if self.owners.of_tag(tag).is_some() {
                continue;
            }
            // Of a slot that went to the next owner, it may have been read before.
            if self.kernel.slots.is_current(tag) {
                self.admit(tag, pid, None);
            } else {
                self.kernel.slots.forget_process(pid, tag);
            }
        }
        let crowds: Vec<(Kind, Tag)> = self.kernel.slots.crowds().collect();
        for (kind, tag) in crowds {
            self.admit_crowd(tag, kind);
        }
    }

    fn announced(&mut self, seen: &ProcessSeen) {
        let ProcessSeen { kind, tag, .. } = *seen;
        if kind.is_crowd() {
            self.admit_crowd(tag, kind);
            return;
        }
        let pid = Pid(seen.pid);
        self.rules.join(pid, kind.trees);
        self.admit(tag, pid, Some(kind));
        if let Err(error) = self.learn(tag.slot, kind) {
            log::warn!("processes like {pid} begin without limits: {error:#}");
        }
    }

    /// The tag of a running process that is to be limited; it gets a slot if it has none, one of those that are kept for
    /// that if need be.
    ///
    /// # Errors
    ///
    /// [`SlotsExhausted`], or the kernel's, also when the process has
    /// just ended.
    pub(super) fn known(&mut self, pid: Pid) -> anyhow::Result<Tag> {
        self.with_slot(pid, true)
    }

    fn with_slot(&mut self, pid: Pid, in_need: bool) -> anyhow::Result<Tag> {
        if let Some(owner) = self.owners.of_process(pid)
            && owner.ended.is_none()
        {
            return Ok(owner.tag);
        }
        let tag = self.kernel.slots.of_process(pid, in_need)?;
        self.admit(tag, pid, None);
        Ok(tag)
    }

    /// The tag of a running process, and where no slot is left that of all processes of its user and cgroup that have
    /// none. Limits by user, cgroup or unit hold them; a process for which another limit is gets a slot that is kept.
    ///
    /// # Errors
    ///
    /// As of [`Self::known`].
    pub(super) fn known_or_crowd(&mut self, pid: Pid) -> anyhow::Result<Tag> {
        let exhausted = match self.with_slot(pid, false) {
            Err(error) if error.is::<SlotsExhausted>() => error,
            known => return known,
        };
        let identity = self.attribution.identify(pid);
        let identity = identity.with_context(|| format!("process {pid} has ended"))?;
        let cgroup = cgroups::id(self.kernel.cgroup_root(), &identity.cgroup);
        let (Some(uid), Some(cgroup)) = (identity.uid, cgroup) else {
            return Err(exhausted);
        };
        let kind = Kind {
            cgroup,
            uid,
            ..Kind::default()
        };
        let kind = kind.crowd();
        let tag = self.kernel.slots.of_crowd(kind)?;
        self.admit_crowd(tag, kind);
        if self.is_in_need(&identity, tag) {
            return self.known(pid);
        }
        Ok(tag)
    }

    /// Whether other limits are for a process than for the crowd that it is one of, and a slot of its own can be had.
    pub(super) fn is_in_need(&mut self, process: &Identity, crowd: Tag) -> bool {
        if !self.kernel.slots.keeps_any() {
            return false;
        }
        let parents = || ancestry::ancestors(process.key.pid);
        let its = self.rules.choose(process, parents);
        let crowd = self.owners.of_tag(crowd);
        let held = crowd.and_then(|crowd| crowd.enforcement.as_ref());
        held.map_or(!its.is_empty(), |held| held.choice != its)
    }

    /// Lets processes that share a slot become known, and meet the rules as one.
    pub(super) fn admit_crowd(&mut self, tag: Tag, kind: Kind) {
        if self.owners.of_tag(tag).is_some() {
            return;
        }
        let cgroup = cgroups::path(self.kernel.cgroup_root(), kind.cgroup);
        let owner = (self.attribution).crowd(tag, kind, cgroup.as_deref().unwrap_or("/"));
        let pid = owner.pid();
        let said = format!(
            "{} processes are told apart, which is the most this machine's slots allow: further ones of {} in {} are \
             in one row, unless another limit than by user, cgroup or unit is for them",
            self.kernel.slots.told_apart(),
            owner.identity.user,
            owner.identity.cgroup
        );
        // Where containers come and go, each has some.
        let told = self.told_of_crowds;
        if told.is_some_and(|told| told.elapsed() < TELL_OF_CROWDS) {
            log::debug!("{said}");
        } else {
            self.told_of_crowds = Some(Instant::now());
            self.notices.warn(said);
        }
        self.owners.insert(owner);
        self.admit(tag, pid, Some(kind));
    }

    /// Processes that shared a slot are gone when their cgroup is.
    pub(super) fn end_crowds(&mut self, now: Instant) {
        let is_due = now.duration_since(self.looked_at_crowds) >= LOOK_AT_CROWDS;
        if !is_due || !self.owners.iter().any(Owner::is_crowd) {
            return;
        }
        self.looked_at_crowds = now;
        let Some(there) = cgroups::ids(self.kernel.cgroup_root()) else {
            return;
        };
        let crowds = self.kernel.slots.crowds();
        let gone: Vec<(Kind, Tag)> = crowds
            .filter(|(kind, _)| !there.contains(&kind.cgroup))
            .collect();
        for (kind, tag) in gone {
            self.kernel.slots.forget_crowd(kind);
            if let Some(owner) = self.owners.of_slot_mut(tag.slot) {
                owner.ended = Some(now);
            }
        }
    }

    /// Takes in a process that has a slot. Whichever way it was found, it becomes known here and nowhere
    /// else, so that no process escapes the rules. Of one that was announced its kind is known.
    pub(super) fn admit(&mut self, tag: Tag, pid: Pid, kind: Option<Kind>) {
        if self.owners.of_tag(tag).is_none() {
            let owner = self.attribution.owner(tag, pid, kind);
            self.owners.insert(owner);
            self.find_namespace(tag.slot, pid);
        }
        if let Some(owner) = self.owners.of_slot_mut(tag.slot)
            && owner.tag == tag
        {
            // Of one whose announcement was not read, or lost, it is not known: what the kernel let it
            // begin with is to be written over.
            let began = kind.map(|kind| self.prewarmed.of(kind));
            owner.began = Some(began.unwrap_or_default());
        }
        self.meet_rules(tag.slot);
    }

    /// What counts for a process counts for the next of its kind, as far as that is all it takes.
    fn learn(&mut self, slot: u32, kind: Kind) -> anyhow::Result<()> {
        let Some(owner) = self.owners.of_slot(slot) else {
            return Ok(());
        };
        let identity = &owner.identity;
        if owner.ended.is_some() || identity.name.as_bytes() != kind.name() {
            return Ok(());
        }
        let choice = owner.enforcement.as_ref().map(|limit| &limit.choice);
        let choice = choice.cloned().unwrap_or_default();
        let choice = prewarm::of_kind(&self.rules, &choice, identity, kind);
        self.expect(kind, choice)
    }

    fn expect(&mut self, kind: Kind, choice: Choice) -> anyhow::Result<()> {
        if self.prewarmed.of(kind) == choice {
            return Ok(());
        }
        self.remember(kind, choice)
    }

    fn remember(&mut self, kind: Kind, choice: Choice) -> anyhow::Result<()> {
        if self.prewarmed.is_full() {
            self.prewarmed.clear();
            self.kernel.newcomers.forget();
            self.expect_stand_ins();
        }
        for (direction, id) in choice.limits.parts() {
            if let Some(active) = self.rules.get(id)
                && self.cells.of_newcomers(active, direction).is_none()
                && let Some(rate) = *active.rule.limits.get(direction)
            {
                let cell = LimitCell::allocate(&mut self.kernel.limits, id, direction, rate)?;
                self.cells.add_for_newcomers(cell);
            }
        }
        let cell = |direction, class| {
            let active = self
                .rules
                .get((*choice.limits.get(direction).get(class))?)?;
            let cell = self.cells.of_newcomers(active, direction)?;
            Some(&cell.cell)
        };
        let metered = !choice.meters.is_empty();
        self.kernel.newcomers.expect(kind, cell, metered)?;
        self.prewarmed.insert(kind, choice);
        Ok(())
    }

    /// The rules have changed: what was found out may not hold any more. Returns the cells that
    /// processes began with; slots may name them until the announcements are read.
    pub(super) fn forget_newcomers(&mut self) -> Vec<LimitCell> {
        self.kernel.newcomers.forget();
        self.prewarmed.clear();
        let cells = self.cells.take_from_newcomers();
        self.follow_trees();
        self.expect_stand_ins();
        cells
    }

    /// Lets processes that are like none seen before begin with what the rules say of what is known
    /// of them.
    fn expect_stand_ins(&mut self) {
        for (kind, choice) in stand_ins(&self.rules) {
            if let Err(error) = self.remember(kind, choice) {
                log::warn!("new processes begin without limits: {error:#}");
                break;
            }
        }
    }

    /// Sees to it that the kernel knows the trees that limits are for.
    fn follow_trees(&mut self) {
        if self.rules.has_trees() {
            self.look_for_descendants();
        } else {
            self.kernel.follow_forks(false);
            for pid in self.kernel.newcomers.families().into_keys() {
                self.kernel.newcomers.leave(pid);
            }
        }
    }

    /// Takes in the descendants that there are now.
    pub(super) fn look_for_descendants(&mut self) {
        let followed = self.kernel.follow_forks(true);
        let forked = if followed {
            self.kernel.newcomers.families()
        } else {
            HashMap::new()
        };
        for (pid, trees) in &forked {
            self.rules.join(*pid, *trees);
        }
        let mut found: HashMap<Pid, Option<Vec<Pid>>> = HashMap::new();
        let mut next = self.rules.descendants();
        while let Some(pid) = next.pop() {
            self.attend();
            if let Entry::Vacant(place) = found.entry(pid) {
                let children = ancestry::is_alive(pid).then(|| descriptors::children(pid));
                next.extend(children.iter().flatten());
                place.insert(children);
            }
        }
        let children = |pid| found.get(&pid).cloned().flatten().unwrap_or_default();
        // Whoever was taken in meanwhile is looked at the next time.
        let alive = |pid| found.get(&pid).is_none_or(Option::is_some);
        self.rules.look_for_descendants(children, alive);
        if followed {
            self.tell_families(&forked);
        }
    }

    /// Brings what the kernel knows of trees to what is known here.
    fn tell_families(&mut self, there: &HashMap<Pid, Trees>) {
        let families = self.rules.families();
        for pid in there.keys().filter(|pid| !families.contains_key(pid)) {
            self.kernel.newcomers.leave(*pid);
        }
        for (pid, trees) in families {
            if there.get(&pid) != Some(&trees)
                && let Err(error) = self.kernel.newcomers.join(pid, trees)
            {
                log::debug!("{error:#}");
            }
        }
    }
}
