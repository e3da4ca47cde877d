//! Fused scaled-dot-product attention through cuDNN's graph API, the calls whose names start with `cudnnBackend`.
//!
//! One describes attention as a graph of small operations (products of matrices, pointwise operations, reductions over
//! tensors that exist in name only) and cuDNN finds an engine that runs all of it as one or a few kernels. Which graphs it
//! knows is part of its contract in practice: the order of operations below is the one NVIDIA's own front end uses, and a
//! graph that means the same but looks different finds no engine. (The single operation `SDPA_FWD` takes no causal mask
//! before cuDNN 9.21 and no 8-bit elements in 9.19, and is no faster.)
//!
//! A plan is built once ([`Forward::new`], [`Backward::new`]: up to a second, kernels are compiled) and run many times.
//! `launch` allocates nothing on the device and does not synchronise, so a CUDA graph can capture it. Addresses are bound once
//! ([`Forward::bind`]), which leaves `launch` nothing to do but cuDNN's own launch.
//!
//! A plan belongs to the device that was current when it was built, and to one thread at a time.

use std::fmt;

use cudarc::cudnn::sys::{
    cudnnDataType_t as DataType, cudnnPointwiseMode_t as Mode, cudnnReduceTensorOp_t as Reduction,
};

use crate::backend::nvidia::cuda::Stream;
use crate::backend::nvidia::cudnn::graph::{FLOAT, Graph, Plan, Port, Tensor, packed, sound, version};

mod graph;

pub use graph::{Binding, Handle};

/// Elements of Q, K, V and O. Arithmetic inside is f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit floats, four exponent bits, with one scale a tensor ([`Scales`]). Forward only.
    Fp8E4m3,
}

impl Element {
    fn data_type(self) -> DataType {
        match self {
            Self::F16 => DataType::CUDNN_DATA_HALF,
            Self::Bf16 => DataType::CUDNN_DATA_BFLOAT16,
            Self::Fp8E4m3 => DataType::CUDNN_DATA_FP8_E4M3,
        }
    }
}

/// What is computed: `softmax(scale * Q K^T) V`, with the causal mask if asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Sequences.
    pub batch: i64,
    /// Heads of Q and O.
    pub heads: i64,
    /// Heads of K and V; fewer than `heads` is grouped-query attention, and `heads` is a multiple of it.
    pub kv_heads: i64,
    /// Queries in a sequence.
    pub seq_q: i64,
    /// Keys in a sequence.
    pub seq_kv: i64,
    /// Width of a head, the same for Q, K, V and O; a multiple of 8 (of 16 in 8 bits).
    pub head_dim: i64,
    /// Query `i` sees keys `0..=i` only (the mask starts in the top left corner where the lengths differ).
    pub causal: bool,
    /// Elements of Q, K, V, O and of their gradients.
    pub element: Element,
    /// What the scores are multiplied by, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Distances between neighbours of Q (and of its gradient) in elements, for batch, head, sequence and width; the last is 1.
    pub q_strides: [i64; 4],
    /// The same for K.
    pub k_strides: [i64; 4],
    /// The same for V.
    pub v_strides: [i64; 4],
    /// The same for O.
    pub o_strides: [i64; 4],
}

/// How a tensor lies in memory, outermost dimension first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Batch, head, sequence, width: each head's rows are contiguous.
    Bhsd,
    /// Batch, sequence, head, width: as a projection leaves them.
    Bshd,
}

impl Layout {
    /// Strides of a packed tensor, in the order batch, head, sequence, width.
    #[must_use]
    pub fn strides(self, heads: i64, seq: i64, width: i64) -> [i64; 4] {
        match self {
            Self::Bhsd => [heads * seq * width, seq * width, width, 1],
            Self::Bshd => [seq * heads * width, width, heads * width, 1],
        }
    }
}

impl Shape {
    /// Attention of a sequence to itself with packed tensors and the usual scale.
    #[must_use]
    pub fn packed(
        batch: i64,
        heads: i64,
        kv_heads: i64,
        seq: i64,
        width: i64,
        element: Element,
        layout: Layout,
    ) -> Self {
        let (outer, inner) = (layout.strides(heads, seq, width), layout.strides(kv_heads, seq, width));
        Self {
            batch,
            heads,
            kv_heads,
            seq_q: seq,
            seq_kv: seq,
            head_dim: width,
            causal: false,
            element,
            scale: 1.0 / (width as f32).sqrt(),
            q_strides: outer,
            k_strides: inner,
            v_strides: inner,
            o_strides: outer,
        }
    }

    /// Elements of the statistics that the forward pass saves for the backward pass: f32, one a query, packed as batch,
    /// head, sequence.
    #[must_use]
    pub fn stats_len(&self) -> usize {
        usize::try_from(self.batch * self.heads * self.seq_q).unwrap_or(0)
    }

    fn check(&self) -> Result<(), Error> {
        let sizes = [self.batch, self.heads, self.kv_heads, self.seq_q, self.seq_kv, self.head_dim];
        if sizes.iter().any(|&size| size < 1) {
            return Err(Error::Shape(format!("every size must be at least 1, not {sizes:?}")));
        }
        if self.heads % self.kv_heads != 0 {
            let Self { heads, kv_heads, .. } = self;
            return Err(Error::Shape(format!("{heads} heads do not divide among {kv_heads} of keys and values")));
        }
        let strides = [self.q_strides, self.k_strides, self.v_strides, self.o_strides];
        if strides.iter().any(|strides| strides[3] != 1) {
            return Err(Error::Shape("elements of a row must be neighbours: the last stride is 1".to_owned()));
        }
        Ok(())
    }

    fn query(&self) -> [i64; 4] {
        [self.batch, self.heads, self.seq_q, self.head_dim]
    }

    fn key(&self) -> [i64; 4] {
        [self.batch, self.kv_heads, self.seq_kv, self.head_dim]
    }

    /// Of K, and of V in the backward pass, cuDNN wants the transposed view.
    fn key_transposed(&self) -> [i64; 4] {
        [self.batch, self.kv_heads, self.head_dim, self.seq_kv]
    }

    fn scores(&self) -> [i64; 4] {
        [self.batch, self.heads, self.seq_q, self.seq_kv]
    }

    fn rows(&self) -> [i64; 4] {
        [self.batch, self.heads, self.seq_q, 1]
    }
}

/// Why attention could not be planned or run.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// A call of cuDNN failed.
    Call {
        /// The function, with the attribute where it sets or reads one.
        call: String,
        /// The descriptor it was about.
        descriptor: String,
        /// The status by name.
        status: String,
        /// What cuDNN says of the status (`cudnnGetErrorString`).
        text: String,
        /// What cuDNN says of this failure (`cudnnGetLastErrorString`).
        detail: String,
    },
    /// No engine takes this attention; each reason heard on the way, in order.
    NoEngine(Vec<String>),
    /// The shape makes no sense.
    Shape(String),
    /// This version of cuDNN has an engine, but its results are known to be wrong.
    Wrong(&'static str),
    /// A run lacked an address that the plan needs.
    Missing(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { call, descriptor, status, text, detail } => {
                write!(f, "{call} on {descriptor}: {status} ({text})")?;
                if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
            }
            Self::NoEngine(reasons) => write!(f, "cuDNN has no engine for this attention: {}", reasons.join("; ")),
            Self::Shape(what) => write!(f, "not a shape of attention: {what}"),
            Self::Wrong(why) => write!(f, "this cuDNN ({}) must not be used: {why}", version()),
            Self::Missing(what) => write!(f, "the plan needs the address of {what}"),
        }
    }
}

impl std::error::Error for Error {}
/// Device addresses of the numbers that go with 8-bit tensors, one f32 each.
///
/// A tensor's values are its 8-bit elements times its descale; its elements are its values times its scale.
#[derive(Debug, Clone, Copy)]
pub struct Scales {
    /// Of Q.
    pub descale_q: u64,
    /// Of K.
    pub descale_k: u64,
    /// Of V.
    pub descale_v: u64,
    /// Of the probabilities, as the second product reads them.
    pub descale_s: u64,
    /// Of the probabilities, as they are rounded to 8 bits.
    pub scale_s: u64,
    /// Of O.
    pub scale_o: u64,
    /// Written: the largest probability.
    pub amax_s: u64,
    /// Written: the largest value of O before it is scaled.
    pub amax_o: u64,
}

/// The forward pass.
pub struct Forward {
    plan: Plan,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forward").field(&self.plan.engine).finish()
    }
}

impl Forward {
    /// Plans the forward pass; with `save_stats` it also writes what [`Backward`] needs.
    ///
    /// # Errors
    ///
    /// When the shape makes no sense or cuDNN has no engine for it.
    pub fn new(handle: &Handle, shape: &Shape, save_stats: bool) -> Result<Self, Error> {
        shape.check()?;
        sound()?;
        let mut graph = Graph::default();
        forward(&mut graph, shape, save_stats)?;
        Ok(Self { plan: graph.plan(handle)? })
    }

    /// Bytes of device memory that a run needs for itself, at an address that is a multiple of 256.
    #[must_use]
    pub fn workspace_bytes(&self) -> usize {
        self.plan.workspace
    }

    /// The library's version, the engine and its knobs, as text to keep beside a measurement.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.plan.engine
    }

    /// Addresses of device memory for later launches. Tensors start at multiples of 16 bytes; `stats` is for plans that
    /// save them and `scales` for 8-bit ones.
    ///
    /// # Errors
    ///
    /// When an address that the plan needs is missing.
    #[allow(clippy::too_many_arguments, reason = "addresses, each with its own name")]
    pub fn bind(
        &self,
        q: u64,
        k: u64,
        v: u64,
        o: u64,
        stats: Option<u64>,
        scales: Option<&Scales>,
        workspace: u64,
    ) -> Result<Binding, Error> {
        let stats = stats.unwrap_or(0);
        let mut addresses = vec![(Port::Q, q), (Port::K, k), (Port::V, v), (Port::O, o), (Port::Stats, stats)];
        if let Some(scales) = scales {
            addresses.extend([
                (Port::DescaleQ, scales.descale_q),
                (Port::DescaleK, scales.descale_k),
                (Port::DescaleV, scales.descale_v),
                (Port::DescaleS, scales.descale_s),
                (Port::ScaleS, scales.scale_s),
                (Port::ScaleO, scales.scale_o),
                (Port::AmaxS, scales.amax_s),
                (Port::AmaxO, scales.amax_o),
            ]);
        }
        self.plan.bind(&addresses, workspace)
    }

    /// Enqueues the work on a stream. Nothing is allocated, and the host does not wait.
    ///
    /// # Errors
    ///
    /// When cuDNN refuses the launch.
    pub fn launch(&self, handle: &Handle, binding: &Binding, stream: &Stream) -> Result<(), Error> {
        self.plan.execute(handle, binding, stream)
    }
}

/// The backward pass: gradients of Q, K and V from that of O, recomputing the probabilities.
///
/// Gradients have the strides of what they are gradients of.
pub struct Backward {
    plan: Plan,
}

impl fmt::Debug for Backward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backward").field(&self.plan.engine).finish()
    }
}

/// Device addresses that the backward pass reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Gradients {
    /// Read: Q as the forward pass read it.
    pub q: u64,
    /// Read: K likewise.
    pub k: u64,
    /// Read: V likewise.
    pub v: u64,
    /// Read: O as the forward pass wrote it.
    pub o: u64,
    /// Read: the gradient of O.
    pub grad_o: u64,
    /// Read: the statistics as the forward pass wrote them.
    pub stats: u64,
    /// Written: the gradient of Q.
    pub grad_q: u64,
    /// Written: the gradient of K.
    pub grad_k: u64,
    /// Written: the gradient of V.
    pub grad_v: u64,
}

impl Backward {
    /// Plans the backward pass, for 16-bit elements.
    ///
    /// # Errors
    ///
    /// When the shape makes no sense or cuDNN has no engine for it.
    pub fn new(handle: &Handle, shape: &Shape) -> Result<Self, Error> {
        shape.check()?;
        if shape.element == Element::Fp8E4m3 {
            return Err(Error::Shape("the backward pass takes 16-bit elements".to_owned()));
        }
        sound()?;
        if version() <= 91_500 && shape.seq_kv % 128 != 0 {
            return Err(Error::Wrong("up to 9.15.0, gradients are right only for a multiple of 128 keys"));
        }
        let mut graph = Graph::default();
        backward(&mut graph, shape)?;
        Ok(Self { plan: graph.plan(handle)? })
    }

    /// Bytes of device memory that a run needs for itself, at an address that is a multiple of 256.
    #[must_use]
    pub fn workspace_bytes(&self) -> usize {
        self.plan.workspace
    }

    /// The library's version, the engine and its knobs, as text to keep beside a measurement.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.plan.engine
    }

    /// Addresses of device memory for later launches. Tensors start at multiples of 16 bytes.
    ///
    /// # Errors
    ///
    /// When an address that the plan needs is missing.
    pub fn bind(&self, tensors: &Gradients, workspace: u64) -> Result<Binding, Error> {
        let addresses = [
            (Port::Q, tensors.q),
            (Port::K, tensors.k),
            (Port::V, tensors.v),
            (Port::O, tensors.o),
            (Port::Stats, tensors.stats),
            (Port::GradO, tensors.grad_o),
            (Port::GradQ, tensors.grad_q),
            (Port::GradK, tensors.grad_k),
            (Port::GradV, tensors.grad_v),
        ];
        self.plan.bind(&addresses, workspace)
    }

    /// Enqueues the work on a stream. Nothing is allocated, and the host does not wait.
    ///
    /// # Errors
    ///
    /// When cuDNN refuses the launch.
    pub fn launch(&self, handle: &Handle, binding: &Binding, stream: &Stream) -> Result<(), Error> {
        self.plan.execute(handle, binding, stream)
    }
}
/// Strides of the transposed view.
fn transposed([batch, head, row, column]: [i64; 4]) -> [i64; 4] {
    [batch, head, column, row]
}

fn forward(graph: &mut Graph, shape: &Shape, save_stats: bool) -> Result<(), Error> {
    let element = shape.element.data_type();
    let eight_bits = shape.element == Element::Fp8E4m3;
    let q = graph.outside(Port::Q, shape.query(), shape.q_strides, element)?;
    let k = graph.outside(Port::K, shape.key_transposed(), transposed(shape.k_strides), element)?;
    let v = graph.outside(Port::V, shape.key(), shape.v_strides, element)?;
    let o = graph.outside(Port::O, shape.query(), shape.o_strides, element)?;

    let scores = graph.matmul(q, k, shape.scores(), FLOAT)?;
    let scale = graph.scalar(shape.scale)?;
    let mut scores = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[scores, scale])?;
    if eight_bits {
        for port in [Port::DescaleQ, Port::DescaleK] {
            let descale = graph.number(port)?;
            scores = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[scores, descale])?;
        }
    }
    if shape.causal {
        scores = graph.causal(scores)?;
    }

    let largest = graph.reduce(Reduction::CUDNN_REDUCE_TENSOR_MAX, scores, shape.rows())?;
    let shifted = graph.pointwise(Mode::CUDNN_POINTWISE_SUB, &[scores, largest])?;
    let powers = graph.pointwise(Mode::CUDNN_POINTWISE_EXP, &[shifted])?;
    let sum = graph.reduce(Reduction::CUDNN_REDUCE_TENSOR_ADD, powers, shape.rows())?;
    // The logarithm of the sum of exponentials: all the backward pass needs to have the probabilities again. The engines
    // expect these two operations even where nobody reads the result.
    let logarithm = graph.pointwise(Mode::CUDNN_POINTWISE_LOG, &[sum])?;
    let stats = if save_stats {
        graph.outside(Port::Stats, shape.rows(), packed(shape.rows()), FLOAT)?
    } else {
        graph.inside(shape.rows(), FLOAT)?
    };
    graph.pointwise_into(Mode::CUDNN_POINTWISE_ADD, FLOAT, &[largest, logarithm], stats)?;

    if !eight_bits {
        // The second product takes its left operand in the type of the right one.
        let probabilities = graph.inside(shape.scores(), element)?;
        graph.pointwise_into(Mode::CUDNN_POINTWISE_DIV, FLOAT, &[powers, sum], probabilities)?;
        return graph.matmul_into(probabilities, v, o);
    }

    let probabilities = graph.pointwise(Mode::CUDNN_POINTWISE_DIV, &[powers, sum])?;
    let amax_s = graph.number(Port::AmaxS)?;
    graph.reduce_into(Reduction::CUDNN_REDUCE_TENSOR_AMAX, probabilities, amax_s)?;
    let scale_s = graph.number(Port::ScaleS)?;
    let rounded = graph.inside(shape.scores(), element)?;
    graph.pointwise_into(Mode::CUDNN_POINTWISE_MUL, FLOAT, &[probabilities, scale_s], rounded)?;
    let mut output = graph.matmul(rounded, v, shape.query(), FLOAT)?;
    for port in [Port::DescaleS, Port::DescaleV] {
        let descale = graph.number(port)?;
        output = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[output, descale])?;
    }
    let scale_o = graph.number(Port::ScaleO)?;
    graph.pointwise_into(Mode::CUDNN_POINTWISE_MUL, FLOAT, &[output, scale_o], o)?;
    let amax_o = graph.number(Port::AmaxO)?;
    graph.reduce_into(Reduction::CUDNN_REDUCE_TENSOR_AMAX, output, amax_o)
}

fn backward(graph: &mut Graph, shape: &Shape) -> Result<(), Error> {
    let element = shape.element.data_type();
    let q = graph.outside(Port::Q, shape.query(), shape.q_strides, element)?;
    let k = graph.outside(Port::K, shape.key_transposed(), transposed(shape.k_strides), element)?;
    let v = graph.outside(Port::V, shape.key_transposed(), transposed(shape.v_strides), element)?;
    let o = graph.outside(Port::O, shape.query(), shape.o_strides, element)?;
    let grad_o = graph.outside(Port::GradO, shape.query(), shape.o_strides, element)?;
    let stats = graph.outside(Port::Stats, shape.rows(), packed(shape.rows()), FLOAT)?;
    let grad_q = graph.outside(Port::GradQ, shape.query(), shape.q_strides, element)?;
    let grad_k = graph.outside(Port::GradK, shape.key(), shape.k_strides, element)?;
    let grad_v = graph.outside(Port::GradV, shape.key(), shape.v_strides, element)?;

    // A kernel of its own runs this part first, so the sums lie in memory. The factor is where dropout would go.
    let products = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[grad_o, o])?;
    let sums = graph.reduce(Reduction::CUDNN_REDUCE_TENSOR_ADD, products, shape.rows())?;
    let one = graph.scalar(1.0)?;
    let row_sums = graph.scratch(shape.rows())?;
    graph.pointwise_into(Mode::CUDNN_POINTWISE_MUL, FLOAT, &[sums, one], row_sums)?;

    // The probabilities again, and the gradient of V.
    let scores = graph.matmul(q, k, shape.scores(), FLOAT)?;
    let scale = graph.scalar(shape.scale)?;
    let scores = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[scores, scale])?;
    let mut shifted = graph.pointwise(Mode::CUDNN_POINTWISE_SUB, &[scores, stats])?;
    if shape.causal {
        shifted = graph.causal(shifted)?;
    }
    let probabilities = graph.pointwise(Mode::CUDNN_POINTWISE_EXP, &[shifted])?;
    let turned = graph.transpose(probabilities, element)?;
    fold(graph, shape, turned, grad_o, grad_v)?;

    // The gradient of the scores, and of K.
    let grad = graph.matmul(grad_o, v, shape.scores(), FLOAT)?;
    let grad = graph.pointwise(Mode::CUDNN_POINTWISE_SUB, &[grad, row_sums])?;
    let grad = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[grad, probabilities])?;
    let grad = graph.pointwise(Mode::CUDNN_POINTWISE_MUL, &[grad, scale])?;
    let turned = graph.transpose(grad, element)?;
    fold(graph, shape, turned, q, grad_k)?;

    // Blocks of keys add to the gradient of Q, so it is summed in f32 in memory and rounded at the end.
    let keys = graph.transpose(k, element)?;
    let sums = graph.scratch(shape.query())?;
    graph.matmul_into(grad, keys, sums)?;
    graph.pointwise_into(Mode::CUDNN_POINTWISE_IDENTITY, FLOAT, &[sums], grad_q)
}

/// A product whose result has K's shape; where heads share keys, their shares are added.
fn fold(graph: &mut Graph, shape: &Shape, a: Tensor, b: Tensor, into: Tensor) -> Result<(), Error> {
    if shape.heads == shape.kv_heads {
        return graph.matmul_into(a, b, into);
    }
    let dims = [shape.batch, shape.heads, shape.seq_kv, shape.head_dim];
    let shares = graph.matmul(a, b, dims, shape.element.data_type())?;
    graph.reduce_into(Reduction::CUDNN_REDUCE_TENSOR_ADD, shares, into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape::packed(2, 8, 2, 256, 64, Element::Bf16, Layout::Bshd)
    }

    #[test]
    fn rows_of_a_projection_hold_all_heads() {
        assert_eq!(Layout::Bshd.strides(8, 256, 64), [256 * 8 * 64, 64, 8 * 64, 1]);
        assert_eq!(Layout::Bhsd.strides(8, 256, 64), [8 * 256 * 64, 256 * 64, 64, 1]);
    }

    #[test]
    fn shapes_that_make_no_sense_are_refused_before_cudnn_is_asked() {
        assert_eq!(shape().check(), Ok(()));
        let heads = Shape { kv_heads: 3, ..shape() };
        assert!(matches!(heads.check(), Err(Error::Shape(text)) if text.contains("8 heads")));
        let empty = Shape { seq_kv: 0, ..shape() };
        assert!(matches!(empty.check(), Err(Error::Shape(_))));
        let sparse = Shape { v_strides: [256 * 128, 64, 128, 2], ..shape() };
        assert!(matches!(sparse.check(), Err(Error::Shape(text)) if text.contains("last stride")));
    }

    #[test]
    fn an_error_says_the_call_the_descriptor_and_the_reason() {
        let error = Error::Call {
            call: "cudnnBackendFinalize".to_owned(),
            descriptor: "operation_matmul".to_owned(),
            status: "CUDNN_STATUS_BAD_PARAM".to_owned(),
            text: "bad parameter".to_owned(),
            detail: "dims differ".to_owned(),
        };
        let text = "cudnnBackendFinalize on operation_matmul: CUDNN_STATUS_BAD_PARAM (bad parameter): dims differ";
        assert_eq!(error.to_string(), text);
    }
}
