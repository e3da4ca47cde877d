//! Elementary functions on `f32` that a compiler can vectorise, because they are branch-free polynomials.
//!
//! The C library's functions are called one element at a time and cost a quarter of a transformer's forward pass.
//! Only IEEE additions, multiplications and divisions are used, never a fused one, so results are the same bits on
//! every machine. Coefficients are those of the Cephes library (Moshier) and, for `erf` and `tanh`, of Eigen's
//! rational approximations. Errors are a few units in the last place; the tests bound them.

use std::f32::consts::{FRAC_PI_2, LOG2_E};

/// ln 2 in two parts, so that the reduction of `exp` and `ln` loses nothing.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting it rounds to the nearest whole number (for |x| < 2²²).
const ROUND: f32 = 12_582_912.0;

fn poly(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// e^x; arguments are clamped to ±87, so the result is always a normal number.
#[inline]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let n = x * LOG2_E + ROUND;
    // The low bits of `n` now hold the rounded quotient, and its sign.
    let exponent = (n.to_bits() << 23).wrapping_add(1.0_f32.to_bits());
    let n = n - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = poly(r, &[1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    (p * r * r + r + 1.0) * f32::from_bits(exponent)
}

/// Natural logarithm of a positive normal number.
#[inline]
pub fn ln(x: f32) -> f32 {
    // Mantissa in [√½, √2) by moving the exponent's border there.
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits.cast_signed() >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF) - 1.0;
    let z = m * m;
    let p = poly(
        m,
        &[
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    m + (p * m * z + LN2_LOW * exponent - 0.5 * z) + LN2_HIGH * exponent
}

/// Sine and cosine of `turn` full turns, `turn` in [0, 1).
#[inline]
pub fn sin_cos_turn(turn: f32) -> (f32, f32) {
    let quarters = turn * 4.0 + ROUND;
    let quadrant = quarters.to_bits() & 3;
    let x = (turn * 4.0 - (quarters - ROUND)) * FRAC_PI_2;
    let z = x * x;
    let s = poly(z, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * z * x + x;
    let c = poly(z, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * z * z - 0.5 * z + 1.0;
    let (sin, cos) = if quadrant & 1 == 0 { (s, c) } else { (c, s) };
    let sin = if quadrant & 2 == 0 { sin } else { -sin };
    let cos = if (quadrant + 1) & 2 == 0 { cos } else { -cos };
    (sin, cos)
}

/// Hyperbolic tangent.
#[inline]
pub fn tanh(x: f32) -> f32 {
    let x = x.clamp(-7.905_311, 7.905_311);
    let z = x * x;
    let p = poly(
        z,
        &[-2.760_768_5e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619e-4, 4.893_524_6e-3],
    );
    let q = poly(z, &[1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3]);
    x * p / q
}

/// Error function.
#[inline]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let z = x * x;
    let p = poly(
        z,
        &[
            -2.726_142_3e-10,
            2.770_681_4e-8,
            -2.101_024e-6,
            -5.692_506_4e-5,
            -7.349_906e-4,
            -2.954_6e-3,
            -1.609_603_3e-2,
        ],
    );
    let q = poly(z, &[-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2]);
    x * p / q
}

/// Σ f(a), in eight running parts, so that it vectorises and rounds less than one running sum.
#[inline]
pub fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0.0_f32; 8];
    let chunks = a.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part += f(*v);
        }
    }
    parts.iter().sum::<f32>() + rest
}

/// Σ a · b, as [`sum`].
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0.0_f32; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for (part, (a, b)) in parts.iter_mut().zip(a.iter().zip(b)) {
            *part += a * b;
        }
    }
    parts.iter().sum::<f32>() + rest
}

/// The largest value.
#[inline]
pub fn max(a: &[f32]) -> f32 {
    let mut parts = [f32::NEG_INFINITY; 8];
    let chunks = a.chunks_exact(8);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part = if *v > *part { *v } else { *part };
        }
    }
    parts.into_iter().fold(rest, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest |f − g| / max(|g|, floor) over a grid.
    fn worst(low: f64, high: f64, floor: f64, f: impl Fn(f32) -> f32, g: impl Fn(f64) -> f64) -> f64 {
        (0..=20_000)
            .map(|i| (low + (high - low) * f64::from(i) / 20_000.0) as f32)
            .map(|x| (f64::from(f(x)) - g(f64::from(x))).abs() / g(f64::from(x)).abs().max(floor))
            .fold(0.0, f64::max)
    }

    #[test]
    fn elementary_functions_are_exact_to_a_few_units_in_the_last_place() {
        assert!(worst(-80.0, 80.0, 0.0, exp, f64::exp) < 3e-7);
        assert!(worst(1e-6, 10.0, 0.1, ln, f64::ln) < 3e-7);
        assert!(worst(-9.0, 9.0, 0.0, tanh, f64::tanh) < 6e-7);
        assert!(worst(-5.0, 5.0, 1e-9, erf, candle_core::cpu::erf::erf_f64) < 6e-7);
        let turn = std::f64::consts::TAU;
        assert!(worst(0.0, 0.999_999, 1.0, |t| sin_cos_turn(t).0, |t| (t * turn).sin()) < 3e-7);
        assert!(worst(0.0, 0.999_999, 1.0, |t| sin_cos_turn(t).1, |t| (t * turn).cos()) < 3e-7);
    }

    #[test]
    fn sums_of_any_length() {
        let values: Vec<f32> = (1..=11_u8).map(f32::from).collect();
        assert_eq!(sum(&[], |v| v), 0.0);
        assert_eq!(sum(&values, |v| 2.0 * v), 132.0);
        assert_eq!(dot(&values, &values), 506.0);
        assert_eq!(max(&values), 11.0);
        assert_eq!(max(&values[..3]), 3.0);
    }
}
