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
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::blas::{Blas, Choice, Epilogue, Operands, Product, Shape};
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::cudnn::{self, Backward, Binding, Forward, Gradients, Handle, Layout};
use crate::backend::nvidia::kernels::{
    Adamw, AdamwSettings, Elementwise, LayernormBackward, LayernormGradients, Rowwise,
};
use crate::backend::nvidia::operator::adamw::stepped;
use crate::backend::nvidia::operator::attention::{handle, refused};
use crate::backend::nvidia::operator::block::parameters::{Parameter, Sizes};
use crate::backend::nvidia::operator::block::reference::Reference;
use crate::backend::nvidia::operator::{once, plain};
use crate::backend::nvidia::work::{self, Arithmetic, Element, Site, Work};
use crate::domain::{Check, Metric, Workload};
use crate::hardware::cuda::Library;

mod parameters;
mod reference;

/// A step of AdamW moves a weight by half of this at most: by 0.001 in 100,000 steps, where weights are about 0.03.
const RATE: f32 = 1e-8;

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
    let size = |name: &str| workload.size(name).map_err(CudaError::Parameter);
    let sizes = Sizes {
        batch: size("batch")?,
        seq: size("seq")?,
        width: size("width")?,
        heads: size("heads")?,
        element: super::element_of(workload)?,
    };
    let training = workload.text("mode").map_err(CudaError::Parameter)? == "training-step";
    Ok(Box::new(Block::new(site, sizes, training, seed)?))
}

/// All parameters, or something of their shapes, in one buffer.
#[derive(Debug)]
struct Flat {
    whole: Buffer,
    parts: Vec<Buffer>,
}

impl Flat {
    fn new(whole: Buffer, element: Element, width: usize) -> Result<Self> {
        let parts =
            Parameter::ALL.iter().map(|parameter| parameter.of(&whole, element, width)).collect::<Result<_>>()?;
        Ok(Self { whole, parts })
    }

    /// First values. They are the same numbers in every element type, but for rounding.
    fn drawn(site: &Site, element: Element, width: usize, seed: u64) -> Result<Self> {
        let flat = Self::new(site.constant(element, Parameter::total(width), 0.0)?, element, width)?;
        for (parameter, part) in Parameter::ALL.iter().zip(&flat.parts) {
            let (mean, sigma) = parameter.distribution(width);
            let values = site.normal_of(element, parameter.count(width), seed, parameter.name(), mean, sigma)?;
            part.copy_from(&values, &site.stream)?;
            site.stream.synchronize()?;
        }
        Ok(flat)
    }

    fn of(&self, parameter: Parameter) -> &Buffer {
        &self.parts[parameter as usize]
    }
}

/// What the forward pass leaves. For the backward pass, that includes the first layer's output before its activation, and the
/// statistics of both norms and of the attention.
#[derive(Debug)]
struct Activations {
    h1: Buffer,
    qkv: Buffer,
    o: Buffer,
    y: Buffer,
    h2: Buffer,
    f: Buffer,
    z: Buffer,
    saved: Option<Saved>,
}

#[derive(Debug)]
struct Saved {
    u: Buffer,
    /// Mean and inverse deviation of each row.
    norm1: [Buffer; 2],
    norm2: [Buffer; 2],
    /// Logarithms of the sums of exponentials.
    attention: Buffer,
}

impl Activations {
    fn new(site: &Site, sizes: Sizes, training: bool) -> Result<Self> {
        let tokens = sizes.tokens();
        let narrow = || site.room(sizes.element, tokens * sizes.width);
        let statistics = || Ok([site.room(Element::F32, tokens)?, site.room(Element::F32, tokens)?]);
        let wide = || site.room(sizes.element, 4 * tokens * sizes.width);
        let saved = || {
            let attention = site.room(Element::F32, tokens * sizes.heads)?;
            Ok(Saved { u: wide()?, norm1: statistics()?, norm2: statistics()?, attention })
        };
        Ok(Self {
            h1: narrow()?,
            qkv: site.room(sizes.element, 3 * tokens * sizes.width)?,
            o: narrow()?,
            y: narrow()?,
            h2: narrow()?,
            f: wide()?,
            z: narrow()?,
            saved: training.then(saved).transpose()?,
        })
    }
}

/// A planned product with what it multiplies.
#[derive(Debug)]
struct Multiply {
    product: Product,
    operands: Operands,
    /// Address of what is added to it.
    addend: Option<u64>,
}

impl Multiply {
    fn enqueue(&self, stream: &Stream) -> Result<()> {
        match self.addend {
            Some(addend) => self.product.enqueue_onto(&self.operands, addend, stream),
            None => self.product.enqueue(&self.operands, stream),
        }
    }
}

/// What planning needs.
struct Planner<'a> {
    site: &'a Site,
    sizes: Sizes,
    blas: Rc<Blas>,
    handle: Rc<Handle>,
}

impl Planner<'_> {
    fn plan(
        &self,
        [m, n, k]: [usize; 3],
        transposed: [bool; 2],
        [a, b, d]: [&Buffer; 3],
        epilogue: Option<(Epilogue, &Buffer)>,
        addend: Option<&Buffer>,
    ) -> Result<Multiply> {
        let shape = Shape {
            epilogue: epilogue.map_or(Epilogue::None, |(epilogue, _)| epilogue),
            beta: if addend.is_some() { 1.0 } else { 0.0 },
            ..Shape::plain(m, n, k, self.sizes.element, transposed)
        };
        let operands = Operands { a: a.address(), b: b.address(), d: d.address() };
        let bias = epilogue.map(|(_, bias)| bias.address());
        let product = Product::new(&self.blas, &shape, bias, Choice::Heuristic, &operands, &self.site.stream)?;
        Ok(Multiply { product, operands, addend: addend.map(Buffer::address) })
    }

    /// d = x Wᵀ + b: weights are stored as PyTorch's are, one row an output.
    fn layer(
        &self,
        sizes: [usize; 3],
        x: &Buffer,
        [weights, bias]: [&Buffer; 2],
        d: &Buffer,
        epilogue: Epilogue,
        addend: Option<&Buffer>,
    ) -> Result<Multiply> {
        self.plan(sizes, [false, true], [x, weights, d], Some((epilogue, bias)), addend)
    }

    /// Of a layer `[tokens, outputs, inputs]` the gradients of its weights and bias, then that of its input.
    fn backward(
        &self,
        [tokens, outputs, inputs]: [usize; 3],
        [d_out, x, weights]: [&Buffer; 3],
        [d_weights, d_bias]: [&Buffer; 2],
        dx: &Buffer,
    ) -> Result<[Multiply; 2]> {
        let bias = Some((Epilogue::BiasGradient, d_bias));
        Ok([
            self.plan([outputs, inputs, tokens], [true, false], [d_out, x, d_weights], bias, None)?,
            self.plan([tokens, inputs, outputs], [false, false], [d_out, weights, dx], None, None)?,
        ])
    }
}

#[derive(Debug)]
struct ForwardPass {
    norm: Rowwise,
    handle: Rc<Handle>,
    attention: Forward,
    binding: Binding,
    _workspace: Buffer,
    /// Of `Qkv`, `Out`, `Up` and `Down`.
    layers: [Multiply; 4],
    /// Where the first layer's product leaves it to a kernel.
    gelu: Option<Elementwise>,
}

/// Q, K and V as one product leaves them, `[batch, seq, 3, heads, depth]`, and what comes out as the next one wants it.
fn interleaved(sizes: Sizes) -> Result<cudnn::Shape> {
    let element = match sizes.element {
        Element::Bf16 => cudnn::Element::Bf16,
        Element::F16 => cudnn::Element::F16,
        other => return work::refuse(format!("a transformer block has no {other:?}")),
    };
    let [batch, seq, width, heads] = [sizes.batch, sizes.seq, sizes.width, sizes.heads].map(|size| size as i64);
    let depth = width / heads;
    let strides = [seq * 3 * width, depth, 3 * width, 1];
    Ok(cudnn::Shape {
        causal: true,
        q_strides: strides,
        k_strides: strides,
        v_strides: strides,
        ..cudnn::Shape::packed(batch, heads, heads, seq, depth, element, Layout::Bshd)
    })
}

/// Addresses of queries, keys and values, or of their gradients.
fn thirds(buffer: &Buffer, sizes: Sizes) -> [u64; 3] {
    [0, 1, 2].map(|which| buffer.address() + (which * sizes.width * sizes.element.bytes()) as u64)
}

impl ForwardPass {
    fn new(planner: &Planner<'_>, x: &Buffer, weights: &Flat, left: &Activations) -> Result<Self> {
        let Planner { site, sizes, handle, .. } = planner;
        let sizes = *sizes;
        let Sizes { width, element, .. } = sizes;
        let tokens = sizes.tokens();
        let training = left.saved.is_some();
        let attention = Forward::new(handle, &interleaved(sizes)?, training).map_err(refused)?;
        let workspace = site.device.allocate(attention.workspace_bytes())?;
        let [q, k, v] = thirds(&left.qkv, sizes);
        let stats = left.saved.as_ref().map(|saved| saved.attention.address());
        let binding = attention.bind(q, k, v, left.o.address(), stats, None, workspace.address()).map_err(refused)?;
        let of = |weight: Parameter, bias: Parameter| [weights.of(weight), weights.of(bias)];
        let qkv = of(Parameter::Qkv, Parameter::QkvBias);
        let out = of(Parameter::Out, Parameter::OutBias);
        let up = of(Parameter::Up, Parameter::UpBias);
        let down = of(Parameter::Down, Parameter::DownBias);
        let (widened, epilogue) = match &left.saved {
            Some(saved) => (&saved.u, Epilogue::Bias),
            None => (&left.f, Epilogue::BiasGelu),
        };
        let layers = [
            planner.layer([tokens, 3 * width, width], &left.h1, qkv, &left.qkv, Epilogue::Bias, None)?,
            planner.layer([tokens, width, width], &left.o, out, &left.y, Epilogue::Bias, Some(x))?,
            planner.layer([tokens, 4 * width, width], &left.h2, up, widened, epilogue, None)?,
            planner.layer([tokens, width, 4 * width], &left.f, down, &left.z, Epilogue::Bias, Some(&left.y))?,
        ];
        let gelu = training.then(|| Elementwise::new(site, "gelu", element, 4 * tokens * width)).transpose()?;
        let norm = if training { "layernorm_stats" } else { "layernorm" };
        let norm = Rowwise::new(site, norm, element, tokens, width)?;
        Ok(Self { norm, handle: Rc::clone(handle), attention, binding, _workspace: workspace, layers, gelu })
    }

    fn enqueue(&self, x: &Buffer, weights: &Flat, left: &Activations, stream: &Stream) -> Result<()> {
        let [qkv, out, up, down] = &self.layers;
        let normalise = |x: &Buffer, scale, shift, y: &Buffer, statistics: Option<&[Buffer; 2]>| {
            let mut buffers = vec![x, weights.of(scale), weights.of(shift), y];
            buffers.extend(statistics.into_iter().flatten());
            self.norm.run(&buffers, |arguments| arguments.f32(plain::EPSILON), stream)
        };
        let saved = left.saved.as_ref();
        normalise(x, Parameter::Scale1, Parameter::Shift1, &left.h1, saved.map(|saved| &saved.norm1))?;
        qkv.enqueue(stream)?;
        self.attention.launch(&self.handle, &self.binding, stream).map_err(refused)?;
        out.enqueue(stream)?;
        normalise(&left.y, Parameter::Scale2, Parameter::Shift2, &left.h2, saved.map(|saved| &saved.norm2))?;
        up.enqueue(stream)?;
        if let (Some(gelu), Some(saved)) = (&self.gelu, saved) {
            gelu.run(&[&saved.u, &left.f], stream)?;
        }
        down.enqueue(stream)
    }
}

/// What a training step has beside its forward pass.
#[derive(Debug)]
struct Training {
    /// Gradient of the output: an input here.
    dz: Buffer,
    dx: Buffer,
    gradients: Flat,
    /// Weights and both moments, single precision, flat.
    state: [Buffer; 3],
    /// Gradients of activations: the residual between the halves, one `[tokens, width]` after the other, Q, K and V, and the
    /// first layer's output after its activation, then before it.
    dy: Buffer,
    narrow: Buffer,
    dqkv: Buffer,
    wide: Buffer,
    attention: Backward,
    binding: Binding,
    _workspace: Buffer,
    /// Gradients of weights with biases, and of inputs, of `Qkv`, `Out`, `Up` and `Down`.
    layers: [[Multiply; 2]; 4],
    norm: LayernormBackward,
    gelu: Elementwise,
    add: Elementwise,
    adamw: Adamw,
}

impl Training {
    fn new(planner: &Planner<'_>, weights: &Flat, master: Buffer, left: &Activations, seed: u64) -> Result<Self> {
        let Planner { site, sizes, handle, .. } = planner;
        let sizes = *sizes;
        let Sizes { width, element, .. } = sizes;
        let tokens = sizes.tokens();
        let Some(saved) = &left.saved else { return work::refuse("a backward pass needs what the forward pass saves") };
        let room = |widths: usize| site.room(element, widths * tokens * width);
        let (dy, narrow, dqkv, wide) = (room(1)?, room(1)?, room(3)?, room(4)?);
        let dz = site.normal(element, tokens * width, seed, "dz")?;
        let total = Parameter::total(width);
        let gradients = Flat::new(site.constant(element, total, 0.0)?, element, width)?;
        let attention = Backward::new(handle, &interleaved(sizes)?).map_err(refused)?;
        let workspace = site.device.allocate(attention.workspace_bytes())?;
        let ([q, k, v], [grad_q, grad_k, grad_v]) = (thirds(&left.qkv, sizes), thirds(&dqkv, sizes));
        let addresses = Gradients {
            q,
            k,
            v,
            o: left.o.address(),
            grad_o: narrow.address(),
            stats: saved.attention.address(),
            grad_q,
            grad_k,
            grad_v,
        };
        let binding = attention.bind(&addresses, workspace.address()).map_err(refused)?;
        let of = |weight: Parameter, bias: Parameter| [gradients.of(weight), gradients.of(bias)];
        let (w_qkv, w_out) = (weights.of(Parameter::Qkv), weights.of(Parameter::Out));
        let (w_up, w_down) = (weights.of(Parameter::Up), weights.of(Parameter::Down));
        let (qkv, out) = (of(Parameter::Qkv, Parameter::QkvBias), of(Parameter::Out, Parameter::OutBias));
        let (up, down) = (of(Parameter::Up, Parameter::UpBias), of(Parameter::Down, Parameter::DownBias));
        let layers = [
            planner.backward([tokens, 3 * width, width], [&dqkv, &left.h1, w_qkv], qkv, &narrow)?,
            planner.backward([tokens, width, width], [&dy, &left.o, w_out], out, &narrow)?,
            planner.backward([tokens, 4 * width, width], [&wide, &left.h2, w_up], up, &narrow)?,
            planner.backward([tokens, width, 4 * width], [&dz, &left.f, w_down], down, &wide)?,
        ];
        let mut adamw = Adamw::new(site, element)?;
        adamw.settings = AdamwSettings { rate: RATE, ..AdamwSettings::default() };
        let moment = || site.constant(Element::F32, total, 0.0);
        Ok(Self {
            dz,
            dx: room(1)?,
            gradients,
            state: [master, moment()?, moment()?],
            dy,
            narrow,
            dqkv,
            wide,
            attention,
            binding,
            _workspace: workspace,
            layers,
            norm: LayernormBackward::new(site, element, tokens, width)?,
            gelu: Elementwise::new(site, "gelu_backward", element, 4 * tokens * width)?,
            add: Elementwise::new(site, "add", element, tokens * width)?,
            adamw,
        })
    }

    fn enqueue(
        &self,
        forward: &ForwardPass,
        x: &Buffer,
        weights: &Flat,
        left: &Activations,
        stream: &Stream,
    ) -> Result<()> {
        let Some(saved) = &left.saved else { return Ok(()) };
        let [qkv, out, up, down] = &self.layers;
        let layer = |[weights, input]: &[Multiply; 2]| {
            weights.enqueue(stream)?;
            input.enqueue(stream)
        };
        // In place: the gradient of a norm's output becomes that of its input.
        let norm = |x: &Buffer, scale, shift, [mean, rstd]: &[Buffer; 2]| {
            let parameters = [self.gradients.of(scale), self.gradients.of(shift)];
            let (dy, gamma, dx) = (&self.narrow, weights.of(scale), &self.narrow);
            self.norm.run(&LayernormGradients { x, dy, gamma, mean, rstd, dx, parameters }, stream)
        };
        layer(down)?;
        self.gelu.run(&[&saved.u, &self.wide, &self.wide], stream)?;
        layer(up)?;
        norm(&left.y, Parameter::Scale2, Parameter::Shift2, &saved.norm2)?;
        self.add.run(&[&self.dz, &self.narrow, &self.dy], stream)?;
        layer(out)?;
        self.attention.launch(&forward.handle, &self.binding, stream).map_err(refused)?;
        layer(qkv)?;
        norm(x, Parameter::Scale1, Parameter::Shift1, &saved.norm1)?;
        self.add.run(&[&self.dy, &self.narrow, &self.dx], stream)?;
        let [master, first, second] = &self.state;
        self.adamw.run([master, first, second, &self.gradients.whole, &weights.whole], stream)
    }
}

impl Block {
    fn new(site: &Site, sizes: Sizes, training: bool, seed: u64) -> Result<Self> {
        let Sizes { width, heads, element, .. } = sizes;
        if !width.is_multiple_of(heads) || !sizes.depth().is_multiple_of(8) {
            return work::refuse(format!(
                "{heads} heads cannot share a width of {width}: give heads of a multiple of 8 columns"
            ));
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

    /// Products may be two kernels, with the gradient of a bias three; cuDNN's backward pass is a handful.
    fn launches(&self) -> u32 {
        const FORWARD: u32 = 2 + 4 * 2 + 2;
        const BACKWARD: u32 = 4 * (3 + 2) + 2 * 2 + 2 + 8;
        if self.training.is_some() { FORWARD + 1 + BACKWARD + 1 + 1 } else { FORWARD }
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
        let forward = self.forward.norm.made.seconds + self.forward.gelu.as_ref().map_or(0.0, |gelu| gelu.made.seconds);
        let training = self.training.as_ref().map_or(0.0, |training| {
            let Training { norm, gelu, add, adamw, .. } = &**training;
            norm.seconds() + gelu.made.seconds + add.made.seconds + adamw.made.seconds
        });
        vec![(Metric::COMPILE_TIME, forward + training)]
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
        let Activations { h1, qkv, o, y, h2, f, z, saved } = &self.activations;
        let mut written = vec![h1, qkv, o, y, h2, f, z];
        written.extend(saved.iter().map(|saved| &saved.u));
        if let Some(training) = &self.training {
            let Training { dx, dy, narrow, dqkv, wide, gradients, .. } = &**training;
            written.extend([dx, dy, narrow, dqkv, wide]);
            // Between the parts there are zeros, which stay.
            written.extend(&gradients.parts);
        }
        written.into_iter().try_for_each(|buffer| buffer.fill(0xff, stream))
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

/// About twenty times what an H100 gave.
const fn tolerances(element: Element) -> Tolerances {
    match element {
        Element::F16 => Tolerances { along_itself: 2e-3, along_noise: 2e-2 },
        _ => Tolerances { along_itself: 1e-2, along_noise: 1e-1 },
    }
}
