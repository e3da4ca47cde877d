//! Order statistics.

/// Factor that makes the median absolute deviation of normal data estimate its standard deviation.
pub const MAD_TO_SIGMA: f64 = 1.4826;

/// Type-7 quantile (Hyndman and Fan 1996; the default of R and numpy): linear between the order statistics around index
/// `(n - 1) p`.
///
/// `sorted` is in order, `p` a share that is clamped to 0..=1. NaN for no values.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let index = last as f64 * p.clamp(0.0, 1.0);
    let below = index.floor() as usize;
    let low = sorted[below];
    let share = index - index.floor();
    if share == 0.0 {
        return low;
    }
    let high = sorted[below + 1];
    // Equal neighbours stay exact, infinities included: inf - inf would be NaN. The middle is computed alike from both
    // ends, so that mirrored values have exactly mirrored medians.
    if low == high {
        low
    } else if share == 0.5 {
        f64::midpoint(low, high)
    } else {
        low + share * (high - low)
    }
}

/// A sorted copy.
#[must_use]
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut copy = values.to_vec();
    copy.sort_unstable_by(f64::total_cmp);
    copy
}

/// Median; NaN for no values. What [`quantile`] says of the middle, without putting all of them in order.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let mut copy = values.to_vec();
    let (lower, high, _) = copy.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    let high = *high;
    if values.len() % 2 == 1 {
        return high;
    }
    let low = lower.iter().copied().max_by(f64::total_cmp).expect("an even number is two or more");
    quantile(&[low, high], 0.5)
}

/// Median absolute deviation about `center`, scaled to a standard deviation; NaN for no values.
#[must_use]
pub fn mad(values: &[f64], center: f64) -> f64 {
    let deviations: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
    MAD_TO_SIGMA * median(&deviations)
}

/// Sample standard deviation (divisor `n - 1`); zero for fewer than two values.
#[must_use]
pub fn standard_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// Deviations of each group's values from the group's median, all groups together. Deviations from a centre that was
/// taken from the same few values are too small; `sqrt(n / (n - 1))` makes up for it. Groups of one value say nothing.
#[must_use]
pub fn pooled_deviations<'a>(groups: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut pool = Vec::new();
    for group in groups.filter(|group| group.len() > 1) {
        let (center, n) = (median(group), group.len() as f64);
        pool.extend(group.iter().map(|value| (value - center) * (n / (n - 1.0)).sqrt()));
    }
    pool
}

/// Standard deviation of the `p` quantile of `r` values drawn from `pool`: the exact bootstrap variance of an order
/// statistic (Hutson and Ernst 2000, The exact bootstrap mean and variance of an L-estimator), at the rank that the
/// type-7 index of `p` is rounded up to. Zero for an empty pool.
#[must_use]
pub fn quantile_spread(pool: &[f64], r: usize, p: f64) -> f64 {
    let values = sorted(pool);
    let n = values.len() as f64;
    let rank = ((r.max(1) - 1) as f64 * p).ceil() as usize + 1;
    // P(the order statistic is at most the i-th value) = P(at least `rank` of r draws are).
    let below = |i: usize| at_least(r, rank, i as f64 / n);
    let weights: Vec<f64> = (1..=values.len()).map(|i| below(i) - below(i - 1)).collect();
    let mean: f64 = values.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
    values.iter().zip(&weights).map(|(value, weight)| weight * (value - mean).powi(2)).sum::<f64>().sqrt()
}

/// `P(Bin(n, p) >= k)`.
fn at_least(n: usize, k: usize, p: f64) -> f64 {
    let mut total = 0.0;
    let mut ways = 1.0;
    for hits in 0..=n {
        if hits >= k {
            total += ways * p.powf(hits as f64) * (1.0 - p).powf((n - hits) as f64);
        }
        ways *= (n - hits) as f64 / (hits + 1) as f64;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 1.
    const X: [f64; 7] = [10.2, 9.9, 10.0, 14.7, 10.1, 9.8, 10.3];

    #[test]
    fn reference_values() {
        let sorted = sorted(&X);
        assert!((quantile(&sorted, 0.5) - 10.1).abs() < 1e-12);
        assert!((quantile(&sorted, 0.25) - 9.95).abs() < 1e-12);
        assert!((quantile(&sorted, 0.0) - 9.8).abs() < 1e-12);
        assert!((mad(&X, 10.1) - 0.29652).abs() < 1e-12);
    }

    #[test]
    fn launch_values_on_the_log_scale() {
        let logs: Vec<f64> = X.iter().map(|x| x.ln()).collect();
        let sorted = sorted(&logs);
        assert!((quantile(&sorted, 0.5) - 2.312_535_423_847).abs() < 1e-9);
        assert!((quantile(&sorted, 0.25) - 2.297_559_925_067).abs() < 1e-9);
        assert!((quantile(&sorted, 0.0) - 2.282_382_385_677).abs() < 1e-9);
    }

    /// Uniform on (0, 1): the k-th of r has variance k (r + 1 - k) / ((r + 1)^2 (r + 2)).
    #[test]
    fn the_spread_of_an_order_statistic_is_that_of_theory() {
        let pool: Vec<f64> = (0..4000).map(|i| (f64::from(i) + 0.5) / 4000.0).collect();
        for (r, p, rank) in [(5, 0.25, 2.0), (3, 0.25, 2.0), (5, 0.0, 1.0), (9, 0.5, 5.0)] {
            let r_f = r as f64;
            let expected = (rank * (r_f + 1.0 - rank) / ((r_f + 1.0).powi(2) * (r_f + 2.0))).sqrt();
            let got = quantile_spread(&pool, r, p);
            assert!((got / expected - 1.0).abs() < 1e-3, "r={r} p={p}: {got}, expected {expected}");
        }
        assert_eq!(quantile_spread(&[], 5, 0.25), 0.0);
        assert_eq!(quantile_spread(&[2.0; 7], 5, 0.25), 0.0);
    }

    #[test]
    fn a_single_value_is_every_quantile() {
        assert_eq!(quantile(&[3.0], 0.25), 3.0);
        assert_eq!(standard_deviation(&[3.0]), 0.0);
    }
}
