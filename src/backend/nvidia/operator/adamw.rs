//! `adamw`: one fused step of the optimiser, by a kernel of our own.

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::kernels::{Adamw, AdamwSettings};
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Element, Site, Work};
use crate::domain::{Check, Workload};

/// Weights that are compared.
const COMPARED: usize = 4096;

#[derive(Debug)]
struct Step {
    element: Element,
    count: usize,
    seed: u64,
    kernel: Adamw,
    weights: Buffer,
    first: Buffer,
    second: Buffer,
    gradient: Buffer,
    copy: Buffer,
}

/// Makes `adamw`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let element = super::element_of(workload)?;
    let count = workload.size("elements").map_err(CudaError::Parameter)?;
    Ok(Box::new(Step {
        element,
        count,
        seed,
        kernel: Adamw::new(site, element)?,
        weights: site.normal(Element::F32, count, seed, "weights")?,
        first: site.normal_of(Element::F32, count, seed, "first", 0.0, 1e-2)?,
        second: site.uniform(Element::F32, count, seed, "second", [1e-6, 1e-4])?,
        gradient: site.normal_of(element, count, seed, "gradient", 0.0, 1e-2)?,
        copy: site.room(element, count)?,
    }))
}

impl Work for Step {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.kernel.run([&self.weights, &self.first, &self.second, &self.gradient, &self.copy], stream)
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some((self.count * Adamw::bytes(self.element)) as f64), ..WorkCounts::default() }
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        let places = work::picks(self.seed, "weights", COMPARED, self.count);
        let at = |buffer: &Buffer, element: Element| site.gather(buffer, element, &places);
        let (w, m) = (at(&self.weights, Element::F32)?, at(&self.first, Element::F32)?);
        let (v, g) = (at(&self.second, Element::F32)?, at(&self.gradient, self.element)?);
        self.copy.fill(0xff, stream)?;
        once(stream, |stream| self.enqueue(stream))?;
        let want: Vec<[f64; 3]> = (0..w.len()).map(|i| stepped(self.kernel.settings, w[i], m[i], v[i], g[i])).collect();
        let check = |name: &str, got: Vec<f64>, place: usize, element: Element| {
            let want: Vec<f64> = want.iter().map(|want| want[place]).collect();
            Check::new(name, "one step in f64", work::error(&got, &want), element.tolerance())
        };
        Ok(vec![
            check("weights", at(&self.weights, Element::F32)?, 0, Element::F32),
            check("first moments", at(&self.first, Element::F32)?, 1, Element::F32),
            check("second moments", at(&self.second, Element::F32)?, 2, Element::F32),
            check("copy", at(&self.copy, self.element)?, 0, self.element),
        ])
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let made = &self.kernel.made;
        let values = Adamw::geometry(self.count)
            .and_then(|geometry| work::footprint(&made.kernel, &geometry, Some(made.seconds)));
        values.unwrap_or_default()
    }
}

/// Weight and moments after a step (Loshchilov and Hutter 2019, algorithm 2).
pub fn stepped(settings: AdamwSettings, w: f64, m: f64, v: f64, g: f64) -> [f64; 3] {
    let wide = f64::from;
    let (beta1, beta2) = (wide(settings.beta1), wide(settings.beta2));
    let m = beta1 * m + (1.0 - beta1) * g;
    let v = beta2 * v + (1.0 - beta2) * g * g;
    let (unbiased_m, unbiased_v) = (m / (1.0 - beta1.powi(settings.step)), v / (1.0 - beta2.powi(settings.step)));
    let rate = wide(settings.rate);
    let w = w - rate * (unbiased_m / (unbiased_v.sqrt() + wide(settings.epsilon)) + wide(settings.decay) * w);
    [w, m, v]
}
