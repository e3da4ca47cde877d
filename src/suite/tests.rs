//! Suites as users write them: what they expand to. Refusals are in `errors`, plans in `planning`, targets in `targets`, kernels
//! of the user's in `kernels`.

mod errors;
mod kernels;
mod planning;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;

use crate::domain::{Direction, MetricKind, ParamValue, Severity, Thresholds, WorkloadKind};
use crate::suite::{Suite, json_schema, prices_schema};

const BACKENDS: &[&str] = &["cpu", "nvidia", "xla"];

/// A suite with this text after its head; the head takes two lines.
fn text(body: &str) -> String {
    format!("schema_version = 1\nname = \"test\"\n{body}")
}

fn parse(body: &str) -> Suite {
    Suite::parse("test.toml", &text(body), BACKENDS).unwrap_or_else(|error| panic!("{error}"))
}

fn ids(suite: &Suite) -> Vec<&str> {
    suite.cases.iter().map(|case| case.id.as_str()).collect()
}

#[test]
fn ids_carry_axes_in_the_order_of_the_file_and_no_fixed_parameters() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "attention"
        operator = "attention"
        heads = 4
        backends = ["cpu", "nvidia"]
        [benchmark.axes]
        seq = [64, 128]
        batch = { from = 1, to = 4, factor = 2 }
        causal = [true]
        "#,
    );
    assert_eq!(
        ids(&suite)[..4],
        [
            "attention/seq=64/batch=1/causal=true@cpu",
            "attention/seq=64/batch=1/causal=true@nvidia",
            "attention/seq=64/batch=2/causal=true@cpu",
            "attention/seq=64/batch=2/causal=true@nvidia",
        ]
    );
    assert_eq!(suite.cases.len(), 2 * 3 * 2);
    assert_eq!(suite.cases[0].workload.size("heads"), Ok(4));
    assert_eq!(suite.cases[0].workload.size("seq"), Ok(64));
    assert_eq!(suite.cases[0].workload.flag("causal"), Ok(true));
}

#[test]
fn zipped_axes_advance_together_and_the_others_multiply() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "g"
        operator = "gemm"
        zip = [["m", "k"]]
        [benchmark.axes]
        m = [1, 1]
        n = { from = 8, to = 24, step = 8 }
        k = [10, 20]
        "#,
    );
    assert_eq!(
        ids(&suite),
        [
            "g/m=1/n=8/k=10@cpu",
            "g/m=1/n=16/k=10@cpu",
            "g/m=1/n=24/k=10@cpu",
            "g/m=1/n=8/k=20@cpu",
            "g/m=1/n=16/k=20@cpu",
            "g/m=1/n=24/k=20@cpu",
        ]
    );
}

#[test]
fn adding_a_benchmark_or_a_value_changes_no_other_id() {
    let first = "[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\naxes = { m = [1, 2] }\n";
    let small = parse(first);
    let more = first.replace("[1, 2]", "[1, 3, 2]");
    let large = parse(&format!("[[benchmark]]\nname = \"b\"\noperator = \"copy\"\n{more}"));
    assert!(ids(&small).iter().all(|id| ids(&large).contains(id)));
}

#[test]
fn parameters_come_from_the_benchmark_then_the_suite_then_the_catalogue() {
    let suite = parse(
        r#"
        [defaults]
        threads = 2
        batch = 4
        [[benchmark]]
        name = "a"
        model = "gpt2-tiny"
        batch = 8
        [[benchmark]]
        name = "b"
        operator = "gemm"
        "#,
    );
    let a = &suite.cases[0].workload;
    assert_eq!((a.size("batch"), a.size("threads"), a.size("seq")), (Ok(8), Ok(2), Ok(128)));
    assert_eq!((a.text("mode"), a.text("precision")), (Ok("inference"), Ok("f32")));
    assert!(!a.params.contains_key("checkpoint"), "absent by default");
    let b = &suite.cases[1].workload;
    assert!(!b.params.contains_key("batch"), "gemm does not understand it");
    assert_eq!((b.kind, b.size("m"), b.size("threads")), (WorkloadKind::Operator, Ok(512), Ok(2)));
}

#[test]
fn flags_of_a_compiler_may_be_an_axis() {
    let suite = parse(
        "[[benchmark]]\nname = \"a\"\nprogram = \"a.vhlo\"\nbackends = [\"xla\"]\n\
         axes = { xla_flags = [\"xla_cpu_enable_fast_math=true\", \"xla_cpu_enable_fast_math=false\"] }\n",
    );
    let ids: Vec<&str> = suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(
        ids,
        ["a/xla_flags=xla_cpu_enable_fast_math=true@xla", "a/xla_flags=xla_cpu_enable_fast_math=false@xla"]
    );
    assert_eq!(suite.cases[0].workload.optional_text("xla_flags"), Some("xla_cpu_enable_fast_math=true"));
}

#[test]
fn a_minimal_suite_gets_the_documented_defaults() {
    let suite = parse("[[benchmark]]\nname = \"a\"\nmodel = \"gpt2\"\n");
    assert_eq!((suite.info.gate, suite.info.launches, suite.info.budget_s), (Severity::Moderate, 5, None));
    assert_eq!(suite.info.hash.len(), 64);
    let case = &suite.cases[0];
    assert_eq!(case.id.as_str(), "a@cpu");
    assert_eq!(case.gate_metrics, ["latency", "peak_memory"]);
    assert_eq!(case.thresholds, BTreeMap::from([("*".to_owned(), Thresholds::default())]));
    assert_eq!((case.timeout_s, case.memory_limit, case.owner.as_deref()), (300.0, None, None));
}

#[test]
fn settings_of_a_benchmark_lie_over_those_of_the_suite() {
    let suite = parse(
        r#"
        timeout = "90s"
        memory_limit = "1 GiB"
        tags = ["all"]
        owner = "x"
        sampling = { max_time = "1s", max_samples = 50 }
        [[benchmark]]
        name = "a"
        model = "gpt2"
        aliases = ["old"]
        [[benchmark]]
        name = "b"
        model = "gpt2"
        timeout = "2m"
        memory_limit = 4194304
        tags = ["slow"]
        owner = "y"
        gate_metrics = ["cpu_time"]
        sampling = { max_time = "2s" }
        when = ["cores >= 2"]
        "#,
    );
    let [a, b] = &suite.cases[..] else { panic!("two cases") };
    assert_eq!((a.timeout_s, a.memory_limit, a.owner.as_deref()), (90.0, Some(1 << 30), Some("x")));
    assert_eq!((a.sampling.max_time_s, a.sampling.max_samples), (1.0, 50));
    assert_eq!(a.aliases, ["old@cpu".into()]);
    assert_eq!((b.timeout_s, b.memory_limit, b.owner.as_deref()), (120.0, Some(4 << 20), Some("y")));
    assert_eq!((b.sampling.max_time_s, b.sampling.max_samples), (2.0, 50));
    assert_eq!(b.tags, ["all", "slow"]);
    assert_eq!((&b.gate_metrics[..], &b.needs[..]), (&["cpu_time".to_owned()][..], &["cores >= 2".to_owned()][..]));
}

#[test]
fn thresholds_lie_over_each_other_and_floors_keep_to_their_dimension() {
    let suite = parse(
        r#"
        [thresholds]
        minor = "1%"
        absolute_floor = "10us"
        [thresholds.peak_memory]
        minor = "4%"
        absolute_floor = "1 MiB"
        [[benchmark]]
        name = "a"
        model = "gpt2"
        [[benchmark]]
        name = "b"
        model = "gpt2"
        [benchmark.thresholds]
        minor = "3%"
        latency = { severe = "50%", absolute_floor = 0.001 }
        "#,
    );
    let [a, b] = &suite.cases[..] else { panic!("two cases") };
    let limits = |minor, severe, absolute_floor| Thresholds { minor, severe, absolute_floor, ..Thresholds::default() };
    assert_eq!(a.thresholds_for("latency"), limits(0.01, 0.15, Some(1e-5)));
    assert_eq!(a.thresholds_for("cpu_time"), limits(0.01, 0.15, Some(1e-5)));
    assert_eq!(a.thresholds_for("peak_memory"), limits(0.04, 0.15, Some(1_048_576.0)));
    assert_eq!(a.thresholds_for("something_else"), limits(0.01, 0.15, None));
    assert_eq!(b.thresholds_for("latency"), limits(0.03, 0.5, Some(1e-3)));
    assert_eq!(b.thresholds_for("peak_memory"), limits(0.03, 0.15, Some(1_048_576.0)), "the benchmark's tables win");
}

#[test]
fn a_command_gets_its_axes_filled_in_and_keeps_its_own_metrics() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "script"
        command = ["python3", "b.py", "--n={n}", "{{n}}", "{\"a\": 1}"]
        axes = { n = [1, 2.5, "auto"] }
        env = { N = "{n}" }
        working_dir = "tools"
        gate_metrics = ["tok_rate"]
        [benchmark.metrics.tok_rate]
        unit = "tokens/s"
        direction = "higher"
        kind = "rate"
        "#,
    );
    assert_eq!(ids(&suite), ["script/n=1@cpu", "script/n=2.5@cpu", "script/n=auto@cpu"]);
    let case = &suite.cases[1];
    assert_eq!(case.workload.command, ["python3", "b.py", "--n=2.5", "{n}", "{\"a\": 1}"]);
    assert_eq!(case.workload.params, BTreeMap::from([("n".to_owned(), ParamValue::Float(2.5))]));
    assert_eq!((case.workload.kind, case.workload.name.as_str()), (WorkloadKind::Command, "script"));
    assert_eq!(case.env["N"], "2.5");
    assert_eq!(case.working_dir.as_deref(), Some("tools"));
    let metric = &case.metrics["tok_rate"];
    assert_eq!((metric.direction, metric.kind), (Direction::HigherIsBetter, MetricKind::Rate));
}

#[test]
fn the_schema_file_is_the_one_made_from_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/suite.schema.json");
    let committed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("the schema is committed")).expect("it is JSON");
    assert!(
        committed == json_schema(),
        "{} is out of date: run `regrade schema > suites/suite.schema.json`",
        path.display()
    );
}

#[test]
fn the_schema_of_prices_is_the_one_made_from_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/prices/prices.schema.json");
    let committed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("the schema is committed")).expect("it is JSON");
    let path = path.display();
    assert!(committed == prices_schema(), "{path} is out of date: run `regrade schema prices > {path}`");
}

#[test]
fn the_schema_documents_every_key_and_every_parameter() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let properties = schema["properties"].as_object().unwrap();
    let benchmark = schema["$defs"]["BenchmarkTable"]["properties"].as_object().unwrap();
    for (key, property) in properties.iter().chain(benchmark) {
        assert!(property["description"].is_string(), "{key} has no description");
    }
    for key in ["head_dim", "implementation", "mode", "threads"] {
        assert!(benchmark.contains_key(key), "{key} is missing");
    }
    assert_eq!(benchmark["threads"]["type"], "integer");
    assert_eq!(benchmark["mode"]["enum"], serde_json::json!(["inference", "training-step", "decode"]));
    assert!(!schema.to_string().contains("\"null\""), "TOML has no null");
}
