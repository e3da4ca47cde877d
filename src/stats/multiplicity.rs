//! Many comparisons at once.

/// e-BH (Wang and Ramdas 2022, arXiv 2009.02824): which of the hypotheses with these e-values may be rejected together
/// at false discovery rate `q`, whatever their dependence. The values must be those at each one's own stopping time,
/// never running maxima.
///
/// # Panics
/// When `q` is not above zero.
#[must_use]
pub fn e_benjamini_hochberg(evidence: &[f64], q: f64) -> Vec<bool> {
    assert!(q > 0.0, "a rate is positive, got {q}");
    let mut order: Vec<usize> = (0..evidence.len()).collect();
    order.sort_by(|a, b| evidence[*b].total_cmp(&evidence[*a]));
    let count = evidence.len() as f64;
    let rejected = (1..=order.len()).rev().find(|k| evidence[order[k - 1]] >= count / (q * *k as f64)).unwrap_or(0);
    let mut out = vec![false; evidence.len()];
    for at in &order[..rejected] {
        out[*at] = true;
    }
    out
}

/// p-values adjusted after Benjamini and Hochberg (1995): valid for independent or positively dependent tests.
#[must_use]
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, at) in order.iter().enumerate().rev() {
        least = least.min(p[*at] * p.len() as f64 / (rank + 1) as f64);
        adjusted[*at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STATISTICS reference 8.
    #[test]
    fn e_values_of_the_reference() {
        let e = [450.0, 12.0, 95.0, 3.1, 0.4, 210.0, 60.0, 0.9, 1.2, 41.0];
        let rejected: Vec<f64> =
            e.iter().zip(e_benjamini_hochberg(&e, 0.05)).filter(|(_, hit)| *hit).map(|(e, _)| *e).collect();
        assert_eq!(rejected, [450.0, 95.0, 210.0, 60.0, 41.0]);
        assert!(e_benjamini_hochberg(&[], 0.05).is_empty());
        assert_eq!(e_benjamini_hochberg(&[19.9], 0.05), [false]);
    }

    /// STATISTICS reference 9.
    #[test]
    fn p_values_of_the_reference() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let expected = [
            0.0015, 0.003, 0.0095, 0.035_625, 0.0603, 0.063_857, 0.063_857, 0.0645, 0.0765, 0.486, 0.581_182,
            0.714_875, 0.753_231, 0.813_214, 1.0,
        ];
        for (got, expected) in benjamini_hochberg(&p).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
        }
        let mut shuffled = p;
        shuffled.reverse();
        let mut again = benjamini_hochberg(&shuffled);
        again.reverse();
        assert_eq!(again, benjamini_hochberg(&p));
    }
}
