//! Fused `f32` operations, each with its backward.
//!
//! candle's own fast layer norm, softmax and rotary embedding have no backward (the layer norm silently cuts the
//! graph), and its composed ones make a pass over memory for every elementary step. These make one or two, serve
//! inference and training alike, and are checked against candle's composed ones in `f64`. They run on the calling
//! thread: only matrix products use the pool. Must not know the models.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

pub mod activation;
pub mod attention;
pub mod loss;
pub mod norm;
pub mod vision;

/// The values of a contiguous `f32` storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("a fused operation needs a contiguous input"),
        _ => bail!("a fused operation takes f32 only"),
    }
}

/// Calls `f` with the values of an `f32` tensor, copying them first if they are not contiguous.
fn read<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("a fused operation runs on the CPU only"),
    }
}

/// A forward result.
fn done(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A gradient.
fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Length of the last dimension.
fn row_length(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

/// Sum of each column of rows of `width` values.
fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for row in values.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests;
