//! Mode (b): head against base in fresh, coin-ordered pairs, after each of which every escalated case is decided or goes
//! on (STATISTICS.md sections 3 and 5).
//!
//! Only what was escalated shares the false-alarm budget, and none of the launches that raised a suspicion takes part.
//! Must not know how launches are made or which come next.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    ArmSide, Call, Case, CaseId, LaunchSummary, Metric, MetricSummary, NoiseModel, Outcome, OutcomeKind, Reason, RunId,
    Severity,
};
use crate::stats::multiplicity::e_benjamini_hochberg;
use crate::verdict::builds::Builds;
use crate::verdict::confirm::stream::Stream;
use crate::verdict::guard::{self, Control};
use crate::verdict::history::{bare, metrics, of_metric, unpaired, without_numbers};
use crate::verdict::policy::{self, Q};
use crate::verdict::{Judged, SideValues, Used, kind};

pub use stream::Rules;

/// Pairs of a case, counted with those that had to be dropped, as a multiple of the most that count: a machine that
/// disturbs every pair must not be measured for ever.
const PATIENCE: usize = 2;

/// One escalated case.
#[derive(Debug)]
struct Trial {
    case: Case,
    streams: Vec<Stream>,
    /// Launches of every pair that counts.
    pairs: Vec<[LaunchSummary; 2]>,
    dropped: usize,
    failure: Option<(ArmSide, Outcome)>,
    /// No time is left for it.
    postponed: bool,
    /// What a pair costs, seconds, by the launches before the first.
    cost_s: f64,
    /// Metrics of one arm only.
    only: Vec<(ArmSide, Metric)>,
}

impl Trial {
    const fn takes_part(&self) -> bool {
        self.failure.is_none() && !self.postponed
    }

    fn is_open(&self, rules: Rules) -> bool {
        let most = rules.most;
        let gating = || self.streams.iter().filter(|stream| stream.gating);
        let undecided = if gating().next().is_some() {
            gating().any(|stream| !stream.is_final())
        } else {
            self.streams.iter().any(|stream| !stream.is_final())
        };
        self.takes_part()
            && (undecided || rules.exhaustive)
            && self.pairs.len() < most
            && self.pairs.len() + self.dropped < PATIENCE * most
    }
}

/// A paired session as far as it got.
#[derive(Debug)]
pub struct Confirmation {
    rules: Rules,
    noise: Vec<NoiseModel>,
    builds: Builds,
    trials: BTreeMap<usize, Trial>,
    /// Most important first.
    order: Vec<usize>,
    control: Option<(usize, Control)>,
    rounds_of_control: u64,
}

impl Confirmation {
    /// Of the escalated `cases` with their places in the plan, most important first. Both arms are taken for the same
    /// files.
    #[must_use]
    pub fn new<'c>(cases: impl IntoIterator<Item = (usize, &'c Case)>, noise: Vec<NoiseModel>, rules: Rules) -> Self {
        let trial = |case: &Case| Trial {
            case: case.clone(),
            streams: Vec::new(),
            pairs: Vec::new(),
            dropped: 0,
            failure: None,
            postponed: false,
            cost_s: 0.0,
            only: Vec::new(),
        };
        let cases: Vec<(usize, &Case)> = cases.into_iter().collect();
        Self {
            rules,
            noise,
            builds: Builds::same(),
            order: cases.iter().map(|(place, _)| *place).collect(),
            trials: cases.into_iter().map(|(place, case)| (place, trial(case))).collect(),
            control: None,
            rounds_of_control: 0,
        }
    }

    /// With arms that were built apart; before the first launch.
    #[must_use]
    pub fn with_builds(self, builds: Builds) -> Self {
        Self { builds, ..self }
    }

    /// Learns from launches that are not part of any pair which metrics a case has, and what a pair of it costs, seconds.
    pub fn warmed(&mut self, place: usize, base: &LaunchSummary, head: &LaunchSummary, cost_s: f64) {
        let (noise, builds, rules) = (&self.noise, &self.builds, self.rules);
        let Some(trial) = self.trials.get_mut(&place) else { return };
        let case = &trial.case;
        trial.cost_s = cost_s;
        let (of_base, of_head) = (metrics(&[base]).into_iter().cloned().collect::<Vec<_>>(), metrics(&[head]));
        for summary in &of_base {
            let name = summary.metric.name.as_str();
            if of_head.iter().any(|other| same(&other.metric, &summary.metric)) {
                let model = model_of(noise, &case.id, name);
                let spread = builds.spread(&case.id, name);
                let (gating, thresholds) = (case.gates(name), case.thresholds_for(name));
                trial.streams.push(Stream::new(summary, gating, thresholds, model, spread, rules));
            } else {
                trial.only.push((ArmSide::Base, summary.metric.clone()));
            }
        }
        let new = of_head.iter().filter(|other| of_base.iter().all(|summary| !same(&other.metric, &summary.metric)));
        trial.only.extend(new.map(|summary| (ArmSide::Head, summary.metric.clone())));
    }

    /// Splits the false-alarm budget, when the metrics of every case are known and before the first pair. With a time
    /// limit, seconds, only as many cases as can be decided in it take part: a little of everything decides nothing.
    pub fn begin(&mut self, left_s: Option<f64>) {
        if let Some(left_s) = left_s {
            self.postpone(left_s);
        }
        let count = |gating: bool| {
            let trials = self.trials.values().filter(|trial| trial.takes_part());
            let streams = trials.flat_map(|trial| &trial.streams);
            streams.filter(|stream| stream.gating == gating).count().max(1)
        };
        let families = [count(false), count(true)];
        for stream in self.trials.values_mut().flat_map(|trial| &mut trial.streams) {
            stream.begin(families[usize::from(stream.gating)]);
        }
        // The cheapest case is as good a witness as any other.
        let cheapest = self
            .trials
            .iter()
            .filter(|(_, trial)| trial.takes_part() && !trial.streams.is_empty())
            .min_by(|a, b| a.1.cost_s.total_cmp(&b.1.cost_s));
        self.control = cheapest.map(|(place, trial)| {
            let witness = witness(trial);
            let model = witness.and_then(|metric| model_of(&self.noise, &trial.case.id, &metric.name));
            (*place, Control::new(model.map(|model| model.pair_spread)))
        });
    }

    fn postpone(&mut self, left_s: f64) {
        /// Pairs that a case takes where no noise model says more (STATISTICS.md section 9.1).
        const USUAL_PAIRS: f64 = 12.0;
        let mut spent_s = 0.0;
        for (rank, place) in self.order.iter().enumerate() {
            let Some(trial) = self.trials.get_mut(place) else { continue };
            let known = trial.streams.iter().filter(|stream| stream.gating).filter_map(Stream::usual_pairs);
            spent_s += trial.cost_s * known.fold(USUAL_PAIRS, f64::max);
            trial.postponed = rank > 0 && spent_s > left_s;
        }
    }

    /// Cases for whose pairs no time was left.
    #[must_use]
    pub fn postponed(&self) -> Vec<&Case> {
        self.trials.values().filter(|trial| trial.postponed).map(|trial| &trial.case).collect()
    }

    /// Cases that want another pair.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        self.trials.iter().filter(|(_, trial)| trial.is_open(self.rules)).map(|(place, _)| *place).collect()
    }

    /// The case that is measured against itself, in rounds where one is wanted: where few cases are open it would cost as
    /// much as they do, so then only every second round.
    pub fn control(&mut self) -> Option<usize> {
        /// Open cases from which one more pair a round costs little.
        const MANY: usize = 3;
        if self.rules.exhaustive {
            // Both arms are the base already.
            return None;
        }
        self.rounds_of_control += 1;
        let wanted = self.open().len() >= MANY || self.rounds_of_control.is_multiple_of(2);
        self.control.as_ref().map(|(place, _)| *place).filter(|_| wanted)
    }

    /// Takes a pair of launches that were both measured.
    pub fn take(&mut self, place: usize, base: LaunchSummary, head: LaunchSummary) {
        let Some(trial) = self.trials.get_mut(&place) else { return };
        for stream in &mut trial.streams {
            let of = |launch: &'_ LaunchSummary| {
                launch.metrics.iter().find(|summary| same(&summary.metric, &stream.metric)).cloned()
            };
            let (base, head) = (of(&base), of(&head));
            // What neither launch reports says nothing: a recorded session keeps no more of a metric than decided it.
            if base.is_some() || head.is_some() {
                stream.take(base.as_ref(), head.as_ref());
            }
        }
        trial.pairs.push([base, head]);
    }

    /// Takes a pair of the base against itself.
    pub fn take_control(&mut self, place: usize, first: &LaunchSummary, second: &LaunchSummary) {
        let Some(metric) = self.trials.get(&place).and_then(|trial| witness(trial).cloned()) else { return };
        let value = |launch: &LaunchSummary| {
            launch.metrics.iter().find(|summary| same(&summary.metric, &metric)).map(|summary| summary.median.ln())
        };
        if let (Some((_, control)), Some(first), Some(second)) = (&mut self.control, value(first), value(second))
            && (second - first).is_finite()
        {
            control.take(second - first);
        }
    }

    /// Counts a pair that was disturbed from outside.
    pub fn dropped(&mut self, place: usize) {
        if let Some(trial) = self.trials.get_mut(&place) {
            trial.dropped += 1;
        }
    }

    /// A case whose launches fail.
    pub fn failed(&mut self, place: usize, side: ArmSide, outcome: Outcome) {
        if let Some(trial) = self.trials.get_mut(&place) {
            trial.failure = Some((side, outcome));
        }
    }

    /// Pairs made, dropped ones included, of each case that was escalated.
    #[must_use]
    pub fn pairs_made(&self) -> usize {
        self.trials.values().map(|trial| trial.pairs.len() + trial.dropped).sum()
    }

    /// Launches of every pair that counts, base and head, by case.
    pub fn launches(&self) -> impl Iterator<Item = (&Case, &[[LaunchSummary; 2]])> {
        self.trials.values().map(|trial| (&trial.case, trial.pairs.as_slice()))
    }

    /// Cases that could not be measured, and why.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.trials.values().filter_map(|trial| {
            let (side, outcome) = trial.failure.as_ref()?;
            let why = outcome.reason.as_deref().unwrap_or_default();
            Some(format!("{}: {} in the {side} arm: {why}", trial.case.id, outcome.kind))
        })
    }

    /// Pairs of the control stream.
    #[must_use]
    pub fn control_pairs(&self) -> usize {
        self.control.as_ref().map_or(0, |(_, control)| control.len())
    }

    /// The verdicts, one row a metric, `base` and `head` being the runs that the launches belong to; and findings about
    /// the session as a whole.
    #[must_use]
    pub fn rows(&self, base: RunId, head: RunId, gate: Severity) -> (Vec<Judged<'_>>, Vec<String>) {
        let discovered = self.discovered();
        let crossed = self.control.as_ref().is_some_and(|(_, control)| control.crossed());
        let mut rows = Vec::new();
        for (place, trial) in self.trials.iter().filter(|(_, trial)| !trial.postponed) {
            if let Some((side, outcome)) = &trial.failure {
                rows.push(failed_row(&trial.case, *side, outcome));
                continue;
            }
            if trial.streams.is_empty() && trial.only.is_empty() {
                rows.push(unpaired(&trial.case));
            }
            for stream in &trial.streams {
                let found = discovered.contains(&(*place, stream.metric.name.as_str()));
                let mut verdict = stream.verdict(found);
                if crossed && verdict.call != Call::NotComparable {
                    let note =
                        "the base was told from itself in this session, so nothing can be said of head".to_owned();
                    verdict = bare(Call::Inconclusive, Reason::ControlMoved, note);
                }
                let row = row_of(trial, stream, verdict, base, head);
                rows.push(row);
            }
            rows.extend(trial.only.iter().filter_map(|(side, metric)| one_sided(&trial.case, *side, metric)));
        }
        for row in &mut rows {
            row.fails = policy::fails(&row.verdict, row.gating, gate);
        }
        let dropped = self.trials.values().map(|trial| trial.dropped).sum();
        let mut notes: Vec<String> = guard::dropped_note(dropped, self.pairs_made()).into_iter().collect();
        if crossed {
            notes.push(
                "the control stream measured the base against itself and found a difference: the harness or the machine \
                 favours a side, and no verdict of this session counts"
                    .to_owned(),
            );
        }
        (rows, notes)
    }

    /// Gated comparisons that ended open beyond the smallest threshold, and that the false discovery rate of the session
    /// admits (e-BH over the evidence at each one's own stopping time).
    fn discovered(&self) -> BTreeSet<(usize, &str)> {
        let gated = || {
            self.trials
                .iter()
                .filter(|(_, trial)| trial.takes_part())
                .flat_map(|(place, trial)| trial.streams.iter().map(move |stream| (*place, stream)))
                .filter(|(_, stream)| stream.gating)
        };
        let evidence: Vec<f64> = gated().map(|(_, stream)| stream.log_evidence().exp()).collect();
        gated()
            .zip(e_benjamini_hochberg(&evidence, Q))
            .filter(|((_, stream), rejected)| *rejected && stream.is_open_beyond_minor())
            .map(|((place, stream), _)| (place, stream.metric.name.as_str()))
            .collect()
    }
}

fn model_of<'n>(noise: &'n [NoiseModel], case: &CaseId, metric: &str) -> Option<&'n NoiseModel> {
    noise.iter().find(|model| model.case == *case && model.metric == metric)
}

/// The metric that the control stream watches: the first that gates, or the first there is.
fn witness(trial: &Trial) -> Option<&Metric> {
    let streams = || trial.streams.iter();
    streams().find(|stream| stream.gating).or_else(|| streams().next()).map(|stream| &stream.metric)
}

fn same(a: &Metric, b: &Metric) -> bool {
    a.name == b.name && a.unit == b.unit
}

fn row_of<'t>(
    trial: &'t Trial,
    stream: &'t Stream,
    verdict: crate::domain::Verdict,
    base: RunId,
    head: RunId,
) -> Judged<'t> {
    let statistic = stream.evidence().statistic;
    let side = |arm: usize, run: RunId| {
        let launches: Vec<Used<'t>> = trial
            .pairs
            .iter()
            .filter_map(|pair| {
                let launch = &pair[arm];
                let of = |summary: &&MetricSummary| same(&summary.metric, &stream.metric);
                let found = launch.metrics.iter().find(of)?;
                Some(Used { run, launch, value: statistic.of(found), n: found.n })
            })
            .take(stream.len())
            .collect();
        let value = kind::typical(&launches.iter().map(|used| used.value).collect::<Vec<_>>())?;
        Some(SideValues { value, launches })
    };
    Judged {
        case: trial.case.id.clone(),
        metric: stream.metric.clone(),
        gating: stream.gating,
        fails: false,
        thresholds: stream.thresholds,
        base: side(0, base),
        head: side(1, head),
        outcome: Some(Outcome::measured()),
        verdict,
        smallest_detectable: stream.smallest_detectable(),
        paired: Some(stream.evidence()),
    }
}

/// A case that could not be measured: head's failure fails it, the base's leaves nothing to compare with.
fn failed_row<'t>(case: &Case, side: ArmSide, outcome: &Outcome) -> Judged<'t> {
    let why = outcome.reason.clone().unwrap_or_default();
    let note = format!("{} in the {side} arm: {why}", outcome.kind);
    if outcome.kind == OutcomeKind::Invalid {
        // The machine's doing, as by history.
        return without_numbers(case, outcome.clone(), Call::Inconclusive, Reason::BadValue, note);
    }
    if side == ArmSide::Head {
        return without_numbers(case, outcome.clone(), Call::NotComparable, Reason::HeadFailed, note);
    }
    without_numbers(case, Outcome::measured(), Call::NotComparable, Reason::BaseFailed, note)
}

/// A metric that only one arm reports.
fn one_sided<'t>(case: &Case, side: ArmSide, metric: &Metric) -> Option<Judged<'t>> {
    let (call, reason, note) = match side {
        ArmSide::Head => (Call::NotComparable, Reason::New, "the base does not report it".to_owned()),
        _ if !case.gates(&metric.name) => return None,
        _ => (Call::Inconclusive, Reason::Missing, format!("`{}` is reported by the base, not by head", metric.name)),
    };
    Some(of_metric(without_numbers(case, Outcome::measured(), call, reason, note), case, metric.clone()))
}
