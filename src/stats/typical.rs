//! Intervals of what is typical of one sample: its median, and the difference of the medians of two.
//!
//! From six values on order statistics bound a median whatever the distribution; with fewer, or at a level that they cannot
//! reach, Student's t does, about the median, whose variance is that of a mean times pi / 2 for normal data and less for
//! fewer values.

use std::f64::consts::FRAC_PI_2;

use crate::stats::quantile::{median, sorted, standard_deviation};
use crate::stats::student;

/// Both one-sided bounds of the median at `alpha` each. Infinite for fewer than two values; the value itself where all are
/// equal.
#[must_use]
pub fn median_bounds(values: &[f64], alpha: f64) -> (f64, f64) {
    let in_order = sorted(values);
    let n = in_order.len();
    if let Some(k) = rank(n, alpha) {
        return (in_order[k - 1], in_order[n - k]);
    }
    if n < 2 {
        return (f64::NEG_INFINITY, f64::INFINITY);
    }
    let half = student::upper_quantile(n as f64 - 1.0, alpha) * variance(values).sqrt();
    let center = median(values);
    (center - half, center + half)
}

/// Both one-sided bounds of `median(head) - median(base)` at `alpha` each, with the degrees of freedom of Welch (1947).
/// A side of equal values carries no noise and may have one value only; infinite where a side has too few.
#[must_use]
pub fn difference_bounds(head: &[f64], base: &[f64], alpha: f64) -> (f64, f64) {
    let shift = median(head) - median(base);
    let noise: Vec<(f64, f64)> = [head, base]
        .into_iter()
        .map(|side| (variance(side), side.len() as f64 - 1.0))
        .filter(|(variance, _)| *variance > 0.0)
        .collect();
    let total: f64 = noise.iter().map(|(variance, _)| variance).sum();
    if total == 0.0 {
        return (shift, shift);
    }
    let degrees = total.powi(2) / noise.iter().map(|(variance, degrees)| variance.powi(2) / degrees).sum::<f64>();
    let half = student::upper_quantile(degrees, alpha) * total.sqrt();
    (shift - half, shift + half)
}

/// Variance of a median.
fn variance(values: &[f64]) -> f64 {
    FRAC_PI_2 * standard_deviation(values).powi(2) / values.len() as f64
}

/// The largest `k` for which the `k`-th smallest of `n` values exceeds the median with probability `alpha` at most; `None`
/// where not even the smallest does.
fn rank(n: usize, alpha: f64) -> Option<usize> {
    // P(fewer than k of n fair coins show heads); as a logarithm, because 2^-n is zero for a thousand.
    let (mut ways, mut below, mut k) = (-(n as f64) * std::f64::consts::LN_2, 0.0, 0);
    while k < n / 2 {
        below += ways.exp();
        if below > alpha {
            break;
        }
        k += 1;
        ways += ((n - k + 1) as f64 / k as f64).ln();
    }
    (k > 0).then_some(k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    /// Tables of the sign test: with 6 values P(none below) is 0.0156, with 9 P(at most one) is 0.0195, with 20 P(at most
    /// five) is 0.0207.
    #[test]
    fn ranks_agree_with_the_tables_of_the_sign_test() {
        for (n, expected) in [(0, None), (5, None), (6, Some(1)), (8, Some(1)), (9, Some(2)), (20, Some(6))] {
            assert_eq!(rank(n, 0.025), expected, "{n}");
        }
        assert_eq!(rank(8, 0.0025), None);
        assert_eq!(rank(9, 0.0025), Some(1));
        // Normal: 1000 - 1.96 * sqrt(2000) / 2 = 956.2.
        assert_eq!(rank(2000, 0.025), Some(956));
    }

    #[test]
    fn few_values_are_bounded_by_student_and_none_by_nothing() {
        // t(4, 0.025) = 2.776445; the standard deviation of 1..5 is sqrt(2.5).
        let (low, high) = median_bounds(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.025);
        let half = 2.776_445_105_198 * (FRAC_PI_2 * 2.5 / 5.0).sqrt();
        assert!((high - 3.0 - half).abs() < 1e-9 && (3.0 - half - low).abs() < 1e-9, "{low} {high}");
        assert_eq!(median_bounds(&[7.0; 3], 0.025), (7.0, 7.0));
        assert_eq!(median_bounds(&[7.0], 0.025), (f64::NEG_INFINITY, f64::INFINITY));
    }

    #[test]
    fn welch_weighs_both_sides_and_a_constant_side_has_no_noise() {
        // By hand: equal spreads and counts give 2 (n - 1) = 4 degrees of freedom.
        let (low, high) = difference_bounds(&[10.0, 11.0, 12.0], &[1.0, 2.0, 3.0], 0.025);
        let half = 2.776_445_105_198 * (2.0 * FRAC_PI_2 / 3.0).sqrt();
        assert!((high - 9.0 - half).abs() < 1e-9 && (9.0 - half - low).abs() < 1e-9, "{low} {high}");
        assert_eq!(difference_bounds(&[3.0], &[1.0], 0.025), (2.0, 2.0));
        let (low, high) = difference_bounds(&[10.0, 11.0, 12.0], &[1.0], 0.025);
        assert!(((high - low) / 2.0 - 4.302_652_729_749 * (FRAC_PI_2 / 3.0).sqrt()).abs() < 1e-9);
    }

    /// Twelve uniforms are normal enough; with bursts of a fifth of the launches the order statistics do not care.
    #[test]
    fn intervals_cover_what_they_say() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        for n in [3, 5, 6, 12, 40] {
            let mut outside = [0, 0];
            for _ in 0..4000 {
                let mut side =
                    || -> Vec<f64> { (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect() };
                let (a, b) = (side(), side());
                let (low, high) = median_bounds(&a, 0.025);
                outside[0] += usize::from(low > 0.0 || high < 0.0);
                let (low, high) = difference_bounds(&a, &b, 0.025);
                outside[1] += usize::from(low > 0.0 || high < 0.0);
            }
            for count in outside {
                assert!(count <= 230, "{count} of 4000 with {n} values");
            }
        }
    }
}
