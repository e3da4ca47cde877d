//! `AdamW` (Loshchilov and Hutter 2019), updating in place.
//!
//! candle-nn's own makes some fourteen passes over memory a parameter, each into a fresh buffer: with a GPT-2's
//! embedding a quarter of the step. This one reads and writes each value once, in two passes.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::backend::cpu::model::weights::Parameter;

/// PyTorch's defaults but for the rate, which is low enough not to overrun the tiny models.
const RATE: f64 = 1e-4;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;
const DECAY: f64 = 0.01;

/// The optimiser and its state.
#[derive(Debug)]
pub struct AdamW {
    /// Each parameter with its first and second moments, `[2, elements]`.
    parameters: Vec<(Parameter, Tensor)>,
    steps: i32,
}

impl AdamW {
    /// Starts with zero moments.
    pub fn new(parameters: Vec<Parameter>) -> Result<Self> {
        let with_state = |parameter: Parameter| {
            let var = parameter.var.as_tensor();
            let state = Tensor::zeros((2, var.elem_count()), var.dtype(), var.device())?;
            Ok((parameter, state))
        };
        Ok(Self { parameters: parameters.into_iter().map(with_state).collect::<Result<_>>()?, steps: 0 })
    }

    /// Moves every parameter that has a gradient.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        let update = Update {
            correction_1: 1.0 / (1.0 - BETA_1.powi(self.steps)),
            correction_2: 1.0 / (1.0 - BETA_2.powi(self.steps)),
        };
        for (parameter, state) in &self.parameters {
            if let Some(gradient) = gradients.get(parameter.var.as_tensor()) {
                state.inplace_op2(&gradient.contiguous()?, &Moments)?;
                parameter.var.as_tensor().inplace_op2(state, &update)?;
            }
        }
        Ok(())
    }
}

/// m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g².
struct Moments;

/// θ ← θ (1 − rate · decay) − rate · m̂ / (√v̂ + eps).
struct Update {
    correction_1: f64,
    correction_2: f64,
}

/// The same loops for both types that training knows.
macro_rules! in_place {
    ($type:ident, $moments:ident, $update:ident) => {
        fn $moments(state: &mut [$type], gradient: &[$type]) {
            let (b1, b2) = (BETA_1 as $type, BETA_2 as $type);
            let (first, second) = state.split_at_mut(gradient.len());
            for ((m, v), g) in first.iter_mut().zip(second).zip(gradient) {
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
            }
        }

        fn $update(theta: &mut [$type], state: &[$type], update: &Update) {
            let keep = (1.0 - RATE * DECAY) as $type;
            let rate = (RATE * update.correction_1) as $type;
            let (c2, eps) = (update.correction_2 as $type, EPS as $type);
            let (first, second) = state.split_at(theta.len());
            for ((t, m), v) in theta.iter_mut().zip(first).zip(second) {
                *t = keep * *t - rate * m / ((c2 * v).sqrt() + eps);
            }
        }
    };
}
in_place!(f32, moments_f32, update_f32);
in_place!(f64, moments_f64, update_f64);

/// The elements that a layout covers.
fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("AdamW needs contiguous tensors"),
    }
}

impl InplaceOp2 for Moments {
    fn name(&self) -> &'static str {
        "adamw-moments"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (state, gradient) = (range(l1)?, range(l2)?);
        match (s1, s2) {
            (CpuStorage::F32(s), CpuStorage::F32(g)) => moments_f32(&mut s[state], &g[gradient]),
            (CpuStorage::F64(s), CpuStorage::F64(g)) => moments_f64(&mut s[state], &g[gradient]),
            _ => bail!("AdamW runs in f32 and f64"),
        }
        Ok(())
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        "adamw-update"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (theta, state) = (range(l1)?, range(l2)?);
        match (s1, s2) {
            (CpuStorage::F32(t), CpuStorage::F32(s)) => update_f32(&mut t[theta], &s[state], self),
            (CpuStorage::F64(t), CpuStorage::F64(s)) => update_f64(&mut t[theta], &s[state], self),
            _ => bail!("AdamW runs in f32 and f64"),
        }
        Ok(())
    }
}
