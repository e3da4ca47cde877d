//! Each fused kernel against candle's composed operations in `f64`: values and gradients.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::backend::cpu::model::kernel::vision::Window;
use crate::backend::cpu::model::ops;
use crate::backend::cpu::random;

fn values(name: &str, shape: &[usize]) -> Tensor {
    let values = random::normal(11, name, shape.iter().product(), 0.1, 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Applies `f` to normal values of these shapes and takes the gradients of a weighted sum of its result, in one type.
fn run(dtype: DType, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let name = |i| format!("input {i}");
    let vars: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| Var::from_tensor(&values(&name(i), shape).to_dtype(dtype).unwrap()).unwrap())
        .collect();
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = f(&inputs).unwrap();
    let weights = values("weights", out.dims()).to_dtype(dtype).unwrap();
    let gradients = (&out * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let mut all = vec![out.detach()];
    all.extend(inputs.iter().map(|input| gradients.get(input).expect("a gradient").clone()));
    all
}

fn agrees(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let fused = run(DType::F32, shapes, &f);
    let composed = run(DType::F64, shapes, &f);
    for (i, (got, want)) in fused.iter().zip(&composed).enumerate() {
        assert_eq!(got.dims(), want.dims(), "{name} {i}");
        let difference = (got.to_dtype(DType::F64).unwrap() - want).unwrap();
        let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        let error = norm(&difference) / norm(want);
        assert!(error < 3e-6, "{name}: result {i} (0 the value, then gradients) is off by {error}");
        assert!(norm(want) > 0.0, "{name} {i}");
    }
}

#[test]
fn element_wise() {
    agrees("bias", &[&[7, 19], &[19]], |t| ops::add_bias(&t[0], &t[1]));
    agrees("gelu", &[&[5, 33]], |t| ops::gelu(&t[0]));
    agrees("gelu tanh", &[&[5, 33]], |t| ops::gelu_tanh(&t[0]));
    agrees("relu", &[&[5, 33]], |t| ops::relu(&t[0]));
    agrees("swiglu", &[&[5, 34]], |t| ops::swiglu(&t[0]));
}

#[test]
fn norms() {
    agrees("layer norm", &[&[6, 37], &[37], &[37]], |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5));
    agrees("rms norm", &[&[6, 37], &[37]], |t| ops::rms_norm(&t[0], &t[1], 1e-5));
    agrees("batch norm", &[&[26, 5], &[5], &[5]], |t| ops::batch_norm(&t[0], &t[1], &t[2], 1e-5));
}

#[test]
fn attention_parts() {
    agrees("split", &[&[2 * 5, 4 * 6]], |t| ops::split_heads(&t[0], 2, 1, 2, 6));
    agrees("merge", &[&[2, 3, 5, 4]], |t| ops::merge_heads(&t[0]));
    agrees("softmax", &[&[2, 5, 11]], |t| ops::softmax(&t[0], 0.3, None));
    agrees("causal softmax", &[&[2, 10, 5]], |t| ops::softmax(&t[0], 0.3, Some(5)));
    // Three queries after four cached tokens.
    agrees("cached softmax", &[&[2, 6, 7]], |t| ops::softmax(&t[0], 0.3, Some(3)));
    for first in [0, 9] {
        let positions = ops::Positions { first, seq: 5, base: 10_000.0 };
        agrees("rope", &[&[2 * 5, 3 * 8]], |t| ops::rope(&t[0], positions, 2, 8));
        agrees("rope of all heads", &[&[2 * 5, 3 * 8]], |t| ops::rope(&t[0], positions, 3, 8));
    }
}

#[test]
fn loss() {
    let targets = Arc::new(random::below(3, "targets", 9, 13));
    agrees("cross-entropy", &[&[9, 13]], |t| ops::cross_entropy(&t[0], &targets));
}

#[test]
fn vision() {
    for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3), (4, 4, 0)] {
        let window = Window { kernel, stride, padding };
        let weight = [kernel * kernel * 3, 5];
        agrees("convolution", &[&[2, 12, 12, 3], &weight], |t| ops::convolve(&t[0], &t[1], window));
    }
    let window = Window { kernel: 3, stride: 2, padding: 1 };
    for edge in [8, 9] {
        agrees("max pool", &[&[2, edge, edge, 3]], |t| ops::max_pool(&ops::relu(&t[0])?, window));
    }
}
