//! What pairs of the same program teach about a metric's noise: which statistic stands for a launch, how much pairs
//! scatter, which changes can be seen, and how often a verdict would be wrong.
//!
//! The last two are measured, not derived: the sequential decision itself is run on differences drawn from the recorded
//! ones with random signs, because under "no change" every sign is as likely as its opposite. The draws come from a
//! fixed seed, so that the same recording gives the same model.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::domain::{LaunchStatistic, Metric, MetricSummary, Thresholds};
use crate::stats::evidence::{Pairs, Side, interquartile_spread};
use crate::stats::quantile::standard_deviation;
use crate::verdict::kind;
use crate::verdict::paired::{Answer, PAIRS_MIN, Question};
use crate::verdict::policy::{KAPPA, Q};

/// Pairs from which another statistic than the median may be chosen (STATISTICS.md section 2).
pub const CHOICE_PAIRS: usize = 20;
/// Another statistic is taken where it scatters less by this factor.
const WORTH: f64 = 0.8;
/// Verdicts tried for each question.
const TRIALS: u32 = 200;
/// Share of the trials that must find a change for it to count as detectable.
const POWER: f64 = 0.8;
/// Steps of the bisection for the smallest change: to a hundredth of the range.
const STEPS: u32 = 7;
/// The smallest spread of pairs believed, log units.
const FLOOR: f64 = 1e-4;
/// Efficiency of the Hodges–Lehmann estimate for normal data, `3 / pi`.
const EFFICIENCY: f64 = 3.0 / std::f64::consts::PI;
/// Two-sided 95 % point of the normal distribution.
const NORMAL_95: f64 = 1.96;

/// What was learnt of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Learnt {
    /// What stands for a launch.
    pub statistic: LaunchStatistic,
    /// Robust spread of a pair's difference, log units.
    pub pair_spread: f64,
    /// Its standard deviation, log units.
    pub pair_deviation: f64,
    /// Classes found among the trials without a change.
    pub false_alarms: u32,
    /// Trials.
    pub trials: u32,
    /// Smallest slowdown that is found in four of five trials, a fraction; absent where not even twice the severe limit is.
    pub smallest_detectable: Option<f64>,
    /// Mean pairs that a verdict on no change takes.
    pub unchanged_pairs: f64,
}

/// Half-width of the 95 % interval that `pairs` pairs of this spread can give, a fraction: no threshold below it means
/// anything.
#[must_use]
pub fn noise_floor(pair_spread: f64, pairs: usize) -> f64 {
    (NORMAL_95 * pair_spread / (EFFICIENCY * pairs.max(1) as f64).sqrt()).exp_m1()
}

/// Learns from A/A pairs, each the metric's summary in both launches. `comparisons` share the false-alarm budget, and a
/// case gets at most `most` pairs. `None` where the pairs are too few, or a value has no logarithm.
#[must_use]
pub fn learn(
    metric: &Metric,
    thresholds: &Thresholds,
    pairs: &[[&MetricSummary; 2]],
    comparisons: usize,
    most: usize,
) -> Option<Learnt> {
    if pairs.len() < PAIRS_MIN {
        return None;
    }
    let differences = |statistic: LaunchStatistic| -> Option<Vec<f64>> {
        let logs = pairs.iter().map(|[a, b]| statistic.of(b).ln() - statistic.of(a).ln());
        logs.map(|difference| difference.is_finite().then_some(difference)).collect()
    };
    let mut statistic = LaunchStatistic::default();
    let mut chosen = differences(statistic)?;
    if pairs.len() >= CHOICE_PAIRS {
        for other in LaunchStatistic::ALL {
            let candidate = differences(other)?;
            if interquartile_spread(&candidate) < WORTH * interquartile_spread(&chosen) {
                (statistic, chosen) = (other, candidate);
            }
        }
    }
    let level = statistic.of(pairs[0][0]);
    let floor = kind::spread_floor(metric, level, FLOOR);
    let pair_spread = interquartile_spread(&chosen).max(floor);
    let world = World { differences: &chosen, prior: pair_spread, floor, most };
    let question = Question::new(thresholds, comparisons).with_most(most);
    let mut random = ChaCha8Rng::seed_from_u64(0x5eed);
    let (mut false_alarms, mut taken) = (0, 0);
    for _ in 0..TRIALS {
        let (answer, n) = question.replay(&world.draw(0.0, &mut random), pair_spread, floor);
        false_alarms += u32::from(matches!(answer, Answer::Changed { .. }));
        taken += n;
    }
    Some(Learnt {
        statistic,
        pair_spread,
        pair_deviation: standard_deviation(&chosen).max(floor),
        false_alarms,
        trials: TRIALS,
        smallest_detectable: world.smallest_detectable(2.0 * thresholds.severe, (comparisons.max(1) as f64 / Q).ln()),
        unchanged_pairs: taken as f64 / f64::from(TRIALS),
    })
}

/// Recorded differences without a change, to draw from.
struct World<'a> {
    differences: &'a [f64],
    prior: f64,
    floor: f64,
    most: usize,
}

impl World<'_> {
    /// As many differences as a case may take, each a recorded one with a random sign, moved by `shift`.
    fn draw(&self, shift: f64, random: &mut ChaCha8Rng) -> Vec<f64> {
        (0..self.most)
            .map(|_| {
                let bits = random.next_u64();
                let drawn = self.differences[((bits >> 1) % self.differences.len() as u64) as usize];
                shift + if bits & 1 == 0 { drawn } else { -drawn }
            })
            .collect()
    }

    /// The smallest change that is told from half of itself in most trials; a fraction up to `largest`.
    fn smallest_detectable(&self, largest: f64, confirm: f64) -> Option<f64> {
        let found = |change: f64| {
            let shift = change.ln_1p();
            let mut random = ChaCha8Rng::seed_from_u64(0x000a_11ce);
            let hits = (0..TRIALS).filter(|_| self.sees(shift, confirm, &mut random)).count();
            hits as f64 >= POWER * f64::from(TRIALS)
        };
        if !found(largest) {
            return None;
        }
        // On the log scale, from far below what any clock resolves.
        let (mut low, mut high) = (1e-4_f64.ln(), largest.ln());
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if found(middle.exp()) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high.exp())
    }

    fn sees(&self, shift: f64, confirm: f64, random: &mut ChaCha8Rng) -> bool {
        let mut pairs = Pairs::new(self.prior, self.floor);
        for difference in self.draw(shift, random) {
            pairs.push(difference);
            if pairs.len() >= PAIRS_MIN && pairs.log_evidence(KAPPA * shift, Side::Above) >= confirm {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(median: f64, best: f64) -> MetricSummary {
        let metric = Metric::standard(Metric::LATENCY).expect("in the table");
        MetricSummary { metric, n: 20, iterations: 1, median, q25: median, min: best, q75: median }
    }

    /// Pairs whose medians scatter by `spread` and whose best samples hardly do.
    fn learnt(spread: f64, count: usize) -> Option<Learnt> {
        let launches: Vec<[MetricSummary; 2]> = (0..count)
            .map(|i| {
                let wave = ((i * 7 % 11) as f64 - 5.0) / 5.0;
                [summary(1.0, 0.9), summary(1.0 + spread * wave, 0.9 * (1.0 + 0.01 * spread * wave))]
            })
            .collect();
        let pairs: Vec<[&MetricSummary; 2]> = launches.iter().map(|[a, b]| [a, b]).collect();
        learn(&launches.first()?[0].metric, &Thresholds::default(), &pairs, 10, 40)
    }

    #[test]
    fn quieter_pairs_show_smaller_changes() {
        let (quiet, loud) = (learnt(0.005, 12).expect("enough"), learnt(0.08, 12).expect("enough"));
        let of = |learnt: &Learnt| learnt.smallest_detectable.expect("within the range");
        assert!(of(&quiet) < 0.02 && of(&loud) > 2.0 * of(&quiet), "{quiet:?} {loud:?}");
        assert!(quiet.false_alarms <= 2 && loud.false_alarms <= 2);
        assert!(quiet.unchanged_pairs < loud.unchanged_pairs);
        assert!(noise_floor(0.05, 40) > noise_floor(0.05, 160));
    }

    #[test]
    fn the_steadier_statistic_is_chosen_once_there_are_pairs_enough() {
        assert_eq!(learnt(0.05, 19).expect("enough").statistic, LaunchStatistic::Median);
        assert_eq!(learnt(0.05, 22).expect("enough").statistic, LaunchStatistic::Best);
    }

    #[test]
    fn too_few_pairs_teach_nothing_and_the_same_pairs_the_same() {
        assert_eq!(learnt(0.05, 5), None);
        assert_eq!(learnt(0.05, 12), learnt(0.05, 12));
    }
}
