//! What a transformer block enqueues, planned once: the forward pass, and the rest of a training step.
//!
//! Must not know how results are checked.

use std::rc::Rc;

use crate::backend::nvidia::blas::{Blas, Choice, Epilogue, Operands, Product, Shape};
use crate::backend::nvidia::cuda::{Buffer, Result, Stream};
use crate::backend::nvidia::cudnn::{self, Backward, Binding, Forward, Gradients, Handle, Layout};
use crate::backend::nvidia::kernels::{
    Adamw, AdamwSettings, Elementwise, LayernormBackward, LayernormGradients, Rowwise,
};
use crate::backend::nvidia::operator::attention::refused;
use crate::backend::nvidia::operator::block::parameters::{Flat, Parameter, Sizes};
use crate::backend::nvidia::work::{self, Element, Site};
use crate::backend::plain;

/// A step of AdamW moves a weight by half of this at most: by 0.001 in 100,000 steps, where weights are about 0.03.
pub const RATE: f32 = 1e-8;

/// What the forward pass leaves. For the backward pass, that includes the first layer's output before its activation, and the
/// statistics of both norms and of the attention.
#[derive(Debug)]
pub struct Activations {
    h1: Buffer,
    qkv: Buffer,
    o: Buffer,
    y: Buffer,
    h2: Buffer,
    f: Buffer,
    /// The output.
    pub z: Buffer,
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
    /// Room for them.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(site: &Site, sizes: Sizes, training: bool) -> Result<Self> {
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

    /// What every iteration writes.
    pub fn written(&self) -> Vec<&Buffer> {
        let Self { h1, qkv, o, y, h2, f, z, saved } = self;
        let mut written = vec![h1, qkv, o, y, h2, f, z];
        if let Some(Saved { u, norm1, norm2, attention }) = saved {
            written.extend([u, attention]);
            written.extend(norm1.iter().chain(norm2));
        }
        written
    }
}

/// A planned product with what it multiplies.
#[derive(Debug)]
pub struct Multiply {
    /// How.
    pub product: Product,
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
#[derive(Debug)]
pub struct Planner<'a> {
    /// Where.
    pub site: &'a Site,
    /// Of what sizes.
    pub sizes: Sizes,
    /// For products.
    pub blas: Rc<Blas>,
    /// For the attention.
    pub handle: Rc<Handle>,
}

impl Planner<'_> {
    fn plan(
        &self,
        [rows, columns, depth]: [usize; 3],
        transposed: [bool; 2],
        operands: [&Buffer; 3],
        epilogue: Option<(Epilogue, &Buffer)>,
        addend: Option<&Buffer>,
    ) -> Result<Multiply> {
        let shape = Shape {
            epilogue: epilogue.map_or(Epilogue::None, |(epilogue, _)| epilogue),
            beta: if addend.is_some() { 1.0 } else { 0.0 },
            ..Shape::plain(rows, columns, depth, self.sizes.element, transposed)
        };
        let [a, b, d] = operands.map(Buffer::address);
        let operands = Operands { a, b, d };
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

/// From x to z.
#[derive(Debug)]
pub struct ForwardPass {
    norm: Rowwise,
    handle: Rc<Handle>,
    /// cuDNN's.
    pub attention: Forward,
    binding: Binding,
    _workspace: Buffer,
    /// Of `Qkv`, `Out`, `Up` and `Down`.
    pub layers: [Multiply; 4],
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
    let long = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let [batch, seq, width, heads] = [sizes.batch, sizes.seq, sizes.width, sizes.heads].map(long);
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
    /// Kernels and copies of it, at most: products may be two each.
    pub const LAUNCHES: u32 = 2 + 4 * 2 + 2 + 1;

    /// Plans it.
    ///
    /// # Errors
    /// When a library has nothing for these sizes, or memory runs out.
    pub fn new(planner: &Planner<'_>, x: &Buffer, weights: &Flat, left: &Activations) -> Result<Self> {
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

    /// Enqueues it.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn enqueue(&self, x: &Buffer, weights: &Flat, left: &Activations, stream: &Stream) -> Result<()> {
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

    /// Compile time of our kernels, seconds.
    pub fn seconds(&self) -> f64 {
        self.norm.made.seconds + self.gelu.as_ref().map_or(0.0, |gelu| gelu.made.seconds)
    }
}

/// What a training step has beside its forward pass.
#[derive(Debug)]
pub struct Training {
    /// Gradient of the output: an input here.
    pub dz: Buffer,
    /// Gradient of the input.
    pub dx: Buffer,
    /// Gradients of the parameters.
    pub gradients: Flat,
    /// Weights and both moments, single precision, flat.
    pub state: [Buffer; 3],
    /// Gradients of activations: the residual between the halves, one `[tokens, width]` after the other, Q, K and V, and the
    /// first layer's output after its activation, then before it.
    dy: Buffer,
    narrow: Buffer,
    dqkv: Buffer,
    wide: Buffer,
    /// cuDNN's.
    pub attention: Backward,
    binding: Binding,
    _workspace: Buffer,
    /// Gradients of weights with biases, and of inputs, of `Qkv`, `Out`, `Up` and `Down`.
    pub layers: [[Multiply; 2]; 4],
    norm: LayernormBackward,
    gelu: Elementwise,
    add: Elementwise,
    /// The optimiser.
    pub adamw: Adamw,
}

impl Training {
    /// Kernels and copies of it, at most: products may be two each, with the gradient of a bias three; cuDNN's backward pass is a
    /// handful.
    pub const LAUNCHES: u32 = 4 * (3 + 2) + 2 * 2 + 1 + 2 + 8 + 1;

    /// Plans it. `master` are the weights in single precision, flat.
    ///
    /// # Errors
    /// When a library has nothing for these sizes, or memory runs out.
    pub fn new(planner: &Planner<'_>, weights: &Flat, master: Buffer, left: &Activations, seed: u64) -> Result<Self> {
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

    /// Enqueues it, behind the forward pass.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn enqueue(
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

    /// What every iteration writes anew. Between the parts of the gradients there are zeros, which stay.
    pub fn written(&self) -> Vec<&Buffer> {
        let Self { dx, dy, narrow, dqkv, wide, gradients, .. } = self;
        [dx, dy, narrow, dqkv, wide].into_iter().chain(&gradients.parts).collect()
    }

    /// Compile time of our kernels, seconds.
    pub fn seconds(&self) -> f64 {
        self.norm.seconds()
            + [&self.gelu.made, &self.add.made, &self.adamw.made].map(|made| made.seconds).iter().sum::<f64>()
    }
}
