//! The suite format as types: what a file may say, before any of it is checked against anything.
//!
//! Doc comments here are the format's documentation: the JSON Schema carries them into editors. Must not know what
//! the keys lead to. Plain parameter keys of a benchmark are not fields, because the catalogue names them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::domain::{MetricKind, ParamValue};
use crate::suite::at::{At, Entries};
use crate::suite::kernel::KernelTable;
use crate::suite::quantity::{Amount, Bytes, Seconds, Share};

/// A performance suite: benchmarks, how precisely to measure them, and which changes fail CI.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a suite")]
#[schemars(title = "regrade suite")]
pub(super) struct SuiteFile {
    /// Version of this format. This version of regrade reads version 1.
    #[schemars(range(min = 1, max = 1))]
    pub(super) schema_version: At<i64>,
    /// Unique name of the suite: letters, digits, `-`, `_`, `.`.
    pub(super) name: At<String>,
    /// What the suite is for, in a sentence.
    #[serde(default)]
    pub(super) description: String,
    /// Backends that every benchmark runs on, unless it names its own. Default `["cpu"]`.
    pub(super) backends: Option<Vec<At<String>>>,
    /// The severity from which a regression fails CI. Default `moderate`.
    pub(super) gate: Option<Gate>,
    /// Metrics whose regression may fail CI; others are only shown. Default `["latency", "peak_memory"]`.
    pub(super) gate_metrics: Option<Vec<At<String>>>,
    /// Wall time that one session may take.
    pub(super) budget: Option<At<Seconds>>,
    /// Fresh processes in which each case is measured in a session. Default 5.
    #[schemars(range(min = 1))]
    pub(super) launches: Option<At<i64>>,
    /// Whether the pinned reference workloads run in every session and watch the machine. Default `true`; switch them
    /// off where what is measured does not follow this host.
    pub(super) reference_workloads: Option<bool>,
    /// A launch is killed after this long. Default `"5m"`.
    pub(super) timeout: Option<At<Seconds>>,
    /// A launch is killed above this resident size. No limit by default.
    pub(super) memory_limit: Option<At<Bytes>>,
    /// Tags of every benchmark, for `--tag`.
    #[serde(default)]
    pub(super) tags: Vec<At<String>>,
    /// Whom to ask about benchmarks that name nobody.
    pub(super) owner: Option<String>,
    /// Parameters for every model and operator that understands them, such as `threads = 1`.
    #[serde(default)]
    pub(super) defaults: Entries<At<Scalar>>,
    /// How long and how precisely a launch samples.
    #[serde(default)]
    pub(super) sampling: SamplingTable,
    /// How large a change has to be to matter.
    #[serde(default)]
    pub(super) thresholds: ThresholdsTable,
    /// What cases shall reach together: `"success_rate >= 95 %"`, or a table that names benchmarks with `over`.
    #[serde(default)]
    pub(super) targets: Vec<At<Goal>>,
    /// File with what devices cost, relative to this one, such as `"prices/on-demand.toml"`: launches tell what their work
    /// costs where their device has a price there.
    pub(super) prices: Option<At<String>>,
    /// How to build a checked-out tree, for comparisons of two git refs. Nothing by default.
    #[serde(default)]
    pub(super) build: BuildTable,
    /// The benchmarks, each written as `[[benchmark]]`.
    #[serde(default)]
    pub(super) benchmark: Vec<BenchmarkTable>,
}

/// How to make a checked-out tree ready to run its benchmarks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table that says how to build")]
#[schemars(title = "build")]
pub(super) struct BuildTable {
    /// Program and arguments, such as `["cargo", "build", "--release"]`; starts in each tree where regrade was started
    /// in the work tree.
    pub(super) command: Option<At<Vec<At<String>>>>,
    /// Environment variables of the build.
    pub(super) env: Entries<At<String>>,
    /// The build is killed after this long. Default `"60m"`.
    pub(super) timeout: Option<At<Seconds>>,
    /// Program of the tree that runs its models and operators as `<program> worker`, such as
    /// `"target/release/regrade"`. Needed only where benchmarks are not commands.
    pub(super) worker: Option<At<String>>,
    /// Program and arguments that link the worker anew with its code in another order; `{layout}` stands for the number
    /// of the order. Runs after the build, once for each order. Where a function happens to lie can move a benchmark by
    /// several per cent: pairs that go through many orders average that out.
    pub(super) relink: Option<At<Vec<At<String>>>>,
    /// How many orders `relink` makes, from 2 to 40. Default 12.
    pub(super) layouts: Option<At<u32>>,
}

/// A named workload and the cases it expands to. Parameters of the model or operator are plain keys of this table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a benchmark table")]
#[schemars(title = "benchmark")]
pub(super) struct BenchmarkTable {
    /// Name, unique in the suite: letters, digits, `-`, `_`, `.`. Case ids begin with it.
    pub(super) name: At<String>,
    /// A built-in model to run. Give exactly one of `model`, `operator`, `program`, `kernel`, `command`.
    pub(super) model: Option<At<String>>,
    /// A built-in operator to run.
    pub(super) operator: Option<At<String>>,
    /// A StableHLO program for XLA: a portable artifact with its manifest beside it (suites/models).
    pub(super) program: Option<At<String>>,
    /// A CUDA kernel of your own.
    pub(super) kernel: Option<At<KernelTable>>,
    /// A program and its arguments. `{axis}` stands for the axis' value; `{{axis}}` for the literal text.
    pub(super) command: Option<At<Vec<At<String>>>>,
    /// Parameters that take several values: every combination is a case. For a command or a kernel, names are free.
    #[serde(default)]
    pub(super) axes: Entries<At<Axis>>,
    /// Groups of axes that advance together instead of multiplying, such as `[["batch", "seq"]]`.
    #[serde(default)]
    pub(super) zip: Vec<At<Vec<At<String>>>>,
    /// Conditions on the machine, all of which must hold: `memory >= "40 GiB"`, `compute_capability >= 9.0`,
    /// `cores >= 8`, `device = "*H100*"`, `backend = "nvidia"`. Cases are skipped where they do not.
    #[serde(default)]
    pub(super) when: Vec<At<String>>,
    /// Tags beside those of the suite, for `--tag`.
    #[serde(default)]
    pub(super) tags: Vec<At<String>>,
    /// Whom to ask about this benchmark.
    pub(super) owner: Option<String>,
    /// Earlier names of this benchmark: its cases keep the history of theirs.
    #[serde(default)]
    pub(super) aliases: Vec<At<String>>,
    /// Backends, instead of the suite's.
    pub(super) backends: Option<Vec<At<String>>>,
    /// Metrics whose regression may fail CI, instead of the suite's.
    pub(super) gate_metrics: Option<Vec<At<String>>>,
    /// What the metrics of every case shall reach: `"latency <= 2 ms"`, or a table where there is more to say. And what
    /// its cases shall reach together: `"success_rate >= 95 %"`, the share of them that were measured.
    #[serde(default)]
    pub(super) targets: Vec<At<Goal>>,
    /// Limits that differ from the suite's.
    #[serde(default)]
    pub(super) thresholds: ThresholdsTable,
    /// Sampling rules that differ from the suite's.
    #[serde(default)]
    pub(super) sampling: SamplingTable,
    /// A launch is killed after this long, instead of the suite's time.
    pub(super) timeout: Option<At<Seconds>>,
    /// A launch is killed above this resident size, instead of the suite's.
    pub(super) memory_limit: Option<At<Bytes>>,
    /// Metrics that a command reports itself, by name, so that regrade knows which way is better.
    #[serde(default)]
    pub(super) metrics: Entries<MetricTable>,
    /// Environment variables of a command; `{axis}` is filled in as in `command`.
    #[serde(default)]
    pub(super) env: Entries<At<String>>,
    /// Directory in which a command starts, relative to where regrade was started.
    pub(super) working_dir: Option<At<String>>,
    /// Plain parameter keys: taken out of the table before serde sees it.
    #[serde(skip)]
    pub(super) params: Vec<PlainParam>,
}

/// A plain key of a benchmark that is none of the format's own.
#[derive(Debug, Clone)]
pub(super) struct PlainParam {
    /// Its name.
    pub(super) key: At<String>,
    /// Its value; nothing where that is a list or a table.
    pub(super) value: Option<At<Scalar>>,
}

/// A target: a bound of a metric, or a table with such a bound.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Goal {
    /// A metric, a comparison and a value: `hbm_utilization >= 0.85`, `latency <= 2 ms`, `flop_rate >= 1.6 TFLOP/s`.
    Bound(String),
    /// The same, with what else there is to say of it.
    Table(GoalTable),
}

impl<'de> Deserialize<'de> for Goal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GoalVisitor)
    }
}

struct GoalVisitor;

impl<'de> Visitor<'de> for GoalVisitor {
    type Value = Goal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target such as \"latency <= 2 ms\" or { that = \"latency <= 0.5\", of = \"naive\" }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Goal, E> {
        Ok(Goal::Bound(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Goal, A::Error> {
        GoalTable::deserialize(MapAccessDeserializer::new(map)).map(Goal::Table)
    }
}

/// A target with what else there is to say of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table that describes a target")]
pub(super) struct GoalTable {
    /// A metric, a comparison (`>=`, `<=`, `>`, `<`) and a value. With `of` the value is a ratio. `success_rate` is about all
    /// cases together: how many were measured, as a share of those that did not lack their hardware here.
    pub(super) that: At<String>,
    /// Another benchmark: the target is about this case's value over that benchmark's, at equal values of the axes that
    /// both have.
    pub(super) of: Option<At<String>>,
    /// Benchmarks whose cases a target of the suite is about; all by default. Not for targets of a benchmark.
    pub(super) over: Option<At<Texts>>,
    /// Conditions on this benchmark's axes, all of which must hold: `m = 8192`, `precision = "bf16"`, `backend = "nvidia"`.
    /// It is about no other case then.
    pub(super) when: Option<At<Texts>>,
    /// Where the goal comes from; shown beside it.
    pub(super) source: Option<String>,
    /// Whether missing it fails CI; otherwise it is only shown. Default `true`.
    pub(super) required: Option<bool>,
}

/// A text, or a list of them.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Texts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<At<String>>),
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Texts, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Texts::Several)
    }
}

/// The severity from which CI fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Gate {
    /// Any change that matters.
    Minor,
    /// The default.
    Moderate,
    /// Only what nobody would ship.
    Severe,
}

/// How long and how precisely a launch samples.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of sampling rules")]
pub(super) struct SamplingTable {
    /// Fewest samples kept, at least 10. Default 10.
    #[schemars(range(min = 10))]
    pub(super) min_samples: Option<At<i64>>,
    /// Most samples kept. Default 1000.
    #[schemars(range(min = 10))]
    pub(super) max_samples: Option<At<i64>>,
    /// Stop when the 95 % interval of the median is within this share of it. Default `"1%"`.
    pub(super) precision: Option<At<Share>>,
    /// Sampling goes on for at least this long, however precise. Default `"200ms"`.
    pub(super) min_time: Option<At<Seconds>>,
    /// Cap on sampling time; `min_samples` are taken even so. Default `"3s"`.
    pub(super) max_time: Option<At<Seconds>>,
    /// Iterations a sample are raised until a sample lasts this long. Default `"1ms"`.
    pub(super) min_sample_time: Option<At<Seconds>>,
    /// Cap on the warm-up. Default `"2s"`.
    pub(super) max_warmup: Option<At<Seconds>>,
}

/// How large a change of a metric has to be to matter.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of limits")]
pub(super) struct Limits {
    /// From here on a change is minor. Default `"2%"`.
    pub(super) minor: Option<At<Share>>,
    /// From here on a change is moderate. Default `"5%"`.
    pub(super) moderate: Option<At<Share>>,
    /// From here on a change is severe. Default `"15%"`.
    pub(super) severe: Option<At<Share>>,
    /// Changes smaller than this are never reported, whatever their percentage: a duration for metrics of time, a
    /// size for metrics of memory, a plain number in the metric's unit otherwise. None by default.
    pub(super) absolute_floor: Option<At<Amount>>,
}

/// Limits of all metrics, and tables of limits for single ones. A metric's own table wins over the general limits,
/// and a benchmark's tables win over the suite's.
#[derive(Debug, Clone, Default)]
pub(super) struct ThresholdsTable {
    /// For every metric that has no table of its own.
    pub(super) general: Limits,
    /// By metric name.
    pub(super) metrics: Entries<Limits>,
}

impl<'de> Deserialize<'de> for ThresholdsTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ThresholdsVisitor)
    }
}

struct ThresholdsVisitor;

impl<'de> Visitor<'de> for ThresholdsVisitor {
    type Value = ThresholdsTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut table = ThresholdsTable::default();
        while let Some(key) = map.next_key::<At<String>>()? {
            match key.as_str() {
                "minor" => table.general.minor = map.next_value()?,
                "moderate" => table.general.moderate = map.next_value()?,
                "severe" => table.general.severe = map.next_value()?,
                "absolute_floor" => table.general.absolute_floor = map.next_value()?,
                _ => table.metrics.0.push((key, map.next_value()?)),
            }
        }
        Ok(table)
    }
}

impl JsonSchema for ThresholdsTable {
    fn schema_name() -> Cow<'static, str> {
        "Thresholds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Limits::json_schema(generator);
        let of_a_metric = generator.subschema_for::<Limits>();
        schema.insert("additionalProperties".to_owned(), of_a_metric.into());
        schema
    }
}

/// The values of a parameter: a list, or a range of whole numbers.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Axis {
    /// One value after the other.
    List(Vec<At<Scalar>>),
    /// Whole numbers at equal distances or ratios.
    Range(RangeTable),
}

impl<'de> Deserialize<'de> for Axis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AxisVisitor)
    }
}

struct AxisVisitor;

impl<'de> Visitor<'de> for AxisVisitor {
    type Value = Axis;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list such as [1, 8] or a range such as { from = 64, to = 512, step = 64 }")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Axis, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Axis::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Axis, A::Error> {
        RangeTable::deserialize(MapAccessDeserializer::new(map)).map(Axis::Range)
    }
}

/// Whole numbers from `from` to at most `to`: give `step` (added) or `factor` (multiplied).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a range such as { from = 64, to = 512, step = 64 }")]
pub(super) struct RangeTable {
    /// First value.
    pub(super) from: i64,
    /// Last value, if the steps meet it.
    pub(super) to: i64,
    /// Distance of neighbours, at least 1.
    #[schemars(range(min = 1))]
    pub(super) step: Option<i64>,
    /// Ratio of neighbours, at least 2.
    #[schemars(range(min = 2))]
    pub(super) factor: Option<i64>,
}

/// A metric that a command reports itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table that describes a metric")]
pub(super) struct MetricTable {
    /// Unit symbol of the values, such as `tokens/s`.
    pub(super) unit: String,
    /// Which way is better.
    pub(super) direction: Better,
    /// The family of the metric, which decides how its noise is modelled.
    pub(super) kind: MetricKind,
    /// Values carry no noise: any difference is a change.
    #[serde(default)]
    pub(super) exact: bool,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    /// Time, memory.
    Lower,
    /// Throughput.
    Higher,
    /// A change is shown and never fails.
    Unknown,
}

/// A parameter's value: `true`, `false`, a number or a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar(pub(super) ParamValue);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, a number or a text")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(ParamValue::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(ParamValue::Int(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        if value.is_finite() {
            Ok(Scalar(ParamValue::Float(value)))
        } else {
            Err(E::custom(format!("a parameter cannot be {value}")))
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(ParamValue::Text(value.to_owned())))
    }
}

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["boolean", "number", "string"] })
    }
}
