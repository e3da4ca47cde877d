//! The predictive bound: how far the next session of an unchanged program may lie from its history
//! (STATISTICS.md section 4). Everything is on the badness scale, `direction * ln(value)`.

use crate::stats::quantile::{mad, median, standard_deviation};
use crate::stats::student;

/// Degrees of freedom that the prior spread is worth (variance moderation after Smyth 2004).
const PRIOR_WEIGHT: f64 = 4.0;

/// Spread of session values about their median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Robust: `1.4826 MAD (1 + 1/K)`.
    pub robust: f64,
    /// Sample standard deviation.
    pub classic: f64,
}

impl Spread {
    /// Of `sessions` about their median. Both are zero for a single session.
    ///
    /// # Panics
    /// When there is no session.
    #[must_use]
    pub fn of(sessions: &[f64]) -> Self {
        let k = sessions.len() as f64;
        Self { robust: mad(sessions, median(sessions)) * (1.0 + 1.0 / k), classic: standard_deviation(sessions) }
    }

    /// The scale used to decide: the quadratic mean of both.
    #[must_use]
    pub fn gate(&self) -> f64 {
        f64::midpoint(self.robust.powi(2), self.classic.powi(2)).sqrt()
    }
}

/// What a history of K sessions predicts for the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Median of the sessions.
    pub center: f64,
    /// Moderated spread.
    pub scale: f64,
    /// Number of sessions.
    pub sessions: usize,
}

impl Prediction {
    /// From the history `sessions`, its spread `s`, a prior
    /// spread, and the smallest spread believed.
    ///
    /// # Panics
    /// When there is no session.
    #[must_use]
    pub fn new(sessions: &[f64], s: f64, prior: f64, floor: f64) -> Self {
        let k = sessions.len() as f64;
        let variance = ((k - 1.0) * s * s + PRIOR_WEIGHT * prior * prior) / (k - 1.0 + PRIOR_WEIGHT);
        Self { center: median(sessions), scale: variance.sqrt().max(floor), sessions: sessions.len() }
    }

    /// Degrees of freedom, `K + 3`.
    #[must_use]
    pub fn degrees(&self) -> f64 {
        self.sessions as f64 - 1.0 + PRIOR_WEIGHT
    }

    /// Half-width of the one-sided bound at `alpha`: `t s sqrt(1 + pi / (2 K))`, the last factor being the error of
    /// the history's median.
    #[must_use]
    pub fn half_width(&self, alpha: f64) -> f64 {
        let k = self.sessions as f64;
        student::upper_quantile(self.degrees(), alpha) * self.scale * (1.0 + std::f64::consts::PI / (2.0 * k)).sqrt()
    }
}

/// What several readings of one movement say together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Consensus {
    /// Mean, weighted by the readings' precision.
    pub mean: f64,
    /// The part of it that is more than the readings' own noise.
    pub agreed: f64,
}

impl Consensus {
    /// Of readings, each a value with its standard error (above zero): the inverse-variance weighted mean, its
    /// standard error widened where the readings scatter more than they should (the Birge ratio; Birge 1932), and the
    /// mean shrunk by the positive-part factor `max(0, 1 - (error / mean)^2)` (James and Stein 1961). Readings that are
    /// noisy or contradict each other say nothing.
    #[must_use]
    pub fn of(readings: &[(f64, f64)]) -> Self {
        let weights: Vec<f64> = readings.iter().map(|(_, error)| 1.0 / (error * error)).collect();
        let total: f64 = weights.iter().sum();
        let mean = readings.iter().zip(&weights).map(|((value, _), weight)| value * weight).sum::<f64>() / total;
        if readings.is_empty() || mean == 0.0 {
            return Self::default();
        }
        let scatter: f64 =
            readings.iter().zip(&weights).map(|((value, _), weight)| weight * (value - mean).powi(2)).sum();
        let birge = if readings.len() > 1 { (scatter / (readings.len() - 1) as f64).max(1.0) } else { 1.0 };
        let variance = birge / total;
        Self { mean, agreed: mean * (1.0 - variance / (mean * mean)).max(0.0) }
    }
}

/// Least-squares slope of `y` on `x`; `None` where `x` does not vary.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn slope(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "one y for each x");
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - mean_x) * (b - mean_y)).sum();
    let variance: f64 = x.iter().map(|a| (a - mean_x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 3.
    #[test]
    fn reference_values() {
        let c = [0.002, 0.006, -0.004, 0.003, 0.0, 0.009, -0.003, 0.001, 0.004, -0.001];
        let raw = [4.605, 4.611, 4.598, 4.607, 4.603, 4.620, 4.601, 4.606, 4.609, 4.604];
        let beta = slope(&c, &raw).expect("c varies");
        assert!((beta - 1.465_648_854_962).abs() < 1e-9);
        let median_c = median(&c);
        assert!((median_c - 0.0015).abs() < 1e-12);
        let y: Vec<f64> = raw.iter().zip(c).map(|(y, c)| y - beta * (c - median_c)).collect();
        let x = 4.662 - beta * (0.005 - median_c);
        let spread = Spread::of(&y);
        assert!((spread.robust - 0.001_898_520_229).abs() < 1e-9);
        assert!((spread.classic - 0.001_593_562_112).abs() < 1e-9);
        assert!((spread.gate() - 0.001_752_686_404).abs() < 1e-9);
        let prediction = Prediction::new(&y, spread.gate(), 0.004, 0.002);
        assert!((prediction.center - 4.605_698_473_282).abs() < 1e-9);
        assert!((prediction.scale - 0.002_655_142_857).abs() < 1e-9);
        assert!((prediction.degrees() - 13.0).abs() < 1e-12);
        assert!((x - prediction.center - 0.051_171_755_725).abs() < 1e-9);
        assert!((prediction.half_width(0.05) - 0.005_057_917_546).abs() < 1e-9);
        assert!((prediction.half_width(0.00025) - 0.013_130_692_014).abs() < 1e-9);
    }

    /// STATISTICS reference 11.
    #[test]
    fn moderated_variance() {
        let ten = [0.0; 10];
        let scale = Prediction::new(&ten, 0.0003, 0.0005, 0.0).scale;
        assert!((scale * scale - 1.392_307_692_31e-7).abs() < 1e-17);
    }

    #[test]
    fn one_session_rests_on_the_prior_alone() {
        let prediction = Prediction::new(&[1.0], 0.0, 0.02, 0.002);
        assert_eq!(prediction.scale, 0.02);
        assert_eq!(prediction.degrees(), 4.0);
    }

    #[test]
    fn readings_that_contradict_each_other_say_nothing() {
        let sharp = |values: &[f64]| values.iter().map(|value| (*value, 0.002)).collect::<Vec<_>>();
        let agreeing = Consensus::of(&sharp(&[0.1, 0.1, 0.1]));
        assert!((agreeing.mean - 0.1).abs() < 1e-12 && agreeing.agreed > 0.099, "{agreeing:?}");
        assert_eq!(Consensus::of(&sharp(&[-0.2, 0.01, 0.22])).agreed, 0.0);
        assert_eq!(Consensus::of(&[]), Consensus::default());
    }

    /// A machine measured here: the clock stood still while two noisy readings fell together.
    #[test]
    fn a_sharp_reading_outweighs_noisy_ones() {
        let consensus = Consensus::of(&[(0.004, 0.006), (-0.158, 0.09), (-0.122, 0.06)]);
        assert!(consensus.mean.abs() < 0.005 && consensus.agreed.abs() < 0.002, "{consensus:?}");
    }

    #[test]
    fn a_constant_covariate_has_no_slope() {
        assert_eq!(slope(&[1.0, 1.0], &[2.0, 3.0]), None);
    }
}
