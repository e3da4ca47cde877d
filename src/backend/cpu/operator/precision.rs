//! Element types of tensors, and how wrong a result may be in each.
//!
//! Must not know which operator asks.

use candle_core::DType;

use crate::backend::BackendError;
use crate::domain::Workload;

/// One row a precision: its name in suites, the engine's type, and the largest error that passes.
///
/// An error is the largest difference from the f64 reference over the largest value of the reference, on the same
/// (already rounded) inputs. In units of each type's rounding (2⁻⁵³, 2⁻²⁴, 2⁻¹¹, 2⁻⁸) the tolerances are about 9,000,
/// 170, 8 and 5: single roundings dominate the short types, whose sums are kept in f32, and sums over thousands of
/// terms the long ones.
const PRECISIONS: &[(&str, DType, f64)] =
    &[("f64", DType::F64, 1e-12), ("f32", DType::F32, 1e-5), ("f16", DType::F16, 4e-3), ("bf16", DType::BF16, 2e-2)];

/// The element type that a workload asks for.
///
/// # Errors
/// When it asks for none, or for one that tensors here cannot have.
pub fn of(workload: &Workload) -> Result<DType, BackendError> {
    let asked = workload.text("precision").map_err(BackendError::Unsupported)?;
    PRECISIONS
        .iter()
        .find(|(name, ..)| *name == asked)
        .map(|&(_, dtype, _)| dtype)
        .ok_or_else(|| BackendError::Unsupported(format!("the cpu backend has no precision `{asked}`")))
}

/// The largest error that passes.
pub fn tolerance(dtype: DType) -> f64 {
    PRECISIONS.iter().find(|(_, candidate, _)| *candidate == dtype).map_or(0.0, |&(.., tolerance)| tolerance)
}
