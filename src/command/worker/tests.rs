//! What a worker says, message by message, with a backend whose every step can be made to go wrong.

use std::collections::BTreeMap;

use super::*;
use crate::backend::{BackendError, Ceiling};
use crate::domain::{Case, CaseId, Check, DeviceInfo, Sampling, StopReason, Workload, WorkloadKind};
use crate::measure::{Reading, Subject, SubjectError};

/// Where a launch breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Nowhere,
    Availability,
    Support,
    Load,
    Run,
    RunRoom,
    Ceilings,
    Room,
}

/// Each iteration takes 0.5 s by its own clock.
#[derive(Debug, Clone)]
struct Fake {
    breaks: Breaks,
    check: Result<f64, &'static str>,
    counts: WorkCounts,
    /// FLOP/s that no device exceeds.
    ceiling: Option<f64>,
    doubt: Option<&'static str>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            breaks: Breaks::Nowhere,
            check: Ok(0.0),
            counts: WorkCounts { flops: Some(8.0), bytes: Some(2.0), items: Some((32.0, "tokens")) },
            ceiling: None,
            doubt: None,
        }
    }
}

fn no(what: &str) -> Skip {
    Skip { reason: format!("no {what}"), remedy: "buy one".to_owned() }
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn describe(&self) -> &'static str {
        "obeys"
    }
    fn availability(&self) -> Availability {
        if self.breaks == Breaks::Availability {
            return Availability::Unavailable(no("device"));
        }
        Availability::Ready { devices: Vec::new(), facts: BTreeMap::new() }
    }
    fn supports(&self, _workload: &Workload) -> Result<(), Skip> {
        if self.breaks == Breaks::Support { Err(no("such precision")) } else { Ok(()) }
    }
    fn load(&self, _workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
        if self.breaks == Breaks::Load {
            return Err(BackendError::Unsupported("no such shape".to_owned()));
        }
        Ok(Box::new(self.clone()))
    }
}

impl Subject for Fake {
    fn run(&mut self, _iterations: u64) -> Result<(), SubjectError> {
        unreachable!("`time` is scripted")
    }
    fn time(&mut self, iterations: u64) -> Result<Reading, SubjectError> {
        if self.breaks == Breaks::Run {
            return Err(SubjectError { context: "iteration".to_owned(), source: "no luck".into() });
        }
        if self.breaks == Breaks::RunRoom {
            return Err(SubjectError::out_of_memory("iteration".to_owned(), "a gigabyte too much"));
        }
        let wall_s = 0.5 * iterations as f64;
        Ok(Reading { wall_s, cpu_s: Some(wall_s / 2.0), ..Reading::default() })
    }
    fn clock(&self) -> &'static str {
        "scripted"
    }
    fn clock_resolution_s(&self) -> f64 {
        1e-9
    }
}

impl Prepared for Fake {
    fn device(&self) -> DeviceInfo {
        DeviceInfo { backend: "fake".to_owned(), name: "obeys".to_owned(), facts: BTreeMap::new() }
    }
    fn counts(&self) -> WorkCounts {
        self.counts
    }
    fn ceilings(&mut self) -> Result<Vec<Ceiling>, BackendError> {
        if self.breaks == Breaks::Ceilings {
            return Err(BackendError::OutOfMemory("no room for a copy".to_owned()));
        }
        let ceiling = |rate| Ceiling { metric: Metric::FLOPS_UTILIZATION, of: Counted::Flops, rate, hard: true };
        Ok(self.ceiling.map(ceiling).into_iter().collect())
    }
    fn doubt(&self, _latency_s: f64) -> Option<String> {
        self.doubt.map(str::to_owned)
    }
    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        if self.breaks == Breaks::Room {
            return Err(BackendError::OutOfMemory("1 GiB".to_owned()));
        }
        let error = self.check.map_err(|what| BackendError::Unsupported(what.to_owned()))?;
        Ok(vec![Check::new("logits", "f64 forward pass", error, 1e-3), Check::new("loss", "f64 loss", 0.0, 1e-3)])
    }
}

fn request(inject: f64) -> Request {
    Request {
        protocol: protocol::VERSION,
        case: Case {
            id: CaseId::from("it@fake"),
            benchmark: "it".to_owned(),
            workload: Workload {
                kind: WorkloadKind::Model,
                name: "it".to_owned(),
                params: BTreeMap::new(),
                command: Vec::new(),
                kernel: None,
            },
            backend: "fake".to_owned(),
            tags: Vec::new(),
            owner: None,
            thresholds: BTreeMap::new(),
            gate_metrics: Vec::new(),
            targets: Vec::new(),
            env: BTreeMap::new(),
            metrics: BTreeMap::new(),
            working_dir: None,
            sampling: Sampling {
                min_time_s: 0.0,
                min_sample_time_s: 1.0,
                max_time_s: 3000.0,
                max_warmup_s: 300.0,
                ..Sampling::default()
            },
            timeout_s: 60.0,
            memory_limit: None,
            aliases: Vec::new(),
            needs: Vec::new(),
            skip: None,
            reference: false,
        },
        seed: 1,
        launch: 0,
        time_budget_s: 60.0,
        inject,
    }
}

/// What a fake makes the worker say, and the outcome.
fn said(fake: &Fake, inject: f64) -> (Vec<Message>, Outcome) {
    let mut messages = Vec::new();
    let outcome = perform(&request(inject), Some(fake), &mut |message| {
        messages.push(message);
        Ok(())
    });
    (messages, outcome.expect("telling cannot fail here"))
}

fn values(messages: &[Message]) -> BTreeMap<String, (String, f64)> {
    let values = messages.iter().filter_map(|message| match message {
        Message::Value(value) => Some((value.metric.name.clone(), (value.metric.unit.clone(), value.value))),
        _ => None,
    });
    values.collect()
}

fn samples(messages: &[Message]) -> Vec<&Samples> {
    let samples = messages.iter().filter_map(|message| match message {
        Message::Samples(samples) => Some(samples),
        _ => None,
    });
    samples.collect()
}

fn worker_evidence(messages: &[Message]) -> &Evidence {
    let evidence = messages.iter().find_map(|message| match message {
        Message::Evidence(evidence) => Some(evidence),
        _ => None,
    });
    evidence.expect("a worker always tells how it measured")
}

#[test]
fn a_good_launch_tells_everything_once() {
    let (messages, outcome) = said(&Fake::default(), 0.0);
    assert_eq!(outcome, Outcome::measured());
    assert!(matches!(messages[0], Message::Device(_)));

    let samples = samples(&messages);
    assert_eq!(samples.len(), 2);
    assert_eq!((samples[0].metric.name.as_str(), samples[0].clock.as_deref()), ("latency", Some("scripted")));
    assert_eq!((samples[0].iterations, &samples[0].values), (2, &vec![0.5; 10]));
    assert_eq!((samples[1].metric.name.as_str(), samples[1].clock.as_deref()), ("cpu_time", Some("process-cpu")));
    assert_eq!(samples[1].values, vec![0.25; 10]);

    let values = values(&messages);
    assert_eq!(values["throughput"], ("tokens/s".to_owned(), 64.0));
    assert_eq!(values["flop_rate"], ("FLOP/s".to_owned(), 16.0));
    assert_eq!(values["byte_rate"], ("B/s".to_owned(), 4.0));
    assert!(values["load_time"].1 >= 0.0);

    assert!(messages.iter().any(|message| matches!(message, Message::Warmup(warmup) if warmup.settled)));
    assert!(messages.iter().any(|message| matches!(message, Message::Stop { reason: StopReason::Precise })));
    let checks = messages.iter().filter(|message| matches!(message, Message::Check(check) if check.pass)).count();
    assert_eq!(checks, 2);
    let facts = &worker_evidence(&messages).facts;
    assert_eq!((&facts["iterations"], &facts["injected"]), (&2.into(), &0.0.into()));
    assert_eq!(facts["clock_resolution_s"], 1e-9);
}

#[test]
fn peak_memory_is_read_before_the_check() {
    let (messages, _) = said(&Fake::default(), 0.0);
    let check = messages.iter().position(|message| matches!(message, Message::Check(_))).expect("checked");
    let peak = messages
        .iter()
        .position(|message| matches!(message, Message::Value(value) if value.metric.name == Metric::PEAK_MEMORY));
    assert!(cfg!(not(target_os = "linux")) || peak.is_some_and(|peak| peak < check), "{peak:?} {check}");
}

#[test]
fn injected_work_is_in_the_samples_and_in_the_evidence() {
    let (messages, outcome) = said(&Fake::default(), 0.5);
    assert_eq!(outcome, Outcome::measured());
    assert_eq!(samples(&messages)[0].values, vec![0.75; 10]);
    let facts = &worker_evidence(&messages).facts;
    assert_eq!((&facts["iterations"], &facts["iterations_executed"]), (&2.into(), &3.into()));
    assert_eq!(facts["injected"], 0.5);
}

#[test]
fn undeclared_work_has_no_rates() {
    let fake = Fake { counts: WorkCounts::default(), ..Fake::default() };
    let values = values(&said(&fake, 0.0).0);
    assert!(!values.keys().any(|name| name.ends_with("_rate") || name == "throughput"), "{values:?}");
}

#[test]
fn a_share_of_a_ceiling_is_told_and_more_than_all_of_it_is_invalid() {
    let (messages, outcome) = said(&Fake { ceiling: Some(32.0), ..Fake::default() }, 0.0);
    assert_eq!((outcome, values(&messages)["flops_utilization"].1), (Outcome::measured(), 0.5));
    let (messages, outcome) = said(&Fake { ceiling: Some(8.0), ..Fake::default() }, 0.0);
    assert_eq!((outcome.kind, values(&messages)["flops_utilization"].1), (OutcomeKind::Invalid, 2.0));
    assert!(outcome.reason.is_some_and(|reason| reason.contains("200.0 %")));
}

#[test]
fn a_doubtful_time_is_invalid_and_wrong_numbers_outrank_it() {
    let doubtful = Fake { doubt: Some("too short"), ..Fake::default() };
    let (_, outcome) = said(&doubtful, 0.0);
    assert_eq!(outcome, Outcome::because(OutcomeKind::Invalid, "too short"));
    let (_, outcome) = said(&Fake { check: Ok(0.5), ..doubtful }, 0.0);
    assert!(outcome.kind == OutcomeKind::Failed && outcome.reason.is_some_and(|why| why.contains("wrong numbers")));
}

#[test]
fn memory_that_runs_out_after_measuring_is_said_as_such() {
    for (breaks, reason) in [
        (Breaks::Room, "no room for the reference that the numbers are compared with: out of device memory: 1 GiB"),
        (Breaks::Ceilings, "after measuring: out of device memory: no room for a copy"),
    ] {
        let (messages, outcome) = said(&Fake { breaks, ..Fake::default() }, 0.0);
        assert_eq!(outcome, Outcome::because(OutcomeKind::OutOfMemory, reason));
        assert_eq!(samples(&messages).len(), 2, "what was measured is told");
    }
}

#[test]
fn wrong_numbers_fail_and_say_which() {
    for (error, shown) in [(0.5, "5.000e-1"), (f64::NAN, "NaN")] {
        let fake = Fake { check: Ok(error), ..Fake::default() };
        let (messages, outcome) = said(&fake, 0.0);
        let reason = outcome.reason.expect("a failure has a reason");
        assert_eq!(outcome.kind, OutcomeKind::Failed);
        assert!(reason.starts_with("wrong numbers: logits is off by ") && reason.contains(shown), "{reason}");
        assert!(!reason.contains("loss"), "{reason}");
        let checks = messages.iter().filter(|message| matches!(message, Message::Check(_))).count();
        assert_eq!(checks, 2, "those that pass are told too");
    }
}

#[test]
fn every_other_ending_is_an_outcome_with_its_reason() {
    let endings = [
        (Breaks::Availability, OutcomeKind::Skipped, "no device; buy one"),
        (Breaks::Support, OutcomeKind::Skipped, "no such precision; buy one"),
        (Breaks::Load, OutcomeKind::Failed, "loading `it`: no such shape"),
        (Breaks::Run, OutcomeKind::Failed, "measuring `it`: iteration: no luck"),
        (Breaks::RunRoom, OutcomeKind::OutOfMemory, "measuring `it`: iteration: out of memory: a gigabyte too much"),
    ];
    for (breaks, kind, reason) in endings {
        let fake = Fake { breaks, ..Fake::default() };
        assert_eq!(said(&fake, 0.0).1, Outcome::because(kind, reason));
    }
    let fake = Fake { check: Err("no room"), ..Fake::default() };
    assert_eq!(said(&fake, 0.0).1, failed("checking the numbers: no room"));
    let unknown = perform(&request(0.0), None, &mut |_| Ok(())).expect("telling cannot fail here");
    assert_eq!(
        unknown,
        failed(
            "no backend `fake`; there are cpu, nvidia, xla:cpu, xla:cuda, xla:rocm, xla:oneapi, xla:tpu, xla:compile"
        )
    );
    let (messages, outcome) = said(&Fake::default(), -1.0);
    assert_eq!(outcome.kind, OutcomeKind::Failed);
    assert!(samples(&messages).is_empty());
}

#[test]
fn a_runner_that_went_away_ends_the_worker() {
    let mut send = |_| Err(ProtocolError::NoVariable("pipe"));
    assert!(perform(&request(0.0), Some(&Fake::default()), &mut send).is_err());
}

#[test]
fn peak_memory_is_in_bytes() {
    assert_eq!(parse_peak_memory("VmPeak:\t 9 kB\nVmHWM:\t    1536 kB\n"), Some(1_572_864.0));
    assert_eq!(parse_peak_memory("VmPeak:\t 9 kB\n"), None);
    assert_eq!(parse_peak_memory("VmHWM:\tlots\n"), None);
}
