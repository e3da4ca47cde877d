//! `reduce`: the sum of all elements, by a kernel of our own whose order of additions never changes.

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::kernels::Reduce;
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Element, Site, Work};
use crate::domain::{Check, Workload};

#[derive(Debug)]
struct Sum {
    element: Element,
    count: usize,
    kernel: Reduce,
    x: Buffer,
    out: Buffer,
}

/// Makes `reduce`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let element = super::element_of(workload)?;
    let count = workload.size("elements").map_err(CudaError::Parameter)?;
    Ok(Box::new(Sum {
        element,
        count,
        kernel: Reduce::new(site, element, count)?,
        // A mean of one half, so that the sum is large beside its rounding.
        x: site.normal_of(element, count, seed, "x", 0.5, 1.0)?,
        out: site.room(Element::F32, 1)?,
    }))
}

impl Work for Sum {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.kernel.run(&self.x, &self.out, stream)
    }

    /// Each element read once; one addition each.
    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some(self.x.bytes() as f64), ..WorkCounts::default() }
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        self.out.fill(0xff, stream)?;
        once(stream, |stream| self.enqueue(stream))?;
        let got: Vec<f64> = self.out.read::<f32>()?.into_iter().map(f64::from).take(1).collect();
        let want = site.total(&self.x, self.element, self.count)?;
        Ok(vec![Check::new("sum", "a sum in f64", work::error(&got, &[want]), Element::F32.tolerance())])
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let made = &self.kernel.made;
        work::footprint(&made.kernel, &self.kernel.geometry, Some(made.seconds)).unwrap_or_default()
    }
}
