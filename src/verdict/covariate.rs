//! The reference workloads as a covariate: how much the machine itself moved between sessions (STATISTICS.md section 4,
//! guard G1 of section 8).

use crate::domain::{CaseId, LaunchSummary, Metric, OutcomeKind};
use crate::stats::predictive::{Prediction, Spread, agreed_median, slope};
use crate::stats::quantile::{median, quantile, sorted, standard_deviation};
use crate::verdict::policy::{K_GATE, PRIOR_SPREAD, SPREAD_FLOOR};
use crate::verdict::{ReferenceMove, Session};

/// A machine that moved by less than this is never called noisy (G1).
const NOISY_SHIFT: f64 = 0.05;
/// Nor one that moved by less than this many spreads.
const NOISY_SPREADS: f64 = 4.0;
/// A movement worth a sentence.
const NOTEWORTHY_SHIFT: f64 = 0.01;

/// How the machine moved, on the log scale of the reference workloads' latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// One movement a session of the history, each relative to the history's median.
    sessions: Vec<Movement>,
    /// Head relative to the history's median.
    head: Movement,
    /// Head lies further out than the history allows: its timings may not fail anything.
    pub noisy: bool,
    /// Each reference workload.
    pub moves: Vec<ReferenceMove>,
}

/// A movement of the machine between sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Movement {
    /// Median over the reference workloads.
    seen: f64,
    /// What of it the reference workloads agree on.
    agreed: f64,
}

impl Movement {
    fn of(moves: &[f64]) -> Self {
        if moves.is_empty() {
            return Self::default();
        }
        Self { seen: median(moves), agreed: agreed_median(moves) }
    }
}

impl Machine {
    /// Reads the reference cases of head and of every session. Without any, nothing moved.
    pub fn read(references: &[CaseId], head: &[LaunchSummary], history: &[Session]) -> Self {
        let mut per_reference: Vec<(Vec<Option<f64>>, f64)> = Vec::new();
        let mut moves = Vec::new();
        let mut spreads = Vec::new();
        for case in references {
            let head_values = latencies(head, case);
            let base_values: Vec<Vec<f64>> = history.iter().map(|session| latencies(&session.launches, case)).collect();
            spreads.extend(
                base_values.iter().chain([&head_values]).filter(|v| v.len() > 1).map(|v| standard_deviation(v)),
            );
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
                let centered = sessions.iter().map(|value| value.map(|value| value - center)).collect();
                per_reference.push((centered, level - center));
            }
        }
        if per_reference.is_empty() {
            let sessions = vec![Movement::default(); history.len()];
            return Self { sessions, head: Movement::default(), noisy: false, moves };
        }
        let sessions: Vec<Movement> = (0..history.len())
            .map(|s| per_reference.iter().filter_map(|(sessions, _)| sessions[s]).collect::<Vec<_>>())
            .map(|moves| Movement::of(&moves))
            .collect();
        let head = Movement::of(&per_reference.iter().map(|(_, head)| *head).collect::<Vec<_>>());
        let prior = if spreads.is_empty() { PRIOR_SPREAD } else { median(&spreads).max(PRIOR_SPREAD) };
        let seen: Vec<f64> = sessions.iter().map(|movement| movement.seen).collect();
        let scale = Prediction::new(&seen, Spread::of(&seen).gate(), prior, SPREAD_FLOOR).scale;
        let noisy = (head.seen - median(&seen)).abs() > (NOISY_SPREADS * scale).max(NOISY_SHIFT);
        Self { sessions, head, noisy, moves }
    }

    /// Takes the machine's movement out of a case, on the badness scale: `used` says which sessions of the history
    /// `values` belong to. A long history tells the case's own sensitivity to what was seen; with a short one it is
    /// taken as 1, and only what the reference workloads agree on counts: their own noise is not the machine's.
    pub fn correct(&self, used: &[usize], values: &mut [f64], head: &mut f64) {
        let long = values.len() >= K_GATE;
        let of = |movement: Movement| if long { movement.seen } else { movement.agreed };
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
        let shift = |of: fn(&Movement) -> f64| {
            let sessions: Vec<f64> = self.sessions.iter().map(of).collect();
            of(&self.head) - if sessions.is_empty() { 0.0 } else { median(&sessions) }
        };
        let (seen, agreed) = (shift(|movement| movement.seen), shift(|movement| movement.agreed));
        let percent = |shift: f64| 100.0 * shift.exp_m1();
        if self.noisy {
            return Some(format!(
                "noisy session: the reference workloads moved by {:+.1} %, so the machine is not what it was; nothing \
                 measured now can fail. Run again later, or on a quieter machine.",
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
    (!values.is_empty()).then(|| quantile(&sorted(values), 0.25))
}
