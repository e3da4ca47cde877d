//! How other tools decide, each on the same launches: their published rules with their defaults.
//!
//! A launch is one run of the benchmark program. Lower is better. Must not know the truth.

use regrade::stats::quantile::{median, quantile, sorted, standard_deviation};
use regrade::stats::student;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::recordings::{Launches, Trial};
use crate::worlds::Draw;

/// What a rule says of head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Slower.
    Worse,
    /// Faster.
    Better,
    /// Neither.
    Nothing,
}

/// A rule of another tool.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Name in tables.
    pub name: &'static str,
    /// Decides.
    pub rule: fn(&Trial, &mut Draw) -> Says,
}

/// All of them.
pub const PEERS: [Peer; 8] = [
    Peer { name: "github-action-benchmark, alert at 200 % (default)", rule: |trial, _| ratio(trial, 2.0) },
    Peer { name: "github-action-benchmark, alert at 110 %", rule: |trial, _| ratio(trial, 1.1) },
    Peer { name: "benchstat: Mann-Whitney, p < 0.05", rule: mann_whitney },
    Peer { name: "Welch's t on pooled samples, p < 0.05", rule: welch },
    Peer { name: "criterion: bootstrap, p < 0.05 and beyond 1 %", rule: criterion },
    Peer { name: "rustc-perf: Q3 + 3 IQR of earlier changes", rule: rustc_perf },
    Peer { name: "tachometer: 95 % interval beyond a horizon of 1 %", rule: |trial, _| tachometer(trial, 0.01) },
    Peer { name: "tachometer: horizon of 0 % (default)", rule: |trial, _| tachometer(trial, 0.0) },
];

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What a run of a benchmark program usually reports: time divided by iterations.
fn reported(launches: &Launches) -> Vec<f64> {
    launches.iter().map(|samples| mean(samples)).collect()
}

fn toward(worse: bool, better: bool) -> Says {
    match (worse, better) {
        (true, _) => Says::Worse,
        (_, true) => Says::Better,
        _ => Says::Nothing,
    }
}

/// One number now against one number before, as a ratio; faster is never an alert. Given the mean of all launches, which
/// is kinder to it than the single run that is usual.
fn ratio(trial: &Trial, alert: f64) -> Says {
    let ratio = mean(&reported(&trial.head)) / mean(&reported(&trial.base));
    toward(ratio > alert, false)
}

/// Two-sided Mann-Whitney U on the runs' reported values, exact without ties, else normal with ties and continuity
/// corrected (golang.org/x/perf).
fn mann_whitney(trial: &Trial, _: &mut Draw) -> Says {
    let (base, head) = (reported(&trial.base), reported(&trial.head));
    let (n, m) = (base.len(), head.len());
    let all = sorted(&[base.as_slice(), &head].concat());
    let wins = |a: f64, b: f64| {
        if a > b {
            1.0
        } else if a == b {
            0.5
        } else {
            0.0
        }
    };
    let u: f64 = head.iter().flat_map(|h| base.iter().map(move |b| wins(*h, *b))).sum();
    let ties = all.windows(2).any(|pair| pair[0] == pair[1]);
    let far = u.max((n * m) as f64 - u);
    let p = if ties {
        let (size, product) = ((n + m) as f64, (n * m) as f64);
        let equal: f64 = all.chunk_by(|a, b| a == b).map(|run| (run.len() as f64).powi(3) - run.len() as f64).sum();
        let spread = (product / 12.0 * (size + 1.0 - equal / (size * (size - 1.0)))).sqrt();
        2.0 * Normal::standard().sf((far - product / 2.0 - 0.5) / spread)
    } else {
        // Ways to choose the ranks of head, by U.
        let mut ways = vec![vec![0.0_f64; n * m + 1]; m + 1];
        ways[0][0] = 1.0;
        for rank in 1..=n + m {
            for chosen in (1..=m.min(rank)).rev() {
                let add = rank.saturating_sub(chosen);
                for sum in (add..=n * m).rev() {
                    ways[chosen][sum] += ways[chosen - 1][sum - add];
                }
            }
        }
        let total: f64 = ways[m].iter().sum();
        2.0 * ways[m][far as usize..].iter().sum::<f64>() / total
    };
    let half = (n * m) as f64 / 2.0;
    toward(p < 0.05 && u > half, p < 0.05 && u < half)
}

fn pooled(launches: &Launches) -> Vec<f64> {
    launches.iter().flatten().copied().collect()
}

/// Welch's t with its degrees of freedom (Welch 1947).
fn t_of(base: &[f64], head: &[f64]) -> (f64, f64) {
    let part = |values: &[f64]| standard_deviation(values).powi(2) / values.len() as f64;
    let (a, b) = (part(base), part(head));
    let degrees = (a + b).powi(2) / (a * a / (base.len() - 1) as f64 + b * b / (head.len() - 1) as f64);
    ((mean(head) - mean(base)) / (a + b).sqrt(), degrees)
}

/// Every sample of every launch taken for independent.
fn welch(trial: &Trial, _: &mut Draw) -> Says {
    let (t, degrees) = t_of(&pooled(&trial.base), &pooled(&trial.head));
    let p = 2.0 * StudentsT::new(0.0, 1.0, degrees).expect("degrees are positive").cdf(-t.abs());
    toward(p < 0.05 && t > 0.0, p < 0.05 && t < 0.0)
}

/// Criterion.rs on the pooled samples: a bootstrap t-test from the mixture of both sides, and the bootstrap interval of
/// the relative change of the mean wholly beyond the noise threshold. 500 resamples, where it makes 100,000.
fn criterion(trial: &Trial, draw: &mut Draw) -> Says {
    const RESAMPLES: usize = 500;
    const NOISE: f64 = 0.01;
    let (base, head) = (pooled(&trial.base), pooled(&trial.head));
    let mixture = [base.as_slice(), &head].concat();
    let resample = |from: &[f64], n: usize, draw: &mut Draw| -> Vec<f64> {
        (0..n).map(|_| from[draw.below(from.len())]).collect()
    };
    let t = t_of(&base, &head).0;
    let mut beyond = 0;
    let mut changes = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let null = t_of(&resample(&mixture, base.len(), draw), &resample(&mixture, head.len(), draw)).0;
        beyond += usize::from(null.abs() >= t.abs());
        changes.push(mean(&resample(&head, head.len(), draw)) / mean(&resample(&base, base.len(), draw)) - 1.0);
    }
    let different = (beyond as f64) < 0.05 * RESAMPLES as f64;
    let changes = sorted(&changes);
    let (low, high) = (quantile(&changes, 0.025), quantile(&changes, 0.975));
    toward(different && low > NOISE, different && high < -NOISE)
}

/// rustc-perf's fence around the changes between 30 earlier commits; a commit's value is the best of its runs. Here an
/// earlier commit is two launches of a round.
fn rustc_perf(trial: &Trial, _: &mut Draw) -> Says {
    let best = |launches: &[Vec<f64>]| launches.iter().map(|samples| median(samples)).fold(f64::INFINITY, f64::min);
    let commits: Vec<f64> = trial.history.chunks(2).rev().take(31).map(best).collect();
    let changes: Vec<f64> = commits.windows(2).map(|pair| (pair[0] / pair[1] - 1.0).abs()).collect();
    let changes = sorted(&changes);
    let (q1, q3) = (quantile(&changes, 0.25), quantile(&changes, 0.75));
    let fence = q3 + 3.0 * (q3 - q1);
    let change = best(&trial.head) / best(&trial.base) - 1.0;
    toward(change >= fence, change <= -fence)
}

/// Launches are added until the 95 % t-interval of the relative difference of means lies wholly on one side of every
/// horizon; slower or faster where it ends beyond one.
fn tachometer(trial: &Trial, horizon: f64) -> Says {
    const LEAST: usize = 5;
    let (base, head) = (reported(&trial.base), reported(&trial.head));
    let mut last = (f64::NEG_INFINITY, f64::INFINITY);
    for n in LEAST.min(base.len())..=base.len() {
        let (base, head) = (&base[..n], &head[..n]);
        let part = |values: &[f64]| standard_deviation(values).powi(2) / values.len() as f64;
        let (a, b) = (part(base), part(head));
        let degrees = t_of(base, head).1;
        let half = student::upper_quantile(degrees, 0.025) * (a + b).sqrt();
        let difference = mean(head) - mean(base);
        last = ((difference - half) / mean(base), (difference + half) / mean(base));
        let clear = |of: f64| of < last.0 || of > last.1;
        if clear(horizon) && clear(-horizon) {
            break;
        }
    }
    toward(last.0 > horizon, last.1 < -horizon)
}
