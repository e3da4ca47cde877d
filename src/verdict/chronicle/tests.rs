//! Series built from sessions made up here: what is corrected, what is left out of the base, what is inherited.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Record, Series, Waiting, keep_accepted, settle, tell};
use crate::domain::{
    Acceptance, Call, CaseId, LaunchId, LaunchStatistic, LaunchSummary, Metric, MetricSummary, Outcome, PairedEvidence,
    Reason, RunId, Severity,
};
use crate::verdict::shifts::State;
use crate::verdict::tests::case;
use crate::verdict::{Head, Session, judge};

fn launches(id: &str, latency: f64) -> impl Iterator<Item = LaunchSummary> + '_ {
    (0..3_u32).map(move |index| {
        let value = latency * (1.0 + f64::from(index) * 1e-4);
        let metric = Metric::standard(Metric::LATENCY).expect("in the table");
        let summary = MetricSummary { metric, n: 20, iterations: 1, median: value, q25: value, min: value, q75: value };
        LaunchSummary {
            id: LaunchId::fresh(),
            case: CaseId::from(id),
            index,
            outcome: Outcome::measured(),
            metrics: vec![summary],
        }
    })
}

/// Sessions an hour apart with these latencies of `a` and of the reference workload, the oldest first; handed out the
/// newest first, as everywhere.
fn sessions(latencies: &[(f64, f64)]) -> (Vec<Session>, Vec<Timestamp>) {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().expect("a moment");
    let session = |(a, reference): &(f64, f64)| Session {
        run: RunId::fresh(),
        launches: launches("a", *a).chain(launches("reference", *reference)).collect(),
    };
    let sessions = latencies.iter().rev().map(session).collect();
    let hours = (0_i64..).zip(latencies).map(|(hour, _)| start + SignedDuration::from_hours(hour));
    let started = hours.collect::<Vec<_>>().into_iter().rev().collect();
    (sessions, started)
}

/// `n` sessions with a wiggle of 0.2 %, slower by `factor` from session `from` on.
fn step(n: usize, from: usize, factor: f64) -> Vec<(f64, f64)> {
    (0..n).map(|at| ((1.0 + 0.002 * (at % 3) as f64) * if at >= from { factor } else { 1.0 }, 1.0)).collect()
}

fn told(latencies: &[(f64, f64)], acceptances: &[Acceptance]) -> (Vec<Session>, Series) {
    let (sessions, started) = sessions(latencies);
    let cases = [case("a"), case("reference")];
    let now = started[0];
    let mut series = tell(Record { cases: &cases, sessions: &sessions, started: &started, acceptances, now });
    assert_eq!(series.len(), 1, "reference workloads have no series");
    (sessions, series.remove(0))
}

fn accepted(change: f64, hour: i64, until: Option<i64>) -> Acceptance {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().expect("a moment");
    let at = |hour: i64| start + SignedDuration::from_hours(hour);
    Acceptance {
        suite: "s".to_owned(),
        case: "a".into(),
        metric: Metric::LATENCY.to_owned(),
        change,
        reason: "known".to_owned(),
        who: "Ada".to_owned(),
        since: at(hour),
        until: until.map(at),
        commit: None,
    }
}

#[test]
fn a_shift_waits_between_the_last_session_without_and_the_first_with_it() {
    let (_, series) = told(&step(20, 14, 1.1), &[]);
    let waiting = series.waiting().expect("pending");
    // Places count from the newest.
    assert_eq!((waiting.before, waiting.first), (6, 5));
    assert!((waiting.change.change - 0.1).abs() < 0.004, "{waiting:?}");
    assert_eq!(series.levels.iter().map(|level| level.sessions).collect::<Vec<_>>(), [14, 6]);
    assert_eq!(told(&step(20, 20, 1.0), &[]).1.waiting(), None);
}

#[test]
fn an_improvement_waits_for_nobody() {
    let (_, series) = told(&step(20, 14, 0.9), &[]);
    assert_eq!(series.waiting(), None);
    assert_eq!(series.trace.shifts[0].state, State::Accepted(None));
    assert_eq!(series.off_level().len(), 14, "the level of now is the base");
}

#[test]
fn what_the_machine_did_is_no_shift() {
    let slow: Vec<(f64, f64)> =
        step(20, 14, 1.1).iter().enumerate().map(|(at, (a, _))| (*a, if at >= 14 { 1.1 } else { 1.0 })).collect();
    assert_eq!(told(&slow, &[]).1.trace.shifts, []);
}

#[test]
fn an_acceptance_counts_until_its_end() {
    let values = step(20, 14, 1.1);
    assert_eq!(told(&values, &[accepted(0.1, 17, None)]).1.waiting(), None);
    assert_eq!(told(&values, &[accepted(0.1, 17, Some(100))]).1.waiting(), None);
    assert!(
        told(&values, &[accepted(0.1, 17, Some(18))]).1.waiting().is_some(),
        "it has ended before the last session"
    );
    assert!(told(&values, &[accepted(0.05, 17, None)]).1.waiting().is_some(), "it covers less than there is");
}

/// A judgement of a head with this latency against the sessions, as `compare` makes it.
fn settled(latencies: &[(f64, f64)], head: f64, on_base: bool) -> (Call, Reason, bool, Vec<String>) {
    settled_by(latencies, head, on_base, None)
}

/// The same; with `pairs`, those have decided it.
fn settled_by(
    latencies: &[(f64, f64)],
    head: f64,
    on_base: bool,
    pairs: Option<PairedEvidence>,
) -> (Call, Reason, bool, Vec<String>) {
    let (mut sessions, series) = told(latencies, &[]);
    let series = [series];
    keep_accepted(&series, &mut sessions);
    let cases = [case("a"), case("reference")];
    let measured: Vec<LaunchSummary> = launches("a", head).chain(launches("reference", 1.0)).collect();
    let of = Head { run: RunId::fresh(), cases: &cases, launches: &measured };
    let mut judged = judge(of, &sessions, &BTreeSet::new(), Severity::Moderate);
    judged.rows[0].paired = pairs;
    let came = |waiting: &Waiting| format!("with session {}", waiting.first);
    let notes = settle(&mut judged.rows, &series, on_base, Severity::Moderate, &came);
    let row = &judged.rows[0];
    (row.verdict.call, row.verdict.reason, row.fails, notes)
}

#[test]
fn a_change_answers_for_what_it_adds_and_the_base_branch_for_itself() {
    // Most sessions are slow: without the accepted level slow would be normal.
    let values = step(28, 12, 1.3);
    let (call, reason, fails, _) = settled(&values, 1.3, false);
    assert_eq!((call, reason, fails), (Call::Regressed, Reason::Inherited, false));
    let (call, reason, fails, _) = settled(&values, 1.6, false);
    assert_eq!((call, reason, fails), (Call::Regressed, Reason::Established, true));
    let (call, _, fails, notes) = settled(&values, 1.0, false);
    assert!(call == Call::Unchanged && !fails && notes[0].contains("recovers the +30"), "{notes:?}");
    let (call, _, fails, notes) = settled(&values, 1.3, true);
    assert!(call == Call::Regressed && fails && notes[0].contains("nobody has accepted it"), "{notes:?}");
}

#[test]
fn the_base_branch_stays_red_until_a_moderate_shift_is_accepted() {
    let (call, _, fails, notes) = settled(&step(28, 14, 1.08), 1.08, true);
    assert!(call == Call::Regressed && fails, "{notes:?}");
    // Of a change it is inherited; and one session alone fails nothing.
    assert!(!settled(&step(28, 14, 1.08), 1.08, false).2);
    assert!(!settled(&step(28, 28, 1.0), 1.08, true).2);
    // Less than the gate is pending, whatever the newest session shows.
    assert!(!settled(&step(28, 14, 1.03), 1.08, true).2);
}

#[test]
fn pairs_say_nothing_of_the_levels_of_the_base_branch() {
    let pairs = PairedEvidence { pairs: 8, log_evidence: 0.0, statistic: LaunchStatistic::default() };
    let (call, _, _, notes) = settled_by(&step(28, 12, 1.3), 1.0, false, Some(pairs));
    assert_eq!((call, notes), (Call::Unchanged, Vec::new()), "unchanged against where it left, not recovered");
}

#[test]
fn a_quiet_history_is_left_as_it_is() {
    let (sessions, series) = told(&step(20, 20, 1.0), &[]);
    let mut kept = sessions.clone();
    keep_accepted(&[series], &mut kept);
    assert_eq!(kept, sessions);
}
