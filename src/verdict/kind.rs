//! What a metric's kind demands before any statistics: signs, zeros, exactness (STATISTICS.md section 6).

use crate::domain::{Direction, Metric, MetricKind};
use crate::stats::quantile::median;

/// `+1` where lower is better, `-1` where higher is; unknown directions are judged like the first and never fail.
pub fn sign(metric: &Metric) -> f64 {
    match metric.direction {
        Direction::LowerIsBetter | Direction::Unknown => 1.0,
        Direction::HigherIsBetter => -1.0,
    }
}

/// How much a shift on the badness scale is of the base, by the metric's own values: a rate that is 1.25 times worse has
/// fallen by 20 %.
pub fn share(metric: &Metric, shift: f64) -> f64 {
    (sign(metric) * shift).exp_m1().abs()
}

/// The value that stands for several of one side; `None` for none.
pub fn typical(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| median(values))
}

/// Why a value can be no measurement of this metric.
pub fn impossible(metric: &Metric, value: f64) -> Option<String> {
    if !value.is_finite() {
        return Some(format!("{} is {value}", metric.name));
    }
    if value < 0.0 {
        return Some(format!("{} is negative: {value}", metric.name));
    }
    if metric.kind == MetricKind::Size && value > 0.0 && value < 1.0 {
        return Some(format!("{} is {value:e}, less than a byte", metric.name));
    }
    (value == 0.0 && metric.kind == MetricKind::Timing).then(|| format!("{} is zero", metric.name))
}

/// Whether reference workloads say anything about this metric.
pub fn follows_the_machine(metric: &Metric) -> bool {
    matches!(metric.kind, MetricKind::Timing | MetricKind::Rate)
}

/// The smallest spread believed of a metric at this value, on the log scale: sizes come in pages of the allocator, counts
/// that were to be exact in ones (`quantum / (sqrt(12) value)` is the spread of rounding).
pub fn spread_floor(metric: &Metric, value: f64, floor: f64) -> f64 {
    const PAGE: f64 = 4096.0;
    let quantum = match metric.kind {
        MetricKind::Size => PAGE,
        MetricKind::Count if metric.exact => 1.0,
        _ => 0.0,
    };
    // Nothing is smaller than a byte, whatever a worker says.
    if value > 0.0 { floor.max(quantum / (12.0_f64.sqrt() * value.max(1.0))) } else { floor }
}
