//! The host's clocks and how finely they can be read.
//!
//! Must not know what is being timed.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Name of the clock behind `process_cpu_s`.
pub const PROCESS_CPU: &str = "process-cpu";

/// Reads taken to find the resolution: enough to meet an undisturbed pair on a busy machine, done in microseconds.
const READS: usize = 200;

/// CPU time of this process so far, user and system, all threads, seconds.
pub fn process_cpu_s() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// The coarser of the two host clocks' resolutions, seconds.
pub fn host_resolution_s() -> f64 {
    let start = Instant::now();
    let wall = resolution_s(|| start.elapsed().as_secs_f64());
    wall.max(resolution_s(process_cpu_s))
}

/// The smallest step seen between successive reads of a clock, seconds. Where reading costs more than a tick that is
/// the cost of a read, where ticks are coarse it is the tick: the larger of the two either way, which is what bounds
/// the error of a timed batch. Zero for a clock that stands still.
fn resolution_s(mut now: impl FnMut() -> f64) -> f64 {
    let mut smallest = f64::INFINITY;
    let mut last = now();
    for _ in 0..READS {
        let read = now();
        if read > last {
            smallest = smallest.min(read - last);
        }
        last = read;
    }
    if smallest.is_finite() { smallest } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that gives the scripted readings, then repeats the last.
    fn scripted(script: Vec<f64>) -> impl FnMut() -> f64 {
        let mut at = 0;
        move || {
            at += 1;
            script[(at - 1).min(script.len() - 1)]
        }
    }

    #[test]
    fn a_coarse_clock_has_its_tick() {
        assert_eq!(resolution_s(scripted(vec![1.0, 1.0, 1.0, 1.5, 1.5, 2.25])), 0.5);
    }

    #[test]
    fn a_clock_that_stands_still_or_runs_backwards_has_none() {
        assert_eq!(resolution_s(|| 7.0), 0.0);
        assert_eq!(resolution_s(scripted(vec![3.0, 2.0, 1.0])), 0.0);
    }

    #[test]
    fn the_host_has_one_that_a_millisecond_is_long_beside() {
        let seconds = host_resolution_s();
        assert!(seconds > 0.0 && seconds < 1e-3, "{seconds}");
    }

    #[test]
    fn cpu_time_never_runs_backwards() {
        let before = process_cpu_s();
        assert!(before >= 0.0 && process_cpu_s() >= before);
    }
}
