//! The summary columns of a metric, made from its samples when a launch is stored.
//!
//! Must not know where they are kept: every engine stores the same numbers.

use crate::domain::{Direction, Launch, LaunchSummary, MetricSummary, Samples, Value};
use crate::stats::quantile::quantile;

/// A launch without its vectors.
#[must_use]
pub fn of_launch(launch: &Launch) -> LaunchSummary {
    LaunchSummary {
        id: launch.id,
        case: launch.case.clone(),
        index: launch.index,
        outcome: launch.outcome.clone(),
        metrics: launch.samples.iter().map(of_samples).chain(launch.values.iter().map(of_value)).collect(),
    }
}

/// Summarises the samples of one metric; every statistic is NaN where there are none.
#[must_use]
pub fn of_samples(samples: &Samples) -> MetricSummary {
    let mut best_first = samples.values.clone();
    best_first.sort_unstable_by(f64::total_cmp);
    if samples.metric.direction == Direction::HigherIsBetter {
        best_first.reverse();
    }
    MetricSummary {
        metric: samples.metric.clone(),
        n: best_first.len() as u64,
        iterations: samples.iterations,
        median: badness_quantile(&best_first, 0.5),
        q25: badness_quantile(&best_first, 0.25),
        min: badness_quantile(&best_first, 0.0),
        q75: badness_quantile(&best_first, 0.75),
    }
}

/// A single value is its own summary.
#[must_use]
pub fn of_value(value: &Value) -> MetricSummary {
    MetricSummary {
        metric: value.metric.clone(),
        n: 1,
        iterations: 1,
        median: value.value,
        q25: value.value,
        min: value.value,
        q75: value.value,
    }
}

/// The type-7 quantile on the badness scale `dir * ln(x)` (STATISTICS.md section 2), back in the metric's unit.
///
/// Between two order statistics it is their geometric interpolation, so that `ln` of the result is the launch value;
/// on an order statistic it is that sample, exactly. Values of zero and less have no logarithm and are
/// interpolated linearly.
fn badness_quantile(best_first: &[f64], p: f64) -> f64 {
    let Some(last) = best_first.len().checked_sub(1) else {
        return f64::NAN;
    };
    let index = last as f64 * p;
    let share = index - index.floor();
    let pair = [best_first[index.floor() as usize], best_first[index.ceil() as usize]];
    if pair[0] == pair[1] || pair[0] <= 0.0 || pair[1] <= 0.0 {
        quantile(&pair, share)
    } else {
        quantile(&pair.map(f64::ln), share).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::{of_samples, of_value};
    use crate::domain::{Direction, Metric, Samples, Value};

    fn samples(direction: Direction, values: &[f64]) -> Samples {
        Samples {
            metric: Metric { direction, ..Metric::standard(Metric::LATENCY).unwrap() },
            iterations: 4,
            clock: None,
            values: values.to_vec(),
        }
    }

    #[test]
    fn agrees_with_the_worked_example_on_the_log_scale() {
        // STATISTICS.md, test vector 1.
        let s = of_samples(&samples(Direction::LowerIsBetter, &[10.2, 9.9, 10.0, 14.7, 10.1, 9.8, 10.3]));
        assert_eq!((s.n, s.iterations), (7, 4));
        assert_eq!((s.median, s.min), (10.1, 9.8));
        assert!((s.median.ln() - 2.312_535_423_847).abs() < 1e-12);
        assert!((s.q25.ln() - 2.297_559_925_067).abs() < 1e-12);
        assert!((s.min.ln() - 2.282_382_385_677).abs() < 1e-12);
    }

    #[test]
    fn the_good_side_follows_the_direction() {
        let s = of_samples(&samples(Direction::HigherIsBetter, &[1.0, 2.0, 3.0, 4.0, 5.0]));
        assert_eq!((s.min, s.q25, s.median, s.q75), (5.0, 4.0, 3.0, 2.0));
    }

    #[test]
    fn zeros_and_nothing_are_summarised_too() {
        let s = of_samples(&samples(Direction::LowerIsBetter, &[0.0, 1.0]));
        assert_eq!((s.min, s.median), (0.0, 0.5));
        let s = of_samples(&samples(Direction::LowerIsBetter, &[]));
        assert!(s.n == 0 && s.median.is_nan() && s.min.is_nan());
    }

    #[test]
    fn a_single_value_is_kept_exactly() {
        let metric = Metric::standard(Metric::PEAK_MEMORY).unwrap();
        let s = of_value(&Value { metric, value: 0.1 });
        assert_eq!((s.n, s.median, s.q75), (1, 0.1, 0.1));
    }
}
