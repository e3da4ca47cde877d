//! What the harness costs: the same work timed inside `measure`'s samples and in a plain loop, alternating in one
//! run, for samples of about a millisecond. The bar is 1 %.
//!
//! `cargo bench --bench overhead`. Trust the CPU-time columns on a busy machine, where wall times say who else ran.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anstream::println;
use regrade::domain::Sampling;
use regrade::measure::{Subject, SubjectError, measure};
use rustix::time::{ClockId, clock_gettime};

/// Each is one measurement and as many iterations in plain loops.
const ROUNDS: usize = 31;
/// Samples of a measurement.
const SAMPLES: u32 = 60;
/// Length of the plain loop of a round: as much work as the samples hold.
const PLAIN: Duration = Duration::from_millis(60);
/// The largest cost that meets the bar.
const BAR: f64 = 0.01;

/// A fixed amount of arithmetic that no optimiser can shorten: every step of xorshift needs the one before, and
/// steps do not fold into one as those of a linear generator do.
#[inline(never)]
fn spin(steps: u64) {
    let mut x = black_box(1u64);
    for _ in 0..steps {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
}

struct Spin {
    steps: u64,
}

impl Subject for Spin {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            spin(self.steps);
        }
        Ok(())
    }
}

fn cpu_s() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Wall and CPU seconds of some work.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_s());
    work();
    (start.elapsed().as_secs_f64(), cpu_s() - cpu)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Means, not medians: a timer interrupt falls into every long loop but only into some short samples.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Steps of [`spin`] that take about this long, by the best of some tries.
fn calibrate(length: Duration) -> u64 {
    const STEPS: u64 = 1_000_000;
    let best = (0..20).map(|_| timed(|| spin(STEPS)).0).fold(f64::INFINITY, f64::min);
    ((length.as_secs_f64() / best * STEPS as f64) as u64).max(1)
}

/// Costs relative to the plain loop, one value a round.
#[derive(Default)]
struct Costs {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    whole: Vec<f64>,
}

fn compare(length: Duration) -> Result<Costs, Box<dyn std::error::Error>> {
    let steps = calibrate(length);
    let sampling = Sampling { max_samples: SAMPLES, precision: 0.0, max_warmup_s: 0.02, ..Sampling::default() };
    let iterations = (PLAIN.as_secs_f64() / length.as_secs_f64()).ceil() as u64;
    let mut costs = Costs::default();
    for _ in 0..ROUNDS {
        let mut got = None;
        let (_, whole_cpu) = timed(|| got = Some(measure(&mut Spin { steps }, &sampling, 0.0)));
        let got = got.ok_or("it ran")??;
        let (plain_wall, plain_cpu) = timed(|| (0..iterations).for_each(|_| spin(steps)));
        let (plain_wall, plain_cpu) = (plain_wall / iterations as f64, plain_cpu / iterations as f64);

        let executed = got.warmup.iterations + got.executed * got.latency.len() as u64;
        costs.wall.push(mean(&got.latency) / plain_wall - 1.0);
        costs.cpu.push(mean(&got.cpu_time.ok_or("the host tells CPU time")?) / plain_cpu - 1.0);
        costs.whole.push(whole_cpu / executed as f64 / plain_cpu - 1.0);
    }
    Ok(costs)
}

/// Median and range in percent.
fn percent(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values.to_vec());
    format!("{:+.3} [{:+.2}, {:+.2}]", 100.0 * middle, 100.0 * low, 100.0 * high)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "cost of the harness over a plain loop, %: median [least, most] of {ROUNDS} rounds, samples of about 1 ms"
    );
    println!("{:>10}  {:>24}  {:>24}  {:>24}", "iteration", "sample, wall", "sample, CPU", "all of measure, CPU");
    let mut met = true;
    for length in [Duration::from_micros(1), Duration::from_micros(100), Duration::from_millis(1)] {
        let costs = compare(length)?;
        met &= median(costs.cpu.clone()) < BAR;
        let columns = [&costs.wall, &costs.cpu, &costs.whole].map(|values| percent(values));
        println!("{:>10}  {:>24}  {:>24}  {:>24}", format!("{length:?}"), columns[0], columns[1], columns[2]);
    }

    // What a sample pays beside its work: both clocks, read before and after an empty batch.
    let mut empty = Spin { steps: 0 };
    let calls = 10_000;
    let (total_s, _) = timed(|| (0..calls).for_each(|_| drop(black_box(empty.time(0)))));
    let inside = median((0..calls).filter_map(|_| Some(empty.time(0).ok()?.wall_s)).collect());
    println!(
        "one empty batch: {:.0} ns in all, of which {:.0} ns count as its wall time",
        total_s / f64::from(calls) * 1e9,
        inside * 1e9
    );
    println!("bar: under {:.0} % of a sample's CPU time: {}", 100.0 * BAR, if met { "met" } else { "missed" });
    Ok(())
}
