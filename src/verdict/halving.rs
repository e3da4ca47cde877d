//! On which side of a change a commit lies: pairs against the good end, until the evidence excludes half of the change
//! from one side or the other.
//!
//! Half of the change is the boundary that both answers are equally far from. Must not know commits.

use crate::domain::{LaunchStatistic, LaunchSummary, Metric, NoiseModel};
use crate::stats::evidence::{Pairs, Side};
use crate::verdict::kind;
use crate::verdict::paired::PAIRS_MIN;
use crate::verdict::policy::PRIOR_SPREAD;

/// Chance that any step of a bisection goes the wrong way.
const ALPHA: f64 = 0.05;
/// Pairs made, with those that say nothing, as a multiple of the most that count: neither a machine that disturbs every pair
/// nor a metric that nobody reports is measured for ever.
const PATIENCE: usize = 2;
/// The smallest spread of pairs believed, log units.
const FLOOR: f64 = 1e-4;

/// One step of a bisection.
#[derive(Debug)]
pub struct Halving {
    metric: Metric,
    statistic: LaunchStatistic,
    boundary: f64,
    needed: f64,
    most: usize,
    pairs: Pairs,
    /// Pairs made, with those that say nothing.
    made: usize,
}

impl Halving {
    /// `change` is that of the bad end against the good one, log units on the badness scale; `steps` share the chance of
    /// an error.
    #[must_use]
    pub fn new(metric: &Metric, model: Option<&NoiseModel>, change: f64, steps: usize, most: usize) -> Self {
        let spread = model.map_or(PRIOR_SPREAD, |model| model.pair_spread).max(FLOOR);
        Self {
            metric: metric.clone(),
            statistic: model.map_or_else(LaunchStatistic::default, |model| model.statistic),
            boundary: change / 2.0,
            needed: (steps.max(1) as f64 / ALPHA).ln(),
            most,
            pairs: Pairs::new(spread, FLOOR),
            made: 0,
        }
    }

    /// Takes a pair of the good end and the commit in question; one without the metric says nothing.
    pub fn take(&mut self, good: &LaunchSummary, candidate: &LaunchSummary) {
        self.made += 1;
        let value = |launch: &LaunchSummary| {
            let found = launch.metrics.iter().find(|summary| summary.metric.name == self.metric.name)?;
            Some(self.statistic.of(found).ln())
        };
        if let (Some(good), Some(candidate)) = (value(good), value(candidate)) {
            let difference = kind::sign(&self.metric) * (candidate - good);
            if difference.is_finite() {
                self.pairs.push(difference);
            }
        }
    }

    /// Counts a pair that was disturbed from outside.
    pub const fn dropped(&mut self) {
        self.made += 1;
    }

    /// Whether the commit has the change; `None` while that is open.
    #[must_use]
    pub fn has_change(&self) -> Option<bool> {
        if self.pairs.len() < PAIRS_MIN {
            return None;
        }
        let above = self.pairs.log_evidence(self.boundary, Side::Above) >= self.needed;
        let below = self.pairs.log_evidence(self.boundary, Side::Below) >= self.needed;
        match (above, below) {
            (true, false) => Some(self.boundary > 0.0),
            (false, true) => Some(self.boundary < 0.0),
            _ => None,
        }
    }

    /// Whether another pair is wanted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.has_change().is_none() && self.pairs.len() < self.most && self.made < PATIENCE * self.most
    }

    /// Pairs so far, and their estimate as a fraction in the metric's own direction; `None` for no pair that counts.
    #[must_use]
    pub fn seen(&self) -> Option<(usize, f64)> {
        let seen = || (self.pairs.len(), (kind::sign(&self.metric) * self.pairs.estimate()).exp_m1());
        (!self.pairs.is_empty()).then(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LaunchId, MetricSummary, Outcome};

    fn launch(value: f64) -> LaunchSummary {
        let metric = Metric::standard(Metric::LATENCY).expect("in the table");
        let summary = MetricSummary { metric, n: 9, iterations: 1, median: value, q25: value, min: value, q75: value };
        LaunchSummary {
            id: LaunchId::fresh(),
            case: "a".into(),
            index: 0,
            outcome: Outcome::measured(),
            metrics: vec![summary],
        }
    }

    /// A commit that is `shift` slower than the good end, in a search for a change of `change`.
    fn step(change: f64, shift: f64) -> (Option<bool>, usize) {
        let metric = Metric::standard(Metric::LATENCY).expect("in the table");
        let mut halving = Halving::new(&metric, None, change, 7, 60);
        let mut i = 0_u32;
        while halving.is_open() {
            let noise = (f64::from(i * 7 % 11) - 5.0) / 5.0 * 0.01;
            halving.take(&launch(1.0), &launch(1.0 + shift + noise));
            i += 1;
        }
        (halving.has_change(), halving.seen().expect("pairs").0)
    }

    #[test]
    fn commits_on_either_side_are_told_apart() {
        assert_eq!(step(0.1, 0.1).0, Some(true));
        assert_eq!(step(0.1, 0.0).0, Some(false));
        assert_eq!(step(-0.1, -0.1).0, Some(true), "an improvement is looked for alike");
        assert_eq!(step(-0.1, 0.0).0, Some(false));
    }

    #[test]
    fn what_says_nothing_is_not_measured_for_ever() {
        let metric = Metric::standard(Metric::CPU_TIME).expect("in the table");
        let mut halving = Halving::new(&metric, None, 0.1, 7, 60);
        for _ in 0..60 {
            assert!(halving.is_open());
            halving.dropped();
        }
        for _ in 0..60 {
            assert!(halving.is_open());
            halving.take(&launch(1.0), &launch(1.0));
        }
        assert!(!halving.is_open() && halving.has_change().is_none() && halving.seen().is_none());
    }

    #[test]
    fn a_commit_in_the_middle_stays_open() {
        assert_eq!(step(0.1, 0.05), (None, 60));
    }
}
