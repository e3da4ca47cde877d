//! What a case runs, and the catalogue of built-in workloads with their parameters.
//!
//! The catalogue is data: suites are validated against it, `regrade list` and the JSON Schema are made from it, and
//! backends read parameters through [`Workload`]'s typed getters. Must not know how anything is executed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// A pinned program that watches the machine.
    Reference,
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

const fn size(name: &'static str, default: i64, help: &'static str) -> Param {
    Param { name, kind: ParamKind::Size { default }, help }
}

/// Parameters of every built-in workload.
pub const COMMON: &[Param] = &[
    size("threads", 1, "CPU threads of the engine"),
    Param { name: "precision", kind: ParamKind::Choice(PRECISIONS), help: "element type of weights and activations" },
];

/// Names of element types; a backend says which it can do.
pub const PRECISIONS: &[&str] = &["f32", "bf16", "f16", "f64", "tf32", "fp8-e4m3", "fp8-e5m2", "int8"];

const MODE: Param = Param {
    name: "mode",
    kind: ParamKind::Choice(&["inference", "decode", "training-step"]),
    help: "forward pass, token by token with a KV cache, or forward, backward and AdamW",
};
const VISION_MODE: Param = Param {
    name: "mode",
    kind: ParamKind::Choice(&["inference", "training-step"]),
    help: "forward pass, or forward, backward and AdamW",
};
const CHECKPOINT: Param = Param {
    name: "checkpoint",
    kind: ParamKind::OptionalText,
    help: "safetensors file with the weights; seeded random ones otherwise",
};
const BATCH: Param = size("batch", 1, "sequences or images in a batch");
const SEQ: Param = size("seq", 128, "tokens in a sequence (in `decode`: of the prompt)");
const TOKENS: Param = size("tokens", 16, "tokens generated by one iteration of `decode`");

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
        &[size("m", 512, "rows of A"), size("n", 512, "columns of B"), size("k", 512, "columns of A")],
    ),
    operator(
        "attention",
        "softmax(Q K^T / sqrt(d)) V",
        &[
            Param {
                name: "implementation",
                kind: ParamKind::Choice(&["naive", "tiled"]),
                help: "whole score matrix, or blocks with a running softmax",
            },
            BATCH,
            size("heads", 8, "attention heads"),
            SEQ,
            size("head_dim", 64, "width of a head"),
            Param { name: "causal", kind: ParamKind::Flag { default: false }, help: "mask the future" },
        ],
    ),
    operator(
        "layernorm",
        "layer normalisation over rows",
        &[size("rows", 1024, "rows"), size("cols", 768, "row length")],
    ),
    operator("softmax", "softmax over rows", &[size("rows", 1024, "rows"), size("cols", 1024, "row length")]),
    operator("copy", "memory copy", &[size("bytes", 67_108_864, "bytes copied (each read and written once)")]),
    operator(
        "fault",
        "a workload that goes wrong in a chosen way, to see how that is reported",
        &[Param {
            name: "kind",
            kind: ParamKind::Choice(&[
                "none",
                "error",
                "panic",
                "abort",
                "exit",
                "hang",
                "out-of-memory",
                "wrong-numbers",
            ]),
            help: "what goes wrong, at the first sample",
        }],
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
        self.params.iter().chain(COMMON)
    }
}
