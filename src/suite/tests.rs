//! Suites as users write them: what is accepted, what is refused and how that reads, and what is planned.
use super::*;
#[test]
fn play() {
    for name in ["quickstart", "cpu-models", "cpu-operators", "selftest"] {
        let s = Suite::load(Path::new(&format!("suites/{name}.toml")), &["cpu"]).unwrap_or_else(|e| panic!("{e}"));
        for c in &s.cases {
            eprintln!("{}", c.id);
        }
    }
    std::fs::write("suites/suite.schema.json", serde_json::to_string_pretty(&json_schema()).unwrap() + "\n").unwrap();
    let t = r#"
name = "x"
gat = "minor"
launches = 0
timeout = "3 sec"
[thresholds]
minor = "9%"
[thresholds.latncy]
minor = "1%"
[sampling]
max_tim = "1s"
[[benchmark]]
name = "a b"
modle = "bert-base"
[[benchmark]]
model = "bert-base"
[[benchmark]]
name = "c"
model = "bert-bas"
when = ['memroy > 3']
"#;
    eprintln!("{}", Suite::parse("s.toml", t, &["cpu"]).unwrap_err());
    let t = r#"schema_version = 1
name = "x"
launches = 0
gate_metrics = ["throughput"]
[defaults]
thread = 1
precision = "f3"
[thresholds]
minor = "9%"
[thresholds.latncy]
minor = "1%"
[sampling]
max_tim = "1s"
[[benchmark]]
name = "a b"
modle = "bert-base"
[[benchmark]]
name = "c"
model = "bert-bas"
when = ['memroy > 3']
[[benchmark]]
name = "d"
model = "gemm"
batch = 0
[[benchmark]]
name = "e"
operator = "gemm"
batch = 0
m = [1,2]
k = "3"
threshold = { minor = "3%" }
[benchmark.axes]
n = { from = 1, to = 3, stp = 1 }
[[benchmark]]
name = "f"
command = ["run", "{bach}"]
x = 1
[benchmark.axes]
batch = [1, 1]
seq = []
"#;
    eprintln!("{}", Suite::parse("s.toml", t, &["cpu"]).unwrap_err());
    eprintln!("{}", Suite::parse("s.toml", "name = 3 4", &["cpu"]).unwrap_err());
    eprintln!("{}", Suite::parse("s.toml", "", &["cpu"]).unwrap_err());
    eprintln!("{}", Suite::parse("s.toml", "name = ", &["cpu"]).unwrap_err());
    eprintln!(
        "{}",
        Suite::parse("s.toml", "schema_version=1\nname = 'x'\n[benchmark]\nname='x'", &["cpu"]).unwrap_err()
    );
    eprintln!("{}", Suite::parse("s.toml", "schema_version=1\nname = 'x'\nbenchmark=[3]", &["cpu"]).unwrap_err());
    eprintln!("{}", Suite::parse("s.toml", "schema_version=1\nname = 'x'\ngate='modrate'\n[sampling]\nmax_time=3\n[[benchmark]]\nname = 'a'\nmodel = 'gpt2'\naxes = { batch = 3 }\nzip = [['batch']]", &["cpu"]).unwrap_err());
}
