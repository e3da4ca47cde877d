//! softmax(Q Kᵀ / √d) V: as three steps with the whole score matrix in memory, or fused through cuDNN; forward and backward,
//! full and causal, with grouped queries.
//!
//! Heads lie one behind the other: Q and O are `[batch, heads, seq, head_dim]`, K and V `[batch, kv_heads, seq, head_dim]`.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::blas::{Blas, Choice, Operands, Product, Shape};
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::cudnn::{self, Backward, Binding, Forward, Gradients, Handle, Layout, Scales};
use crate::backend::nvidia::kernels::Rowwise;
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Arithmetic, Element, Head, Site, Work};
use crate::backend::plain;
use crate::domain::{Check, Metric, Workload};
use crate::hardware::cuda::{self, Library};

/// Queries and keys of a head that are compared, and heads.
const COMPARED: usize = 8;
const HEADS: usize = 3;

/// Probabilities are at most 1: scaled so, they fill the range of an 8-bit element.
const SCALE_OF_PROBABILITIES: f32 = 256.0;

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    seq: usize,
    depth: usize,
    causal: bool,
    element: Element,
}

impl Sizes {
    fn scale(self) -> f32 {
        1.0 / (self.depth as f32).sqrt()
    }

    /// Elements of Q, O and their gradients.
    fn queries(self) -> usize {
        self.batch * self.heads * self.seq * self.depth
    }

    /// Elements of K, V and their gradients.
    fn keys(self) -> usize {
        self.batch * self.kv_heads * self.seq * self.depth
    }

    /// Elements of the score matrices.
    fn scores(self) -> usize {
        self.batch * self.heads * self.seq * self.seq
    }

    /// 4·D for each pair of a query and a key that it may see, two and a half times as much backward (the convention of the
    /// `FlashAttention` papers: five products against two).
    fn flops(self, backward: bool) -> f64 {
        let pairs = (self.batch * self.heads) as f64 * plain::seen(self.seq, self.causal);
        4.0 * pairs * self.depth as f64 * if backward { 2.5 } else { 1.0 }
    }
}

/// What an attention reads and writes.
#[derive(Debug)]
struct Tensors {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    o: Buffer,
    /// Gradients of O, Q, K and V, in a backward pass.
    slopes: Option<[Buffer; 4]>,
}

#[derive(Debug)]
struct Attention {
    sizes: Sizes,
    tensors: Tensors,
    engine: Engine,
    seed: u64,
}

#[derive(Debug)]
enum Engine {
    Naive(Box<Naive>),
    Fused(Box<Fused>),
}

/// Makes `attention`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let size = |name: &str| workload.size(name).map_err(CudaError::Parameter);
    let text = |name: &str| workload.text(name).map_err(CudaError::Parameter);
    let precision = text("precision")?;
    let element =
        Element::of(precision).ok_or_else(|| CudaError::Parameter(format!("no attention in `{precision}`")))?;
    let heads = size("heads")?;
    let kv_heads = workload.optional_size("kv_heads").map_err(CudaError::Parameter)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return work::refuse(format!("{heads} heads cannot share {kv_heads} heads of keys: give a divisor"));
    }
    let sizes = Sizes {
        batch: size("batch")?,
        heads,
        kv_heads,
        seq: size("seq")?,
        depth: size("head_dim")?,
        causal: workload.flag("causal").map_err(CudaError::Parameter)?,
        element,
    };
    // Everything else is smaller, or as large.
    work::elements(&[sizes.batch, sizes.heads, sizes.seq, sizes.depth])?;
    work::elements(&[sizes.batch, sizes.heads, sizes.seq, sizes.seq])?;
    let backward = text("pass")? == "backward";
    let fused = match text("implementation")? {
        "naive" => false,
        "fused" => true,
        other => return work::refuse(format!("the nvidia backend has no `{other}` attention: use naive or fused")),
    };
    if element == Element::E4m3 && (!fused || backward) {
        return work::refuse("attention in fp8-e4m3 is fused and forward only");
    }
    let tensors = Tensors::new(site, sizes, backward, seed)?;
    let engine = if fused {
        Engine::Fused(Box::new(Fused::new(site, sizes, &tensors)?))
    } else {
        Engine::Naive(Box::new(Naive::new(site, sizes, &tensors)?))
    };
    let mut attention = Attention { sizes, tensors, engine, seed };
    if backward {
        // The backward pass reads what the forward pass leaves.
        attention.forward(&site.stream)?;
        site.stream.synchronize()?;
    }
    Ok(Box::new(attention))
}

impl Tensors {
    fn new(site: &Site, sizes: Sizes, backward: bool, seed: u64) -> Result<Self> {
        let element = sizes.element;
        let slopes = if backward {
            Some([
                site.normal(element, sizes.queries(), seed, "slope")?,
                site.room(element, sizes.queries())?,
                site.room(element, sizes.keys())?,
                site.room(element, sizes.keys())?,
            ])
        } else {
            None
        };
        Ok(Self {
            q: site.normal(element, sizes.queries(), seed, "q")?,
            k: site.normal(element, sizes.keys(), seed, "k")?,
            v: site.normal(element, sizes.keys(), seed, "v")?,
            o: site.room(element, sizes.queries())?,
            slopes,
        })
    }
}

/// Scores, softmax, sum: each a kernel, the score matrix in memory between them.
#[derive(Debug)]
struct Naive {
    scores: Buffer,
    softmax: Rowwise,
    score: Product,
    sum: Product,
    back: Option<NaiveBack>,
}

#[derive(Debug)]
struct NaiveBack {
    /// Gradients of the probabilities, then of the scores.
    slopes: Buffer,
    softmax: Rowwise,
    /// Of the probabilities, V, Q and K.
    products: [Product; 4],
}

impl Naive {
    fn new(site: &Site, sizes: Sizes, tensors: &Tensors) -> Result<Self> {
        let blas = Blas::open(&site.device)?;
        let Sizes { seq, depth, element, .. } = sizes;
        let rows = sizes.batch * sizes.heads * seq;
        // Queries that share keys are rows of one product.
        let (m, batch) = (sizes.heads / sizes.kv_heads * seq, sizes.batch * sizes.kv_heads);
        let scores = site.room(element, sizes.scores())?;
        let plan = |m: usize, n: usize, k: usize, transposed: [bool; 2], a: &Buffer, b: &Buffer, d: &Buffer| {
            let shape = Shape { batch, ..Shape::plain(m, n, k, element, transposed) };
            let operands = Operands { a: a.address(), b: b.address(), d: d.address() };
            Product::new(&blas, &shape, None, Choice::Heuristic, &operands, &site.stream)
        };
        let score = plan(m, seq, depth, [false, true], &tensors.q, &tensors.k, &scores)?;
        let sum = plan(m, depth, seq, [false, false], &scores, &tensors.v, &tensors.o)?;
        let back = match &tensors.slopes {
            None => None,
            Some([d_o, dq, dk, dv]) => {
                let slopes = site.room(element, sizes.scores())?;
                Some(NaiveBack {
                    softmax: Rowwise::new(site, "softmax_backward", element, rows, seq)?,
                    products: [
                        plan(m, seq, depth, [false, true], d_o, &tensors.v, &slopes)?,
                        plan(seq, depth, m, [true, false], &scores, d_o, dv)?,
                        plan(m, depth, seq, [false, false], &slopes, &tensors.k, dq)?,
                        plan(seq, depth, m, [true, false], &slopes, &tensors.q, dk)?,
                    ],
                    slopes,
                })
            }
        };
        Ok(Self { scores, softmax: Rowwise::new(site, "softmax_scaled", element, rows, seq)?, score, sum, back })
    }

    fn forward(&self, sizes: Sizes, tensors: &Tensors, stream: &Stream) -> Result<()> {
        let scores = self.scores.address();
        self.score.enqueue(&Operands { a: tensors.q.address(), b: tensors.k.address(), d: scores }, stream)?;
        self.softmax.run(
            &[&self.scores, &self.scores],
            |arguments| arguments.f32(sizes.scale()).u32(u32::from(sizes.causal)),
            stream,
        )?;
        self.sum.enqueue(&Operands { a: scores, b: tensors.v.address(), d: tensors.o.address() }, stream)
    }

    fn backward(&self, sizes: Sizes, tensors: &Tensors, stream: &Stream) -> Result<()> {
        let (Some(back), Some([d_o, dq, dk, dv])) = (&self.back, &tensors.slopes) else { return Ok(()) };
        let [probabilities, value, query, key] = &back.products;
        let (weights, slopes) = (self.scores.address(), back.slopes.address());
        value.enqueue(&Operands { a: weights, b: d_o.address(), d: dv.address() }, stream)?;
        probabilities.enqueue(&Operands { a: d_o.address(), b: tensors.v.address(), d: slopes }, stream)?;
        let buffers = [&self.scores, &back.slopes, &back.slopes];
        back.softmax.run(&buffers, |arguments| arguments.f32(sizes.scale()), stream)?;
        query.enqueue(&Operands { a: slopes, b: tensors.k.address(), d: dq.address() }, stream)?;
        key.enqueue(&Operands { a: slopes, b: tensors.q.address(), d: dk.address() }, stream)
    }
}

/// One kernel, or a few, that cuDNN makes.
#[derive(Debug)]
struct Fused {
    handle: Rc<Handle>,
    forward: Forward,
    forward_binding: Binding,
    back: Option<(Backward, Binding)>,
    _workspace: Buffer,
    _stats: Option<Buffer>,
    _scales: Option<Buffer>,
}

/// An error of cuDNN's as ours.
pub fn refused(error: cudnn::Error) -> CudaError {
    match error {
        cudnn::Error::Shape(_) | cudnn::Error::NoEngine(_) | cudnn::Error::Wrong(_) => {
            CudaError::Parameter(error.to_string())
        }
        error => CudaError::Library { call: "cuDNN", text: error.to_string() },
    }
}

/// The library's handle for the device that is current.
///
/// # Errors
/// Where the library is absent.
pub fn handle() -> Result<Rc<Handle>> {
    cuda::need(Library::Cudnn)
        .map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
    Handle::open().map(Rc::new).map_err(refused)
}

impl Fused {
    fn new(site: &Site, sizes: Sizes, tensors: &Tensors) -> Result<Self> {
        let handle = handle()?;
        let element = match sizes.element {
            Element::Bf16 => cudnn::Element::Bf16,
            Element::F16 => cudnn::Element::F16,
            Element::E4m3 => cudnn::Element::Fp8E4m3,
            other => return work::refuse(format!("fused attention has no {other:?}")),
        };
        let long = |size: usize| size as i64;
        let shape = cudnn::Shape {
            causal: sizes.causal,
            scale: sizes.scale(),
            ..cudnn::Shape::packed(
                long(sizes.batch),
                long(sizes.heads),
                long(sizes.kv_heads),
                long(sizes.seq),
                long(sizes.depth),
                element,
                Layout::Bhsd,
            )
        };
        let forward = Forward::new(&handle, &shape, tensors.slopes.is_some()).map_err(refused)?;
        let back = match tensors.slopes {
            Some(_) => Some(Backward::new(&handle, &shape).map_err(refused)?),
            None => None,
        };
        let bytes = forward.workspace_bytes().max(back.as_ref().map_or(0, Backward::workspace_bytes));
        let workspace = site.device.allocate(bytes)?;
        let stats = match back {
            Some(_) => Some(site.room(Element::F32, shape.stats_len())?),
            None => None,
        };
        let scales = match sizes.element {
            // Inputs are normal values as they are; probabilities fill the range; the largest of each is written behind.
            Element::E4m3 => Some(site.device.upload(&[
                1.0_f32,
                1.0,
                1.0,
                1.0 / SCALE_OF_PROBABILITIES,
                SCALE_OF_PROBABILITIES,
                1.0,
                0.0,
                0.0,
            ])?),
            _ => None,
        };
        let numbers = scales.as_ref().map(|scales| {
            let at = |place: u64| scales.address() + 4 * place;
            Scales {
                descale_q: at(0),
                descale_k: at(1),
                descale_v: at(2),
                descale_s: at(3),
                scale_s: at(4),
                scale_o: at(5),
                amax_s: at(6),
                amax_o: at(7),
            }
        });
        let [q, k, v, o] = [&tensors.q, &tensors.k, &tensors.v, &tensors.o].map(Buffer::address);
        let stats_at = stats.as_ref().map(Buffer::address);
        let forward_binding =
            forward.bind(q, k, v, o, stats_at, numbers.as_ref(), workspace.address()).map_err(refused)?;
        let back = match (back, &tensors.slopes) {
            (Some(back), Some(slopes)) => {
                let [grad_o, grad_q, grad_k, grad_v] = slopes.each_ref().map(Buffer::address);
                let stats = stats_at.unwrap_or(0);
                let gradients = Gradients { q, k, v, o, grad_o, stats, grad_q, grad_k, grad_v };
                let binding = back.bind(&gradients, workspace.address()).map_err(refused)?;
                Some((back, binding))
            }
            _ => None,
        };
        Ok(Self { handle, forward, forward_binding, back, _workspace: workspace, _stats: stats, _scales: scales })
    }
}

impl Attention {
    fn forward(&mut self, stream: &Stream) -> Result<()> {
        match &self.engine {
            Engine::Naive(naive) => naive.forward(self.sizes, &self.tensors, stream),
            Engine::Fused(fused) => {
                fused.forward.launch(&fused.handle, &fused.forward_binding, stream).map_err(refused)
            }
        }
    }

    fn backward(&mut self, stream: &Stream) -> Result<()> {
        match &self.engine {
            Engine::Naive(naive) => naive.backward(self.sizes, &self.tensors, stream),
            Engine::Fused(fused) => match &fused.back {
                Some((back, binding)) => back.launch(&fused.handle, binding, stream).map_err(refused),
                None => Ok(()),
            },
        }
    }

    /// Head `head` of sequence `batch`, for the reference.
    fn head(&self, batch: usize, head: usize) -> Head<'_> {
        let Sizes { heads, kv_heads, seq, depth, .. } = self.sizes;
        let kv_head = head / (heads / kv_heads);
        Head {
            q: &self.tensors.q,
            k: &self.tensors.k,
            v: &self.tensors.v,
            slope: self.tensors.slopes.as_ref().map(|slopes| &slopes[0]),
            element: self.sizes.element,
            offsets: [(batch * heads + head) * seq * depth, (batch * kv_heads + kv_head) * seq * depth],
            length: seq,
            depth,
            scale: 1.0 / (depth as f64).sqrt(),
            causal: self.sizes.causal,
        }
    }

    /// Elements of rows of a head in one of the buffers.
    fn rows(&self, site: &Site, buffer: &Buffer, offset: usize, rows: &[u64]) -> Result<Vec<f64>> {
        let depth = self.sizes.depth as u64;
        let places: Vec<u64> =
            rows.iter().flat_map(|row| (0..depth).map(move |d| offset as u64 + row * depth + d)).collect();
        site.gather(buffer, self.sizes.element, &places)
    }
}

impl Work for Attention {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        if self.tensors.slopes.is_some() { self.backward(stream) } else { self.forward(stream) }
    }

    fn launches(&self) -> u32 {
        // Products may be two kernels; cuDNN's backward pass is a handful.
        match (&self.engine, &self.tensors.slopes) {
            (Engine::Naive(_), None) => 5,
            (Engine::Naive(_), Some(_)) => 9,
            (Engine::Fused(_), None) => 2,
            (Engine::Fused(_), Some(_)) => 8,
        }
    }

    /// Q, K, V and O moved once, in a backward pass with their gradients: what a fused kernel must move.
    fn counts(&self) -> WorkCounts {
        let backward = self.tensors.slopes.is_some();
        let elements = 2 * self.sizes.queries() + 2 * self.sizes.keys();
        let bytes = elements * self.sizes.element.bytes() * if backward { 2 } else { 1 };
        WorkCounts { flops: Some(self.sizes.flops(backward)), bytes: Some(bytes as f64), items: None }
    }

    fn arithmetic(&self) -> Option<Arithmetic> {
        Some(match self.sizes.element {
            Element::F32 => Arithmetic::Fp32,
            Element::E4m3 => Arithmetic::Fp8,
            _ => Arithmetic::Half,
        })
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        let Sizes { batch, heads, kv_heads, seq, depth, .. } = self.sizes;
        if depth > Site::MOST_DEPTH {
            return work::refuse(format!("the reference holds heads of at most {} columns", Site::MOST_DEPTH));
        }
        self.tensors.o.fill(0xff, stream)?;
        for slope in self.tensors.slopes.iter().flat_map(|slopes| &slopes[1..]) {
            slope.fill(0xff, stream)?;
        }
        once(stream, |stream| self.forward(stream))?;
        once(stream, |stream| self.backward(stream))?;
        let backward = self.tensors.slopes.is_some();
        let places = work::picks(self.seed, "places", COMPARED, seq);
        let mut compared: [[Vec<f64>; 2]; 4] = Default::default();
        for group in work::picks(self.seed, "groups", HEADS, batch * kv_heads) {
            let (sequence, kv_head) = (group as usize / kv_heads, group as usize % kv_heads);
            let [dk, dv] = [(); 2].map(|()| site.constant(Element::F64, places.len() * depth, 0.0));
            let (dk, dv) = (dk?, dv?);
            let shared = heads / kv_heads;
            let mut kv_offset = 0;
            for head in kv_head * shared..(kv_head + 1) * shared {
                let head = self.head(sequence, head);
                kv_offset = head.offsets[1];
                let ([output, slope], sums) = site.attention_queries(&head, &places)?;
                compared[0][0].extend(self.rows(site, &self.tensors.o, head.offsets[0], &places)?);
                compared[0][1].extend(output);
                if let Some([_, dq, ..]) = &self.tensors.slopes {
                    compared[1][0].extend(self.rows(site, dq, head.offsets[0], &places)?);
                    compared[1][1].extend(slope);
                    site.attention_keys(&head, &sums, &places, [&dk, &dv])?;
                }
            }
            if let Some([_, _, got_k, got_v]) = &self.tensors.slopes {
                compared[2][0].extend(self.rows(site, got_k, kv_offset, &places)?);
                compared[2][1].extend(dk.read::<f64>()?);
                compared[3][0].extend(self.rows(site, got_v, kv_offset, &places)?);
                compared[3][1].extend(dv.read::<f64>()?);
            }
        }
        let names = ["output", "gradient of Q", "gradient of K", "gradient of V"];
        let many = if backward { 4 } else { 1 };
        Ok(names
            .iter()
            .zip(&compared)
            .take(many)
            .map(|(name, [got, want])| {
                Check::new(name, "loops in f64 on the device", work::error(got, want), self.sizes.element.tolerance())
            })
            .collect())
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        match &self.engine {
            Engine::Naive(naive) => {
                let back = naive.back.as_ref().map_or(0.0, |back| back.softmax.made.seconds);
                vec![(Metric::COMPILE_TIME, naive.softmax.made.seconds + back)]
            }
            Engine::Fused(_) => Vec::new(),
        }
    }

    fn facts(&self) -> BTreeMap<String, Json> {
        let mut facts = BTreeMap::new();
        match &self.engine {
            Engine::Naive(naive) => {
                facts.insert("algorithm".to_owned(), json!([naive.score.algorithm(), naive.sum.algorithm()]));
                facts.insert("cublaslt".to_owned(), json!(Library::CublasLt.version()));
            }
            Engine::Fused(fused) => {
                facts.insert("engine".to_owned(), json!(fused.forward.engine()));
                if let Some((back, _)) = &fused.back {
                    facts.insert("engine_backward".to_owned(), json!(back.engine()));
                }
                facts.insert("cudnn".to_owned(), json!(Library::Cudnn.version()));
            }
        }
        facts
    }
}
