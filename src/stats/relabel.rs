//! Exact tests by relabelling: had nothing changed, swapping base and head inside any round would change nothing, so
//! every round's share of a test statistic has a sign that is a fair coin. The distribution of the statistic over all
//! labellings is counted, not approximated (Fisher 1935; signs in blocks: Pesarin 2001, Multivariate Permutation Tests).
//!
//! Several summaries of one launch may be scored side by side: they share their round's coin, so the sum of their
//! scores is tested as exactly as one of them. Must not know what the values mean; lower is better.

use crate::stats::quantile::sorted;

/// Rounds up to which every labelling is counted, in sums that are exact: multiples of 2^-50. Beyond, the sum of so many
/// coins is as good as normal.
const COUNTED: usize = 50;
/// Steps of a bisection: 2^-28 of the range is far below any noise.
const STEPS: u32 = 28;

/// How the values of rounds are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// By the signed rank of the difference inside the round (Wilcoxon 1945): right where a round's launches share
    /// their disturbances.
    Differences,
    /// By the rank among all launches of both sides, where the slower half counts alike: right where disturbances hit
    /// single launches and only ever add time. (Linear rank scores truncated at the median, in the manner of Gastwirth
    /// 1965.)
    FasterHalf,
}

/// One summary of every launch of both sides, round by round, on a log scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Base.
    pub base: Vec<f64>,
    /// Head.
    pub head: Vec<f64>,
}

impl Summary {
    fn swapped(&self) -> Self {
        Self { base: self.head.clone(), head: self.base.clone() }
    }

    /// Adds each round's score for "head is worse by more than `shift`", in halves of a rank.
    fn add_scores(&self, shift: f64, scores: Scores, totals: &mut [i64]) {
        match scores {
            Scores::Differences => {
                let rest: Vec<f64> = self.base.iter().zip(&self.head).map(|(base, head)| head - base - shift).collect();
                let sizes: Vec<f64> = rest.iter().map(|value| value.abs()).collect();
                for ((total, value), rank) in totals.iter_mut().zip(&rest).zip(doubled_ranks(&sizes)) {
                    *total += if *value > 0.0 { rank } else { -rank } * i64::from(*value != 0.0);
                }
            }
            Scores::FasterHalf => {
                let n = self.base.len();
                let pool: Vec<f64> =
                    self.base.iter().copied().chain(self.head.iter().map(|head| head - shift)).collect();
                let ranks = doubled_ranks(&pool);
                let score = |at: usize| ranks[at].min((2 * n).cast_signed() as i64);
                for (round, total) in totals.iter_mut().enumerate() {
                    *total += score(n + round) - score(round);
                }
            }
        }
    }
}

/// Twice the midranks, so that ties stay whole numbers.
fn doubled_ranks(values: &[f64]) -> Vec<i64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start + order[start..].iter().take_while(|at| values[**at] == value).count();
        for at in &order[start..end] {
            ranks[*at] = (start + end + 1).cast_signed() as i64;
        }
        start = end;
    }
    ranks
}

/// Each round's score for "head is worse by more than `shift`", all summaries together.
fn scores(summaries: &[Summary], shift: f64, kind: Scores) -> Vec<i64> {
    let mut totals = vec![0; summaries.first().map_or(0, |summary| summary.base.len())];
    for summary in summaries {
        summary.add_scores(shift, kind, &mut totals);
    }
    totals
}

/// The chance that fair coins for the signs make the sum of `scores` at least what it is.
#[must_use]
pub fn upper_tail(scores: &[i64]) -> f64 {
    let sizes: Vec<usize> = scores.iter().map(|score| score.unsigned_abs() as usize).collect();
    let positive: usize = scores.iter().filter(|score| **score > 0).map(|score| *score as usize).sum();
    if sizes.len() > COUNTED {
        return normal_tail(&sizes, positive);
    }
    // A common divisor leaves the distribution as it is and makes it shorter.
    let divisor = sizes.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let mut chances = vec![1.0_f64];
    for size in sizes.iter().map(|size| size / divisor).filter(|size| *size > 0) {
        let mut next = vec![0.0; chances.len() + size];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += chance / 2.0;
            next[sum + size] += chance / 2.0;
        }
        chances = next;
    }
    chances[positive / divisor..].iter().rev().sum::<f64>().min(1.0)
}

fn normal_tail(sizes: &[usize], positive: usize) -> f64 {
    let mean = sizes.iter().sum::<usize>() as f64 / 2.0;
    let spread = sizes.iter().map(|size| (*size as f64 / 2.0).powi(2)).sum::<f64>().sqrt();
    if spread == 0.0 {
        return 1.0;
    }
    // Half a step against the hypothesis, as for every sum of whole numbers.
    let z = (positive as f64 - 0.5 - mean) / spread;
    0.5 * statrs::function::erf::erfc(z / std::f64::consts::SQRT_2)
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Beyond every shift at which a score can change.
fn reach(summaries: &[Summary]) -> f64 {
    let span = |summary: &Summary| {
        let all = sorted(&[summary.base.as_slice(), &summary.head].concat());
        all.last().zip(all.first()).map_or(0.0, |(last, first)| last - first)
    };
    2.0 * summaries.iter().map(span).fold(0.0, f64::max) + 1e-6
}

/// The largest shift for which `holds` by bisection, from one for which it does to one for which it does not.
fn last(mut yes: f64, mut no: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(yes, no);
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    f64::midpoint(yes, no)
}

/// The shift that leaves the scores without a sum: Hodges and Lehmann's way to an estimate (1963).
#[must_use]
pub fn estimate(summaries: &[Summary], kind: Scores) -> f64 {
    let far = reach(summaries);
    let swapped: Vec<Summary> = summaries.iter().map(Summary::swapped).collect();
    let end = |of: &[Summary]| last(-far, far, |shift| scores(of, shift, kind).iter().sum::<i64>() > 0);
    // Both ends of where the sum vanishes, so that swapped sides give exactly the opposite.
    (end(summaries) - end(&swapped)) / 2.0
}

/// One-sided lower bound of the shift at `alpha`; minus infinity where so few rounds can exclude nothing.
#[must_use]
pub fn lower_bound(summaries: &[Summary], kind: Scores, alpha: f64) -> f64 {
    let far = reach(summaries);
    let excluded = |shift: f64| upper_tail(&scores(summaries, shift, kind)) <= alpha;
    if excluded(-far) { last(-far, far, excluded) } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::evidence::hodges_lehmann;
    use crate::stats::signed_rank;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    /// STATISTICS reference 5.
    const D: [f64; 12] = [0.031, 0.044, 0.012, 0.038, 0.052, 0.027, 0.035, -0.004, 0.041, 0.030, 0.036, 0.029];

    fn of(differences: &[f64]) -> [Summary; 1] {
        [Summary { base: vec![0.0; differences.len()], head: differences.to_vec() }]
    }

    /// STATISTICS reference 11, and the closed form of the bound.
    #[test]
    fn one_summary_of_differences_is_wilcoxon_s_test() {
        let tail = upper_tail(&scores(&of(&D), 0.0099, Scores::Differences));
        assert!((tail - 0.000_732_421_875).abs() < 1e-12, "{tail}");
        assert!((estimate(&of(&D), Scores::Differences) - hodges_lehmann(&D)).abs() < 1e-7);
        for alpha in [0.005, 0.025, 0.05] {
            let bound = lower_bound(&of(&D), Scores::Differences, alpha);
            assert!((bound - signed_rank::lower_bound(&D, alpha)).abs() < 1e-7, "{alpha}: {bound}");
        }
    }

    #[test]
    fn coins_are_counted() {
        assert_eq!(upper_tail(&[]), 1.0);
        assert_eq!(upper_tail(&[0, 0]), 1.0);
        assert_eq!(upper_tail(&[7; 8]), 0.5_f64.powi(8));
        // {3}, {1, 2}, {1, 3}, {2, 3} and {1, 2, 3} reach 1 + 2.
        assert_eq!(upper_tail(&[1, 2, -3]), 5.0 / 8.0);
    }

    #[test]
    fn many_coins_are_nearly_normal() {
        let scores: Vec<i64> = (1..=50).map(|i| if i % 3 == 0 { -i } else { i }).collect();
        let sizes: Vec<usize> = (1..=50).collect();
        let positive = (1..=50).filter(|i| i % 3 != 0).sum();
        let (counted, normal) = (upper_tail(&scores), normal_tail(&sizes, positive));
        assert!((counted / normal - 1.0).abs() < 0.05, "{counted}, {normal}");
    }

    #[test]
    fn few_rounds_exclude_nothing() {
        assert_eq!(lower_bound(&of(&[1.0; 5]), Scores::Differences, 0.025), f64::NEG_INFINITY);
    }

    /// A third of the launches of either side are disturbed at random, by six times the change.
    #[test]
    fn disturbances_of_single_launches_cost_the_faster_half_little() {
        let near = (0..40)
            .filter(|seed| {
                let mut random = ChaCha8Rng::seed_from_u64(*seed);
                let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                let mut side = |shift: f64| -> Vec<f64> {
                    let mut launch = || if uniform() < 0.35 { 0.3 + 0.3 * uniform() } else { 0.01 * uniform() };
                    (0..24).map(|_| shift + launch()).collect()
                };
                let summary = [Summary { base: side(0.0), head: side(0.05) }];
                (estimate(&summary, Scores::FasterHalf) - 0.05).abs() < 0.02
            })
            .count();
        assert!(near >= 30, "{near} of 40");
    }

    proptest! {
        #[test]
        fn swapping_the_sides_mirrors(
            base in proptest::collection::vec(-0.3f64..0.3, 12), head in proptest::collection::vec(-0.3f64..0.3, 12),
        ) {
            let summary = [Summary { base, head }];
            let swapped = [summary[0].swapped()];
            for kind in [Scores::Differences, Scores::FasterHalf] {
                prop_assert_eq!(estimate(&summary, kind), -estimate(&swapped, kind));
                let (lower, upper) = (lower_bound(&summary, kind, 0.025), -lower_bound(&swapped, kind, 0.025));
                prop_assert!(lower <= upper, "{} {}", lower, upper);
            }
        }

        #[test]
        fn the_order_of_rounds_does_not_matter(
            rounds in proptest::collection::vec((-0.3f64..0.3, -0.3f64..0.3), 12),
        ) {
            let summary = |rounds: &[(f64, f64)]| {
                [Summary {
                    base: rounds.iter().map(|(base, _)| *base).collect(),
                    head: rounds.iter().map(|(_, head)| *head).collect(),
                }]
            };
            let back: Vec<(f64, f64)> = rounds.iter().rev().copied().collect();
            for kind in [Scores::Differences, Scores::FasterHalf] {
                let bounds = [&rounds, &back].map(|rounds| lower_bound(&summary(rounds), kind, 0.025));
                prop_assert_eq!(bounds[0], bounds[1]);
            }
        }
    }
}
