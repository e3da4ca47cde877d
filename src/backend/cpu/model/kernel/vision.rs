//! Patches and pooling on images whose channels lie innermost: `[batch, height, width, channels]`.
//!
//! With channels innermost a convolution is one copy of whole channel runs and one matrix product, and a 1 × 1
//! convolution is the product alone.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::backend::cpu::model::kernel::{done, read, slice, tensor};

/// A square window that slides over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Edge, pixels.
    pub kernel: usize,
    /// Step, pixels.
    pub stride: usize,
    /// Border added on each side, pixels.
    pub padding: usize,
}

impl Window {
    /// Edge of the output for an input edge.
    pub fn out(self, edge: usize) -> usize {
        (edge + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Calls `visit(offset of the pixel's channels, index of the output pixel, index in the window)` for every
    /// pixel under every window, borders left out.
    fn each(self, dims: (usize, usize, usize, usize), mut visit: impl FnMut(usize, usize, usize)) {
        let (batch, height, width, channels) = dims;
        let mut out = 0;
        for b in 0..batch {
            for oy in 0..self.out(height) {
                for ox in 0..self.out(width) {
                    for ky in 0..self.kernel {
                        let y = (oy * self.stride + ky).wrapping_sub(self.padding);
                        for kx in 0..self.kernel {
                            let x = (ox * self.stride + kx).wrapping_sub(self.padding);
                            if y < height && x < width {
                                visit(((b * height + y) * width + x) * channels, out, ky * self.kernel + kx);
                            }
                        }
                    }
                    out += 1;
                }
            }
        }
    }

    /// Number of output pixels.
    fn outputs(self, (batch, height, width, _): (usize, usize, usize, usize)) -> usize {
        batch * self.out(height) * self.out(width)
    }
}

/// Each output pixel's window as a row: `[pixels, kernel · kernel · channels]`.
#[derive(Debug, Clone, Copy)]
pub struct Patches(pub Window);

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "fused-patches"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let dims = layout.shape().dims4()?;
        let channels = dims.3;
        let length = self.0.kernel * self.0.kernel * channels;
        let pixels = self.0.outputs(dims);
        let mut out = vec![0.0; pixels * length];
        self.0.each(dims, |from, pixel, tap| {
            let to = pixel * length + tap * channels;
            out[to..to + channels].copy_from_slice(&x[from..from + channels]);
        });
        Ok(done(out, (pixels, length)))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dims = x.dims4()?;
        let channels = dims.3;
        let length = self.0.kernel * self.0.kernel * channels;
        let dx = read(grad, |grad| {
            let mut dx = vec![0.0; x.elem_count()];
            self.0.each(dims, |to, pixel, tap| {
                let from = pixel * length + tap * channels;
                for (d, g) in dx[to..to + channels].iter_mut().zip(&grad[from..from + channels]) {
                    *d += g;
                }
            });
            Ok(dx)
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// Largest value under each window, channel by channel; of equals the first takes the gradient.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool(pub Window);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "fused-max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let dims = layout.shape().dims4()?;
        let channels = dims.3;
        let mut out = vec![f32::NEG_INFINITY; self.0.outputs(dims) * channels];
        self.0.each(dims, |from, pixel, _| {
            let best = &mut out[pixel * channels..(pixel + 1) * channels];
            for (best, v) in best.iter_mut().zip(&x[from..from + channels]) {
                *best = best.max(*v);
            }
        });
        Ok(done(out, (dims.0, self.0.out(dims.1), self.0.out(dims.2), channels)))
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dims = x.dims4()?;
        let channels = dims.3;
        let dx = read(x, |x| {
            read(result, |result| {
                read(grad, |grad| {
                    let mut left = grad.to_vec();
                    let mut dx = vec![0.0; x.len()];
                    self.0.each(dims, |from, pixel, _| {
                        for c in 0..channels {
                            let out = pixel * channels + c;
                            if x[from + c] == result[out] {
                                dx[from + c] += std::mem::take(&mut left[out]);
                            }
                        }
                    });
                    Ok(dx)
                })
            })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
