//! When enough samples were taken: when the median, which will be judged, is known to the precision asked for.
//!
//! Pure functions on slices. Must not know what the values are.

use crate::domain::{Sampling, StopReason};
use crate::measure::LEAST_SAMPLES;
use crate::stats::quantile::quantile;

/// Largest chance that the interval misses on one side: 95 % in all.
const TAIL: f64 = 0.025;

/// Room reserved ahead, values; more than that grows between batches.
const MOST_ROOM: usize = 100_000;

/// Ends sampling.
#[derive(Debug)]
pub struct Rule {
    least: usize,
    most: usize,
    precision: f64,
    min_time_s: f64,
    max_time_s: f64,
    /// The count at which the interval is computed next. Looking at every 10 % keeps the cost of sorting small.
    next_look: usize,
    scratch: Vec<f64>,
}

impl Rule {
    /// The rule of these settings; fewer than [`LEAST_SAMPLES`] are never accepted.
    pub fn new(sampling: &Sampling) -> Self {
        let least = sampling.min_samples.max(LEAST_SAMPLES) as usize;
        let most = least.max(sampling.max_samples as usize);
        Self {
            least,
            most,
            precision: sampling.precision,
            min_time_s: sampling.min_time_s,
            max_time_s: sampling.max_time_s,
            next_look: least,
            scratch: Vec::with_capacity(most.min(MOST_ROOM)),
        }
    }

    /// How many values to make room for.
    pub fn room(&self) -> usize {
        self.most.min(MOST_ROOM)
    }

    /// Whether to stop after these values, taken in `spent_s` seconds, and why.
    pub fn check(&mut self, values: &[f64], spent_s: f64) -> Option<StopReason> {
        let n = values.len();
        if n < self.least {
            return None;
        }
        // Caps end sampling whatever is known, but the last look decides which reason is the true one.
        let capped = if n >= self.most {
            Some(StopReason::MaxSamples)
        } else if spent_s >= self.max_time_s {
            Some(StopReason::MaxTime)
        } else {
            None
        };
        let due = n >= self.next_look && spent_s >= self.min_time_s;
        if due || capped.is_some() {
            self.next_look = n + (n / 10).max(1);
            self.scratch.clear();
            self.scratch.extend_from_slice(values);
            if is_precise(&mut self.scratch, self.precision) {
                return Some(StopReason::Precise);
            }
        }
        capped
    }
}

/// Whether the 95 % interval of the median lies within `precision` (relative) of it on both sides. Reorders.
fn is_precise(values: &mut [f64], precision: f64) -> bool {
    let Some(rank) = interval_rank(values.len()) else {
        return false;
    };
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values[rank - 1], values[values.len() - rank]);
    let middle = quantile(values, 0.5);
    low >= middle * (1.0 - precision) && high <= middle * (1.0 + precision)
}

/// The rank j for which [x(j), x(n+1−j)] covers the median with at least 95 % whatever the distribution: the largest
/// j with P(Bin(n, ½) < j) <= 2.5 % (David and Nagaraja, Order Statistics, section 7.1). `None` under 6 values, where
/// even the extremes cover too little.
fn interval_rank(n: usize) -> Option<usize> {
    // In logs: ½ⁿ underflows from n = 1075.
    let mut ln_p = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for k in 0..n {
        below += ln_p.exp();
        if below > TAIL {
            return (k > 0).then_some(k);
        }
        ln_p += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(min: u32, max: u32, max_time_s: f64) -> Rule {
        Rule::new(&Sampling {
            min_samples: min,
            max_samples: max,
            precision: 0.01,
            min_time_s: 0.0,
            max_time_s,
            ..Sampling::default()
        })
    }

    #[test]
    fn precise_values_are_not_enough_before_the_least_time() {
        let mut rule = Rule::new(&Sampling { min_time_s: 0.5, ..Sampling::default() });
        let steady = vec![1.0; 40];
        assert_eq!(rule.check(&steady, 0.4), None);
        assert_eq!(rule.check(&steady, 0.6), Some(StopReason::Precise));
    }

    #[test]
    fn ranks_agree_with_published_tables() {
        // Largest j with P(Bin(n, ½) <= j − 1) <= 2.5 %: tables of the sign test (two-sided 5 %), critical value + 1.
        let table = [(5, None), (6, Some(1)), (8, Some(1)), (9, Some(2)), (10, Some(2)), (20, Some(6)), (25, Some(8))];
        for (n, rank) in table {
            assert_eq!(interval_rank(n), rank, "n = {n}");
        }
        assert_eq!(interval_rank(0), None);
        // Normal approximation n/2 − 0.98·√n, far beyond where ½ⁿ underflows.
        assert!(interval_rank(10_000).is_some_and(|rank| (4900..=4903).contains(&rank)));
    }

    #[test]
    fn both_sides_must_be_precise() {
        // Of 10 values the interval is from the second to the ninth.
        let with = |low: f64, high: f64| [low, low, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, high, high];
        assert!(is_precise(&mut with(0.995, 1.005), 0.01));
        assert!(!is_precise(&mut with(0.98, 1.0), 0.01), "low side");
        assert!(!is_precise(&mut with(1.0, 1.02), 0.01), "high side");
        let mut one_outlier_each_side = [0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0];
        assert!(is_precise(&mut one_outlier_each_side, 0.01));
    }

    #[test]
    fn constant_values_stop_at_the_fewest() {
        let mut rule = rule(12, 200, 1e9);
        assert_eq!(rule.check(&[1.0; 11], 0.0), None);
        assert_eq!(rule.check(&[1.0; 12], 0.0), Some(StopReason::Precise));
    }

    #[test]
    fn noisy_values_stop_at_a_cap_but_never_before_the_fewest() {
        let noisy: Vec<f64> = (0..50).map(|i| if i % 2 == 0 { 1.0 } else { 2.0 }).collect();
        let mut by_time = rule(20, 50, 3.0);
        assert_eq!(by_time.check(&noisy[..19], 99.0), None);
        assert_eq!(by_time.check(&noisy[..20], 2.9), None);
        assert_eq!(by_time.check(&noisy[..21], 3.0), Some(StopReason::MaxTime));
        assert_eq!(rule(20, 50, 3.0).check(&noisy, 0.0), Some(StopReason::MaxSamples));
    }

    #[test]
    fn fewer_than_ten_are_never_enough() {
        let mut rule = rule(1, 2, 0.0);
        assert_eq!(rule.check(&[1.0; 9], 9.0), None);
        assert_eq!(rule.check(&[1.0, 2.0].repeat(5), 9.0), Some(StopReason::MaxSamples));
    }

    #[test]
    fn looks_are_spaced_but_a_cap_always_looks() {
        let mut values = vec![1.0; 100];
        values[..50].fill(2.0);
        let mut rule = rule(10, 1000, 10.0);
        assert_eq!(rule.check(&values, 0.0), None);
        // Precise now, but the next look is due at 110 values…
        assert_eq!(rule.check(&[1.0; 105], 0.0), None);
        // …unless a cap ends it here.
        assert_eq!(rule.check(&[1.0; 105], 10.0), Some(StopReason::Precise));
    }
}
