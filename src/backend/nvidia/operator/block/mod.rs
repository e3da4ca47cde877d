//! A block of GPT-2 (Radford et al. 2019): forward, or a whole training step.
//!
//! With x of `[T, W]`, T tokens of all sequences one behind the other:
//!
//! ```text
//! h1 = layernorm(x)    qkv = h1 Wqkvᵀ + bqkv    o = attention(qkv), causal     y = x + o Woᵀ + bo
//! h2 = layernorm(y)    f = gelu(h2 W1ᵀ + b1)                                   z = y + f W2ᵀ + b2
//! ```
//!
//! Products are cuBLASLt's, with biases, residuals (as C of its D = A B + C), and in inference GELU, in their epilogues, and with
//! the gradients of biases in those of the weights; attention is cuDNN's, which reads Q, K and V where the one product left them
//! and leaves their gradients the same way; the rest are kernels of our own. A training step ends with AdamW over all parameters
//! in one launch: single-precision weights, both moments, gradients and the weights that products read lie flat in one buffer
//! each.
//!
//! A training step goes on from where the last one stopped, as in training. Its learning rate is so small that weights are
//! practically the same after any number of them; the work does not depend on their values.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::blas::Blas;
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::operator::adamw::stepped;
use crate::backend::nvidia::operator::attention::handle;
use crate::backend::nvidia::operator::block::parameters::{Flat, Parameter, Sizes};
use crate::backend::nvidia::operator::block::passes::{Activations, ForwardPass, Multiply, Planner, RATE, Training};
use crate::backend::nvidia::operator::block::reference::Reference;
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Arithmetic, Element, Site, Work};
use crate::domain::{Check, Metric, Workload};
use crate::hardware::cuda::Library;

mod parameters;
mod passes;
mod reference;

/// Outputs, and weights, that are compared.
const COMPARED: usize = 1 << 16;

#[derive(Debug)]
struct Block {
    sizes: Sizes,
    seed: u64,
    /// What products and norms read, flat.
    weights: Flat,
    x: Buffer,
    activations: Activations,
    forward: ForwardPass,
    training: Option<Box<Training>>,
}

/// Makes `transformer-block`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let number = |name: &str| workload.size(name).map_err(CudaError::Parameter);
    let sizes = Sizes {
        batch: number("batch")?,
        seq: number("seq")?,
        width: number("width")?,
        heads: number("heads")?,
        element: super::element_of(workload)?,
    };
    let training = workload.text("mode").map_err(CudaError::Parameter)? == "training-step";
    Ok(Box::new(Block::new(site, sizes, training, seed)?))
}

impl Block {
    fn new(site: &Site, sizes: Sizes, training: bool, seed: u64) -> Result<Self> {
        let Sizes { width, heads, element, .. } = sizes;
        if !width.is_multiple_of(heads) || !sizes.depth().is_multiple_of(8) {
            return work::refuse(format!(
                "{heads} heads cannot share a width of {width}: give heads of a multiple of 8 columns"
            ));
        }
        // The widest activation, the scores, and the widest weights: everything else is smaller.
        for tensor in
            [[sizes.batch, sizes.seq, width, 4], [sizes.batch, heads, sizes.seq, sizes.seq], [width, width, 4, 4]]
        {
            work::elements(&tensor)?;
        }
        // Drawing takes buffers of its own for a while: before everything else, so that the most memory ever is that of the work.
        let master = training.then(|| Flat::drawn(site, Element::F32, width, seed)).transpose()?;
        let weights = Flat::drawn(site, element, width, seed)?;
        let x = site.normal(element, sizes.tokens() * width, seed, "x")?;
        let activations = Activations::new(site, sizes, training)?;
        let planner = Planner { site, sizes, blas: Blas::open(&site.device)?, handle: handle()? };
        let forward = ForwardPass::new(&planner, &x, &weights, &activations)?;
        let training = match master {
            Some(master) => Some(Box::new(Training::new(&planner, &weights, master.whole, &activations, seed)?)),
            None => None,
        };
        Ok(Self { sizes, seed, weights, x, activations, forward, training })
    }

    /// Every product with its name.
    fn products(&self) -> Vec<(&'static str, &Multiply)> {
        let forward = ["qkv", "out", "up", "down"].into_iter().zip(&self.forward.layers);
        let names = [["d_wqkv", "d_h1"], ["d_wo", "d_o"], ["d_w1", "d_h2"], ["d_w2", "d_f"]];
        let backward = self.training.iter().flat_map(|training| names.into_iter().zip(&training.layers));
        forward.chain(backward.flat_map(|(names, layers)| names.into_iter().zip(layers))).collect()
    }
}

impl Work for Block {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.forward.enqueue(&self.x, &self.weights, &self.activations, stream)?;
        match &self.training {
            Some(training) => training.enqueue(&self.forward, &self.x, &self.weights, &self.activations, stream),
            None => Ok(()),
        }
    }

    fn launches(&self) -> u32 {
        ForwardPass::LAUNCHES + if self.training.is_some() { Training::LAUNCHES } else { 0 }
    }

    /// Operations as [`Sizes::flops`] says, and tokens. Forward, what must move at least: every parameter and x read, z written;
    /// what lies between may stay in the cache, or in one kernel. A training step has no such count that would mean much: what it
    /// keeps from its forward for its backward pass is a choice.
    fn counts(&self) -> WorkCounts {
        let parameters: usize = self.weights.parts.iter().map(Buffer::bytes).sum();
        let bytes = parameters + self.x.bytes() + self.activations.z.bytes();
        WorkCounts {
            flops: Some(self.sizes.flops(self.training.is_some())),
            bytes: self.training.is_none().then_some(bytes as f64),
            items: Some((self.sizes.tokens() as f64, "tokens")),
        }
    }

    fn arithmetic(&self) -> Option<Arithmetic> {
        Some(Arithmetic::Half)
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        let element = self.sizes.element;
        // A step ends with other weights than it began with.
        let weights = site.device.allocate(self.weights.whole.bytes())?;
        weights.copy_from(&self.weights.whole, stream)?;
        stream.synchronize()?;
        let reference = Reference::new(site, self.sizes, &self.x, &weights, self.training.is_some(), self.seed)?;
        self.spoil(stream)?;
        let Some(training) = &self.training else {
            once(stream, |stream| self.enqueue(stream))?;
            return Ok(vec![self.output(site, &reference)?]);
        };
        let places = work::picks(self.seed, "weights", COMPARED, self.weights.whole.bytes() / element.bytes());
        let state = |site: &Site, training: &Training| {
            let [w, m, v] = training.state.each_ref().map(|buffer| site.gather(buffer, Element::F32, &places));
            Ok([w?, m?, v?])
        };
        let before = state(site, training)?;
        // Sequences that the reference does not have must not count.
        let dz = site.device.allocate(training.dz.bytes())?;
        dz.copy_from(&training.dz, stream)?;
        let each = dz.bytes() / self.sizes.batch;
        for sequence in (0..self.sizes.batch).filter(|sequence| !reference.sequences.contains(&(*sequence as u64))) {
            training.dz.part(sequence * each, each)?.fill(0, stream)?;
        }
        once(stream, |stream| self.enqueue(stream))?;
        let Some(training) = &self.training else { return Ok(Vec::new()) };
        let mut checks = vec![self.output(site, &reference)?];
        let off = reference.gradients(&training.dz, &training.gradients.whole, &training.dx)?;
        training.dz.copy_from(&dz, stream)?;
        stream.synchronize()?;
        let Tolerances { along_itself, along_noise } = tolerances(element);
        checks.extend(off.iter().map(|off| {
            Check::new(off.name, "central differences of f64 forward passes along it", off.along_itself, along_itself)
        }));
        // `f64::max` would drop a NaN.
        let largest = off.iter().map(|off| off.along_noise).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a });
        let reference = "central differences of f64 forward passes along noise";
        checks.push(Check::new("gradients along noise", reference, largest, along_noise));
        let slopes = site.gather(&training.gradients.whole, element, &places)?;
        let after = state(site, training)?;
        let settings = training.adamw.settings;
        let want: Vec<[f64; 3]> = slopes
            .iter()
            .enumerate()
            .map(|(i, slope)| stepped(settings, before[0][i], before[1][i], before[2][i], *slope))
            .collect();
        for (which, name) in ["weights", "first moments", "second moments"].into_iter().enumerate() {
            let want: Vec<f64> = want.iter().map(|want| want[which]).collect();
            let error = work::error(&after[which], &want);
            checks.push(Check::new(name, "one step in f64", error, Element::F32.tolerance()));
        }
        let copies = site.gather(&self.weights.whole, element, &places)?;
        checks.push(Check::new("copy", "the weights", work::error(&copies, &after[0]), element.tolerance()));
        Ok(checks)
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let training = self.training.as_ref().map_or(0.0, |training| training.seconds());
        vec![(Metric::COMPILE_TIME, self.forward.seconds() + training)]
    }

    fn facts(&self) -> BTreeMap<String, Json> {
        let algorithms: BTreeMap<&str, String> =
            self.products().into_iter().map(|(name, multiply)| (name, multiply.product.algorithm())).collect();
        let mut facts: BTreeMap<String, Json> = [
            ("algorithms", json!(algorithms)),
            ("engine", json!(self.forward.attention.engine())),
            (
                "parameters",
                json!(Parameter::ALL.map(|parameter| parameter.count(self.sizes.width)).iter().sum::<usize>()),
            ),
            ("cublaslt", json!(Library::CublasLt.version())),
            ("cudnn", json!(Library::Cudnn.version())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(training) = &self.training {
            facts.insert("engine_backward".to_owned(), json!(training.attention.engine()));
            facts.insert("learning_rate".to_owned(), json!(RATE));
        }
        facts
    }
}

impl Block {
    /// Writes NaN wherever an iteration writes: nothing of an earlier one may pass for the result.
    fn spoil(&self, stream: &Stream) -> Result<()> {
        let training = self.training.iter().flat_map(|training| training.written());
        self.activations.written().into_iter().chain(training).try_for_each(|buffer| buffer.fill(0xff, stream))
    }

    /// Compares z; a NaN anywhere in it fails.
    fn output(&self, site: &Site, reference: &Reference<'_>) -> Result<Check> {
        let (element, each) = (self.sizes.element, (self.sizes.seq * self.sizes.width) as u64);
        let here = work::picks(self.seed, "outputs", COMPARED, reference.sequences.len() * each as usize);
        let there: Vec<u64> =
            here.iter().map(|place| reference.sequences[(place / each) as usize] * each + place % each).collect();
        let z = &self.activations.z;
        let got = site.gather(z, element, &there)?;
        let want = site.gather(&reference.z, Element::F64, &here)?;
        let whole = site.total(z, element, z.bytes() / element.bytes())?;
        let error = if whole.is_finite() { work::error(&got, &want) } else { f64::NAN };
        Ok(Check::new("output", "an f64 forward pass on the device", error, element.tolerance()))
    }
}

/// How far gradients may be off.
#[derive(Debug, Clone, Copy)]
struct Tolerances {
    along_itself: f64,
    along_noise: f64,
}

/// A few times the largest that an H100 gave, in widths of 96 to 4096: 5e-4 and 9e-3 in bf16, 1e-4 and 2e-3 in f16. A gradient of
/// which two hundredths are missing is off by about 0.1 along noise.
const fn tolerances(element: Element) -> Tolerances {
    match element {
        Element::F16 => Tolerances { along_itself: 1e-3, along_noise: 1e-2 },
        _ => Tolerances { along_itself: 5e-3, along_noise: 5e-2 },
    }
}
