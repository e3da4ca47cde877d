//! Every operator in every precision it claims: right numbers pass, wrong ones do not.

use std::collections::BTreeMap;

use crate::backend::cpu::operator::tensor::Compared;
use crate::backend::cpu::operator::{OPERATORS, load, supports};
use crate::domain::workload::{PRECISIONS, ParamKind, find};
use crate::domain::{ParamValue, Workload, WorkloadKind};

/// A workload of the catalogue with small sizes, as the suite would hand it over.
fn workload(name: &str, changes: &[(&str, ParamValue)]) -> Workload {
    let entry = find(WorkloadKind::Operator, name).expect("in the catalogue");
    let mut params = BTreeMap::new();
    for param in entry.all_params().filter(|param| param.applies_to("cpu")) {
        let value = match param.kind {
            ParamKind::Size { default } => ParamValue::Int(default.min(37)),
            ParamKind::Flag { default } => ParamValue::Bool(default),
            ParamKind::Choice(choices) => ParamValue::Text(choices[0].to_owned()),
            ParamKind::Index => ParamValue::Int(0),
            ParamKind::OptionalText | ParamKind::OptionalSize => continue,
        };
        params.insert(param.name.to_owned(), value);
    }
    params.insert("threads".to_owned(), ParamValue::Int(1));
    params.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Workload { kind: WorkloadKind::Operator, name: name.to_owned(), params, command: Vec::new(), kernel: None }
}

fn text(value: &str) -> ParamValue {
    ParamValue::Text(value.to_owned())
}

/// The error and tolerance of the one check, after an iteration.
fn error_of(workload: &Workload) -> (f64, f64) {
    let mut prepared = load(workload, 11).unwrap_or_else(|error| panic!("{workload:?}: {error}"));
    prepared.run(1).expect("it runs");
    let checks = prepared.check().expect("it can be checked");
    assert_eq!(checks.len(), 1);
    assert!(checks[0].pass, "{workload:?}: {checks:?}");
    (checks[0].error, checks[0].tolerance)
}

#[test]
fn every_operator_and_every_exception_is_in_the_catalogue() {
    for row in OPERATORS {
        let entry = find(WorkloadKind::Operator, row.name).unwrap_or_else(|| panic!("{}", row.name));
        for (param, value) in row.cannot {
            let param = entry.all_params().find(|known| known.name == *param).expect("known");
            assert!(matches!(param.kind, ParamKind::Choice(choices) if choices.contains(value)), "{value}");
            let skip = supports(&workload(row.name, &[(param.name, text(value))])).expect_err("not here");
            assert!(skip.reason.contains(value), "{skip:?}");
        }
    }
    let skip = supports(&workload("allreduce", &[])).expect_err("a GPU's");
    assert!(skip.reason.contains("allreduce"), "{skip:?}");
}

#[test]
fn every_precision_either_gives_right_numbers_or_says_why_not() {
    for row in OPERATORS {
        for precision in PRECISIONS {
            let workload = workload(row.name, &[("precision", text(precision))]);
            match supports(&workload) {
                Ok(()) => {
                    error_of(&workload);
                }
                Err(skip) => {
                    assert!(skip.reason.contains(precision), "{skip:?}");
                    assert!(skip.remedy.contains("f32"), "{skip:?}");
                    let error = load(&workload, 1).err().expect("what is not supported is not loaded");
                    assert!(error.to_string().contains(precision), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_shorter_type_is_really_computed_in_it() {
    for row in OPERATORS.iter().filter(|row| row.precisions.is_some()) {
        let (f32_error, f32_tolerance) = error_of(&workload(row.name, &[]));
        let (f16_error, _) = error_of(&workload(row.name, &[("precision", text("f16"))]));
        assert!(f32_error > 0.0 && f32_error <= f32_tolerance, "{}: {f32_error}", row.name);
        assert!(f16_error > f32_tolerance, "{}: f16 is as exact as f32: {f16_error}", row.name);
    }
}

#[test]
fn long_rows_stay_right_in_short_types() {
    for precision in ["bf16", "f16"] {
        for name in ["softmax", "layernorm"] {
            error_of(&workload(name, &[("precision", text(precision)), ("cols", ParamValue::Int(8192))]));
        }
    }
    for precision in ["f16", "f32", "f64"] {
        error_of(&workload("gemm", &[("precision", text(precision)), ("k", ParamValue::Int(8192))]));
    }
}

#[test]
fn both_attentions_agree_with_the_reference_across_tiles_and_masks() {
    for implementation in ["naive", "tiled"] {
        for causal in [false, true] {
            // Under a tile, exactly two, and two and a bit.
            for seq in [1, 37, 128, 150] {
                for precision in ["f32", "f16"] {
                    let workload = workload(
                        "attention",
                        &[
                            ("implementation", text(implementation)),
                            ("causal", ParamValue::Bool(causal)),
                            ("seq", ParamValue::Int(seq)),
                            ("batch", ParamValue::Int(2)),
                            ("precision", text(precision)),
                        ],
                    );
                    error_of(&workload);
                }
            }
        }
    }
}

#[test]
fn counts_follow_from_shapes() {
    let int = ParamValue::Int;
    let counts =
        |name: &str, changes: &[(&str, ParamValue)]| load(&workload(name, changes), 1).expect("loads").counts();

    let gemm = counts("gemm", &[("m", int(2)), ("n", int(3)), ("k", int(5)), ("precision", text("f64"))]);
    assert_eq!((gemm.flops, gemm.bytes, gemm.items), (Some(60.0), Some(31.0 * 8.0), None));

    let shape = [("batch", int(2)), ("heads", int(3)), ("seq", int(4)), ("head_dim", int(5))];
    let attention = counts("attention", &shape);
    assert_eq!(attention.flops, Some(4.0 * 6.0 * 16.0 * 5.0));
    assert_eq!(attention.bytes, Some(4.0 * 6.0 * 4.0 * 5.0 * 4.0));
    assert_eq!(attention.items, Some((8.0, "tokens")));
    let causal = counts("attention", &[&shape[..], &[("causal", ParamValue::Bool(true))]].concat());
    assert_eq!(causal.flops, Some(4.0 * 6.0 * 10.0 * 5.0));

    let rows = [("rows", int(4)), ("cols", int(10)), ("precision", text("bf16"))];
    let softmax = counts("softmax", &rows);
    assert_eq!((softmax.flops, softmax.bytes), (Some(200.0), Some(160.0)));
    let layernorm = counts("layernorm", &rows);
    assert_eq!((layernorm.flops, layernorm.bytes), (Some(280.0), Some(200.0)));
    assert_eq!(layernorm.items, Some((4.0, "rows")));

    assert_eq!(counts("copy", &[("bytes", int(1000))]).bytes, Some(2000.0));
}

#[test]
fn a_copy_is_whole_with_any_number_of_threads() {
    for (bytes, threads) in [(1, 4), (1000, 1), (1001, 2), (1001, 3)] {
        let changes = [("bytes", ParamValue::Int(bytes)), ("threads", ParamValue::Int(threads))];
        error_of(&workload("copy", &changes));
    }
}

#[test]
fn inputs_follow_the_seed() {
    let debug = |seed| {
        format!("{:?}", super::tensor::normal(seed, 0, &[4], candle_core::DType::F32).expect("makes").to_vec1::<f32>())
    };
    assert_eq!(debug(3), debug(3));
    assert_ne!(debug(3), debug(4));
}

#[test]
fn errors_are_relative_to_the_reference_and_never_lose_a_nan() {
    let error = |got: &[f64], want: &[f64]| Compared { got: got.to_vec(), want: want.to_vec() }.error();
    assert_eq!(error(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
    assert_eq!(error(&[0.0], &[0.0]), 0.0);
    assert_eq!(error(&[1.0], &[0.0]), f64::INFINITY);
    assert!(error(&[f64::NAN, 1.0], &[1.0, 1.0]).is_nan());
    assert!(error(&[1.0, 1.0], &[1.0, f64::NAN]).is_nan());
    assert!(error(&[1.0], &[1.0, 1.0]).is_nan());
    assert!(error(&[], &[]).is_nan());
}

#[test]
fn bad_parameters_are_refused_by_name() {
    let mut missing = workload("gemm", &[]);
    missing.params.remove("k");
    assert!(load(&missing, 1).err().expect("no k").to_string().contains("`k`"));
    let unknown = workload("attention", &[("implementation", text("magic"))]);
    assert!(load(&unknown, 1).err().expect("no magic").to_string().contains("`magic`"));
    let mut nameless = workload("gemm", &[]);
    nameless.name = "fft".to_owned();
    assert!(supports(&nameless).expect_err("no fft").remedy.contains("gemm"));
}
