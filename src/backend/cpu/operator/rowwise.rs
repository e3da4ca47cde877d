//! Operators over the rows of a matrix: layer normalisation and softmax, by candle.
//!
//! Must not know how samples are taken.

use candle_core::{DType, Tensor};

use crate::backend::cpu::operator::precision;
use crate::backend::cpu::operator::tensor::{self, Compared, Loaded, Operator};
use crate::backend::cpu::random;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::Workload;

/// Rows that are compared with the reference.
const COMPARED: usize = 64;

/// Added to the variance before its root, as in PyTorch's default.
const EPSILON: f32 = 1e-5;

/// Rows and columns asked for.
fn shape(workload: &Workload) -> Result<[usize; 2], BackendError> {
    let size = |name| workload.size(name).map_err(BackendError::Unsupported);
    Ok([size("rows")?, size("cols")?])
}

/// Compares some rows of an output with a function of the same rows of the input.
fn compare_rows(
    input: &Tensor,
    output: &Tensor,
    seed: u64,
    reference: impl Fn(&[f64]) -> Vec<f64>,
) -> candle_core::Result<Compared> {
    let (rows, columns) = input.dims2()?;
    let picked = random::picks(seed, "rows", COMPARED, rows);
    let rows = tensor::values(&tensor::select(input, &picked, 0)?)?;
    Ok(Compared {
        got: tensor::values(&tensor::select(output, &picked, 0)?)?,
        want: rows.chunks_exact(columns).flat_map(reference).collect(),
    })
}

/// (x − mean) / √(variance + ε) · γ + β over each row (Ba et al. 2016).
#[derive(Debug)]
struct LayerNorm {
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    seed: u64,
}

/// Loads `layernorm`.
pub fn load_layernorm(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let shape = shape(workload)?;
    let dtype = precision::of(workload)?;
    Ok(Box::new(Loaded(LayerNorm {
        x: tensor::normal(seed, 0, &shape, dtype)?,
        gamma: tensor::normal(seed, 1, &shape[1..], dtype)?,
        beta: tensor::normal(seed, 2, &shape[1..], dtype)?,
        seed,
    })))
}

impl Operator for LayerNorm {
    const NAME: &'static str = "layernorm";

    fn forward(&self) -> candle_core::Result<Tensor> {
        candle_nn::ops::layer_norm(&self.x, &self.gamma, &self.beta, EPSILON)
    }

    /// Seven operations an element: one for the sum, two for the sum of squares, then subtract, two multiplications
    /// and an addition. Input and output moved once, γ and β once.
    fn counts(&self) -> WorkCounts {
        let elements = self.x.elem_count() as f64;
        let parameters = 2.0 * self.gamma.elem_count() as f64;
        WorkCounts {
            flops: Some(7.0 * elements),
            bytes: Some((2.0 * elements + parameters) * tensor::element_bytes(self.dtype())),
            items: Some((self.x.dims()[0] as f64, "rows")),
        }
    }

    fn dtype(&self) -> DType {
        self.x.dtype()
    }

    fn compare(&self, output: &Tensor) -> candle_core::Result<Compared> {
        let gamma = tensor::values(&self.gamma)?;
        let beta = tensor::values(&self.beta)?;
        compare_rows(&self.x, output, self.seed, |row| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            row.iter()
                .zip(gamma.iter().zip(&beta))
                .map(|(x, (gamma, beta))| (x - mean) * scale * gamma + beta)
                .collect()
        })
    }
}

/// exp(x − max) / Σ exp(x − max) over each row.
#[derive(Debug)]
struct Softmax {
    x: Tensor,
    seed: u64,
}

/// Loads `softmax`.
pub fn load_softmax(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let x = tensor::normal(seed, 0, &shape(workload)?, precision::of(workload)?)?;
    Ok(Box::new(Loaded(Softmax { x, seed })))
}

/// Softmax over the last dimension. The short types are summed in f32, as every framework does: candle would add up
/// a row in its own type, and a bf16 sum stops growing at 256 times its terms.
pub fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    match x.dtype() {
        DType::F32 | DType::F64 => candle_nn::ops::softmax_last_dim(x),
        short => candle_nn::ops::softmax_last_dim(&x.to_dtype(DType::F32)?)?.to_dtype(short),
    }
}

/// The same in plain loops.
pub fn softmax_reference(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

impl Operator for Softmax {
    const NAME: &'static str = "softmax";

    fn forward(&self) -> candle_core::Result<Tensor> {
        softmax(&self.x)
    }

    /// Five operations an element: maximum, subtraction, exponential (counted as one), sum, division. Input and
    /// output moved once.
    fn counts(&self) -> WorkCounts {
        let elements = self.x.elem_count() as f64;
        WorkCounts {
            flops: Some(5.0 * elements),
            bytes: Some(2.0 * elements * tensor::element_bytes(self.dtype())),
            items: Some((self.x.dims()[0] as f64, "rows")),
        }
    }

    fn dtype(&self) -> DType {
        self.x.dtype()
    }

    fn compare(&self, output: &Tensor) -> candle_core::Result<Compared> {
        compare_rows(&self.x, output, self.seed, softmax_reference)
    }
}
