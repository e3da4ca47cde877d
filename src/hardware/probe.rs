//! Short measurements of the machine itself: how fine its clock is, and how evenly it gives time.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long the jitter probe spins.
const SPIN: Duration = Duration::from_millis(300);
/// Aimed length of a slice: short enough for thousands, long enough to hide the clock.
const SLICE: Duration = Duration::from_micros(100);

/// What equal slices of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    /// Median, seconds.
    pub p50_s: f64,
    /// 99th percentile, seconds.
    pub p99_s: f64,
    /// The longest, seconds.
    pub max_s: f64,
    /// Number of slices.
    pub slices: usize,
}

/// Spins on one core in equal slices and times each.
pub fn jitter() -> Jitter {
    let mut rounds = 1000;
    let slice = |rounds: u64| {
        let start = Instant::now();
        let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..rounds {
            state = black_box(state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1));
        }
        start.elapsed()
    };
    // Also lets the clock rise before anything counts.
    while slice(rounds) < SLICE {
        rounds += rounds / 4;
    }
    let start = Instant::now();
    let mut times = Vec::with_capacity(8192);
    while start.elapsed() < SPIN {
        times.push(slice(rounds).as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Jitter { p50_s: at(0.5), p99_s: at(0.99), max_s: at(1.0), slices: times.len() }
}

/// The smallest step that the monotonic clock was seen to make.
pub fn timer_resolution() -> Duration {
    let mut smallest = Duration::MAX;
    let mut last = Instant::now();
    let mut reads = 0;
    while reads < 10_000 || smallest == Duration::MAX {
        reads += 1;
        let now = Instant::now();
        let step = now - last;
        if !step.is_zero() {
            smallest = smallest.min(step);
        }
        last = now;
    }
    smallest
}
