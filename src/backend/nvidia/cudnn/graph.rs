//! A graph of operations for cuDNN, the engine that runs it, and the addresses it runs on.
//!
//! Must not know what the operations are for.

// Foreign calls. A handle and every descriptor live as long as the value that owns them, attributes are written with the size
// of their type, and device addresses cannot touch the host's memory: a wrong one is a fault of the device.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::fmt::{self, Write as _};
use std::ptr;

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t as Heuristic, cudnnDataType_t as DataType,
    cudnnHandle_t, cudnnPointwiseMode_t as Mode, cudnnReduceTensorOp_t as Reduction, cudnnStatus_t,
};

use crate::backend::nvidia::cuda::Stream;
use crate::backend::nvidia::cudnn::Error;

/// The library's handle.
pub struct Handle {
    raw: cudnnHandle_t,
    stream: Cell<usize>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// A handle for the device that is current on this thread. The library was found before.
    ///
    /// # Errors
    ///
    /// When the library does not work.
    pub fn open() -> Result<Self, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes a handle.
        check(unsafe { sys::cudnnCreate(&raw mut raw) }, || "cudnnCreate".to_owned(), "handle")?;
        Ok(Self { raw, stream: Cell::new(0) })
    }

    /// Sends what follows to a stream.
    fn direct(&self, stream: &Stream) -> Result<(), Error> {
        if self.stream.replace(stream.raw() as usize) == stream.raw() as usize {
            return Ok(());
        }
        // SAFETY: both are alive.
        check(unsafe { sys::cudnnSetStream(self.raw, stream.raw().cast()) }, || "cudnnSetStream".to_owned(), "handle")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once.
        let _ = unsafe { sys::cudnnDestroy(self.raw) };
    }
}

/// Turns a status into an error that says what was being done.
pub(super) fn check(
    status: cudnnStatus_t,
    call: impl FnOnce() -> String,
    descriptor: impl fmt::Display,
) -> Result<(), Error> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: the string lives as long as the library.
    let text = unsafe { CStr::from_ptr(sys::cudnnGetErrorString(status)) };
    Err(Error::Call {
        call: call(),
        descriptor: descriptor.to_string(),
        status: format!("{status:?}"),
        text: text.to_string_lossy().trim().to_owned(),
        detail: last_error(),
    })
}

/// What cuDNN says of the latest failure on this thread.
fn last_error() -> String {
    let mut detail = [0_u8; 2048];
    // SAFETY: at most that many bytes are written.
    unsafe { sys::cudnnGetLastErrorString(detail.as_mut_ptr().cast(), detail.len()) };
    let end = detail.iter().position(|&byte| byte == 0).unwrap_or(detail.len());
    let text = String::from_utf8_lossy(&detail[..end]);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The library's version: 91900 is 9.19.0.
pub(super) fn version() -> usize {
    // SAFETY: asks for a number.
    unsafe { sys::cudnnGetVersion() }
}

/// Whether the library's attention can be trusted at all, by what NVIDIA's front end refuses.
pub(super) fn sound() -> Result<(), Error> {
    match version() {
        91_000 | 91_001 => Err(Error::Wrong("attention is broken in 9.10.0 and 9.10.1")),
        _ => Ok(()),
    }
}

/// An address of a descriptor, as attributes hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Raw(sys::cudnnBackendDescriptor_t);

/// An address of data, as attributes hold it.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Address(*mut c_void);

/// A kind of knob as a number: an engine may have knobs that the bindings have no name for.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
struct Knob(u32);

/// What an attribute can be set to.
///
/// # Safety
///
/// The type has the size and layout of the C type that `TYPE` stands for.
unsafe trait Value: Copy {
    const TYPE: Type;
}

macro_rules! values {
    ($($rust:ty => $constant:ident),* $(,)?) => {
        $(
            // SAFETY: each pair is the C type and its Rust twin: an integer, float, pointer or C enumeration.
            unsafe impl Value for $rust {
                const TYPE: Type = Type::$constant;
            }
        )*
    };
}

values! {
    i64 => CUDNN_TYPE_INT64,
    f32 => CUDNN_TYPE_FLOAT,
    bool => CUDNN_TYPE_BOOLEAN,
    u8 => CUDNN_TYPE_CHAR,
    DataType => CUDNN_TYPE_DATA_TYPE,
    Mode => CUDNN_TYPE_POINTWISE_MODE,
    Reduction => CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
    Heuristic => CUDNN_TYPE_HEUR_MODE,
    Knob => CUDNN_TYPE_KNOB_TYPE,
    Raw => CUDNN_TYPE_BACKEND_DESCRIPTOR,
    Address => CUDNN_TYPE_VOID_PTR,
    cudnnHandle_t => CUDNN_TYPE_HANDLE,
}

/// A descriptor of cuDNN's, destroyed on drop.
struct Descriptor {
    raw: Raw,
    kind: Kind,
}

impl Descriptor {
    fn new(kind: Kind) -> Result<Self, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the address.
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut raw) };
        check(status, || "cudnnBackendCreateDescriptor".to_owned(), name(kind))?;
        Ok(Self { raw: Raw(raw), kind })
    }

    fn set<V: Value>(&self, attribute: Name, values: &[V]) -> Result<(), Error> {
        // SAFETY: the descriptor lives, and the pointer is to as many values as said, of the type said (see `Value`).
        let status = unsafe {
            sys::cudnnBackendSetAttribute(
                self.raw.0,
                attribute,
                V::TYPE,
                i64::try_from(values.len()).unwrap_or(i64::MAX),
                values.as_ptr().cast(),
            )
        };
        check(status, || format!("cudnnBackendSetAttribute({attribute:?})"), name(self.kind))
    }

    fn finalize(&self) -> Result<(), Error> {
        // SAFETY: the descriptor lives.
        let status = unsafe { sys::cudnnBackendFinalize(self.raw.0) };
        check(status, || "cudnnBackendFinalize".to_owned(), name(self.kind))
    }

    /// How many values an attribute has; they are written over what is in `values`, as far as there is room.
    fn get<V: Value>(&self, attribute: Name, values: &mut [V]) -> Result<usize, Error> {
        let mut count = 0;
        let place = if values.is_empty() { ptr::null_mut() } else { values.as_mut_ptr().cast() };
        // SAFETY: the descriptor lives, and there is room for as many values as asked for, of the type said.
        let status = unsafe {
            sys::cudnnBackendGetAttribute(
                self.raw.0,
                attribute,
                V::TYPE,
                i64::try_from(values.len()).unwrap_or(i64::MAX),
                &raw mut count,
                place,
            )
        };
        check(status, || format!("cudnnBackendGetAttribute({attribute:?})"), name(self.kind))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn integer(&self, attribute: Name) -> Result<i64, Error> {
        let mut value = [0];
        self.get(attribute, &mut value)?;
        Ok(value[0])
    }

    /// Descriptors inside a descriptor: the caller makes them empty, and cuDNN fills them.
    /// `room` is how many there may be where cuDNN does not tell when asked.
    fn inner(&self, attribute: Name, kind: Kind, room: usize) -> Result<Vec<Self>, Error> {
        let count = self.get::<Raw>(attribute, &mut [])?.max(room);
        let mut inner = (0..count).map(|_| Self::new(kind)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<Raw> = inner.iter().map(|descriptor| descriptor.raw).collect();
        let filled = if count == 0 { 0 } else { self.get(attribute, &mut raw)? };
        inner.truncate(filled);
        Ok(inner)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created by `new` and destroyed here only. There is nobody to tell of a failure.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.raw.0) };
    }
}

/// `CUDNN_BACKEND_ENGINE_DESCRIPTOR` as `engine`.
pub(super) fn name(kind: Kind) -> String {
    let name = format!("{kind:?}");
    let short = name.strip_prefix("CUDNN_BACKEND_").unwrap_or(&name);
    short.strip_suffix("_DESCRIPTOR").unwrap_or(short).to_lowercase()
}

/// Where the value of a tensor that is not virtual comes from at run time.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// An address the caller passes.
    Caller(Port),
    /// A number of the plan's own, on the host: its place among the plan's scalars.
    Scalar(usize),
    /// Room in the workspace, behind the engine's: bytes from there.
    Scratch(usize),
}

/// Addresses a caller passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Q,
    K,
    V,
    O,
    Stats,
    GradO,
    GradQ,
    GradK,
    GradV,
    DescaleQ,
    DescaleK,
    DescaleV,
    DescaleS,
    ScaleS,
    ScaleO,
    AmaxS,
    AmaxO,
}

impl Port {
    fn name(self) -> &'static str {
        match self {
            Self::Q => "Q",
            Self::K => "K",
            Self::V => "V",
            Self::O => "O",
            Self::Stats => "the statistics",
            Self::GradO => "the gradient of O",
            Self::GradQ => "the gradient of Q",
            Self::GradK => "the gradient of K",
            Self::GradV => "the gradient of V",
            Self::DescaleQ => "the descale of Q",
            Self::DescaleK => "the descale of K",
            Self::DescaleV => "the descale of V",
            Self::DescaleS => "the descale of the probabilities",
            Self::ScaleS => "the scale of the probabilities",
            Self::ScaleO => "the scale of O",
            Self::AmaxS => "the largest probability",
            Self::AmaxO => "the largest output",
        }
    }
}

/// A tensor of the graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    raw: Raw,
    dims: [i64; 4],
    strides: [i64; 4],
}

/// More knobs than an engine has.
const KNOBS: usize = 64;

/// Bytes that regions of the workspace start at a multiple of.
const ALIGNMENT: usize = 256;

fn aligned(bytes: usize) -> usize {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

pub(super) fn packed(dims: [i64; 4]) -> [i64; 4] {
    [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1]
}

pub(super) const FLOAT: DataType = DataType::CUDNN_DATA_FLOAT;
const INT: DataType = DataType::CUDNN_DATA_INT32;
const BOOL: DataType = DataType::CUDNN_DATA_BOOLEAN;

/// A graph under construction.
#[derive(Default)]
pub(super) struct Graph {
    /// Everything made so far: operations name tensors by address, so all of it lives as long as the plan.
    descriptors: Vec<Descriptor>,
    operations: Vec<Raw>,
    /// Tensors that are not virtual, by the id that runs give addresses for.
    sources: Vec<(i64, Source)>,
    /// Bits of four-byte numbers.
    scalars: Vec<u32>,
    scratch: usize,
    tensors: i64,
}

impl Graph {
    fn tensor(
        &mut self,
        dims: [i64; 4],
        strides: [i64; 4],
        element: DataType,
        source: Option<Source>,
    ) -> Result<Tensor, Error> {
        self.tensors += 1;
        let id = self.tensors;
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[element])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dims)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16_i64])?;
        match source {
            None => tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[true])?,
            Some(Source::Scalar(_)) => tensor.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[true])?,
            Some(_) => {}
        }
        tensor.finalize()?;
        self.sources.extend(source.map(|source| (id, source)));
        let raw = self.keep(tensor);
        Ok(Tensor { raw, dims, strides })
    }

    fn keep(&mut self, descriptor: Descriptor) -> Raw {
        let raw = descriptor.raw;
        self.descriptors.push(descriptor);
        raw
    }

    /// A tensor in the caller's memory.
    pub(super) fn outside(
        &mut self,
        port: Port,
        dims: [i64; 4],
        strides: [i64; 4],
        element: DataType,
    ) -> Result<Tensor, Error> {
        self.tensor(dims, strides, element, Some(Source::Caller(port)))
    }

    /// A number in the caller's memory.
    pub(super) fn number(&mut self, port: Port) -> Result<Tensor, Error> {
        self.outside(port, [1; 4], [1; 4], FLOAT)
    }

    /// A tensor that only the fused kernel sees.
    pub(super) fn inside(&mut self, dims: [i64; 4], element: DataType) -> Result<Tensor, Error> {
        self.tensor(dims, packed(dims), element, None)
    }

    /// A packed f32 tensor in the workspace.
    pub(super) fn scratch(&mut self, dims: [i64; 4]) -> Result<Tensor, Error> {
        let at = self.scratch;
        let bytes = usize::try_from(dims.iter().product::<i64>()).unwrap_or(usize::MAX / 8) * size_of::<f32>();
        self.scratch = at + aligned(bytes);
        self.tensor(dims, packed(dims), FLOAT, Some(Source::Scratch(at)))
    }

    pub(super) fn scalar(&mut self, value: f32) -> Result<Tensor, Error> {
        self.scalars.push(value.to_bits());
        self.tensor([1; 4], [1; 4], FLOAT, Some(Source::Scalar(self.scalars.len() - 1)))
    }

    fn operation(&mut self, operation: Descriptor) -> Result<(), Error> {
        operation.finalize()?;
        let raw = self.keep(operation);
        self.operations.push(raw);
        Ok(())
    }

    pub(super) fn matmul_into(&mut self, a: Tensor, b: Tensor, c: Tensor) -> Result<(), Error> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_MATMUL_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_MATMUL_COMP_TYPE, &[FLOAT])?;
        how.finalize()?;
        let how = self.keep(how);
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)?;
        operation.set(Name::CUDNN_ATTR_OPERATION_MATMUL_ADESC, &[a.raw])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_MATMUL_BDESC, &[b.raw])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_MATMUL_CDESC, &[c.raw])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_MATMUL_DESC, &[how])?;
        self.operation(operation)
    }

    pub(super) fn matmul(&mut self, a: Tensor, b: Tensor, dims: [i64; 4], element: DataType) -> Result<Tensor, Error> {
        let c = self.inside(dims, element)?;
        self.matmul_into(a, b, c)?;
        Ok(c)
    }

    /// One to three operands; `compute` is the precision, or the kind of value for comparisons.
    pub(super) fn pointwise_into(
        &mut self,
        mode: Mode,
        compute: DataType,
        operands: &[Tensor],
        y: Tensor,
    ) -> Result<(), Error> {
        self.pointwise_with(mode, compute, None, operands, y)
    }

    fn pointwise_with(
        &mut self,
        mode: Mode,
        compute: DataType,
        axis: Option<i64>,
        operands: &[Tensor],
        y: Tensor,
    ) -> Result<(), Error> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[compute])?;
        if let Some(axis) = axis {
            how.set(Name::CUDNN_ATTR_POINTWISE_AXIS, &[axis])?;
        }
        how.finalize()?;
        let how = self.keep(how);
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
        operation.set(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[how])?;
        let places = [
            Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
            Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
            Name::CUDNN_ATTR_OPERATION_POINTWISE_TDESC,
        ];
        for (place, operand) in places.into_iter().zip(operands) {
            operation.set(place, &[operand.raw])?;
        }
        operation.set(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[y.raw])?;
        self.operation(operation)
    }

    /// A pointwise operation in f32 on tensors of the first one's shape.
    pub(super) fn pointwise(&mut self, mode: Mode, operands: &[Tensor]) -> Result<Tensor, Error> {
        let y = self.inside(operands[0].dims, FLOAT)?;
        self.pointwise_into(mode, FLOAT, operands, y)?;
        Ok(y)
    }

    pub(super) fn reduce_into(&mut self, reduction: Reduction, x: Tensor, y: Tensor) -> Result<(), Error> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_REDUCTION_COMP_TYPE, &[FLOAT])?;
        how.set(Name::CUDNN_ATTR_REDUCTION_OPERATOR, &[reduction])?;
        how.finalize()?;
        let how = self.keep(how);
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?;
        operation.set(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &[how])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, &[x.raw])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, &[y.raw])?;
        self.operation(operation)
    }

    pub(super) fn reduce(&mut self, reduction: Reduction, x: Tensor, dims: [i64; 4]) -> Result<Tensor, Error> {
        let y = self.inside(dims, FLOAT)?;
        self.reduce_into(reduction, x, y)?;
        Ok(y)
    }

    /// The same tensor with its last two dimensions swapped, read as `element`.
    pub(super) fn transpose(&mut self, x: Tensor, element: DataType) -> Result<Tensor, Error> {
        let swap = |[a, b, c, d]: [i64; 4]| [a, b, d, c];
        let y = self.tensor(swap(x.dims), swap(x.strides), element, None)?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)?;
        operation.set(Name::CUDNN_ATTR_OPERATION_RESHAPE_XDESC, &[x.raw])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_RESHAPE_YDESC, &[y.raw])?;
        self.operation(operation)?;
        Ok(y)
    }

    /// Scores of keys that come after their query become minus infinity, which has no weight.
    pub(super) fn causal(&mut self, scores: Tensor) -> Result<Tensor, Error> {
        let row = self.inside(scores.dims, INT)?;
        self.pointwise_with(Mode::CUDNN_POINTWISE_GEN_INDEX, FLOAT, Some(2), &[scores], row)?;
        let column = self.inside(scores.dims, INT)?;
        self.pointwise_with(Mode::CUDNN_POINTWISE_GEN_INDEX, FLOAT, Some(3), &[scores], column)?;
        let seen = self.inside(scores.dims, BOOL)?;
        self.pointwise_into(Mode::CUDNN_POINTWISE_CMP_GE, BOOL, &[row, column], seen)?;
        // Engines before 9.10 turn infinities into NaN.
        let nothing = self.scalar(if version() < 91_000 { f32::MIN } else { f32::NEG_INFINITY })?;
        self.pointwise(Mode::CUDNN_POINTWISE_BINARY_SELECT, &[scores, nothing, seen])
    }

    /// The first engine that cuDNN recommends and that can be made ready.
    pub(super) fn plan(self, handle: &Handle) -> Result<Plan, Error> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &self.operations)?;
        graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[handle.raw])?;
        graph.finalize()?;
        let mut reasons: Vec<String> = Vec::new();
        // The modes share engines and repeat one another's reasons.
        let mut heard = |reason: String| {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for heuristic in
            [Heuristic::CUDNN_HEUR_MODE_A, Heuristic::CUDNN_HEUR_MODE_B, Heuristic::CUDNN_HEUR_MODE_FALLBACK]
        {
            let configurations = match recommend(&graph, heuristic) {
                Ok(configurations) => configurations,
                Err(error) => {
                    heard(error.to_string());
                    continue;
                }
            };
            if configurations.is_empty() {
                heard(format!("none recommended: {}", last_error()));
            }
            for configuration in &configurations {
                match ready(configuration, handle) {
                    Ok((plan, engine)) => return self.finish(graph, plan, &engine),
                    Err(error) => heard(error.to_string()),
                }
            }
        }
        Err(Error::NoEngine(reasons))
    }

    fn finish(mut self, graph: Descriptor, plan: Descriptor, engine: &str) -> Result<Plan, Error> {
        let bytes = plan.integer(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        let bytes = usize::try_from(bytes).unwrap_or(0);
        self.descriptors.push(graph);
        Ok(Plan {
            engine: format!("cudnn {} {engine}", version()),
            scratch_at: aligned(bytes),
            workspace: aligned(bytes) + self.scratch,
            executable: plan,
            sources: self.sources,
            scalars: self.scalars.into_boxed_slice(),
            _graph: self.descriptors,
        })
    }
}

/// Configurations of engines for a graph, best first.
fn recommend(graph: &Descriptor, heuristic: Heuristic) -> Result<Vec<Descriptor>, Error> {
    let query = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    query.set(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.raw])?;
    query.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[heuristic])?;
    query.finalize()?;
    query.inner(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, 0)
}

/// A plan that can run, and its engine's name.
fn ready(configuration: &Descriptor, handle: &Handle) -> Result<(Descriptor, String), Error> {
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[handle.raw])?;
    plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[configuration.raw])?;
    plan.finalize()?;
    Ok((plan, describe(configuration)?))
}

/// An engine and its knobs the way NVIDIA's front end writes them: `eng6_k24=0_k28=1`.
fn describe(configuration: &Descriptor) -> Result<String, Error> {
    let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    configuration.get(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &mut [engine.raw])?;
    let mut text = format!("eng{}", engine.integer(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?);
    let choices = configuration.inner(
        Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
        Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
        KNOBS,
    )?;
    for choice in choices {
        let mut knob = [Knob::default()];
        choice.get(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, &mut knob)?;
        let value = choice.integer(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)?;
        let _ = write!(text, "_k{}={value}", knob[0].0);
    }
    Ok(text)
}

/// A graph that is ready to run.
pub(super) struct Plan {
    /// First, so that it goes before what it was made of.
    executable: Descriptor,
    _graph: Vec<Descriptor>,
    sources: Vec<(i64, Source)>,
    /// On the heap, because cuDNN reads them by address at each launch.
    scalars: Box<[u32]>,
    /// Where the engine's part of the workspace ends and ours begins.
    scratch_at: usize,
    pub(super) workspace: usize,
    pub(super) engine: String,
}

impl Plan {
    /// Addresses that are missing or zero are refused where the graph needs them.
    pub(super) fn bind(&self, given: &[(Port, u64)], workspace: u64) -> Result<Binding, Error> {
        let address = |port: Port| given.iter().find(|(known, _)| *known == port).map_or(0, |(_, address)| *address);
        let mut ids = Vec::with_capacity(self.sources.len());
        let mut data = Vec::with_capacity(self.sources.len());
        for &(id, source) in &self.sources {
            ids.push(id);
            data.push(Address(match source {
                Source::Caller(port) if address(port) == 0 => return Err(Error::Missing(port.name())),
                Source::Caller(port) => address(port) as *mut c_void,
                Source::Scalar(index) => ptr::from_ref(&self.scalars[index]).cast_mut().cast(),
                Source::Scratch(at) => (workspace + (self.scratch_at + at) as u64) as *mut c_void,
            }));
        }
        if workspace == 0 && self.workspace > 0 {
            return Err(Error::Missing("the workspace"));
        }
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &ids)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &data)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[Address(workspace as *mut c_void)])?;
        pack.finalize()?;
        Ok(Binding(pack))
    }

    /// Enqueues it on a stream.
    pub(super) fn execute(&self, handle: &Handle, Binding(pack): &Binding, stream: &Stream) -> Result<(), Error> {
        handle.direct(stream)?;
        // SAFETY: both descriptors are finalized and live.
        let status = unsafe { sys::cudnnBackendExecute(handle.raw, self.executable.raw.0, pack.raw.0) };
        check(status, || "cudnnBackendExecute".to_owned(), &self.engine)
    }
}

/// Addresses for a plan, ready to launch again and again. It may be dropped before or after its plan.
pub struct Binding(Descriptor);

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_regions_keep_their_alignment() {
        assert_eq!([aligned(0), aligned(1), aligned(256), aligned(257)], [0, 256, 256, 512]);
    }
}
