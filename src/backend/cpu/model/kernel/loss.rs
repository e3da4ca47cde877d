//! Cross-entropy of class scores.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::backend::cpu::math;
use crate::backend::cpu::model::kernel::{done, read, row_length, slice, tensor};

/// Mean over rows of log Σ exp(x) − x[target].
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// The right class of each row.
    pub targets: Arc<Vec<u32>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "fused-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut total = 0.0_f64;
        for (row, target) in x.chunks_exact(row_length(layout)).zip(&*self.targets) {
            let max = math::max(row);
            let sum = math::sum(row, |v| math::exp(v - max));
            total += f64::from(sum.ln() + max - row[*target as usize]);
        }
        Ok(done(vec![(total / self.targets.len() as f64) as f32], ()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let classes = x.dim(1)?;
        let factor = grad.to_scalar::<f32>()? / self.targets.len() as f32;
        let dx = read(x, |x| {
            let mut dx = Vec::with_capacity(x.len());
            for (row, target) in x.chunks_exact(classes).zip(&*self.targets) {
                let max = math::max(row);
                let start = dx.len();
                dx.extend(row.iter().map(|v| math::exp(v - max)));
                let scale = factor / math::sum(&dx[start..], |v| v);
                for v in &mut dx[start..] {
                    *v *= scale;
                }
                dx[start + *target as usize] -= factor;
            }
            Ok(dx)
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
