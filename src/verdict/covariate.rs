//! The reference workloads as a covariate: how much the machine itself moved between sessions (STATISTICS.md section 4,
//! guard G1 of section 8).

use crate::domain::{CaseId, LaunchSummary, Metric, OutcomeKind};
use crate::stats::predictive::{Consensus, Prediction, Spread, slope};
use crate::stats::quantile::{median, pooled_deviations, quantile, quantile_spread, sorted};
use crate::verdict::policy::{K_GATE, PRIOR_SPREAD, SPREAD_FLOOR};
use crate::verdict::{ReferenceMove, Session};

/// A machine that moved by less than this is never called noisy (G1).
const NOISY_SHIFT: f64 = 0.05;
/// Nor one that moved by less than this many spreads.
const NOISY_SPREADS: f64 = 4.0;
/// The quantile over launches that makes a session's value.
const QUARTILE: f64 = 0.25;
/// A movement worth a sentence.
const NOTEWORTHY_SHIFT: f64 = 0.01;

/// How the machine moved, on the log scale of the reference workloads' latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// One movement a session of the history, each relative to the history's median.
    sessions: Vec<Consensus>,
    /// Head relative to the history's median.
    head: Consensus,
    /// Head lies further out than the history allows: its timings may not fail anything.
    pub noisy: bool,
    /// Reference workloads were planned and head has none of them: nobody watched the machine.
    unwatched: bool,
    /// Each reference workload.
    pub moves: Vec<ReferenceMove>,
}

/// What one reference workload says of the machine.
struct Reading {
    /// Each session relative to the history's median, where it was measured.
    sessions: Vec<Option<f64>>,
    /// Head, likewise.
    head: f64,
    /// How far such a value lies off by the workload's own noise.
    error: f64,
}

impl Machine {
    /// Reads the reference cases of head and of every session. Without any, nothing moved.
    pub fn read(references: &[CaseId], head: &[LaunchSummary], history: &[Session]) -> Self {
        let mut readings: Vec<Reading> = Vec::new();
        let mut moves = Vec::new();
        for case in references {
            let head_values = latencies(head, case);
            let base_values: Vec<Vec<f64>> = history.iter().map(|session| latencies(&session.launches, case)).collect();
            let sessions: Vec<Option<f64>> = base_values.iter().map(|values| lower_quartile(values)).collect();
            let known: Vec<f64> = sessions.iter().flatten().copied().collect();
            let head_level = lower_quartile(&head_values);
            moves.push(ReferenceMove {
                case: case.clone(),
                base: (!known.is_empty()).then(|| median(&known).exp()),
                head: head_level.map(f64::exp),
            });
            if let (false, Some(level)) = (known.is_empty(), head_level) {
                let center = median(&known);
                let pool = pooled_deviations(base_values.iter().chain([&head_values]).map(Vec::as_slice));
                readings.push(Reading {
                    sessions: sessions.iter().map(|value| value.map(|value| value - center)).collect(),
                    head: level - center,
                    error: quantile_spread(&pool, head_values.len(), QUARTILE).max(SPREAD_FLOOR),
                });
            }
        }
        let at = |of: &dyn Fn(&Reading) -> Option<f64>| {
            let seen: Vec<(f64, f64)> =
                readings.iter().filter_map(|reading| Some((of(reading)?, reading.error))).collect();
            Consensus::of(&seen)
        };
        let sessions: Vec<Consensus> = (0..history.len()).map(|s| at(&|reading| reading.sessions[s])).collect();
        let head = at(&|reading| Some(reading.head));
        let noisy = !readings.is_empty() && !sessions.is_empty() && {
            let prior = readings.iter().map(|reading| reading.error).fold(f64::INFINITY, f64::min).max(PRIOR_SPREAD);
            let seen: Vec<f64> = sessions.iter().map(|movement| movement.mean).collect();
            let scale = Prediction::new(&seen, Spread::of(&seen).gate(), prior, SPREAD_FLOOR).scale;
            (head.mean - median(&seen)).abs() > (NOISY_SPREADS * scale).max(NOISY_SHIFT)
        };
        let unwatched = !references.is_empty() && moves.iter().all(|moved| moved.head.is_none());
        Self { sessions, head, noisy, unwatched, moves }
    }

    /// Takes the machine's movement out of a case, on the badness scale: `used` says which sessions of the history
    /// `values` belong to. A long history tells the case's own sensitivity to what was seen; with a short one it is
    /// taken as 1, and only what the reference workloads agree on counts: their own noise is not the machine's.
    pub fn correct(&self, used: &[usize], values: &mut [f64], head: &mut f64) {
        let long = values.len() >= K_GATE;
        let of = |movement: Consensus| if long { movement.mean } else { movement.agreed };
        let machine: Vec<f64> = used.iter().map(|&s| of(self.sessions[s])).collect();
        let beta = if long { slope(&machine, values).unwrap_or(0.0).clamp(0.0, 1.5) } else { 1.0 };
        let center = median(&machine);
        for (value, moved) in values.iter_mut().zip(&machine) {
            *value -= beta * (moved - center);
        }
        *head -= beta * (of(self.head) - center);
    }

    /// One sentence where the machine moved by more than a percent.
    pub fn note(&self) -> Option<String> {
        if self.unwatched {
            return Some("no reference workload was measured in head: how the machine moved is not known".to_owned());
        }
        let shift = |of: fn(&Consensus) -> f64| {
            let sessions: Vec<f64> = self.sessions.iter().map(of).collect();
            of(&self.head) - if sessions.is_empty() { 0.0 } else { median(&sessions) }
        };
        let (seen, agreed) = (shift(|movement| movement.mean), shift(|movement| movement.agreed));
        let percent = |shift: f64| 100.0 * shift.exp_m1();
        if self.noisy {
            return Some(format!(
                "noisy session: the reference workloads moved by {:+.1} %, so the machine is not what it was, and its \
                 history decides no timing now: pairs do, or a run later or on a quieter machine",
                percent(seen)
            ));
        }
        (agreed.abs() > NOTEWORTHY_SHIFT).then(|| {
            format!(
                "the reference workloads agree that the machine moved by {:+.1} %; that much is taken out of every \
                 timing's change",
                percent(agreed)
            )
        })
    }
}

/// Log launch medians of a case's latency.
fn latencies(launches: &[LaunchSummary], case: &CaseId) -> Vec<f64> {
    launches
        .iter()
        .filter(|launch| launch.case == *case && launch.outcome.kind == OutcomeKind::Measured)
        .filter_map(|launch| launch.metrics.iter().find(|summary| summary.metric.name == Metric::LATENCY))
        .map(|summary| summary.median.ln())
        .filter(|value| value.is_finite())
        .collect()
}

fn lower_quartile(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| quantile(&sorted(values), QUARTILE))
}
