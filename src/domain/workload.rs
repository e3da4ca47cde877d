//! What a case runs, and the catalogue of built-in workloads with their parameters.
//!
//! The catalogue is data: suites are validated against it, `regrade list` and the JSON Schema are made from it, and
//! backends read parameters through [`Workload`]'s typed getters. Must not know how anything is executed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::kernel::Kernel;

/// A parameter's value in a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ParamValue {
    /// `true`, `false`.
    Bool(bool),
    /// Whole numbers: sizes, counts.
    Int(i64),
    /// Anything with a point.
    Float(f64),
    /// Names, paths.
    Text(String),
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::Float(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
        }
    }
}

/// Where a workload comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// A model of the catalogue.
    Model,
    /// An operator of the catalogue.
    Operator,
    /// An external command: speaks the protocol, or is measured from outside.
    Command,
    /// A kernel of the user's.
    Kernel,
    /// A program for XLA, from a file.
    Program,
    /// A pinned program that watches the machine.
    Reference,
}

impl WorkloadKind {
    /// Whether the code that is measured is part of regrade's own program: two trees then need a program each.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::Model | Self::Operator | Self::Reference)
    }
}

/// What a case runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Where it comes from.
    pub kind: WorkloadKind,
    /// Name in the catalogue; for a command, the benchmark's name.
    pub name: String,
    /// Every parameter, defaults filled in.
    #[serde(default)]
    pub params: BTreeMap<String, ParamValue>,
    /// For a command: program and arguments, axis values filled in.
    #[serde(default)]
    pub command: Vec<String>,
    /// For a kernel: its code and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Box<Kernel>>,
}

impl Workload {
    /// A whole-number parameter.
    ///
    /// # Errors
    /// When it is absent, of another type, or negative.
    pub fn size(&self, name: &str) -> Result<usize, String> {
        match self.params.get(name) {
            Some(ParamValue::Int(v)) => {
                usize::try_from(*v).map_err(|_| format!("parameter `{name}` of `{}` is negative: {v}", self.name))
            }
            other => Err(self.wrong(name, "a whole number", other)),
        }
    }

    /// A whole-number parameter that may be absent.
    ///
    /// # Errors
    /// When it is of another type or negative.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>, String> {
        self.params.contains_key(name).then(|| self.size(name)).transpose()
    }

    /// A text parameter.
    ///
    /// # Errors
    /// When it is absent or of another type.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        match self.params.get(name) {
            Some(ParamValue::Text(v)) => Ok(v),
            other => Err(self.wrong(name, "a text", other)),
        }
    }

    /// A text parameter that may be absent.
    #[must_use]
    pub fn optional_text(&self, name: &str) -> Option<&str> {
        match self.params.get(name) {
            Some(ParamValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A true-or-false parameter.
    ///
    /// # Errors
    /// When it is absent or of another type.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        match self.params.get(name) {
            Some(ParamValue::Bool(v)) => Ok(*v),
            other => Err(self.wrong(name, "true or false", other)),
        }
    }

    fn wrong(&self, name: &str, wanted: &str, got: Option<&ParamValue>) -> String {
        match got {
            Some(value) => format!("parameter `{name}` of `{}` must be {wanted}, got `{value}`", self.name),
            None => format!("parameter `{name}` of `{}` is missing", self.name),
        }
    }
}

/// The type and default of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// A whole number of at least 1.
    Size {
        /// Taken when the suite says nothing.
        default: i64,
    },
    /// `true` or `false`.
    Flag {
        /// Taken when the suite says nothing.
        default: bool,
    },
    /// One of a list; the first is the default.
    Choice(&'static [&'static str]),
    /// A path or free text; absent by default.
    OptionalText,
    /// A whole number of at least 1; absent by default.
    OptionalSize,
    /// A whole number of at least 0; 0 by default.
    Index,
}

/// A parameter that a workload understands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Name in the suite.
    pub name: &'static str,
    /// Type and default.
    pub kind: ParamKind,
    /// One line, with the unit.
    pub help: &'static str,
    /// The one backend that understands it; `None` for all. Cases of other backends do not have it.
    pub only: Option<&'static str>,
    /// Whether another value than the default is other work, which backends without the parameter cannot do.
    pub work: bool,
}

impl Param {
    /// The same for one backend alone.
    const fn only(self, backend: &'static str) -> Self {
        Self { only: Some(backend), ..self }
    }

    /// The same, which says what is computed and not how it is measured.
    const fn work(self) -> Self {
        Self { work: true, ..self }
    }

    /// Whether cases of this backend have it.
    #[must_use]
    pub fn applies_to(&self, backend: &str) -> bool {
        self.only.is_none_or(|only| only == backend)
    }
}

/// A built-in workload.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Model, operator or reference.
    pub kind: WorkloadKind,
    /// Name in the suite.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    /// What it understands, beside [`COMMON`].
    pub params: &'static [Param],
}

const fn param(name: &'static str, kind: ParamKind, help: &'static str) -> Param {
    Param { name, kind, help, only: None, work: false }
}

const fn size(name: &'static str, default: i64, help: &'static str) -> Param {
    param(name, ParamKind::Size { default }, help)
}

const fn choice(name: &'static str, choices: &'static [&'static str], help: &'static str) -> Param {
    param(name, ParamKind::Choice(choices), help)
}

const fn flag(name: &'static str, help: &'static str) -> Param {
    param(name, ParamKind::Flag { default: false }, help)
}

/// The backend that has parameters of its own.
const NVIDIA: &str = "nvidia";

/// Parameters of every built-in workload.
pub const COMMON: &[Param] = &[
    size("threads", 1, "CPU threads of the engine"),
    choice("precision", PRECISIONS, "element type of weights and activations"),
    choice(
        "timing",
        TIMINGS,
        "each iteration alone with the cache flushed before it, alone with a warm cache, back to back, or back to back from \
         a CUDA graph on rotating inputs",
    )
    .only(NVIDIA),
    choice(
        "pace",
        &["rested", "sustained"],
        "pauses between samples where the work would otherwise run into the power limit, or none",
    )
    .only(NVIDIA),
    param("device", ParamKind::Index, "which GPU, counted from 0").only(NVIDIA),
    flag("energy", "measure energy too, in a phase of three seconds of its own").only(NVIDIA),
];

/// A program for XLA, which brings its own sizes and element types.
pub const PROGRAM: Entry = Entry {
    kind: WorkloadKind::Program,
    name: "program",
    help: "a StableHLO program with its manifest",
    params: &[
        param("program", ParamKind::OptionalText, "portable artifact; its manifest lies beside it"),
        param(
            "compile_for",
            ParamKind::OptionalText,
            "devices that are not here, such as v5e:2x2 or h100: compile, run nothing",
        ),
        param(
            "xla_flags",
            ParamKind::OptionalText,
            "flags of XLA for this compilation, such as xla_cpu_enable_fast_math=true",
        ),
        choice(
            "autotune",
            &["once", "each-launch"],
            "XLA tries kernels for a GPU once a session, for all launches, or in each launch anew",
        ),
        param(
            "replicas",
            ParamKind::OptionalSize,
            "devices that run it at once, each with its own arguments; one by default",
        ),
        flag("device_time", "time that the device itself worked, by the plugin's profiler, in a phase of its own"),
        param("device", ParamKind::Index, "the first device, counted from 0"),
    ],
};

/// Ways of timing on a GPU.
pub const TIMINGS: &[&str] = &["cold", "hot", "batch", "graph"];

/// Names of element types; a backend says which it can do.
pub const PRECISIONS: &[&str] = &["f32", "bf16", "f16", "f64", "tf32", "fp8-e4m3", "fp8-e5m2", "int8"];

const MODE: Param = choice(
    "mode",
    &["inference", "decode", "training-step"],
    "forward pass, token by token with a KV cache, or forward, backward and AdamW",
);
const VISION_MODE: Param =
    choice("mode", &["inference", "training-step"], "forward pass, or forward, backward and AdamW");
const CHECKPOINT: Param =
    param("checkpoint", ParamKind::OptionalText, "safetensors file with the weights; seeded random ones otherwise");
const BATCH: Param = size("batch", 1, "sequences or images in a batch");
const SEQ: Param = size("seq", 128, "tokens in a sequence (in `decode`: of the prompt)");
const TOKENS: Param = size("tokens", 16, "tokens generated by one iteration of `decode`");

const ROWS: Param = size("rows", 1024, "rows");
const COLS: Param = size("cols", 1024, "row length");
const BYTES: Param = size("bytes", 1_073_741_824, "bytes of each GPU's buffer");
const GPUS: Param = param("gpus", ParamKind::OptionalSize, "how many GPUs take part, from `device` on; all by default");

const DECODER: &[Param] = &[MODE, BATCH, SEQ, TOKENS, CHECKPOINT];
const ENCODER: &[Param] = &[VISION_MODE, BATCH, SEQ, CHECKPOINT];
const VISION: &[Param] = &[VISION_MODE, BATCH, CHECKPOINT];

const fn model(name: &'static str, help: &'static str, params: &'static [Param]) -> Entry {
    Entry { kind: WorkloadKind::Model, name, help, params }
}

const fn operator(name: &'static str, help: &'static str, params: &'static [Param]) -> Entry {
    Entry { kind: WorkloadKind::Operator, name, help, params }
}

const fn reference(name: &'static str, help: &'static str) -> Entry {
    Entry { kind: WorkloadKind::Reference, name, help, params: &[] }
}

/// Every built-in workload.
pub const CATALOGUE: &[Entry] = &[
    model("bert-base", "BERT base encoder, 12 layers, width 768 (Devlin et al. 2018)", ENCODER),
    model("bert-tiny", "BERT encoder, 2 layers, width 128, vocabulary 1,024", ENCODER),
    model("gpt2", "GPT-2 small decoder, 12 layers, width 768 (Radford et al. 2019)", DECODER),
    model("gpt2-tiny", "GPT-2 decoder, 2 layers, width 128, vocabulary 1,024", DECODER),
    model("llama", "small Llama decoder, 8 layers, width 512, grouped-query attention, RMSNorm, SwiGLU, RoPE", DECODER),
    model("llama-tiny", "Llama decoder, 2 layers, width 128", DECODER),
    model("resnet50", "ResNet-50, 224 x 224 (He et al. 2015)", VISION),
    model("resnet-tiny", "residual network of one bottleneck block a stage, 64 x 64", VISION),
    model("vit-b16", "ViT-B/16, 224 x 224 (Dosovitskiy et al. 2020)", VISION),
    model("vit-tiny", "vision transformer, 2 layers, width 128, 32 x 32", VISION),
    operator(
        "gemm",
        "C = A B",
        &[
            size("m", 512, "rows of A"),
            size("n", 512, "columns of B"),
            size("k", 512, "columns of A"),
            size("batch", 1, "products in a batch").only(NVIDIA).work(),
            choice(
                "layout",
                &["auto", "nn", "nt", "tn", "tt"],
                "whether A and B are stored as they are (n) or transposed (t); auto is nn, and nt where the precision wants it",
            )
            .only(NVIDIA)
            .work(),
            choice("epilogue", &["none", "bias", "bias-relu", "bias-gelu"], "what follows the product").only(NVIDIA).work(),
            choice("algorithm", &["heuristic", "exhaustive"], "the library's first choice, or the fastest of all it offers")
                .only(NVIDIA),
            choice("accumulation", &["full", "fast"], "how FP8 products are summed").only(NVIDIA),
        ],
    ),
    operator(
        "attention",
        "softmax(Q K^T / sqrt(d)) V",
        &[
            choice(
                "implementation",
                &["naive", "tiled", "fused"],
                "whole score matrix, blocks with a running softmax, or one fused kernel",
            ),
            BATCH,
            size("heads", 8, "attention heads"),
            param("kv_heads", ParamKind::OptionalSize, "heads of keys and values, for grouped queries; all by default")
                .only(NVIDIA)
                .work(),
            SEQ,
            size("head_dim", 64, "width of a head"),
            flag("causal", "mask the future"),
            choice("pass", &["forward", "backward"], "the output, or the gradients of Q, K and V").only(NVIDIA).work(),
        ],
    ),
    operator(
        "layernorm",
        "layer normalisation over rows",
        &[size("rows", 1024, "rows"), size("cols", 768, "row length")],
    ),
    operator("rmsnorm", "root-mean-square normalisation over rows", &[ROWS, COLS]),
    operator("softmax", "softmax over rows", &[ROWS, COLS]),
    operator("reduce", "sum of all elements", &[size("elements", 67_108_864, "how many")]),
    operator(
        "adamw",
        "one step of AdamW: single-precision weights and moments, gradients and a copy of the weights in `precision`",
        &[size("elements", 67_108_864, "weights")],
    ),
    operator("copy", "memory copy", &[size("bytes", 67_108_864, "bytes copied (each read and written once)")]),
    operator(
        "transformer-block",
        "normalisation, attention and a two-layer network with GELU, each with a residual (Radford et al. 2019)",
        &[
            choice("mode", &["inference", "training-step"], "forward pass, or forward, backward and AdamW"),
            BATCH,
            SEQ,
            size("width", 1024, "width of the residual stream"),
            size("heads", 16, "attention heads"),
        ],
    ),
    operator("allreduce", "sum over GPUs, in place (NCCL)", &[BYTES, GPUS]),
    operator("allgather", "each GPU's part to all (NCCL)", &[BYTES, GPUS]),
    operator("p2p", "from each GPU to the next (NCCL)", &[BYTES, GPUS]),
    operator(
        "fault",
        "a workload that goes wrong in a chosen way, to see how that is reported",
        &[choice(
            "kind",
            &[
                "none",
                "error",
                "panic",
                "abort",
                "exit",
                "hang",
                "out-of-memory",
                "wrong-numbers",
                "not-a-number",
                "illegal-address",
                "synchronise",
            ],
            "what goes wrong, at the first sample",
        )],
    ),
    reference("reference-compute", "arithmetic in registers: moves with the clock"),
    reference("reference-memory", "streaming copy beyond the caches: moves with memory bandwidth"),
    reference("reference-launch", "thread hand-over: moves with the scheduler"),
];

/// The row of a workload.
#[must_use]
pub fn find(kind: WorkloadKind, name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.kind == kind && entry.name == name)
}

impl Entry {
    /// Every parameter it understands, its own first.
    pub fn all_params(&self) -> impl Iterator<Item = &'static Param> {
        let common = if matches!(self.kind, WorkloadKind::Program) { &COMMON[..1] } else { COMMON };
        self.params.iter().chain(common)
    }
}
