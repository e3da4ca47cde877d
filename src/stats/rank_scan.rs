//! Candidates for steps in a series: the largest standardised rank sum over all splits, against the distribution that it
//! has when nothing happened (STATISTICS.md section 7; Pettitt 1979 for the statistic), over intervals of every length
//! (seeded intervals: Kovács, Bühlmann, Li and Munk 2023; the narrowest that exceeds is believed first: Baranowski, Chen
//! and Fryzlewicz 2019), so that a level that comes and goes is seen as well as one that stays.
//!
//! The critical values are those of the *maximum*: a test that takes a chosen split for a given one alarms on every
//! tenth quiet series. They hold for independent values; must not know what else a series does by itself, which is
//! `crate::stats::level`'s to judge.

use crate::stats::quantile::median;

/// Fewest values on either side of a split.
const LEAST: usize = 4;

/// Chance that a series without a step is split, per segment, where its values are independent.
pub const ALPHA: f64 = 0.001;

/// Length of a segment and the value that the scan of its ranks exceeds with chance [`ALPHA`], by permutation (the
/// ignored test of this module recomputes them).
const CRITICAL: [(usize, f64); 9] =
    [(12, 2.88), (15, 3.18), (20, 3.31), (25, 3.50), (30, 3.64), (40, 3.69), (50, 3.80), (60, 3.82), (80, 3.91)];

/// How far below the critical value a candidate may lie (a level of about 0.002 instead of [`ALPHA`]), because
/// candidates are judged again. Chosen on the first half of tests/fixtures/series: half as much finds fewer steps, twice
/// as much alarms on quiet series.
const LENIENCE: f64 = 0.2;

/// Intervals up to this length come in steps of the root of two; beyond, where an interval more or less between two
/// lengths shifts a long average little, in powers of two.
const FINE: usize = 128;

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
    Ranked::new(values).scan(0, values.len())
}

/// A series by the order of its values, for scans of many of its intervals.
#[derive(Debug)]
pub struct Ranked {
    /// Place of each value among the distinct ones; equal values share it.
    places: Vec<u32>,
}

impl Ranked {
    /// Sorts once.
    ///
    /// # Panics
    /// When there are 2³² values or more.
    #[must_use]
    pub fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut places = vec![0; values.len()];
        let mut place = 0;
        for (at, index) in order.iter().enumerate() {
            if at > 0 && values[*index] != values[order[at - 1]] {
                place += 1;
            }
            places[*index] = place;
        }
        assert!(u32::try_from(values.len()).is_ok(), "a series of 2^32 values");
        Self { places }
    }

    /// Midranks, from 1, of the values `from..to` among themselves: ties share the mean of theirs.
    #[must_use]
    pub fn midranks(&self, from: usize, to: usize) -> Vec<f64> {
        // Place above, index below: plain integers sort several times as fast as floats behind an index.
        let mut order: Vec<u64> =
            (0..).zip(&self.places[from..to]).map(|(index, place)| (u64::from(*place) << 32) | index).collect();
        order.sort_unstable();
        let mut ranks = vec![0.0; order.len()];
        let mut start = 0;
        while start < order.len() {
            let place = order[start] >> 32;
            let end = start + order[start..].iter().take_while(|key| *key >> 32 == place).count();
            for key in &order[start..end] {
                ranks[(key & u64::from(u32::MAX)) as usize] = (start + end + 1) as f64 / 2.0;
            }
            start = end;
        }
        ranks
    }

    /// Scans the values `from..to`; the split is counted from `from`. `None` where they are too few or all equal.
    #[must_use]
    pub fn scan(&self, from: usize, to: usize) -> Option<Scan> {
        let n = to - from;
        if n < CRITICAL[0].0 {
            return None;
        }
        let ranks = self.midranks(from, to);
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
            if k < LEAST {
                continue;
            }
            let left = k as f64;
            // The square has its largest value at the same place, and a root for each is a third of the time.
            let square = sum * sum / (left * (count - left));
            if square > best.z {
                best = Scan { split: k, z: square };
            }
        }
        best.z = (best.z * count / variance).sqrt();
        Some(best)
    }

    /// Moves every point to the best split between its neighbours, in order, which an interval that ended next to the
    /// point could not see.
    pub fn settle(&self, points: &mut [usize]) {
        for at in 0..points.len() {
            let from = at.checked_sub(1).map_or(0, |before| points[before]);
            let to = points.get(at + 1).copied().unwrap_or(self.places.len());
            if let Some(best) = self.scan(from, to) {
                points[at] = from + best.split;
            }
        }
    }
}

/// Splits that exceed the critical value of some interval, or nearly, in order. `smallest` is the least difference of medians that
/// counts as a step, in the unit of the values.
#[must_use]
pub fn candidates(values: &[f64], smallest: f64) -> Vec<usize> {
    let ranked = Ranked::new(values);
    let mut points: Vec<usize> = Vec::new();
    for length in lengths(values.len()) {
        let mut over: Vec<(f64, usize, usize)> = Vec::new();
        for from in starts(values.len(), length) {
            let segment = &values[from..from + length];
            if inside(&points, from, length) {
                continue;
            }
            let Some(Scan { split, z }) = ranked.scan(from, from + length) else { continue };
            let (left, right) = segment.split_at(split);
            if z > critical(length) - LENIENCE && (median(right) - median(left)).abs() >= smallest {
                over.push((z, from, from + split));
            }
        }
        over.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, from, point) in over {
            if !inside(&points, from, length) {
                points.insert(points.partition_point(|other| *other < point), point);
            }
        }
    }
    ranked.settle(&mut points);
    points
}

/// Whether a point splits the interval.
fn inside(points: &[usize], from: usize, length: usize) -> bool {
    points.get(points.partition_point(|point| *point <= from)).is_some_and(|point| *point < from + length)
}

/// Lengths of the intervals, ascending, up to the whole series.
fn lengths(n: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut length = n as f64;
    while length.round() as usize >= CRITICAL[0].0 {
        found.push(length.round() as usize);
        length *= if length > FINE as f64 { 0.5 } else { std::f64::consts::FRAC_1_SQRT_2 };
    }
    found.reverse();
    found
}

/// Where intervals of a length start: each overlaps the next by half, the last ends with the series.
fn starts(n: usize, length: usize) -> impl Iterator<Item = usize> {
    (0..n - length).step_by((length / 2).max(1)).chain(std::iter::once(n - length))
}

/// The critical value of a length: of the next longer one in the table, and beyond it rising with the iterated
/// logarithm, as the maximum of a standardised bridge does (Csörgő and Horváth 1997, theorem A.3.1).
#[must_use]
pub fn critical(n: usize) -> f64 {
    let (last, at_last) = CRITICAL[CRITICAL.len() - 1];
    let growth = |n: usize| (2.0 * (n as f64).ln().ln()).sqrt();
    CRITICAL
        .iter()
        .find(|(length, _)| n <= *length)
        .map_or_else(|| at_last + growth(n) - growth(last), |(_, value)| *value)
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
        assert!((critical(y.len()) - 3.305).abs() < 0.01 && found.z > critical(y.len()));
        assert_eq!(candidates(&y, 0.01), [12]);
        assert_eq!(candidates(&y, 3.0), [0_usize; 0], "smaller than what counts");
    }

    #[test]
    fn several_steps_are_found_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let levels = [0.0, 1.0, 0.5, 2.0];
        let values: Vec<f64> =
            (0..160).map(|i| levels[i / 40] + (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * 0.2).collect();
        let found = candidates(&values, 0.01);
        assert!(found.is_sorted(), "{found:?}");
        for step in [40_usize, 80, 120] {
            assert!(found.iter().any(|point| point.abs_diff(step) <= 1), "{step} in {found:?}");
        }
    }

    #[test]
    fn short_and_constant_series_have_no_steps() {
        assert_eq!(candidates(&[], 0.01), [0_usize; 0]);
        assert_eq!(candidates(&[1.0; 11], 0.01), [0_usize; 0]);
        assert_eq!(candidates(&[1.0; 500], 0.01), [0_usize; 0]);
    }

    #[test]
    fn whole_series_without_a_step_rarely_exceed() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for n in [14, 60, 400, 2000] {
            let series = 40_000 / n;
            let exceeds = |values: &[f64]| scan(values).expect("long enough").z > critical(n);
            let split = (0..series).filter(|_| exceeds(&shuffled(n, &mut random))).count();
            assert!(split <= 1 + series / 200, "{split} of {series} series of {n}");
        }
    }

    #[test]
    fn a_level_that_comes_and_goes_is_seen() {
        let mut values: Vec<f64> = (0..200).map(|i| f64::from(i * 7 % 11) * 0.1).collect();
        values[90..110].iter_mut().for_each(|value| *value += 2.0);
        assert_eq!(candidates(&values, 0.01), [90, 110]);
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
