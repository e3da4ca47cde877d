//! Operators over one row in plain double precision: what every backend's results, and users' kernels, are compared with; and what is
//! counted of them alike on every backend.

/// Added to the variance of a normalisation.
pub const EPSILON: f32 = 1e-5;

/// exp(x - max) over its sum.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Centred, divided by the deviation, scaled and shifted.
pub fn layernorm(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
    x.iter().zip(gamma).zip(beta).map(|((x, gamma), beta)| (x - mean) * rstd * gamma + beta).collect()
}

/// Divided by the root of the mean square, and scaled.
pub fn rmsnorm(x: &[f64], gamma: &[f64]) -> Vec<f64> {
    let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (square + f64::from(EPSILON)).sqrt();
    x.iter().zip(gamma).map(|(x, gamma)| x * scale * gamma).collect()
}

/// Pairs of a query and a key that it may see, of one head over `seq` tokens: whether or not an implementation saves the masked ones.
pub fn seen(seq: usize, causal: bool) -> f64 {
    let seq = seq as f64;
    if causal { seq * (seq + 1.0) / 2.0 } else { seq * seq }
}

/// The weighted mean of the rows of `values`, `columns` long, by the softmax of `scores`.
pub fn attended(scores: &[f64], values: &[f64], columns: usize) -> Vec<f64> {
    let mut mean = vec![0.0; columns];
    for (weight, row) in softmax(scores).iter().zip(values.chunks_exact(columns)) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += weight * value;
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: &[f64], want: &[f64]) {
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5), "{got:?} {want:?}");
    }

    #[test]
    fn rows_worked_out_by_hand() {
        near(&softmax(&[0.0, 2f64.ln(), 0.0]), &[0.25, 0.5, 0.25]);
        near(&softmax(&[1000.0, 1000.0]), &[0.5, 0.5]);
        near(&layernorm(&[1.0, 3.0], &[1.0, 2.0], &[0.0, 1.0]), &[-1.0, 3.0]);
        near(&attended(&[0.0, 3f64.ln()], &[1.0, 2.0, 5.0, 6.0], 2), &[4.0, 5.0]);
        assert_eq!([seen(5, false), seen(5, true)], [25.0, 15.0]);
        near(&rmsnorm(&[3.0, 4.0], &[1.0, 2.0]), &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()]);
    }
}
