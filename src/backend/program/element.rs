//! What arrays are made of. Must not know what holds one.

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Brain floating point.
    Bf16,
    /// Half precision.
    F16,
    /// Double precision.
    F64,
    /// 32-bit integers.
    I32,
}

impl Element {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::F16, Self::F64, Self::I32];

    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name() == name)
    }

    /// Its name in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::I32 => "i32",
        }
    }

    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 => 8,
        }
    }

    /// Bytes of an array of this shape; nothing where that overflows or a size is negative.
    #[must_use]
    pub fn bytes_of(self, shape: &[i64]) -> Option<usize> {
        shape.iter().try_fold(self.bytes(), |bytes, size| bytes.checked_mul(usize::try_from(*size).ok()?))
    }
}
