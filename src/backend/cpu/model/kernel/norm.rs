//! Layer, root-mean-square and batch normalisation.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::backend::cpu::math::{dot, sum};
use crate::backend::cpu::model::kernel::{column_sums, done, read, row_length, slice, tensor};

/// (x − mean) / √(var + eps) · γ + β over each row (Ba et al. 2016).
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Mean and 1/√(var + eps) of a row.
    fn moments(self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = sum(row, |v| v) / n;
        let var = sum(row, |v| (v - mean) * (v - mean)) / n;
        (mean, 1.0 / (var + self.eps).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gamma, beta) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(row_length(l1)) {
            let (mean, scale) = self.moments(row);
            out.extend(row.iter().zip(gamma.iter().zip(beta)).map(|(v, (g, b))| (v - mean) * scale * g + b));
        }
        Ok(done(out, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = gamma.elem_count();
        let (dx, dgamma, dbeta) = read(x, |x| {
            read(gamma, |gamma| {
                read(grad, |grad| {
                    let mut dx = Vec::with_capacity(x.len());
                    let mut dgamma = vec![0.0; width];
                    let mut normed = vec![0.0; width];
                    let mut dnormed = vec![0.0; width];
                    for (row, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                        let (mean, scale) = self.moments(row);
                        for i in 0..width {
                            normed[i] = (row[i] - mean) * scale;
                            dnormed[i] = grad[i] * gamma[i];
                            dgamma[i] += grad[i] * normed[i];
                        }
                        let mean_d = sum(&dnormed, |v| v) / width as f32;
                        let mean_dn = dot(&dnormed, &normed) / width as f32;
                        dx.extend(dnormed.iter().zip(&normed).map(|(d, n)| scale * (d - mean_d - n * mean_dn)));
                    }
                    Ok((dx, dgamma, column_sums(grad, width)))
                })
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dgamma, width)?), Some(tensor(dbeta, width)?)))
    }
}

/// x / √(mean x² + eps) · γ over each row (Zhang and Sennrich 2019).
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    fn scale(self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "fused-rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, gamma) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(row_length(l1)) {
            let scale = self.scale(row);
            out.extend(row.iter().zip(gamma).map(|(v, g)| v * scale * g));
        }
        Ok(done(out, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = gamma.elem_count();
        let (dx, dgamma) = read(x, |x| {
            read(gamma, |gamma| {
                read(grad, |grad| {
                    let mut dx = Vec::with_capacity(x.len());
                    let mut dgamma = vec![0.0; width];
                    let mut dnormed = vec![0.0; width];
                    for (row, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                        let scale = self.scale(row);
                        for i in 0..width {
                            dnormed[i] = grad[i] * gamma[i];
                            dgamma[i] += grad[i] * row[i] * scale;
                        }
                        let mean_dn = dot(&dnormed, row) * scale / width as f32;
                        dx.extend(dnormed.iter().zip(row).map(|(d, v)| scale * (d - v * scale * mean_dn)));
                    }
                    Ok((dx, dgamma))
                })
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dgamma, width)?)))
    }
}

/// Batch normalisation with the batch's own statistics, over each column of `[pixels, channels]` (Ioffe and Szegedy
/// 2015).
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl BatchNorm {
    /// Mean and 1/√(var + eps) of every column.
    fn moments(self, x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
        let n = (x.len() / width) as f32;
        let mean: Vec<f32> = column_sums(x, width).into_iter().map(|v| v / n).collect();
        let mut scale = vec![0.0; width];
        for row in x.chunks_exact(width) {
            for i in 0..width {
                scale[i] += (row[i] - mean[i]) * (row[i] - mean[i]);
            }
        }
        for s in &mut scale {
            *s = 1.0 / (*s / n + self.eps).sqrt();
        }
        (mean, scale)
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "fused-batch-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gamma, beta) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let width = row_length(l1);
        let (mean, scale) = self.moments(x, width);
        let slope: Vec<f32> = scale.iter().zip(gamma).map(|(s, g)| s * g).collect();
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(width) {
            out.extend((0..width).map(|i| (row[i] - mean[i]) * slope[i] + beta[i]));
        }
        Ok(done(out, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = gamma.elem_count();
        let (dx, dgamma, dbeta) = read(x, |x| {
            read(gamma, |gamma| {
                read(grad, |grad| {
                    let n = (x.len() / width) as f32;
                    let (mean, scale) = self.moments(x, width);
                    let dbeta = column_sums(grad, width);
                    let mut dgamma = vec![0.0; width];
                    for (row, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                        for i in 0..width {
                            dgamma[i] += grad[i] * (row[i] - mean[i]) * scale[i];
                        }
                    }
                    let mut dx = Vec::with_capacity(x.len());
                    for (row, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                        dx.extend((0..width).map(|i| {
                            let normed = (row[i] - mean[i]) * scale[i];
                            gamma[i] * scale[i] * (grad[i] - (dbeta[i] + normed * dgamma[i]) / n)
                        }));
                    }
                    Ok((dx, dgamma, dbeta))
                })
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dgamma, width)?), Some(tensor(dbeta, width)?)))
    }
}
