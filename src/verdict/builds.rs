//! What two builds may differ by although nobody made anything faster or slower: the order and alignment of code move
//! timings, and no number of launches averages that away (STATISTICS.md section 3.5; Mytkowicz et al. 2009).
//!
//! Learnt from the comparisons that a testbed has seen: most changes leave most cases alone, so how far past estimates
//! typically lie apart, less what their pairs scatter, is what builds differ by. A change that is pushed again and again
//! must teach nothing: every base has one vote, and what most votes share is no chance. Must not know where comparisons
//! are kept.

use std::collections::BTreeMap;

use crate::domain::{CaseId, LaunchSummary};
use crate::stats::evidence::{hodges_lehmann, interquartile_spread};
use crate::stats::quantile::{mad, median};
use crate::verdict::paired::PAIRS_MIN;

/// Standard deviation between builds of the same source, log units, until comparisons have shown another.
pub const DEFAULT_SPREAD: f64 = 0.0025;
/// Comparisons that the default is worth.
const PRIOR_WEIGHT: f64 = 4.0;
/// Fewest bases that teach anything: the first real change must not hide the second.
const LEAST: usize = 8;

/// A comparison of two commits that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Base and head. Sessions against the same base count once, together: they are most often one pull request.
    pub commits: [String; 2],
    /// Launches of both arms, pair by pair.
    pub pairs: Vec<[LaunchSummary; 2]>,
}

/// Differences of pairs, log units, by base.
type ByBase<'p> = BTreeMap<&'p str, Vec<f64>>;

/// The spread between builds, by case and metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Builds {
    otherwise: f64,
    learnt: BTreeMap<(CaseId, String), f64>,
}

impl Builds {
    /// Both arms run the same files.
    #[must_use]
    pub const fn same() -> Self {
        Self { otherwise: 0.0, learnt: BTreeMap::new() }
    }

    /// Learns from past comparisons. Those with the base of `commits`, which are compared now, teach nothing: a change must
    /// not raise the bar for itself by being measured twice, or a little differently.
    /// Each arm is measured in `layouts` orders of its code, over which chance evens out; past comparisons were too, and
    /// so show what is left of it.
    #[must_use]
    pub fn learn(past: &[Past], commits: [&str; 2], layouts: usize) -> Self {
        let mut shifts: BTreeMap<(CaseId, String), ByBase<'_>> = BTreeMap::new();
        let [base, head] = commits;
        let others = past.iter().filter(|one| {
            let [a, b] = &one.commits;
            a != b && a != base && one.commits != [head, base]
        });
        for comparison in others {
            for [base, head] in &comparison.pairs {
                for summary in &base.metrics {
                    let Some(other) = head.metrics.iter().find(|other| other.metric.name == summary.metric.name) else {
                        continue;
                    };
                    let difference = other.median.ln() - summary.median.ln();
                    if difference.is_finite() {
                        let key = (base.case.clone(), summary.metric.name.clone());
                        shifts.entry(key).or_default().entry(&comparison.commits[0]).or_default().push(difference);
                    }
                }
            }
        }
        let otherwise = DEFAULT_SPREAD / (layouts.max(1) as f64).sqrt();
        let learnt = shifts.into_iter().filter_map(|(key, by_base)| {
            let comparisons: Vec<Vec<f64>> = by_base.into_values().collect();
            spread(&comparisons, otherwise).map(|spread| (key, spread))
        });
        Self { otherwise, learnt: learnt.collect() }
    }

    /// Standard deviation between builds, log units.
    #[must_use]
    pub fn spread(&self, case: &CaseId, metric: &str) -> f64 {
        self.learnt.get(&(case.clone(), metric.to_owned())).copied().unwrap_or(self.otherwise)
    }
}

/// Standard deviation of a build's own effect, log units, from the differences of the pairs of each comparison;
/// `None` for too few comparisons.
///
/// `sigma^2 = max(0, (V - mean sampling variance) / 2)`, with `V` the robust variance of the estimates about their median,
/// and `pi/3 s^2/n` the sampling variance of Hodges and Lehmann's estimate on normal data, moderated by the default.
fn spread(comparisons: &[Vec<f64>], otherwise: f64) -> Option<f64> {
    let usable: Vec<&Vec<f64>> = comparisons.iter().filter(|differences| differences.len() >= PAIRS_MIN).collect();
    if usable.len() < LEAST {
        return None;
    }
    let estimates: Vec<f64> = usable.iter().map(|differences| hodges_lehmann(differences)).collect();
    let sampling = usable.iter().map(|differences| {
        std::f64::consts::FRAC_PI_3 * interquartile_spread(differences).powi(2) / differences.len() as f64
    });
    let count = usable.len() as f64;
    let total = mad(&estimates, median(&estimates)).powi(2);
    let own = ((total - sampling.sum::<f64>() / count) / 2.0).max(0.0);
    Some(((PRIOR_WEIGHT * otherwise.powi(2) + count * own) / (PRIOR_WEIGHT + count)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LaunchId, Metric, MetricSummary, Outcome};

    fn launch(latency: f64) -> LaunchSummary {
        let metric = Metric::standard(Metric::LATENCY).expect("in the table");
        let values =
            MetricSummary { metric, n: 9, iterations: 1, median: latency, q25: latency, min: latency, q75: latency };
        let (id, outcome) = (LaunchId::fresh(), Outcome::measured());
        LaunchSummary { id, case: "a".into(), index: 0, outcome, metrics: vec![values] }
    }

    /// Ten pairs that scatter by a fraction of a per cent around a shift, log units.
    fn comparison(name: usize, shift: f64) -> Past {
        let pair = |index: i32| {
            let wobble = 0.002 * f64::from(index % 5 - 2);
            [launch(1.0), launch((shift + wobble).exp())]
        };
        Past { commits: [format!("base {name}"), format!("head {name}")], pairs: (0..10).map(pair).collect() }
    }

    fn learnt(shifts: &[f64], commits: [&str; 2]) -> f64 {
        let past: Vec<Past> = shifts.iter().enumerate().map(|(name, shift)| comparison(name, *shift)).collect();
        Builds::learn(&past, commits, 1).spread(&"a".into(), Metric::LATENCY)
    }

    const NOW: [&str; 2] = ["this", "that"];
    /// Quantiles of a normal distribution: the typical distance from zero is that of one of deviation one.
    const NORMAL: [f64; 12] = [-1.7, -1.1, -0.8, -0.55, -0.3, -0.1, 0.1, 0.3, 0.55, 0.8, 1.1, 1.7];

    #[test]
    fn the_spread_between_builds_is_found_again() {
        // What two builds differ by is sqrt(2) times what one does.
        for spread in [0.01, 0.05] {
            let shifts = NORMAL.map(|quantile| spread * std::f64::consts::SQRT_2 * quantile);
            let found = learnt(&shifts, NOW);
            assert!((0.75 * spread..1.15 * spread).contains(&found), "{found} of {spread}");
        }
    }

    #[test]
    fn builds_that_do_not_differ_teach_that() {
        let found = learnt(&[0.0; 30], NOW);
        assert!(found < DEFAULT_SPREAD && found > 0.0, "{found}");
    }

    #[test]
    fn a_few_real_changes_do_not_hide_the_next() {
        let mut shifts = vec![0.001; 20];
        shifts[3] = 0.3;
        shifts[9] = -0.2;
        shifts[15] = 0.25;
        assert!(learnt(&shifts, NOW) < 2.0 * DEFAULT_SPREAD);
    }

    #[test]
    fn few_comparisons_and_those_of_the_same_commits_teach_nothing() {
        assert_eq!(learnt(&[0.1; LEAST - 1], NOW), DEFAULT_SPREAD);
        let apart = [-0.1, 0.1, -0.08, 0.08, -0.12, 0.12, -0.05, 0.05];
        assert!(learnt(&apart, NOW) > 0.02);
        // What has the base in question, or is the same the other way round, does not count.
        assert_eq!(learnt(&apart, ["base 3", "another head"]), DEFAULT_SPREAD);
        assert_eq!(learnt(&apart, ["head 3", "base 3"]), DEFAULT_SPREAD);
        // A change that every comparison shows is no chance.
        assert!(learnt(&[0.25; 30], NOW) < DEFAULT_SPREAD);
        // Pushes of one pull request are one comparison.
        let push = |name: usize| Past { commits: ["base".to_owned(), format!("push {name}")], ..comparison(name, 0.1) };
        let again: Vec<Past> = (0..30).map(push).collect();
        assert_eq!(Builds::learn(&again, NOW, 1).spread(&"a".into(), Metric::LATENCY), DEFAULT_SPREAD);
    }

    #[test]
    fn many_orders_of_code_leave_less_to_chance() {
        let of = |layouts| Builds::learn(&[], NOW, layouts).spread(&"a".into(), Metric::LATENCY);
        assert_eq!((of(1), of(4)), (DEFAULT_SPREAD, DEFAULT_SPREAD / 2.0));
    }

    #[test]
    fn the_same_files_do_not_differ() {
        assert_eq!(Builds::same().spread(&"a".into(), Metric::LATENCY), 0.0);
    }
}
