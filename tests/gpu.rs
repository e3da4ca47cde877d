//! The nvidia backend on a real GPU, through the binary. Skipped where there is none; on a machine with one:
//!
//! ```sh
//! cargo test --test gpu -- --ignored --test-threads 1
//! ```

mod support;

use serde_json::Value;
use support::{Place, Ran};

const EVERYTHING: &str = include_str!("fixtures/gpu/everything.toml");
const FAULTS: &str = include_str!("fixtures/gpu/faults.toml");

/// Runs a suite and returns its cases as the report has them: id → outcome and reason.
fn cases(place: &Place, code: i32) -> Vec<(String, String, String)> {
    let _: Ran = place.run(&["run", "suite.toml", "--quiet"]).expect(code);
    let report = place.run(&["report", "--format", "json"]).expect(0).stdout;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    report["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| (text(&case["case"]), text(&case["outcome"]["kind"]), text(&case["outcome"]["reason"])))
        .collect()
}

#[test]
fn without_a_gpu_every_case_is_skipped_with_reason_and_remedy() {
    let place = Place::new();
    place.write("suite.toml", EVERYTHING);
    let listed = place.run(&["list", "suite.toml", "--cases"]).expect(0).stdout;
    if listed.contains("nvidia   ready") {
        return;
    }
    let ran = place.run(&["run", "suite.toml"]).expect(5);
    assert!(listed.contains("there is no NVIDIA driver here; install it"), "{listed}");
    assert!(
        ran.stdout.contains("0 of ") && ran.stdout.contains("skipped: there is no NVIDIA driver"),
        "{}",
        ran.stdout
    );
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn every_operator_has_the_right_numbers() {
    let place = Place::new();
    place.write("suite.toml", EVERYTHING);
    let cases = cases(&place, 0);
    assert!(cases.len() > 100, "{}", cases.len());
    let wrong: Vec<_> = cases.iter().filter(|(_, outcome, _)| outcome != "measured").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn each_way_to_go_wrong_ends_by_its_own_name_and_leaves_the_gpu_usable() {
    let place = Place::new();
    place.write("suite.toml", FAULTS);
    let cases = cases(&place, 4);
    let expect = |id: &str, outcome: &str, words: &str| {
        let (_, got, reason) = cases.iter().find(|(case, ..)| case == id).unwrap_or_else(|| panic!("no {id}"));
        assert!(got == outcome && reason.contains(words), "{id}: {got}, {reason}");
    };
    let fault = |kind: &str| format!("fault/kind={kind}@nvidia");
    expect(&fault("hang"), "timed_out", "killed at its time-out");
    expect(&fault("illegal-address"), "failed", "CUDA_ERROR_ILLEGAL_ADDRESS");
    expect(&fault("not-a-number"), "failed", "off by NaN");
    expect(&fault("out-of-memory"), "out_of_memory", "CUDA_ERROR_OUT_OF_MEMORY");
    expect(&fault("wrong-numbers"), "failed", "wrong numbers");
    expect(&fault("error"), "failed", "as asked for");
    expect(&fault("abort"), "failed", "signal");
    expect("waits@nvidia", "failed", "waited for the device inside the timed region");
    for timing in ["cold", "hot", "batch"] {
        expect(&format!("empty/timing={timing}@nvidia"), "invalid", "use timing = \"graph\"");
    }
    expect("empty/timing=graph@nvidia", "measured", "");
    expect("well@nvidia", "measured", "");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_kernel_of_ones_own_is_measured_and_checked() {
    let place = Place::new();
    let root = std::env::var("REGRADE_ROOT").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let read =
        |name: &str| std::fs::read_to_string(format!("{root}/examples/cuda-kernel/{name}")).expect("the example");
    place.write("examples/cuda-kernel/rmsnorm.cu", &read("rmsnorm.cu"));
    place.write("suite.toml", &read("regrade.toml"));
    let measured = cases(&place, 0);
    assert!(measured.iter().filter(|(_, outcome, _)| outcome == "measured").count() >= 4, "{measured:#?}");
    // A kernel that forgets its scale is found out.
    place.write("examples/cuda-kernel/rmsnorm.cu", &read("rmsnorm.cu").replace("h.x * scale * g.x", "h.x * scale"));
    let broken = cases(&place, 4);
    let (_, outcome, reason) = broken.iter().find(|(case, ..)| case.starts_with("rmsnorm/")).expect("the case");
    assert!(outcome == "failed" && reason.contains("the reference kernel"), "{outcome}, {reason}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn arguments_that_a_kernel_does_not_take_are_refused() {
    let place = Place::new();
    place.write("k.cu", "extern \"C\" __global__ void k(float* x, int n) { if (n > 0) x[0] = n; }\n");
    let x = "{ buffer = \"x\", type = \"f32\", shape = [1] }";
    for (arguments, outcome, words) in [
        (format!("[{x}, {{ value = 1, type = \"i32\" }}]"), "measured", ""),
        (format!("[{x}]"), "failed", "`k` of `k.cu`: it takes 2 arguments, and 1 are given"),
        (format!("[{x}, {{ value = 1, type = \"i64\" }}]"), "failed", "its argument 2 takes 4 bytes, and 8 are given"),
    ] {
        let suite = format!(
            "schema_version = 1\nname = \"k\"\nbackends = [\"nvidia\"]\nlaunches = 1\n[[benchmark]]\nname = \"k\"\n\
             timing = \"graph\"\n[benchmark.kernel]\nsource = \"k.cu\"\nfunction = \"k\"\ngrid = [1]\nblock = [1]\n\
             arguments = {arguments}\n"
        );
        place.write("suite.toml", &suite);
        let cases = cases(&place, if outcome == "measured" { 0 } else { 4 });
        let (_, got, reason) = cases.iter().find(|(case, ..)| case == "k@nvidia").expect("the case");
        assert!(got == outcome && reason.contains(words), "{arguments}: {got}, {reason}");
    }
    // A cubin that was cut short is refused before the driver reads it.
    place.write("k.cubin", "\x7fELF\x02\x01 and no more");
    let suite = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write("suite.toml", &suite.replace("k.cu\"", "k.cubin\""));
    let cases = cases(&place, 4);
    let (_, outcome, reason) = cases.iter().find(|(case, ..)| case == "k@nvidia").expect("the case");
    assert!(outcome == "failed" && reason.contains("it is cut short"), "{outcome}, {reason}");
}
