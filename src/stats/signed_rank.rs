//! Wilcoxon's signed-rank test and the interval that inverts it, exact for every sample size in use.
//!
//! Under "the differences are symmetric about zero" every sign is a fair coin, so the distribution of the rank sum is
//! counted, not approximated (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, section 3.1).

use crate::stats::evidence::walsh_averages;
use crate::stats::quantile::sorted;

/// `P(W+ >= w)` for the differences less `center`: how rarely so many positive ranks occur by fair coins. Zeros count
/// half a rank to each side, ties share theirs.
#[must_use]
pub fn upper_tail(differences: &[f64], center: f64) -> f64 {
    let shifted: Vec<f64> = differences.iter().map(|difference| difference - center).collect();
    let mut order: Vec<usize> = (0..shifted.len()).collect();
    order.sort_unstable_by(|a, b| shifted[*a].abs().total_cmp(&shifted[*b].abs()));
    // Twice the ranks, so that midranks are whole numbers.
    let mut ranks = vec![0_usize; shifted.len()];
    let mut start = 0;
    while start < order.len() {
        let size = shifted[order[start]].abs();
        let end = start + order[start..].iter().take_while(|at| shifted[**at].abs() == size).count();
        for at in &order[start..end] {
            ranks[*at] = start + end + 1;
        }
        start = end;
    }
    let positive: usize = shifted
        .iter()
        .zip(&ranks)
        .map(|(value, rank)| if *value > 0.0 { 2 * rank } else { usize::from(*value == 0.0) * rank })
        .sum();
    // `positive` is four times the rank sum, so that half of a midrank is a whole number too.
    let mut chances = vec![1.0];
    for (value, rank) in shifted.iter().zip(&ranks) {
        let steps: &[usize] = if *value == 0.0 { &[1, 1] } else { &[0, 2] };
        let mut next = vec![0.0; chances.len() + 2 * rank];
        for (sum, chance) in chances.iter().enumerate() {
            for step in steps {
                next[sum + step * rank] += chance / 2.0;
            }
        }
        chances = next;
    }
    chances.iter().skip(positive).sum::<f64>().min(1.0)
}

/// Largest `k` with `P(W+ <= k - 1) <= alpha` for `n` differences without ties; 0 where there is none.
fn critical(n: usize, alpha: f64) -> usize {
    let mut chances = vec![1.0_f64];
    for rank in 1..=n {
        let mut next = vec![0.0; chances.len() + rank];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += chance / 2.0;
            next[sum + rank] += chance / 2.0;
        }
        chances = next;
    }
    let mut below = 0.0;
    for (k, chance) in chances.iter().enumerate() {
        below += chance;
        if below > alpha {
            return k;
        }
    }
    chances.len()
}

/// One-sided lower bound of the shift at `alpha`: the `k`-th smallest Walsh average. Minus infinity where so few
/// differences can exclude nothing.
#[must_use]
pub fn lower_bound(differences: &[f64], alpha: f64) -> f64 {
    match critical(differences.len(), alpha) {
        0 => f64::NEG_INFINITY,
        k => walsh_averages(differences)[k - 1],
    }
}

/// One-sided upper bound, likewise.
#[must_use]
pub fn upper_bound(differences: &[f64], alpha: f64) -> f64 {
    -lower_bound(&sorted(&differences.iter().map(|difference| -difference).collect::<Vec<_>>()), alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 11.
    #[test]
    fn reference_value() {
        let d = [0.031, 0.044, 0.012, 0.038, 0.052, 0.027, 0.035, -0.004, 0.041, 0.030, 0.036, 0.029];
        assert!((upper_tail(&d, 0.0099) - 0.000_732_421_875).abs() < 1e-12, "{}", upper_tail(&d, 0.0099));
    }

    #[test]
    fn all_positive_is_one_coin_a_difference() {
        for n in 1..=12 {
            let d: Vec<f64> = (1..=n).map(f64::from).collect();
            assert!((upper_tail(&d, 0.0) - 0.5_f64.powi(n)).abs() < 1e-12);
        }
    }

    #[test]
    fn ties_and_zeros_keep_the_symmetry() {
        assert_eq!(upper_tail(&[0.0, 0.0], 0.0), 1.0);
        let d = [1.0, 1.0, -1.0, 2.0];
        let mirrored: Vec<f64> = d.iter().map(|d| -d).collect();
        // P(W >= w) + P(W <= w) = 1 + P(W = w).
        assert!(upper_tail(&d, 0.0) + upper_tail(&mirrored, 0.0) > 1.0);
        assert_eq!(upper_tail(&[], 0.0), 1.0);
    }

    /// Tables of the signed-rank statistic: with 8 differences, P(W+ <= 3) is 0.01953 and P(W+ <= 4) is 0.02734.
    #[test]
    fn critical_values_agree_with_published_tables() {
        assert_eq!(critical(8, 0.025), 4);
        assert_eq!(critical(10, 0.025), 9);
        assert_eq!(critical(5, 0.025), 0);
        assert_eq!(lower_bound(&[1.0; 5], 0.025), f64::NEG_INFINITY);
    }

    #[test]
    fn the_bound_inverts_the_test() {
        let d = [0.031, 0.044, 0.012, 0.038, 0.052, 0.027, 0.035, -0.004, 0.041, 0.030, 0.036, 0.029];
        let bound = lower_bound(&d, 0.005);
        assert!(upper_tail(&d, bound - 1e-6) <= 0.005 && upper_tail(&d, bound + 1e-6) > 0.005);
        let mirrored: Vec<f64> = d.iter().map(|d| -d).collect();
        assert_eq!(upper_bound(&mirrored, 0.005), -bound);
    }
}
