//! Steps in a series: the largest standardised rank sum over all splits, against the distribution that it has when
//! nothing happened, and again in both parts (STATISTICS.md section 7; Pettitt 1979 for the statistic, binary
//! segmentation after Scott and Knott 1974).
//!
//! The critical values are those of the *maximum*: a test that takes a chosen split for a given one alarms on every
//! tenth quiet series.

use crate::stats::quantile::median;

/// Fewest values on either side of a split.
const LEAST: usize = 4;

/// Chance that a series without a step is split, per segment.
pub const ALPHA: f64 = 0.001;

/// Length of a segment and the value that the scan of its ranks exceeds with chance [`ALPHA`], by permutation (the
/// ignored test of this module recomputes them).
const CRITICAL: [(usize, f64); 9] =
    [(12, 2.88), (15, 3.18), (20, 3.31), (25, 3.50), (30, 3.64), (40, 3.69), (50, 3.80), (60, 3.82), (80, 3.91)];

/// The best split of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scan {
    /// First index of the right part.
    pub split: usize,
    /// Largest standardised rank sum.
    pub z: f64,
}

/// Scans a segment; `None` where it is too short or all values are equal.
#[must_use]
pub fn scan(values: &[f64]) -> Option<Scan> {
    let n = values.len();
    if n < CRITICAL[0].0 {
        return None;
    }
    let ranks = midranks(values);
    let count = n as f64;
    let middle = f64::midpoint(count, 1.0);
    let variance = ranks.iter().map(|rank| (rank - middle).powi(2)).sum::<f64>() / (count - 1.0);
    if variance == 0.0 {
        return None;
    }
    let mut best = Scan { split: 0, z: f64::NEG_INFINITY };
    let mut sum = 0.0;
    for (k, rank) in (1..=n - LEAST).zip(&ranks) {
        sum += rank - middle;
        let left = k as f64;
        let z = sum.abs() / (variance * left * (count - left) / count).sqrt();
        if k >= LEAST && z > best.z {
            best = Scan { split: k, z };
        }
    }
    Some(best)
}

/// First index of every new level, in order. `smallest` is the least difference of medians that counts as a step, in
/// the unit of the values.
#[must_use]
pub fn steps(values: &[f64], smallest: f64) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open = vec![(0, values.len())];
    while let Some((from, to)) = open.pop() {
        let segment = &values[from..to];
        let Some(Scan { split, z }) = scan(segment) else { continue };
        let (left, right) = segment.split_at(split);
        if z > critical(segment.len()) && (median(right) - median(left)).abs() >= smallest {
            found.push(from + split);
            open.extend([(from, from + split), (from + split, to)]);
        }
    }
    found.sort_unstable();
    found
}

/// The critical value of a length: of the next longer one in the table, and beyond it rising with the iterated
/// logarithm, as the maximum of a standardised bridge does (Csörgő and Horváth 1997, theorem A.3.1).
fn critical(n: usize) -> f64 {
    let (last, at_last) = CRITICAL[CRITICAL.len() - 1];
    let growth = |n: usize| (2.0 * (n as f64).ln().ln()).sqrt();
    CRITICAL
        .iter()
        .find(|(length, _)| n <= *length)
        .map_or_else(|| at_last + growth(n) - growth(last), |(_, value)| *value)
}

/// Ranks from 1, ties sharing the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start + order[start..].iter().take_while(|at| values[**at] == value).count();
        for at in &order[start..end] {
            ranks[*at] = (start + end + 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    fn shuffled(n: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
        let mut values: Vec<f64> = (0..n).map(|i| i as f64).collect();
        for last in (1..n).rev() {
            values.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
        }
        values
    }

    /// STATISTICS reference 10.
    #[test]
    fn reference_value() {
        let y = [
            0.0, 0.3, -0.2, 0.1, 0.4, -0.1, 0.2, -0.3, 0.05, 0.15, -0.05, 0.25, 2.1, 1.9, 2.3, 2.0, 2.2, 1.8, 2.4, 2.05,
        ];
        let found = scan(&y).expect("long enough");
        assert!((found.z - 3.703_280_399).abs() < 1e-9, "{found:?}");
        assert_eq!(found.split, 12);
        assert_eq!(steps(&y, 0.01), [12]);
        assert_eq!(steps(&y, 3.0), [0_usize; 0], "smaller than what counts");
    }

    #[test]
    fn several_steps_are_found_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let levels = [0.0, 1.0, 0.5, 2.0];
        let values: Vec<f64> =
            (0..160).map(|i| levels[i / 40] + (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * 0.2).collect();
        assert_eq!(steps(&values, 0.01), [40, 80, 120]);
    }

    #[test]
    fn short_and_constant_series_have_no_steps() {
        assert_eq!(steps(&[], 0.01), [0_usize; 0]);
        assert_eq!(steps(&[1.0; 11], 0.01), [0_usize; 0]);
        assert_eq!(steps(&[1.0; 500], 0.01), [0_usize; 0]);
    }

    #[test]
    fn series_without_a_step_are_rarely_split() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for n in [14, 60, 400, 2000] {
            let series = 40_000 / n;
            let split = (0..series).filter(|_| !steps(&shuffled(n, &mut random), 0.0).is_empty()).count();
            assert!(split <= 1 + series / 200, "{split} of {series} series of {n}");
        }
    }

    #[test]
    #[ignore = "recomputes the critical values: minutes in release mode"]
    #[expect(clippy::print_stdout, reason = "its output is the table")]
    fn critical_values() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for n in [12, 15, 20, 25, 30, 40, 50, 60, 80, 120, 200, 400, 1000, 4000, 10_000] {
            let draws = (200_000_000 / n).clamp(20_000, 400_000);
            let mut z: Vec<f64> = (0..draws).map(|_| scan(&shuffled(n, &mut random)).expect("long enough").z).collect();
            z.sort_unstable_by(f64::total_cmp);
            let value = z[draws - 1 - (draws as f64 * ALPHA) as usize];
            println!("({n}, {value:.3}), used {:.3}", critical(n));
        }
    }
}
