//! The parts of attention that are not matrix products: heads, rotary positions, masked softmax.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::backend::cpu::math;
use crate::backend::cpu::model::kernel::{done, read, row_length, slice, tensor};

/// Copies heads `first .. first + count` of rows `[batch · seq, heads · width]` to `[batch, count, seq, width]`.
#[derive(Debug, Clone, Copy)]
pub struct SplitHeads {
    /// Sequences.
    pub batch: usize,
    /// First head taken.
    pub first: usize,
    /// Heads taken.
    pub count: usize,
    /// Width of a head.
    pub width: usize,
}

impl SplitHeads {
    /// Calls `copy(offset in the split tensor, offset in the rows)` for each run of `width` values.
    fn each(self, rows: usize, row_length: usize, mut copy: impl FnMut(usize, usize)) {
        let seq = rows / self.batch;
        let mut split = 0;
        for b in 0..self.batch {
            for head in self.first..self.first + self.count {
                for s in 0..seq {
                    copy(split, (b * seq + s) * row_length + head * self.width);
                    split += self.width;
                }
            }
        }
    }
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "fused-split-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let length = row_length(layout);
        let rows = x.len() / length;
        let mut out = Vec::with_capacity(rows * self.count * self.width);
        self.each(rows, length, |_, from| {
            out.extend_from_slice(&x[from..from + self.width]);
        });
        Ok(done(out, (self.batch, self.count, rows / self.batch, self.width)))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, length) = x.dims2()?;
        let dx = read(grad, |grad| {
            let mut dx = vec![0.0; rows * length];
            self.each(rows, length, |from, to| {
                dx[to..to + self.width].copy_from_slice(&grad[from..from + self.width]);
            });
            Ok(dx)
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// Copies `[batch, heads, seq, width]` to rows `[batch · seq, heads · width]`.
#[derive(Debug, Clone, Copy)]
pub struct MergeHeads;

impl MergeHeads {
    fn split(batch: usize, count: usize, width: usize) -> SplitHeads {
        SplitHeads { batch, first: 0, count, width }
    }
}

impl CustomOp1 for MergeHeads {
    fn name(&self) -> &'static str {
        "fused-merge-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let (batch, heads, seq, width) = layout.shape().dims4()?;
        let mut out = vec![0.0; x.len()];
        Self::split(batch, heads, width).each(batch * seq, heads * width, |from, to| {
            out[to..to + width].copy_from_slice(&x[from..from + width]);
        });
        Ok(done(out, (batch * seq, heads * width)))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (batch, heads, _, width) = x.dims4()?;
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Self::split(batch, heads, width))?))
    }
}

/// Rotates the first `heads` heads of each row by its position (Su et al. 2021), halves paired as Llama pairs them.
#[derive(Debug, Clone)]
pub struct Rope {
    /// cos and sin of position p and frequency f at `[p · width/2 + f]`, from the first position used.
    pub table: Arc<Vec<(f32, f32)>>,
    /// Tokens in a sequence.
    pub seq: usize,
    /// Heads to rotate; the rest of a row is copied.
    pub heads: usize,
    /// Width of a head.
    pub width: usize,
}

impl Rope {
    /// `sign` −1 turns back, which is the gradient.
    fn turn(&self, x: &[f32], length: usize, sign: f32) -> Vec<f32> {
        let half = self.width / 2;
        let mut out = x.to_vec();
        for (r, row) in out.chunks_exact_mut(length).enumerate() {
            let position = r % self.seq;
            let table = &self.table[position * half..(position + 1) * half];
            for head in row[..self.heads * self.width].chunks_exact_mut(self.width) {
                let (low, high) = head.split_at_mut(half);
                for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(table) {
                    (*a, *b) = (*a * cos - *b * sign * sin, *b * cos + *a * sign * sin);
                }
            }
        }
        out
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "fused-rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        Ok(done(self.turn(x, row_length(layout), 1.0), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let length = x.dim(1)?;
        let dx = read(grad, |grad| Ok(self.turn(grad, length, -1.0)))?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// softmax(scale · x) over each row; with `causal`, the row of query q sees the keys up to its own position.
#[derive(Debug, Clone, Copy)]
pub struct Softmax {
    /// Factor on the scores.
    pub scale: f32,
    /// Number of queries in a sequence, if the future is masked; the last query sees every key.
    pub causal: Option<usize>,
}

impl Softmax {
    /// How many keys row `row` of `keys` keys sees.
    fn visible(self, row: usize, keys: usize) -> usize {
        self.causal.map_or(keys, |queries| keys - queries + row % queries + 1)
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "fused-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let keys = row_length(layout);
        let mut out = Vec::with_capacity(x.len());
        for (r, row) in x.chunks_exact(keys).enumerate() {
            let row = &row[..self.visible(r, keys)];
            let max = math::max(row);
            let start = out.len();
            out.extend(row.iter().map(|v| math::exp((v - max) * self.scale)));
            let total = math::sum(&out[start..], |v| v);
            for v in &mut out[start..] {
                *v /= total;
            }
            out.resize(start + keys, 0.0);
        }
        Ok(done(out, layout.shape()))
    }

    fn bwd(&self, _x: &Tensor, probabilities: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let keys = probabilities.dims().last().copied().unwrap_or(1);
        let dx = read(probabilities, |p| {
            read(grad, |grad| {
                let mut dx = Vec::with_capacity(p.len());
                for (p, g) in p.chunks_exact(keys).zip(grad.chunks_exact(keys)) {
                    let dot = math::dot(p, g);
                    // Masked entries have probability 0, so their gradient is 0 by itself.
                    dx.extend(p.iter().zip(g).map(|(p, g)| self.scale * p * (g - dot)));
                }
                Ok(dx)
            })
        })?;
        Ok(Some(tensor(dx, probabilities.shape())?))
    }
}
