//! `softmax`, `layernorm` and `rmsnorm` over the rows of a matrix: kernels of our own that read and write each row once.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::kernels::Rowwise;
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Element, Site, Work};
use crate::backend::plain;
use crate::domain::{Check, Workload};

/// Rows that are compared.
const COMPARED: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Softmax,
    Layernorm,
    Rmsnorm,
}

#[derive(Debug)]
struct Rows {
    kind: Kind,
    element: Element,
    height: usize,
    cols: usize,
    seed: u64,
    kernel: Rowwise,
    x: Buffer,
    gamma: Option<Buffer>,
    beta: Option<Buffer>,
    y: Buffer,
}

/// Makes `softmax`.
pub fn make_softmax(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    make(site, workload, seed, Kind::Softmax)
}

/// Makes `layernorm`.
pub fn make_layernorm(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    make(site, workload, seed, Kind::Layernorm)
}

/// Makes `rmsnorm`.
pub fn make_rmsnorm(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    make(site, workload, seed, Kind::Rmsnorm)
}

fn make(site: &Site, workload: &Workload, seed: u64, kind: Kind) -> Result<Box<dyn Work>> {
    let size = |name: &str| workload.size(name).map_err(CudaError::Parameter);
    let element = super::element_of(workload)?;
    let (rows, cols) = (size("rows")?, size("cols")?);
    let count = work::elements(&[rows, cols])?;
    let name = match kind {
        Kind::Softmax => "softmax",
        Kind::Layernorm => "layernorm",
        Kind::Rmsnorm => "rmsnorm",
    };
    let vector = |name: &str, wanted: bool| wanted.then(|| site.normal(element, cols, seed, name)).transpose();
    Ok(Box::new(Rows {
        kind,
        element,
        height: rows,
        cols,
        seed,
        kernel: Rowwise::new(site, name, element, rows, cols)?,
        x: site.normal(element, count, seed, "x")?,
        gamma: vector("gamma", kind != Kind::Softmax)?,
        beta: vector("beta", kind == Kind::Layernorm)?,
        y: site.room(element, count)?,
    }))
}

impl Work for Rows {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        let mut buffers = vec![&self.x];
        buffers.extend(&self.gamma);
        buffers.extend(&self.beta);
        buffers.push(&self.y);
        let more = |arguments: crate::backend::nvidia::cuda::Arguments| match self.kind {
            Kind::Softmax => arguments,
            Kind::Layernorm | Kind::Rmsnorm => arguments.f32(plain::EPSILON),
        };
        self.kernel.run(&buffers, more, stream)
    }

    /// Each element read once and written once, and scale and shift read once.
    fn counts(&self) -> WorkCounts {
        let parameters = [&self.gamma, &self.beta].into_iter().flatten().map(Buffer::bytes).sum::<usize>();
        WorkCounts { bytes: Some((2 * self.x.bytes() + parameters) as f64), ..WorkCounts::default() }
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        self.y.fill(0xff, stream)?;
        once(stream, |stream| self.enqueue(stream))?;
        let cols = self.cols as u64;
        let vector = |buffer: &Option<Buffer>| {
            buffer.as_ref().map_or(Ok(Vec::new()), |buffer| site.range(buffer, self.element, 0, cols))
        };
        let (gamma, beta) = (vector(&self.gamma)?, vector(&self.beta)?);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for row in work::picks(self.seed, "rows", COMPARED, self.height) {
            let x = site.range(&self.x, self.element, row * cols, cols)?;
            got.extend(site.range(&self.y, self.element, row * cols, cols)?);
            want.extend(match self.kind {
                Kind::Softmax => plain::softmax(&x),
                Kind::Layernorm => plain::layernorm(&x, &gamma, &beta),
                Kind::Rmsnorm => plain::rmsnorm(&x, &gamma),
            });
        }
        Ok(vec![Check::new("output", "plain loops in f64", work::error(&got, &want), self.element.tolerance())])
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let made = &self.kernel.made;
        work::footprint(&made.kernel, &self.kernel.geometry, Some(made.seconds)).unwrap_or_default()
    }

    fn facts(&self) -> BTreeMap<String, Json> {
        let geometry = &self.kernel.geometry;
        [("grid".to_owned(), json!(geometry.grid)), ("block".to_owned(), json!(geometry.block))].into()
    }
}
