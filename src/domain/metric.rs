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
    derived: bool,
}

const STANDARD: &[Standard] = &[
    Standard {
        name: "latency",
        unit: "s",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Timing,
        derived: false,
    },
    Standard {
        name: "cpu_time",
        unit: "s",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Timing,
        derived: false,
    },
    Standard {
        name: "load_time",
        unit: "s",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Timing,
        derived: false,
    },
    Standard {
        name: "peak_memory",
        unit: "B",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Size,
        derived: false,
    },
    Standard {
        name: "throughput",
        unit: "items/s",
        direction: Direction::HigherIsBetter,
        kind: MetricKind::Rate,
        derived: true,
    },
    Standard {
        name: "flop_rate",
        unit: "FLOP/s",
        direction: Direction::HigherIsBetter,
        kind: MetricKind::Rate,
        derived: true,
    },
    Standard {
        name: "byte_rate",
        unit: "B/s",
        direction: Direction::HigherIsBetter,
        kind: MetricKind::Rate,
        derived: true,
    },
    Standard {
        name: "user_time",
        unit: "s",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Timing,
        derived: false,
    },
    Standard {
        name: "system_time",
        unit: "s",
        direction: Direction::LowerIsBetter,
        kind: MetricKind::Timing,
        derived: false,
    },
];

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

    /// The metric of this name as regrade itself produces it, if it is one of those.
    #[must_use]
    pub fn standard(name: &str) -> Option<Self> {
        STANDARD.iter().find(|row| row.name == name).map(|row| Self {
            name: row.name.to_owned(),
            unit: row.unit.to_owned(),
            direction: row.direction,
            kind: row.kind,
            exact: false,
            derived: row.derived,
        })
    }

    /// Names of all metrics that regrade itself produces, in the order they are shown.
    pub fn standard_names() -> impl Iterator<Item = &'static str> {
        STANDARD.iter().map(|row| row.name)
    }
}
