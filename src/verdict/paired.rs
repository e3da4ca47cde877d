//! The decision after every pair: stop with a class, stop with "unchanged", or go on (STATISTICS.md sections 3.4 and
//! 3.5). Differences are on the badness scale, so that a positive shift is worse.
//!
//! Looking after every pair costs nothing: the evidence is valid at every stopping time.

use crate::domain::{Severity, Thresholds};
use crate::stats::evidence::{Pairs, Side, most_evidence};
use crate::verdict::policy::{KAPPA, NONE_MARGIN, Q};

/// Level of each side of "unchanged".
const ALPHA_EQUIVALENCE: f64 = 0.05;
/// Fewest pairs of a decision.
pub const PAIRS_MIN: usize = 6;
/// Pairs from which an established moderate change is final although a severe one is still open. A minor one never is: the
/// default gate lies between, and what it lets pass must not depend on who stopped early.
pub const PAIRS_SOFT: usize = 25;
/// Pairs from which excluding a moderate change is enough for "unchanged".
const PAIRS_LATE: usize = 16;
/// Most pairs.
pub const PAIRS_MAX: usize = 40;

/// What is asked of the pairs of one metric of one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// Limits on the log scale, rising.
    limits: [f64; 3],
    /// Equivalence margin on the log scale.
    margin: f64,
    /// Log evidence that a class needs.
    confirm: f64,
    /// What two builds of the same source may differ by, log units.
    build: f64,
    /// Most pairs.
    most: usize,
}

/// What is known after some pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// Changed, for the worse where the shift lies above zero.
    Changed {
        /// Which way.
        side: Side,
        /// How much it matters.
        severity: Severity,
        /// Whether more pairs could still change the class.
        settled: bool,
    },
    /// A change of this much or more, in log units, is excluded on both sides.
    Unchanged {
        /// The margin.
        margin: f64,
    },
    /// Not known yet.
    Open,
}

impl Answer {
    /// Whether to stop.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Changed { settled, .. } => *settled,
            Self::Unchanged { .. } => true,
            Self::Open => false,
        }
    }
}

impl Question {
    /// With the suite's false-alarm budget split over `comparisons` (at least 1).
    #[must_use]
    pub fn new(thresholds: &Thresholds, comparisons: usize) -> Self {
        let limits = thresholds.log();
        Self {
            limits,
            // Never beyond a moderate change, as by history: what would fail CI is not unchanged.
            margin: (NONE_MARGIN * thresholds.minor).ln_1p().min(limits[1]),
            confirm: (comparisons.max(1) as f64 / Q).ln(),
            build: 0.0,
            most: PAIRS_MAX,
        }
    }

    /// With another limit on the number of pairs.
    #[must_use]
    pub const fn with_most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// With builds that differ by chance, by this standard deviation in log units: twice what two of them then differ by
    /// is no change. Beyond a moderate change chance explains nothing, whatever was learnt.
    #[must_use]
    pub fn with_build_spread(mut self, spread: f64) -> Self {
        self.build = (2.0 * std::f64::consts::SQRT_2 * spread).min(self.limits[1]);
        self
    }

    /// With an absolute floor, log units: nothing smaller is a change.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.limits = self.limits.map(|limit| limit.max(floor));
        self.margin = self.margin.max(floor);
        self
    }

    /// The smallest limit, log units.
    #[must_use]
    pub const fn minor(&self) -> f64 {
        self.limits[0]
    }

    /// What the near bound of the smallest class must exceed, log units.
    #[must_use]
    pub fn smallest(&self) -> f64 {
        self.share(self.limits[0])
    }

    /// What the near bound of a class must exceed, log units.
    #[must_use]
    pub fn near(&self, severity: Severity) -> f64 {
        let [minor, moderate, severe] = self.limits;
        match severity {
            Severity::Severe => self.share(severe),
            Severity::Moderate => self.share(moderate),
            _ => self.share(minor),
        }
    }

    /// Whether so many pairs can establish a class at all.
    #[must_use]
    pub fn can_confirm(&self, pairs: usize) -> bool {
        most_evidence(pairs) >= self.confirm
    }

    /// Fewest pairs that can establish a class.
    #[must_use]
    pub fn fewest(&self) -> usize {
        // Evidence grows by at least ten per cent a pair, so that thousands suffice for any budget there is.
        (PAIRS_MIN..10_000).find(|n| self.can_confirm(*n)).unwrap_or(usize::MAX)
    }

    /// About how many more pairs an open question needs, if evidence goes on growing as it did; `None` where it does not
    /// grow.
    #[must_use]
    pub fn more_pairs(&self, pairs: &Pairs, estimate: f64) -> Option<u32> {
        /// More than anybody would measure.
        const MOST: f64 = 1000.0;
        let n = pairs.len() as f64;
        let side = if estimate < 0.0 { Side::Below } else { Side::Above };
        let (now, needed) = if estimate.abs() >= self.limits[0] {
            (pairs.log_evidence(signed(side, self.smallest()), side), self.confirm)
        } else {
            let sides = [pairs.log_evidence(self.margin, Side::Below), pairs.log_evidence(-self.margin, Side::Above)];
            (sides[0].min(sides[1]), -ALPHA_EQUIVALENCE.ln())
        };
        let more = (n * (needed / now - 1.0)).ceil().max((PAIRS_MIN as f64 - n).max(1.0));
        (now > 0.0 && more <= MOST).then_some(more as u32)
    }

    /// The answer after these pairs.
    #[must_use]
    pub fn answer(&self, pairs: &Pairs) -> Answer {
        self.answer_with(pairs, pairs.estimate())
    }

    /// The answer after these pairs, with an estimate of the shift that the caller made of them.
    #[must_use]
    pub fn answer_with(&self, pairs: &Pairs, estimate: f64) -> Answer {
        let n = pairs.len();
        if n < PAIRS_MIN {
            return Answer::Open;
        }
        for side in [Side::Above, Side::Below] {
            let severity = self.class(pairs, estimate, side);
            if severity != Severity::None {
                let settled = n >= self.most || self.settled(pairs, estimate, side, severity);
                return Answer::Changed { side, severity, settled };
            }
        }
        let equivalent = -ALPHA_EQUIVALENCE.ln();
        let excluded = |margin: f64| {
            pairs.log_evidence(margin, Side::Below) >= equivalent
                && pairs.log_evidence(-margin, Side::Above) >= equivalent
        };
        let [minor, moderate, _] = self.limits;
        // From here on little is to be learnt, unless the evidence for a change has begun to grow.
        let quiet = |side: Side| pairs.log_evidence(signed(side, self.share(minor)), side) < std::f64::consts::LN_2;
        if excluded(self.margin) {
            Answer::Unchanged { margin: self.margin }
        } else if n >= PAIRS_LATE
            // Whoever reads "unchanged" beside an estimate that would be a minor change is being told two things.
            && estimate.abs() < minor
            && quiet(Side::Above)
            && quiet(Side::Below)
            && excluded(moderate)
        {
            Answer::Unchanged { margin: moderate }
        } else {
            Answer::Open
        }
    }

    /// Takes pairs one by one until the answer is final, as they would have been measured; the answer and the number
    /// of pairs that it took.
    #[must_use]
    pub fn replay(&self, differences: &[f64], prior: f64, floor: f64) -> (Answer, usize) {
        let mut pairs = Pairs::new(prior, floor);
        for difference in differences.iter().take(self.most) {
            pairs.push(*difference);
            let answer = self.answer(&pairs);
            if answer.is_final() {
                return (answer, pairs.len());
            }
        }
        (self.answer(&pairs), pairs.len())
    }

    /// The class on a side: the highest whose threshold the estimate reaches and whose share the evidence excludes.
    fn class(&self, pairs: &Pairs, estimate: f64, side: Side) -> Severity {
        let reached = |limit: f64| {
            signed(side, estimate) >= limit && pairs.log_evidence(signed(side, self.share(limit)), side) >= self.confirm
        };
        let [minor, moderate, severe] = self.limits;
        [(severe, Severity::Severe), (moderate, Severity::Moderate), (minor, Severity::Minor)]
            .into_iter()
            .find(|(limit, _)| reached(*limit))
            .map_or(Severity::None, |(_, severity)| severity)
    }

    /// What the near bound must exceed for a class: its share of the threshold, and what builds differ by anyway.
    fn share(&self, limit: f64) -> f64 {
        (KAPPA * limit).max(self.build)
    }

    /// What builds are taken to differ by, log units, where that asks for more than the smallest class does.
    #[must_use]
    pub fn build_floor(&self) -> Option<f64> {
        (self.build > KAPPA * self.limits[0]).then_some(self.build)
    }

    /// Whether no higher class is still in question.
    fn settled(&self, pairs: &Pairs, estimate: f64, side: Side, severity: Severity) -> bool {
        let [_, moderate, severe] = self.limits;
        let opposite = match side {
            Side::Above => Side::Below,
            Side::Below => Side::Above,
        };
        match severity {
            Severity::Severe => true,
            Severity::Moderate => pairs.len() >= PAIRS_SOFT || signed(side, estimate) < severe,
            _ => pairs.log_evidence(signed(side, moderate), opposite) >= -ALPHA_EQUIVALENCE.ln(),
        }
    }
}

/// A number as seen from a side: up is towards it.
const fn signed(side: Side, value: f64) -> f64 {
    match side {
        Side::Above => value,
        Side::Below => -value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 5.
    const D: [f64; 12] = [0.031, 0.044, 0.012, 0.038, 0.052, 0.027, 0.035, -0.004, 0.041, 0.030, 0.036, 0.029];

    fn question(comparisons: usize) -> Question {
        Question::new(&Thresholds::default(), comparisons).with_most(12)
    }

    fn changed(answer: Answer) -> Option<(Side, Severity)> {
        match answer {
            Answer::Changed { side, severity, .. } => Some((side, severity)),
            _ => None,
        }
    }

    #[test]
    fn reference_verdicts() {
        for (comparisons, stopped_at) in [(1, 11), (2, 12)] {
            let (answer, n) = question(comparisons).replay(&D, 0.02, 1e-4);
            assert_eq!((changed(answer), n), (Some((Side::Above, Severity::Minor)), stopped_at));
        }
        assert_eq!(question(10).replay(&D, 0.02, 1e-4), (Answer::Open, 12));

        let ten = [0.11, 0.09, 0.10, 0.12, 0.095, 0.105, 0.10, 0.098, 0.115, 0.102, 0.108, 0.094];
        let (answer, n) = question(10).replay(&ten, 0.02, 1e-4);
        assert_eq!((changed(answer), n), (Some((Side::Above, Severity::Moderate)), 10));

        let null = [0.001, -0.002, 0.0015, -0.0005, 0.003, -0.001];
        let (answer, n) = question(2).replay(&null, 0.02, 1e-4);
        assert_eq!((answer, n), (Answer::Unchanged { margin: (NONE_MARGIN * 0.02).ln_1p() }, 6));
    }

    #[test]
    fn swapping_the_arms_mirrors_the_answer() {
        let mirrored: Vec<f64> = D.iter().map(|d| -d).collect();
        let (answer, n) = question(1).replay(&mirrored, 0.02, 1e-4);
        assert_eq!((changed(answer), n), (Some((Side::Below, Severity::Minor)), 11));
    }

    #[test]
    fn builds_that_differ_by_chance_raise_the_bar() {
        let loud = question(1).with_build_spread(0.02);
        assert_eq!(changed(loud.replay(&D, 0.02, 1e-4).0), None);
    }

    #[test]
    fn an_estimate_of_a_minor_change_is_not_unchanged() {
        // Differences that were measured of 1 % more work on a GPU, with limits of 0.5, 2 and 6 %; no noise model.
        let measured =
            [0.92, 0.26, 0.56, 0.90, 1.10, -0.22, 0.83, 0.93, 0.06, 0.87, 0.40, 1.14, 0.34, 0.78, 1.54, 0.62];
        let differences = measured.map(|percent| percent / 100.0);
        let thresholds = Thresholds { minor: 0.005, moderate: 0.02, severe: 0.06, ..Thresholds::default() };
        let question = Question::new(&thresholds, 8);
        assert_eq!(question.replay(&differences, 0.02, 1e-4), (Answer::Open, 16));
        // So little evidence that the late exclusion of a moderate change would do, beside an estimate of 0.55 %.
        let torn = [0.013, -0.002].repeat(8);
        assert_eq!(question.replay(&torn, 0.02, 1e-4), (Answer::Open, 16));
        // As many that average out are.
        let null = measured.map(|percent| (percent - 0.7) / 100.0);
        assert!(matches!(question.replay(&null, 0.02, 1e-4).0, Answer::Unchanged { .. }));
    }

    #[test]
    fn a_moderate_change_is_never_within_the_margin() {
        // Half as much again as minor would be 6 %.
        let thresholds = Thresholds { minor: 0.04, moderate: 0.05, severe: 0.15, ..Thresholds::default() };
        let question = Question::new(&thresholds, 10);
        let by = |percent: f64| {
            let differences: Vec<f64> = D.map(|d| (percent / 100.0).ln_1p() + (d - 0.033) / 20.0).repeat(4);
            question.replay(&differences, 0.01, 1e-4).0
        };
        assert!(!matches!(by(5.1), Answer::Unchanged { .. }), "{:?}", by(5.1));
        assert_eq!(by(0.0), Answer::Unchanged { margin: 0.05_f64.ln_1p() });
    }

    #[test]
    fn too_few_pairs_say_nothing() {
        assert_eq!(question(1).replay(&[0.5; 5], 0.02, 1e-4), (Answer::Open, 5));
    }
}
