//! A copy within device memory, by a kernel of our own: what the memory's bandwidth allows.

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::kernels;
use crate::backend::nvidia::operator::{median_time, once};
use crate::backend::nvidia::work::{self, Element, Site, Work};
use crate::domain::{Check, Workload};

#[derive(Debug)]
struct Copy {
    kernel: kernels::Copy,
    from: Buffer,
    to: Buffer,
}

/// Makes `copy` with two buffers of `bytes`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let bytes = workload.size("bytes").map_err(CudaError::Parameter)?;
    let from = site.normal(Element::Int8, bytes, seed, "source")?;
    let to = site.room(Element::Int8, bytes)?;
    Ok(Box::new(Copy { kernel: kernels::Copy::new(site)?, from, to }))
}

impl Work for Copy {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.kernel.run(&self.from, &self.to, stream)
    }

    /// Each byte read once and written once.
    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some(2.0 * self.from.bytes() as f64), ..WorkCounts::default() }
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        // No source has this byte everywhere, so a copy that does nothing is found out.
        self.to.fill(0x80, stream)?;
        once(stream, |stream| self.enqueue(stream))?;
        let wrong = site.differences(&self.from, &self.to)?;
        Ok(vec![Check::new("wrong bytes", "the bytes copied", wrong as f64, 0.0)])
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let made = &self.kernel.made;
        let values = kernels::Copy::geometry(self.from.bytes())
            .and_then(|geometry| work::footprint(&made.kernel, &geometry, Some(made.seconds)));
        values.unwrap_or_default()
    }
}

/// The rate of a large copy by the driver itself, B/s read and written. `None` where there is no room for it.
///
/// # Errors
/// As the device refuses.
pub fn rate(site: &Site) -> Result<Option<f64>> {
    const BYTES: usize = 1 << 30;
    const RUNS: usize = 10;
    let (from, to) = match (site.device.allocate(BYTES), site.device.allocate(BYTES)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(error), _) | (_, Err(error)) if error.is_out_of_memory() => return Ok(None),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    from.fill(1, &site.stream)?;
    let seconds = median_time(site, RUNS, || to.copy_from(&from, &site.stream))?;
    Ok(Some(2.0 * BYTES as f64 / seconds))
}
