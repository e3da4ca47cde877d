//! The committed recordings of real noise, and comparisons of known truth drawn from them.
//!
//! Rounds of the first half are for choosing rules, those of the second half only for reporting. Must not know how
//! comparisons are judged.

use std::path::Path;

use serde::Deserialize;

use crate::worlds::Draw;

/// What arms are recorded for, beside the two without extra work: extra work, as a fraction.
pub const EFFECTS: [f64; 5] = [0.01, 0.02, 0.05, 0.10, 0.25];

/// Which half of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// For choosing rules.
    Choosing,
    /// For reporting.
    Reporting,
}

/// Launches of one arm, each with its samples, seconds times some constant.
pub type Launches = Vec<Vec<f64>>;

/// One workload of one recording, all arms.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Recording and workload.
    pub name: String,
    /// Recording.
    pub recording: String,
    /// By arm: two honest ones, then [`EFFECTS`].
    arms: Vec<Launches>,
}

#[derive(Debug, Deserialize)]
struct File {
    machine: String,
    extra: Vec<f64>,
    workloads: Vec<Workload>,
}

#[derive(Debug, Deserialize)]
struct Workload {
    case: String,
    rounds: Vec<Round>,
}

#[derive(Debug, Deserialize)]
struct Round {
    latency: Vec<Vec<f64>>,
}

/// Base and head of known truth.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Launches without extra work.
    pub base: Launches,
    /// Launches with it, or without where there is no change.
    pub head: Launches,
    /// Older launches without extra work, two a round: what a rule that learns from history may learn from.
    pub history: Launches,
}

/// Every workload of every recording, and the machine they were made on.
pub fn read(folder: &Path) -> (String, Vec<Cell>) {
    let mut cells = Vec::new();
    let mut machine = String::new();
    for name in ["quiet", "busy"] {
        let path = folder.join(name).with_extension("json");
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: File = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(file.extra[..2] == [0.0; 2] && file.extra[2..] == EFFECTS, "{} has other arms", path.display());
        machine = file.machine;
        for workload in file.workloads {
            let arm = |arm: usize| workload.rounds.iter().map(|round| round.latency[arm].clone()).collect();
            cells.push(Cell {
                name: format!("{name}: {}", workload.case),
                recording: name.to_owned(),
                arms: (0..file.extra.len()).map(arm).collect(),
            });
        }
    }
    (machine, cells)
}

impl Cell {
    /// Rounds recorded.
    pub fn rounds(&self) -> usize {
        self.arms[0].len()
    }

    fn range(&self, half: Half) -> std::ops::Range<usize> {
        let middle = self.rounds() / 2;
        match half {
            Half::Choosing => 0..middle,
            Half::Reporting => middle..self.rounds(),
        }
    }

    /// A comparison over `n` successive rounds of a half, from a place drawn at random. Which honest arm of a round plays
    /// base is a coin, so that one recording gives many comparisons; `effect` is a place in [`EFFECTS`].
    pub fn interleaved(&self, half: Half, n: usize, effect: Option<usize>, draw: &mut Draw) -> Trial {
        let range = self.range(half);
        let start = range.start + draw.below(range.len() - n + 1);
        let (mut base, mut head) = (Vec::new(), Vec::new());
        for round in start..start + n {
            let honest = usize::from(draw.coin());
            base.push(self.arms[honest][round].clone());
            head.push(self.arms[effect.map_or(1 - honest, |effect| 2 + effect)][round].clone());
        }
        Trial { base, head, history: self.history(half) }
    }

    /// Base from `n` rounds of one stretch of time, head from `n` rounds of `other` (this recording, or another of the
    /// same workload) from another stretch that does not overlap.
    pub fn apart(&self, other: &Self, half: Half, n: usize, effect: Option<usize>, draw: &mut Draw) -> Trial {
        let range = self.range(half);
        let starts = if self.name == other.name {
            let first = range.start + draw.below(range.len() - 2 * n + 1);
            let second = first + n + draw.below(range.end - first - 2 * n + 1);
            if draw.coin() { [first, second] } else { [second, first] }
        } else {
            [0; 2].map(|_: usize| range.start + draw.below(range.len() - n + 1))
        };
        let [first, second] = starts;
        let honest = usize::from(draw.coin());
        let arm = effect.map_or(usize::from(draw.coin()), |effect| 2 + effect);
        Trial {
            base: self.arms[honest][first..first + n].to_vec(),
            head: other.arms[arm][second..second + n].to_vec(),
            history: self.history(half),
        }
    }

    /// Honest launches of the other half.
    fn history(&self, half: Half) -> Launches {
        let other = if half == Half::Choosing { Half::Reporting } else { Half::Choosing };
        self.range(other).flat_map(|round| [0, 1].map(|arm| self.arms[arm][round].clone())).collect()
    }
}
