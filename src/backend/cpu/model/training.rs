//! Mode `training-step`: forward, backward and `AdamW` on one fixed batch with seeded targets.

use std::hint::black_box;
use std::sync::Arc;

use candle_core::{DType, Result as CandleResult, Tensor, bail};

use crate::backend::cpu::model::adamw::AdamW;
use crate::backend::cpu::model::weights::Purpose;
use crate::backend::cpu::model::{Network, Setup, count, engine, gradient, ops, running};
use crate::backend::cpu::random;
use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo};
use crate::measure::{Subject, SubjectError};

/// Steps after which the loss must have fallen; fewer than that are made up for by the check.
const STEPS: u64 = 4;
/// Tokens and images that the gradient check is made on.
const CHECKED_TOKENS: usize = 32;
const CHECKED_IMAGES: usize = 2;

/// Inputs and their right classes.
#[derive(Debug)]
pub struct Batch {
    input: Tensor,
    targets: Arc<Vec<u32>>,
}

impl Batch {
    fn new(setup: &Setup, input: Tensor) -> CandleResult<Self> {
        let rows = if setup.seq > 0 { input.elem_count() } else { input.dim(0)? };
        let targets = random::below(setup.seed, "targets", rows, setup.architecture.classes());
        Ok(Self { input, targets: Arc::new(targets) })
    }

    /// The mean cross-entropy of a network's scores.
    pub fn loss(&self, network: &dyn Network) -> CandleResult<Tensor> {
        ops::cross_entropy(&network.scores(&self.input)?, &self.targets)
    }

    /// The same batch for a network that computes in `compute`.
    pub fn cast(&self, compute: DType) -> CandleResult<Self> {
        Ok(Self { input: Setup::cast(&self.input, compute)?, targets: Arc::clone(&self.targets) })
    }

    /// A small part of it, for checks.
    fn part(&self, setup: &Setup) -> CandleResult<Self> {
        let input = if setup.seq > 0 {
            self.input.narrow(0, 0, 1)?.narrow(1, 0, setup.seq.min(CHECKED_TOKENS))?
        } else {
            self.input.narrow(0, 0, setup.batch.min(CHECKED_IMAGES))?
        };
        Self::new(setup, input.contiguous()?)
    }
}

/// What a step changes.
#[derive(Debug)]
struct State {
    network: Box<dyn Network>,
    optimiser: AdamW,
}

impl State {
    fn load(setup: &Setup) -> Result<Self, BackendError> {
        let (network, parameters) = setup.network(setup.dtype, setup.dtype, Purpose::Training)?;
        let optimiser = AdamW::new(parameters).map_err(engine("making the optimiser's state"))?;
        Ok(Self { network, optimiser })
    }
}

/// A model, its optimiser and its batch.
#[derive(Debug)]
pub struct Training {
    setup: Setup,
    /// Dropped by the check, to make room for its reference.
    state: Option<State>,
    batch: Batch,
    /// Losses of the first and of the latest step.
    losses: Option<(f64, f64)>,
    steps: u64,
}

impl Training {
    /// Loads weights and batch.
    pub fn load(setup: Setup) -> Result<Self, BackendError> {
        let input = Setup::cast(&setup.input()?, setup.dtype).map_err(engine("casting the input"))?;
        Ok(Self {
            state: Some(State::load(&setup)?),
            batch: Batch::new(&setup, input).map_err(engine("making the targets"))?,
            setup,
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
        let Some(state) = &mut self.state else {
            bail!("the weights were dropped by the check, which comes last");
        };
        let loss = self.batch.loss(&*state.network)?;
        let gradients = loss.backward()?;
        state.optimiser.step(&gradients)?;
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
        Ok(Check::new("loss", "loss of the first step, as a ratio that must have fallen", last / first, 1.0 - 1e-5))
    }
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
        let loss = self.check_loss().map_err(engine("training step"))?;
        self.state = None;
        let part = self.batch.part(&self.setup).map_err(engine("taking a part of the batch"))?;
        let mut checks = vec![loss];
        checks.extend(gradient::check(&self.setup, &part)?);
        Ok(checks)
    }
}
