//! The whole loop, driven by a subject whose times are a script: nothing here depends on this machine's speed.

use super::*;

/// Seconds an iteration takes, by how many ran before its batch.
type Script = Box<dyn Fn(u64) -> f64>;

/// Never runs anything: `time` computes what it would have taken.
struct Scripted {
    script: Script,
    cpu_share: Option<f64>,
    /// The batch that fails, from 0.
    fails_at: Option<usize>,
    batches: Vec<u64>,
}

impl Scripted {
    fn new(script: impl Fn(u64) -> f64 + 'static) -> Self {
        Self { script: Box::new(script), cpu_share: Some(0.5), fails_at: None, batches: Vec::new() }
    }

    fn done(&self) -> u64 {
        self.batches.iter().sum()
    }
}

impl Subject for Scripted {
    fn run(&mut self, _iterations: u64) -> Result<(), SubjectError> {
        unreachable!("`time` is scripted")
    }

    fn time(&mut self, iterations: u64) -> Result<Reading, SubjectError> {
        if self.fails_at == Some(self.batches.len()) {
            return Err(SubjectError { context: "scripted".to_owned(), source: "no luck".into() });
        }
        let wall_s = (self.script)(self.done()) * iterations as f64;
        self.batches.push(iterations);
        Ok(Reading { wall_s, cpu_s: self.cpu_share.map(|share| share * wall_s), ..Reading::default() })
    }

    fn clock(&self) -> &'static str {
        "scripted"
    }

    fn clock_resolution_s(&self) -> f64 {
        1e-8
    }
}

/// Caps so long that the host's own time, which also counts against them, never matters.
fn sampling() -> Sampling {
    Sampling {
        max_samples: 200,
        min_time_s: 0.0,
        max_time_s: 3000.0,
        max_warmup_s: 2000.0,
        min_sample_time_s: 1.0,
        ..Sampling::default()
    }
}

fn measured(subject: &mut Scripted, inject: f64) -> Measurement {
    measure(subject, &sampling(), inject).expect("the script gives usable times")
}

#[test]
fn constant_work_settles_at_once_and_stops_at_the_fewest_samples() {
    let mut subject = Scripted::new(|_| 0.25);
    let got = measured(&mut subject, 0.0);
    assert!(got.warmup.settled);
    assert_eq!(got.stop, StopReason::Precise);
    assert_eq!(got.latency, vec![0.25; 10]);
    assert_eq!(got.cpu_time, Some(vec![0.125; 10]));
    assert_eq!((got.iterations, got.executed), (4, 4));
    assert_eq!(got.injected(), 0.0);
    assert_eq!(got.median_latency_s(), 0.25);
    assert_eq!(got.warmup.iterations + 40, subject.done());
    assert!((got.warmup.seconds - 0.25 * got.warmup.iterations as f64).abs() < 1e-6);
}

#[test]
fn a_slow_start_is_warmed_away() {
    let mut subject = Scripted::new(|done| 0.25 * (1.0 + (-(done as f64) / 500.0).exp()));
    let got = measured(&mut subject, 0.0);
    assert!(got.warmup.settled, "{:?}", got.warmup);
    assert!(got.median_latency_s() < 0.2505, "{}", got.median_latency_s());
}

#[test]
fn an_endless_trend_ends_at_the_cap_and_is_not_called_settled() {
    let mut subject = Scripted::new(|done| 1.0 + 0.01 * done as f64);
    let got = measured(&mut subject, 0.0);
    assert!(!got.warmup.settled);
    assert!(got.warmup.seconds >= 2000.0);
}

#[test]
fn alternating_times_settle_and_stop_at_the_most_samples() {
    let mut subject = Scripted::new(|_| 0.0);
    let calls = std::cell::Cell::new(0u32);
    subject.script = Box::new(move |_| {
        calls.set(calls.get() + 1);
        if calls.get().is_multiple_of(2) { 1.0 } else { 1.1 }
    });
    let got = measured(&mut subject, 0.0);
    assert!(got.warmup.settled);
    assert_eq!((got.stop, got.latency.len()), (StopReason::MaxSamples, 200));
}

#[test]
fn slow_work_runs_one_iteration_a_sample_and_still_yields_the_fewest_samples() {
    let mut subject = Scripted::new(|done| if done % 2 == 0 { 1000.0 } else { 1500.0 });
    let got = measured(&mut subject, 0.0);
    assert_eq!(got.iterations, 1);
    assert_eq!((got.stop, got.latency.len()), (StopReason::MaxTime, 10));
    assert!(!got.warmup.settled, "two batches show no trend and no settling");
    assert_eq!(got.warmup.iterations, 2);
}

#[test]
fn fast_work_fills_the_shortest_sample() {
    let got = measured(&mut Scripted::new(|_| 1e-9), 0.0);
    // A sum of the script's times may round either way of a second.
    assert!((1_000_000_000..=1_000_000_001).contains(&got.iterations), "{}", got.iterations);
}

#[test]
fn samples_are_long_beside_a_coarse_clock() {
    struct Coarse(Scripted);
    impl Subject for Coarse {
        fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
            self.0.run(iterations)
        }
        fn time(&mut self, iterations: u64) -> Result<Reading, SubjectError> {
            self.0.time(iterations)
        }
        fn clock_resolution_s(&self) -> f64 {
            0.016
        }
    }
    let got = measure(&mut Coarse(Scripted::new(|_| 0.5)), &sampling(), 0.0).expect("usable times");
    assert_eq!((got.iterations, got.clock_resolution_s), (32, 0.016));
}

#[test]
fn injected_work_is_run_and_not_divided_by() {
    let got = measured(&mut Scripted::new(|_| 2.0), 0.3);
    assert_eq!((got.iterations, got.executed), (7, 9));
    assert_eq!(got.injected(), 2.0 / 7.0);
    assert!((got.median_latency_s() - 2.0 * 9.0 / 7.0).abs() < 1e-12);
    let cpu = got.cpu_time.expect("the script tells CPU time");
    assert!((cpu[0] - 9.0 / 7.0).abs() < 1e-12);
}

#[test]
fn the_warm_up_of_an_injected_run_is_honest_work() {
    let mut subject = Scripted::new(|_| 2.0);
    let got = measured(&mut subject, 0.3);
    assert_eq!(got.warmup.iterations + 9 * got.latency.len() as u64, subject.done());
}

#[test]
fn impossible_injections_are_refused_before_anything_runs() {
    for inject in [-0.3, f64::NAN, 1e9] {
        let mut subject = Scripted::new(|_| 2.0);
        let error = measure(&mut subject, &sampling(), inject).expect_err("no such work");
        assert!(matches!(error, MeasureError::Injection(_)), "{error}");
        assert_eq!(subject.done(), 0);
    }
    let error = measure(&mut Scripted::new(|_| 2.0), &sampling(), 1e-6).expect_err("no whole iteration");
    assert!(matches!(error, MeasureError::Injection(_)), "{error}");
}

#[test]
fn a_failing_subject_ends_the_launch_wherever_it_fails() {
    // In calibration, in the warm-up, while sampling.
    for batch in [0, 5, 15] {
        let mut subject = Scripted::new(|_| 50.0);
        subject.fails_at = Some(batch);
        let error = measure(&mut subject, &sampling(), 0.0).expect_err("scripted failure");
        assert_eq!(error.to_string(), "scripted: no luck");
        assert_eq!(subject.batches.len(), batch);
    }
}

#[test]
fn impossible_times_are_errors_and_name_the_clock() {
    for seconds in [f64::NAN, f64::INFINITY, -1.0] {
        let error = measure(&mut Scripted::new(move |_| seconds), &sampling(), 0.0).expect_err("no such time");
        assert!(matches!(error, MeasureError::Clock { clock: "scripted", .. }), "{error}");
    }
    let mut subject = Scripted::new(|_| 1.0);
    subject.cpu_share = Some(f64::NAN);
    let error = measure(&mut subject, &sampling(), 0.0).expect_err("no such CPU time");
    assert!(matches!(error, MeasureError::Clock { clock: "process-cpu", .. }), "{error}");
}

#[test]
fn a_clock_that_stands_still_is_an_error_not_a_hang() {
    let mut subject = Scripted::new(|_| 0.0);
    let error = measure(&mut subject, &sampling(), 0.0).expect_err("no time passes");
    assert!(matches!(error, MeasureError::Clock { seconds: 0.0, .. }), "{error}");
    assert!(subject.batches.len() < 20);

    // And one that stops later, while sampling.
    let mut subject = Scripted::new(|done| if done < 15 { 50.0 } else { 0.0 });
    assert!(measure(&mut subject, &sampling(), 0.0).is_err());
}

#[test]
fn a_subject_without_cpu_time_has_no_such_metric() {
    let mut subject = Scripted::new(|_| 1.0);
    subject.cpu_share = None;
    assert_eq!(measured(&mut subject, 0.0).cpu_time, None);
}

#[test]
fn the_host_clocks_time_real_work() {
    struct Spin;
    impl Subject for Spin {
        fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
            for i in 0..iterations * 1000 {
                std::hint::black_box(i);
            }
            Ok(())
        }
    }
    let sampling = Sampling { max_warmup_s: 0.01, max_time_s: 0.01, min_sample_time_s: 1e-4, ..Sampling::default() };
    let got = measure(&mut Spin, &sampling, 0.0).expect("spinning cannot fail");
    assert!(got.latency.len() >= 10 && got.latency.iter().all(|&seconds| seconds > 0.0));
    assert!(got.cpu_time.is_some_and(|cpu| cpu.len() == got.latency.len()));
}
