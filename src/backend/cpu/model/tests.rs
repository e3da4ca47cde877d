//! Every model in every mode on tiny shapes: it runs, its numbers are right, and wrong ones are noticed.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::backend::cpu::model::decode::Decode;
use crate::backend::cpu::model::inference::Inference;
use crate::backend::cpu::model::training::Training;
use crate::backend::cpu::model::weights::Init;
use crate::domain::workload::{ParamKind, find};
use crate::domain::{Check, ParamValue, WorkloadKind};
use crate::measure::Subject;

mod golden;

const DECODERS: &[&str] = &["gpt2-tiny", "llama-tiny"];
const ALL: &[&str] = &["bert-tiny", "gpt2-tiny", "llama-tiny", "resnet-tiny", "vit-tiny"];

/// A workload of the catalogue with its defaults and these parameters on top.
fn workload(name: &str, mode: &str, extra: &[(&str, ParamValue)]) -> Workload {
    let entry = find(WorkloadKind::Model, name).expect("in the catalogue");
    let mut params: BTreeMap<String, ParamValue> = entry
        .all_params()
        .filter(|param| param.applies_to("cpu"))
        .filter_map(|param| {
            let value = match param.kind {
                ParamKind::Size { default } => ParamValue::Int(default),
                ParamKind::Flag { default } => ParamValue::Bool(default),
                ParamKind::Choice(choices) => ParamValue::Text(choices[0].to_owned()),
                ParamKind::Index => ParamValue::Int(0),
                ParamKind::OptionalText | ParamKind::OptionalSize => return None,
            };
            Some((param.name.to_owned(), value))
        })
        .collect();
    params.insert("mode".to_owned(), ParamValue::Text(mode.to_owned()));
    params.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Workload { kind: WorkloadKind::Model, name: name.to_owned(), params, command: Vec::new(), kernel: None }
}

fn int(value: i64) -> ParamValue {
    ParamValue::Int(value)
}

fn text(value: &str) -> ParamValue {
    ParamValue::Text(value.to_owned())
}

/// Small enough for a test, and with more than one sequence.
fn small(name: &str, mode: &str) -> Workload {
    workload(name, mode, &[("batch", int(2)), ("seq", int(24)), ("tokens", int(5))])
}

fn setup(workload: &Workload, seed: u64) -> Setup {
    Setup::new(workload, seed).expect("a valid workload")
}

fn passing(checks: &[Check]) {
    assert!(!checks.is_empty());
    for check in checks {
        assert!(check.pass, "{check:?}");
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_model_runs_in_every_mode_and_passes_its_check() {
    for name in ALL {
        for mode in ["inference", "decode", "training-step"] {
            if mode == "decode" && !DECODERS.contains(name) {
                continue;
            }
            let mut loaded = load(&small(name, mode), 7).unwrap_or_else(|e| panic!("{name} {mode}: {e}"));
            loaded.run(2).unwrap_or_else(|e| panic!("{name} {mode}: {e}"));
            let checks = loaded.check().unwrap_or_else(|e| panic!("{name} {mode}: {e}"));
            for check in &checks {
                assert!(check.pass, "{name} {mode}: {check:?}");
                // An error of exactly zero would mean that something was compared with itself.
                assert!(check.tolerance == 0.0 || check.error > 0.0, "{name} {mode}: {check:?}");
            }
            let counts = loaded.counts();
            assert!(counts.flops.is_some_and(|flops| flops > 1e6), "{name} {mode}: {counts:?}");
            assert_eq!(loaded.device().facts["threads"], 1);
        }
    }
}

#[test]
fn other_precisions_pass_their_checks_or_are_refused_with_a_remedy() {
    for name in ALL {
        for (precision, mode) in [("f64", "inference"), ("f16", "inference"), ("f64", "training-step")] {
            let mut workload = small(name, mode);
            workload.params.insert("precision".to_owned(), text(precision));
            workload.params.insert("seq".to_owned(), int(12));
            let mut loaded = load(&workload, 7).unwrap_or_else(|e| panic!("{name} {precision} {mode}: {e}"));
            for check in loaded.check().unwrap() {
                assert!(check.pass, "{name} {precision} {mode}: {check:?}");
            }
        }
        for (precision, mode) in [("bf16", "inference"), ("fp8-e4m3", "inference"), ("f16", "training-step")] {
            let mut workload = small(name, mode);
            workload.params.insert("precision".to_owned(), text(precision));
            let skip = supports(&workload).unwrap_err();
            assert!(skip.reason.contains(&precision[..3]) && skip.remedy.contains("f32"), "{skip:?}");
            assert!(load(&workload, 7).is_err());
        }
    }
}

#[test]
fn f16_decodes() {
    let mut workload = small("llama-tiny", "decode");
    workload.params.insert("precision".to_owned(), text("f16"));
    passing(&load(&workload, 3).unwrap().check().unwrap());
}

/// Hands out one wrong weight the first time it is asked for a tensor, the right one ever after.
#[derive(Debug)]
struct WrongOnce {
    right: Seeded,
    name: &'static str,
    asked: Cell<bool>,
}

impl Source for WrongOnce {
    fn values(&self, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>, BackendError> {
        let mut values = self.right.values(name, shape, init)?;
        if name == self.name && !self.asked.replace(true) {
            values[17] += 0.5;
        }
        Ok(values)
    }
}

#[test]
fn one_wrong_weight_fails_the_check() {
    let cases = [
        ("bert-tiny", "bert.encoder.layer.1.attention.self.value.weight"),
        ("gpt2-tiny", "h.0.mlp.c_fc.weight"),
        ("llama-tiny", "model.layers.1.mlp.up_proj.weight"),
        ("resnet-tiny", "layer2.0.conv2.weight"),
        ("vit-tiny", "vit.layernorm.bias"),
    ];
    for (name, tensor) in cases {
        let wrong = |mode| {
            let mut setup = setup(&small(name, mode), 7);
            setup.source = Box::new(WrongOnce { right: Seeded(7), name: tensor, asked: Cell::new(false) });
            setup
        };
        let check = &Inference::load(wrong("inference")).unwrap().check().unwrap()[0];
        assert!(!check.pass, "{name}: {check:?}");
        if DECODERS.contains(&name) {
            let check = &Decode::load(wrong("decode")).unwrap().check().unwrap()[0];
            assert!(!check.pass, "{name}: {check:?}");
        }
        // In training the gradient of one point does not match the slope at another.
        let mut training = Training::load(setup(&small(name, "training-step"), 7)).unwrap();
        training.replace_source(wrong("training-step").source);
        let checks = training.check().unwrap();
        assert!(checks.iter().any(|check| !check.pass), "{name}: {checks:?}");
    }
}

#[test]
fn same_seed_same_bits_other_seed_other_bits() {
    let output =
        |name, seed| values(&Inference::load(setup(&small(name, "inference"), seed)).unwrap().output().unwrap());
    for name in ALL {
        assert_eq!(output(name, 1), output(name, 1), "{name}");
        assert_ne!(output(name, 1), output(name, 2), "{name}");
    }
}

/// Keeps what it hands out.
#[derive(Debug)]
struct Recorder {
    seed: u64,
    tensors: &'static Mutex<HashMap<String, Tensor>>,
}

impl Source for Recorder {
    fn values(&self, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>, BackendError> {
        let values = Seeded(self.seed).values(name, shape, init)?;
        let tensor = Tensor::from_slice(&values, shape, &Device::Cpu).unwrap();
        self.tensors.lock().unwrap().insert(name.to_owned(), tensor);
        Ok(values)
    }
}

/// The random weights of a model as a checkpoint would hold them.
fn recorded(name: &str, seed: u64) -> HashMap<String, Tensor> {
    let tensors: &'static Mutex<HashMap<String, Tensor>> = Box::leak(Box::default());
    let mut setup = setup(&small(name, "inference"), seed);
    setup.source = Box::new(Recorder { seed, tensors });
    Inference::load(setup).unwrap();
    std::mem::take(&mut *tensors.lock().unwrap())
}

fn with_checkpoint(name: &str, path: &std::path::Path) -> Workload {
    let mut workload = small(name, "inference");
    workload.params.insert("checkpoint".to_owned(), text(path.to_str().unwrap()));
    workload
}

#[test]
fn a_checkpoint_of_the_random_weights_gives_the_same_output() {
    let folder = tempfile::tempdir().unwrap();
    for name in ALL {
        let path = folder.path().join(name);
        candle_core::safetensors::save(&recorded(name, 5), &path).unwrap();
        let mut loaded = Inference::load(setup(&with_checkpoint(name, &path), 5)).unwrap();
        let random = Inference::load(setup(&small(name, "inference"), 5)).unwrap();
        assert_eq!(values(&loaded.output().unwrap()), values(&random.output().unwrap()), "{name}");
        passing(&loaded.check().unwrap());
    }
}

#[test]
fn checkpoints_load_under_the_names_that_exports_vary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old-bert");
    let old = recorded("bert-tiny", 5).into_iter().map(|(name, tensor)| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (name.trim_start_matches("bert.").to_owned(), tensor.to_dtype(DType::F64).unwrap())
    });
    candle_core::safetensors::save(&old.collect(), &path).unwrap();
    let loaded = Inference::load(setup(&with_checkpoint("bert-tiny", &path), 5)).unwrap();
    let random = Inference::load(setup(&small("bert-tiny", "inference"), 5)).unwrap();
    assert_eq!(values(&loaded.output().unwrap()), values(&random.output().unwrap()));
}

#[test]
fn a_wrong_checkpoint_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let error = || load(&with_checkpoint("gpt2-tiny", &path), 5).err().expect("refused").to_string();
    assert!(error().contains("cannot be opened"), "{}", error());

    std::fs::write(&path, "not a checkpoint").unwrap();
    assert!(error().contains("is no safetensors file"), "{}", error());

    let mut tensors = recorded("gpt2-tiny", 5);
    let tensor = Tensor::zeros((128, 256), DType::F32, &Device::Cpu).unwrap();
    tensors.insert("h.0.attn.c_attn.weight".to_owned(), tensor);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let message = error();
    assert!(
        message.contains("tensor `h.0.attn.c_attn.weight` has shape [128, 256], the model needs [128, 384]"),
        "{message}"
    );
    assert!(message.contains("w.safetensors"), "{message}");

    tensors.remove("h.0.attn.c_attn.weight");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    assert!(error().contains("has no tensor `h.0.attn.c_attn.weight`"), "{}", error());
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let message = |workload: &Workload| load(workload, 1).err().expect("refused").to_string();
    let long = workload("gpt2-tiny", "decode", &[("seq", int(1020)), ("tokens", int(8))]);
    assert!(
        message(&long).contains("at most 1024 tokens") && message(&long).contains("`tokens`"),
        "{}",
        message(&long)
    );
    let none = workload("gpt2-tiny", "inference", &[("batch", int(0))]);
    assert!(message(&none).contains("`batch`"), "{}", message(&none));
    let encoder = workload("bert-tiny", "decode", &[("tokens", int(4))]);
    assert!(message(&encoder).contains("needs a decoder"), "{}", message(&encoder));
    let mut unknown = small("gpt2-tiny", "inference");
    unknown.name = "alexnet".to_owned();
    assert!(message(&unknown).contains("no model `alexnet`"), "{}", message(&unknown));
}

/// Each iteration starts from the prompt again, and a check of a long prompt leaves the cache as it was.
#[test]
fn decoding_repeats_itself_and_its_cache_does_not_grow() {
    let long = workload("gpt2-tiny", "decode", &[("seq", int(150)), ("tokens", int(6))]);
    let mut decode = Decode::load(setup(&long, 9)).unwrap();
    let first = decode.trace().unwrap();
    decode.run(3).unwrap();
    assert_eq!(decode.trace().unwrap(), first);
    passing(&decode.check().unwrap());
    assert_eq!(decode.trace().unwrap(), first);
}
