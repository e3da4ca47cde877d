//! Targets on launches made up here: which side the interval must be on, and that want of data is neither side.

use super::*;
use crate::domain::{Over, RunId, Severity};
use crate::exit::Exit;
use crate::verdict::policy::{Demand, decide_run, decide_suite};
use crate::verdict::tests::{case, launch};

fn utilisation() -> Metric {
    Metric {
        name: "hbm_utilization".to_owned(),
        unit: "1".to_owned(),
        direction: Direction::HigherIsBetter,
        kind: MetricKind::Ratio,
        exact: false,
        derived: true,
    }
}

fn target(comparison: Comparison, value: f64) -> Target {
    Target {
        that: "hbm_utilization as a test wants it".to_owned(),
        metric: "hbm_utilization".to_owned(),
        comparison,
        value,
        of: None,
        over: None,
        required: true,
        source: None,
    }
}

fn wanting(id: &str, targets: Vec<Target>) -> CaseRecord {
    let mut record = case(id);
    record.case.targets = targets;
    record
}

fn measured(case: &str, metric: &Metric, values: &[f64]) -> Vec<LaunchSummary> {
    (0..).zip(values).map(|(index, value)| launch(case, index, metric.clone(), *value)).collect()
}

fn judged<'a>(cases: &'a [CaseRecord], launches: &'a [LaunchSummary]) -> Vec<Aimed<'a>> {
    judge(Head { run: RunId::fresh(), cases, launches })
}

/// The verdict on one target of one case with these launches.
fn single(target: Target, values: &[f64]) -> (TargetVerdict, bool) {
    let cases = [wanting("a", vec![target])];
    let launches = measured("a", &utilisation(), values);
    let [aimed] = <[Aimed<'_>; 1]>::try_from(judged(&cases, &launches)).expect("one target");
    (aimed.verdict, aimed.fails)
}

const NEAR: [f64; 5] = [0.850, 0.852, 0.848, 0.851, 0.849];

#[test]
fn the_whole_interval_must_be_on_one_side() {
    use Comparison::{Above, AtLeast, AtMost, Below};
    for (comparison, value, call, fails) in [
        (AtLeast, 0.80, TargetCall::Met, false),
        (AtLeast, 0.85, TargetCall::Inconclusive, false),
        (AtLeast, 0.90, TargetCall::Missed, true),
        (AtMost, 0.90, TargetCall::Met, false),
        (AtMost, 0.85, TargetCall::Inconclusive, false),
        (AtMost, 0.80, TargetCall::Missed, true),
        (Above, 0.80, TargetCall::Met, false),
        (Below, 0.80, TargetCall::Missed, true),
    ] {
        let (verdict, failed) = single(target(comparison, value), &NEAR);
        assert_eq!((verdict.call, failed), (call, fails), "{comparison:?} {value}: {verdict:?}");
        let reading = verdict.reading.expect("numbers");
        assert_eq!(reading.value, 0.85);
        assert!(reading.lower < 0.849 && reading.upper > 0.851 && reading.lower > 0.845, "{reading:?}");
    }
}

#[test]
fn what_is_undecided_says_what_would_decide_it() {
    // The median of these is 0.859, half a per cent from the goal, with an interval of one.
    let (verdict, _) = single(target(Comparison::AtLeast, 0.855), &[0.859, 0.851, 0.866, 0.855, 0.862]);
    assert_eq!((verdict.call, verdict.reason), (TargetCall::Inconclusive, Reason::WideInterval));
    assert!(verdict.note.contains("launches would decide"), "{}", verdict.note);
    let (verdict, _) = single(target(Comparison::AtLeast, 0.85), &NEAR);
    assert!(verdict.note.contains("too near"), "{}", verdict.note);
}

#[test]
fn want_of_data_is_neither_met_nor_missed() {
    for value in [0.1, 0.99] {
        let (verdict, fails) = single(target(Comparison::AtLeast, value), &NEAR[..2]);
        assert_eq!((verdict.call, verdict.reason), (TargetCall::Inconclusive, Reason::TooFewLaunches));
        assert!(!fails && verdict.reading.is_none() && verdict.note.contains("--launches 3"), "{verdict:?}");
        let (verdict, _) = single(target(Comparison::AtLeast, value), &[0.9, f64::NAN, 0.9]);
        assert_eq!((verdict.call, verdict.reason), (TargetCall::Inconclusive, Reason::BadValue));
    }
    let cases = [wanting("a", vec![Target { metric: "latency".to_owned(), ..target(Comparison::AtMost, 1.0) }])];
    let launches = measured("a", &utilisation(), &NEAR);
    let found = judged(&cases, &launches);
    assert_eq!(found[0].verdict.reason, Reason::NotMeasured, "{:?}", found[0].verdict);
    assert!(found[0].head.is_none() && found[0].metric.unit == "s");
}

#[test]
fn cases_that_did_not_end_well_say_how() {
    let ended = |kind, skipped: bool| {
        let mut record = wanting("a", vec![target(Comparison::AtLeast, 0.5)]);
        let mut launches = measured("a", &utilisation(), &NEAR);
        let outcome = Outcome::because(kind, "because of a test");
        if skipped {
            launches.clear();
            record.skipped = Some(outcome);
        } else {
            launches[3].outcome = outcome;
        }
        let cases = [record];
        let verdict = judged(&cases, &launches)[0].verdict.clone();
        assert_eq!(verdict.call, TargetCall::Inconclusive);
        (verdict.reason, verdict.note)
    };
    assert_eq!(ended(OutcomeKind::Failed, false), (Reason::HeadFailed, "failed: because of a test".to_owned()));
    assert_eq!(ended(OutcomeKind::Invalid, false).0, Reason::BadValue);
    assert_eq!(ended(OutcomeKind::Skipped, true), (Reason::HeadSkipped, "skipped here: because of a test".to_owned()));
    let cases = [wanting("a", vec![target(Comparison::AtLeast, 0.5)])];
    assert_eq!(judged(&cases, &[])[0].verdict.reason, Reason::TooFewLaunches, "not reached");
}

#[test]
fn another_unit_is_another_metric() {
    let cases = [wanting("a", vec![Target { metric: "latency".to_owned(), ..target(Comparison::AtMost, 0.002) }])];
    let mut metric = Metric::standard("latency").expect("in the table");
    metric.unit = "ms".to_owned();
    let launches = measured("a", &metric, &[0.001; 3]);
    let verdict = &judged(&cases, &launches)[0].verdict;
    assert_eq!(verdict.reason, Reason::NotMeasured);
    assert!(verdict.note.contains("in ms, and the target is in s"), "{}", verdict.note);
}

#[test]
fn a_throughput_counts_whatever_the_workload_makes() {
    let metric = |unit: &str| Metric { unit: unit.to_owned(), ..Metric::standard("throughput").expect("in the table") };
    let cases = [wanting("a", vec![Target { metric: "throughput".to_owned(), ..target(Comparison::AtLeast, 950.0) }])];
    let verdict = |unit: &str| judged(&cases, &measured("a", &metric(unit), &[1000.0; 3])).remove(0).verdict;
    assert_eq!((verdict("tokens/s").call, verdict("items/s").call), (TargetCall::Met, TargetCall::Met));
    assert_eq!(verdict("tokens/h").reason, Reason::NotMeasured, "by the second");
}

#[test]
fn values_that_never_differ_are_known() {
    // On the goal exactly: the bound holds, its strict form does not.
    for (comparison, call) in [
        (Comparison::AtLeast, TargetCall::Met),
        (Comparison::AtMost, TargetCall::Met),
        (Comparison::Above, TargetCall::Missed),
        (Comparison::Below, TargetCall::Missed),
    ] {
        let (verdict, _) = single(target(comparison, 0.85), &[0.85; 3]);
        assert_eq!(verdict.call, call, "{comparison:?}");
        assert_eq!(verdict.reading.map(|reading| (reading.lower, reading.upper)), Some((0.85, 0.85)));
    }
    // What is declared exact is known from one launch, unless launches differ.
    let exact = Metric { exact: true, ..utilisation() };
    let cases = [wanting("a", vec![target(Comparison::AtMost, 0.85)])];
    let call = |values: &[f64]| judged(&cases, &measured("a", &exact, values))[0].verdict.call;
    assert_eq!(call(&[0.85]), TargetCall::Met);
    assert_eq!(call(&[0.85, 0.84]), TargetCall::Inconclusive);
    // Nothing is less than zero, and zero has no logarithm.
    assert_eq!(single(target(Comparison::AtMost, 0.0), &[0.0; 4]).0.call, TargetCall::Met);
    assert_eq!(single(target(Comparison::AtMost, 1.0), &[0.0, 0.1, 0.0, 0.1]).0.call, TargetCall::Met);
}

fn beside(value: f64) -> Target {
    Target { of: Some("b".into()), ..target(Comparison::AtLeast, value) }
}

#[test]
fn a_relative_target_is_a_ratio_of_two_cases() {
    let (fast, slow) = ([1.60, 1.61, 1.59], [1.0, 1.01, 0.99]);
    let of = |goal: f64, other: &[f64]| {
        let cases = [wanting("a", vec![beside(goal)]), case("b")];
        let mut launches = measured("a", &utilisation(), &fast);
        launches.extend(measured("b", &utilisation(), other));
        let aimed = judged(&cases, &launches).remove(0);
        (aimed.verdict.clone(), aimed.other.map(|other| other.value))
    };
    assert_eq!(of(1.2, &slow).0.call, TargetCall::Met);
    assert_eq!(of(1.6, &slow).0.call, TargetCall::Inconclusive);
    let (verdict, other) = of(2.0, &slow);
    assert_eq!((verdict.call, other), (TargetCall::Missed, Some(1.0)));
    let reading = verdict.reading.expect("numbers");
    assert!((reading.value - 1.6).abs() < 1e-12 && reading.lower < 1.58 && reading.upper > 1.62, "{reading:?}");
    // Both sides bring their noise.
    let alone = single(target(Comparison::AtLeast, 1.0), &fast).0.reading.expect("numbers");
    assert!(reading.upper / reading.lower > alone.upper / alone.lower);
    // The other case may want of data as well, and may be zero.
    assert_eq!(of(1.2, &slow[..2]).0.reason, Reason::TooFewLaunches);
    assert_eq!(of(1.2, &[0.0; 3]).0.reason, Reason::BadValue);
    let note = of(1.2, &[]).0.note;
    assert!(note.starts_with("`b`: not reached"), "{note}");
    let cases = [wanting("a", vec![beside(1.2)])];
    let launches = measured("a", &utilisation(), &fast);
    let verdict = &judged(&cases, &launches)[0].verdict;
    assert_eq!((verdict.reason, verdict.note.as_str()), (Reason::NotMeasured, "`b`: not part of this run"));
}

#[test]
fn a_miss_has_to_stand_among_all_that_are_required() {
    // Of one target a miss, of a hundred chance would make as much.
    let values = [0.850, 0.854, 0.846, 0.852, 0.848];
    let goal = target(Comparison::AtLeast, 0.8575);
    assert_eq!(single(goal.clone(), &values).0.call, TargetCall::Missed);
    let cases = [wanting("a", vec![goal; 100])];
    let launches = measured("a", &utilisation(), &values);
    let verdict = &judged(&cases, &launches)[0].verdict;
    assert_eq!((verdict.call, verdict.reason), (TargetCall::Inconclusive, Reason::WideInterval));
    assert!(verdict.note.contains("one of 100 targets"), "{}", verdict.note);
}

#[test]
fn only_required_ones_fail_and_they_come_first() {
    let advisory = Target { required: false, ..target(Comparison::AtLeast, 0.95) };
    let met = target(Comparison::AtLeast, 0.5);
    let cases = [wanting("a", vec![met.clone(), advisory.clone(), target(Comparison::AtLeast, 0.9)])];
    let launches = measured("a", &utilisation(), &NEAR);
    let found = judged(&cases, &launches);
    let order: Vec<(TargetCall, bool)> = found.iter().map(|aimed| (aimed.verdict.call, aimed.fails)).collect();
    assert_eq!(order, [(TargetCall::Missed, true), (TargetCall::Missed, false), (TargetCall::Met, false)]);

    let lax = Demand { require_decision: false };
    let strict = Demand { require_decision: true };
    let decision = decide_suite(&[], &found, Severity::Moderate, lax);
    assert_eq!(decision.exit, Exit::Regression);
    assert!(decision.headline.starts_with("1 target missed;"), "{}", decision.headline);
    assert_eq!(decision.counts["target missed"], 2);
    assert_eq!(decide_run(1, 3, &found, lax), Exit::Regression, "a miss is said before a failed case");

    let cases = [wanting("a", vec![met, advisory])];
    let found = judged(&cases, &launches);
    assert_eq!(decide_run(0, 1, &found, strict), Exit::Pass);
    assert_eq!(decide_run(1, 1, &found, strict), Exit::CaseFailed);

    let open = [wanting("a", vec![target(Comparison::AtLeast, 0.85)])];
    let found = judged(&open, &launches);
    assert_eq!((decide_run(0, 1, &found, lax), decide_run(0, 1, &found, strict)), (Exit::Pass, Exit::Inconclusive));
    assert_eq!(decide_run(0, 0, &found, strict), Exit::Nothing);
    let open = [wanting("a", vec![Target { required: false, ..target(Comparison::AtLeast, 0.85) }])];
    assert_eq!(decide_run(0, 1, &judged(&open, &launches), strict), Exit::Pass, "only shown");
}

/// The verdict on the success rate of `total` cases of which these are in the run: how each ended, or that it did not run.
fn rate(comparison: Comparison, value: f64, total: u32, ended: &[Option<OutcomeKind>]) -> (TargetVerdict, bool) {
    let over = Some(Over { name: "compile".to_owned(), cases: total });
    let metric = Target::SUCCESS_RATE.to_owned();
    let target = Target { that: "success_rate".to_owned(), metric, over, ..target(comparison, value) };
    let mut cases = Vec::new();
    let mut launches = Vec::new();
    for (place, ended) in ended.iter().enumerate() {
        let id = format!("compile/{place}");
        let mut record = wanting(&id, vec![target.clone()]);
        match ended {
            Some(OutcomeKind::Skipped) => {
                record.skipped = Some(Outcome::because(OutcomeKind::Skipped, "no such device"));
            }
            Some(kind) => {
                let mut made = measured(&id, &utilisation(), &NEAR);
                made[2].outcome.kind = *kind;
                launches.extend(made);
            }
            None => {}
        }
        cases.push(record);
    }
    let [aimed] = <[Aimed<'_>; 1]>::try_from(judged(&cases, &launches)).expect("one target for all of them");
    assert_eq!(aimed.case.as_str(), "compile");
    (aimed.verdict, aimed.fails)
}

#[test]
fn a_success_rate_is_counted_over_what_ran() {
    use Comparison::{Above, AtLeast};
    use OutcomeKind::{Failed, Invalid, Measured, OutOfMemory, Skipped, TimedOut};
    let ended = |failures: &[OutcomeKind]| -> Vec<Option<OutcomeKind>> {
        let good = std::iter::repeat_n(Measured, 20 - failures.len());
        good.chain(failures.iter().copied()).map(Some).collect()
    };
    let of = |comparison, failures: &[OutcomeKind]| rate(comparison, 0.95, 20, &ended(failures));
    // Nineteen of twenty are 95 % exactly, however many launches each had.
    assert_eq!(of(AtLeast, &[Failed]).0.call, TargetCall::Met);
    assert_eq!(of(Above, &[Failed]).0.call, TargetCall::Missed);
    for kind in [Failed, TimedOut, OutOfMemory, Invalid] {
        let (verdict, fails) = of(AtLeast, &[kind, kind]);
        assert_eq!((verdict.call, verdict.reason, fails), (TargetCall::Missed, Reason::Established, true), "{kind}");
        let note = format!("18 of 20 cases measured: compile/18 {kind}, compile/19 {kind}");
        assert_eq!(verdict.note, note);
        let reading = verdict.reading.expect("a share");
        assert_eq!([reading.value, reading.lower, reading.upper], [0.9; 3]);
    }
    let (verdict, _) = of(AtLeast, &[Failed; 8]);
    assert!(verdict.note.ends_with("compile/16 failed and 3 more"), "{}", verdict.note);
    // What lacks its hardware counts neither way.
    let mut some = ended(&[Skipped; 10]);
    assert_eq!(rate(AtLeast, 1.0, 20, &some).0.call, TargetCall::Met);
    some[0] = Some(Failed);
    let (verdict, _) = rate(AtLeast, 0.95, 20, &some);
    assert_eq!((verdict.call, verdict.reading.expect("a share").value), (TargetCall::Missed, 0.9));
    assert!(verdict.note.ends_with("; 10 skipped here, which do not count"), "{}", verdict.note);
}

#[test]
fn cases_that_did_not_run_are_no_success() {
    use Comparison::{AtLeast, AtMost};
    use OutcomeKind::{Failed, Measured, Skipped};
    // Nothing ran at all, be the goal as low as it may.
    for (ended, reason) in [(vec![None; 3], Reason::NotMeasured), (vec![Some(Skipped); 3], Reason::HeadSkipped)] {
        for comparison in [AtLeast, AtMost] {
            let (verdict, fails) = rate(comparison, 0.0, 3, &ended);
            assert_eq!((verdict.call, verdict.reason, fails), (TargetCall::Inconclusive, reason, false));
            assert_eq!(verdict.reading, None);
        }
    }
    // Two of three ran; the third, not reached or left out by a filter, could still turn it.
    for ended in [vec![Some(Measured), Some(Measured), None], vec![Some(Measured); 2]] {
        let (verdict, _) = rate(AtLeast, 0.95, 3, &ended);
        assert_eq!((verdict.call, verdict.reason), (TargetCall::Inconclusive, Reason::NotMeasured));
        let reading = verdict.reading.expect("a share");
        assert_eq!((reading.value, reading.upper), (1.0, 1.0));
        assert!((reading.lower - 2.0 / 3.0).abs() < 1e-12 && verdict.note.ends_with("; 1 did not run"), "{verdict:?}");
        // Where it cannot, the answer stands.
        assert_eq!(rate(AtLeast, 0.6, 3, &ended).0.call, TargetCall::Met);
    }
    assert_eq!(rate(AtLeast, 0.95, 3, &[Some(Failed)]).0.call, TargetCall::Missed);
}

#[test]
fn a_success_rate_that_is_met_hides_no_failure() {
    let over = Over { name: "compile".to_owned(), cases: 2 };
    let target = Target { over: Some(over), ..target(Comparison::AtLeast, 0.5) };
    let cases = [wanting("a", vec![target.clone()]), wanting("b", vec![target])];
    let mut launches = measured("a", &utilisation(), &NEAR);
    launches.extend(measured("b", &utilisation(), &NEAR));
    launches[0].outcome.kind = OutcomeKind::Failed;
    let found = judged(&cases, &launches);
    assert_eq!(found[0].verdict.call, TargetCall::Met);
    assert_eq!(decide_run(1, 1, &found, Demand { require_decision: false }), Exit::CaseFailed);
}
