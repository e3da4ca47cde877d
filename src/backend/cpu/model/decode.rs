//! Mode `decode`: `tokens` greedy steps an iteration, each sequence one token a step, on a KV cache.
//!
//! The prompt is taken in once, at load. Its last scores choose the first input token, so an iteration is exactly
//! `tokens` passes of one token with output layer and arg-max. The next iteration forgets those tokens, which only
//! sets the caches' lengths back, and generates the same ones again.

use std::hint::black_box;

use candle_core::{D, DType, Tensor};

use crate::backend::cpu::model::inference::CHECKED_TOKENS;
use crate::backend::cpu::model::layers::KvCache;
use crate::backend::cpu::model::weights::Purpose;
use crate::backend::cpu::model::{Decoder, Network, Setup, count, engine, output_tolerance, relative_error, running};
use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo};
use crate::measure::{Subject, SubjectError};

/// Steps that a check compares.
const CHECKED_STEPS: usize = 8;

/// A decoder with a prompt in its cache.
#[derive(Debug)]
pub struct Decode {
    setup: Setup,
    network: Box<dyn Network>,
    /// `[batch, seq]`.
    prompt: Tensor,
    caches: Vec<KvCache>,
    /// `[batch, 1]`: what the prompt's scores chose.
    first: Tensor,
}

fn decoder(network: &dyn Network) -> Result<&dyn Decoder, BackendError> {
    network
        .decoder()
        .ok_or_else(|| BackendError::Unsupported("mode `decode` needs a decoder: gpt2 or llama".to_owned()))
}

fn greedy(scores: &Tensor) -> candle_core::Result<Tensor> {
    scores.argmax_keepdim(D::Minus1)
}

impl Decode {
    /// Loads weights and takes in the prompt.
    pub fn load(setup: Setup) -> Result<Self, BackendError> {
        let (network, _) = setup.network(setup.dtype, setup.dtype, Purpose::Inference)?;
        let prompt = setup.input()?;
        let decoder = decoder(&*network)?;
        let take_in = || {
            let mut caches = decoder.caches(setup.batch, setup.seq + setup.tokens, setup.dtype)?;
            let first = greedy(&decoder.next(&prompt, &mut caches)?)?;
            Ok((caches, first))
        };
        let (caches, first) = take_in().map_err(engine("taking in the prompt"))?;
        Ok(Self { setup, network, prompt, caches, first })
    }

    /// Forgets all but `prompt` tokens, then generates `steps` from `ids`; gives each step's input and scores.
    fn generate(
        &mut self,
        prompt: usize,
        ids: Tensor,
        steps: usize,
        mut each: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        for cache in &mut self.caches {
            cache.truncate(prompt);
        }
        let Some(decoder) = self.network.decoder() else {
            return Ok(());
        };
        let mut ids = ids;
        for _ in 0..steps {
            let scores = decoder.next(&ids, &mut self.caches)?;
            each(&ids, &scores)?;
            ids = greedy(&scores)?;
        }
        black_box(ids);
        Ok(())
    }

    /// The tokens that an iteration takes in.
    #[cfg(test)]
    pub fn trace(&mut self) -> candle_core::Result<Vec<Vec<u32>>> {
        let mut ids = Vec::new();
        self.generate(self.setup.seq, self.first.clone(), self.setup.tokens, |step, _| {
            ids.push(step.flatten_all()?.to_vec1()?);
            Ok(())
        })?;
        Ok(ids)
    }

    /// The scores of the first sequence over a few steps after at most [`CHECKED_TOKENS`] tokens of the prompt, and
    /// the same by one `f64` pass over prompt and generated tokens without a cache.
    fn compare(&mut self, reference: &dyn Network) -> candle_core::Result<(Tensor, Tensor)> {
        let prompt = self.setup.seq.min(CHECKED_TOKENS);
        let steps = self.setup.tokens.min(CHECKED_STEPS);
        let start = if prompt < self.setup.seq { self.prompt.narrow(1, prompt, 1)? } else { self.first.clone() };
        let mut ids = vec![self.prompt.narrow(0, 0, 1)?.narrow(1, 0, prompt)?];
        let mut got = Vec::with_capacity(steps);
        self.generate(prompt, start, steps, |step, scores| {
            ids.push(step.narrow(0, 0, 1)?);
            got.push(scores.narrow(0, 0, 1)?);
            Ok(())
        })?;
        let want = reference.forward(&Tensor::cat(&ids, 1)?)?;
        Ok((Tensor::stack(&got, 1)?, want.narrow(1, prompt, steps)?))
    }
}

impl Subject for Decode {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            self.generate(self.setup.seq, self.first.clone(), self.setup.tokens, |_, _| Ok(()))
                .map_err(running("decoding"))?;
        }
        Ok(())
    }
}

impl Prepared for Decode {
    fn device(&self) -> DeviceInfo {
        this_device(self.setup.threads)
    }

    fn counts(&self) -> WorkCounts {
        count::decode(&self.setup)
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let (reference, _) = self.setup.network(DType::F32, DType::F64, Purpose::Reference)?;
        let (got, want) = self.compare(&*reference).map_err(engine("decoding for the check"))?;
        if self.setup.seq > CHECKED_TOKENS {
            // The steps above overwrote a part of the prompt.
            for cache in &mut self.caches {
                cache.truncate(0);
            }
            decoder(&*self.network)?
                .next(&self.prompt, &mut self.caches)
                .map_err(engine("taking in the prompt again"))?;
        }
        Ok(vec![Check::new(
            "scores",
            "f64 forward pass of the first sequence without a cache",
            relative_error(&got, &want)?,
            output_tolerance(self.setup.dtype),
        )])
    }
}
