//! Laws of the paired session, on launches made up here.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::domain::{Direction, LaunchId, Reason, Severity, Thresholds, Verdict};
use crate::verdict::tests::case;

const RULES: Rules = Rules { most: 40, exhaustive: false };

fn launch(case: &str, values: &[(&str, f64)]) -> LaunchSummary {
    let metrics = values
        .iter()
        .map(|(name, value)| {
            let metric = Metric::standard(name).expect("in the table");
            MetricSummary { metric, n: 9, iterations: 1, median: *value, q25: *value, min: *value, q75: *value }
        })
        .collect();
    LaunchSummary { id: LaunchId::fresh(), case: case.into(), index: 0, outcome: Outcome::measured(), metrics }
}

/// What each case does: its id, the head's factor, and the noise of a launch.
type World = [(&'static str, f64, f64)];

/// Runs a session to its end; `swap` exchanges the arms, `scale` multiplies every value.
fn session(world: &World, seed: u64, swap: bool, scale: f64) -> Confirmation {
    let cases: Vec<Case> = world.iter().map(|(id, ..)| case(id).case).collect();
    let mut confirmation = Confirmation::new(cases.iter().enumerate(), Vec::new(), RULES);
    // One stream of noise a case, so that neither order nor neighbours change what a case sees.
    let mut noise: Vec<ChaCha8Rng> = world
        .iter()
        .map(|(id, ..)| ChaCha8Rng::seed_from_u64(seed ^ id.bytes().fold(7, |sum, b| sum * 31 + u64::from(b))))
        .collect();
    let mut pair = |place: usize| {
        let (id, factor, spread) = world[place];
        let mut value = |factor: f64| {
            let uniform = (noise[place].next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            scale * factor * (1.0 + spread * (uniform - 0.5))
        };
        let (base, head) = (value(1.0), value(factor));
        let [base, head] = [base, head].map(|value| launch(id, &[("latency", value), ("peak_memory", 4096.0)]));
        if swap { (head, base) } else { (base, head) }
    };
    for place in 0..world.len() {
        let (base, head) = pair(place);
        confirmation.warmed(place, &base, &head, 1.0);
    }
    confirmation.begin(None);
    while let Some(place) = confirmation.open().first().copied() {
        let (base, head) = pair(place);
        confirmation.take(place, base, head);
    }
    confirmation
}

fn verdicts(confirmation: &Confirmation) -> BTreeMap<(CaseId, String), Verdict> {
    let run = RunId::fresh();
    let (rows, _) = confirmation.rows(run, run, Severity::Moderate);
    rows.into_iter().map(|row| ((row.case, row.metric.name), row.verdict)).collect()
}

fn latency(confirmation: &Confirmation, case: &str) -> Verdict {
    verdicts(confirmation)[&(case.into(), "latency".to_owned())].clone()
}

const MIXED: &World = &[("a", 1.0, 0.02), ("b", 1.10, 0.02), ("c", 1.4, 0.05), ("d", 0.8, 0.02)];

#[test]
fn every_size_gets_its_class() {
    let done = session(MIXED, 1, false, 1.0);
    let said = |case: &str| {
        let verdict = latency(&done, case);
        (verdict.call, verdict.severity, verdict.provisional)
    };
    assert_eq!(said("a"), (Call::Unchanged, Severity::None, false));
    assert_eq!(said("b"), (Call::Regressed, Severity::Moderate, false));
    assert_eq!(said("c"), (Call::Regressed, Severity::Severe, false));
    assert_eq!(said("d"), (Call::Improved, Severity::Severe, false));
    assert_eq!(verdicts(&done).len(), 8, "one row a metric");
}

#[test]
fn identical_inputs_give_bit_identical_verdicts() {
    assert_eq!(verdicts(&session(MIXED, 5, false, 1.0)), verdicts(&session(MIXED, 5, false, 1.0)));
}

#[test]
fn swapping_the_arms_mirrors_every_verdict() {
    for seed in 0..20 {
        let (forward, back) = (session(MIXED, seed, false, 1.0), session(MIXED, seed, true, 1.0));
        for ((forward, back), (id, ..)) in
            MIXED.iter().map(|(id, ..)| (latency(&forward, id), latency(&back, id))).zip(MIXED)
        {
            let mirrored = match forward.call {
                Call::Regressed => Call::Improved,
                Call::Improved => Call::Regressed,
                other => other,
            };
            assert_eq!((mirrored, forward.severity), (back.call, back.severity), "{id}, seed {seed}");
        }
    }
}

#[test]
fn scaling_both_arms_changes_no_call() {
    let plain = session(MIXED, 3, false, 1.0);
    for scale in [1e-9, 1e9] {
        let scaled = session(MIXED, 3, false, scale);
        for (id, ..) in MIXED {
            let (a, b) = (latency(&plain, id), latency(&scaled, id));
            assert_eq!((a.call, a.severity), (b.call, b.severity), "{id} times {scale}");
        }
    }
}

#[test]
fn the_order_of_cases_changes_nothing() {
    let mut turned = MIXED.to_vec();
    turned.reverse();
    assert_eq!(verdicts(&session(MIXED, 9, false, 1.0)), verdicts(&session(&turned, 9, false, 1.0)));
}

#[test]
fn nothing_changed_is_rarely_called_changed() {
    let world: &World = &[("a", 1.0, 0.10), ("b", 1.0, 0.02), ("c", 1.0, 0.3)];
    let changed = |verdict: &Verdict| matches!(verdict.call, Call::Regressed | Call::Improved);
    let alarms = (0..400).filter(|seed| verdicts(&session(world, *seed, false, 1.0)).values().any(changed)).count();
    // The budget is 5 % a direction for each of two families; the bets are far from using it up.
    assert!(alarms <= 20, "{alarms} of 400");
}

#[test]
fn what_cannot_be_measured_is_told_by_arm() {
    let cases = [case("a").case, case("b").case, case("c").case];
    let mut confirmation = Confirmation::new(cases.iter().enumerate(), Vec::new(), RULES);
    let crash = || Outcome::because(OutcomeKind::Failed, "died of signal 11");
    confirmation.failed(0, ArmSide::Head, crash());
    confirmation.failed(1, ArmSide::Base, crash());
    let clocks = Outcome::because(OutcomeKind::Invalid, "its clock was not at its lock");
    confirmation.failed(2, ArmSide::Head, clocks);
    confirmation.begin(None);
    assert!(confirmation.open().is_empty());
    let run = RunId::fresh();
    let (rows, _) = confirmation.rows(run, run, Severity::Moderate);
    let reasons: Vec<Reason> = rows.iter().map(|row| row.verdict.reason).collect();
    assert_eq!(reasons, [Reason::HeadFailed, Reason::BaseFailed, Reason::BadValue]);
    assert!(rows[2].gating && rows[2].verdict.call == Call::Inconclusive, "the machine's doing: {:?}", rows[2]);
}

#[test]
fn with_little_time_the_most_important_cases_are_decided() {
    let cases = [case("a").case, case("b").case, case("c").case];
    // The last is the most important.
    let order = [2, 0, 1].map(|place| (place, &cases[place]));
    let mut confirmation = Confirmation::new(order, Vec::new(), RULES);
    for (place, case) in cases.iter().enumerate() {
        let launch = launch(case.id.as_str(), &[("latency", 1.0)]);
        confirmation.warmed(place, &launch, &launch, 1.0);
    }
    confirmation.begin(Some(30.0));
    assert_eq!(confirmation.open(), [0, 2]);
    assert_eq!(confirmation.postponed(), [&cases[1]]);
}

#[test]
fn exact_metrics_need_two_pairs_and_unknown_directions_never_fail() {
    let mut judged = case("a").case;
    judged.gate_metrics = vec!["bytes".to_owned(), "shape".to_owned()];
    let metric = |name: &str, direction, exact| Metric {
        name: name.to_owned(),
        unit: "1".to_owned(),
        direction,
        kind: crate::domain::MetricKind::Count,
        exact,
        derived: false,
    };
    let summary = |metric: Metric, value: f64| MetricSummary {
        metric,
        n: 1,
        iterations: 1,
        median: value,
        q25: value,
        min: value,
        q75: value,
    };
    let launch = |bytes: f64, shape: f64| LaunchSummary {
        metrics: vec![
            summary(metric("bytes", Direction::LowerIsBetter, true), bytes),
            summary(metric("shape", Direction::Unknown, false), shape),
        ],
        ..launch("a", &[])
    };
    let mut confirmation = Confirmation::new([(0, &judged)], Vec::new(), RULES);
    confirmation.warmed(0, &launch(100.0, 1.0), &launch(120.0, 2.0), 1.0);
    confirmation.begin(None);
    for _ in 0..40 {
        if !confirmation.open().is_empty() {
            confirmation.take(0, launch(100.0, 1.0), launch(120.0, 2.0));
        }
    }
    let said = verdicts(&confirmation);
    let bytes = &said[&("a".into(), "bytes".to_owned())];
    assert_eq!((bytes.call, bytes.severity, bytes.reason), (Call::Regressed, Severity::Severe, Reason::ExactChange));
    let shape = &said[&("a".into(), "shape".to_owned())];
    assert_eq!((shape.call, shape.reason), (Call::Inconclusive, Reason::UnknownDirection));
}

#[test]
fn a_difference_below_the_absolute_floor_is_no_change() {
    let mut judged = case("a").case;
    let floor = Thresholds { absolute_floor: Some(0.5), ..Thresholds::default() };
    judged.thresholds = BTreeMap::from([("*".to_owned(), floor)]);
    let mut confirmation = Confirmation::new([(0, &judged)], Vec::new(), RULES);
    let (base, head) = (launch("a", &[("latency", 1.0)]), launch("a", &[("latency", 1.3)]));
    confirmation.warmed(0, &base, &head, 1.0);
    confirmation.begin(None);
    while !confirmation.open().is_empty() {
        confirmation.take(0, base.clone(), head.clone());
    }
    let verdict = latency(&confirmation, "a");
    assert_eq!(verdict.call, Call::Unchanged, "{verdict:?}");
}

#[test]
fn a_floor_is_met_by_the_difference_itself_and_notes_say_how_much_a_rate_fell() {
    let mut judged = case("a").case;
    judged.gate_metrics = vec!["rate".to_owned()];
    let floor = Thresholds { absolute_floor: Some(25.0), ..Thresholds::default() };
    judged.thresholds = BTreeMap::from([("*".to_owned(), floor)]);
    let metric = Metric {
        name: "rate".to_owned(),
        direction: Direction::HigherIsBetter,
        ..Metric::standard(Metric::LATENCY).expect("in the table")
    };
    let to = |head: f64, first: f64| {
        let with = |value: f64| {
            let summary = MetricSummary {
                metric: metric.clone(),
                n: 9,
                iterations: 1,
                median: value,
                q25: value,
                min: value,
                q75: value,
            };
            LaunchSummary { metrics: vec![summary], ..launch("a", &[]) }
        };
        let mut confirmation = Confirmation::new([(0, &judged)], Vec::new(), RULES);
        confirmation.warmed(0, &with(first), &with(head), 1.0);
        confirmation.begin(None);
        while !confirmation.open().is_empty() {
            confirmation.take(0, with(100.0), with(head));
        }
        verdicts(&confirmation)[&("a".into(), "rate".to_owned())].clone()
    };
    assert_eq!(to(78.0, 100.0).reason, Reason::BelowFloor, "22 of 25");
    assert_eq!(to(78.0, 120.0).reason, Reason::BelowFloor, "whatever the first launch of base was");
    let fell = to(60.0, 100.0);
    assert_eq!((fell.call, fell.severity), (Call::Regressed, Severity::Severe), "{fell:?}");
    assert!(fell.note.starts_with("worse by at least 3"), "of 40 %: {fell:?}");
}

#[test]
fn a_bound_beyond_zero_is_no_amount() {
    // A change that only all comparisons together admit, by pairs so torn that none at all is not excluded.
    let with = |value: f64| launch("a", &[("latency", value)]).metrics.remove(0);
    let mut stream = Stream::new(&with(1.0), true, Thresholds::default(), None, 0.0, RULES);
    stream.begin(1000);
    for at in 0..24 {
        stream.take(Some(&with(1.0)), Some(&with(if at % 2 == 0 { 1.10 } else { 0.97 })));
    }
    let verdict = stream.verdict(true);
    assert_eq!(verdict.call, Call::Regressed);
    assert!(verdict.note.contains("at the estimate") && !verdict.note.contains("at least"), "{verdict:?}");
}

#[test]
fn a_best_sample_of_zero_is_not_bet_on() {
    let judged = case("a").case;
    let with = |median: f64, best: f64| {
        let mut launch = launch("a", &[("latency", median)]);
        (launch.metrics[0].q25, launch.metrics[0].min) = (median, best);
        launch
    };
    let mut confirmation = Confirmation::new([(0, &judged)], Vec::new(), RULES);
    confirmation.warmed(0, &with(1.0, 1.0), &with(1.0, 1.0), 1.0);
    confirmation.begin(None);
    // Best samples are far steadier than medians, until there is none.
    for at in 0..8 {
        let median = if at % 2 == 0 { 1.3 } else { 0.8 };
        confirmation.take(0, with(1.0, 1.0), with(median, if at < 4 { 1.0 } else { 0.0 }));
    }
    assert_eq!(latency(&confirmation, "a").call, Call::Inconclusive);
}

/// Medians that a neighbour moves by a third, best samples that nobody disturbs.
#[test]
fn the_steadier_statistic_is_bet_on_and_does_not_favour_a_side() {
    let judged = case("a").case;
    let run = |factor: f64, seed: u64| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut one = |factor: f64| {
            let mut launch = launch("a", &[("latency", 1.0)]);
            let best = factor * (1.0 + 0.01 * uniform());
            let metric = &mut launch.metrics[0];
            (metric.min, metric.q25, metric.median) = (best, best * (1.0 + 0.3 * uniform()), best * (1.0 + uniform()));
            launch
        };
        let mut confirmation = Confirmation::new([(0, &judged)], Vec::new(), RULES);
        let (base, head) = (one(1.0), one(factor));
        confirmation.warmed(0, &base, &head, 1.0);
        confirmation.begin(None);
        while !confirmation.open().is_empty() {
            let (base, head) = (one(1.0), one(factor));
            confirmation.take(0, base, head);
        }
        latency(&confirmation, "a")
    };
    for seed in 0..20 {
        let verdict = run(1.25, seed);
        assert_eq!((verdict.call, verdict.severity), (Call::Regressed, Severity::Severe), "{verdict:?}");
    }
    let wrong = (0..200).filter(|seed| matches!(run(1.0, *seed).call, Call::Regressed | Call::Improved)).count();
    assert!(wrong <= 8, "{wrong} of 200");
}
