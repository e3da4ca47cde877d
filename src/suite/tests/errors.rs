//! Refusals: each class with its line and the heart of its message, and a few as a whole.

use super::{BACKENDS, text};
use crate::suite::{Suite, SuiteError};

fn refused(text: &str) -> SuiteError {
    Suite::parse("test.toml", text, BACKENDS).expect_err("must be refused")
}

/// The body begins on line 3; `line` is the line of the file.
#[track_caller]
fn assert_refused(body: &str, line: usize, message: &str, help: &str) {
    let error = refused(&text(body));
    let SuiteError::Invalid(list) = &error else { panic!("{error}") };
    let found = list.iter().any(|diagnostic| {
        diagnostic.line == line
            && diagnostic.message.contains(message)
            && diagnostic.help.as_deref().unwrap_or_default().contains(help)
    });
    assert!(found, "wanted line {line}, `{message}`, `{help}`, got\n{error}");
}

const GEMM: &str = "[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\n";

fn gemm(rest: &str) -> String {
    format!("{GEMM}{rest}")
}

#[test]
fn a_misspelt_key_reads_like_this() {
    insta::assert_snapshot!(refused(&text("gaet = \"minor\"\n[[benchmark]]\nname = \"a\"\nmodel = \"gpt2\"\n")), @r#"
    error: unknown key `gaet`
     --> test.toml:3:1
      |
    3 | gaet = "minor"
      | ^^^^
      |
      = help: did you mean `gate`? known keys here: schema_version, name, description, backends, gate, gate_metrics, budget, launches, reference_workloads, timeout, memory_limit, tags, owner, defaults, sampling, thresholds, targets, prices, build, benchmark
    "#);
}

#[test]
fn a_bad_condition_is_pointed_at_inside_its_text() {
    insta::assert_snapshot!(refused(&text(&gemm("when = ['cores >= 2', 'memory >= \"40 Gib\"']\n"))), @r#"
    error: unknown unit `Gib` in `40 Gib`; known units: B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB
     --> test.toml:6:34
      |
    6 | when = ['cores >= 2', 'memory >= "40 Gib"']
      |                                  ^^^^^^^^
      |
      = help: as in `memory >= "40 GiB"`, `compute_capability >= 9.0`, `cores >= 8`, `device = "*H100*"`, `backend = "nvidia"`
    "#);
}

#[test]
fn several_problems_are_reported_at_once_in_file_order() {
    insta::assert_snapshot!(refused(&text(&gemm("m = 0\nprecisoin = \"f32\"\nprecision = \"f33\"\n"))), @r#"
    error: `m` of `gemm` must be a whole number of at least 1, got `0`
     --> test.toml:6:5
      |
    6 | m = 0
      |     ^
      |
      = help: `m` is: rows of A

    error: unknown key `precisoin` in benchmark `a`
     --> test.toml:7:1
      |
    7 | precisoin = "f32"
      | ^^^^^^^^^
      |
      = help: did you mean `precision`? known parameters of `gemm`: m, n, k, batch, layout, epilogue, algorithm, accumulation, threads, precision, timing, pace, device, energy

    error: `precision` of `gemm` must be one of f32, bf16, f16, f64, tf32, fp8-e4m3, fp8-e5m2, int8, got `f33`
     --> test.toml:8:13
      |
    8 | precision = "f33"
      |             ^^^^^
      |
      = help: did you mean `f32`? `precision` is: element type of weights and activations

    3 errors in test.toml
    "#);
}

#[test]
fn what_is_no_toml_is_refused_where_it_breaks() {
    assert_refused("[[benchmark]\nname = \"a\"\n", 3, "", "not valid TOML");
    assert_refused("launches = \n", 3, "", "not valid TOML");
    assert_refused("name = \"twice\"\n", 3, "duplicate key", "not valid TOML");
}

#[test]
fn head_keys_are_checked() {
    let benchmark = |head: &str| format!("{head}\n{GEMM}");
    for (head, message, help) in [
        ("launches = 0", "`launches` must be at least 1", "3 is"),
        ("launches = \"3\"", "invalid type", ""),
        ("timeout = \"3 sec\"", "unknown unit `sec`", ""),
        ("timeout = 3", "a duration with its unit", ""),
        ("timeout = \"0s\"", "longer than nothing", ""),
        ("budget = \"3\"", "has no unit", ""),
        ("memory_limit = \"4 gigs\"", "unknown unit `gigs`", ""),
        ("memory_limit = -4", "a size such as", ""),
        ("gate = \"modrate\"", "`moderate`", ""),
        ("backends = [\"cpu\", \"nvida\"]", "unknown backend `nvida`", "did you mean `nvidia`?"),
        ("backends = [\"xla-crate:cpu\"]", "unknown backend `xla-crate:cpu`", "with the feature `xla-crate`"),
        ("backends = [\"cpu\", \"cpu\"]", "listed twice", ""),
        ("backends = []", "no cases", ""),
        ("tags = [\"a b\"]", "cannot be a tag", ""),
        ("gate_metrics = [\"latncy\"]", "unknown metric `latncy`", "did you mean `latency`?"),
        ("gate_metrics = [\"throughput\"]", "never judged", "gate on `latency`"),
        ("defaults = { thread = 1 }", "no workload has a parameter `thread`", "did you mean `threads`?"),
        ("defaults = { threads = 0 }", "`threads` of `gemm` must be", ""),
        ("sampling = { max_tim = \"1s\" }", "unknown key `max_tim`", "did you mean `max_time`?"),
        ("sampling = { min_samples = 9 }", "at least 10", ""),
        ("sampling = { min_samples = 3000 }", "above `max_samples`", "raise"),
        ("sampling = { precision = \"0%\" }", "above 0 %", ""),
        ("sampling = 3", "a table of sampling rules", ""),
        ("thresholds = { minor = \"9%\" }", "must be above zero and rise", ""),
        ("thresholds = { minor = 2 }", "a percentage such as", ""),
        ("thresholds = { mino = \"2%\" }", "unknown key `mino`", "did you mean `minor`?"),
        ("thresholds = { latncy = { minor = \"1%\" } }", "unknown metric `latncy`", "did you mean `latency`?"),
        ("thresholds = { latency = { mino = \"1%\" } }", "unknown key `mino`", "did you mean `minor`?"),
        ("thresholds = { latency = { absolute_floor = \"1 MiB\" } }", "unknown unit `MiB`", ""),
        ("thresholds = { flop_rate = { absolute_floor = \"1s\" } }", "give a plain number", ""),
        ("thresholds = { absolute_floor = 3 }", "must be a duration or a size", "unit"),
    ] {
        let line = if head == "backends = []" { 2 } else { 3 };
        assert_refused(&benchmark(head), line, message, help);
    }
}

#[test]
fn the_version_and_the_names_are_checked() {
    let error = refused("name = \"x\"\n").to_string();
    assert!(error.contains("test.toml:1:") && error.contains("write `schema_version = 1`"), "{error}");
    let error = refused("schema_version = 2\nname = \"x\"\n").to_string();
    assert!(error.contains("reads schema version 1, not 2"), "{error}");
    let error = refused("schema_version = 1\nname = \"a/b\"\n").to_string();
    assert!(error.contains("test.toml:2:8") && error.contains("cannot be a suite's name"), "{error}");

    let error = refused("schema_version = 1\nname = \"..\"\n").to_string();
    assert!(error.contains("test.toml:2:8") && error.contains("cannot be a suite's name"), "{error}");
    let error = refused(&format!("schema_version = 1\nname = \"{}\"\n", "x".repeat(101))).to_string();
    assert!(error.contains("is too long for a suite's name") && error.contains("at most 100"), "{error}");

    assert_refused("", 2, "suite `test` has no cases", "add a `[[benchmark]]`");
    assert_refused("[benchmark]\nname = \"a\"\n", 3, "must be a list of tables", "[[benchmark]]");
    assert_refused("[[benchmark]]\nmodel = \"gpt2\"\n", 3, "`name` is missing", "add `name`");
    assert_refused("[[benchmark]]\nnmae = \"a\"\nmodel = \"gpt2\"\n", 4, "unknown key `nmae`", "did you mean `name`?");
    assert_refused(&format!("{GEMM}{GEMM}"), 7, "two benchmarks are named `a`", "rename");
    assert_refused(&gemm("aliases = [\"a\"]"), 6, "already a name or an alias", "");
    assert_refused(&gemm("aliases = [\"x\", \"x\"]"), 6, "already a name or an alias", "");
}

#[test]
fn workloads_and_parameters_are_checked() {
    let benchmark = |rest: &str| format!("[[benchmark]]\nname = \"a\"\n{rest}");
    for (rest, line, message, help) in [
        ("batch = 3", 4, "benchmark `a` runs nothing", "exactly one of"),
        ("modle = \"gpt2\"", 5, "unknown key `modle`", "did you mean `model`?"),
        ("model = \"gpt2\"\noperator = \"gemm\"", 4, "runs several things", "exactly one of"),
        ("model = \"gpt3\"", 5, "unknown model `gpt3`", "did you mean `gpt2`?"),
        ("model = \"gemm\"", 5, "unknown model `gemm`", "write `operator = \"gemm\"`"),
        ("operator = \"reference-compute\"", 5, "unknown operator", ""),
        ("operator = \"gemm\"\nm = 1.5", 6, "a whole number", ""),
        ("operator = \"gemm\"\nm = [1]", 6, "takes one value here", "under `axes`"),
        ("operator = \"attention\"\ncausal = 1", 6, "true or false", ""),
        ("model = \"gpt2\"\nmode = \"decod\"", 6, "must be one of", "did you mean `decode`?"),
        ("model = \"bert-base\"\nmode = \"decode\"", 6, "must be one of inference, training-step", ""),
        ("model = \"gpt2\"\ncheckpoint = 3", 6, "must be a text", ""),
        ("model = \"gpt2\"\nthreshold = { minor = 0.01 }", 6, "unknown key", "did you mean `thresholds`?"),
        ("model = \"gpt2\"\nenv = { A = \"1\" }", 6, "only a command takes `env`", ""),
        ("model = \"gpt2\"\nmemory_limit = \"0 B\"", 6, "less than 1 MiB", "leave it out"),
        (
            "model = \"gpt2\"\nsampling = { min_time = \"9s\", max_time = \"1s\" }",
            6,
            "`min_time` (9 s) is above",
            "raise",
        ),
        ("command = []", 5, "names no program", ""),
        ("command = [\"x\", \"{batch}\"]", 5, "no axis is named `batch`", "{{batch}}"),
        (
            "command = [\"x\"]\nenv = { \"A=B\" = \"1\" }",
            6,
            "`A=B` cannot be an environment variable's name",
            "letters",
        ),
        ("command = [\"x\"]\nbatch = 3", 6, "unknown key `batch`", "written as `axes`"),
        ("command = [\"x\"]\ngate_metrics = [\"rate\"]", 6, "unknown metric `rate`", "`metrics`"),
        (
            "command = [\"x\"]\nmetrics.latency = { unit = \"s\", direction = \"lower\", kind = \"timing\" }",
            6,
            "itself",
            "",
        ),
        ("command = [\"x\"]\nmetrics.r = { unit = \"s\", direction = \"up\", kind = \"timing\" }", 6, "`higher`", ""),
        ("command = [\"x\"]\nmetrics.r = { direction = \"higher\", kind = \"rate\" }", 6, "`unit` is missing", "add"),
        ("model = \"gpt2\"\nwhen = ['memroy > 3']", 6, "unknown fact `memroy`", "did you mean `memory`?"),
        ("model = \"gpt2\"\nwhen = ['backend = \"nvida\"']", 6, "unknown backend `nvida`", "did you mean `nvidia`?"),
    ] {
        assert_refused(&benchmark(rest), line, message, help);
    }
}

#[test]
fn axes_are_checked() {
    for (axes, line, message, help) in [
        ("axes = { m = [] }", 6, "axis `m` is empty", "at least one"),
        ("axes = { m = 3 }", 6, "a list such as [1, 8]", ""),
        ("axes = { seq = [1] }", 6, "`gemm` has no parameter `seq`", "m, n, k"),
        ("axes = { m = [1, 0] }", 6, "at least 1, got `0`", ""),
        ("axes = { m = [1, 2, 1] }", 6, "`m=1` occurs twice", "once"),
        ("m = 3\naxes = { m = [1] }", 6, "set here and by an axis", "keep one"),
        ("axes = { m = { from = 1, to = 3 } }", 6, "exactly one of `step` and `factor`", ""),
        ("axes = { m = { from = 1, to = 3, step = 1, factor = 2 } }", 6, "exactly one of", ""),
        ("axes = { m = { from = 1, to = 3, step = 0 } }", 6, "`step` must be at least 1", ""),
        ("axes = { m = { from = 1, to = 3, factor = 1 } }", 6, "`factor` must be at least 2", ""),
        ("axes = { m = { from = 4, to = 3, step = 1 } }", 6, "the range is empty", ""),
        ("axes = { m = { from = 1, to = 3, stp = 1 } }", 6, "unknown key `stp`", "did you mean `step`?"),
        ("axes = { m = { from = 1, to = 9223372036854775807, step = 1 } }", 6, "more than 100000 values", ""),
        ("axes = { m = [1, 2], n = [1] }\nzip = [[\"m\", \"n\"]]", 7, "differ in length: `m` has 2, `n` has 1", ""),
        ("axes = { m = [1, 1], n = [1, 1] }\nzip = [[\"m\", \"n\"]]", 7, "`m=1/n=1` occurs twice", ""),
        ("axes = { m = [1] }\nzip = [[\"m\", \"nn\"]]", 7, "no axis is named `nn`", ""),
        ("axes = { m = [1] }\nzip = [[\"m\"]]", 7, "fewer than two axes", ""),
        ("axes = { m = [1], n = [1] }\nzip = [[\"m\", \"n\"], [\"n\", \"m\"]]", 7, "zipped twice", ""),
    ] {
        assert_refused(&gemm(axes), line, message, help);
    }
    let wide = "axes = { m = { from = 1, to = 1000, step = 1 }, n = { from = 1, to = 101, step = 1 } }";
    assert_refused(&gemm(wide), 4, "more than 100000 cases", "zip");
    let path = "[[benchmark]]\nname = \"a\"\ncommand = [\"x\"]\naxes = { file = [\"a/b\"] }";
    assert_refused(path, 6, "cannot be a value of axis `file`", "part of case ids");
}

#[test]
fn a_benchmark_that_cannot_be_read_hides_no_other() {
    let body = "[[benchmark]]\nname = 3\n[[benchmark]]\nmodel = \"gpt2\"\n[[benchmark]]\nname = \"c\"\ntags = 1\n";
    for line in [4, 5, 9] {
        assert_refused(body, line, "", "");
    }
}
