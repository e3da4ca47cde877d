//! Laws of the detectors on seeded noise: how seldom they alarm, what they see, and what an acceptance does.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Consent, Limits, Noise, Shift, State, Trace, is_at, trace};
use crate::verdict::policy::{PRIOR_SPREAD, SPREAD_FLOOR};

const NOISE: Noise = Noise { prior: PRIOR_SPREAD, floor: SPREAD_FLOOR };
const LIMITS: Limits = Limits { moderate: 0.048_790_164_169, alpha: 0.05 };

/// Nearly normal with this standard deviation: the sum of twelve uniforms less six.
fn normal(random: &mut ChaCha8Rng, deviation: f64) -> f64 {
    let uniform = |random: &mut ChaCha8Rng| (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    deviation * ((0..12).map(|_| uniform(random)).sum::<f64>() - 6.0)
}

/// Sessions of independent noise, with the shifts that begin at the places named.
fn series(seed: u64, sessions: usize, deviation: f64, shifts: &[(usize, f64)]) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shift = |at: usize| -> f64 { shifts.iter().filter(|(from, _)| at >= *from).map(|(_, size)| size).sum() };
    (0..sessions).map(|at| normal(&mut random, deviation) + shift(at)).collect()
}

fn traced(values: &[f64]) -> Trace {
    trace(values, NOISE, &[], LIMITS)
}

fn states(trace: &Trace) -> Vec<(usize, State)> {
    trace.shifts.iter().map(|shift| (shift.first, shift.state)).collect()
}

#[test]
fn quiet_series_are_rarely_alarmed() {
    for (deviation, prior) in [(0.003, 0.003), (0.02, 0.02), (0.02, 0.005)] {
        let noise = Noise { prior, floor: SPREAD_FLOOR };
        let alarmed = (0..1000)
            .filter(|seed| !trace(&series(*seed, 60, deviation, &[]), noise, &[], LIMITS).shifts.is_empty())
            .count();
        assert!(alarmed <= 20, "{alarmed} of 1000 at a spread of {deviation}");
    }
}

/// Session noise that remembers the session before by a quarter.
#[test]
fn series_with_memory_are_rarely_alarmed() {
    let alarmed = (0..1000)
        .filter(|seed| {
            let mut last = 0.0;
            let values: Vec<f64> = series(*seed, 60, 0.01, &[])
                .into_iter()
                .map(|fresh| {
                    last = 0.25 * last + fresh;
                    last
                })
                .collect();
            !traced(&values).shifts.is_empty()
        })
        .count();
    assert!(alarmed <= 30, "{alarmed} of 1000");
}

#[test]
fn a_shift_that_lasts_is_found_three_sessions_after_it_began() {
    let noise = Noise { prior: 0.005, floor: SPREAD_FLOOR };
    let found = (0..200)
        .filter(|seed| {
            let trace = trace(&series(*seed, 43, 0.005, &[(40, 0.03)]), noise, &[], LIMITS);
            trace.open().any(|shift| shift.first == 40 && (shift.size - 0.03).abs() <= 0.015)
        })
        .count();
    assert!(found >= 190, "{found} of 200");
}

#[test]
fn better_and_worse_are_told_by_the_sign() {
    for size in [0.1, -0.1] {
        let trace = traced(&series(3, 24, 0.005, &[(20, size)]));
        let shift: &Shift = trace.open().next().expect("a shift");
        assert_eq!((shift.first, shift.before, shift.size > 0.0), (20, 19, size > 0.0));
        assert!((shift.size - size).abs() < shift.half_width, "{shift:?}");
        assert_eq!((trace.accepted.len(), trace.pending.as_slice()), (20, [20, 21, 22, 23].as_slice()));
    }
}

#[test]
fn what_is_gone_after_three_sessions_went_away() {
    let values = series(5, 30, 0.005, &[(20, 0.2), (23, -0.2)]);
    assert_eq!(states(&traced(&values)), [(20, State::WentAway)]);
    let trace = traced(&series(5, 40, 0.005, &[(20, 0.2), (28, -0.2)]));
    assert_eq!(states(&trace), [(20, State::Ended(28))]);
    assert_eq!(trace.accepted.len(), 32, "the sessions of the shift are no part of the level");
}

#[test]
fn one_or_two_bad_sessions_are_no_shift() {
    let mut values = series(7, 40, 0.005, &[]);
    for at in [20, 21, 30] {
        values[at] += 0.5;
    }
    assert_eq!(traced(&values).shifts, []);
}

#[test]
fn until_it_is_accepted_a_shift_stays_pending_however_long_it_lasts() {
    let trace = traced(&series(11, 120, 0.005, &[(20, 0.08)]));
    assert_eq!(states(&trace), [(20, State::Pending)]);
    assert_eq!((trace.accepted.len(), trace.pending.len()), (20, 100));
}

#[test]
fn a_shift_upon_a_pending_one_is_seen_too() {
    let trace = traced(&series(13, 60, 0.005, &[(20, 0.08), (40, 0.1)]));
    assert_eq!(states(&trace), [(20, State::Pending), (40, State::Pending)]);
    assert_eq!(trace.pending.first(), Some(&40));
    let fixed = traced(&series(13, 60, 0.005, &[(20, 0.08), (40, 0.1), (50, -0.18)]));
    assert_eq!(states(&fixed), [(20, State::Ended(50)), (40, State::Ended(50))]);
}

#[test]
fn an_acceptance_makes_the_shift_the_level() {
    let values = series(17, 60, 0.005, &[(20, 0.08)]);
    let accepted = |from, shift| trace(&values, NOISE, &[Consent { from, shift }], LIMITS);
    let trace = accepted(30, 0.08);
    assert_eq!(states(&trace), [(20, State::Accepted(Some(0)))]);
    assert_eq!((trace.accepted.first(), trace.accepted.len(), trace.pending.len()), (Some(&20), 40, 0));
    // Given before the change arrived, or after the last session.
    assert_eq!(states(&accepted(10, 0.08)), [(20, State::Accepted(Some(0)))]);
    assert_eq!(states(&accepted(60, 0.08)), [(20, State::Accepted(Some(0)))]);
    // It covers its size only, and its side only.
    assert_eq!(states(&accepted(30, 0.03)), [(20, State::Pending)]);
    assert_eq!(states(&accepted(30, -0.08)), [(20, State::Pending)]);
}

#[test]
fn an_improvement_becomes_the_level_by_itself() {
    let values = series(19, 40, 0.005, &[(20, -0.2), (34, 0.2)]);
    let trace = traced(&values);
    assert_eq!(states(&trace), [(20, State::Accepted(None)), (34, State::Pending)]);
    assert_eq!(trace.accepted.len(), 14);
}

#[test]
fn small_steps_add_up_to_creep() {
    let steps: Vec<(usize, f64)> = (1..60).map(|at| (at, 0.0015)).collect();
    let trace = traced(&series(23, 60, 0.006, &steps));
    let drift = trace.drift.clone().expect("an anchor");
    assert!(drift.creeping && trace.open().next().is_none(), "{trace:?}");
    let quiet = traced(&series(23, 60, 0.006, &[]));
    assert!(!quiet.drift.expect("an anchor").creeping);
}

#[test]
fn scaling_and_shifting_change_nothing() {
    let values = series(29, 60, 0.005, &[(20, 0.08), (40, 0.1)]);
    let moved: Vec<f64> = values.iter().map(|value| value + 8.0).collect();
    assert_eq!(states(&traced(&values)), states(&traced(&moved)));
}

#[test]
fn equal_to_the_pending_level_is_inherited_and_worse_is_not() {
    let level = series(31, 12, 0.004, &[(0, 0.1)]);
    assert!(is_at(&level, 0.1, NOISE, 0.02) && is_at(&level, 0.0, NOISE, 0.02));
    assert!(!is_at(&level, 0.2, NOISE, 0.02));
}

#[test]
fn short_series_say_nothing() {
    for sessions in 0..13 {
        let trace = traced(&series(1, sessions, 0.005, &[(6, 0.5)]));
        assert!(trace.shifts.is_empty() && trace.drift.is_none() && trace.accepted.len() == sessions);
    }
}
