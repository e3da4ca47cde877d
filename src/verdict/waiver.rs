//! Which regressions a waiver covers, and which waivers say nothing any more.
//!
//! A waiver covers the case and the metric it names, up to the size it names, until the day it names, and nothing
//! else. Must not know where waivers are written, nor what day it is: it is told.

use jiff::civil::Date;

use crate::domain::{Call, Reason, Severity, Waiver};
use crate::verdict::kind::sign;
use crate::verdict::{Judged, history, policy};

/// Sizes that differ by less, on the log scale, are the same: `+8 %` covers what was measured as exactly 8 %.
const SAME: f64 = 1e-9;

/// Excuses what a live waiver of `suite` covers, and says of every other waiver why it does not help. Rows come out
/// worst first again.
#[must_use]
pub fn apply(rows: &mut [Judged<'_>], waivers: &[Waiver], suite: &str, today: Date, gate: Severity) -> Vec<String> {
    let of_suite: Vec<&Waiver> =
        waivers.iter().filter(|waiver| waiver.suite.as_deref().is_none_or(|named| named == suite)).collect();
    for row in rows.iter_mut().filter(|row| row.verdict.call == Call::Regressed) {
        let covering =
            of_suite.iter().find(|waiver| names(waiver, row) && !waiver.has_expired(today) && is_enough(waiver, row));
        if let Some(waiver) = covering {
            row.verdict.reason = Reason::Waived;
            row.verdict.note = format!("{}; {}", terms(waiver), row.verdict.note);
            row.fails = policy::fails(&row.verdict, row.gating, gate);
        }
    }
    let notes = of_suite.iter().filter_map(|waiver| remark(waiver, rows, today)).collect();
    history::worst_first(rows);
    notes
}

fn names(waiver: &Waiver, row: &Judged<'_>) -> bool {
    row.case == waiver.case && row.metric.name == waiver.metric
}

/// Whether the regression's estimate is no larger than what is accepted; one without an estimate has no size.
fn is_enough(waiver: &Waiver, row: &Judged<'_>) -> bool {
    let badness = |change: f64| sign(&row.metric) * change.ln_1p();
    row.verdict.estimate.is_some_and(|estimate| badness(estimate.change) <= badness(waiver.change) + SAME)
}

/// `waived until 2026-12-31 up to +8.0 % by Ada <ada@x.invalid>: new tokenizer`
fn terms(waiver: &Waiver) -> String {
    let until = waiver.until.map_or_else(String::new, |until| format!(" until {until}"));
    format!("waived{until} up to {} by {}: {}", percent(waiver.change), waiver.who, waiver.reason)
}

/// What a reader should know of a waiver that excuses nothing.
fn remark(waiver: &Waiver, rows: &[Judged<'_>], today: Date) -> Option<String> {
    let what = format!("the waiver of {} of `{}`", waiver.metric, waiver.case);
    let Some(row) = rows.iter().find(|row| names(waiver, row)) else {
        // One that names no suite may well be another suite's.
        return waiver.suite.is_some().then(|| format!("{what} names nothing that was compared here"));
    };
    let expired = waiver.until.filter(|_| waiver.has_expired(today));
    let regressed = row.verdict.call == Call::Regressed;
    let excused = row.verdict.reason == Reason::Waived;
    match (expired, regressed) {
        (Some(day), true) if !excused => Some(format!(
            "{what} expired on {day} ({}, {}); extend it after review, or fix the regression",
            waiver.who, waiver.reason
        )),
        (Some(day), _) => Some(format!("{what} expired on {day} and covers nothing: it can be removed")),
        (None, true) if !excused => {
            let size =
                row.verdict.estimate.map_or("of no known size".to_owned(), |e| format!("of {}", percent(e.change)));
            Some(format!("{what} accepts up to {}; a regression {size} is not covered", percent(waiver.change)))
        }
        (None, true) => None,
        (None, false) => matches!(row.verdict.call, Call::Unchanged | Call::Improved)
            .then(|| format!("{what} matched no regression: it can be removed, unless another machine needs it")),
    }
}

/// `+8.0 %`, for notes.
fn percent(fraction: f64) -> String {
    format!("{:+.1} %", 100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::domain::{CaseId, Direction, Estimate, Metric, Thresholds, Verdict};

    fn row(metric: &str, change: f64) -> Judged<'static> {
        let mut metric = Metric::standard(metric).expect("in the table");
        metric.derived = false;
        let worse = if metric.direction == Direction::HigherIsBetter { change < 0.0 } else { change > 0.0 };
        let call = if worse { Call::Regressed } else { Call::Unchanged };
        Judged {
            case: CaseId::from("a@cpu"),
            metric,
            gating: true,
            fails: worse,
            thresholds: Thresholds::default(),
            base: None,
            head: None,
            outcome: None,
            verdict: Verdict {
                call,
                severity: if worse { Severity::Severe } else { Severity::None },
                reason: Reason::Established,
                provisional: false,
                estimate: Some(Estimate { change, lower: None, upper: None, confidence: 0.95 }),
                note: "worse".to_owned(),
            },
            smallest_detectable: None,
            paired: None,
        }
    }

    fn waiver(metric: &str, change: f64) -> Waiver {
        Waiver {
            suite: Some("s".to_owned()),
            case: CaseId::from("a@cpu"),
            metric: metric.to_owned(),
            change,
            reason: "known".to_owned(),
            who: "Ada".to_owned(),
            until: Some("2026-12-31".parse().expect("a day")),
        }
    }

    fn on(day: &str, rows: &mut [Judged<'_>], waivers: &[Waiver]) -> Vec<String> {
        apply(rows, waivers, "s", day.parse().expect("a day"), Severity::Moderate)
    }

    #[test]
    fn the_last_day_still_counts_and_the_next_is_red_again() {
        let mut rows = [row("latency", 0.08)];
        assert_eq!(on("2026-12-31", &mut rows, &[waiver("latency", 0.08)]), [""; 0]);
        assert_eq!((rows[0].fails, rows[0].verdict.reason), (false, Reason::Waived));
        assert!(rows[0].verdict.note.contains("Ada: known"), "{}", rows[0].verdict.note);
        let mut rows = [row("latency", 0.08)];
        let notes = on("2027-01-01", &mut rows, &[waiver("latency", 0.08)]);
        assert!(rows[0].fails && notes[0].contains("expired on 2026-12-31"), "{notes:?}");
    }

    #[test]
    fn of_two_waivers_the_one_that_covers_counts() {
        let mut old = waiver("latency", 0.5);
        old.until = Some("2026-01-01".parse().expect("a day"));
        let mut rows = [row("latency", 0.08)];
        let notes = on("2026-06-01", &mut rows, &[old, waiver("latency", 0.1)]);
        assert!(!rows[0].fails);
        assert!(notes.len() == 1 && notes[0].contains("can be removed"), "{notes:?}");
    }

    #[test]
    fn what_matches_nothing_is_said() {
        let mut rows = [row("latency", -0.1)];
        let notes = on("2026-06-01", &mut rows, &[waiver("latency", 0.1), waiver("cpu_time", 0.1)]);
        assert!(
            notes[0].contains("matched no regression: it can be removed, unless another machine needs it"),
            "{notes:?}"
        );
        assert!(notes[1].contains("names nothing that was compared"), "{notes:?}");
    }

    proptest! {
        /// A covered row differs from the same row without waivers in reason, note and failing only, and a row is
        /// covered exactly when suite, case, metric, day and size all fit.
        #[test]
        fn a_waiver_covers_what_it_names_and_nothing_else(
            change in -0.9_f64..3.0,
            accepted in -0.9_f64..3.0,
            metric in prop::sample::select(vec!["latency", "throughput"]),
            other in prop::sample::select(vec!["latency", "throughput"]),
            suite in prop::sample::select(vec!["s", "t"]),
            case in prop::sample::select(vec!["a@cpu", "a@cpu2", "a"]),
            day in prop::sample::select(vec!["2026-12-30", "2026-12-31", "2027-01-01"]),
        ) {
            let before = row(metric, change);
            let mut rows = [before.clone()];
            let given = Waiver { suite: Some(suite.to_owned()), case: case.into(), ..waiver(other, accepted) };
            let _ = on(day, &mut rows, &[given]);
            let [after] = rows;
            let worse = |change: f64| if metric == "throughput" { -change.ln_1p() } else { change.ln_1p() };
            let fits = suite == "s" && case == "a@cpu" && metric == other && day < "2027";
            let covered = before.fails && fits && worse(change) <= worse(accepted) + SAME;
            prop_assert_eq!(after.verdict.reason == Reason::Waived, covered);
            prop_assert_eq!(after.fails, before.fails && !covered);
            prop_assert_eq!(after.verdict.call, before.verdict.call);
            prop_assert_eq!(after.verdict.severity, before.verdict.severity);
            if !covered {
                prop_assert_eq!(after, before);
            }
        }
    }
}
