//! Verdicts on data that is already there: every launch was made before anyone looked, so all of it may be used at once
//! and no price is paid for looking early.
//!
//! - *Interleaved* launches are judged by relabelling: if nothing changed, swapping the sides of a round changes nothing,
//!   so each round's part of the test has the sign of a fair coin. Which test is chosen by what such swaps leave as it
//!   is: where rounds share their disturbances, by the differences inside them, of the median, the lower quartile and the
//!   best of each launch's samples together; where disturbances hit single launches, by the faster half of all launches,
//!   of lower quartile and best together. Where so few rounds cannot reach the level, Student's t stands in.
//! - Launches that were *not interleaved* differ by whatever the machine did in between. How much that can be is
//!   estimated from how far successive blocks of one side drift apart, and never believed to be less than two sessions
//!   usually differ by, or than the typical and the fastest launches disagree: another mood of the machine moves the
//!   typical launch far and the fastest hardly, another program moves both.
//!
//! Must not know files or formats.

use crate::domain::{Call, Direction, Estimate, Metric, MetricKind, Reason, Severity, Thresholds, Verdict};
use crate::stats::evidence::interquartile_spread;
use crate::stats::quantile::{median, quantile, sorted, standard_deviation};
use crate::stats::relabel::{self, Scores, Summary};
use crate::stats::{level, student};
use crate::verdict::decide::{self, Finding};
use crate::verdict::kind::sign;
use crate::verdict::policy::{ALPHA_REPORT, ALPHA_SCREEN, PRIOR_SPREAD};

/// One-sided level of a class, where the caller does not say: the budget of 5 % over ten comparisons.
pub const ALPHA: f64 = 0.005;

/// Fewest launches of a side that anything is said about.
const LEAST: usize = 3;
/// Fewest launches of a side that show it to be constant: with fewer, a coarse clock shows two values by chance.
const CONSTANT: usize = 5;
/// The smallest spread of rounds believed, log units.
const FLOOR: f64 = 1e-4;
/// Sides that were not interleaved: another statistic than the median is taken where its error is smaller by this factor.
const WORTH: f64 = 0.8;
/// Rounds are scored by their differences where these vary by less than this share of how far the faster launches lie
/// below the median. About 0.7 where nothing is shared, less the more a round's launches share.
const SHARED: f64 = 0.6;
/// The decile on the good side.
const FAST: f64 = 0.1;
/// Blocks of a side by which drift is seen.
const BLOCKS: usize = 4;
/// Pairs of blocks that the prior drift is worth.
const PRIOR_WEIGHT: f64 = 4.0;
/// The least step of a series that counts, as a fraction.
const SMALLEST_STEP: f64 = 0.01;

/// Two sides, launch by launch; the values of a launch are its samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recording<'a> {
    /// Launches of base, in the order they were made.
    pub base: &'a [Vec<f64>],
    /// Launches of head.
    pub head: &'a [Vec<f64>],
    /// Whether launch `i` of both sides ran next to each other.
    pub interleaved: bool,
}

/// What stands for a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The median of its samples.
    Median,
    /// The quartile on the good side.
    LowerQuartile,
    /// The best sample.
    Best,
    /// All three, scored together.
    All,
    /// Lower quartile and best, scored together.
    Faster,
}

impl Statistic {
    const SINGLE: [Self; 3] = [Self::Median, Self::LowerQuartile, Self::Best];

    /// The word used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::LowerQuartile => "q25",
            Self::Best => "min",
            Self::All => "median+q25+min",
            Self::Faster => "q25+min",
        }
    }

    /// What a side is like, in the metric's unit: of the launches that are compared, so that two sides whose disturbances
    /// differ do not look as if their programs did.
    fn typical(self, launches: &[Vec<f64>], sign: f64) -> f64 {
        let share = if self == Self::Faster { 0.25 } else { 0.5 };
        (sign * quantile(&sorted(&self.of(launches, sign)), share)).exp()
    }

    /// Launch values on the badness scale, for one that stands alone.
    fn of(self, launches: &[Vec<f64>], sign: f64) -> Vec<f64> {
        let share = match self {
            Self::Median | Self::All => 0.5,
            Self::LowerQuartile | Self::Faster => 0.25,
            Self::Best => 0.0,
        };
        launches
            .iter()
            .map(|samples| {
                let badness: Vec<f64> = samples.iter().map(|sample| sign * sample.ln()).collect();
                quantile(&sorted(&badness), share)
            })
            .collect()
    }
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The decision.
    pub verdict: Verdict,
    /// What stood for a launch.
    pub statistic: Statistic,
    /// Typical value of base, in the metric's unit.
    pub base: f64,
    /// Typical value of head.
    pub head: f64,
}

/// Decides. `alpha` is the one-sided level of a class.
#[must_use]
pub fn decide(recording: Recording<'_>, metric: &Metric, thresholds: &Thresholds, alpha: f64) -> Decided {
    let sides = [recording.base, recording.head];
    if let Some(verdict) = without_statistics(sides, metric, thresholds) {
        let typical =
            |launches: &[Vec<f64>]| median(&launches.iter().map(|samples| median(samples)).collect::<Vec<_>>());
        let [base, head] = sides.map(typical);
        return Decided { verdict, statistic: Statistic::Median, base, head };
    }
    let (statistic, compared) = compare(recording, sign(metric));
    let [base, head] = sides.map(|launches| statistic.typical(launches, sign(metric)));
    let finding = compared.finding(alpha, base);
    let mut verdict = finding.decide(metric, thresholds, false);
    verdict.provisional = false;
    verdict.estimate = Some(compared.estimate(metric));
    verdict.note = note(&verdict, &finding, metric, recording.interleaved, alpha);
    Decided { verdict, statistic, base, head }
}

/// What needs or allows no statistics: impossible values, too few launches, values without noise.
fn without_statistics(sides: [&[Vec<f64>]; 2], metric: &Metric, thresholds: &Thresholds) -> Option<Verdict> {
    let verdict = |call, severity, reason, estimate, note: String| {
        Some(Verdict { call, severity, reason, provisional: false, estimate, note })
    };
    let open = |reason, note| verdict(Call::Inconclusive, Severity::None, reason, None, note);
    let values = || sides.iter().flat_map(|launches| launches.iter().flatten());
    if sides.iter().any(|launches| launches.is_empty()) || sides.iter().any(|side| side.iter().any(Vec::is_empty)) {
        return verdict(
            Call::NotComparable,
            Severity::None,
            Reason::BadValue,
            None,
            "a side or a launch has no values".to_owned(),
        );
    }
    if let Some(bad) = values().find(|value| !value.is_finite() || **value < 0.0) {
        let note = format!("{bad} is no measurement");
        return verdict(Call::NotComparable, Severity::None, Reason::BadValue, None, note);
    }
    let constant = |launches: &[Vec<f64>]| {
        let first = launches[0][0];
        let same = launches.iter().flatten().all(|value| *value == first);
        (launches.len() >= LEAST && same).then_some(first)
    };
    let fewest = sides[0].len().min(sides[1].len());
    if let (Some(base), Some(head)) = (constant(sides[0]), constant(sides[1]))
        && (base == head || (base > 0.0 && head > 0.0 && fewest >= CONSTANT))
    {
        return Some(decide::exact(base, head, metric, thresholds));
    }
    if values().any(|value| *value == 0.0) {
        return open(Reason::ZeroBase, "a value is zero: a relative change is undefined".to_owned());
    }
    if fewest < LEAST {
        return open(Reason::TooFewLaunches, format!("{fewest} launches of a side say nothing; {LEAST} are the least"));
    }
    None
}

/// The two sides as they are compared.
#[derive(Debug)]
enum Compared {
    /// Round by round.
    Rounds { summaries: Vec<Summary>, scores: Scores },
    /// Two separate sides.
    Apart(Apart),
}

/// Two separate sides, log units.
#[derive(Debug, Clone, Copy)]
struct Apart {
    /// The shift between their medians.
    shift: f64,
    /// Its standard error.
    error: f64,
    /// Degrees of freedom of that error.
    degrees: f64,
}

fn compare(recording: Recording<'_>, sign: f64) -> (Statistic, Compared) {
    let sides = Statistic::SINGLE
        .map(|statistic| (statistic, statistic.of(recording.base, sign), statistic.of(recording.head, sign)));
    if recording.interleaved {
        let mut summaries: Vec<Summary> = sides.into_iter().map(|(_, base, head)| Summary { base, head }).collect();
        if is_shared(&summaries[1]) {
            return (Statistic::All, Compared::Rounds { summaries, scores: Scores::Differences });
        }
        summaries.remove(0);
        return (Statistic::Faster, Compared::Rounds { summaries, scores: Scores::FasterHalf });
    }
    let [_, _, (_, base, head)] = &sides;
    let fastest = quantile(&sorted(head), FAST) - quantile(&sorted(base), FAST);
    let [mut best, others @ ..] = sides.map(|(statistic, base, head)| (statistic, Apart::new(&base, &head, fastest)));
    for other in others {
        if other.1.error < WORTH * best.1.error {
            best = other;
        }
    }
    (best.0, Compared::Apart(best.1))
}

/// Whether the launches of a round share most of what disturbs them. Seen in the sizes of differences and in all launches
/// taken together: neither changes when the sides of a round are swapped, so the choice is blind to what is judged.
fn is_shared(summary: &Summary) -> bool {
    let differences = summary.base.iter().zip(&summary.head).map(|(base, head)| (head - base).abs());
    let pool = sorted(&[summary.base.as_slice(), &summary.head].concat());
    let fast = quantile(&pool, 0.5) - quantile(&pool, FAST);
    interquartile_spread(&differences.collect::<Vec<_>>()) < SHARED * fast
}

impl Apart {
    /// `fastest` is the shift between the fastest launches of either side.
    fn new(base: &[f64], head: &[f64], fastest: f64) -> Self {
        let shift = median(head) - median(base);
        let drifts: Vec<f64> = [base, head].into_iter().flat_map(drifts).collect();
        let pooled = drifts.iter().map(|drift| drift.powi(2)).sum::<f64>();
        let count = drifts.len() as f64;
        // A walk drifts with the root of the time: the sides lie BLOCKS times as far apart as two blocks.
        let seen = BLOCKS as f64 * pooled;
        let variance = (seen + PRIOR_WEIGHT * 2.0 * PRIOR_SPREAD.powi(2)) / (count + PRIOR_WEIGHT);
        let noise = |side: &[f64]| standard_deviation(side).powi(2) / side.len() as f64;
        let sampling = std::f64::consts::FRAC_PI_2 * (noise(base) + noise(head));
        let error = (variance + sampling + (shift - fastest).powi(2)).sqrt();
        Self { shift, error, degrees: count + PRIOR_WEIGHT }
    }
}

/// Differences of the medians of successive blocks of a side.
fn drifts(side: &[f64]) -> Vec<f64> {
    let blocks = BLOCKS.min(side.len() / 2).max(1);
    let medians: Vec<f64> =
        (0..blocks).map(|i| median(&side[i * side.len() / blocks..(i + 1) * side.len() / blocks])).collect();
    medians.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

impl Compared {
    fn shift(&self) -> f64 {
        match self {
            Self::Rounds { summaries, scores } => relabel::estimate(summaries, *scores),
            Self::Apart(apart) => apart.shift,
        }
    }

    /// One-sided lower bound of the shift at `alpha`.
    fn lower(&self, alpha: f64) -> f64 {
        match self {
            Self::Rounds { summaries, scores } => {
                // Fewer rounds reach a level by their differences than by the faster half.
                let mut exact = [*scores, Scores::Differences]
                    .into_iter()
                    .map(|scores| relabel::lower_bound(summaries, scores, alpha));
                if let Some(bound) = exact.find(|bound| bound.is_finite()) {
                    return bound;
                }
                let quartile = &summaries[summaries.len() - 2];
                let differences: Vec<f64> =
                    quartile.base.iter().zip(&quartile.head).map(|(base, head)| head - base).collect();
                let n = differences.len() as f64;
                let mean = differences.iter().sum::<f64>() / n;
                let error = standard_deviation(&differences).max(FLOOR) / n.sqrt();
                mean.min(self.shift()) - student::upper_quantile(n - 1.0, alpha) * error
            }
            Self::Apart(apart) => apart.shift - student::upper_quantile(apart.degrees, alpha) * apart.error,
        }
    }

    fn mirrored(&self) -> Self {
        match self {
            Self::Rounds { summaries, scores } => {
                let swap = |summary: &Summary| Summary { base: summary.head.clone(), head: summary.base.clone() };
                Self::Rounds { summaries: summaries.iter().map(swap).collect(), scores: *scores }
            }
            Self::Apart(apart) => Self::Apart(Apart { shift: -apart.shift, ..*apart }),
        }
    }

    fn finding(&self, alpha: f64, base: f64) -> Finding {
        let (shift, mirrored) = (self.shift(), self.mirrored());
        let upper = |alpha| -mirrored.lower(alpha);
        let strict = if shift >= 0.0 { shift - self.lower(alpha) } else { upper(alpha) - shift };
        let screen = (shift - self.lower(ALPHA_SCREEN)).max(upper(ALPHA_SCREEN) - shift);
        let report = (shift - self.lower(ALPHA_REPORT)).max(upper(ALPHA_REPORT) - shift);
        Finding { shift, strict, screen, report, base }
    }

    /// The shown estimate, in the metric's own direction.
    fn estimate(&self, metric: &Metric) -> Estimate {
        let d = sign(metric);
        let ends = [d * self.lower(ALPHA_REPORT), d * -self.mirrored().lower(ALPHA_REPORT)];
        Estimate {
            change: (d * self.shift()).exp_m1(),
            lower: Some(ends[0].min(ends[1]).exp_m1()),
            upper: Some(ends[0].max(ends[1]).exp_m1()),
            confidence: 1.0 - 2.0 * ALPHA_REPORT,
        }
    }
}

fn note(verdict: &Verdict, finding: &Finding, metric: &Metric, interleaved: bool, alpha: f64) -> String {
    // As the metric itself moves: a rate that falls to 1 / 1.25 has fallen by 20 %.
    let direction = if verdict.call == Call::Improved { -sign(metric) } else { sign(metric) };
    let percent = |log: f64| format!("{:.1} %", 100.0 * (direction * log).exp_m1().abs());
    let text = match (verdict.reason, verdict.call) {
        (Reason::Established, call) => {
            let word = if call == Call::Regressed { "worse" } else { "better" };
            format!("{word} by at least {} at level {alpha}", percent(finding.shift.abs() - finding.strict))
        }
        (Reason::Suspect | Reason::WideInterval, _) => {
            format!(
                "changes up to {} are not excluded; more launches decide",
                percent(finding.shift.abs() + finding.screen)
            )
        }
        _ => verdict.note.clone(),
    };
    if interleaved { text } else { format!("{text}; not interleaved: allows for drift of the machine in between") }
}

/// A metric of recorded data.
#[must_use]
pub fn metric(id: &str, unit: &str, lower_is_better: bool) -> Metric {
    Metric {
        name: id.to_owned(),
        unit: unit.to_owned(),
        direction: if lower_is_better { Direction::LowerIsBetter } else { Direction::HigherIsBetter },
        kind: MetricKind::Timing,
        exact: false,
        derived: false,
    }
}

/// First index of every new level of a series of finite values.
#[must_use]
pub fn change_points(values: &[f64]) -> Vec<usize> {
    if values.iter().all(|value| *value > 0.0) {
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        return level::steps(&logs, SMALLEST_STEP.ln_1p());
    }
    level::steps(values, SMALLEST_STEP * median(values).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    fn uniform(random: &mut ChaCha8Rng) -> f64 {
        (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `rounds` launches of each side with noise of 1 % between launches, 2 % inside, and a disturbance by round.
    fn rounds(seed: u64, rounds: usize, factor: f64) -> [Vec<Vec<f64>>; 2] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut sides = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let mood = 1.0 + 0.3 * uniform(&mut random);
            for (side, work) in sides.iter_mut().zip([1.0, factor]) {
                let launch = mood * work * (1.0 + 0.02 * uniform(&mut random));
                side.push((0..15).map(|_| launch * (1.0 + 0.04 * uniform(&mut random))).collect());
            }
        }
        sides
    }

    fn judged(sides: &[Vec<Vec<f64>>; 2], interleaved: bool, lower_is_better: bool) -> Decided {
        let recording = Recording { base: &sides[0], head: &sides[1], interleaved };
        decide(recording, &metric("x", "s", lower_is_better), &Thresholds::default(), ALPHA)
    }

    #[test]
    fn real_changes_are_graded_and_noise_is_not() {
        for (factor, call, severity) in [
            (1.0, Call::Unchanged, Severity::None),
            (1.10, Call::Regressed, Severity::Moderate),
            (1.30, Call::Regressed, Severity::Severe),
            (1.0 / 1.30, Call::Improved, Severity::Severe),
        ] {
            let verdict = judged(&rounds(5, 20, factor), true, true).verdict;
            assert_eq!((verdict.call, verdict.severity), (call, severity), "{factor}: {verdict:?}");
            let estimate = verdict.estimate.expect("an estimate");
            assert!(estimate.lower <= Some(factor - 1.0) && Some(factor - 1.0) <= estimate.upper, "{estimate:?}");
        }
    }

    #[test]
    fn false_alarms_are_rare() {
        let alarms = (0..2000)
            .filter(|seed| {
                let call = judged(&rounds(*seed, 10, 1.0), true, true).verdict.call;
                matches!(call, Call::Regressed | Call::Improved)
            })
            .count();
        assert!(alarms <= 10, "{alarms} of 2000");
    }

    #[test]
    fn swapping_the_sides_mirrors_the_verdict() {
        for seed in 0..50 {
            let sides = rounds(seed, 5 + seed as usize % 10, 1.06);
            let [base, head] = sides.clone();
            let (forward, back) = (judged(&sides, true, true).verdict, judged(&[head, base], true, true).verdict);
            assert_eq!(forward.severity, back.severity);
            assert_eq!(forward.call == Call::Regressed, back.call == Call::Improved);
            assert_eq!(forward.call == Call::Unchanged, back.call == Call::Unchanged);
        }
    }

    /// Launches of which half are disturbed at random, by a lot: what a busy machine does.
    fn disturbed(seed: u64, rounds: usize, factor: f64) -> [Vec<Vec<f64>>; 2] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        [1.0, factor].map(|work| {
            let mut launch = || {
                let burst = if random.next_u32() & 1 == 0 { 1.0 + uniform(&mut random) } else { 1.0 };
                let level = work * burst * (1.0 + 0.01 * uniform(&mut random));
                (0..12).map(|_| level * (1.0 + 0.02 * uniform(&mut random))).collect()
            };
            (0..rounds).map(|_| launch()).collect()
        })
    }

    #[test]
    fn disturbances_of_single_launches_hide_few_changes() {
        let found = |factor: f64| {
            (0..20)
                .filter(|seed| judged(&disturbed(*seed, 20, factor), true, true).verdict.call == Call::Regressed)
                .count()
        };
        assert_eq!(found(1.0), 0);
        assert!(found(1.10) >= 10, "{} of 20", found(1.10));
    }

    #[test]
    fn another_mood_of_the_machine_is_no_change() {
        // Every launch of head is disturbed but a few, as in another stretch of time.
        let mut sides = rounds(3, 20, 1.0);
        for (i, launch) in sides[1].iter_mut().enumerate() {
            let mood = if i % 7 == 0 { 1.0 } else { 2.0 + 0.01 * i as f64 };
            for sample in launch.iter_mut() {
                *sample *= mood;
            }
        }
        let verdict = judged(&sides, false, true).verdict;
        assert_eq!(verdict.call, Call::Inconclusive, "{verdict:?}");
    }

    /// Neither the unit nor the order of the rounds matters.
    #[test]
    fn units_and_the_order_of_rounds_change_nothing() {
        for seed in 0..10 {
            for sides in [rounds(seed, 12, 1.04), disturbed(seed, 12, 1.04)] {
                let verdict = judged(&sides, true, true).verdict;
                let scaled = sides.clone().map(|side| {
                    side.into_iter().map(|launch| launch.into_iter().map(|sample| sample * 1e6).collect()).collect()
                });
                let reversed = sides.map(|side| side.into_iter().rev().collect::<Vec<Vec<f64>>>());
                for other in [judged(&scaled, true, true).verdict, judged(&reversed, true, true).verdict] {
                    assert_eq!((verdict.call, verdict.severity), (other.call, other.severity));
                    let change = |verdict: &Verdict| verdict.estimate.expect("an estimate").change;
                    assert!((change(&verdict) - change(&other)).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn higher_can_be_better() {
        let verdict = judged(&rounds(1, 20, 1.3), true, false).verdict;
        assert_eq!(verdict.call, Call::Improved);
        assert!(verdict.estimate.expect("an estimate").change > 0.2);
    }

    #[test]
    fn sides_that_were_not_interleaved_need_more() {
        let small = judged(&rounds(2, 10, 1.04), false, true).verdict;
        assert_eq!(small.call, Call::Inconclusive, "{small:?}");
        let large = judged(&rounds(2, 40, 2.0), false, true).verdict;
        assert_eq!((large.call, large.severity), (Call::Regressed, Severity::Severe), "{large:?}");
    }

    #[test]
    fn values_without_noise_need_no_test() {
        let flat = |value: f64| vec![vec![value; 3]; 5];
        let verdict = judged(&[flat(5.0), flat(5.0)], true, true).verdict;
        assert_eq!((verdict.call, verdict.reason), (Call::Unchanged, Reason::ExactEqual));
        let verdict = judged(&[flat(5.0), flat(5.5)], true, true).verdict;
        assert_eq!(
            (verdict.call, verdict.severity, verdict.reason),
            (Call::Regressed, Severity::Moderate, Reason::ExactChange)
        );
        assert_eq!(judged(&[flat(0.0), flat(0.0)], true, true).verdict.call, Call::Unchanged);
        assert_eq!(judged(&[flat(0.0), flat(1.0)], true, true).verdict.reason, Reason::ZeroBase);
    }

    #[test]
    fn want_of_data_and_bad_data_are_no_pass() {
        let verdict = judged(&rounds(1, 2, 1.5), true, true).verdict;
        assert_eq!((verdict.call, verdict.reason), (Call::Inconclusive, Reason::TooFewLaunches));
        let verdict = judged(&[vec![vec![1.0]; 5], vec![vec![f64::NAN]; 5]], true, true).verdict;
        assert_eq!((verdict.call, verdict.reason), (Call::NotComparable, Reason::BadValue));
        assert_eq!(judged(&[vec![], vec![vec![1.0]]], true, true).verdict.call, Call::NotComparable);
    }

    #[test]
    fn steps_of_a_series_are_found_whatever_its_scale() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let series: Vec<f64> =
            (0..60).map(|i| 1e-6 * if i < 30 { 1.0 } else { 1.1 } * (1.0 + 0.02 * uniform(&mut random))).collect();
        assert_eq!(change_points(&series), [30]);
        let centred: Vec<f64> = series.iter().map(|value| value * 1e6 - 1.05).collect();
        assert_eq!(change_points(&centred), [30]);
    }
}
