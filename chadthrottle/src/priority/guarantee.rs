//! What is kept of a link for those who are guaranteed a part of it: all of the part when they begin, and from then on
//! somewhat more than they use, so that nothing is taken from the others that nobody needs.

use std::time::Duration;

/// What they use is told for about so long...
const LATELY: Duration = Duration::from_millis(300);

/// ... and what they used at the most, for about so long.
const AT_MOST: Duration = Duration::from_secs(2);

/// So much more than the part is kept: a link's speed is not known to the last packet...
const MARGIN: f64 = 1.15;

/// ... and if they have less than this, they may lack something.
const ENOUGH: f64 = 1.08;

/// Something is done about that, and it takes so long to be felt: then they have so much more...
const FELT: Duration = Duration::from_millis(500);
const ANSWER: f64 = 1.1;

/// ... or they did not want it. So often that is asked of who had all of it before...
const TRIES_IF_HAD: u32 = 3;

/// ... of who begins...
const TRIES_IF_NEW: u32 = 1;

/// ... and of who had more when he was asked.
const TRIES_IF_ANSWERED: u32 = 2;

/// For so long it is believed of whoever begins, or goes on after a pause, that he will use all of it.
const TRUSTED: Duration = Duration::from_secs(2);

/// Then so many times what he used is kept, and so many bytes a second.
const GROWS: f64 = 1.5;
const BEGINS: f64 = 16_000.0;

/// For who pauses for so long nobody is held any more.
const PAUSE: Duration = Duration::from_secs(10);

/// The others are let go if they take no more than is left to them for so long, and the part is used.
const NEEDLESS: Duration = Duration::from_secs(10);

/// A part of a link that is guaranteed to somebody, in one direction.
#[derive(Clone, Debug)]
pub struct Guarantee {
    /// What he is guaranteed, in bytes a second.
    part: f64,
    /// What he used lately, and at the most.
    used: f64,
    peak: f64,
    looked: Option<Duration>,
    /// Since when he uses the link at all, and when he did last.
    active: Option<(Duration, Duration)>,
    /// Since when the others are held, and when that was needed last.
    holds: Option<(Duration, Duration)>,
    /// How often it is still to be told that he lacks something.
    tries: u32,
    /// When it was told last, and what he used then.
    told: Option<(Duration, f64)>,
}

/// What is kept of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Bytes a second.
    pub rate: f64,
    /// So much of it they have not, though they seem to want it: the link carries less than is believed.
    pub lacks: f64,
}

impl Kept {
    /// What is kept for both.
    pub fn and(self, other: Self) -> Self {
        Self {
            rate: self.rate + other.rate,
            lacks: self.lacks + other.lacks,
        }
    }
}

impl Guarantee {
    /// A part of so many bytes a second, that nobody uses yet.
    pub fn new(part: f64) -> Self {
        Self {
            part,
            used: 0.0,
            peak: 0.0,
            looked: None,
            active: None,
            holds: None,
            tries: 0,
            told: None,
        }
    }

    /// Makes it another part.
    pub fn change(&mut self, part: f64) {
        self.part = part;
    }

    /// So many bytes passed since the last time; `active` tells whether they are more than it takes to keep a connection
    /// open, `others_want` whether the others want more than they are let.
    pub fn look(&mut self, now: Duration, bytes: u64, active: bool, others_want: bool) {
        let before = self.looked.replace(now).unwrap_or(now);
        let passed = now.saturating_sub(before).as_secs_f64();
        let fades = |time: Duration| (-passed / time.as_secs_f64()).exp();
        if passed > 0.0 {
            self.used += (bytes as f64 / passed - self.used) * (1.0 - fades(LATELY));
        }
        self.peak = self.used.max(self.peak * fades(AT_MOST));
        self.active = match (active, self.active) {
            (true, Some((since, last))) if now < last + AT_MOST => Some((since, now)),
            (true, _) => Some((now, now)),
            (false, active) => active.filter(|(_, last)| now < *last + PAUSE),
        };
        if self.used >= self.part * MARGIN {
            self.tries = TRIES_IF_HAD;
        }
        let lacks = active && self.used < self.part;
        if (self.told).is_some_and(|(_, used)| self.used > used * ANSWER) {
            self.tries = self.tries.max(TRIES_IF_ANSWERED);
        }
        let needed = lacks || others_want && self.active.is_some();
        self.holds = match self.holds {
            None if lacks => {
                self.tries = TRIES_IF_NEW;
                self.told = Some((now, self.used));
                Some((now, now))
            }
            None => None,
            Some((since, _)) if needed => Some((since, now)),
            Some((_, last)) if self.active.is_none() || now >= last + NEEDLESS => None,
            holds => holds,
        };
    }

    /// What is kept for him now; nothing if nobody is held for him.
    pub fn kept(&mut self, now: Duration) -> Option<Kept> {
        let (held, _) = self.holds?;
        let Some((since, last)) = self.active.filter(|(_, last)| now < *last + AT_MOST) else {
            return Some(Kept::default());
        };
        let all = self.part * MARGIN;
        let uses = self.peak * GROWS + BEGINS;
        let is_trusted = now < since.max(held) + TRUSTED;
        let rate = if is_trusted { all } else { all.min(uses) };
        let missing = (self.part * ENOUGH - self.used).max(0.0);
        let is_felt = self.told.is_none_or(|(told, _)| now >= told + FELT);
        let may_lack = rate == all && last == now && missing > 0.0 && is_felt;
        let lacks = may_lack && self.tries > 0;
        if lacks {
            self.tries -= 1;
            self.told = Some((now, self.used));
        }
        Some(Kept {
            rate,
            lacks: if lacks { missing } else { 0.0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    /// Uses so much for some seconds; returns what was kept at the end, and how often something was lacked.
    fn uses(
        guarantee: &mut Guarantee,
        now: &mut Duration,
        seconds: u64,
        rate: f64,
        others_want: bool,
    ) -> (Option<Kept>, u32) {
        let (mut kept, mut lacked) = (None, 0);
        for _ in 0..seconds * 50 {
            *now += STEP;
            let bytes = (rate * STEP.as_secs_f64()) as u64;
            guarantee.look(*now, bytes, bytes > 0, others_want);
            kept = guarantee.kept(*now);
            lacked += u32::from(kept.is_some_and(|kept| kept.lacks > 0.0));
        }
        (kept, lacked)
    }

    fn rate(kept: Option<Kept>) -> f64 {
        kept.map_or(-1.0, |kept| kept.rate)
    }

    #[test]
    fn what_is_kept_is_what_is_used_and_somewhat_more() {
        let mut guarantee = Guarantee::new(1e6);
        let mut now = Duration::from_secs(1);
        // Idle.
        assert_eq!(uses(&mut guarantee, &mut now, 5, 0.0, true).0, None);
        // It begins, and has the doubt's benefit.
        let (kept, _) = uses(&mut guarantee, &mut now, 1, 1e5, true);
        assert_eq!(rate(kept), MARGIN * 1e6);
        // It does not want more.
        let (kept, _) = uses(&mut guarantee, &mut now, 20, 1e5, true);
        assert!((rate(kept) - 1.5e5 - BEGINS).abs() < 1e4, "{kept:?}");
        let (_, lacked) = uses(&mut guarantee, &mut now, 20, 1e5, true);
        assert_eq!(lacked, 0);
        // It does.
        let (kept, _) = uses(&mut guarantee, &mut now, 2, 1.2e6, true);
        assert_eq!(rate(kept), MARGIN * 1e6);
        // It has less than it had: that is told again and again, and not for ever.
        let (_, lacked) = uses(&mut guarantee, &mut now, 20, 9e5, true);
        assert_eq!(lacked, TRIES_IF_HAD);
        // It pauses, and nothing is kept; it ends, and nobody is held.
        let (kept, _) = uses(&mut guarantee, &mut now, 3, 0.0, true);
        assert_eq!(kept, Some(Kept::default()));
        let (kept, _) = uses(&mut guarantee, &mut now, 1, 1e5, true);
        assert_eq!(rate(kept), MARGIN * 1e6);
        uses(&mut guarantee, &mut now, 3, 0.0, true);
        assert_eq!(uses(&mut guarantee, &mut now, 9, 0.0, true).0, None);
    }

    #[test]
    fn nobody_is_held_for_who_has_enough() {
        let mut guarantee = Guarantee::new(1e6);
        let mut now = Duration::from_secs(1);
        uses(&mut guarantee, &mut now, 3, 5e5, true);
        // Others let him have more, and want no more than is left.
        let (kept, _) = uses(&mut guarantee, &mut now, 5, 5e6, false);
        assert!(kept.is_some());
        let (kept, _) = uses(&mut guarantee, &mut now, 6, 5e6, false);
        assert_eq!(kept, None);
        // They come back, and he has enough still.
        assert_eq!(uses(&mut guarantee, &mut now, 9, 2e6, true).0, None);
        assert!(uses(&mut guarantee, &mut now, 1, 5e5, true).0.is_some());
    }
}
