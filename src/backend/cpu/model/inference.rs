//! Mode `inference`: one forward pass an iteration.

use std::hint::black_box;

use candle_core::{DType, Tensor};

use crate::backend::cpu::model::weights::Purpose;
use crate::backend::cpu::model::{Network, Setup, count, engine, output_tolerance, relative_error, running};
use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo};
use crate::measure::{Subject, SubjectError};

/// Tokens of a causal model that a check looks at: they do not depend on those after them.
pub const CHECKED_TOKENS: usize = 128;

/// A model and its input.
#[derive(Debug)]
pub struct Inference {
    setup: Setup,
    network: Box<dyn Network>,
    input: Tensor,
}

impl Inference {
    /// Loads weights and input.
    pub fn load(setup: Setup) -> Result<Self, BackendError> {
        let (network, _) = setup.network(setup.dtype, setup.dtype, Purpose::Inference)?;
        let input = Setup::cast(&setup.input()?, setup.dtype).map_err(engine("casting the input"))?;
        Ok(Self { setup, network, input })
    }

    /// The output of one pass.
    pub fn output(&self) -> candle_core::Result<Tensor> {
        self.network.forward(&self.input)
    }
}

impl Subject for Inference {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            black_box(self.output().map_err(running("forward pass"))?);
        }
        Ok(())
    }
}

impl Prepared for Inference {
    fn device(&self) -> DeviceInfo {
        this_device(self.setup.threads)
    }

    fn counts(&self) -> WorkCounts {
        count::inference(&self.setup)
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let first = |t: &Tensor, tokens: Option<usize>| {
            let t = t.narrow(0, 0, 1)?;
            tokens.map_or(Ok(t.clone()), |tokens| t.narrow(1, 0, tokens))
        };
        let causal = self.network.decoder().is_some();
        let tokens = causal.then(|| self.setup.seq.min(CHECKED_TOKENS));
        // The whole batch is run, as it was measured; the reference is made for its first element.
        let got = self.output().and_then(|out| first(&out, tokens)).map_err(engine("forward pass"))?;
        let (reference, _) = self.setup.network(DType::F32, DType::F64, Purpose::Reference)?;
        let want = first(&self.input, tokens)
            .and_then(|input| reference.forward(&Setup::cast(&input, DType::F64)?))
            .map_err(engine("f64 forward pass"))?;
        Ok(vec![Check::new(
            "output",
            "f64 forward pass of the first element",
            relative_error(&got, &want)?,
            output_tolerance(self.setup.dtype),
        )])
    }
}
