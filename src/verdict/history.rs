//! Mode (a): head against the sessions that play base, case by case and metric by metric.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Call, Case, CaseId, CaseRecord, LaunchSummary, Metric, MetricKind, MetricSummary, Outcome, OutcomeKind, Reason,
    RunId, Severity, Thresholds, Verdict,
};
use crate::stats::predictive::{Prediction, Spread};
use crate::stats::quantile::{median, pooled_deviations, quantile, quantile_spread, sorted};
use crate::verdict::covariate::Machine;
use crate::verdict::decide::{self, Finding};
use crate::verdict::policy::{
    self, ALPHA_REPORT, ALPHA_SCREEN, K_GATE, K_SCREEN, MIN_LAUNCHES, PRIOR_SPREAD, Q, SPREAD_FLOOR,
};
use crate::verdict::{Judged, Judgement, Session, SideValues, Used, kind};

/// The judged side.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its run.
    pub run: RunId,
    /// Every case of its plan.
    pub cases: &'a [CaseRecord],
    /// Its launches, in the order they were made.
    pub launches: &'a [LaunchSummary],
}

/// Judges every metric of every case of `head` against `history` (newest session first), and names the cases of the
/// newest session that are `gone` from head's suite. Worst rows first.
#[must_use]
pub fn judge<'a>(head: Head<'a>, history: &'a [Session], gone: &BTreeSet<CaseId>, gate: Severity) -> Judgement<'a> {
    let references: Vec<CaseId> =
        head.cases.iter().filter(|record| record.case.reference).map(|record| record.case.id.clone()).collect();
    let machine = Machine::read(&references, head.launches, history);
    let head_launches = by_case(head.launches);
    let history_launches: Vec<_> = history.iter().map(|session| by_case(&session.launches)).collect();

    let mut judge = Judge { head, history, head_launches, history_launches, machine, priors: BTreeMap::new() };
    let mut rows = Vec::new();
    let mut series = Vec::new();
    for record in head.cases.iter().filter(|record| !record.case.reference) {
        match judge.gather(record) {
            Gathered::Row(row) => rows.push(*row),
            Gathered::Series(found, gone) => {
                series.extend(found);
                rows.extend(gone);
            }
        }
    }
    judge.priors = priors(&series);
    // Two families, each with the whole false-alarm budget: what may fail CI, and what is only shown.
    let size = |gating| series.iter().filter(|one| one.gating == gating && !one.sessions.is_empty()).count().max(1);
    let families = [size(false), size(true)];
    rows.extend(series.into_iter().map(|one| judge.decide(one, families)));
    rows.extend(gone.iter().map(missing));
    for row in &mut rows {
        row.fails = policy::fails(&row.verdict, row.gating, gate);
    }
    worst_first(&mut rows);
    let mut notes: Vec<String> = judge.machine.note().into_iter().collect();
    notes.extend(head.cases.iter().filter_map(|record| judge.renamed(&record.case)));
    Judgement { rows, reference: judge.machine.moves, notes }
}

pub(super) type ByCase<'a> = BTreeMap<&'a CaseId, Vec<&'a LaunchSummary>>;

pub(super) fn by_case(launches: &[LaunchSummary]) -> ByCase<'_> {
    let mut map = ByCase::new();
    for launch in launches {
        map.entry(&launch.case).or_default().push(launch);
    }
    map
}

/// Everything about one metric of one case before the spreads of all cases are known.
struct Series<'a> {
    case: &'a Case,
    metric: Metric,
    gating: bool,
    thresholds: Thresholds,
    outcome: Outcome,
    head: Vec<Used<'a>>,
    /// Launches used of each session that has enough.
    sessions: Vec<Vec<Used<'a>>>,
    /// Their places in the history.
    used: Vec<usize>,
    /// Sessions that know the case, whether or not they have enough launches.
    known: usize,
}

enum Gathered<'a> {
    Row(Box<Judged<'a>>),
    /// The metrics that head has, and rows for gated ones that only the base has.
    Series(Vec<Series<'a>>, Vec<Judged<'a>>),
}

struct Judge<'a> {
    head: Head<'a>,
    history: &'a [Session],
    head_launches: ByCase<'a>,
    history_launches: Vec<ByCase<'a>>,
    machine: Machine,
    priors: BTreeMap<&'static str, f64>,
}

impl<'a> Judge<'a> {
    /// Says so where a case is compared with the history of an earlier name.
    fn renamed(&self, case: &Case) -> Option<String> {
        let newest = self.history_launches.first()?;
        let known = |id: &&CaseId| newest.contains_key(id);
        let earlier = case.aliases.iter().find(known).filter(|_| !known(&&case.id))?;
        Some(format!("`{}` was `{earlier}` in the base", case.id))
    }

    /// Collects the metrics of a case, or says why there are none.
    fn gather(&self, record: &'a CaseRecord) -> Gathered<'a> {
        let case = &record.case;
        let launches = self.head_launches.get(&case.id).map_or(&[][..], Vec::as_slice);
        let base: Vec<&[&'a LaunchSummary]> = self.history_launches.iter().map(|session| find(session, case)).collect();
        let outcome =
            record.skipped.clone().unwrap_or_else(|| Outcome::worst(launches.iter().map(|launch| &launch.outcome)));
        let unreached = record.skipped.is_none() && launches.is_empty();
        let nothing = |call, reason, note: String| {
            Gathered::Row(Box::new(without_numbers(case, outcome.clone(), call, reason, note)))
        };
        if outcome.kind != OutcomeKind::Measured {
            let why = outcome.reason.clone().unwrap_or_default();
            return match outcome.kind {
                OutcomeKind::Skipped if unreached => nothing(Call::Inconclusive, Reason::TooFewLaunches, why),
                OutcomeKind::Skipped => {
                    nothing(Call::NotComparable, Reason::HeadSkipped, format!("skipped here: {why}"))
                }
                OutcomeKind::Invalid => nothing(Call::Inconclusive, Reason::BadValue, format!("invalid: {why}")),
                kind => nothing(Call::NotComparable, Reason::HeadFailed, format!("{kind}: {why}")),
            };
        }
        let known = base.iter().filter(|launches| !launches.is_empty()).count();
        if known > 0 && base.iter().all(|launches| launches.iter().all(|launch| !measured(launch))) {
            let note = "every earlier launch of this case failed or was skipped".to_owned();
            return nothing(Call::NotComparable, Reason::BaseFailed, note);
        }
        let here = metrics(launches);
        let gone = metrics(base.iter().find(|launches| !launches.is_empty()).copied().unwrap_or_default())
            .into_iter()
            .filter(|old| case.gates(&old.metric.name) && here.iter().all(|new| new.metric.name != old.metric.name))
            .map(|old| {
                let note = format!("`{}` was measured in the base, head does not report it", old.metric.name);
                let row = without_numbers(case, outcome.clone(), Call::Inconclusive, Reason::Missing, note);
                of_metric(row, case, old.metric.clone())
            })
            .collect();
        let series = here.into_iter().map(|summary| self.series(case, summary, launches, &base, known)).collect();
        Gathered::Series(series, gone)
    }

    /// One metric: head's launches, and as many of each session that has enough (STATISTICS.md section 4: low
    /// quantiles depend on the number of launches, so both sides use the same).
    fn series(
        &self,
        case: &'a Case,
        summary: &'a MetricSummary,
        launches: &[&'a LaunchSummary],
        base: &[&[&'a LaunchSummary]],
        known: usize,
    ) -> Series<'a> {
        let metric = &summary.metric;
        let mut head = values(self.head.run, launches, metric);
        let mut sessions = Vec::new();
        let mut used = Vec::new();
        for (place, launches) in base.iter().enumerate() {
            let values = values(self.history[place].run, launches, metric);
            // One impossible value must not blind the gate for as long as its session stays in the window.
            let possible = values.iter().all(|used| kind::impossible(metric, used.value).is_none());
            if possible && values.len() >= MIN_LAUNCHES {
                sessions.push(values);
                used.push(place);
            }
        }
        let r = sessions.iter().map(Vec::len).chain([head.len()]).min().unwrap_or(0);
        head.truncate(r);
        for session in &mut sessions {
            session.truncate(r);
        }
        Series {
            case,
            metric: metric.clone(),
            gating: case.gates(&metric.name),
            thresholds: case.thresholds_for(&metric.name),
            outcome: Outcome::measured(),
            head,
            sessions,
            used,
            known,
        }
    }

    fn decide(&self, series: Series<'a>, families: [usize; 2]) -> Judged<'a> {
        let (verdict, finding) = self.verdict(&series, families[usize::from(series.gating)]);
        let d = kind::sign(&series.metric);
        let side = |launches: Vec<Used<'a>>, value: Option<f64>| {
            value.map(|value| SideValues { value: (d * value).exp(), launches })
        };
        let base_value = (!series.sessions.is_empty()).then(|| {
            median(&series.sessions.iter().map(|session| session_value(session, d, 0.25)).collect::<Vec<_>>())
        });
        let head_value = (!series.head.is_empty()).then(|| session_value(&series.head, d, 0.25));
        Judged {
            case: series.case.id.clone(),
            smallest_detectable: finding.map(|finding| finding.smallest_detectable(&series.thresholds)),
            paired: None,
            base: side(series.sessions.into_iter().flatten().collect(), base_value),
            head: side(series.head, head_value),
            metric: series.metric,
            gating: series.gating,
            fails: false,
            thresholds: series.thresholds,
            outcome: Some(series.outcome),
            verdict,
        }
    }

    fn verdict(&self, series: &Series<'a>, family: usize) -> (Verdict, Option<Finding>) {
        let metric = &series.metric;
        let plain = |call, reason, note: &str| (bare(call, reason, note.to_owned()), None);
        if series.known == 0 {
            return plain(Call::NotComparable, Reason::New, "no earlier result on this testbed; this run is the first");
        }
        let all = series.sessions.iter().flatten().chain(&series.head);
        if let Some(what) = series.head.iter().find_map(|used| kind::impossible(metric, used.value)) {
            return plain(Call::Inconclusive, Reason::BadValue, &what);
        }
        if series.head.len() < MIN_LAUNCHES || series.sessions.is_empty() {
            let side = if series.sessions.is_empty() { "no earlier session has" } else { "head does not have" };
            let note = format!(
                "{side} {MIN_LAUNCHES} measured launches of this metric; use --launches {MIN_LAUNCHES} or more"
            );
            return plain(Call::Inconclusive, Reason::TooFewLaunches, &note);
        }
        // An epoch in which nothing ever varied, and a head that does not vary either, carry no noise to test against.
        let steady =
            |mut launches: std::slice::Iter<'_, Used<'_>>, value: f64| launches.all(|used| used.value == value);
        let constant = series.sessions.len() >= K_SCREEN
            && series.sessions.iter().all(|session| steady(session.iter(), series.sessions[0][0].value))
            && steady(series.head.iter(), series.head[0].value);
        if (metric.exact || constant)
            && let Some(verdict) = exact(series)
        {
            return (verdict, None);
        }
        if all.clone().any(|used| used.value == 0.0) {
            return plain(Call::Inconclusive, Reason::ZeroBase, "a value of zero has no relative change");
        }
        let finding = self.finding(series, 0.25, family);
        let moved = self.machine.noisy && kind::follows_the_machine(metric);
        let mut verdict = finding.decide(metric, &series.thresholds, moved);
        if metric.exact {
            verdict.note += "; declared exact, but its launches differ among themselves, so it is judged as noisy";
        }
        if series.sessions.len() < K_GATE {
            return (verdict, Some(finding));
        }
        // A long history demands that the lower quartile and the best launch agree (STATISTICS.md section 4).
        let best = self.finding(series, 0.0, family).decide(metric, &series.thresholds, moved);
        let mut agreed = verdict;
        if agreed.severity > Severity::None && agreed.call != best.call {
            agreed.call = Call::Inconclusive;
            agreed.severity = Severity::None;
            agreed.reason = Reason::Suspect;
            "the lower quartile of the launches moved, the best launch did not; a paired run decides"
                .clone_into(&mut agreed.note);
        }
        agreed.severity = agreed.severity.min(best.severity);
        (agreed, Some(finding))
    }

    /// Head against the history's prediction, with `p` the quantile over launches that makes a session's value.
    fn finding(&self, series: &Series<'a>, p: f64, family: usize) -> Finding {
        let d = kind::sign(&series.metric);
        let mut sessions: Vec<f64> = series.sessions.iter().map(|session| session_value(session, d, p)).collect();
        let mut head = session_value(&series.head, d, p);
        let base = (d * median(&sessions)).exp();
        if kind::follows_the_machine(&series.metric) {
            self.machine.correct(&series.used, &mut sessions, &mut head);
        }
        let prior = self.prior(series, p);
        let floor = kind::spread_floor(&series.metric, (d * head).exp(), SPREAD_FLOOR);
        let prediction = Prediction::new(&sessions, Spread::of(&sessions).gate(), prior, floor);
        Finding {
            shift: head - prediction.center,
            strict: prediction.half_width(Q / family as f64),
            screen: prediction.half_width(ALPHA_SCREEN),
            report: prediction.half_width(ALPHA_REPORT),
            base,
        }
    }

    /// The spread expected before looking at this case's history: a fixed prior or the launches' own spread while the
    /// history is short, the typical spread of the same kind of metric later.
    fn prior(&self, series: &Series<'a>, p: f64) -> f64 {
        let fixed = || PRIOR_SPREAD.max(launch_spread(series, p));
        if series.sessions.len() < K_GATE {
            return fixed();
        }
        self.priors.get(kind_name(series.metric.kind)).copied().unwrap_or_else(fixed)
    }
}

/// Fewer series than this have no typical spread: it would be their own spread counted twice.
const ENOUGH_SERIES: usize = 5;

/// Geometric median spread of all metrics of a kind that have history enough: what one more of the kind is expected
/// to show.
fn priors(series: &[Series<'_>]) -> BTreeMap<&'static str, f64> {
    let mut logs: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for series in series.iter().filter(|series| series.sessions.len() >= K_SCREEN) {
        let d = kind::sign(&series.metric);
        let values: Vec<f64> = series.sessions.iter().map(|session| session_value(session, d, 0.25)).collect();
        let spread = Spread::of(&values).gate().max(SPREAD_FLOOR);
        if spread.is_finite() {
            logs.entry(kind_name(series.metric.kind)).or_default().push(spread.ln());
        }
    }
    logs.into_iter()
        .filter(|(_, logs)| logs.len() >= ENOUGH_SERIES)
        .map(|(kind, logs)| (kind, median(&logs).exp()))
        .collect()
}

pub(super) const fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Timing => "timing",
        MetricKind::Rate => "rate",
        MetricKind::Size => "size",
        MetricKind::Count => "count",
        MetricKind::Ratio => "ratio",
    }
}

/// The spread of a session's value that the launches themselves predict: of a low quantile over as many draws from all
/// sessions' launches.
fn launch_spread(series: &Series<'_>, p: f64) -> f64 {
    let d = kind::sign(&series.metric);
    let sides: Vec<Vec<f64>> = series
        .sessions
        .iter()
        .chain([&series.head])
        .map(|side| side.iter().map(|used| d * used.value.ln()).collect())
        .collect();
    quantile_spread(&pooled_deviations(sides.iter().map(Vec::as_slice)), series.head.len(), p)
}

/// A session's value on the badness scale: a low quantile over its launches, so that a burst of noise in one of them
/// costs nothing.
pub(super) fn session_value(launches: &[Used<'_>], d: f64, p: f64) -> f64 {
    let values: Vec<f64> = launches.iter().map(|used| d * used.value.ln()).collect();
    quantile(&sorted(&values), p)
}

pub(super) fn values<'a>(run: RunId, launches: &[&'a LaunchSummary], metric: &Metric) -> Vec<Used<'a>> {
    let mut used: Vec<Used<'a>> = launches
        .iter()
        .filter(|launch| measured(launch))
        .filter_map(|launch| {
            let found = launch.metrics.iter().find(|m| m.metric.name == metric.name && m.metric.unit == metric.unit)?;
            Some(Used { run, launch, value: found.median, n: found.n })
        })
        .collect();
    used.sort_by_key(|used| used.launch.index);
    used
}

/// A case's launches in a session, under its id or an earlier one.
pub(super) fn find<'s, 'a>(session: &'s ByCase<'a>, case: &Case) -> &'s [&'a LaunchSummary] {
    std::iter::once(&case.id).chain(&case.aliases).find_map(|id| session.get(id)).map_or(&[][..], Vec::as_slice)
}

/// The judged metrics of a case's measured launches, each once, in the order they first appear.
pub(super) fn metrics<'a>(launches: &[&'a LaunchSummary]) -> Vec<&'a MetricSummary> {
    let mut found: Vec<&MetricSummary> = Vec::new();
    for summary in launches.iter().filter(|launch| measured(launch)).flat_map(|launch| &launch.metrics) {
        if !summary.metric.derived && found.iter().all(|known| known.metric.name != summary.metric.name) {
            found.push(summary);
        }
    }
    found
}

pub(super) fn measured(launch: &LaunchSummary) -> bool {
    launch.outcome.kind == OutcomeKind::Measured
}

/// An exact metric: no test is made, any difference is a change (STATISTICS.md section 6). `None` where launches of one
/// side differ: then it is noisy, whatever was declared.
fn exact(series: &Series<'_>) -> Option<Verdict> {
    let head = series.head[0].value;
    let steady = |launches: &[Used<'_>]| launches.iter().all(|used| used.value == launches[0].value);
    let base_launches = &series.sessions[0];
    let base = base_launches[0].value;
    (steady(&series.head) && steady(base_launches))
        .then(|| decide::exact(base, head, &series.metric, &series.thresholds))
}

pub(super) fn bare(call: Call, reason: Reason, note: String) -> Verdict {
    Verdict { call, severity: Severity::None, reason, provisional: false, estimate: None, note }
}

fn latency() -> Metric {
    Metric::standard(Metric::LATENCY).expect("in the table")
}

/// The metric that stands for a case without numbers: latency, or what gates it instead. A case that may fail CI must not
/// look as if it could not because nothing is known of it.
fn standing(case: &Case) -> Metric {
    if case.gates(Metric::LATENCY) {
        return latency();
    }
    let gating = case.gate_metrics.iter().find(|name| case.gates(name));
    gating.map_or_else(latency, |name| case.metric(name).unwrap_or_else(|| Metric { name: name.clone(), ..latency() }))
}

/// The row about another metric of its case.
pub(super) fn of_metric<'a>(row: Judged<'a>, case: &Case, metric: Metric) -> Judged<'a> {
    Judged { gating: case.gates(&metric.name), thresholds: case.thresholds_for(&metric.name), metric, ..row }
}

pub(super) fn without_numbers<'a>(
    case: &Case,
    outcome: Outcome,
    call: Call,
    reason: Reason,
    note: String,
) -> Judged<'a> {
    let metric = standing(case);
    Judged {
        case: case.id.clone(),
        gating: case.gates(&metric.name),
        fails: false,
        thresholds: case.thresholds_for(&metric.name),
        metric,
        base: None,
        head: None,
        outcome: Some(outcome),
        verdict: bare(call, reason, note),
        smallest_detectable: None,
        paired: None,
    }
}

/// A case that was to be paired and for whose pairs no time was left.
#[must_use]
pub fn unpaired<'a>(case: &Case) -> Judged<'a> {
    let note = "no time was left for its pairs; a longer `budget` decides".to_owned();
    let row = without_numbers(case, Outcome::measured(), Call::Inconclusive, Reason::TooFewLaunches, note);
    Judged { outcome: None, ..row }
}

fn missing<'a>(case: &CaseId) -> Judged<'a> {
    let note = "measured in the base, gone from this suite; if it was renamed, say so with `aliases`".to_owned();
    Judged {
        case: case.clone(),
        metric: latency(),
        gating: false,
        fails: false,
        thresholds: Thresholds::default(),
        base: None,
        head: None,
        outcome: None,
        verdict: bare(Call::NotComparable, Reason::Missing, note),
        smallest_detectable: None,
        paired: None,
    }
}

/// Brings rows into the order in which they are shown.
pub(super) fn worst_first(rows: &mut [Judged<'_>]) {
    rows.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("ranks are finite").then_with(|| a.case.cmp(&b.case)));
}

/// Sorts worst first: failing rows, failed cases, regressions by severity, suspects, open ones, missing and new ones,
/// improvements, unchanged; larger changes before smaller.
fn rank(row: &Judged<'_>) -> (u8, u8, f64) {
    let verdict = &row.verdict;
    let group = match (verdict.call, verdict.reason) {
        _ if row.fails => 0,
        (_, Reason::HeadFailed) => 1,
        (Call::Regressed, _) => 2,
        (_, Reason::Suspect) => 3,
        (Call::Inconclusive, _) => 4,
        (_, Reason::Missing) => 5,
        (_, Reason::New) => 6,
        (Call::NotComparable, _) => 7,
        (Call::Improved, _) => 8,
        (Call::Unchanged, _) => 9,
    };
    let severity = 3 - Severity::ALL.iter().position(|s| *s == verdict.severity).unwrap_or(0) as u8;
    let change = verdict.estimate.map_or(0.0, |estimate| estimate.change.abs());
    (group, severity, -change)
}
