//! The operations models are written in: fused kernels in `f32`, candle's composed operations in any other type.
//!
//! The two families share no code, which is what makes a model's evaluation in `f64` a reference for its `f32` run.
//! Every operation has a backward in both families, so a model is written once for inference and training. (Never
//! use `candle_nn`'s `LayerNorm`, `ops::layer_norm`, `rms_norm`, `rope` or `softmax_last_dim` here: they have none.)

use std::sync::Arc;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops as composed;

use crate::backend::cpu::model::kernel::activation::{Activation, AddBias, SwiGlu};
use crate::backend::cpu::model::kernel::attention::{MergeHeads, Rope, Softmax, SplitHeads};
use crate::backend::cpu::model::kernel::loss::CrossEntropy;
use crate::backend::cpu::model::kernel::norm::{BatchNorm, LayerNorm, RmsNorm};
use crate::backend::cpu::model::kernel::vision::{MaxPool, Patches, Window};

fn fused(x: &Tensor) -> bool {
    x.dtype() == DType::F32
}

/// x + b for every row.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if fused(x) { x.apply_op2(bias, AddBias) } else { x.broadcast_add(bias) }
}

/// GELU by the error function.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if fused(x) { x.apply_op1(Activation::Gelu) } else { x.gelu_erf() }
}

/// GELU by its tanh approximation.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if fused(x) { x.apply_op1(Activation::GeluTanh) } else { x.gelu() }
}

/// max(x, 0).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if fused(x) { x.apply_op1(Activation::Relu) } else { x.relu() }
}

/// silu(gate) · up for rows `[gate, up]`.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        x.apply_op1(SwiGlu)
    } else {
        let halves = x.chunk(2, D::Minus1)?;
        halves[0].silu()? * &halves[1]
    }
}

/// Layer normalisation of each row.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    if fused(x) {
        x.apply_op3(gamma, beta, LayerNorm { eps: eps as f32 })
    } else {
        composed::layer_norm_slow(x, gamma, beta, eps as f32)
    }
}

/// Root-mean-square normalisation of each row.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    if fused(x) {
        x.apply_op2(gamma, RmsNorm { eps: eps as f32 })
    } else {
        composed::rms_norm_slow(x, gamma, eps as f32)
    }
}

/// Normalisation of each column of `[pixels, channels]` by its own mean and variance.
pub fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    if fused(x) {
        return x.apply_op3(gamma, beta, BatchNorm { eps: eps as f32 });
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(0)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(gamma)?.broadcast_add(beta)
}

/// Heads `first .. first + count` of rows `[batch · seq, heads · width]` as `[batch, count, seq, width]`.
pub fn split_heads(x: &Tensor, batch: usize, first: usize, count: usize, width: usize) -> Result<Tensor> {
    if fused(x) {
        return x.apply_op1(SplitHeads { batch, first, count, width });
    }
    let (rows, length) = x.dims2()?;
    x.reshape((batch, rows / batch, length / width, width))?.narrow(2, first, count)?.transpose(1, 2)?.contiguous()
}

/// `[batch, heads, seq, width]` as rows `[batch · seq, heads · width]`.
pub fn merge_heads(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        return x.apply_op1(MergeHeads);
    }
    let (batch, heads, seq, width) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((batch * seq, heads * width))
}

/// softmax(scale · x) over the last dimension of `[.., rows, keys]`; with `causal`, of that many queries each sees
/// the keys up to its own position, the last one all.
pub fn softmax(x: &Tensor, scale: f64, causal: Option<usize>) -> Result<Tensor> {
    if fused(x) {
        return x.apply_op1(Softmax { scale: scale as f32, causal });
    }
    let x = (x * scale)?;
    let x = match causal {
        None => x,
        Some(queries) => {
            let (_, rows, keys) = x.dims3()?;
            let hidden: Vec<f64> = (0..rows * keys)
                .map(|i| if i % keys > keys - queries + i / keys % queries { f64::NEG_INFINITY } else { 0.0 })
                .collect();
            x.broadcast_add(&Tensor::from_vec(hidden, (rows, keys), &Device::Cpu)?.to_dtype(x.dtype())?)?
        }
    };
    composed::softmax(&x, D::Minus1)
}

/// Positions of rotary embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Positions {
    /// Position of the first token.
    pub first: usize,
    /// Tokens in a sequence.
    pub seq: usize,
    /// Base of the frequencies, 10,000 in the paper.
    pub base: f64,
}

/// Rotates the first `heads` heads of each row by its position.
pub fn rope(x: &Tensor, positions: Positions, heads: usize, width: usize) -> Result<Tensor> {
    let half = width / 2;
    let angle = |i: usize| {
        let position = (positions.first + i / half) as f64;
        position * positions.base.powf(-((i % half) as f64) / half as f64)
    };
    let angles = (0..positions.seq * half).map(angle);
    if fused(x) {
        let table = angles.map(|a| (a.cos() as f32, a.sin() as f32)).collect();
        return x.apply_op1(Rope { table: Arc::new(table), seq: positions.seq, heads, width });
    }
    let (rows, length) = x.dims2()?;
    let shaped = x.reshape((rows / positions.seq, positions.seq, length / width, width))?;
    let turned = shaped.narrow(2, 0, heads)?;
    let (low, high) = (turned.narrow(3, 0, half)?, turned.narrow(3, half, half)?);
    let angles = Tensor::from_iter(angles, &Device::Cpu)?.reshape((1, positions.seq, 1, half))?;
    let (cos, sin) = (angles.cos()?.to_dtype(x.dtype())?, angles.sin()?.to_dtype(x.dtype())?);
    let low_out = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let high_out = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    let turned = Tensor::cat(&[&low_out, &high_out], 3)?;
    let kept = length / width - heads;
    let all = if kept == 0 { turned } else { Tensor::cat(&[&turned, &shaped.narrow(2, heads, kept)?], 2)? };
    all.reshape((rows, length))
}

/// Convolution of `[batch, height, width, channels]` with a weight `[kernel · kernel · channels, outputs]`; gives
/// rows `[batch · height · width, outputs]`.
pub fn convolve(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if fused(x) {
        let pointwise = window.kernel == 1 && window.stride == 1 && window.padding == 0;
        let rows =
            if pointwise { x.reshape((batch * height * width, channels))? } else { x.apply_op1(Patches(window))? };
        return rows.matmul(weight);
    }
    let outputs = weight.dim(1)?;
    let kernel =
        weight.reshape((window.kernel, window.kernel, channels, outputs))?.permute((3, 2, 0, 1))?.contiguous()?;
    let image = x.permute((0, 3, 1, 2))?.contiguous()?;
    image
        .conv2d(&kernel, window.padding, window.stride, 1, 1)?
        .permute((0, 2, 3, 1))?
        .contiguous()?
        .reshape((batch * window.out(height) * window.out(width), outputs))
}

/// Largest value under each window of `[batch, height, width, channels]`; values must not be negative, because the
/// border counts as zero.
pub fn max_pool(x: &Tensor, window: Window) -> Result<Tensor> {
    if fused(x) {
        return x.apply_op1(MaxPool(window));
    }
    // Shifted views instead of candle's pooling, which has no backward for overlapping windows.
    let (_, height, width, _) = x.dims4()?;
    let padded = x.pad_with_zeros(1, window.padding, window.padding + window.stride)?.pad_with_zeros(
        2,
        window.padding,
        window.padding + window.stride,
    )?;
    let taken = |edge: usize, shift: usize| -> Vec<u32> {
        (0..window.out(edge)).map(|o| (o * window.stride + shift) as u32).collect()
    };
    let mut best: Option<Tensor> = None;
    for ky in 0..window.kernel {
        let rows = padded.index_select(&Tensor::new(taken(height, ky), &Device::Cpu)?, 1)?;
        for kx in 0..window.kernel {
            let view = rows.index_select(&Tensor::new(taken(width, kx), &Device::Cpu)?, 2)?;
            best = Some(match best {
                None => view,
                Some(best) => best.maximum(&view)?,
            });
        }
    }
    best.ok_or_else(|| candle_core::Error::Msg("a pooling window is empty".to_owned()))
}

/// Mean cross-entropy of rows of class scores.
pub fn cross_entropy(scores: &Tensor, targets: &Arc<Vec<u32>>) -> Result<Tensor> {
    if fused(scores) {
        return scores.apply_op1(CrossEntropy { targets: Arc::clone(targets) });
    }
    candle_nn::loss::cross_entropy(scores, &Tensor::new(targets.as_slice(), &Device::Cpu)?)
}
