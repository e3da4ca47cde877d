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
    // Without a verdict from history a case is not screened at all.
    let unscreened = gating().filter(|row| matches!(row.verdict.reason, Reason::TooFewLaunches | Reason::New));
    escalation.places.extend(unscreened.filter_map(|row| place(&row.case)).filter(|at| seen.insert(*at)));

    let screened_cases = gating().map(|row| &row.case).collect::<BTreeSet<_>>().len();
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
        || matches!(row.verdict.reason, Reason::Suspect | Reason::NoisySession)
            && row.verdict.call == Call::Inconclusive
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
