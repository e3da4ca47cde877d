//! Runs and launches to keep: with every field set, and with the numbers that are hard to keep.

#![allow(dead_code, reason = "each test uses the part it needs")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use regrade::domain::{
    Acceptance, Case, CaseId, CaseRecord, Check, DeviceInfo, Evidence, Launch, LaunchId, Metric, Outcome, OutcomeKind,
    ParamValue, Run, RunId, RunStatus, Samples, Sampling, Severity, StopReason, SuiteInfo, Testbed, Thresholds, Value,
    Warmup, Workload, WorkloadKind,
};
use regrade::store::{ENGINES, Engine, Store};
use serde_json::json;
use uuid::Uuid;

/// A moment: `seconds` after the first of November 2026, and some nanoseconds.
pub fn at(seconds: i64) -> Timestamp {
    let first: Timestamp = "2026-11-01T00:00:00.000000007Z".parse().unwrap();
    first + SignedDuration::from_secs(seconds)
}

/// A run id that is the same on every call.
pub fn run_id(n: u64) -> RunId {
    RunId(Uuid::from_u64_pair(0x0193_0000_0000_7000 + (n << 24), 0x8000_0000_0000_0000 | n))
}

/// A launch id that is the same on every call.
pub fn launch_id(run: u64, n: u64) -> LaunchId {
    LaunchId(Uuid::from_u64_pair(0x0194_0000_0000_7000 + (run << 24), 0x8000_0000_0000_0000 | n))
}

/// A case of one operator.
pub fn case(id: &str) -> Case {
    Case {
        id: id.into(),
        benchmark: "gemm".to_owned(),
        workload: Workload {
            kind: WorkloadKind::Operator,
            name: "gemm".to_owned(),
            params: BTreeMap::from([
                ("m".to_owned(), ParamValue::Int(512)),
                ("scale".to_owned(), ParamValue::Float(2.0)),
            ]),
            command: Vec::new(),
            kernel: None,
        },
        backend: "cpu".to_owned(),
        tags: vec!["presubmit".to_owned()],
        owner: Some("kernels".to_owned()),
        thresholds: BTreeMap::from([("*".to_owned(), Thresholds::default())]),
        gate_metrics: vec!["latency".to_owned()],
        targets: Vec::new(),
        // Written out: the committed databases hold these, whatever the defaults become.
        sampling: Sampling {
            min_samples: 10,
            max_samples: 200,
            precision: 0.01,
            min_time_s: 0.0,
            max_time_s: 3.0,
            min_sample_time_s: 0.001,
            max_warmup_s: 2.0,
        },
        timeout_s: 60.0,
        memory_limit: Some(4 << 30),
        env: BTreeMap::new(),
        metrics: BTreeMap::new(),
        working_dir: None,
        aliases: vec![CaseId::from("mm")],
        needs: Vec::new(),
        skip: None,
        reference: false,
    }
}

/// A run of two cases and a skipped one, begun `n` hours after [`at`]`(0)`.
pub fn run(n: u64) -> Run {
    let skipped = CaseRecord {
        case: case("gemm/precision=fp8@cpu"),
        skipped: Some(Outcome::because(OutcomeKind::Skipped, "no fp8 here")),
    };
    let plain = |id: &str| CaseRecord { case: case(id), skipped: None };
    Run {
        id: run_id(n),
        suite: SuiteInfo {
            name: "quickstart".to_owned(),
            description: "a first look".to_owned(),
            gate: Severity::Moderate,
            budget_s: Some(180.0),
            launches: 5,
            text: "name = \"quickstart\"\n# µ\n".to_owned(),
            hash: "9f".repeat(32),
        },
        commit: Some(format!("{n:040x}")),
        branch: Some("main".to_owned()),
        dirty: n % 2 == 1,
        testbed: Testbed {
            key: "0123456789abcdef".to_owned(),
            facts: BTreeMap::from([
                ("cpu.model".to_owned(), "Test CPU".to_owned()),
                ("cpu.cores".to_owned(), "2".to_owned()),
            ]),
        },
        toolchain: "rustc 1.95.0".to_owned(),
        regrade_version: "0.1.0".to_owned(),
        command_line: "regrade run suites/quickstart.toml".to_owned(),
        seed: u64::MAX - n,
        started: at(3600 * n.cast_signed()),
        finished: None,
        status: RunStatus::Running,
        synthetic: None,
        debug_build: false,
        arm: None,
        cases: vec![plain("gemm/m=512@cpu"), plain("gemm/m=1024@cpu"), skipped],
    }
}

/// The `k`-th launch of a run: odd ones are of the second case. Every field is set.
pub fn launch(run: u64, k: u64) -> Launch {
    let started = at((3600 * run + 10 * k).cast_signed());
    let metric = |name: &str| Metric::standard(name).unwrap();
    let latency: Vec<f64> = (0..20).map(|i| 0.001 + f64::from(i) * 1e-5 + k as f64 * 1e-6).collect();
    Launch {
        id: launch_id(run, k),
        case: if k.is_multiple_of(2) { "gemm/m=512@cpu".into() } else { "gemm/m=1024@cpu".into() },
        index: (k / 2) as u32,
        position: k as u32,
        started,
        finished: started + SignedDuration::from_secs(9),
        outcome: Outcome::measured(),
        samples: vec![
            Samples {
                metric: metric("latency"),
                iterations: 8,
                clock: Some("monotonic".to_owned()),
                values: latency.clone(),
            },
            Samples {
                metric: metric("throughput"),
                iterations: 8,
                clock: None,
                values: latency.iter().map(|s| 1.0 / s).collect(),
            },
        ],
        values: vec![Value { metric: metric("peak_memory"), value: 123_456_789.0 }],
        checks: vec![Check::new("output", "f64 product", 1e-7, 1e-5)],
        device: Some(DeviceInfo {
            backend: "cpu".to_owned(),
            name: "Test CPU".to_owned(),
            facts: BTreeMap::from([("threads".to_owned(), json!(1))]),
        }),
        warmup: Some(Warmup { iterations: 12, seconds: 0.25, settled: true }),
        stop: Some(StopReason::Precise),
        evidence: vec![Evidence {
            source: "linux".to_owned(),
            facts: BTreeMap::from([("cpu_mhz_mean".to_owned(), json!(2999.5)), ("load".to_owned(), json!([1, 2.5]))]),
        }],
        unknown: vec![json!({"type": "novel", "x": [null, "µ"]})],
        log: "hello\nworld\n".to_owned(),
    }
}

/// A launch that failed with numbers that JSON cannot hold.
pub fn odd_launch(run: u64, k: u64) -> Launch {
    let mut launch = launch(run, k);
    launch.outcome = Outcome::because(OutcomeKind::Failed, "wrong numbers");
    launch.samples[0].values = vec![
        f64::NAN,
        f64::from_bits(0xfff8_0000_dead_beef),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        5e-324,
        0.1 + 0.2,
    ];
    launch.samples[1].values = Vec::new();
    launch.values[0].value = f64::INFINITY;
    launch.checks = vec![Check::new("output", "f64 product", f64::NAN, 1e-5)];
    launch.warmup = None;
    launch.stop = None;
    launch.device = None;
    launch
}

/// A launch as text in which every bit of every sample shows, so that NaN compares too.
pub fn bits(launch: &Launch) -> String {
    let hex = |values: &[f64]| values.iter().map(|v| format!("{:016x} ", v.to_bits())).collect::<Vec<_>>().concat();
    let samples: Vec<String> = launch.samples.iter().map(|s| hex(&s.values)).collect();
    let values: Vec<f64> = launch.values.iter().map(|v| v.value).collect();
    format!("{launch:?}\n{samples:?}\n{}", hex(&values))
}

/// All of a store's launches of a run, as [`bits`].
pub fn all_bits(launches: &[Launch]) -> Vec<String> {
    launches.iter().map(bits).collect()
}

/// Tells a story to every engine of the table, each with a path where nothing is yet.
pub fn for_each_engine(story: impl Fn(&Engine, &Path)) {
    assert!(!ENGINES.is_empty());
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        story(engine, &dir.path().join("deep/er/regrade.db"));
    }
}

/// Opens for writing.
pub fn open(engine: &Engine, path: &Path) -> Box<dyn Store> {
    (engine.open)(path).unwrap()
}

/// Stores run `n` whole, with `launches` launches.
pub fn put_complete(store: &mut dyn Store, run: &Run, n: u64, launches: u64) {
    store.begin_run(run).unwrap();
    for k in 0..launches {
        store.put_launch(run.id, &launch(n, k)).unwrap();
    }
    store.finish_run(run.id, RunStatus::Complete, at(9_000_000)).unwrap();
}

/// The runs' ids, in order.
pub fn ids(runs: &[Run]) -> Vec<RunId> {
    runs.iter().map(|run| run.id).collect()
}

/// An acceptance of `suite` given `n` seconds after [`at`]`(0)`, with every field set when `n` is odd.
pub fn acceptance(suite: &str, n: i64) -> Acceptance {
    let odd = n % 2 == 1;
    Acceptance {
        suite: suite.to_owned(),
        case: "gemm/m=512@cpu".into(),
        metric: "latency".to_owned(),
        change: 0.1 + 0.2,
        reason: "two\nlines".to_owned(),
        who: "Ada <ada@example.invalid>".to_owned(),
        since: at(n),
        until: odd.then(|| at(n + 1000)),
        commit: odd.then(|| "ab".repeat(20)),
    }
}
