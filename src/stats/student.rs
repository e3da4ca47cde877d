//! Student's t quantile, through `statrs` (0.19.1: agrees with scipy to 1e-9 in the range used here; its inverse
//! incomplete beta function panics or hangs in far tails, upstream bug 435, hence the clamp).

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The smallest tail probability asked of the library.
const SMALLEST_ALPHA: f64 = 1e-9;

/// The value that a t variable with `degrees` degrees of freedom exceeds with probability `alpha`.
///
/// Taken from the lower tail, because `1 - alpha` loses digits.
///
/// # Panics
/// When `degrees` is not a positive finite number or `alpha` is not below one half.
#[must_use]
pub fn upper_quantile(degrees: f64, alpha: f64) -> f64 {
    assert!(alpha < 0.5, "an upper tail is smaller than one half, got {alpha}");
    let t = StudentsT::new(0.0, 1.0, degrees).expect("positive degrees of freedom");
    -t.inverse_cdf(alpha.max(SMALLEST_ALPHA))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 2 (scipy 1.17).
    #[test]
    fn reference_values() {
        for (degrees, alpha, expected) in [
            (5.0, 0.005, 4.032_142_983_555),
            (9.0, 0.025, 2.262_157_162_798),
            (23.0, 0.05, 1.713_871_527_747),
            (23.0, 0.00025, 4.047_437_064_371),
            (23.0, 2.5e-5, 4.971_975_073_449),
            (33.0, 0.00025, 3.859_804_405_803),
        ] {
            let got = upper_quantile(degrees, alpha);
            assert!((got - expected).abs() < 1e-9, "t({degrees}, {alpha}) = {got}, expected {expected}");
        }
    }

    #[test]
    fn far_tails_are_clamped_not_hung() {
        assert!(upper_quantile(4.0, 1e-300).is_finite());
    }
}
