//! The tiny models against the reference implementations in PyTorch: `tests/golden/models.py` made the values.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::{ALL, setup, small};
use crate::backend::BackendError;
use crate::backend::cpu::model::config::Architecture;
use crate::backend::cpu::model::ops;
use crate::backend::cpu::model::weights::{Init, Purpose, Source};

const BATCH: usize = 2;
const SEQ: usize = 12;

/// The formula of `models.py`.
#[derive(Debug)]
struct Formula;

impl Source for Formula {
    fn values(&self, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>, BackendError> {
        let c = f64::from(name.bytes().map(u32::from).sum::<u32>() % 97);
        let centre = if init.mean > 0.0 { 1.0 } else { 0.0 };
        let value = |i: usize| {
            let i = i as f64;
            (centre + 0.05 * (0.37 * i + 0.0011 * i * i + c).sin()) as f32
        };
        Ok((0..shape.iter().product()).map(value).collect())
    }
}

fn batch(architecture: &Architecture) -> (Tensor, Arc<Vec<u32>>) {
    let tokens = BATCH * SEQ;
    let edge = match architecture {
        Architecture::ResNet(shape) => shape.image,
        Architecture::Vit(shape) => shape.image,
        _ => {
            let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 37 + 11) % 1024).collect();
            let targets = (0..tokens as u32).map(|i| (i * 53 + 5) % 1024).collect();
            return (Tensor::from_vec(ids, (BATCH, SEQ), &Device::Cpu).unwrap(), Arc::new(targets));
        }
    };
    let value = |i: usize| (0.11 * i as f64 + 0.0007 * (i * i) as f64).sin() as f32;
    let image: Vec<f32> = (0..BATCH * 3 * edge * edge).map(value).collect();
    let targets = (0..BATCH as u32).map(|i| (i * 3 + 1) % 10).collect();
    (Tensor::from_vec(image, (BATCH, 3, edge, edge), &Device::Cpu).unwrap(), Arc::new(targets))
}

fn close(what: &str, got: f64, want: f64, scale: f64) {
    assert!((got - want).abs() <= 2e-4 * scale, "{what}: got {got}, PyTorch has {want}");
}

#[test]
fn tiny_models_match_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("../../../../../tests/golden/models.json")).unwrap();
    for name in ALL {
        let want = &golden[*name];
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{name}: a number is missing"));
        let mut setup = setup(&small(name, "inference"), 0);
        setup.source = Box::new(Formula);
        let (input, targets) = batch(&setup.architecture);

        let (network, _) = setup.network(DType::F32, DType::F32, Purpose::Inference).unwrap();
        let output: Vec<f32> = network.forward(&input).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let norm = output.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        close(&format!("{name} norm"), norm, number(&want["output_norm"]), norm);
        let scale = norm / (output.len() as f64).sqrt();
        let every = want["output_every"].as_u64().unwrap() as usize;
        let wanted = want["output"].as_array().unwrap();
        assert_eq!(output.len().div_ceil(every), wanted.len(), "{name}: size of the output");
        for (got, want) in output.iter().step_by(every).zip(wanted) {
            close(&format!("{name} output"), f64::from(*got), number(want), scale);
        }

        let (network, parameters) = setup.network(DType::F32, DType::F32, Purpose::Training).unwrap();
        let loss = ops::cross_entropy(&network.scores(&input).unwrap(), &targets).unwrap();
        let got = f64::from(loss.to_scalar::<f32>().unwrap());
        close(&format!("{name} loss"), got, number(&want["loss"]), got);
        let gradients = loss.backward().unwrap();
        for parameter in &parameters {
            // Query, key and value, gate and up are one parameter here, under the first one's name.
            if ["query", "q_proj", "gate_proj"].iter().any(|part| parameter.name.contains(part)) {
                continue;
            }
            let gradient = gradients.get(parameter.var.as_tensor()).unwrap().to_dtype(DType::F64).unwrap();
            let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            let wanted = number(&want["gradient_norms"][&parameter.name]);
            close(&format!("{name} gradient of {}", parameter.name), norm, wanted, wanted.max(1e-4));
        }
    }
}
