//! Operators on NVIDIA GPUs: one file each, and the table that names them.
//!
//! Must not know how time is taken.

use crate::backend::nvidia::cuda::{CudaError, Result, Stream};
use crate::backend::nvidia::work::{Arithmetic, Element, Site, Work};
use crate::domain::{Skip, Workload, WorkloadKind};
use crate::hardware::cuda::{self, Library};
use crate::stats::quantile::median;

mod adamw;
mod attention;
mod block;
mod copy;
mod fault;
mod gemm;
mod reduce;
mod rowwise;
mod user;

/// Makes an operator with inputs drawn from a seed.
type Make = fn(&Site, &Workload, u64) -> Result<Box<dyn Work>>;

/// One row of the table.
struct Row {
    name: &'static str,
    /// Precisions it can run in; `None` where precision means nothing.
    precisions: Option<&'static [&'static str]>,
    /// What it calls beside the driver and the compiler.
    libraries: &'static [Library],
    make: Make,
}

/// What our own kernels can do.
const OURS: Option<&[&str]> = Some(&["f32", "bf16", "f16"]);

const OPERATORS: &[Row] = &[
    Row {
        name: "gemm",
        precisions: Some(&["f32", "tf32", "bf16", "f16", "f64", "fp8-e4m3", "fp8-e5m2", "int8"]),
        libraries: &[Library::CublasLt],
        make: gemm::make,
    },
    Row {
        name: "attention",
        precisions: Some(&["bf16", "f16", "f32", "fp8-e4m3"]),
        libraries: &[Library::CublasLt],
        make: attention::make,
    },
    Row { name: "layernorm", precisions: OURS, libraries: &[], make: rowwise::make_layernorm },
    Row { name: "rmsnorm", precisions: OURS, libraries: &[], make: rowwise::make_rmsnorm },
    Row { name: "softmax", precisions: OURS, libraries: &[], make: rowwise::make_softmax },
    Row { name: "reduce", precisions: OURS, libraries: &[], make: reduce::make },
    Row { name: "adamw", precisions: OURS, libraries: &[], make: adamw::make },
    Row { name: "copy", precisions: None, libraries: &[], make: copy::make },
    Row {
        name: "transformer-block",
        precisions: Some(&["bf16", "f16"]),
        libraries: &[Library::CublasLt, Library::Cudnn],
        make: block::make,
    },
    Row { name: "fault", precisions: None, libraries: &[], make: fault::make },
];

fn find(name: &str) -> std::result::Result<&'static Row, Skip> {
    OPERATORS.iter().find(|row| row.name == name).ok_or_else(|| Skip {
        reason: format!("the nvidia backend has no operator `{name}`"),
        remedy: format!("use one of {}", OPERATORS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")),
    })
}

/// Whether this operator can run here in the precision asked for.
///
/// # Errors
/// What cannot, and what can instead or what to install.
pub fn supports(workload: &Workload) -> std::result::Result<(), Skip> {
    if workload.kind == WorkloadKind::Kernel {
        return cuda::need(Library::Nvrtc).map_err(crate::backend::nvidia::cuda::skip);
    }
    let row = find(&workload.name)?;
    let fused = workload.text("implementation") == Ok("fused");
    for library in
        [Library::Nvrtc].into_iter().chain(row.libraries.iter().copied()).chain(fused.then_some(Library::Cudnn))
    {
        cuda::need(library).map_err(crate::backend::nvidia::cuda::skip)?;
    }
    let Some(precisions) = row.precisions else { return Ok(()) };
    let unable = |reason| Skip { reason, remedy: format!("use one of {}", precisions.join(", ")) };
    let asked = workload.text("precision").map_err(unable)?;
    if precisions.contains(&asked) {
        Ok(())
    } else {
        Err(unable(format!("`{}` has no {asked} on the nvidia backend", workload.name)))
    }
}

/// Makes an operator.
///
/// # Errors
/// When a parameter is missing or makes no sense, memory runs out, or a library refuses.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    if workload.kind == WorkloadKind::Kernel {
        return user::make(site, workload, seed);
    }
    let row = find(&workload.name).map_err(|skip| CudaError::Parameter(format!("{}; {}", skip.reason, skip.remedy)))?;
    (row.make)(site, workload, seed)
}

/// The element type that a workload of ours asks for.
///
/// # Errors
/// When it names none.
pub fn element_of(workload: &Workload) -> Result<Element> {
    let precision = workload.text("precision").map_err(CudaError::Parameter)?;
    Element::of(precision).ok_or_else(|| CudaError::Parameter(format!("no element type `{precision}`")))
}

/// The rate of a large copy, B/s read and written: what this very GPU's memory reaches now.
///
/// # Errors
/// As the device refuses.
pub fn copy_rate(site: &Site) -> Result<Option<f64>> {
    copy::rate(site)
}

/// The rate of a large matrix product, FLOP/s.
///
/// # Errors
/// As the device refuses.
pub fn product_rate(site: &Site, arithmetic: Arithmetic) -> Result<Option<f64>> {
    gemm::rate(site, arithmetic)
}

/// Median seconds of something that is enqueued, after one run that does not count.
fn median_time(site: &Site, runs: usize, mut enqueue: impl FnMut() -> Result<()>) -> Result<f64> {
    let events = (0..=runs).map(|_| site.device.event()).collect::<Result<Vec<_>>>()?;
    enqueue()?;
    events[0].record(&site.stream)?;
    for event in &events[1..] {
        enqueue()?;
        event.record(&site.stream)?;
    }
    site.stream.synchronize()?;
    let times = events.windows(2).map(|pair| pair[1].since(&pair[0])).collect::<Result<Vec<f64>>>()?;
    Ok(median(&times))
}

/// Runs one iteration of what `enqueue` does and waits.
fn once(stream: &Stream, enqueue: impl FnOnce(&Stream) -> Result<()>) -> Result<()> {
    enqueue(stream)?;
    stream.synchronize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::{CATALOGUE, PRECISIONS, find as catalogue};

    #[test]
    fn every_operator_and_precision_is_in_the_catalogue() {
        for row in OPERATORS {
            assert!(catalogue(WorkloadKind::Operator, row.name).is_some(), "{}", row.name);
            for precision in row.precisions.unwrap_or_default() {
                assert!(PRECISIONS.contains(precision), "{}: {precision}", row.name);
            }
        }
        assert!(CATALOGUE.iter().any(|entry| entry.name == "allreduce"));
    }
}
