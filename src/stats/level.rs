//! Levels of a series that does things by itself: which candidate steps stand out from its own wander.
//!
//! Successive launches are not independent (a neighbour comes and goes, a clock stays slow for a while), so a test for
//! independent values finds steps in most quiet series. Two questions are put to every candidate of
//! [`crate::stats::rank_scan`]:
//!
//! - *Is it sharp?* The medians of as many values before and after it must differ by several times what neighbouring
//!   stretches of this series usually differ by: the Allan deviation (Allan 1966) with medians for means and quantiles
//!   for the root mean square. A drift or a series full of bursts has large usual differences at every width.
//! - *Does it last?* The rank sum, deflated by the long-run variance of what the levels leave over (Bartlett 1946; the
//!   variance of sums of neighbours against that of single values), must exceed its critical value.
//!
//! A series in which no candidate is established has one level. Where one is, the others need less, because the question
//! is no longer whether anything happened (as step-down tests do; Holm 1979). Must not know what the values mean.

use crate::stats::quantile::{MAD_TO_SIGMA, median, quantile, sorted};
use crate::stats::rank_scan::{Ranked, candidates, critical};

/// Strength that one candidate of a series must have. Chosen on the first half of tests/fixtures/series: the least at which
/// none of its quiet series alarms.
const ESTABLISHED: f64 = 6.0;
/// Strength needed where all there is is an episode: the series goes to another level and comes back. What a change of the
/// program does stays; moods of the machine pass.
const EPISODE: f64 = 10.0;
/// The levels before and after an episode differ by less than this share of what lies between.
const BACK: f64 = 0.5;
/// Strength that the others must have then.
const SUPPORTED: f64 = 3.0;
/// Widths of the stretches compared, each the double of the one before.
const WIDTHS: [usize; 5] = [4, 8, 16, 32, 64];
/// A width is used where the series is this many times as long.
const ROOM: usize = 4;
/// The candidate's own surroundings count as usual where the series is this many widths long: then they cannot dominate.
const AMPLE: usize = 16;
/// Fewest stretches that say what is usual.
const FEWEST: usize = 12;
/// Most places at which neighbouring stretches are compared, for each width.
const PLACES: usize = 500;
/// What is usual is the larger of two quantiles, each as the deviation of normal values that has it: the middle, and one
/// that sees a tail of bursts.
const USUAL: [(f64, f64); 2] = [(0.5, 0.674_489_75), (0.8, 1.281_551_57)];
/// Longest sum by which the long-run variance is seen.
const LONGEST_SUM: usize = 8;
/// Fewest separate sums of a length that say anything.
const FEWEST_SUMS: usize = 6;

/// First index of every new level, in order. `smallest` is the least difference of medians that counts as a step, in
/// the unit of the values.
#[must_use]
pub fn steps(values: &[f64], smallest: f64) -> Vec<usize> {
    let points = candidates(values, smallest);
    if points.is_empty() {
        return points;
    }
    let ranked = Ranked::new(values);
    let strengths: Vec<f64> = sharpness(values, &points)
        .into_iter()
        .zip(persistence(&ranked, values.len(), &points))
        .map(|(sharp, lasting)| sharp * lasting.max(1.0).powi(2))
        .collect();
    let strongest = strengths.iter().copied().fold(0.0, f64::max);
    if strongest < ESTABLISHED {
        return Vec::new();
    }
    let mut kept: Vec<usize> = points
        .iter()
        .zip(&strengths)
        .filter(|(_, strength)| **strength >= SUPPORTED)
        .map(|(point, _)| *point)
        .collect();
    ranked.settle(&mut kept);
    if strongest < EPISODE && is_episode(values, &kept) {
        return Vec::new();
    }
    kept
}

/// Whether the series leaves its level once and comes back to it.
fn is_episode(values: &[f64], points: &[usize]) -> bool {
    let [gone, back] = *points else { return false };
    let [before, between, after] = [&values[..gone], &values[gone..back], &values[back..]].map(median);
    (after - before).abs() < BACK * (between - before).abs()
}

/// Neighbours of each point: the one before it (or 0) and the one after it (or `n`).
fn surroundings(points: &[usize], n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..points.len()).map(move |at| {
        let from = at.checked_sub(1).map_or(0, |before| points[before]);
        (from, points[at], points.get(at + 1).copied().unwrap_or(n))
    })
}

/// By how much the median of `width` values from `at` on differs from that of as many before.
fn contrast(values: &[f64], at: usize, width: usize) -> f64 {
    (median(&values[at..at + width]) - median(&values[at - width..at])).abs()
}

/// What contrasts of a width are like where no point is near.
struct Usual {
    width: usize,
    /// In order.
    clean: Vec<f64>,
    /// Place and contrast of the others.
    near: Vec<(usize, f64)>,
}

impl Usual {
    fn of(values: &[f64], points: &[usize], width: usize) -> Self {
        let n = values.len();
        let stride = (width / 4).max(n / PLACES).max(1);
        let (mut clean, mut near) = (Vec::new(), Vec::new());
        for at in (width..=n - width).step_by(stride) {
            let size = contrast(values, at, width);
            let next = points.partition_point(|point| point + width <= at);
            if points.get(next).is_some_and(|point| *point < at + width) {
                near.push((at, size));
            } else {
                clean.push(size);
            }
        }
        Self { width, clean: sorted(&clean), near }
    }

    /// The usual contrast, those around `point` and around no other included where `ample`.
    fn scale(&self, (from, point, to): (usize, usize, usize), ample: bool) -> Option<f64> {
        let mut all = self.clean.clone();
        if ample {
            let first = self.near.partition_point(|(at, _)| *at < (point + 1).saturating_sub(self.width));
            for (at, size) in self.near[first..].iter().take_while(|(at, _)| *at < point + self.width) {
                if at - self.width >= from && at + self.width <= to {
                    all.insert(all.partition_point(|other| other < size), *size);
                }
            }
        }
        (all.len() >= FEWEST).then(|| USUAL.iter().map(|(p, normal)| quantile(&all, *p) / normal).fold(0.0, f64::max))
    }
}

/// How many times the usual contrast each point has, at the width where that is most.
fn sharpness(values: &[f64], points: &[usize]) -> Vec<f64> {
    let n = values.len();
    let usual: Vec<Usual> =
        WIDTHS.into_iter().filter(|width| ROOM * width <= n).map(|width| Usual::of(values, points, width)).collect();
    surroundings(points, n)
        .map(|(from, point, to)| {
            let room = (point - from).min(to - point);
            let times = |usual: &Usual| {
                let scale = usual.scale((from, point, to), n >= AMPLE * usual.width)?;
                Some(ratio(contrast(values, point, usual.width), scale))
            };
            usual
                .iter()
                .take_while(|usual| usual.width <= room)
                .filter_map(times)
                .reduce(f64::max)
                .unwrap_or_else(|| scarce(&values[from..to], point - from))
        })
        .collect()
}

/// Where a series is too short to show what is usual, values are taken for independent: the difference of the sides'
/// medians over its standard error, `sqrt(pi / 2)` times that of means (Kenney and Keeping 1962).
fn scarce(segment: &[f64], split: usize) -> f64 {
    let (left, right) = segment.split_at(split);
    let (at_left, at_right) = (median(left), median(right));
    let off: Vec<f64> = left
        .iter()
        .map(|value| (value - at_left).abs())
        .chain(right.iter().map(|value| (value - at_right).abs()))
        .collect();
    let sides = (1.0 / left.len() as f64 + 1.0 / right.len() as f64).sqrt();
    ratio((at_right - at_left).abs(), MAD_TO_SIGMA * median(&off) * std::f64::consts::FRAC_PI_2.sqrt() * sides)
}

/// A share of nothing is boundless.
fn ratio(size: f64, scale: f64) -> f64 {
    if scale > 0.0 {
        size / scale
    } else if size > 0.0 {
        f64::INFINITY
    } else {
        0.0
    }
}

/// The scan of each point between its neighbours as a multiple of its critical value, as if the values were independent
/// when their long-run variance is what counts.
fn persistence(ranked: &Ranked, n: usize, points: &[usize]) -> Vec<f64> {
    let mut left_over = Vec::with_capacity(n);
    let ends = points.iter().copied().chain(std::iter::once(n));
    let mut from = 0;
    for to in ends {
        let count = (to - from) as f64;
        let middle = f64::midpoint(count, 1.0);
        left_over.extend(ranked.midranks(from, to).into_iter().map(|rank| (rank - middle) / count));
        from = to;
    }
    let deflation = long_run(&left_over).sqrt();
    surroundings(points, n)
        .map(|(from, _, to)| ranked.scan(from, to).map_or(0.0, |best| best.z / (deflation * critical(to - from))))
        .collect()
}

/// Variance of sums of neighbours over what it would be without correlation, the largest over lengths of sums; at least
/// 1. The values must have mean zero.
fn long_run(values: &[f64]) -> f64 {
    let n = values.len();
    let single = values.iter().map(|value| value * value).sum::<f64>() / n as f64;
    let mut largest = 1.0_f64;
    let mut length = 2;
    while single > 0.0 && length <= LONGEST_SUM && n >= FEWEST_SUMS * length {
        let squares = values.windows(length).map(|window| window.iter().sum::<f64>().powi(2)).sum::<f64>();
        let count = (n - length + 1) as f64;
        largest = largest.max(squares / count / (length as f64 * single));
        length *= 2;
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    fn uniform(random: &mut ChaCha8Rng) -> f64 {
        (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal, deviation 1: the sum of twelve uniform values (Irwin and Hall).
    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| uniform(random)).sum::<f64>() - 6.0
    }

    /// `n` values of deviation 0.01, each correlated by `correlation` with the one before.
    fn noise(random: &mut ChaCha8Rng, n: usize, correlation: f64) -> Vec<f64> {
        let mut last = normal(random);
        let fresh = (1.0 - correlation * correlation).sqrt();
        (0..n)
            .map(|_| {
                last = correlation * last + fresh * normal(random);
                0.01 * last
            })
            .collect()
    }

    /// STATISTICS reference 10: too short to show what is usual.
    #[test]
    fn reference_series_has_one_step() {
        let y = [
            0.0, 0.3, -0.2, 0.1, 0.4, -0.1, 0.2, -0.3, 0.05, 0.15, -0.05, 0.25, 2.1, 1.9, 2.3, 2.0, 2.2, 1.8, 2.4, 2.05,
        ];
        assert_eq!(steps(&y, 0.01), [12]);
        assert_eq!(steps(&y, 3.0), [0_usize; 0], "smaller than what counts");
    }

    #[test]
    fn short_and_constant_series_have_one_level() {
        for values in [&[][..], &[1.0; 11], &[1.0; 500]] {
            assert_eq!(steps(values, 0.01), [0_usize; 0]);
        }
        let mut exact = [1.0; 40];
        exact[25..].fill(1.1);
        assert_eq!(steps(&exact, 0.01), [25], "without noise any step is one");
    }

    #[test]
    fn steps_in_correlated_noise_are_found_near_their_places() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut found = 0;
        for _ in 0..100 {
            let mut values = noise(&mut random, 120, 0.5);
            values[70..].iter_mut().for_each(|value| *value += 0.05);
            found += usize::from(matches!(steps(&values, 0.01)[..], [point] if point.abs_diff(70) <= 3));
        }
        assert!(found >= 65, "{found} of 100");
    }

    #[test]
    fn an_episode_needs_more_than_a_step() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let (mut steps_found, mut episodes_found) = (0, 0);
        for _ in 0..100 {
            let mut step = noise(&mut random, 120, 0.3);
            step[40..].iter_mut().for_each(|value| *value += 0.03);
            let mut episode = noise(&mut random, 120, 0.3);
            episode[40..80].iter_mut().for_each(|value| *value += 0.03);
            steps_found += usize::from(!steps(&step, 0.01).is_empty());
            episodes_found += usize::from(!steps(&episode, 0.01).is_empty());
        }
        assert!(steps_found > episodes_found + 10, "{steps_found} steps and {episodes_found} episodes of 100");
        let clear: Vec<f64> = noise(&mut random, 120, 0.0)
            .iter()
            .enumerate()
            .map(|(i, v)| v + if (40..80).contains(&i) { 0.5 } else { 0.0 })
            .collect();
        assert_eq!(steps(&clear, 0.01), [40, 80], "a clear one is still said");
    }

    #[test]
    fn independent_noise_rarely_alarms() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for n in [14, 60, 100, 400, 2000] {
            let series = 60_000 / n;
            let alarms = (0..series).filter(|_| !steps(&noise(&mut random, n, 0.0), 0.0).is_empty()).count();
            assert!(alarms <= 1 + series / 100, "{alarms} of {series} series of {n}");
        }
    }

    #[test]
    fn correlated_noise_rarely_alarms() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for (correlation, most) in [(0.3, 2), (0.5, 3), (0.7, 8)] {
            let alarms = (0..300).filter(|_| !steps(&noise(&mut random, 100, correlation), 0.0).is_empty()).count();
            assert!(100 * alarms <= 300 * most, "{alarms} of 300 series with correlation {correlation}");
        }
    }

    proptest! {
        /// Powers of two and whole shifts, so that no rounding makes other ties.
        #[test]
        fn shift_and_scale_change_nothing(seed in any::<u64>(), shift in -8_i32..8, power in -20_i32..20) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let values: Vec<f64> =
                (0..80).map(|i| f64::from(u8::from(i >= 40)) * 64.0 + (100.0 * normal(&mut random)).round() / 8.0).collect();
            let moved: Vec<f64> = values.iter().map(|value| (value + f64::from(shift)) * 2_f64.powi(power)).collect();
            prop_assert_eq!(steps(&values, 1.0), steps(&moved, 2_f64.powi(power)));
        }

        #[test]
        fn upside_down_is_the_same(seed in any::<u64>()) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut values = noise(&mut random, 90, 0.3);
            values[50..].iter_mut().for_each(|value| *value += 0.04);
            let mirrored: Vec<f64> = values.iter().map(|value| -value).collect();
            prop_assert_eq!(steps(&values, 0.01), steps(&mirrored, 0.01));
        }
    }

    /// Backwards, intervals start elsewhere and equal splits are taken from the other end: the place of a clear step
    /// mirrors, give or take the one value by which a scan leans towards the middle.
    #[test]
    fn backwards_is_the_mirror_image() {
        let mut random = ChaCha8Rng::seed_from_u64(8);
        for _ in 0..50 {
            let mut values = noise(&mut random, 90, 0.3);
            values[50..].iter_mut().for_each(|value| *value += 0.2);
            let backwards: Vec<f64> = values.iter().rev().copied().collect();
            let (forth, back) = (steps(&values, 0.01), steps(&backwards, 0.01));
            let near = |found: &[usize], place: usize| matches!(found, [point] if point.abs_diff(place) <= 1);
            assert!(near(&forth, 50) && near(&back, 40), "{forth:?} {back:?}");
        }
    }
}
