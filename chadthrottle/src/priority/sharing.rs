//! How what a link has is shared: by normal traffic first if that is held, as some is more important, and then by the
//! background. Rules that have a rate besides have no more than that, what one does not use the others have, and where
//! all want more each has the same for each of its rules.

/// The share of someone who moves less than it may follows what it moves: so many times as much...
const GROWS: f64 = 1.25;

/// ... and so many bytes a second more, for whoever begins.
const BEGINS: f64 = 4_000.0;

/// The background has this part in any case...
const BACKGROUND_PART: f64 = 0.01;

/// ... and so many bytes a second, or half of what there is: of nothing nobody could tell when there is more.
const BACKGROUND: f64 = 4_000.0;

/// Which traffic comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Everybody's.
    Normal,
    /// What has the rest.
    Background,
}

/// Rules that have a limit together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Whether it comes first.
    pub tier: Tier,
    /// How many rules they are.
    pub weight: f64,
    /// Never more than this, in bytes a second.
    pub ceiling: f64,
    /// What they moved lately, in bytes a second.
    pub used: f64,
    /// Whether they had more than they were let.
    pub held: bool,
}

/// What each may have of what is left.
pub fn share(left: f64, parts: &[Part]) -> Vec<f64> {
    let wanted = |part: &Part| match part.held {
        true => part.ceiling,
        false => part.ceiling.min(part.used * GROWS + BEGINS),
    };
    let mut shares = vec![0.0; parts.len()];
    let left_of = |shares: &[f64]| left - shares.iter().sum::<f64>();
    let is_normal = |part: &Part| part.tier == Tier::Normal;
    if parts.iter().any(is_normal) {
        let background = |part: &Part| match is_normal(part) {
            true => 0.0,
            false => part.ceiling,
        };
        let in_any_case = (left * BACKGROUND_PART).max(BACKGROUND).min(left / 2.0);
        give(in_any_case, parts, &mut shares, background);
        let rest = left_of(&shares);
        give(rest, parts, &mut shares, |part| match is_normal(part) {
            true => wanted(part),
            false => 0.0,
        });
    }
    let rest = left_of(&shares);
    give(rest, parts, &mut shares, wanted);
    // Nobody wants the rest, and whoever may have it need not wait for it.
    let rest = left_of(&shares);
    give(rest, parts, &mut shares, |part| part.ceiling);
    shares
}

/// Gives away what there is, by weight, to nobody more than is wanted.
fn give(mut there: f64, parts: &[Part], shares: &mut [f64], wanted: impl Fn(&Part) -> f64) {
    let missing = |part: &Part, share: f64| (wanted(part) - share).max(0.0);
    let mut waiting: Vec<usize> = (0..parts.len()).collect();
    while there > 0.0 && !waiting.is_empty() {
        let weight: f64 = waiting.iter().map(|index| parts[*index].weight).sum();
        let each = there / weight;
        let (content, others): (Vec<usize>, Vec<usize>) =
            (waiting.into_iter()).partition(|index| {
                missing(&parts[*index], shares[*index]) <= each * parts[*index].weight
            });
        if content.is_empty() {
            for index in others {
                shares[index] += each * parts[index].weight;
            }
            return;
        }
        for index in content {
            let gets = missing(&parts[index], shares[index]);
            shares[index] += gets;
            there -= gets;
        }
        waiting = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(ceiling: f64, used: f64, held: bool) -> Part {
        Part {
            tier: Tier::Background,
            weight: 1.0,
            ceiling,
            used,
            held,
        }
    }

    const NONE: f64 = f64::INFINITY;

    #[test]
    fn a_rate_besides_is_kept_and_the_rest_is_the_others() {
        let all = part(NONE, 0.0, true);
        let cases: [(&[Part], &[f64]); 6] = [
            (&[all], &[1e6]),
            // It has its rate, and the others what is left.
            (&[all, part(2e5, 2e5, true)], &[8e5, 2e5]),
            // Where there is little, all have the same.
            (&[all, part(2e6, 5e5, true)], &[5e5, 5e5]),
            // What it does not use the others have.
            (&[all, part(2e6, 0.0, false)], &[1e6 - BEGINS, BEGINS]),
            (
                &[all, part(2e6, 1e5, false)],
                &[1e6 - 1.25e5 - BEGINS, 1.25e5 + BEGINS],
            ),
            // If nobody wants more, it is there for whoever begins.
            (&[part(2e5, 0.0, false), part(3e5, 0.0, false)], &[2e5, 3e5]),
        ];
        for (parts, shares) in cases {
            let had = share(1e6, parts);
            let near = |(had, share): (&f64, &f64)| (had - share).abs() < 1.0;
            assert!(
                had.iter().zip(shares).all(near),
                "{parts:?}: {had:?}, not {shares:?}"
            );
        }
        let three = Part { weight: 3.0, ..all };
        assert_eq!(share(1e6, &[three, part(2e6, 5e5, true)]), [7.5e5, 2.5e5]);
    }

    #[test]
    fn normal_traffic_comes_before_the_background() {
        let normal = |used, held| Part {
            tier: Tier::Normal,
            ..part(NONE, used, held)
        };
        let background = part(NONE, 5e5, true);
        let cases: [(&[Part], &[f64]); 4] = [
            (&[normal(0.0, true)], &[1e6]),
            (&[normal(0.0, true), background], &[9.9e5, 1e4]),
            (
                &[background, normal(2e5, false)],
                &[1e6 - 2.5e5 - BEGINS, 2.5e5 + BEGINS],
            ),
            // What neither wants is there for both.
            (&[part(NONE, 0.0, false), normal(0.0, false)], &[5e5, 5e5]),
        ];
        for (parts, shares) in cases {
            let had = share(1e6, parts);
            let near = |(had, share): (&f64, &f64)| (had - share).abs() < 6e3;
            assert!(
                had.iter().zip(shares).all(near),
                "{parts:?}: {had:?}, not {shares:?}"
            );
        }
        let little = share(1_000.0, &[normal(0.0, true), background]);
        assert_eq!(little, [500.0, 500.0]);
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let tier = prop_oneof![Just(Tier::Normal), Just(Tier::Background)];
        let one = (
            tier,
            1u32..4,
            prop::option::of(0.0..1e7),
            0.0..1e7,
            any::<bool>(),
        );
        let part = one.prop_map(|(tier, weight, ceiling, used, held)| Part {
            tier,
            weight: weight.into(),
            ceiling: ceiling.unwrap_or(NONE),
            used,
            held,
        });
        prop::collection::vec(part, 1..8)
    }

    proptest! {
        #[test]
        fn nobody_has_more_than_a_rate_and_all_no_more_than_there_is(
            left in 0.0..1e8,
            parts in parts(),
        ) {
            let shares = share(left, &parts);
            for (share, part) in shares.iter().zip(&parts) {
                prop_assert!(*share >= 0.0 && *share <= part.ceiling + 1e-3);
            }
            let sum: f64 = shares.iter().sum();
            let most: f64 = parts.iter().map(|part| part.ceiling).sum();
            // And all that somebody may have is given away.
            prop_assert!((sum - left.min(most)).abs() <= 1e-6 * left + 1e-3, "{sum} of {left}");
        }
    }
}
