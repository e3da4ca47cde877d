//! Laws and examples of judging against history, on sessions made up here.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::domain::{
    Call, Case, CaseId, CaseRecord, Direction, LaunchId, LaunchSummary, Metric, MetricSummary, Outcome, OutcomeKind,
    Reason, RunId, Sampling, Severity, Thresholds, Workload, WorkloadKind,
};
use crate::exit::Exit;
use crate::verdict::policy::{Demand, decide_suite};
use crate::verdict::{Head, Judgement, Session, judge, unpaired};

pub(super) fn case(id: &str) -> CaseRecord {
    let case = Case {
        id: id.into(),
        benchmark: id.to_owned(),
        workload: Workload {
            kind: WorkloadKind::Operator,
            name: "gemm".to_owned(),
            params: BTreeMap::new(),
            command: Vec::new(),
            kernel: None,
        },
        backend: "cpu".to_owned(),
        tags: Vec::new(),
        owner: None,
        thresholds: BTreeMap::from([("*".to_owned(), Thresholds::default())]),
        gate_metrics: vec![Metric::LATENCY.to_owned()],
        targets: Vec::new(),
        sampling: Sampling::default(),
        timeout_s: 1.0,
        memory_limit: None,
        aliases: Vec::new(),
        env: BTreeMap::new(),
        metrics: BTreeMap::new(),
        working_dir: None,
        needs: Vec::new(),
        skip: None,
        reference: id.starts_with("reference"),
    };
    CaseRecord { case, skipped: None }
}

pub(super) fn launch(case: &str, index: u32, metric: Metric, value: f64) -> LaunchSummary {
    let summary = MetricSummary { metric, n: 20, iterations: 1, median: value, q25: value, min: value, q75: value };
    LaunchSummary {
        id: LaunchId::fresh(),
        case: case.into(),
        index,
        outcome: Outcome::measured(),
        metrics: vec![summary],
    }
}

fn latency() -> Metric {
    Metric::standard(Metric::LATENCY).expect("in the table")
}

/// Three launches of each case with these latencies.
fn launches(values: &[(&str, [f64; 3])]) -> Vec<LaunchSummary> {
    let each = |(case, values): &(&str, [f64; 3])| {
        let case = (*case).to_owned();
        (0..).zip(*values).map(move |(index, value)| launch(&case, index, latency(), value)).collect::<Vec<_>>()
    };
    values.iter().flat_map(each).collect()
}

fn session(values: &[(&str, [f64; 3])]) -> Session {
    Session { run: RunId::fresh(), launches: launches(values) }
}

fn judged<'a>(cases: &'a [CaseRecord], head: &'a [LaunchSummary], history: &'a [Session]) -> Judgement<'a> {
    judge(Head { run: RunId::fresh(), cases, launches: head }, history, &BTreeSet::new(), Severity::Moderate)
}

/// Verdict of the only row.
fn single(head: [f64; 3], history: &[[f64; 3]]) -> (Call, Severity, Reason, bool) {
    let cases = [case("a")];
    let sessions: Vec<Session> = history.iter().map(|values| session(&[("a", *values)])).collect();
    let head = launches(&[("a", head)]);
    let judgement = judged(&cases, &head, &sessions);
    let [row] = judgement.rows.as_slice() else { panic!("one row expected") };
    (row.verdict.call, row.verdict.severity, row.verdict.reason, row.fails)
}

const QUIET: [f64; 3] = [1.0, 1.001, 1.002];

fn scaled(values: [f64; 3], factor: f64) -> [f64; 3] {
    values.map(|value| value * factor)
}

#[test]
fn without_history_a_case_is_new() {
    assert_eq!(single(QUIET, &[]), (Call::NotComparable, Severity::None, Reason::New, false));
}

#[test]
fn a_short_history_fails_only_what_is_severe() {
    let history = [QUIET; 3];
    assert_eq!(single(scaled(QUIET, 1.3), &history), (Call::Regressed, Severity::Severe, Reason::Established, true));
    let (call, severity, _, fails) = single(scaled(QUIET, 1.09), &history);
    assert_eq!(
        (call, severity, fails),
        (Call::Regressed, Severity::Moderate, false),
        "9 % is real, and history alone may not fail it"
    );
    assert_eq!(single(scaled(QUIET, 0.7), &history).0, Call::Improved);
}

#[test]
fn a_single_session_fails_nothing_at_ten_percent() {
    // Half-width 6.8 % on the log scale: the near bound of +10 % is +2.7 %, just over half of the moderate threshold.
    let (call, severity, _, fails) = single(scaled(QUIET, 1.1), &[QUIET]);
    assert_eq!((call, severity, fails), (Call::Regressed, Severity::Moderate, false));
    assert_eq!(single(scaled(QUIET, 1.06), &[QUIET]).0, Call::Inconclusive);
}

#[test]
fn an_equal_session_is_unchanged_once_the_margin_is_excluded() {
    assert_eq!(single(QUIET, &[QUIET; 4]).0, Call::Unchanged);
    assert_eq!(single(QUIET, &[QUIET]).0, Call::Inconclusive, "one session cannot exclude 5 %");
}

#[test]
fn launches_that_scatter_widen_the_bound() {
    let wild = [1.0, 1.2, 1.4];
    assert_eq!(single(scaled(wild, 1.3), &[wild; 3]).0, Call::Inconclusive);
}

#[test]
fn two_launches_are_too_few_on_either_side() {
    let cases = [case("a")];
    let two = |values: [f64; 3]| launches(&[("a", values)])[..2].to_vec();
    let history = [session(&[("a", QUIET)])];
    let head = two(scaled(QUIET, 2.0));
    assert_eq!(judged(&cases, &head, &history).rows[0].verdict.reason, Reason::TooFewLaunches);
    let thin = [Session { run: RunId::fresh(), launches: two(QUIET) }];
    let head = launches(&[("a", QUIET)]);
    assert_eq!(judged(&cases, &head, &thin).rows[0].verdict.reason, Reason::TooFewLaunches);
}

#[test]
fn a_failure_in_one_launch_fails_the_case() {
    let cases = [case("a")];
    let history = [session(&[("a", QUIET)])];
    let mut head = launches(&[("a", QUIET)]);
    head[1].outcome = Outcome::because(OutcomeKind::TimedOut, "killed");
    let judgement = judged(&cases, &head, &history);
    assert_eq!(judgement.rows[0].verdict.reason, Reason::HeadFailed);
    assert_eq!(
        decide_suite(&judgement.rows, &[], Severity::Moderate, Demand { require_decision: false }).exit,
        Exit::CaseFailed
    );
}

#[test]
fn missing_and_renamed_cases_are_told_apart() {
    let history = [session(&[("old", QUIET), ("gone", QUIET)])];
    let mut cases = [case("new")];
    cases[0].case.aliases = vec!["old".into()];
    let head = launches(&[("new", QUIET)]);
    let gone = BTreeSet::from([CaseId::from("gone")]);
    let judgement =
        judge(Head { run: RunId::fresh(), cases: &cases, launches: &head }, &history, &gone, Severity::Minor);
    let reasons: Vec<_> = judgement.rows.iter().map(|row| (row.case.as_str(), row.verdict.reason)).collect();
    assert!(reasons.contains(&("gone", Reason::Missing)));
    assert!(!reasons.contains(&("new", Reason::New)), "the alias keeps its history: {reasons:?}");
}

#[test]
fn higher_is_better_mirrors() {
    let metric = Metric { direction: Direction::HigherIsBetter, ..latency() };
    let with = |factor: f64| -> Vec<LaunchSummary> {
        (0..).zip(QUIET).map(|(index, value)| launch("a", index, metric.clone(), value * factor)).collect()
    };
    let cases = [case("a")];
    let history: Vec<Session> = (0..3).map(|_| Session { run: RunId::fresh(), launches: with(1.0) }).collect();
    let head = with(0.7);
    let judgement = judged(&cases, &head, &history);
    let verdict = &judgement.rows[0].verdict;
    assert_eq!((verdict.call, verdict.severity), (Call::Regressed, Severity::Severe));
    let estimate = verdict.estimate.expect("both sides have numbers");
    assert!((estimate.change + 0.3).abs() < 0.01, "shown in the metric's own direction: {estimate:?}");
}

#[test]
fn impossible_values_are_never_a_pass() {
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        assert_eq!(single([bad, bad, bad], &[QUIET; 3]).2, Reason::BadValue, "{bad}");
    }
}

#[test]
fn exact_metrics_need_no_test() {
    let metric = Metric { exact: true, ..latency() };
    let with = |value: f64| -> Vec<LaunchSummary> { (0..3).map(|i| launch("a", i, metric.clone(), value)).collect() };
    let cases = [case("a")];
    let history = [Session { run: RunId::fresh(), launches: with(100.0) }];
    for (value, call, severity) in [
        (100.0, Call::Unchanged, Severity::None),
        (101.0, Call::Unchanged, Severity::None),
        (106.0, Call::Regressed, Severity::Moderate),
    ] {
        let head = with(value);
        let judgement = judged(&cases, &head, &history);
        let verdict = &judgement.rows[0].verdict;
        assert_eq!((verdict.call, verdict.severity), (call, severity), "{value}");
        assert!(!verdict.provisional, "exact values need no confirmation");
    }
}

#[test]
fn an_exact_metric_whose_launches_differ_is_judged_as_noisy() {
    let metric = Metric { exact: true, ..latency() };
    let with = |values: [f64; 3]| -> Vec<LaunchSummary> {
        (0..).zip(values).map(|(i, value)| launch("a", i, metric.clone(), value)).collect()
    };
    let cases = [case("a")];
    let history: Vec<Session> = (0..6).map(|_| Session { run: RunId::fresh(), launches: with([100.0; 3]) }).collect();
    for (head, call) in [([150.0, 150.0, 151.0], Call::Regressed), ([100.0, 100.0, 101.0], Call::Unchanged)] {
        let head = with(head);
        let judgement = judged(&cases, &head, &history);
        let verdict = &judgement.rows[0].verdict;
        assert_eq!((verdict.call, verdict.provisional), (call, true), "{verdict:?}");
        assert!(verdict.note.contains("declared exact"), "{verdict:?}");
    }
}

#[test]
fn the_machine_s_own_movement_is_taken_out() {
    let cases = [case("a"), case("reference-compute")];
    let both = |factor: f64| [("a", scaled(QUIET, factor)), ("reference-compute", scaled(QUIET, factor))];
    let history: Vec<Session> = (0..4).map(|_| session(&both(1.0))).collect();
    let head = launches(&both(1.04));
    let judgement = judged(&cases, &head, &history);
    let change = judgement.rows[0].verdict.estimate.expect("numbers").change;
    assert!(change.abs() < 1e-3, "the whole movement was the machine's: {change}");
    assert_eq!(judgement.notes.len(), 1, "and it is said");
}

#[test]
fn a_machine_that_moved_far_fails_nothing() {
    let cases = [case("a"), case("reference-compute")];
    let history: Vec<Session> = (0..4).map(|_| session(&[("a", QUIET), ("reference-compute", QUIET)])).collect();
    let head = launches(&[("a", scaled(QUIET, 2.0)), ("reference-compute", scaled(QUIET, 1.3))]);
    let judgement = judged(&cases, &head, &history);
    assert_eq!(judgement.rows[0].verdict.reason, Reason::NoisySession);
    assert!(!judgement.rows[0].fails);
}

/// Standard normal by summing uniforms: good enough for bounds on rates.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0
}

/// Session and launch noise of 2 % and 1 %, as wide as the prior says.
fn noisy(rng: &mut ChaCha8Rng, factor: f64) -> [f64; 3] {
    let session = 0.02 * normal(rng);
    [(); 3].map(|()| factor * (session + 0.01 * normal(rng)).exp())
}

#[test]
fn false_alarms_stay_within_the_budget_and_severe_changes_are_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(20_261_123);
    let names: Vec<String> = (0..20).map(|i| format!("case{i}")).collect();
    let cases: Vec<CaseRecord> = names.iter().map(|name| case(name)).collect();
    let suites = 200;
    for sessions in [1, 4, 7, 12] {
        let (mut false_suites, mut found) = (0, 0);
        for _ in 0..suites {
            let draw = |rng: &mut ChaCha8Rng, factor: f64| -> Vec<LaunchSummary> {
                let values: Vec<(&str, [f64; 3])> = names
                    .iter()
                    .map(|name| (name.as_str(), noisy(rng, if name == "case0" { factor } else { 1.0 })))
                    .collect();
                launches(&values)
            };
            let history: Vec<Session> =
                (0..sessions).map(|_| Session { run: RunId::fresh(), launches: draw(&mut rng, 1.0) }).collect();
            let head = draw(&mut rng, 1.5);
            let judgement = judged(&cases, &head, &history);
            let called = |name: &str, row: &crate::verdict::Judged<'_>| row.fails && (row.case.as_str() == name);
            found += u32::from(judgement.rows.iter().any(|row| called("case0", row)));
            let wrong =
                |row: &crate::verdict::Judged<'_>| row.verdict.call == Call::Regressed && row.case.as_str() != "case0";
            false_suites += u32::from(judgement.rows.iter().any(wrong));
        }
        assert!(false_suites <= suites / 10, "K={sessions}: {false_suites} of {suites} suites with a false regression");
        assert!(found >= suites * 9 / 10, "K={sessions}: only {found} of {suites} severe changes found");
    }
}

#[test]
fn identical_inputs_give_identical_verdicts_whatever_the_order_of_cases() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let draw = |rng: &mut ChaCha8Rng| [("a", noisy(rng, 1.0)), ("b", noisy(rng, 1.1)), ("c", noisy(rng, 1.0))];
    let history: Vec<Session> = (0..6).map(|_| session(&draw(&mut rng))).collect();
    let head = launches(&draw(&mut rng));
    let forward = [case("a"), case("b"), case("c")];
    let backward = [case("c"), case("b"), case("a")];
    let verdicts = |cases: &[CaseRecord]| -> Vec<(String, crate::domain::Verdict)> {
        judged(cases, &head, &history).rows.iter().map(|row| (row.case.to_string(), row.verdict.clone())).collect()
    };
    assert_eq!(verdicts(&forward), verdicts(&backward));
    assert_eq!(verdicts(&forward), verdicts(&forward));
}

#[test]
fn scaling_both_sides_changes_no_verdict() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let base: Vec<[f64; 3]> = (0..4).map(|_| noisy(&mut rng, 1.0)).collect();
    let head = noisy(&mut rng, 1.2);
    let scale = 1e-6;
    let small: Vec<[f64; 3]> = base.iter().map(|values| scaled(*values, scale)).collect();
    assert_eq!(single(head, &base), single(scaled(head, scale), &small));
}

#[test]
fn an_open_gated_row_ends_with_three_only_on_demand() {
    let cases = [case("a")];
    let history = [session(&[("a", QUIET)])];
    let head = launches(&[("a", QUIET)]);
    let judgement = judged(&cases, &head, &history);
    assert_eq!(
        decide_suite(&judgement.rows, &[], Severity::Moderate, Demand { require_decision: false }).exit,
        Exit::Pass
    );
    assert_eq!(
        decide_suite(&judgement.rows, &[], Severity::Moderate, Demand { require_decision: true }).exit,
        Exit::Inconclusive
    );
}

#[test]
fn a_case_without_numbers_is_as_gated_as_any() {
    let mut cases = [case("a"), case("b")];
    cases[0].case.gate_metrics = vec!["cpu_time".to_owned()];
    let history = [session(&[("a", QUIET), ("b", QUIET)])];
    let judgement = judged(&cases, &[], &history);
    let mut rows = judgement.rows;
    rows.push(unpaired(&cases[0].case));
    for row in &rows {
        assert!(row.gating && row.verdict.call == Call::Inconclusive, "{row:?}");
    }
    assert_eq!(rows.iter().filter(|row| row.metric.name == "cpu_time").count(), 2, "what gates stands for the case");
    let end = |require_decision| decide_suite(&rows, &[], Severity::Moderate, Demand { require_decision }).exit;
    assert_eq!((end(false), end(true)), (Exit::Nothing, Exit::Inconclusive), "nothing was measured");
}
