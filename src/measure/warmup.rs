//! When a warm-up is over: when batches no longer trend.
//!
//! Must not know what is being timed, nor the caps on time: it only looks at the values it is given.

use crate::stats::quantile::median;

/// The warm-up's batches are at least this fraction of its cap, so that a window spans a fair share of it and slow
/// effects (clock ramps, first-touch memory) show in a handful of values.
pub const BATCHES_IN_CAP: f64 = 50.0;

/// Batches that are looked at together.
const WINDOW: usize = 10;

/// The fewest that can show a trend: five in strict order happen by chance once in 60 either way.
const LEAST: usize = 5;

/// Two-sided 10 % point of the normal distribution: eager to see a trend, since one more batch costs little.
const CRITICAL: f64 = 1.645;

/// A trend matters when the window's halves differ by more than this share of the precision asked for: far less than
/// the precision, because it would go on all through sampling.
const SHARE_OF_PRECISION: f64 = 0.1;

/// The last batches of a warm-up, seconds per iteration.
#[derive(Debug)]
pub struct Trend {
    values: Vec<f64>,
    tolerance: f64,
}

impl Trend {
    /// Nothing seen yet. `precision` is relative, as in the sampling rules.
    pub fn new(precision: f64) -> Self {
        Self { values: Vec::new(), tolerance: SHARE_OF_PRECISION * precision }
    }

    /// Adds a batch.
    pub fn push(&mut self, seconds: f64) {
        self.values.push(seconds);
    }

    /// Whether a full window shows no trend.
    pub fn settled(&self) -> bool {
        self.values.len() >= WINDOW && !trending(self.window(), self.tolerance)
    }

    /// Whether what there is shows no trend, when there is no time for more: too few values settle nothing.
    pub fn settled_at_cap(&self) -> bool {
        self.window().len() >= LEAST && !trending(self.window(), self.tolerance)
    }

    /// The fastest value of the window, seconds; infinite when nothing was seen.
    pub fn fastest(&self) -> f64 {
        self.window().iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn window(&self) -> &[f64] {
        &self.values[self.values.len().saturating_sub(WINDOW)..]
    }
}

/// Whether values rise or fall over the window: significantly by Mann–Kendall's test, and by more than `tolerance`
/// (relative) between the medians of its halves. Either alone would never settle: noise is sometimes in order, and
/// noiseless values always are.
fn trending(window: &[f64], tolerance: f64) -> bool {
    if mann_kendall(window).abs() <= CRITICAL {
        return false;
    }
    let (first, second) = window.split_at(window.len() / 2);
    let (first, second) = (median(first), median(second));
    (second - first).abs() > tolerance * second
}

/// Mann–Kendall's statistic in standard deviations, with the correction for ties and for continuity (Mann 1945;
/// Kendall 1975): positive when values rise. Zero for fewer than two values or equal ones.
fn mann_kendall(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mut s = 0.0;
    for (i, earlier) in values.iter().enumerate() {
        for later in &values[i + 1..] {
            s += match later.total_cmp(earlier) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.0,
                std::cmp::Ordering::Less => -1.0,
            };
        }
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let spread = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|group| spread(group.len() as f64)).sum();
    let variance = (spread(n) - ties) / 18.0;
    if s == 0.0 || variance <= 0.0 {
        return 0.0;
    }
    (s - f64::signum(s)) / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend_of(values: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::new(0.01);
        values.into_iter().for_each(|value| trend.push(value));
        trend
    }

    #[test]
    fn mann_kendall_agrees_with_hand_computed_values() {
        // Ten in order: S = 45, variance 10·9·25/18 = 125.
        let rising: Vec<f64> = (0..10).map(f64::from).collect();
        assert!((mann_kendall(&rising) - 44.0 / 125f64.sqrt()).abs() < 1e-12);
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        assert_eq!(mann_kendall(&falling), -mann_kendall(&rising));
        // 1 2 2 3: S = 5, variance (4·3·13 − 2·1·9)/18 = 138/18.
        assert!((mann_kendall(&[1.0, 2.0, 2.0, 3.0]) - 4.0 / (138f64 / 18.0).sqrt()).abs() < 1e-12);
        assert_eq!(mann_kendall(&[5.0; 8]), 0.0);
        assert_eq!(mann_kendall(&[]), 0.0);
    }

    #[test]
    fn constant_and_alternating_values_are_settled() {
        assert!(trend_of([1.0; 10]).settled());
        assert!(trend_of((0..10).map(|i| if i % 2 == 0 { 1.0 } else { 1.5 })).settled());
    }

    #[test]
    fn falling_rising_and_stepping_values_are_not() {
        assert!(!trend_of((0..10).map(|i| 2.0 - 0.01 * f64::from(i))).settled());
        assert!(!trend_of((0..10).map(|i| 1.0 + 0.01 * f64::from(i))).settled());
        assert!(!trend_of((0..10).map(|i| if i < 5 { 1.2 } else { 1.0 })).settled());
    }

    #[test]
    fn a_trend_too_small_to_matter_is_settled() {
        assert!(trend_of((0..10).map(|i| 1.0 + 1e-5 * f64::from(i))).settled());
    }

    #[test]
    fn what_left_the_window_is_forgotten() {
        let slow_start = (0..20).map(|i| if i < 10 { 9.0 } else { 1.0 });
        let trend = trend_of(slow_start);
        assert!(trend.settled());
        assert_eq!(trend.fastest(), 1.0);
    }

    #[test]
    fn an_outlier_is_no_trend() {
        let mut values = [1.0; 10];
        values[9] = 50.0;
        assert!(trend_of(values).settled());
    }

    #[test]
    fn few_values_settle_only_at_the_cap_and_fewer_never() {
        assert!(!trend_of([1.0; 9]).settled());
        assert!(trend_of([1.0; 5]).settled_at_cap());
        assert!(!trend_of([1.0; 4]).settled_at_cap());
        assert!(!trend_of([5.0, 4.0, 3.0, 2.0, 1.0]).settled_at_cap());
    }
}
