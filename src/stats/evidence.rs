//! Anytime-valid evidence from coin-ordered pairs (STATISTICS.md sections 3.2 and 3.3).
//!
//! A pair is one launch of each arm, in an order that a fair coin decided; its difference is `d = y_head - y_base` on
//! the badness scale. If nothing changed, the coin alone makes `d` symmetric about zero, whatever the noise. A gambler
//! who bets on the sign of `d` can then not expect to win, and his fortune is a measure of evidence that may be looked
//! at after every pair: the chance that it ever reaches `1 / alpha` is at most `alpha` (Ville 1939; bets on symmetry:
//! Ramdas, Ruf, Larsson and Koolen 2020, arXiv 2009.03167).

use crate::stats::quantile::{mad, median, quantile, sorted};

/// Stakes of the gambler and the share of the fortune that each begins with.
const BETS: [(f64, f64); 4] = [(0.1, 0.2), (0.3, 0.2), (0.6, 0.2), (0.95, 0.4)];

/// Pairs that the prior spread is worth.
const PRIOR_WEIGHT: f64 = 4.0;

/// Steps of the bisection for a bound: 2^-80 of the range is below the resolution of the numbers.
const STEPS: u32 = 80;

/// How far beyond the differences a bound is looked for, in log units.
const BEYOND: f64 = 0.05;

/// `ln E_n` when every one of `pairs` pairs lies as far out as a pair can count: the most evidence that so many can give.
#[must_use]
pub fn most_evidence(pairs: usize) -> f64 {
    BETS.iter().map(|(stake, weight)| weight * (1.0 + stake).powf(pairs as f64)).sum::<f64>().ln()
}

/// Which way evidence points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// For a shift above the boundary.
    Above,
    /// For a shift below it.
    Below,
}

impl Side {
    const fn sign(self) -> f64 {
        match self {
            Self::Above => 1.0,
            Self::Below => -1.0,
        }
    }
}

/// The pairs seen so far, each with the scale that was known before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    prior: f64,
    floor: f64,
    differences: Vec<f64>,
    scales: Vec<f64>,
}

impl Pairs {
    /// None yet. `prior` is the spread expected of a pair and `floor` the smallest believed, both in log units.
    ///
    /// # Panics
    /// When either is not a positive finite number.
    #[must_use]
    pub fn new(prior: f64, floor: f64) -> Self {
        assert!(prior.is_finite() && prior > 0.0, "a spread is positive, got {prior}");
        assert!(floor.is_finite() && floor > 0.0, "a floor is positive, got {floor}");
        Self { prior, floor, differences: Vec::new(), scales: Vec::new() }
    }

    /// All of a list, in order.
    ///
    /// # Panics
    /// As [`Pairs::new`] and [`Pairs::push`].
    #[must_use]
    pub fn of(differences: &[f64], prior: f64, floor: f64) -> Self {
        let mut pairs = Self::new(prior, floor);
        for difference in differences {
            pairs.push(*difference);
        }
        pairs
    }

    /// Adds the next pair. Its scale comes from the earlier ones only, which keeps the bets fair.
    ///
    /// # Panics
    /// When the difference is not finite.
    pub fn push(&mut self, difference: f64) {
        let scale = next_scale(&self.differences, self.prior, self.floor);
        self.push_scaled(difference, scale);
    }

    /// Adds the next pair with a scale that the caller knew before it. Whatever else the caller chose by the earlier
    /// pairs, such as the statistic that the difference is one of, leaves the bets as fair.
    ///
    /// # Panics
    /// When the difference is not finite, or the scale no positive number.
    pub fn push_scaled(&mut self, difference: f64, scale: f64) {
        assert!(difference.is_finite(), "a difference is a finite number, got {difference}");
        assert!(scale > 0.0, "a scale is positive, got {scale}");
        self.scales.push(scale);
        self.differences.push(difference);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.differences.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// The differences, in order.
    #[must_use]
    pub fn differences(&self) -> &[f64] {
        &self.differences
    }

    /// The scales used, in order.
    #[must_use]
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// `ln E_n(c, side)`: the evidence that the shift lies on `side` of `boundary`.
    ///
    /// `p_i = clip(±(d_i - c) / s_i, -1, 1)`, `E_n = sum_l w_l prod_i (1 + lambda_l p_i)`. Falls as the boundary moves
    /// towards the side.
    #[must_use]
    pub fn log_evidence(&self, boundary: f64, side: Side) -> f64 {
        let mut logs = BETS.map(|(_, weight)| f64::ln(weight));
        for (difference, scale) in self.differences.iter().zip(&self.scales) {
            let p = (side.sign() * (difference - boundary) / scale).clamp(-1.0, 1.0);
            for (log, (stake, _)) in logs.iter_mut().zip(BETS) {
                *log += (stake * p).ln_1p();
            }
        }
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + logs.iter().map(|log| (log - largest).exp()).sum::<f64>().ln()
    }

    /// The one-sided anytime-valid bound at `alpha`: the furthest boundary that the evidence excludes. Infinite where it
    /// excludes none.
    #[must_use]
    pub fn bound(&self, alpha: f64, side: Side) -> f64 {
        let needed = -alpha.ln();
        let sign = side.sign();
        let ends = self.differences.iter().map(|difference| sign * difference);
        let (mut low, mut high) =
            ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| (low.min(end), high.max(end)));
        low -= BEYOND;
        high += BEYOND;
        let excludes = |boundary: f64| self.log_evidence(sign * boundary, side) >= needed;
        if self.is_empty() || !excludes(low) {
            return sign * f64::NEG_INFINITY;
        }
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if excludes(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        sign * low
    }

    /// The confidence sequence at `1 - alpha`: an interval that covers the shift after every pair at once.
    #[must_use]
    pub fn interval(&self, alpha: f64) -> (f64, f64) {
        (self.bound(alpha / 2.0, Side::Above), self.bound(alpha / 2.0, Side::Below))
    }

    /// Hodges and Lehmann's estimate of the shift; NaN for no pairs.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        hodges_lehmann(&self.differences)
    }
}

/// The scale of the pair that follows `earlier` ones: their robust spread, moderated by a prior worth four pairs
/// (STATISTICS.md section 3.2).
#[must_use]
pub fn next_scale(earlier: &[f64], prior: f64, floor: f64) -> f64 {
    if earlier.len() < 2 {
        return prior.max(floor);
    }
    let n = earlier.len() as f64;
    let spread = mad(earlier, median(earlier));
    let variance = (PRIOR_WEIGHT * prior.powi(2) + n * spread.powi(2)) / (PRIOR_WEIGHT + n);
    variance.sqrt().max(floor)
}

/// Walsh averages `(d_i + d_j) / 2`, `i <= j`, in order.
#[must_use]
pub fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let averages = values.iter().enumerate().flat_map(|(i, a)| values[i..].iter().map(move |b| f64::midpoint(*a, *b)));
    sorted(&averages.collect::<Vec<_>>())
}

/// Median of the Walsh averages (Hodges and Lehmann 1963); NaN for no values.
#[must_use]
pub fn hodges_lehmann(values: &[f64]) -> f64 {
    quantile(&walsh_averages(values), 0.5)
}

/// The robust spread that an interquartile range stands for, `IQR / 1.349`; NaN for no values.
#[must_use]
pub fn interquartile_spread(values: &[f64]) -> f64 {
    /// Twice the third quartile of the standard normal distribution.
    const NORMAL_IQR: f64 = 1.349;
    let values = sorted(values);
    (quantile(&values, 0.75) - quantile(&values, 0.25)) / NORMAL_IQR
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    /// STATISTICS reference 5.
    const D: [f64; 12] = [0.031, 0.044, 0.012, 0.038, 0.052, 0.027, 0.035, -0.004, 0.041, 0.030, 0.036, 0.029];
    const T: [f64; 3] = [0.019_802_627_296, 0.048_790_164_169, 0.139_761_942_375];

    fn reference(n: usize) -> Pairs {
        Pairs::of(&D[..n], 0.02, 1e-4)
    }

    fn near(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() <= tolerance, "{got}, expected {expected}");
    }

    #[test]
    fn scales_use_earlier_pairs_only() {
        let expected = [
            0.02,
            0.02,
            0.017_251_762,
            0.019_692_051,
            0.015_698_246,
            0.015_414_766,
            0.015_977_727,
            0.015_328_969,
            0.015_466_370,
            0.014_848_225,
            0.013_828_207,
            0.012_833_417,
        ];
        for (got, expected) in reference(12).scales().iter().zip(expected) {
            near(*got, expected, 1e-9);
        }
        let null = Pairs::of(&[0.001, -0.002, 0.0015, -0.0005, 0.003, -0.001], 0.02, 1e-4);
        for (got, expected) in null.scales()[2..].iter().zip([0.016_380_33, 0.015_126_37, 0.014_180_94, 0.013_435_97]) {
            near(*got, expected, 1e-8);
        }
    }

    #[test]
    fn evidence_has_the_reference_values() {
        for (n, expected) in [(1, 0.457_425), (6, 3.133_101), (8, 3.494_264), (12, 6.057_002)] {
            near(reference(n).log_evidence(0.0, Side::Above), expected, 1e-6);
        }
        let half = [
            0.457_425, 0.960_499, 1.044_307, 1.591_801, 2.168_693, 2.768_037, 3.384_163, 1.807_170, 2.356_752,
            2.930_973, 3.524_839, 4.134_159,
        ];
        for (n, expected) in (1..).zip(half) {
            near(reference(n).log_evidence(T[0] / 2.0, Side::Above), expected, 1e-6);
        }
        let all = reference(12);
        near(all.log_evidence(T[1] / 2.0, Side::Above), 0.970_935, 1e-6);
        near(all.log_evidence(T[2] / 2.0, Side::Above), -2.825_863, 1e-6);
        near(all.log_evidence(T[1], Side::Below), 5.158_375, 1e-6);
        near(all.log_evidence(-T[1], Side::Above), 7.147_338, 1e-6);
        near(all.log_evidence(1.03_f64.ln(), Side::Below), -1.211_737, 1e-6);
    }

    #[test]
    fn intervals_and_estimates_have_the_reference_values() {
        let all = reference(12);
        near(all.estimate(), 0.03275, 1e-12);
        let (low, high) = all.interval(0.05);
        near(low, 0.010_807_231, 1e-9);
        near(high, 0.044_033_726, 1e-9);
        near(all.bound(0.005, Side::Above), 0.005_430_378, 1e-9);
        near(hodges_lehmann(&[10.2, 9.9, 10.0, 14.7, 10.1, 9.8, 10.3]), 10.1, 1e-12);
    }

    /// STATISTICS reference 7: every pair as far out as a pair can count.
    #[test]
    fn the_fewest_pairs_that_can_confirm() {
        let expected = [3.283_437, 3.909_983, 4.546_219, 5.189_648, 5.838_461, 6.491_344, 7.147_338];
        for (n, expected) in (6..).zip(expected) {
            near(Pairs::of(&vec![1.0; n], 0.02, 1e-4).log_evidence(0.0, Side::Above), expected, 1e-6);
            near(most_evidence(n), expected, 1e-6);
        }
    }

    #[test]
    fn little_data_excludes_nothing() {
        assert_eq!(reference(3).interval(0.05), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(Pairs::new(0.02, 1e-4).interval(0.05), (f64::NEG_INFINITY, f64::INFINITY));
    }

    proptest! {
        #[test]
        fn evidence_falls_as_the_boundary_rises(
            d in proptest::collection::vec(-0.3f64..0.3, 1..40), c in -0.2f64..0.2, step in 0.0f64..0.2,
        ) {
            let pairs = Pairs::of(&d, 0.02, 1e-4);
            let at = pairs.log_evidence(c, Side::Above);
            prop_assert!(at.is_finite());
            prop_assert!(pairs.log_evidence(c + step, Side::Above) <= at + 1e-12);
        }

        #[test]
        fn swapping_the_arms_mirrors_everything(d in proptest::collection::vec(-0.3f64..0.3, 1..40), c in -0.2f64..0.2) {
            let pairs = Pairs::of(&d, 0.02, 1e-4);
            let swapped = Pairs::of(&d.iter().map(|d| -d).collect::<Vec<_>>(), 0.02, 1e-4);
            prop_assert_eq!(pairs.log_evidence(c, Side::Above), swapped.log_evidence(-c, Side::Below));
            let ((low, high), (mirrored_high, mirrored_low)) = (pairs.interval(0.05), swapped.interval(0.05));
            prop_assert_eq!((low, high), (-mirrored_low, -mirrored_high));
        }
    }

    /// Ville's inequality, under heavy tails: 4,000 sequences of 60 differences without a shift.
    #[test]
    fn evidence_against_nothing_rarely_grows() {
        const SEQUENCES: u32 = 4000;
        let mut random = ChaCha8Rng::seed_from_u64(20_261_123);
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let (mut twenty, mut two_hundred) = (0, 0);
        for _ in 0..SEQUENCES {
            let mut pairs = Pairs::new(0.02, 1e-4);
            let mut top = f64::NEG_INFINITY;
            for _ in 0..60 {
                // Student's t with 3 degrees: a normal over the root of a mean of three squared normals.
                let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                let chi = (0..3).map(|_| normal().powi(2)).sum::<f64>() / 3.0;
                pairs.push(0.02 * normal() / chi.sqrt());
                top = top.max(pairs.log_evidence(0.0, Side::Above));
            }
            twenty += u32::from(top >= 20_f64.ln());
            two_hundred += u32::from(top >= 200_f64.ln());
        }
        assert!(f64::from(twenty) <= 0.05 * f64::from(SEQUENCES), "{twenty} of {SEQUENCES} reached 20");
        assert!(f64::from(two_hundred) <= 0.007 * f64::from(SEQUENCES), "{two_hundred} of {SEQUENCES} reached 200");
    }

    /// A disturbance of period two fools every fixed order; a coin makes it noise.
    #[test]
    fn a_periodic_disturbance_does_not_fool_the_coin() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut alarms = 0;
        for _ in 0..1000 {
            let mut pairs = Pairs::new(0.02, 1e-4);
            let mut top = f64::NEG_INFINITY;
            for _ in 0..40 {
                // The second launch of every pair is 5 % slower; the coin says which arm that is.
                let disturbed = if random.next_u32() & 1 == 0 { 0.05 } else { -0.05 };
                pairs.push(disturbed);
                top = top.max(pairs.log_evidence(0.0, Side::Above));
            }
            alarms += u32::from(top >= 200_f64.ln());
        }
        assert!(alarms <= 7, "{alarms} of 1000");
        let fixed = Pairs::of(&[0.05; 40], 0.02, 1e-4);
        assert!(fixed.log_evidence(0.0, Side::Above) >= 200_f64.ln(), "a fixed order is fooled, so the test has teeth");
    }
}
