//! Quantiles of sorted values.
//!
//! Must not know what the values are of: order and scale are the caller's.

/// The type-7 quantile (Hyndman & Fan 1996): linear between the order statistics around index `(n - 1) p`.
///
/// `sorted` is in order (rising or falling), `p` is a share and is clamped to 0..=1. Falls exactly on an order
/// statistic where the index is whole. NaN for no values.
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
    // Equal neighbours stay exact, infinities included: inf - inf would be NaN.
    if low == high { low } else { low + share * (high - low) }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn agrees_with_the_worked_example() {
        // STATISTICS.md, test vector 1: median 10.1, q25 9.95, min 9.8.
        let mut x = [10.2, 9.9, 10.0, 14.7, 10.1, 9.8, 10.3];
        x.sort_by(f64::total_cmp);
        assert_eq!(quantile(&x, 0.5), 10.1);
        assert!((quantile(&x, 0.25) - 9.95).abs() < 1e-12);
        assert_eq!(quantile(&x, 0.0), 9.8);
        assert_eq!(quantile(&x, 1.0), 14.7);
    }

    #[test]
    fn edges_are_defined() {
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(quantile(&[3.0], 0.25), 3.0);
        assert_eq!(quantile(&[1.0, 2.0], 7.0), 2.0);
        assert_eq!(quantile(&[f64::INFINITY, f64::INFINITY], 0.5), f64::INFINITY);
    }
}
