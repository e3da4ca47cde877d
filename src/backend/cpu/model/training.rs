//! Mode `training-step`: forward, backward and `AdamW` on one fixed batch with seeded targets.

use std::hint::black_box;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result as CandleResult, Tensor};

use crate::backend::cpu::model::adamw::AdamW;
use crate::backend::cpu::model::weights::{Parameter, Purpose};
use crate::backend::cpu::model::{Network, Setup, count, engine, ops, random, running};
use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo};
use crate::measure::{Subject, SubjectError};

/// Steps after which the loss must have fallen; fewer than that are made up for by the check.
const STEPS: u64 = 4;
/// Tokens and images that the gradient check is made on.
const CHECKED_TOKENS: usize = 32;
const CHECKED_IMAGES: usize = 2;
/// Half the width of the central difference, in units in which each parameter tensor changes the loss by about one.
const STEP: f64 = 1e-8;

/// Inputs and their right classes.
#[derive(Debug)]
struct Batch {
    input: Tensor,
    targets: Arc<Vec<u32>>,
}

impl Batch {
    fn new(setup: &Setup, input: Tensor) -> CandleResult<Self> {
        let rows = if setup.seq > 0 {
            input.elem_count()
        } else {
            input.dim(0)?
        };
        let targets = random::below(setup.seed, "targets", rows, setup.architecture.classes());
        Ok(Self {
            input,
            targets: Arc::new(targets),
        })
    }

    fn loss(&self, network: &dyn Network) -> CandleResult<Tensor> {
        ops::cross_entropy(&network.scores(&self.input)?, &self.targets)
    }

    /// A small part of it, for checks.
    fn part(&self, setup: &Setup) -> CandleResult<Self> {
        let input = if setup.seq > 0 {
            self.input
                .narrow(0, 0, 1)?
                .narrow(1, 0, setup.seq.min(CHECKED_TOKENS))?
        } else {
            self.input.narrow(0, 0, setup.batch.min(CHECKED_IMAGES))?
        };
        Self::new(setup, input.contiguous()?)
    }
}

/// A model, its optimiser and its batch.
#[derive(Debug)]
pub struct Training {
    setup: Setup,
    network: Box<dyn Network>,
    optimiser: AdamW,
    batch: Batch,
    /// Losses of the first and of the latest step.
    losses: Option<(f64, f64)>,
    steps: u64,
}

impl Training {
    /// Loads weights and batch.
    pub fn load(setup: Setup) -> Result<Self, BackendError> {
        let (network, parameters) = setup.network(setup.dtype, setup.dtype, Purpose::Training)?;
        let input = Setup::cast(&setup.input()?, setup.dtype).map_err(engine("casting the input"))?;
        Ok(Self {
            batch: Batch::new(&setup, input).map_err(engine("making the targets"))?,
            optimiser: AdamW::new(parameters).map_err(engine("making the optimiser's state"))?,
            setup,
            network,
            losses: None,
            steps: 0,
        })
    }

    /// What the check will load weights from.
    #[cfg(test)]
    pub fn replace_source(&mut self, source: Box<dyn crate::backend::cpu::model::weights::Source>) {
        self.setup.source = source;
    }

    fn step(&mut self) -> CandleResult<()> {
        let loss = self.batch.loss(&*self.network)?;
        let gradients = loss.backward()?;
        self.optimiser.step(&gradients)?;
        black_box(gradients);
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let first = self.losses.map_or(loss, |(first, _)| first);
        self.losses = Some((first, loss));
        self.steps += 1;
        Ok(())
    }

    /// The loss fell.
    fn check_loss(&mut self) -> CandleResult<Check> {
        while self.steps < STEPS {
            self.step()?;
        }
        let (first, last) = self.losses.unwrap_or((f64::NAN, f64::NAN));
        Ok(Check::new(
            "loss",
            "loss of the first step, as a ratio that must have fallen",
            last / first,
            1.0 - 1e-5,
        ))
    }

    /// The gradients of the initial weights on a part of the batch.
    fn check_gradients(&self) -> Result<Vec<Check>, BackendError> {
        // Loaded afresh, so that the result does not depend on how many steps were measured.
        let (network, parameters) = self
            .setup
            .network(self.setup.dtype, self.setup.dtype, Purpose::Training)?;
        let failed = || engine("checking gradients");
        let part = self.batch.part(&self.setup).map_err(failed())?;
        let gradients = part
            .loss(&*network)
            .and_then(|loss| loss.backward())
            .map_err(failed())?;
        drop(network);
        let norms = norms(&parameters, &gradients).map_err(failed())?;
        let dead = norms.iter().filter(|norm| !norm.is_finite() || **norm == 0.0).count();
        let alive = Check::new(
            "gradients",
            "number of parameters whose gradient is absent, zero or not finite",
            dead as f64,
            0.0,
        );
        if !alive.pass {
            return Ok(vec![alive]);
        }
        let (reference, references) = self.setup.network(DType::F64, DType::F64, Purpose::Training)?;
        let error = directional_error(
            &Direction {
                seed: self.setup.seed,
                norms: &norms,
            },
            (&parameters, &gradients),
            &references,
            || {
                let part = Batch {
                    input: Setup::cast(&part.input, DType::F64)?,
                    targets: Arc::clone(&part.targets),
                };
                part.loss(&*reference)?.to_scalar::<f64>()
            },
        )
        .map_err(failed())?;
        let tolerance = if self.setup.dtype == DType::F64 { 1e-4 } else { 1e-3 };
        let derivative = Check::new(
            "directional derivative",
            "central difference of the f64 loss",
            error,
            tolerance,
        );
        Ok(vec![alive, derivative])
    }
}

/// Euclidean norm of each parameter's gradient; NaN where there is none.
fn norms(parameters: &[Parameter], gradients: &GradStore) -> CandleResult<Vec<f64>> {
    let norm = |parameter: &Parameter| match gradients.get(parameter.var.as_tensor()) {
        Some(g) => g
            .to_dtype(DType::F64)?
            .sqr()?
            .sum_all()?
            .to_scalar::<f64>()
            .map(f64::sqrt),
        None => Ok(f64::NAN),
    };
    parameters.iter().map(norm).collect()
}

/// A random direction in which each parameter tensor moves the loss by about ±1: signs over the gradient's norm.
#[derive(Debug, Clone, Copy)]
struct Direction<'a> {
    seed: u64,
    norms: &'a [f64],
}

impl Direction<'_> {
    fn of(&self, index: usize, parameter: &Parameter) -> CandleResult<Tensor> {
        let largest = self.norms.iter().copied().fold(0.0, f64::max);
        let scale = 1.0 / self.norms[index].max(1e-4 * largest);
        let var = parameter.var.as_tensor();
        let signs = random::signs(self.seed, &format!("direction of {}", parameter.name), var.elem_count());
        Tensor::from_vec(signs, var.shape(), var.device())? * scale
    }
}

/// |⟨gradient, d⟩ − central difference along d| over √(number of tensors), the size that either has.
fn directional_error(
    direction: &Direction<'_>,
    (parameters, gradients): (&[Parameter], &GradStore),
    references: &[Parameter],
    loss: impl Fn() -> CandleResult<f64>,
) -> CandleResult<f64> {
    let mut slope = 0.0;
    for (i, parameter) in parameters.iter().enumerate() {
        if let Some(gradient) = gradients.get(parameter.var.as_tensor()) {
            let product = (gradient.to_dtype(DType::F64)? * direction.of(i, parameter)?)?;
            slope += product.sum_all()?.to_scalar::<f64>()?;
        }
    }
    let shift = |by: f64| -> CandleResult<()> {
        for (i, reference) in references.iter().enumerate() {
            let moved = (reference.var.as_tensor() + (direction.of(i, reference)? * by)?)?;
            reference.var.set(&moved)?;
        }
        Ok(())
    };
    shift(STEP)?;
    let above = loss()?;
    shift(-2.0 * STEP)?;
    let below = loss()?;
    Ok((slope - (above - below) / (2.0 * STEP)).abs() / (parameters.len() as f64).sqrt())
}

impl Subject for Training {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            self.step().map_err(running("training step"))?;
        }
        Ok(())
    }
}

impl Prepared for Training {
    fn device(&self) -> DeviceInfo {
        this_device(self.setup.threads)
    }

    fn counts(&self) -> WorkCounts {
        count::training(&self.setup)
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let mut checks = vec![self.check_loss().map_err(engine("training step"))?];
        checks.extend(self.check_gradients()?);
        Ok(checks)
    }
}
