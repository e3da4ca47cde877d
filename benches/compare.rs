//! A whole comparison of two stored runs of 1,000 cases with 10,000 samples each, through the binary: wall time and
//! peak memory of the process. The bars are 1 s and 300 MB.
//!
//! `cargo bench --bench compare`. No criterion: the process is what is measured.

#[path = "../tests/store_fixture/mod.rs"]
mod store_fixture;

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anstream::println;
use regrade::domain::{CaseRecord, RunStatus};
use regrade::runner::process::{self, Limits};
use regrade::store::Store;
use regrade::store::sqlite::SqliteStore;
use store_fixture::{case, launch, run, run_id};

const CASES: u64 = 1_000;
const LAUNCHES: u64 = 5;
const SAMPLES: u64 = 2_000;
const ROUNDS: usize = 7;

/// Stores a run whose latencies are `factor` times the usual ones in one case of a hundred.
fn store_run(store: &mut SqliteStore, n: u64, factor: f64) {
    let mut header = run(n);
    header.status = RunStatus::Complete;
    header.cases = (0..CASES).map(|c| CaseRecord { case: case(&format!("gemm/m={c}@cpu")), skipped: None }).collect();
    let launches: Vec<_> = (0..CASES * LAUNCHES)
        .map(|k| {
            let mut launch = launch(n, k);
            let c = k % CASES;
            launch.case = header.cases[c as usize].case.id.clone();
            launch.index = u32::try_from(k / CASES).expect("few launches");
            launch.samples.truncate(1);
            let scale = if c.is_multiple_of(100) { factor } else { 1.0 };
            launch.samples[0].values =
                (0..SAMPLES).map(|i| scale * (1e-3 + ((i * 7919 + k) % 997) as f64 * 1e-8)).collect();
            launch
        })
        .collect();
    store.merge(&header, &launches).expect("a fresh run merges");
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("large.sqlite");
    let mut store = SqliteStore::open(&db).expect("the folder is ours");
    store_run(&mut store, 1, 1.0);
    store_run(&mut store, 2, 1.5);
    drop(store);
    println!("two runs of {CASES} cases, {LAUNCHES} launches of {SAMPLES} samples each, 10 cases 1.5 times slower");
    for _ in 0..ROUNDS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrade"));
        command
            .args(["compare", "--quiet", "--head", &run_id(2).to_string(), "--base", &run_id(1).to_string()])
            .arg("--db")
            .arg(&db)
            .current_dir(dir.path());
        let limits = Limits { timeout: Duration::from_secs(60), memory: None, output: None };
        let finished = process::run(command, limits, &AtomicBool::new(false)).expect("starts");
        println!(
            "{:.3} s wall, {:.3} s user, {:.0} MB peak, {:?}",
            finished.wall.as_secs_f64(),
            finished.user_s,
            finished.peak_rss.unwrap_or(0) as f64 / 1e6,
            finished.ended
        );
    }
}
