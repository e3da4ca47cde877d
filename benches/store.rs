//! How long the store takes: reading what a comparison reads, finding the newest runs, keeping a launch.

#[path = "../tests/store_fixture/mod.rs"]
mod store_fixture;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use regrade::domain::{CaseRecord, LaunchId, Run, RunStatus};
use regrade::store::sqlite::SqliteStore;
use regrade::store::{RunQuery, Store};
use store_fixture::{at, case, launch, run, run_id};

const CASES: u64 = 1_000;
const LAUNCHES: u64 = 5;
const SAMPLES: u64 = 1_000;
const RUNS: u64 = 10_000;

/// A run of 1,000 cases, 5 launches each, 1,000 samples of one metric a launch: half of 10 million.
fn store_large_run(store: &mut SqliteStore, n: u64) {
    let mut header = run(n);
    header.status = RunStatus::Complete;
    header.cases = (0..CASES).map(|c| CaseRecord { case: case(&format!("gemm/m={c}@cpu")), skipped: None }).collect();
    let launches: Vec<_> = (0..CASES * LAUNCHES)
        .map(|k| {
            let mut launch = launch(n, k);
            launch.case = header.cases[(k % CASES) as usize].case.id.clone();
            launch.samples.truncate(1);
            launch.samples[0].values = (0..SAMPLES).map(|i| 1e-3 + ((i * 7919 + k) % 997) as f64 * 1e-7).collect();
            launch
        })
        .collect();
    store.merge(&header, &launches).expect("a fresh run merges");
}

fn summaries_of_two_large_runs(c: &mut Criterion, dir: &Path) {
    let mut store = SqliteStore::open(&dir.join("large.sqlite")).expect("the folder is ours");
    store_large_run(&mut store, 1);
    store_large_run(&mut store, 2);
    c.bench_function("summaries of two runs, 10 million samples", |b| {
        b.iter(|| {
            for n in [1, 2] {
                let summaries = store.summaries(run_id(n)).expect("the run is stored");
                assert_eq!(summaries.len() as u64, CASES * LAUNCHES);
                black_box(summaries);
            }
        });
    });
}

fn newest_of_many_runs(c: &mut Criterion, dir: &Path) {
    let path = dir.join("many.sqlite");
    let mut store = SqliteStore::open(&path).expect("the folder is ours");
    for n in 0..RUNS {
        let header = Run { status: RunStatus::Complete, finished: Some(at(0)), ..run(n) };
        store.merge(&header, &[]).expect("a fresh run merges");
    }
    drop(store);
    let query = RunQuery { branch: Some("main".to_owned()), fit_as_base: true, limit: Some(20), ..RunQuery::default() };
    c.bench_function("open 10,000 runs and list the newest 20", |b| {
        b.iter(|| {
            let store = SqliteStore::open(&path).expect("the database is ours");
            let runs = store.runs(&query).expect("the query is plain");
            assert_eq!(runs.len(), 20);
            black_box(runs);
        });
    });
}

fn one_launch(c: &mut Criterion, dir: &Path) {
    let mut store = SqliteStore::open(&dir.join("one.sqlite")).expect("the folder is ours");
    store.begin_run(&run(1)).expect("the run is new");
    c.bench_function("put a launch", |b| {
        b.iter_batched(
            || {
                let mut launch = launch(1, 0);
                launch.id = LaunchId::fresh();
                launch
            },
            |launch| store.put_launch(run_id(1), &launch).expect("the launch is new"),
            BatchSize::SmallInput,
        );
    });
}

fn all(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a temporary folder");
    summaries_of_two_large_runs(c, dir.path());
    newest_of_many_runs(c, dir.path());
    one_launch(c, dir.path());
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = all
}
criterion_main!(benches);
