//! Whether a launch ran at the clock that its session's GPUs are locked at.
//!
//! A driver that has accepted a lock may not keep it: the power limit, heat or the driver itself hold the clock elsewhere. What counts
//! is the clock that was measured: by the device's own counters in every sample where the workload tells it (`sm_clock`), else by the
//! driver's word, asked from here while the launch runs. Must not know how clocks are locked, nor by whom.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::json;

use crate::backend::nvidia::Nvidia;
use crate::backend::{self, Backend};
use crate::domain::{Case, Evidence, Launch, Metric, Outcome, OutcomeKind, WorkloadKind};
use crate::hardware::lock::{Asked, Locked, Readings, follows};
use crate::stats::quantile::median;

/// How often the driver is asked: often enough for a short launch, too seldom to be seen in its samples.
const LOOK: Duration = Duration::from_millis(100);

/// How much is known of where a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On NVIDIA GPUs, and its samples tell the clock.
    Told,
    /// There, and nothing but the driver tells.
    Seen,
    /// A command, which may be there.
    Perhaps,
    /// Elsewhere.
    Elsewhere,
}

impl Place {
    fn of(case: &Case) -> Self {
        let on_gpus = backend::find(&case.backend).is_some_and(Backend::on_nvidia_gpus);
        match case.workload.kind {
            WorkloadKind::Command => Self::Perhaps,
            // Our own kernels count cycles; what other engines run there does not.
            _ if on_gpus && case.backend == Nvidia.name() => Self::Told,
            _ if on_gpus => Self::Seen,
            _ => Self::Elsewhere,
        }
    }
}

/// Whether locking the clocks of NVIDIA GPUs can matter to a case.
#[must_use]
pub fn concern(case: &Case) -> bool {
    Place::of(case) != Place::Elsewhere
}

/// Runs a launch, looking at the clocks meanwhile where nothing else tells them.
pub fn watch<T>(case: &Case, locked: Option<&Locked>, run: impl FnOnce() -> T) -> (T, Readings) {
    let Some(locked) = locked.filter(|_| matches!(Place::of(case), Place::Seen | Place::Perhaps)) else {
        return (run(), Readings::default());
    };
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::channel::<()>();
        let watching = scope.spawn(move || {
            let mut readings = Readings::default();
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                locked.look(&mut readings);
            }
            // However short it was, the clock is still the one that it had.
            locked.look(&mut readings);
            readings
        });
        let ran = run();
        drop(done);
        (ran, watching.join().unwrap_or_default())
    })
}

/// Adds what is known of the clocks to a launch, and takes its samples for invalid where they were others than the lock's.
pub fn verify(launch: &mut Launch, case: &Case, asked: Asked, locked_mhz: u32, readings: &Readings) {
    let place = Place::of(case);
    if place == Place::Elsewhere {
        return;
    }
    let is_clock = |metric: &Metric| metric.name == Metric::SM_CLOCK && metric.unit == "Hz";
    let told = launch.samples.iter().find(|samples| is_clock(&samples.metric));
    let counted: Vec<f64> = told.into_iter().flat_map(|samples| &samples.values).map(|hz| hz / 1e6).collect();
    let (by, clocks) = match (counted.is_empty(), readings.mhz.is_empty()) {
        (false, _) => ("counters", &counted),
        (true, false) => ("driver", &readings.mhz),
        (true, true) => ("nothing", &counted),
    };
    let mut facts =
        vec![("asked", json!(asked.to_string())), ("locked_mhz", json!(locked_mhz)), ("seen_by", json!(by))];
    let mut doubt = None;
    if clocks.is_empty() {
        // A command may have nothing to do with the GPU.
        doubt =
            (place != Place::Perhaps).then(|| format!("nothing told whether it ran at the locked {locked_mhz} MHz"));
    } else {
        let (middle, of) = (median(clocks), |pick: fn(f64, f64) -> f64| clocks.iter().copied().reduce(pick));
        facts.extend([
            ("sm_mhz_median", json!(middle)),
            ("sm_mhz_min", json!(of(f64::min))),
            ("sm_mhz_max", json!(of(f64::max))),
            ("looks", json!(clocks.len())),
        ]);
        if !follows(middle, locked_mhz) {
            let why = held_down(launch, readings, middle < f64::from(locked_mhz));
            doubt = Some(format!(
                "the SM clock was {middle:.0} MHz and not the {locked_mhz} MHz that it is locked at{why}"
            ));
        }
    }
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    launch.evidence.push(Evidence { source: "lock".to_owned(), facts });
    if let (OutcomeKind::Measured, Some(doubt)) = (launch.outcome.kind, doubt) {
        launch.outcome = Outcome::because(OutcomeKind::Invalid, doubt);
    }
}

/// What the driver said of it, and what would help: `; software power cap: lock a lower clock`.
fn held_down(launch: &Launch, readings: &Readings, below: bool) -> String {
    let nvml = launch.evidence.iter().filter(|evidence| evidence.source == Evidence::GPU);
    let in_worker =
        nvml.filter_map(|evidence| evidence.facts.get("limited_by")?.as_object()).flat_map(|words| words.keys());
    let mut words: Vec<&str> = readings.limited_by.iter().copied().chain(in_worker.map(String::as_str)).collect();
    // A lock may show as a setting, and rest is no limit.
    words.retain(|word| !["idle", "clocks set"].contains(word));
    words.sort_unstable();
    words.dedup();
    match (words.is_empty(), below) {
        (false, true) => format!(", held down by: {}; lock a lower clock", words.join(", ")),
        (true, true) => "; lock a lower clock".to_owned(),
        (_, false) => "; the driver did not keep the lock".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Samples;
    use crate::suite::{BackendView, HardwareFacts, Selection, Suite};

    /// The first case of a suite with this benchmark.
    fn case(backend: &str, what: &str) -> Case {
        let text = format!(
            "schema_version = 1\nname = \"s\"\nbackends = [\"{backend}\"]\nreference_workloads = false\n[[benchmark]]\nname = \"b\"\n{what}\n"
        );
        let suite = Suite::parse("s", &text, &[backend]).expect("a suite");
        let supports = |_: &_| Ok(());
        let view = BackendView { name: backend, ready: Ok(HardwareFacts::default()), supports: &supports };
        suite.plan(&Selection::default(), &[view], 0, None).expect("a plan").cases.remove(0)
    }

    fn verified(case: &Case, counted: &[f64], readings: &Readings) -> Launch {
        let mut launch = crate::runner::launch::tests::measured(case);
        if !counted.is_empty() {
            let metric = Metric::standard(Metric::SM_CLOCK).expect("a standard metric");
            let values = counted.iter().map(|mhz| mhz * 1e6).collect();
            launch.samples.push(Samples { metric, iterations: 1, clock: None, values });
        }
        verify(&mut launch, case, Asked::Mhz(1410), 1410, readings);
        launch
    }

    fn seen(mhz: &[f64], limited_by: &[&'static str]) -> Readings {
        Readings { mhz: mhz.to_vec(), limited_by: limited_by.iter().copied().collect() }
    }

    const GEMM: &str = "operator = \"gemm\"\nm = 64\nn = 64\nk = 64";
    const COMMAND: &str = "command = [\"true\"]";

    #[test]
    fn the_counters_decide_where_there_are_any() {
        let case = case("nvidia", GEMM);
        let launch = verified(&case, &[1409.6, 1410.1, 1305.0], &seen(&[1980.0], &[]));
        assert_eq!(launch.outcome.kind, OutcomeKind::Measured);
        let facts = &launch.evidence.last().expect("evidence").facts;
        assert_eq!((&facts["seen_by"], &facts["sm_mhz_min"]), (&json!("counters"), &json!(1305.0)));
        assert_eq!((&facts["asked"], &facts["locked_mhz"]), (&json!("1410 MHz"), &json!(1410)));
        let launch =
            verified(&case, &[1409.6, 1305.0, 1305.0], &seen(&[1410.0], &["software power cap", "clocks set"]));
        assert_eq!(launch.outcome.kind, OutcomeKind::Invalid);
        let reason = launch.outcome.reason.expect("a reason");
        assert!(reason.ends_with("locked at, held down by: software power cap; lock a lower clock"), "{reason}");
    }

    #[test]
    fn the_driver_is_believed_where_nothing_else_tells() {
        let of = |mhz: &[f64]| verified(&case("cpu", COMMAND), &[], &seen(mhz, &[])).outcome;
        assert_eq!(of(&[1410.0, 1410.0, 1395.0]).kind, OutcomeKind::Measured);
        let outcome = of(&[1980.0, 1980.0, 1410.0]);
        assert_eq!(outcome.kind, OutcomeKind::Invalid);
        assert!(outcome.reason.expect("a reason").ends_with("the driver did not keep the lock"));
        // Only our own kernels have counters: the same operator through another engine is watched by the driver.
        assert_eq!(
            [case("nvidia", GEMM), case("xla:cuda", GEMM)].map(|case| Place::of(&case)),
            [Place::Told, Place::Seen]
        );
    }

    #[test]
    fn a_clock_that_nobody_saw_is_no_proof_and_a_command_needs_none() {
        assert_eq!(verified(&case("nvidia", GEMM), &[], &Readings::default()).outcome.kind, OutcomeKind::Invalid);
        let launch = verified(&case("cpu", COMMAND), &[], &Readings::default());
        assert_eq!(launch.outcome.kind, OutcomeKind::Measured);
        assert_eq!(launch.evidence.last().expect("evidence").facts["seen_by"], json!("nothing"));
        let on_cpu = case("cpu", "operator = \"gemm\"\nm = 8\nn = 8\nk = 8");
        assert!(!concern(&on_cpu));
        let launch = verified(&on_cpu, &[], &seen(&[1980.0], &[]));
        assert!(launch.outcome.kind == OutcomeKind::Measured && launch.evidence.is_empty());
    }

    #[test]
    fn a_launch_that_failed_stays_failed() {
        let case = case("nvidia", GEMM);
        let mut launch = crate::runner::launch::tests::measured(&case);
        launch.outcome = Outcome::because(OutcomeKind::Failed, "wrong numbers");
        verify(&mut launch, &case, Asked::Base, 1410, &Readings::default());
        assert_eq!(launch.outcome.reason.as_deref(), Some("wrong numbers"));
    }
}
