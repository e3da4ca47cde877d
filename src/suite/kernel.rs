//! A user's kernel in a suite: its table. `resolve` says what becomes of it at axis values.
//!
//! Must not know how kernels are compiled or run.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::suite::at::At;
use crate::suite::formula::Formula;

mod reference;
mod resolve;

pub(super) use resolve::resolve;

/// A CUDA kernel: where its code is, how it is launched, on what, and what its results are compared with. Numbers may be
/// formulas over the benchmark's axes: `+ - * / %`, parentheses, `ceil(a, b)`, `min`, `max`, on whole numbers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table that describes a kernel")]
pub(super) struct KernelTable {
    /// A `.cu` file (compiled at run time), `.ptx`, `.cubin` or `.fatbin`. Relative paths start where regrade was started. In this and
    /// the other texts of a kernel `{axis}` stands for the axis' value; `{{axis}}` for the literal text.
    pub(super) source: At<String>,
    /// Name of the function: declare it `extern "C"`, or give the mangled name.
    pub(super) function: At<String>,
    /// Options of the compiler, such as `"--use_fast_math"` or `"-DTILE={tile}"`.
    #[serde(default)]
    pub(super) options: Vec<At<String>>,
    /// Folders with headers. The source's own folder and CUDA's are searched anyway.
    #[serde(default)]
    pub(super) include: Vec<At<String>>,
    /// What a `.cu` file is compiled for, such as `"sm_90a"`. The device's own by default.
    pub(super) architecture: Option<At<String>>,
    /// Blocks, in one to three directions.
    pub(super) grid: At<Vec<At<Formula>>>,
    /// Threads of a block, in one to three directions.
    pub(super) block: At<Vec<At<Formula>>>,
    /// Dynamic shared memory of a block, bytes. None by default.
    pub(super) shared: Option<At<Formula>>,
    /// Blocks of a cluster, in one to three directions. No clusters by default.
    pub(super) cluster: Option<At<Vec<At<Formula>>>>,
    /// Arguments, in the kernel's order.
    #[serde(default)]
    pub(super) arguments: Vec<ArgumentTable>,
    /// Floating-point operations of one launch.
    pub(super) flops: Option<At<Formula>>,
    /// Which unit does them: `"fp32"` (outside the tensor cores), or `"tf32"`, `"half"` (bf16 and f16), `"fp8"`, `"int8"` on tensor
    /// cores. With it they are held against that unit's peak: their share of it is told, and more than all of it is invalid.
    pub(super) arithmetic: Option<At<String>>,
    /// Bytes that one launch must move to and from memory at least.
    pub(super) bytes: Option<At<Formula>>,
    /// What the outputs are compared with. Without it numbers are not checked, which every report says.
    pub(super) reference: Option<ReferenceTable>,
    /// The largest difference over the largest value of the reference. By element type by default.
    pub(super) tolerance: Option<At<f64>>,
}

/// One argument: a buffer or a value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a buffer such as { buffer = \"x\", type = \"f32\", shape = [\"n\"] } or a value such as { value = \"n\", type = \"i32\" }"
)]
pub(super) struct ArgumentTable {
    /// Name of a buffer.
    pub(super) buffer: Option<At<String>>,
    /// A number, or a formula. Formulas come to whole numbers, and divide in whole numbers, for `f32` and `f64` too: `"1 / n"`
    /// is 0 there; hand the kernel `n`.
    pub(super) value: Option<At<Formula>>,
    /// Element type of a buffer (`f32`, `bf16`, `f16`, `f64`, `fp8-e4m3`, `fp8-e5m2`, `int8`, `int32`), or type of a value
    /// (`i32`, `u32`, `i64`, `u64`, `f32`, `f64`).
    #[serde(rename = "type")]
    pub(super) element: At<String>,
    /// Sizes of a buffer, slowest first.
    #[serde(default)]
    pub(super) shape: Vec<At<Formula>>,
    /// What a buffer holds at first: `"normal"` (default), `"uniform"`, `"zeros"`, `"ones"`.
    pub(super) fill: Option<At<String>>,
    /// Whether the kernel writes it, so that it is compared. `false` by default.
    #[serde(default)]
    pub(super) output: bool,
}

/// What a kernel's outputs are compared with: another kernel with the same arguments, or an operator in double precision.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a reference kernel or a reference operator")]
pub(super) struct ReferenceTable {
    /// A kernel's file; the measured kernel's own by default.
    pub(super) source: Option<At<String>>,
    /// A kernel's name.
    pub(super) function: Option<At<String>>,
    /// Its blocks; those of the measured kernel by default.
    pub(super) grid: Option<At<Vec<At<Formula>>>>,
    /// Its threads; those of the measured kernel by default.
    pub(super) block: Option<At<Vec<At<Formula>>>>,
    /// Its dynamic shared memory, bytes. None by default.
    pub(super) shared: Option<At<Formula>>,
    /// An operator: `softmax`, `layernorm`, `rmsnorm`, `gemm` or `copy`.
    pub(super) operator: Option<At<String>>,
    /// Buffers that the operator reads, in its order: x; x, gamma, beta; x, gamma; a, b; x.
    #[serde(default)]
    pub(super) inputs: Vec<At<String>>,
}
