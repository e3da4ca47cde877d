//! Noise made up on the log scale: the four machines of STATISTICS.md section 9, drawn from a seed.
//!
//! Must not know how anything is judged.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Iterations timed in a launch.
const ITERATIONS: usize = 10;
/// How much of the drift one launch inherits from the one before.
const DRIFT_KEPT: f64 = 0.97;
/// Chance that a burst of other people's work lasts for one more launch.
const BURST_STAYS: f64 = 0.65;
/// Chance that a slow clock stays slow for one more launch.
const SLOW_STAYS: f64 = 0.7;
/// What a slow clock costs, as a fraction.
const SLOW_COST: f64 = 0.12;

/// One kind of machine. Spreads are standard deviations in log units, the rest are chances.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Name in tables.
    pub name: &'static str,
    iteration: f64,
    outlier: f64,
    process: f64,
    drift: f64,
    burst: f64,
    session: f64,
    build: f64,
    slow: f64,
}

/// The four machines, each with its share of a suite of [`SUITE`] benchmarks.
pub const WORLDS: [(World, usize); 4] = [
    (world("quiet", [0.005, 0.01, 0.003, 0.002, 0.0, 0.003, 0.002, 0.0]), 80),
    (world("shared", [0.02, 0.03, 0.01, 0.01, 0.06, 0.01, 0.004, 0.0]), 70),
    (world("gpu", [0.008, 0.01, 0.004, 0.004, 0.0, 0.004, 0.001, 0.2]), 40),
    (world("nasty", [0.05, 0.06, 0.03, 0.03, 0.12, 0.02, 0.006, 0.0]), 10),
];

/// Benchmarks of the suite.
pub const SUITE: usize = 200;

const fn world(name: &'static str, of: [f64; 8]) -> World {
    let [iteration, outlier, process, drift, burst, session, build, slow] = of;
    World { name, iteration, outlier, process, drift, burst, session, build, slow }
}

/// The machine of a benchmark of the suite, by its place.
pub fn of_benchmark(at: usize) -> &'static World {
    let mut first = 0;
    for (world, count) in &WORLDS {
        first += count;
        if at < first {
            return world;
        }
    }
    panic!("the suite has {SUITE} benchmarks")
}

/// Seeded draws.
#[derive(Debug)]
pub struct Draw {
    random: ChaCha8Rng,
    spare: Option<f64>,
}

impl Draw {
    /// The stream `number` of a purpose: streams of different purposes or numbers have nothing in common.
    pub fn new(purpose: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(purpose);
        random.set_stream(number);
        Self { random, spare: None }
    }

    /// From zero to below one.
    pub fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.random.next_u32() & 1 == 0
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// Student's t with 5 degrees of freedom, scaled to a standard deviation of one.
    fn heavy(&mut self) -> f64 {
        let chi: f64 = (0..5).map(|_| self.normal().powi(2)).sum();
        self.normal() / (chi / 5.0).sqrt() / (5.0_f64 / 3.0).sqrt()
    }
}

impl World {
    /// A step that all launches of a session share, on the log scale.
    pub fn session_step(&self, draw: &mut Draw) -> f64 {
        self.session * draw.normal()
    }

    /// What the layout of a build costs, on the log scale.
    pub fn build_step(&self, draw: &mut Draw) -> f64 {
        self.build * draw.normal()
    }

    /// Medians of `n` launches made one after another, on the log scale, about zero.
    pub fn launches(&self, n: usize, draw: &mut Draw) -> Vec<f64> {
        let burst_height = |draw: &mut Draw| (0.05 + 0.35 * draw.uniform()).ln_1p();
        let starts = |chance: f64, stays: f64| chance * (1.0 - stays) / (1.0 - chance);
        let mut drift = self.drift * draw.normal();
        let mut burst = draw.uniform() < self.burst;
        let mut height = burst_height(draw);
        let mut slow = draw.uniform() < self.slow;
        (0..n)
            .map(|_| {
                drift = DRIFT_KEPT * drift + (1.0 - DRIFT_KEPT * DRIFT_KEPT).sqrt() * self.drift * draw.normal();
                let was = burst;
                burst = draw.uniform() < if was { BURST_STAYS } else { starts(self.burst, BURST_STAYS) };
                if burst && !was {
                    height = burst_height(draw);
                }
                slow = draw.uniform() < if slow { SLOW_STAYS } else { starts(self.slow, SLOW_STAYS) };
                let mood = drift + if burst { height } else { 0.0 } + if slow { SLOW_COST.ln_1p() } else { 0.0 };
                mood + self.process * draw.heavy() + self.median_of_iterations(draw)
            })
            .collect()
    }

    fn median_of_iterations(&self, draw: &mut Draw) -> f64 {
        let mut values = [0.0; ITERATIONS];
        for value in &mut values {
            *value = self.iteration * draw.normal();
            if draw.uniform() < self.outlier {
                // Pareto's tail with exponent 1.5, 15 % at its scale.
                let tail = (1.0 - draw.uniform()).powf(-1.0 / 1.5) - 1.0;
                *value += (0.15 * tail).min(20.0).ln_1p();
            }
        }
        values.sort_unstable_by(f64::total_cmp);
        f64::midpoint(values[ITERATIONS / 2 - 1], values[ITERATIONS / 2])
    }

    /// Differences head - base of `n` pairs, each in the order of a coin, for a true shift in log units.
    pub fn pairs(&self, n: usize, shift: f64, draw: &mut Draw) -> Vec<f64> {
        let launches = self.launches(2 * n, draw);
        launches
            .chunks_exact(2)
            .map(|pair| if draw.coin() { pair[1] - pair[0] } else { pair[0] - pair[1] } + shift)
            .collect()
    }
}
