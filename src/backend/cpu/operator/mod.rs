//! The CPU backend's operators: one file each, and the table that names them.
//!
//! Must not know how samples are taken. Operators on tensors implement [`tensor::Operator`]; the others are subjects
//! of their own.

use crate::backend::{BackendError, Prepared};
use crate::domain::{Skip, Workload};

mod attention;
mod copy;
mod fault;
mod gemm;
mod precision;
mod rowwise;
mod tensor;

#[cfg(test)]
mod tests;

/// Loads an operator with inputs drawn from a seed.
type Load = fn(&Workload, u64) -> Result<Box<dyn Prepared>, BackendError>;

/// One row of the table.
struct Row {
    name: &'static str,
    /// Precisions it can run in; `None` where precision means nothing.
    precisions: Option<&'static [&'static str]>,
    /// Values of parameters that only other backends can do.
    cannot: &'static [(&'static str, &'static str)],
    load: Load,
}

/// Every operator. candle's matrix product has no bf16 and its layer normalisation no f64 on a CPU.
const OPERATORS: &[Row] = &[
    Row { name: "gemm", precisions: Some(&["f32", "f16", "f64"]), cannot: &[], load: gemm::load },
    Row {
        name: "attention",
        precisions: Some(&["f32", "f16", "f64"]),
        cannot: &[("implementation", "fused")],
        load: attention::load,
    },
    Row { name: "layernorm", precisions: Some(&["f32", "bf16", "f16"]), cannot: &[], load: rowwise::load_layernorm },
    Row { name: "softmax", precisions: Some(&["f32", "bf16", "f16", "f64"]), cannot: &[], load: rowwise::load_softmax },
    Row { name: "copy", precisions: None, cannot: &[], load: copy::load },
    Row {
        name: "fault",
        precisions: None,
        cannot: &[("kind", "not-a-number"), ("kind", "illegal-address"), ("kind", "synchronise")],
        load: fault::load,
    },
];

fn find(name: &str) -> Result<&'static Row, Skip> {
    OPERATORS.iter().find(|row| row.name == name).ok_or_else(|| Skip {
        reason: format!("the cpu backend has no operator `{name}`"),
        remedy: format!("use one of {}", OPERATORS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")),
    })
}

/// Whether this operator can run in the precision asked for.
///
/// # Errors
/// What cannot, and what can instead.
pub fn supports(workload: &Workload) -> Result<(), Skip> {
    let row = find(&workload.name)?;
    if let Some((param, value)) = row.cannot.iter().find(|(param, value)| workload.text(param) == Ok(*value)) {
        return Err(Skip {
            reason: format!("`{}` with {param} = {value} is not for the cpu backend", workload.name),
            remedy: "run it on a GPU, or choose another".to_owned(),
        });
    }
    let Some(precisions) = row.precisions else {
        return Ok(());
    };
    let unable = |reason| Skip { reason, remedy: format!("use one of {}", precisions.join(", ")) };
    let asked = workload.text("precision").map_err(unable)?;
    if precisions.contains(&asked) {
        Ok(())
    } else {
        Err(unable(format!("`{}` has no {asked} on the cpu backend", workload.name)))
    }
}

/// Loads an operator.
///
/// # Errors
/// When a parameter is missing or of another type, the precision is not there, or inputs cannot be made.
pub fn load(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let refuse = |skip: Skip| BackendError::Unsupported(format!("{}: {}", skip.reason, skip.remedy));
    supports(workload).map_err(refuse)?;
    (find(&workload.name).map_err(refuse)?.load)(workload, seed)
}
