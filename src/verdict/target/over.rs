//! Targets over cases: which share of them succeeded.
//!
//! This is counted and not estimated, so there is no interval. What did not run is counted both ways, and an answer is given
//! only where it could not turn it: want of data is neither met nor missed.

use crate::domain::{CaseId, Outcome, OutcomeKind, Over, Reading, Reason, Target, TargetCall, TargetVerdict};
use crate::verdict::Head;
use crate::verdict::history::ByCase;
use crate::verdict::target::Aimed;

/// Cases that failed and are named.
const NAMED: usize = 5;

/// How the cases of one target ended.
struct Tally<'a> {
    target: &'a Target,
    over: &'a Over,
    measured: u32,
    /// Lacked what they need here: they count neither way.
    skipped: u32,
    failed: Vec<(&'a CaseId, OutcomeKind)>,
}

/// Judges every target over cases of a run.
pub(super) fn judge<'a>(head: &Head<'a>, launches: &ByCase<'a>) -> Vec<Aimed<'a>> {
    let mut tallies: Vec<Tally<'a>> = Vec::new();
    for record in head.cases {
        let ended = match (&record.skipped, launches.get(&record.case.id)) {
            (Some(outcome), _) => Some(outcome.kind),
            (None, Some(launches)) => Some(Outcome::worst(launches.iter().map(|launch| &launch.outcome)).kind),
            (None, None) => None,
        };
        for target in &record.case.targets {
            let Some(over) = &target.over else { continue };
            let known = tallies.iter().position(|tally| tally.target.that == target.that && tally.over == over);
            let place = known.unwrap_or_else(|| {
                tallies.push(Tally { target, over, measured: 0, skipped: 0, failed: Vec::new() });
                tallies.len() - 1
            });
            let tally = &mut tallies[place];
            match ended {
                None => {}
                Some(OutcomeKind::Measured) => tally.measured += 1,
                Some(OutcomeKind::Skipped) => tally.skipped += 1,
                Some(kind) => tally.failed.push((&record.case.id, kind)),
            }
        }
    }
    tallies.into_iter().map(Tally::aimed).collect()
}

impl<'a> Tally<'a> {
    fn aimed(self) -> Aimed<'a> {
        let verdict = self.decide();
        Aimed {
            case: CaseId(self.over.name.clone()),
            target: self.target,
            metric: Target::success_rate(),
            head: None,
            other: None,
            fails: self.target.required && verdict.call == TargetCall::Missed,
            verdict,
        }
    }

    fn decide(&self) -> TargetVerdict {
        let ran = self.measured + self.failed.len() as u32;
        // Left out by a filter, not paired, or not reached before the session ended.
        let open = self.over.cases.saturating_sub(ran + self.skipped);
        if ran == 0 {
            let reason = if open == 0 { Reason::HeadSkipped } else { Reason::NotMeasured };
            let note = format!("none of {} ran{}", cases(self.over.cases), self.aside(open));
            return TargetVerdict { call: TargetCall::Inconclusive, reason, reading: None, note };
        }
        let share = |count: u32, of: u32| f64::from(count) / f64::from(of);
        let reading = Reading {
            value: share(self.measured, ran),
            lower: share(self.measured, ran + open),
            upper: share(self.measured + open, ran + open),
            confidence: 1.0,
        };
        let holds = |value| self.target.comparison.holds(value, self.target.value);
        let (call, reason) = match (holds(reading.lower), holds(reading.upper)) {
            (true, true) => (TargetCall::Met, Reason::Established),
            (false, false) => (TargetCall::Missed, Reason::Established),
            _ => (TargetCall::Inconclusive, Reason::NotMeasured),
        };
        let mut note = format!("{} of {} measured", self.measured, cases(ran));
        let named: Vec<String> = self.failed.iter().take(NAMED).map(|(case, kind)| format!("{case} {kind}")).collect();
        if !named.is_empty() {
            let more = self.failed.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            note = format!("{note}: {}{more}", named.join(", "));
        }
        TargetVerdict { call, reason, reading: Some(reading), note: note + &self.aside(open) }
    }

    /// What of the cases says nothing.
    fn aside(&self, open: u32) -> String {
        let skipped = (self.skipped > 0).then(|| format!("; {} skipped here, which do not count", self.skipped));
        let open = (open > 0).then(|| format!("; {open} did not run"));
        [skipped, open].into_iter().flatten().collect()
    }
}

fn cases(count: u32) -> String {
    if count == 1 { "1 case".to_owned() } else { format!("{count} cases") }
}
