//! What is known of one GPU while it is measured: what it did before, its clocks, power and temperature, and what held its clocks
//! down.
//!
//! Must not know what runs there, nor what follows from a disturbance.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::hardware::Probe;
use crate::hardware::gpu::{FAULTS, Now};

/// How often the driver is asked what holds the clocks down: each time costs tens of microseconds between samples.
pub const ASK_EVERY: Duration = Duration::from_millis(20);

/// A sample whose clock is below this share of the settled one was disturbed (nvbench's rule, against the settled clock
/// instead of the nominal one, so that a capped card is not refused for ever).
const LEAST_CLOCK: f64 = 0.75;

/// Seconds over which energy is counted: the counter moves every 20 to 100 ms.
const ENERGY_S: f64 = 3.0;

/// One GPU.
#[derive(Debug)]
pub struct Watched {
    /// Its number, by CUDA's count.
    pub ordinal: i32,
    /// The driver's word on it, where there is one.
    pub probe: Option<Probe>,
    before: Now,
    errors_before: Option<u64>,
    /// Every reason for low clocks that was seen while samples were taken.
    reasons: BTreeMap<&'static str, u64>,
    /// Clocks, power and temperatures seen between samples.
    seen: Vec<Now>,
    /// Clock once it had settled, Hz.
    pub settled_hz: f64,
    clocks_mhz: Vec<f64>,
}

impl Watched {
    /// Takes the first look: before anything runs here, what is on the device belongs to others.
    #[must_use]
    pub fn new(ordinal: i32, probe: Option<Probe>) -> Self {
        Self {
            ordinal,
            before: probe.as_ref().map(Probe::now).unwrap_or_default(),
            errors_before: probe.as_ref().and_then(Probe::uncorrected_errors),
            probe,
            reasons: BTreeMap::new(),
            seen: Vec::new(),
            settled_hz: 0.0,
            clocks_mhz: Vec::new(),
        }
    }

    /// What the device says of itself; a fault that holds its clocks down.
    pub fn look(&mut self) -> Option<&'static str> {
        let now = self.probe.as_ref()?.now();
        let fault = now.limited_by.iter().find(|reason| FAULTS.contains(reason)).copied();
        for reason in &now.limited_by {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.seen.push(now);
        fault
    }

    /// Keeps the clock of a sample; the disturbance in it: `fell to 900 MHz from 1980 MHz`.
    pub fn fell(&mut self, hz: f64) -> Option<String> {
        self.clocks_mhz.push(hz / 1e6);
        (hz < LEAST_CLOCK * self.settled_hz)
            .then(|| format!("fell to {:.0} MHz from {:.0} MHz", hz / 1e6, self.settled_hz / 1e6))
    }

    /// Everything that was seen, as evidence has it.
    #[must_use]
    pub fn facts(&self) -> BTreeMap<String, Json> {
        let mut facts: BTreeMap<String, Json> = BTreeMap::new();
        let mut put = |name: &str, value: Json| {
            if !value.is_null() {
                facts.insert(name.to_owned(), value);
            }
        };
        if self.settled_hz > 0.0 {
            put("settled_mhz", json!(self.settled_hz / 1e6));
        }
        if !self.clocks_mhz.is_empty() {
            let of = |pick: fn(f64, f64) -> f64, start: f64| self.clocks_mhz.iter().copied().fold(start, pick);
            put("sm_mhz_min", json!(of(f64::min, f64::INFINITY)));
            let mut sorted = self.clocks_mhz.clone();
            sorted.sort_by(f64::total_cmp);
            put("sm_mhz_median", json!(sorted[sorted.len() / 2]));
            put("sm_mhz_max", json!(of(f64::max, 0.0)));
        }
        put("busy_percent_before", json!(self.before.busy_percent));
        put("sm_mhz_before", json!(self.before.sm_mhz));
        put("temperature_c_before", json!(self.before.temperature_c));
        put("processes_before", json!(self.before.processes.len()));
        put("limited_by", json!(self.reasons));
        let highest = |of: fn(&Now) -> Option<f64>| self.seen.iter().filter_map(of).reduce(f64::max);
        put("power_w_max", json!(highest(|now| now.power_w)));
        put("temperature_c_max", json!(highest(|now| now.temperature_c.map(f64::from))));
        put("memory_mhz_max", json!(highest(|now| now.memory_mhz.map(f64::from))));
        if let (Some(was), Some(is)) = (self.errors_before, self.probe.as_ref().and_then(Probe::uncorrected_errors)) {
            put("uncorrected_errors", json!(is.saturating_sub(was)));
        }
        facts
    }
}

/// Energy of one iteration on all of these GPUs together, joules, from seconds of them; `run` does so many. `None` where a
/// device does not count.
///
/// # Errors
/// When the work fails.
pub fn joules<E>(
    watched: &[Watched],
    latency_s: f64,
    mut run: impl FnMut(u64) -> Result<(), E>,
) -> Result<Option<f64>, E> {
    let counters = || -> Option<f64> { watched.iter().map(|one| one.probe.as_ref().and_then(Probe::energy_j)).sum() };
    let Some(before) = counters() else { return Ok(None) };
    let batch = ((0.05 / latency_s).ceil() as u64).clamp(1, 1 << 16);
    let (start, mut iterations) = (Instant::now(), 0_u64);
    while start.elapsed().as_secs_f64() < ENERGY_S {
        run(batch)?;
        iterations += batch;
    }
    Ok(counters().map(|after| (after - before) / iterations as f64))
}
