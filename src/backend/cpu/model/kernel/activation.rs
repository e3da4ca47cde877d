//! Bias, GELU, `ReLU` and the gate of `SwiGLU`.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::backend::cpu::math;
use crate::backend::cpu::model::kernel::{column_sums, done, read, row_length, slice, tensor};

/// x + b for every row of x.
#[derive(Debug, Clone, Copy)]
pub struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "fused-add-bias"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(row_length(l1)) {
            out.extend(row.iter().zip(bias).map(|(v, b)| v + b));
        }
        Ok(done(out, l1.shape()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = bias.elem_count();
        let sums = read(grad, |grad| Ok(column_sums(grad, width)))?;
        Ok((Some(grad.clone()), Some(tensor(sums, width)?)))
    }
}

/// An element-wise function and its derivative.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// x Φ(x) (Hendrycks and Gimpel 2016), as BERT and vision transformers use it.
    Gelu,
    /// Its approximation by tanh, as GPT-2 uses it.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// √(2/π) and the cubic coefficient of the tanh approximation.
const SLOPE: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const CUBIC: f32 = 0.044_715;

impl Activation {
    fn values(self, x: &[f32]) -> Vec<f32> {
        match self {
            Self::Gelu => x.iter().map(|x| 0.5 * x * (1.0 + math::erf(x * FRAC_1_SQRT_2))).collect(),
            Self::GeluTanh => {
                x.iter().map(|x| 0.5 * x * (1.0 + math::tanh(SLOPE * x * (1.0 + CUBIC * x * x)))).collect()
            }
            Self::Relu => x.iter().map(|x| x.max(0.0)).collect(),
        }
    }

    fn gradient(self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let pairs = x.iter().zip(grad);
        match self {
            Self::Gelu => pairs
                .map(|(x, g)| {
                    let density = 0.5 * SLOPE * math::exp(-0.5 * x * x);
                    g * (0.5 * (1.0 + math::erf(x * FRAC_1_SQRT_2)) + x * density)
                })
                .collect(),
            Self::GeluTanh => pairs
                .map(|(x, g)| {
                    let t = math::tanh(SLOPE * x * (1.0 + CUBIC * x * x));
                    let inner = SLOPE * (1.0 + 3.0 * CUBIC * x * x);
                    g * 0.5 * (1.0 + t + x * (1.0 - t * t) * inner)
                })
                .collect(),
            Self::Relu => pairs.map(|(x, g)| if *x > 0.0 { *g } else { 0.0 }).collect(),
        }
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "fused-activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(done(self.values(slice(storage, layout)?), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = read(x, |x| read(grad, |grad| Ok(self.gradient(x, grad))))?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// silu(gate) · up for rows of `[gate, up]` (Shazeer 2020).
#[derive(Debug, Clone, Copy)]
pub struct SwiGlu;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + math::exp(-x))
}

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "fused-swiglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let half = row_length(layout) / 2;
        let mut out = Vec::with_capacity(x.len() / 2);
        for row in x.chunks_exact(2 * half) {
            let (gate, up) = row.split_at(half);
            out.extend(gate.iter().zip(up).map(|(g, u)| g * sigmoid(*g) * u));
        }
        Ok(done(out, (x.len() / (2 * half), half)))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let half = grad.dim(1)?;
        let dx = read(x, |x| {
            read(grad, |grad| {
                let mut dx = Vec::with_capacity(x.len());
                for (row, d) in x.chunks_exact(2 * half).zip(grad.chunks_exact(half)) {
                    let (gate, up) = row.split_at(half);
                    dx.extend((0..half).map(|i| {
                        let s = sigmoid(gate[i]);
                        d[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s))
                    }));
                    dx.extend((0..half).map(|i| d[i] * gate[i] * sigmoid(gate[i])));
                }
                Ok(dx)
            })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
