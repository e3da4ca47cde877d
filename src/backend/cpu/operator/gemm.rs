//! C = A B: a matrix product, by candle.
//!
//! Must not know how samples are taken.

use candle_core::{DType, Tensor};

use crate::backend::cpu::operator::precision;
use crate::backend::cpu::operator::tensor::{self, Compared, Loaded, Operator};
use crate::backend::cpu::random;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::Workload;

/// Rows and columns of C that are compared with the reference: up to a thousand elements.
const COMPARED: usize = 32;

#[derive(Debug)]
struct Gemm {
    a: Tensor,
    b: Tensor,
    seed: u64,
}

/// Loads `gemm` with A of shape `m × k` and B of shape `k × n`.
pub fn load(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let size = |name| workload.size(name).map_err(BackendError::Unsupported);
    let (m, n, k) = (size("m")?, size("n")?, size("k")?);
    let dtype = precision::of(workload)?;
    Ok(Box::new(Loaded(Gemm {
        a: tensor::normal(seed, 0, &[m, k], dtype)?,
        b: tensor::normal(seed, 1, &[k, n], dtype)?,
        seed,
    })))
}

impl Gemm {
    /// m, n, k.
    fn shape(&self) -> (usize, usize, usize) {
        (self.a.dims()[0], self.b.dims()[1], self.a.dims()[1])
    }
}

impl Operator for Gemm {
    const NAME: &'static str = "gemm";

    fn forward(&self) -> candle_core::Result<Tensor> {
        self.a.matmul(&self.b)
    }

    /// 2mnk operations; A, B and C moved once.
    fn counts(&self) -> WorkCounts {
        let (m, n, k) = self.shape();
        let (m, n, k) = (m as f64, n as f64, k as f64);
        WorkCounts {
            flops: Some(2.0 * m * n * k),
            bytes: Some((m * k + k * n + m * n) * tensor::element_bytes(self.dtype())),
            items: None,
        }
    }

    fn dtype(&self) -> DType {
        self.a.dtype()
    }

    fn compare(&self, output: &Tensor) -> candle_core::Result<Compared> {
        let (m, n, k) = self.shape();
        let rows = random::picks(self.seed, "rows", COMPARED, m);
        let columns = random::picks(self.seed, "columns", COMPARED, n);
        let left = tensor::values(&tensor::select(&self.a, &rows, 0)?)?;
        let right = tensor::values(&tensor::select(&self.b, &columns, 1)?)?;
        let mut want = Vec::with_capacity(rows.len() * columns.len());
        for row in left.chunks_exact(k) {
            for column in 0..columns.len() {
                want.push(row.iter().enumerate().map(|(i, value)| value * right[i * columns.len() + column]).sum());
            }
        }
        let got = tensor::values(&tensor::select(&tensor::select(output, &rows, 0)?, &columns, 1)?)?;
        Ok(Compared { got, want })
    }
}
