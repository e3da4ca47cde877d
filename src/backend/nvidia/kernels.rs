//! Our own kernels, compiled for one device and element type, with the geometry that each wants.
//!
//! The sources say what each computes and why it is launched so. Must not know who calls them, nor why.

use std::rc::Rc;

use crate::backend::nvidia::cuda::{Arguments, Buffer, CudaError, Geometry, Kernel, Result, Stream};
use crate::backend::nvidia::work::{Element, Site};

const COPY: &str = concat!(include_str!("kernels/element.cuh"), include_str!("kernels/copy.cu"));
const ROWWISE: &str = concat!(include_str!("kernels/element.cuh"), include_str!("kernels/rowwise.cu"));
const ADAMW: &str = concat!(include_str!("kernels/element.cuh"), include_str!("kernels/adamw.cu"));
const ELEMENTWISE: &str = concat!(include_str!("kernels/element.cuh"), include_str!("kernels/elementwise.cu"));

/// Bytes of one access.
const VECTOR: usize = 16;
/// Shared memory that a kernel may use without asking, bytes.
const UNASKED_SHARED: usize = 48 << 10;

/// A kernel with how it was made.
#[derive(Debug)]
pub struct Made {
    /// The kernel.
    pub kernel: Kernel,
    /// Compile time, seconds.
    pub seconds: f64,
}

impl Made {
    fn new(site: &Site, name: &str, file: &str, source: &str, options: &[String]) -> Result<Self> {
        let mut all = vec!["-std=c++17".to_owned(), format!("-DWANT_{name}")];
        all.extend_from_slice(options);
        let built = site.build(file, source, &all)?;
        Ok(Self { kernel: built.module.kernel(name)?, seconds: built.seconds })
    }
}

fn element_option(element: Element) -> Result<String> {
    match element {
        Element::F32 | Element::Bf16 | Element::F16 => Ok(format!("-DELEMENT={}", element as u32)),
        other => Err(CudaError::Parameter(format!("these kernels have no {other:?}"))),
    }
}

fn blocks(count: usize) -> Result<u32> {
    i32::try_from(count.max(1))
        .ok()
        .map(i32::cast_unsigned)
        .ok_or_else(|| CudaError::Parameter(format!("{count} blocks are more than a grid has")))
}

/// A copy of any number of bytes.
#[derive(Debug)]
pub struct Copy {
    /// The kernel.
    pub made: Made,
}

impl Copy {
    const THREADS: u32 = 512;

    /// Compiles it.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site) -> Result<Self> {
        Ok(Self { made: Made::new(site, "copy", "copy.cu", COPY, &[])? })
    }

    /// Where it runs for so many bytes.
    pub fn geometry(bytes: usize) -> Result<Geometry> {
        Ok(Geometry::linear(blocks(bytes.div_ceil(VECTOR * Self::THREADS as usize))?, Self::THREADS))
    }

    /// Enqueues it.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, from: &Buffer, to: &Buffer, stream: &Stream) -> Result<()> {
        let bytes = from.bytes().min(to.bytes());
        let arguments = Arguments::new().buffer(from).buffer(to).size(bytes);
        self.made.kernel.launch(&Self::geometry(bytes)?, &arguments, stream)
    }
}

/// A sum of all elements.
#[derive(Debug)]
pub struct Reduce {
    /// The kernel.
    pub made: Made,
    /// Where it runs.
    pub geometry: Geometry,
    partial: Buffer,
    count: usize,
}

impl Reduce {
    const THREADS: u32 = 512;

    /// Compiles it for so many elements.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site, element: Element, count: usize) -> Result<Self> {
        let made = Made::new(site, "reduce", "copy.cu", COPY, &[element_option(element)?])?;
        let lanes = VECTOR / element.bytes();
        let most = 32 * site.device.multiprocessors()?;
        let grid = count.div_ceil(lanes * Self::THREADS as usize * 4).clamp(1, most);
        // The last word is the ticket by which the last block knows itself: zero before the first launch.
        let partial = site.constant(Element::F32, grid + 1, 0.0)?;
        Ok(Self { made, geometry: Geometry::linear(blocks(grid)?, Self::THREADS), partial, count })
    }

    /// Enqueues it; `out` gets one number in single precision.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, x: &Buffer, out: &Buffer, stream: &Stream) -> Result<()> {
        let arguments = Arguments::new().buffer(x).size(self.count).buffer(&self.partial).buffer(out);
        self.made.kernel.launch(&self.geometry, &arguments, stream)
    }
}

/// Kernels over the rows of a matrix, compiled for one row length.
#[derive(Debug)]
pub struct Rowwise {
    /// The kernel.
    pub made: Made,
    /// Where it runs.
    pub geometry: Geometry,
    rows: usize,
    cols: usize,
}

impl Rowwise {
    /// Compiles one of `softmax`, `softmax_scaled`, `softmax_backward`, `layernorm`, `layernorm_stats`, `rmsnorm`.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site, name: &str, element: Element, rows: usize, cols: usize) -> Result<Self> {
        let vectors = cols.div_ceil(VECTOR / element.bytes());
        let threads = vectors.div_ceil(4).next_power_of_two().clamp(32, 1024);
        let together = if threads == 32 && vectors <= 64 { 4 } else { 1 };
        let options = [
            element_option(element)?,
            format!("-DCOLS={cols}"),
            format!("-DTHREADS={threads}"),
            format!("-DROWS={together}"),
        ];
        let made = Made::new(site, name, "rowwise.cu", ROWWISE, &options)?;
        let geometry = Geometry {
            grid: [blocks(rows.div_ceil(together))?, 1, 1],
            block: [threads as u32, together as u32, 1],
            shared: 0,
            cluster: [1; 3],
        };
        Ok(Self { made, geometry, rows, cols })
    }

    /// Enqueues it: buffers in the kernel's order, then what follows the sizes.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, buffers: &[&Buffer], more: impl FnOnce(Arguments) -> Arguments, stream: &Stream) -> Result<()> {
        let arguments = buffers.iter().fold(Arguments::new(), |arguments, buffer| arguments.buffer(buffer));
        let arguments = more(arguments.size(self.rows).size(self.cols));
        self.made.kernel.launch(&self.geometry, &arguments, stream)
    }
}

/// Gradients of a layer normalisation.
#[derive(Debug)]
pub struct LayernormBackward {
    rows_kernel: Made,
    sums_kernel: Made,
    geometry: Geometry,
    partial: Buffer,
    rows: usize,
    cols: usize,
}

/// What the gradients of a layer normalisation are made of, and where they go.
#[derive(Debug)]
pub struct LayernormGradients<'a> {
    /// Input of the forward pass.
    pub x: &'a Buffer,
    /// Gradient of its output.
    pub dy: &'a Buffer,
    /// Its scale.
    pub gamma: &'a Buffer,
    /// Mean of each row.
    pub mean: &'a Buffer,
    /// Inverse deviation of each row.
    pub rstd: &'a Buffer,
    /// Gradient of the input.
    pub dx: &'a Buffer,
    /// Gradients of scale and shift.
    pub parameters: [&'a Buffer; 2],
}

impl LayernormBackward {
    /// Compiles it.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site, element: Element, rows: usize, cols: usize) -> Result<Self> {
        let lanes = VECTOR / element.bytes();
        let vectors = cols.div_ceil(lanes);
        let threads = vectors.next_multiple_of(32).min(512);
        let each = vectors.div_ceil(threads);
        let shared = each * threads * (VECTOR + 8 * lanes);
        let resident = cols.is_multiple_of(lanes) && each <= 4 && shared <= site.device.shared_limit()?;
        let (cols_option, threads, shared) = if resident { (cols, threads, shared) } else { (0, 512, 0) };
        let options = [
            element_option(element)?,
            format!("-DCOLS={cols_option}"),
            format!("-DTHREADS={threads}"),
            "-DROWS=1".to_owned(),
        ];
        let rows_kernel = Made::new(site, "layernorm_backward", "rowwise.cu", ROWWISE, &options)?;
        let sums_kernel = Made::new(site, "layernorm_backward_parameters", "rowwise.cu", ROWWISE, &options)?;
        if shared > UNASKED_SHARED {
            rows_kernel.kernel.allow_shared(shared as u32)?;
        }
        let shape = Geometry::linear(1, threads as u32).with_shared(shared as u32);
        let resident_threads = rows_kernel.kernel.occupancy(&shape)? * site.device.threads_per_multiprocessor()? as f64;
        let fit = (resident_threads / threads as f64).round().max(1.0) as usize;
        let grid = rows.min(fit * site.device.multiprocessors()?).max(1);
        let partial = site.room(Element::F32, 2 * grid * cols)?;
        let geometry = Geometry { grid: [blocks(grid)?, 1, 1], ..shape };
        Ok(Self { rows_kernel, sums_kernel, geometry, partial, rows, cols })
    }

    /// Enqueues both kernels.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, of: &LayernormGradients<'_>, stream: &Stream) -> Result<()> {
        let arguments = [of.x, of.dy, of.gamma, of.mean, of.rstd, of.dx, &self.partial]
            .into_iter()
            .fold(Arguments::new(), Arguments::buffer)
            .size(self.rows)
            .size(self.cols);
        self.rows_kernel.kernel.launch(&self.geometry, &arguments, stream)?;
        let [dgamma, dbeta] = of.parameters;
        let arguments = Arguments::new()
            .buffer(&self.partial)
            .buffer(dgamma)
            .buffer(dbeta)
            .u32(self.geometry.grid[0])
            .size(self.cols);
        let geometry =
            Geometry { grid: [blocks(self.cols.div_ceil(32))?, 2, 1], block: [32, 16, 1], shared: 0, cluster: [1; 3] };
        self.sums_kernel.kernel.launch(&geometry, &arguments, stream)
    }

    /// Compile time of both, seconds.
    pub fn seconds(&self) -> f64 {
        self.rows_kernel.seconds + self.sums_kernel.seconds
    }
}

/// Maps over elements: `gelu`, `gelu_backward`, `add`.
#[derive(Debug)]
pub struct Elementwise {
    /// The kernel.
    pub made: Made,
    geometry: Geometry,
    count: usize,
}

impl Elementwise {
    const THREADS: usize = 512;

    /// Compiles one for so many elements.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site, name: &str, element: Element, count: usize) -> Result<Self> {
        let made = Made::new(site, name, "elementwise.cu", ELEMENTWISE, &[element_option(element)?])?;
        let grid = count.div_ceil(VECTOR / element.bytes() * Self::THREADS);
        Ok(Self { made, geometry: Geometry::linear(blocks(grid)?, Self::THREADS as u32), count })
    }

    /// Enqueues it: inputs, then the output, which may be one of them.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, buffers: &[&Buffer], stream: &Stream) -> Result<()> {
        let arguments = buffers.iter().fold(Arguments::new(), |arguments, buffer| arguments.buffer(buffer));
        self.made.kernel.launch(&self.geometry, &arguments.size(self.count), stream)
    }
}

/// Settings of AdamW (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwSettings {
    /// Learning rate.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// Weight decay.
    pub decay: f32,
    /// Which step it is, from 1: it corrects the moments' bias.
    pub step: i32,
}

impl Default for AdamwSettings {
    fn default() -> Self {
        Self { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01, step: 10 }
    }
}

/// A step of AdamW.
#[derive(Debug)]
pub struct Adamw {
    /// The kernel.
    pub made: Rc<Made>,
    /// Its settings.
    pub settings: AdamwSettings,
}

impl Adamw {
    /// Bytes that a step moves for each weight: weights and moments read and written, the gradient read, the copy written.
    pub const fn bytes(element: Element) -> usize {
        6 * 4 + 2 * element.bytes()
    }

    /// Compiles it; `element` is that of gradients and of the weights' copy.
    ///
    /// # Errors
    /// As the compiler or the device refuses.
    pub fn new(site: &Site, element: Element) -> Result<Self> {
        let made = Made::new(site, "adamw", "adamw.cu", ADAMW, &[element_option(element)?])?;
        Ok(Self { made: Rc::new(made), settings: AdamwSettings::default() })
    }

    /// Where it runs for so many weights.
    pub fn geometry(count: usize) -> Result<Geometry> {
        Ok(Geometry::linear(blocks(count.div_ceil(1024))?, 256))
    }

    /// Enqueues a step: single-precision weights, both moments, the gradient, and the copy of the weights.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn run(&self, [w, m, v, gradient, copy]: [&Buffer; 5], stream: &Stream) -> Result<()> {
        let count = w.bytes() / Element::F32.bytes();
        let AdamwSettings { rate, beta1, beta2, epsilon, decay, step } = self.settings;
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(step)) as f32;
        let arguments = [w, m, v, gradient, copy]
            .into_iter()
            .fold(Arguments::new(), Arguments::buffer)
            .size(count)
            .f32(rate)
            .f32(beta1)
            .f32(beta2)
            .f32(epsilon)
            .f32(decay)
            .f32(correction(beta1))
            .f32(correction(beta2));
        self.made.kernel.launch(&Self::geometry(count)?, &arguments, stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nvidia::compile::compile;

    /// Every kernel of ours for every generation; without the compiler there is nothing to see.
    #[test]
    fn every_kernel_compiles_for_every_generation() {
        let option = |text: &str| text.to_owned();
        for architecture in ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"] {
            for element in [Element::F32, Element::Bf16, Element::F16] {
                let element = element_option(element).expect("one of ours");
                let mut rowwise: Vec<String> = [
                    "softmax",
                    "softmax_scaled",
                    "softmax_backward",
                    "layernorm",
                    "layernorm_stats",
                    "rmsnorm",
                    "layernorm_backward",
                    "layernorm_backward_parameters",
                ]
                .iter()
                .map(|name| format!("-DWANT_{name}"))
                .collect();
                rowwise.extend([option("-DCOLS=1024"), option("-DTHREADS=32"), option("-DROWS=1")]);
                for (file, source, more) in [
                    ("rowwise.cu", ROWWISE, rowwise),
                    ("copy.cu", COPY, Vec::new()),
                    ("adamw.cu", ADAMW, Vec::new()),
                    ("elementwise.cu", ELEMENTWISE, Vec::new()),
                    ("reference.cu", include_str!("kernels/reference.cu"), Vec::new()),
                    ("clock.cu", include_str!("kernels/clock.cu"), Vec::new()),
                    ("fault.cu", include_str!("kernels/fault.cu"), Vec::new()),
                ] {
                    let mut options = vec![option("-std=c++17"), element.clone()];
                    options.extend(more);
                    match compile(file, source, architecture, &options) {
                        Ok(compiled) => assert!(compiled.image.len() > 1000, "{file}"),
                        Err(CudaError::Parameter(absent)) => {
                            assert!(absent.contains("NVRTC is not here"), "{absent}");
                            return;
                        }
                        Err(error) => panic!("{file} for {architecture}: {error}"),
                    }
                }
            }
        }
    }
}
