//! The check of a backward pass: gradients against central differences of the `f64` loss along one direction.
//!
//! Weights are loaded afresh, so that the result does not depend on how many steps were measured. At most one copy of
//! the weights in `f64` and the gradients are held at a time, less than a training step holds.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result as CandleResult, Tensor, bail};

use crate::backend::BackendError;
use crate::backend::cpu::model::config::Architecture;
use crate::backend::cpu::model::training::Batch;
use crate::backend::cpu::model::weights::{Parameter, Purpose};
use crate::backend::cpu::model::{Setup, engine};
use crate::backend::cpu::random;
use crate::domain::Check;

/// Half the width of the central difference, in units in which each parameter tensor changes the loss by about one.
const STEP: f64 = 1e-9;
/// Values converted at a time.
const CHUNK: usize = 1 << 20;

/// A parameter's gradient by backward pass.
#[derive(Debug)]
struct Gradient {
    name: String,
    /// Flat.
    values: Tensor,
    /// Euclidean norm; NaN where there is no gradient.
    norm: f64,
}

impl Gradient {
    /// Sum of `f` over the values in `f64`, a chunk at a time.
    fn sum(values: &Tensor, mut f: impl FnMut(f64) -> f64) -> CandleResult<f64> {
        let count = values.elem_count();
        let mut sum = 0.0;
        for start in (0..count).step_by(CHUNK) {
            let chunk = values.narrow(0, start, CHUNK.min(count - start))?;
            let chunk: Vec<f64> = chunk.to_dtype(DType::F64)?.to_vec1()?;
            sum += chunk.into_iter().map(&mut f).sum::<f64>();
        }
        Ok(sum)
    }

    fn alive(&self) -> bool {
        self.norm.is_finite() && self.norm > 0.0
    }
}

/// Checks the gradients of the initial weights on a batch.
pub fn check(setup: &Setup, batch: &Batch) -> Result<Vec<Check>, BackendError> {
    let failed = || engine("checking gradients");
    let gradients = gradients(setup, batch)?;
    let dead = gradients.iter().filter(|gradient| !gradient.alive()).count();
    let alive =
        Check::new("gradients", "number of parameters whose gradient is absent, zero or not finite", dead as f64, 0.0);
    if !alive.pass {
        return Ok(vec![alive]);
    }
    let largest = gradients.iter().map(|gradient| gradient.norm).fold(0.0, f64::max);
    // A direction in which each tensor moves the loss by about ±1: random signs over the norm of its gradient.
    let scale = |gradient: &Gradient| 1.0 / gradient.norm.max(1e-4 * largest);
    let mut slope = 0.0;
    for gradient in &gradients {
        let mut signs = random::signs(setup.seed, &gradient.name);
        let along = Gradient::sum(&gradient.values, |value| value * signs.next().unwrap_or_default());
        slope += along.map_err(failed())? * scale(gradient);
    }
    let scales: Vec<f64> = gradients.iter().map(scale).collect();
    drop(gradients);
    let difference = central_difference(setup, batch, &scales)?;
    // The root of the number of tensors is the size that either has.
    let error = (slope - difference).abs() / (scales.len() as f64).sqrt();
    let tolerance = match (&setup.architecture, setup.dtype) {
        // Units so near their kink that rounding moves them across: PyTorch's own f32 gradients of ResNet-50 are
        // 2e-3 off its f64 ones, tensor by tensor.
        (Architecture::ResNet(_), _) => 2e-2,
        (_, DType::F64) => 1e-4,
        _ => 1e-3,
    };
    let derivative = Check::new("directional derivative", "central difference of the f64 loss", error, tolerance);
    Ok(vec![alive, derivative])
}

/// Every parameter's gradient, in the order in which they load.
fn gradients(setup: &Setup, batch: &Batch) -> Result<Vec<Gradient>, BackendError> {
    let (network, parameters) = setup.network(setup.dtype, setup.dtype, Purpose::Training)?;
    let collect = || -> CandleResult<Vec<Gradient>> {
        let mut store = batch.loss(&*network)?.backward()?;
        let take = |parameter: &Parameter| {
            let var = parameter.var.as_tensor();
            let found = store.remove(var);
            let values = found.as_ref().unwrap_or(var).flatten_all()?.contiguous()?;
            let norm = match found {
                Some(_) => Gradient::sum(&values, |value| value * value)?.sqrt(),
                None => f64::NAN,
            };
            Ok(Gradient { name: parameter.name.clone(), values, norm })
        };
        parameters.iter().map(take).collect()
    };
    collect().map_err(engine("backward pass of the check"))
}

/// (loss(θ + h d) − loss(θ − h d)) / 2h in `f64`, d being signs times `scales`.
fn central_difference(setup: &Setup, batch: &Batch, scales: &[f64]) -> Result<f64, BackendError> {
    let (reference, parameters) = setup.network(DType::F64, DType::F64, Purpose::Training)?;
    let batch = batch.cast(DType::F64).map_err(engine("casting the batch"))?;
    let shifted_loss = |by: f64| -> CandleResult<f64> {
        for (parameter, scale) in parameters.iter().zip(scales) {
            parameter.var.as_tensor().inplace_op1(&Shift {
                seed: setup.seed,
                name: &parameter.name,
                by: by * scale,
            })?;
        }
        batch.loss(&*reference)?.to_scalar::<f64>()
    };
    let differ = || Ok((shifted_loss(STEP)? - shifted_loss(-2.0 * STEP)?) / (2.0 * STEP));
    differ().map_err(engine("f64 forward pass"))
}

/// Adds ±`by` to every value, with a parameter's own signs.
struct Shift<'a> {
    seed: u64,
    name: &'a str,
    by: f64,
}

impl InplaceOp1 for Shift<'_> {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> CandleResult<()> {
        let (CpuStorage::F64(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("only contiguous f64 parameters are shifted");
        };
        for (value, sign) in values[start..end].iter_mut().zip(random::signs(self.seed, self.name)) {
            *value += sign * self.by;
        }
        Ok(())
    }
}
