//! What operators on tensors share: inputs, timing, and the comparison with an f64 reference.
//!
//! Must not know what an operator computes.

use std::fmt;
use std::hint::black_box;

use candle_core::{DType, Device, Tensor};

use crate::backend::cpu::operator::precision;
use crate::backend::cpu::{random, this_device};
use crate::backend::{BackendError, Prepared, WorkCounts, relative_error};
use crate::domain::{Check, DeviceInfo};
use crate::measure::{Subject, SubjectError};

/// A pure function of tensors it already holds.
pub trait Operator: fmt::Debug {
    /// Name in suites.
    const NAME: &'static str;

    /// Computes the output.
    fn forward(&self) -> candle_core::Result<Tensor>;

    /// What computing it once amounts to.
    fn counts(&self) -> WorkCounts;

    /// Element type of inputs and output.
    fn dtype(&self) -> DType;

    /// Values of an output and of the f64 reference, in the same order: all of a small one, a seeded part of a
    /// large one, so that comparing takes well under a second.
    fn compare(&self, output: &Tensor) -> candle_core::Result<Compared>;
}

/// Values to hold against each other.
#[derive(Debug, Default)]
pub struct Compared {
    /// From the operator.
    pub got: Vec<f64>,
    /// From the reference.
    pub want: Vec<f64>,
}

impl Compared {
    /// How wrong it is, as [`relative_error`] has it.
    pub fn error(&self) -> f64 {
        relative_error(&self.got, &self.want)
    }
}

/// An operator, ready to be timed.
#[derive(Debug)]
pub struct Loaded<O>(pub O);

impl<O: Operator> Subject for Loaded<O> {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            black_box(self.0.forward().map_err(|source| SubjectError {
                context: format!("running {}", O::NAME),
                source: Box::new(source),
            })?);
        }
        Ok(())
    }
}

impl<O: Operator> Prepared for Loaded<O> {
    fn device(&self) -> DeviceInfo {
        this_device(rayon::current_num_threads())
    }

    fn counts(&self) -> WorkCounts {
        self.0.counts()
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let compared = self.0.forward().and_then(|output| self.0.compare(&output));
        let error = compared.map_err(|source| engine(format!("checking {}", O::NAME), source))?.error();
        let tolerance = precision::tolerance(self.0.dtype());
        Ok(vec![Check::new("output", "plain loops in f64", error, tolerance)])
    }
}

/// An engine's error with what was being done.
pub fn engine(context: String, source: candle_core::Error) -> BackendError {
    BackendError::Engine { context, source: Box::new(source) }
}

/// A tensor of standard normal values, a stream of its own for each input.
pub fn normal(seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Tensor, BackendError> {
    let values = random::normal(seed, &format!("operand {stream}"), shape.iter().product(), 0.0, 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(dtype))
        .map_err(|source| engine(format!("making an input of shape {shape:?}"), source))
}

/// All values of a tensor in row-major order.
pub fn values(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Some rows (or, with `dim` 1, columns) of a matrix.
pub fn select(matrix: &Tensor, indices: &[usize], dim: usize) -> candle_core::Result<Tensor> {
    let indices: Vec<u32> = indices.iter().map(|&index| index as u32).collect();
    matrix.index_select(&Tensor::new(indices, &Device::Cpu)?, dim)
}

/// Bytes of one element.
pub fn element_bytes(dtype: DType) -> f64 {
    dtype.size_in_bytes() as f64
}
