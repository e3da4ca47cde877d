//! What somebody else's verdict may still say when its numbers have been judged again: that something was not decided, and
//! nothing more.
//!
//! Numbers can be made up, and nothing here can tell. Whoever makes them up must not get further by words: a claim takes a
//! decision back, and makes none. Must not know who claims it, nor in what format.

use crate::domain::{Call, Case, CaseId, Metric, Outcome, Reason, Severity, Verdict};
use crate::verdict::{Judged, policy, unpaired};

/// Takes a decision back where `said`, the claimed verdict on the same numbers, gives a reason not to count them.
pub fn withdraw(row: &mut Judged<'_>, said: &Verdict) {
    let why = match said.reason {
        Reason::ControlMoved => "the control stream is said to have told the base from itself",
        Reason::NoisySession => "the machine is said to have moved too much",
        Reason::BadValue => "a launch is said to have had no usable value",
        Reason::Inherited => "it is said to come from the base branch, which cannot be seen from here",
        _ => return,
    };
    if row.verdict.call != Call::NotComparable {
        let reason = if said.reason == Reason::Inherited { Reason::Suspect } else { said.reason };
        row.verdict = undecided(reason, format!("{why}; by its numbers: {}", row.verdict.note));
        row.fails = false;
    }
}

/// A row without numbers: `said` may say that there are none, and why. `case` is what is known of it; nothing where nobody
/// here knows it.
#[must_use]
pub fn claim(
    case: Option<&Case>,
    id: &CaseId,
    metric: Metric,
    said: &Verdict,
    outcome: Option<Outcome>,
) -> Judged<'static> {
    use Reason::{BadValue, BaseFailed, HeadFailed, HeadSkipped, Missing, New, TooFewLaunches};
    let failed = outcome.as_ref().is_some_and(|outcome| policy::is_failure(outcome.kind));
    let not_comparable = |reason, note| Verdict { call: Call::NotComparable, ..undecided(reason, note) };
    let note = said.note.clone();
    let verdict = match (said.call, said.reason) {
        _ if case.is_none() => not_comparable(New, "not in the suite on the base branch".to_owned()),
        (Call::NotComparable, HeadFailed) if failed => not_comparable(HeadFailed, note),
        (Call::NotComparable, New | Missing | HeadSkipped | BaseFailed) => not_comparable(said.reason, note),
        (Call::Inconclusive, TooFewLaunches | BadValue | Missing) => undecided(said.reason, note),
        _ => undecided(BadValue, "the report says that it was decided, and has no numbers".to_owned()),
    };
    Judged {
        case: id.clone(),
        gating: case.is_some_and(|case| case.gates(&metric.name)),
        fails: false,
        thresholds: case.map(|case| case.thresholds_for(&metric.name)).unwrap_or_default(),
        metric,
        base: None,
        head: None,
        outcome,
        verdict,
        smallest_detectable: None,
        paired: None,
    }
}

/// A metric of a case that nothing is said about although it could be measured: who leaves out what regressed must not look
/// better for it.
#[must_use]
pub fn absent(case: &Case, metric: &str) -> Judged<'static> {
    let note = "in the suite on the base branch, and not in the report".to_owned();
    let row = unpaired(case);
    Judged {
        metric: case.metric(metric).unwrap_or_else(|| row.metric.clone()),
        gating: case.gates(metric),
        thresholds: case.thresholds_for(metric),
        verdict: undecided(Reason::Missing, note),
        ..row
    }
}

const fn undecided(reason: Reason, note: String) -> Verdict {
    Verdict { call: Call::Inconclusive, severity: Severity::None, reason, provisional: false, estimate: None, note }
}
