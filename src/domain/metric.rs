//! What a number means: unit, direction and kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Time, memory.
    LowerIsBetter,
    /// Throughput, utilisation.
    HigherIsBetter,
    /// A change is reported and never fails.
    #[default]
    Unknown,
}

/// The family a metric belongs to: it decides how noise is modelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Durations in seconds.
    Timing,
    /// Work per second.
    Rate,
    /// Bytes.
    Size,
    /// Whole numbers of things.
    Count,
    /// Dimensionless shares.
    #[default]
    Ratio,
}

/// A named quantity with unit, direction and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Lower-case snake name, unique within a case: `latency`, `peak_memory`.
    pub name: String,
    /// SI unit symbol the values are stored in: `s`, `B`, `FLOP/s`, `tokens/s`, `1`.
    pub unit: String,
    /// Which way is better; a client may leave it to the suite.
    #[serde(default)]
    pub direction: Direction,
    /// The family.
    #[serde(default)]
    pub kind: MetricKind,
    /// Values carry no noise: any difference is a change, no test is made (STATISTICS.md section 6).
    #[serde(default)]
    pub exact: bool,
    /// Restates another metric of the same launch (a rate made of a latency): shown, never judged, so that one
    /// change is not reported twice.
    #[serde(default)]
    pub derived: bool,
}

/// One row of the table of metrics that regrade itself produces.
struct Standard {
    name: &'static str,
    unit: &'static str,
    direction: Direction,
    kind: MetricKind,
    role: Role,
}

/// How far a metric of the table is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// With its noise.
    Noisy,
    /// Any difference is a change.
    Exact,
    /// Restates another metric.
    Derived,
}

const fn row(name: &'static str, unit: &'static str, direction: Direction, kind: MetricKind, role: Role) -> Standard {
    Standard { name, unit, direction, kind, role }
}

const STANDARD: &[Standard] = {
    use Direction::{HigherIsBetter as Higher, LowerIsBetter as Lower, Unknown};
    use MetricKind::{Count, Rate, Ratio, Size, Timing};
    use Role::{Derived, Exact, Noisy};
    &[
        row(Metric::LATENCY, "s", Lower, Timing, Noisy),
        row(Metric::CPU_TIME, "s", Lower, Timing, Noisy),
        row(Metric::LOAD_TIME, "s", Lower, Timing, Noisy),
        row(Metric::PEAK_MEMORY, "B", Lower, Size, Noisy),
        row(Metric::THROUGHPUT, "items/s", Higher, Rate, Derived),
        row(Metric::FLOP_RATE, "FLOP/s", Higher, Rate, Derived),
        row(Metric::BYTE_RATE, "B/s", Higher, Rate, Derived),
        row(Metric::USER_TIME, "s", Lower, Timing, Noisy),
        row(Metric::SYSTEM_TIME, "s", Lower, Timing, Noisy),
        row(Metric::CYCLES, "cycles", Lower, Count, Noisy),
        row(Metric::SM_CLOCK, "Hz", Unknown, Rate, Noisy),
        row(Metric::FLOPS_UTILIZATION, "1", Higher, Ratio, Derived),
        row(Metric::HBM_UTILIZATION, "1", Higher, Ratio, Derived),
        row(Metric::FLOPS_OF_MEASURED, "1", Higher, Ratio, Derived),
        row(Metric::HBM_OF_MEASURED, "1", Higher, Ratio, Derived),
        row(Metric::DEVICE_MEMORY, "B", Lower, Size, Exact),
        row(Metric::COMPILE_TIME, "s", Lower, Timing, Noisy),
        row(Metric::COMPILE_CPU_TIME, "s", Lower, Timing, Noisy),
        row(Metric::RELOAD_TIME, "s", Lower, Timing, Noisy),
        row(Metric::FIRST_STEP_TIME, "s", Lower, Timing, Noisy),
        row(Metric::DEVICE_TIME, "s", Lower, Timing, Noisy),
        row(Metric::CODE_SIZE, "B", Lower, Size, Exact),
        row(Metric::PROGRAM_MEMORY, "B", Lower, Size, Exact),
        row(Metric::TEMPORARY_MEMORY, "B", Lower, Size, Exact),
        row(Metric::COMPILED_FLOPS, "FLOP", Lower, Count, Exact),
        row(Metric::COMPILED_BYTES, "B", Lower, Size, Exact),
        row(Metric::UPLOAD_RATE, "B/s", Higher, Rate, Noisy),
        row(Metric::DOWNLOAD_RATE, "B/s", Higher, Rate, Noisy),
        row(Metric::REGISTERS, "registers", Lower, Count, Exact),
        row(Metric::SHARED_MEMORY, "B", Lower, Size, Exact),
        row(Metric::LOCAL_MEMORY, "B", Lower, Size, Exact),
        row(Metric::OCCUPANCY, "1", Higher, Ratio, Exact),
        row(Metric::ENERGY, "J", Lower, Rate, Noisy),
        row(Metric::BUS_RATE, "B/s", Higher, Rate, Derived),
        // In dollars unless the suite's prices are in another currency.
        row(Metric::COST_PER_PFLOP, "USD/PFLOP", Lower, Rate, Derived),
        row(Metric::COST_PER_MILLION_ITEMS, "USD/Mitems", Lower, Rate, Derived),
    ]
};

impl Metric {
    /// Wall time of one iteration, seconds.
    pub const LATENCY: &'static str = "latency";
    /// Process CPU time (user and system, all threads) of one iteration, seconds.
    pub const CPU_TIME: &'static str = "cpu_time";
    /// Time to load a workload in a fresh process: allocate, fill weights and inputs, compile; seconds.
    pub const LOAD_TIME: &'static str = "load_time";
    /// Highest resident set of the process, bytes.
    pub const PEAK_MEMORY: &'static str = "peak_memory";
    /// Items (tokens, images, elements) a second.
    pub const THROUGHPUT: &'static str = "throughput";
    /// Achieved rate from the declared operation count, FLOP/s.
    pub const FLOP_RATE: &'static str = "flop_rate";
    /// Achieved rate from the declared byte count, B/s.
    pub const BYTE_RATE: &'static str = "byte_rate";
    /// User CPU time of a foreign command, seconds.
    pub const USER_TIME: &'static str = "user_time";
    /// System CPU time of a foreign command, seconds.
    pub const SYSTEM_TIME: &'static str = "system_time";
    /// Cycles of a multiprocessor in one iteration: latency times the clock of the same sample, so that a change of clock does
    /// not pose as a change of code.
    pub const CYCLES: &'static str = "cycles";
    /// Average clock of the multiprocessors while a sample ran, Hz.
    pub const SM_CLOCK: &'static str = "sm_clock";
    /// Achieved operations over the datasheet's dense peak.
    pub const FLOPS_UTILIZATION: &'static str = "flops_utilization";
    /// Achieved bytes over the datasheet's memory bandwidth.
    pub const HBM_UTILIZATION: &'static str = "hbm_utilization";
    /// Achieved operations over those of a large matrix product in the same process.
    pub const FLOPS_OF_MEASURED: &'static str = "flops_of_measured";
    /// Achieved bytes over those of a large copy in the same process.
    pub const HBM_OF_MEASURED: &'static str = "hbm_of_measured";
    /// Most device memory that the workload's own buffers took at one time, bytes.
    pub const DEVICE_MEMORY: &'static str = "device_memory";
    /// Process CPU time of a compilation (all threads), seconds.
    pub const COMPILE_CPU_TIME: &'static str = "compile_cpu_time";
    /// Time to load a compiled program from its serialised form, as from a cache, seconds.
    pub const RELOAD_TIME: &'static str = "reload_time";
    /// Time of the first run in a process, seconds.
    pub const FIRST_STEP_TIME: &'static str = "first_step_time";
    /// Time in which the device worked on one step, by a profiler, seconds: what is left of the latency is the host's.
    pub const DEVICE_TIME: &'static str = "device_time";
    /// Machine code of a compiled program, bytes.
    pub const CODE_SIZE: &'static str = "code_size";
    /// What a compiled program needs of a device's memory at one time, by its compiler, bytes.
    pub const PROGRAM_MEMORY: &'static str = "program_memory";
    /// Of that, what is neither argument nor result, bytes.
    pub const TEMPORARY_MEMORY: &'static str = "temporary_memory";
    /// Operations of a run, by the compiler's count after its passes.
    pub const COMPILED_FLOPS: &'static str = "compiled_flops";
    /// Bytes that a run reads and writes, by the compiler's count after its passes.
    pub const COMPILED_BYTES: &'static str = "compiled_bytes";
    /// Bytes a second from the host's memory to the device's.
    pub const UPLOAD_RATE: &'static str = "upload_rate";
    /// Bytes a second from the device's memory to the host's.
    pub const DOWNLOAD_RATE: &'static str = "download_rate";
    /// Time to compile kernels or a program, seconds.
    pub const COMPILE_TIME: &'static str = "compile_time";
    /// Registers of a thread.
    pub const REGISTERS: &'static str = "registers";
    /// Shared memory of a block, static and dynamic, bytes.
    pub const SHARED_MEMORY: &'static str = "shared_memory";
    /// Local memory of a thread, bytes: spilled registers, and arrays that did not fit in registers.
    pub const LOCAL_MEMORY: &'static str = "local_memory";
    /// Share of a multiprocessor's threads that can be resident at once.
    pub const OCCUPANCY: &'static str = "occupancy";
    /// Energy of one iteration, from the device's counter over seconds of them, joules.
    pub const ENERGY: &'static str = "energy";
    /// Bytes a second that a collective moves over the links of each GPU: what NCCL calls bus bandwidth.
    pub const BUS_RATE: &'static str = "bus_rate";
    /// What 10^15 operations cost: the price of the device over the achieved rate.
    pub const COST_PER_PFLOP: &'static str = "cost_per_pflop";
    /// What a million items (tokens, images) cost: the price of the device over the throughput.
    pub const COST_PER_MILLION_ITEMS: &'static str = "cost_per_million_items";
    /// What units of costs say behind the currency, by the metric.
    const COSTS: [(&'static str, &'static str); 2] =
        [(Self::COST_PER_PFLOP, "PFLOP"), (Self::COST_PER_MILLION_ITEMS, "Mitems")];

    /// The metric of this name as regrade itself produces it, if it is one of those.
    #[must_use]
    pub fn standard(name: &str) -> Option<Self> {
        STANDARD.iter().find(|row| row.name == name).map(|row| Self {
            name: row.name.to_owned(),
            unit: row.unit.to_owned(),
            direction: row.direction,
            kind: row.kind,
            exact: row.role == Role::Exact,
            derived: row.role == Role::Derived,
        })
    }

    /// A cost in a currency; `None` of other metrics.
    #[must_use]
    pub fn cost(name: &str, currency: &str) -> Option<Self> {
        let (_, per) = Self::COSTS.iter().find(|(cost, _)| *cost == name)?;
        Some(Self { unit: format!("{currency}/{per}"), ..Self::standard(name)? })
    }

    /// Whether values in a unit may be this metric's: a throughput counts whatever its workload makes, tokens or images.
    #[must_use]
    pub fn takes(&self, unit: &str) -> bool {
        let counted = self.name == Self::THROUGHPUT && self.unit == "items/s" && unit.ends_with("/s");
        self.unit == unit || counted
    }

    /// Names of all metrics that regrade itself produces, in the order they are shown.
    pub fn standard_names() -> impl Iterator<Item = &'static str> {
        STANDARD.iter().map(|row| row.name)
    }
}
