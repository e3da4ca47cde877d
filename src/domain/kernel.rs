//! A kernel of the user's as a workload: every size worked out for one case.
//!
//! Must not know how it is compiled or run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kernel and everything that launching, counting and checking it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kernel {
    /// The code that is measured.
    pub code: KernelCode,
    /// Arguments in their order.
    pub arguments: Vec<KernelArgument>,
    /// Operations of one launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// Which unit does them, where its peak bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<KernelArithmetic>,
    /// Bytes that one launch must move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// What its outputs are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<KernelReference>,
    /// The largest difference over the largest value of the reference; by element type where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

impl Kernel {
    /// Paths of the files that its code comes from, the reference's included.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let reference = match &self.reference {
            Some(KernelReference::Kernel(code)) => Some(code.source.as_str()),
            _ => None,
        };
        [self.code.source.as_str()].into_iter().chain(reference)
    }
}

/// Code and geometry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelCode {
    /// Path of a `.cu`, `.ptx`, `.cubin` or `.fatbin` file.
    pub source: String,
    /// The function's name in it (`extern "C"`, or the mangled name).
    pub function: String,
    /// Further options of the compiler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Folders with headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// What it is compiled for, such as `sm_90a`; the device's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block in each direction.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, bytes.
    pub shared: u32,
    /// Blocks of a cluster in each direction.
    pub cluster: [u32; 3],
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelArgument {
    /// Device memory.
    Buffer {
        /// For references and the check.
        name: String,
        /// Element type, as precisions are named.
        element: String,
        /// Sizes, slowest first.
        shape: Vec<u64>,
        /// What it holds at first.
        fill: KernelFill,
        /// Whether it is compared with the reference's.
        output: bool,
    },
    /// A number.
    Value {
        /// `i32`, `u32`, `i64`, `u64`, `f32` or `f64`.
        element: String,
        /// Its value.
        value: Number,
    },
}

/// A number that a kernel is given. Whole ones are kept exactly; earlier versions wrote all of them with a point.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Number {
    /// A whole number.
    Whole(i64),
    /// A whole number beyond those.
    Large(u64),
    /// Any other.
    Real(f64),
}

impl Number {
    /// A whole number; `None` beyond 64 bits.
    #[must_use]
    pub fn whole(value: i128) -> Option<Self> {
        i64::try_from(value).map(Self::Whole).or_else(|_| u64::try_from(value).map(Self::Large)).ok()
    }

    /// Its value where it is whole and written so.
    fn exact(self) -> Option<i128> {
        match self {
            Self::Whole(value) => Some(value.into()),
            Self::Large(value) => Some(value.into()),
            Self::Real(_) => None,
        }
    }

    /// The nearest number with a point.
    #[must_use]
    pub const fn real(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Large(value) => value as f64,
            Self::Real(value) => value,
        }
    }

    /// The lowest 64 bits of its two's complement.
    #[must_use]
    pub fn bits(self) -> u64 {
        // What earlier versions wrote with a point is whole where it is asked for so.
        self.exact().unwrap_or(self.real() as i128) as u64
    }
}

/// One that an earlier version wrote with a point is the same number: a case did not become another.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self.exact(), other.exact()) {
            (Some(own), Some(other)) => own == other,
            _ => self.real() == other.real(),
        }
    }
}

/// The unit whose datasheet peak bounds a kernel's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelArithmetic {
    /// Single precision outside the tensor cores.
    Fp32,
    /// TF32 on tensor cores.
    Tf32,
    /// BF16 or FP16 on tensor cores.
    Half,
    /// FP8 on tensor cores.
    Fp8,
    /// INT8 on tensor cores.
    Int8,
}

impl KernelArithmetic {
    /// All, as suites name them.
    pub const NAMED: [(&str, Self); 5] =
        [("fp32", Self::Fp32), ("tf32", Self::Tf32), ("half", Self::Half), ("fp8", Self::Fp8), ("int8", Self::Int8)];
}

/// What a buffer holds before the first launch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelFill {
    /// Standard normal values from the session's seed.
    Normal,
    /// Uniform values from -1 to 1.
    Uniform,
    /// One value everywhere.
    Constant(f64),
}

/// What a kernel's outputs are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelReference {
    /// Another kernel with the same arguments, on inputs of its own.
    Kernel(Box<KernelCode>),
    /// Plain loops in double precision.
    Operator {
        /// `softmax`, `layernorm`, `rmsnorm`, `gemm` or `copy`.
        name: String,
        /// Buffers that it reads, in the operator's order.
        inputs: Vec<String>,
        /// The buffer that is compared.
        output: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_written_as_suites_name_them() {
        for (name, unit) in KernelArithmetic::NAMED {
            assert_eq!(serde_json::to_value(unit).expect("JSON"), name);
        }
    }

    #[test]
    fn whole_numbers_survive_json_exactly_and_earlier_ones_are_read() {
        for value in [0, -1, i128::from(i64::MIN), i128::from(u64::MAX), (1 << 53) + 1] {
            let number = Number::whole(value).expect("64 bits");
            let text = serde_json::to_string(&number).expect("JSON");
            assert_eq!(text, value.to_string());
            let back: Number = serde_json::from_str(&text).expect(&text);
            assert_eq!((back, back.exact(), back.bits()), (number, Some(value), value as u64));
        }
        assert_eq!(Number::whole(1 << 64), None);
        let earlier: Number = serde_json::from_str("999.0").expect("an earlier version's");
        assert_eq!((earlier, earlier.bits()), (Number::Whole(999), 999));
        let negative: Number = serde_json::from_str("-3.0").expect("an earlier version's");
        assert_eq!(negative.bits() as u32 as i32, -3);
        assert_ne!(Number::Real(2.5), Number::Whole(2));
    }
}
