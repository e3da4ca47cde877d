//! Which cases the screen hands over to fresh pairs, and what becomes of its verdicts then (STATISTICS.md section 5).
//!
//! History only raises suspicions: once pairs can be measured, nothing it says fails a build.

use std::collections::BTreeSet;

use crate::domain::{Call, Case, CaseId, Reason, Severity};
use crate::verdict::guard;
use crate::verdict::history::worst_first;
use crate::verdict::policy::K_SCREEN;
use crate::verdict::{Judged, Judgement};

/// Most cases that one session pairs after a screen; the rest stay suspects.
const MOST: usize = 30;
/// Of a crowd of suspects, so many of the strongest and so many others are paired.
const OF_A_CROWD: usize = 10;

/// What to pair, and why not the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Escalation {
    /// Places of the cases in the plan, the most suspicious first.
    pub places: Vec<usize>,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// Chooses among the `cases` of a plan by what the screen says. `sessions` is how many the history has: fewer than five
/// screen nothing, and every case that may fail is paired. `draw` picks the witnesses of a crowd: any fixed order.
#[must_use]
pub fn escalate(cases: &[Case], screened: &Judgement<'_>, sessions: usize, draw: &[usize]) -> Escalation {
    let place = |id: &CaseId| cases.iter().position(|case| case.id == *id);
    let gating = || screened.rows.iter().filter(|row| row.gating);
    let mut escalation = Escalation::default();
    let mut seen = BTreeSet::new();
    if sessions < K_SCREEN {
        escalation.places = everything(cases);
        escalation.notes.push(format!(
            "{sessions} earlier sessions are too few to screen with ({K_SCREEN} are the least): every case is paired"
        ));
        return escalation;
    }
    let mut suspects: Vec<&Judged<'_>> = gating().filter(|row| is_suspect(row)).collect();
    suspects.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then_with(|| a.case.cmp(&b.case)));
    escalation.places = suspects.iter().filter_map(|row| place(&row.case)).filter(|at| seen.insert(*at)).collect();

    // Only what was screened can be suspicious: what is new says nothing about a common cause.
    let screened_cases = gating().filter(|row| !is_unscreened(row)).map(|row| &row.case).collect::<BTreeSet<_>>().len();
    let found = escalation.places.len();
    if guard::is_mass(found, screened_cases) {
        let strongest: Vec<usize> = escalation.places.iter().take(OF_A_CROWD).copied().collect();
        let others = draw.iter().filter(|at| !strongest.contains(at) && cases.get(**at).is_some_and(judged));
        let others: Vec<usize> = others.take(OF_A_CROWD).copied().collect();
        escalation.notes.push(format!(
            "broad shift: {found} of {screened_cases} cases are suspicious at once, which one cause explains better than \
             many; the strongest {} and {} others are paired to tell code from machine",
            strongest.len(),
            others.len()
        ));
        escalation.places = [strongest, others].concat();
    } else if found > MOST {
        escalation.places.truncate(MOST);
        escalation.notes.push(format!("{found} cases are suspicious; the strongest {MOST} are paired"));
    }
    // Without a verdict from history a case is not screened at all.
    let mut seen: BTreeSet<usize> = escalation.places.iter().copied().collect();
    let unscreened = gating().filter(|row| is_unscreened(row)).filter_map(|row| place(&row.case));
    escalation.places.extend(unscreened.filter(|at| seen.insert(*at)));
    escalation
}

/// Every case that can be measured and judged, in the order of the suite, those that may fail first.
#[must_use]
pub fn everything(cases: &[Case]) -> Vec<usize> {
    let places = |gating: bool| {
        cases
            .iter()
            .enumerate()
            .filter(move |(_, case)| judged(case) && case.gate_metrics.is_empty() != gating)
            .map(|(place, _)| place)
    };
    places(true).chain(places(false)).collect()
}

const fn judged(case: &Case) -> bool {
    !case.reference && case.skip.is_none()
}

fn is_suspect(row: &Judged<'_>) -> bool {
    row.verdict.call == Call::Regressed
        || (row.verdict.reason == Reason::Suspect && row.verdict.call == Call::Inconclusive)
}

/// History could say nothing of it: there is none, or the machine is not the one of the history.
const fn is_unscreened(row: &Judged<'_>) -> bool {
    matches!(row.verdict.reason, Reason::TooFewLaunches | Reason::New | Reason::NoisySession)
}

/// The estimate in units of its interval's half-width.
fn strength(row: &Judged<'_>) -> f64 {
    let Some(estimate) = row.verdict.estimate else { return 0.0 };
    let width = estimate.upper.zip(estimate.lower).map_or(f64::INFINITY, |(upper, lower)| (upper - lower) / 2.0);
    estimate.change.abs() / width.max(f64::MIN_POSITIVE)
}

/// Puts the rows of fresh pairs in the place of the screen's rows of the same cases. What history alone says of the other
/// cases cannot fail any more.
#[must_use]
pub fn merge<'a>(screened: Vec<Judged<'a>>, paired: Vec<Judged<'a>>) -> Vec<Judged<'a>> {
    let decided: BTreeSet<CaseId> = paired.iter().map(|row| row.case.clone()).collect();
    let mut rows: Vec<Judged<'a>> =
        screened.into_iter().filter(|row| !decided.contains(&row.case)).map(suspicion).collect();
    rows.extend(paired);
    worst_first(&mut rows);
    rows
}

/// Launches that the screen saved against pairing every case: what the `screened` ones that were not paired would have
/// cost at the rate of the `paired` ones, whose `pairs` were made. Null where nothing was screened.
#[must_use]
pub fn launches_saved(screened: usize, pairs: usize, paired: usize) -> Option<u64> {
    (screened > 0 && paired > 0).then(|| (2.0 * screened as f64 * pairs as f64 / paired as f64).round() as u64)
}

/// A regression that history alone saw, as the suspicion that it is.
fn suspicion(mut row: Judged<'_>) -> Judged<'_> {
    if row.verdict.call == Call::Regressed && row.verdict.provisional {
        row.verdict.call = Call::Inconclusive;
        row.verdict.severity = Severity::None;
        row.verdict.reason = Reason::Suspect;
        row.verdict.note = format!("suspicious, and not paired in this session: {}", row.verdict.note);
        row.fails = false;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome;
    use crate::verdict::history::{bare, without_numbers};
    use crate::verdict::tests::case;

    /// What the screen may say of a case that gates.
    fn row(case: &Case, reason: Reason) -> Judged<'static> {
        let call = match reason {
            Reason::Suspect | Reason::NoisySession => Call::Inconclusive,
            Reason::New => Call::NotComparable,
            _ => Call::Unchanged,
        };
        let verdict = bare(call, reason, String::new());
        Judged { verdict, ..without_numbers(case, Outcome::measured(), call, reason, String::new()) }
    }

    /// Of 20 cases, so many suspicious ones, then so many of the other reason, and the rest unchanged.
    fn of_twenty(suspects: usize, others: usize, other: Reason) -> Escalation {
        let cases: Vec<Case> = (10..30).map(|at| case(&format!("case{at}")).case).collect();
        let reason = |at: usize| match at {
            _ if at < suspects => Reason::Suspect,
            _ if at < suspects + others => other,
            _ => Reason::WithinMargin,
        };
        let rows = cases.iter().enumerate().map(|(at, case)| row(case, reason(at))).collect();
        let screened = Judgement { rows, reference: Vec::new(), notes: Vec::new() };
        escalate(&cases, &screened, K_SCREEN, &[])
    }

    #[test]
    fn new_cases_are_paired_and_make_no_crowd() {
        let escalation = of_twenty(2, 12, Reason::New);
        assert_eq!(escalation.places, (0..14).collect::<Vec<_>>());
        assert_eq!(escalation.notes, [""; 0]);
        // Twelve suspects of twenty do.
        let escalation = of_twenty(12, 0, Reason::New);
        assert!(escalation.notes[0].starts_with("broad shift: 12 of 20 cases"), "{:?}", escalation.notes);
        assert_eq!(escalation.places.len(), OF_A_CROWD);
    }

    #[test]
    fn a_noisy_session_screens_nothing_and_everything_is_paired() {
        assert_eq!(of_twenty(0, 20, Reason::NoisySession).places, (0..20).collect::<Vec<_>>());
    }
}
