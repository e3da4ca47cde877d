//! A workload that goes wrong in a chosen way on the GPU, so that users and tests see how each ending is reported.

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Arguments, Buffer, CudaError, Geometry, Kernel, Result, Stream};
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Element, Site, Work};
use crate::domain::{Check, Workload};

const SOURCE: &str = include_str!("../kernels/fault.cu");
const COUNT: u32 = 1 << 16;
/// Beyond any memory, and aligned.
const NOWHERE: u64 = 0x7fff_ffff_0000;

#[derive(Debug)]
struct Fault {
    kind: String,
    kernel: Kernel,
    values: Buffer,
    /// What `out-of-memory` took.
    taken: Vec<Buffer>,
}

/// Makes `fault`; what goes wrong does so in the first iteration, while loading for `out-of-memory`, or in the check.
pub fn make(site: &Site, workload: &Workload, _seed: u64) -> Result<Box<dyn Work>> {
    let kind = workload.text("kind").map_err(CudaError::Parameter)?.to_owned();
    let built = site.build("fault.cu", SOURCE, &[])?;
    let kernel = built.module.kernel(match kind.as_str() {
        "hang" => "spin_for_ever",
        "illegal-address" => "write_nowhere",
        _ => "add_one",
    })?;
    let values = site.constant(Element::F32, COUNT as usize, 0.0)?;
    let mut fault = Fault { kind, kernel, values, taken: Vec::new() };
    match fault.kind.as_str() {
        // Plain allocations until there is no more: what a workload that is too large meets.
        "out-of-memory" => loop {
            fault.taken.push(site.device.allocate(1 << 30)?);
        },
        "error" => work::refuse("the workload failed, as asked for"),
        "panic" => panic!("panicked, as asked for"),
        "abort" => std::process::abort(),
        "exit" => work::refuse("`exit` is for the cpu backend; choose another kind"),
        _ => Ok(Box::new(fault)),
    }
}

impl Work for Fault {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        let arguments = match self.kind.as_str() {
            "illegal-address" => Arguments::new().u64(NOWHERE),
            "not-a-number" => Arguments::new().buffer(&self.values).u32(COUNT).f32(f32::NAN),
            "wrong-numbers" => Arguments::new().buffer(&self.values).u32(COUNT).f32(1.5),
            _ => Arguments::new().buffer(&self.values).u32(COUNT).f32(1.0),
        };
        self.kernel.launch(&Geometry::linear(COUNT / 256, 256), &arguments, stream)?;
        if self.kind == "synchronise" { stream.synchronize() } else { Ok(()) }
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts::default()
    }

    fn check(&mut self, _site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        once(stream, |stream| self.enqueue(stream))?;
        let got: Vec<f64> = self.values.read::<f32>()?.into_iter().map(f64::from).collect();
        let want: Vec<f64> = (1..=COUNT).map(f64::from).collect();
        Ok(vec![Check::new("values", "counted on the host", work::error(&got, &want), Element::F32.tolerance())])
    }
}
