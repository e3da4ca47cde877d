//! How many iterations make a sample, and how many more where work is injected. Pure arithmetic.
//!
//! Must not know how time passes or what an iteration is.

use crate::measure::MeasureError;

/// A sample lasts this many times the clock's resolution, so that reading the clock is 0.1 % of it at most.
const RESOLUTIONS_A_SAMPLE: f64 = 1000.0;

/// Growth of cold batches in one step: a first reading may be far from what follows.
const MOST_GROWTH: f64 = 16.0;

/// A batch is never made larger than this: whoever does nothing in four billion iterations does nothing at all.
const MOST_ITERATIONS: u64 = 1 << 32;

/// Largest extra work, as a fraction.
const MOST_INJECTION: f64 = 100.0;

/// How far the work really added may be from what was asked for, relative.
const INJECTION_ERROR: f64 = 0.1;

/// How far above the calibrated count to look for one that the injected fraction divides well.
const INJECTION_REACH: u64 = 1000;

/// The shortest a sample may be, seconds.
pub fn target_s(min_sample_time_s: f64, clock_resolution_s: f64) -> f64 {
    min_sample_time_s.max(RESOLUTIONS_A_SAMPLE * clock_resolution_s)
}

/// The size of the next cold batch when one of `iterations` took `wall_s`; `None` when that was long enough or no
/// larger batch is allowed.
pub fn next_iterations(iterations: u64, wall_s: f64, target_s: f64) -> Option<u64> {
    if wall_s >= target_s || iterations >= MOST_ITERATIONS {
        return None;
    }
    // A zero reading gives an infinite factor, which the cap makes finite.
    let factor = (target_s / wall_s).min(MOST_GROWTH);
    let wanted = (iterations as f64 * factor).ceil() as u64;
    Some(wanted.clamp(iterations + 1, MOST_ITERATIONS))
}

/// Iterations that last at least `target_s` when the fastest takes `fastest_s` each; at least 1.
pub fn iterations_for(fastest_s: f64, target_s: f64) -> u64 {
    ((target_s / fastest_s).ceil() as u64).clamp(1, MOST_ITERATIONS)
}

/// The iterations of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// What values are divided by.
    pub nominal: u64,
    /// What runs.
    pub executed: u64,
}

impl Batch {
    /// The smallest batch of at least `least` iterations whose extra work, in whole iterations, is within 10 % of
    /// the fraction asked for. `None` when there is none within reach, which only fractions under 0.1 % can cause.
    pub fn with_injection(least: u64, inject: f64) -> Option<Self> {
        if inject == 0.0 {
            return Some(Self { nominal: least, executed: least });
        }
        (least..least + INJECTION_REACH).find_map(|nominal| {
            let extra = (nominal as f64 * inject).round();
            let error = (extra / nominal as f64 - inject).abs();
            (error <= INJECTION_ERROR * inject).then(|| Self { nominal, executed: nominal + extra as u64 })
        })
    }
}

/// Refuses fractions that are no numbers, negative, or absurdly large.
pub fn validate_injection(inject: f64) -> Result<(), MeasureError> {
    if (0.0..=MOST_INJECTION).contains(&inject) { Ok(()) } else { Err(MeasureError::Injection(inject)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_long_beside_the_clock() {
        assert_eq!(target_s(1e-3, 1e-7), 1e-3);
        assert_eq!(target_s(1e-3, 1e-5), 1e-2);
    }

    #[test]
    fn cold_batches_grow_until_long_enough() {
        assert_eq!(next_iterations(1, 0.5, 0.1), None, "slow work needs one iteration");
        assert_eq!(next_iterations(10, 0.1, 0.1), None);
        assert_eq!(next_iterations(10, 0.05, 0.1), Some(20));
        assert_eq!(next_iterations(10, 0.0999, 0.1), Some(11), "always forward");
        assert_eq!(next_iterations(10, 1e-9, 0.1), Some(160), "never by more than the cap");
        assert_eq!(next_iterations(10, 0.0, 0.1), Some(160), "under a tick");
        assert_eq!(next_iterations(MOST_ITERATIONS - 1, 0.0, 0.1), Some(MOST_ITERATIONS));
        assert_eq!(next_iterations(MOST_ITERATIONS, 0.0, 0.1), None);
    }

    #[test]
    fn iterations_fill_the_target() {
        assert_eq!(iterations_for(2.0, 0.001), 1);
        assert_eq!(iterations_for(0.0003, 0.001), 4);
        assert_eq!(iterations_for(f64::MIN_POSITIVE, 1.0), MOST_ITERATIONS);
    }

    #[test]
    fn injected_work_comes_in_whole_iterations_near_what_was_asked_for() {
        let batch = |nominal, executed| Some(Batch { nominal, executed });
        assert_eq!(Batch::with_injection(5, 0.0), batch(5, 5));
        assert_eq!(Batch::with_injection(1, 1.0), batch(1, 2));
        assert_eq!(Batch::with_injection(1, 2.0), batch(1, 3));
        assert_eq!(Batch::with_injection(1, 0.5), batch(2, 3));
        // 2/7 is the first fraction within 10 % of 0.3: 1/3 is 11 % off.
        assert_eq!(Batch::with_injection(1, 0.3), batch(7, 9));
        assert_eq!(Batch::with_injection(100, 0.3), batch(100, 130));
        assert_eq!(Batch::with_injection(1, 0.001), batch(910, 911));
        assert_eq!(Batch::with_injection(1, 1e-5), None);
    }

    #[test]
    fn every_fraction_from_a_thousandth_up_finds_a_batch() {
        for least in [1, 2, 7, 150, 1500, 123_456] {
            for thousandths in 1..=3000 {
                let inject = f64::from(thousandths) / 1000.0;
                let batch = Batch::with_injection(least, inject).expect("within reach");
                let extra = (batch.executed - batch.nominal) as f64 / batch.nominal as f64;
                assert!(batch.nominal >= least && (extra / inject - 1.0).abs() <= 0.1 + 1e-12, "{least} {inject}");
            }
        }
    }

    #[test]
    fn impossible_fractions_are_refused() {
        for inject in [-0.1, f64::NAN, f64::INFINITY, 101.0] {
            assert!(validate_injection(inject).is_err(), "{inject}");
        }
        assert!(validate_injection(0.0).is_ok() && validate_injection(100.0).is_ok());
    }
}
