//! Matrix products through cuBLASLt, row-major as everything here is: D = epilogue(alpha · op(A) op(B) + beta · D).
//!
//! The library thinks in columns: a row-major matrix is its transpose there, so it is asked for Dᵀ = op(B)ᵀ op(A)ᵀ. Must not know
//! who multiplies what.

// Foreign calls; descriptors are made and destroyed by their owners, and attributes are written with the size of their type.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::time::Instant;

use cudarc::cublaslt::sys;

use crate::backend::nvidia::cuda::{Buffer, CudaError, Device, Result, Stream};
use crate::backend::nvidia::work::Element;
use crate::hardware::cuda::{self, Library};

/// Scratch memory that algorithms may use, bytes: NVIDIA recommends 32 MiB for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Algorithms asked for where all are tried.
const ALGORITHMS: usize = 64;
/// Runs of each where all are tried; the fastest counts.
const TRIALS: usize = 5;

fn checked(call: &'static str, status: sys::cublasStatus_t) -> Result<()> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: a constant string for any status.
    let text = unsafe { CStr::from_ptr(sys::cublasLtGetStatusString(status)) }.to_string_lossy().into_owned();
    Err(CudaError::Library { call, text })
}

macro_rules! lt {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: see the head of this module.
        checked(stringify!($name), unsafe { sys::$name($($argument),*) })
    };
}

/// The library's handle and scratch memory.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: Buffer,
    device: Rc<Device>,
}

impl fmt::Debug for Blas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blas")
    }
}

impl Blas {
    /// Loads the library.
    ///
    /// # Errors
    /// Where it is absent.
    pub fn open(device: &Rc<Device>) -> Result<Rc<Self>> {
        cuda::need(Library::CublasLt)
            .map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
        let mut handle = ptr::null_mut();
        lt!(cublasLtCreate(&raw mut handle))?;
        Ok(Rc::new(Self { handle, workspace: device.allocate(WORKSPACE)?, device: Rc::clone(device) }))
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let _ = lt!(cublasLtDestroy(self.handle));
    }
}

/// What follows a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// A vector of `n` values added to every row.
    Bias,
    /// The same, and the negative part cut off.
    BiasRelu,
    /// The same with GELU (tanh approximation).
    BiasGelu,
    /// The product as it is, and beside it the sums over the columns of op(A), `m` values: the gradient of a bias, where A is
    /// the gradient of a layer's output and the product that of its weights.
    BiasGradient,
}

impl Epilogue {
    /// By its name in suites.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "bias" => Self::Bias,
            "bias-relu" => Self::BiasRelu,
            "bias-gelu" => Self::BiasGelu,
            _ => return None,
        })
    }

    const fn code(self) -> sys::cublasLtEpilogue_t {
        match self {
            Self::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Self::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Self::BiasRelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
            Self::BiasGelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
            Self::BiasGradient => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB,
        }
    }
}

/// A product to be planned.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rows of op(A).
    pub m: usize,
    /// Columns of op(B).
    pub n: usize,
    /// Columns of op(A).
    pub k: usize,
    /// Products in a batch, one behind the other in memory.
    pub batch: usize,
    /// Types of A, B and D.
    pub elements: [Element; 3],
    /// Whether A and B are stored transposed: A as `k × m`, B as `n × k`.
    pub transposed: [bool; 2],
    /// Whether single precision may be rounded to TF32.
    pub tf32: bool,
    /// Whether FP8 products may be summed with fewer bits.
    pub fast: bool,
    /// What follows.
    pub epilogue: Epilogue,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what D held before.
    pub beta: f32,
}

impl Shape {
    /// A plain product of one element type.
    pub const fn plain(m: usize, n: usize, k: usize, element: Element, transposed: [bool; 2]) -> Self {
        Self {
            m,
            n,
            k,
            batch: 1,
            elements: [element; 3],
            transposed,
            tf32: false,
            fast: false,
            epilogue: Epilogue::None,
            alpha: 1.0,
            beta: 0.0,
        }
    }
}

const fn data_type(element: Element) -> sys::cudaDataType_t {
    match element {
        Element::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Element::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        Element::F16 => sys::cudaDataType_t::CUDA_R_16F,
        Element::E4m3 => sys::cudaDataType_t::CUDA_R_8F_E4M3,
        Element::E5m2 => sys::cudaDataType_t::CUDA_R_8F_E5M2,
        Element::Int8 => sys::cudaDataType_t::CUDA_R_8I,
        Element::Int32 => sys::cudaDataType_t::CUDA_R_32I,
        Element::F64 => sys::cudaDataType_t::CUDA_R_64F,
    }
}

/// A matrix's description, destroyed on drop.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(element: Element, rows: usize, columns: usize, batch: usize) -> Result<Self> {
        let mut raw = ptr::null_mut();
        let signed = |size: usize, what: &str| {
            i64::try_from(size)
                .map_err(|_| CudaError::Parameter(format!("{what} of {size} is more than cuBLASLt counts")))
        };
        let (leading, stride) = (signed(rows, "a row")?, signed(rows.saturating_mul(columns), "a matrix")?);
        let batch_ = i32::try_from(batch).map_err(|_| {
            CudaError::Parameter(format!(
                "a batch of {batch} products is more than cuBLASLt takes: at most {}",
                i32::MAX
            ))
        })?;
        lt!(cublasLtMatrixLayoutCreate(&raw mut raw, data_type(element), rows as u64, columns as u64, leading))?;
        let layout = Self(raw);
        if batch > 1 {
            use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
            layout.set(Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch_)?;
            layout.set(Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride)?;
        }
        Ok(layout)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatrixLayoutAttribute_t, value: &T) -> Result<()> {
        lt!(cublasLtMatrixLayoutSetAttribute(self.0, attribute, ptr::from_ref(value).cast(), size_of::<T>()))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        let _ = lt!(cublasLtMatrixLayoutDestroy(self.0));
    }
}

/// A product's description, destroyed on drop.
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        lt!(cublasLtMatmulDescSetAttribute(self.0, attribute, ptr::from_ref(value).cast(), size_of::<T>()))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let _ = lt!(cublasLtMatmulDescDestroy(self.0));
    }
}

/// The two scalars in the type that the library wants.
#[derive(Debug, Clone, Copy)]
enum Scalars {
    F32([f32; 2]),
    F64([f64; 2]),
    I32([i32; 2]),
}

impl Scalars {
    fn pointers(&self) -> [*const c_void; 2] {
        match self {
            Self::F32(values) => [ptr::from_ref(&values[0]).cast(), ptr::from_ref(&values[1]).cast()],
            Self::F64(values) => [ptr::from_ref(&values[0]).cast(), ptr::from_ref(&values[1]).cast()],
            Self::I32(values) => [ptr::from_ref(&values[0]).cast(), ptr::from_ref(&values[1]).cast()],
        }
    }
}

/// How an algorithm is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The library's first.
    Heuristic,
    /// The fastest of those it offers, each tried a few times.
    Exhaustive,
}

/// A planned product.
pub struct Product {
    blas: Rc<Blas>,
    operation: Operation,
    /// Of the library's A (our B), its B (our A) and D.
    layouts: [Layout; 3],
    scalars: Scalars,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
    /// Kept alive for the library: scales of FP8 operands.
    _scale: Option<Buffer>,
    /// How many algorithms were tried, and how long that took.
    tried: (usize, f64),
}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Product({})", self.algorithm())
    }
}

/// Addresses of A, B, D and the bias.
#[derive(Debug, Clone, Copy)]
pub struct Operands {
    /// A.
    pub a: u64,
    /// B.
    pub b: u64,
    /// D.
    pub d: u64,
}

impl Product {
    /// Plans a product. `bias` is the address of the values that the epilogue reads or writes, if any. `operands` are used
    /// where algorithms are tried.
    ///
    /// # Errors
    /// When the library has no algorithm for it.
    pub fn new(
        blas: &Rc<Blas>,
        shape: &Shape,
        bias: Option<u64>,
        choice: Choice,
        operands: &Operands,
        stream: &Stream,
    ) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let [a, b, d] = shape.elements;
        let (compute, scale_type, scalars) = match (a, d) {
            (Element::F64, _) => (
                sys::cublasComputeType_t::CUBLAS_COMPUTE_64F,
                Element::F64,
                Scalars::F64([f64::from(shape.alpha), f64::from(shape.beta)]),
            ),
            (Element::Int8, Element::Int32) => (
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32I,
                Element::Int32,
                Scalars::I32([shape.alpha as i32, shape.beta as i32]),
            ),
            (Element::F32, _) if shape.tf32 => (
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
                Element::F32,
                Scalars::F32([shape.alpha, shape.beta]),
            ),
            _ => (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, Element::F32, Scalars::F32([shape.alpha, shape.beta])),
        };
        let mut raw = ptr::null_mut();
        lt!(cublasLtMatmulDescCreate(&raw mut raw, compute, data_type(scale_type)))?;
        let operation = Operation(raw);
        let flipped = |yes: bool| {
            // `CUBLAS_OP_T` and `CUBLAS_OP_N` of cublas_api.h, which these bindings leave to those of cuBLAS.
            i32::from(yes)
        };
        let [a_transposed, b_transposed] = shape.transposed;
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &flipped(b_transposed))?;
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &flipped(a_transposed))?;
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &shape.epilogue.code())?;
        if let Some(bias) = bias.filter(|_| shape.epilogue != Epilogue::None) {
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let is_float8 = matches!(a, Element::E4m3 | Element::E5m2);
        let scale = if is_float8 { Some(blas.device.upload(&[1.0_f32])?) } else { None };
        if let Some(scale) = &scale {
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &scale.address())?;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &scale.address())?;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, &i8::from(shape.fast))?;
        }
        let stored = |rows: usize, columns: usize, transposed: bool| {
            // Row-major `rows × columns` is column-major `columns × rows`.
            if transposed { (rows, columns) } else { (columns, rows) }
        };
        let (a_rows, a_columns) = stored(shape.m, shape.k, a_transposed);
        let (b_rows, b_columns) = stored(shape.k, shape.n, b_transposed);
        let layouts = [
            Layout::new(b, b_rows, b_columns, shape.batch)?,
            Layout::new(a, a_rows, a_columns, shape.batch)?,
            Layout::new(d, shape.n, shape.m, shape.batch)?,
        ];
        let count = if choice == Choice::Exhaustive { ALGORITHMS } else { 1 };
        let found = heuristics(blas, &operation, &layouts, count)?;
        let Some(first) = found.first() else {
            return Err(CudaError::Library {
                call: "cublasLtMatmulAlgoGetHeuristic",
                text: format!("no algorithm for {shape:?}"),
            });
        };
        let mut product = Self {
            blas: Rc::clone(blas),
            operation,
            layouts,
            scalars,
            algorithm: first.algo,
            workspace: first.workspaceSize,
            _scale: scale,
            tried: (found.len(), 0.0),
        };
        if choice == Choice::Exhaustive {
            product.pick(&found, operands, stream)?;
        }
        Ok(product)
    }

    /// Tries every algorithm and keeps the fastest.
    fn pick(
        &mut self,
        found: &[sys::cublasLtMatmulHeuristicResult_t],
        operands: &Operands,
        stream: &Stream,
    ) -> Result<()> {
        let start = Instant::now();
        let (begin, end) = (self.blas.device.event()?, self.blas.device.event()?);
        let mut best = (f64::INFINITY, self.algorithm, self.workspace);
        for candidate in found {
            (self.algorithm, self.workspace) = (candidate.algo, candidate.workspaceSize);
            // Some refuse only when they run.
            if self.enqueue(operands, stream).is_err() {
                continue;
            }
            for _ in 0..TRIALS {
                begin.record(stream)?;
                self.enqueue(operands, stream)?;
                end.record(stream)?;
                stream.synchronize()?;
                let seconds = end.since(&begin)?;
                if seconds < best.0 {
                    best = (seconds, candidate.algo, candidate.workspaceSize);
                }
            }
        }
        (_, self.algorithm, self.workspace) = best;
        self.tried.1 = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Enqueues it.
    ///
    /// # Errors
    /// As the library refuses.
    pub fn enqueue(&self, operands: &Operands, stream: &Stream) -> Result<()> {
        self.enqueue_onto(operands, operands.d, stream)
    }

    /// The same with another matrix of D's shape in the place of what D held before: D = epilogue(alpha · op(A) op(B) + beta · C).
    ///
    /// # Errors
    /// As the library refuses.
    pub fn enqueue_onto(&self, operands: &Operands, c: u64, stream: &Stream) -> Result<()> {
        let [alpha, beta] = self.scalars.pointers();
        let [b_layout, a_layout, d_layout] = &self.layouts;
        lt!(cublasLtMatmul(
            self.blas.handle,
            self.operation.0,
            alpha,
            operands.b as *const c_void,
            b_layout.0,
            operands.a as *const c_void,
            a_layout.0,
            beta,
            c as *const c_void,
            d_layout.0,
            operands.d as *mut c_void,
            d_layout.0,
            &raw const self.algorithm,
            self.blas.workspace.address() as *mut c_void,
            self.workspace,
            stream.raw().cast(),
        ))
    }

    /// The algorithm in the library's numbers, for the record.
    pub fn algorithm(&self) -> String {
        use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
        let read = |attribute| {
            let (mut value, mut written) = (0_u32, 0);
            // Some attributes have two bytes; little-endian zeros fill the rest.
            let read = lt!(cublasLtMatmulAlgoConfigGetAttribute(
                &raw const self.algorithm,
                attribute,
                ptr::from_mut(&mut value).cast(),
                size_of::<u32>(),
                &raw mut written
            ));
            read.map_or(0, |()| value)
        };
        format!(
            "id {} tile {} stages {} cluster {} split-k {} workspace {}",
            read(Attribute::CUBLASLT_ALGO_CONFIG_ID),
            read(Attribute::CUBLASLT_ALGO_CONFIG_TILE_ID),
            read(Attribute::CUBLASLT_ALGO_CONFIG_STAGES_ID),
            read(Attribute::CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) & 0xffff,
            read(Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
            self.workspace
        )
    }

    /// How many algorithms were offered, and the seconds that trying them took.
    pub const fn tried(&self) -> (usize, f64) {
        self.tried
    }
}

/// Algorithms in the order in which the library believes in them.
fn heuristics(
    blas: &Blas,
    operation: &Operation,
    [a, b, d]: &[Layout; 3],
    count: usize,
) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>> {
    let mut preference = ptr::null_mut();
    lt!(cublasLtMatmulPreferenceCreate(&raw mut preference))?;
    let set = lt!(cublasLtMatmulPreferenceSetAttribute(
        preference,
        sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        ptr::from_ref(&WORKSPACE).cast(),
        size_of::<usize>()
    ));
    // SAFETY: plain data, for which zeros are valid.
    let mut found = vec![unsafe { std::mem::zeroed::<sys::cublasLtMatmulHeuristicResult_t>() }; count];
    let mut got = 0;
    let asked = set.and_then(|()| {
        lt!(cublasLtMatmulAlgoGetHeuristic(
            blas.handle,
            operation.0,
            a.0,
            b.0,
            d.0,
            d.0,
            preference,
            count as i32,
            found.as_mut_ptr(),
            &raw mut got
        ))
    });
    let _ = lt!(cublasLtMatmulPreferenceDestroy(preference));
    asked?;
    found.truncate(usize::try_from(got).unwrap_or(0));
    found.retain(|one| one.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
    Ok(found)
}
