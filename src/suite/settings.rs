//! What holds for a benchmark once the suite's settings and its own are laid over each other.
//!
//! Must not know workloads and axes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::domain::{Direction, Metric, Sampling, Severity, Target, Thresholds};
use crate::suite::at::At;
use crate::suite::error::Problems;
use crate::suite::format::{BenchmarkTable, Better, Gate, Limits, SamplingTable, SuiteFile, ThresholdsTable};
use crate::suite::quantity::{self, Amount, Bytes, Seconds};
use crate::suite::suggest;

/// Seconds until a launch is killed, where the suite says nothing.
const TIMEOUT_S: f64 = 300.0;

/// Settings of one benchmark.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) backends: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) owner: Option<String>,
    pub(super) thresholds: BTreeMap<String, Thresholds>,
    pub(super) gate_metrics: Vec<String>,
    pub(super) sampling: Sampling,
    pub(super) timeout_s: f64,
    pub(super) memory_limit: Option<u64>,
    pub(super) metrics: BTreeMap<String, Metric>,
}

impl From<Gate> for Severity {
    fn from(gate: Gate) -> Self {
        match gate {
            Gate::Minor => Self::Minor,
            Gate::Moderate => Self::Moderate,
            Gate::Severe => Self::Severe,
        }
    }
}

/// Checks what the suite says for all benchmarks, so that it is checked even where no benchmark uses it.
pub(super) fn check_suite(file: &SuiteFile, backends: &[&str], problems: &mut Problems) {
    let declared: BTreeMap<String, Metric> =
        file.benchmark.iter().flat_map(|benchmark| metrics(benchmark, &mut Problems::default())).collect();
    check_metric_names(file.gate_metrics.iter().flatten(), &declared, problems);
    check_gate(file.gate_metrics.iter().flatten(), problems);
    check_threshold_names(&file.thresholds, &declared, problems);
    sampling(&[&file.sampling], problems);
    thresholds(&[&file.thresholds], &declared, problems);
    check_backends(file.backends.as_deref(), backends, problems);
    positive(file.timeout.as_ref(), "timeout", problems);
    positive(file.budget.as_ref(), "budget", problems);
    check_memory(file.memory_limit.as_ref(), problems);
    check_tags(&file.tags, problems);
}

/// The settings of a benchmark. Suite-wide keys were checked by [`check_suite`].
pub(super) fn settings(
    file: &SuiteFile,
    benchmark: &BenchmarkTable,
    backends: &[&str],
    problems: &mut Problems,
) -> Settings {
    let metrics = metrics(benchmark, problems);
    check_metric_names(benchmark.gate_metrics.iter().flatten(), &metrics, problems);
    check_gate(benchmark.gate_metrics.iter().flatten(), problems);
    check_threshold_names(&benchmark.thresholds, &metrics, problems);
    check_backends(benchmark.backends.as_deref(), backends, problems);
    check_tags(&benchmark.tags, problems);
    positive(benchmark.timeout.as_ref(), "timeout", problems);
    check_memory(benchmark.memory_limit.as_ref(), problems);

    let texts = |list: &[At<String>]| list.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
    let named = benchmark.backends.as_deref().or(file.backends.as_deref());
    let gate_metrics = benchmark.gate_metrics.as_deref().or(file.gate_metrics.as_deref());
    let mut tags = texts(&file.tags);
    tags.extend(texts(&benchmark.tags));
    Settings {
        backends: named.map_or_else(|| vec!["cpu".to_owned()], texts),
        tags,
        owner: benchmark.owner.clone().or_else(|| file.owner.clone()),
        thresholds: thresholds(&[&file.thresholds, &benchmark.thresholds], &metrics, problems),
        gate_metrics: gate_metrics
            .map_or_else(|| vec![Metric::LATENCY.to_owned(), Metric::PEAK_MEMORY.to_owned()], texts),
        sampling: sampling(&[&file.sampling, &benchmark.sampling], problems),
        timeout_s: benchmark.timeout.as_ref().or(file.timeout.as_ref()).map_or(TIMEOUT_S, |time| time.0),
        memory_limit: benchmark.memory_limit.as_ref().or(file.memory_limit.as_ref()).map(|size| size.0),
        metrics,
    }
}

/// Checks that names are unique and made of letters, digits, `-`, `_`, `.`, and that aliases name nothing else.
pub(super) fn check_names(file: &SuiteFile, problems: &mut Problems) {
    check_name(&file.name, "a suite's name", problems);
    let mut names: HashMap<&str, &Range<usize>> = HashMap::new();
    for benchmark in &file.benchmark {
        check_name(&benchmark.name, "a benchmark's name", problems);
        if names.insert(&benchmark.name, &benchmark.name.span).is_some() {
            let help = "rename one of them, or make them one benchmark with an axis".to_owned();
            let message = format!("two benchmarks are named `{}`", benchmark.name.value);
            problems.add(&benchmark.name.span, message, help);
        }
    }
    for alias in file.benchmark.iter().flat_map(|benchmark| &benchmark.aliases) {
        check_name(alias, "an alias", problems);
        if names.insert(alias, &alias.span).is_some() {
            let message = format!("the alias `{}` is already a name or an alias in this suite", alias.value);
            problems.add(&alias.span, message, "an alias is a name that no benchmark has any more".to_owned());
        }
    }
}

/// Longest name, characters: names become parts of file names.
const LONGEST_NAME: usize = 100;

/// Checks a name's length and characters.
pub(super) fn check_name(name: &At<String>, what: &str, problems: &mut Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > LONGEST_NAME {
        let shown = &name.value.chars().take(20).collect::<String>();
        let help = format!("use at most {LONGEST_NAME} characters");
        problems.add(&name.span, format!("`{shown}…` is too long for {what}"), help);
    } else if !name.chars().any(|c| c.is_ascii_alphanumeric()) || !name.chars().all(allowed) {
        let help = "use letters, digits, `-`, `_` and `.`".to_owned();
        problems.add(&name.span, format!("`{}` cannot be {what}", name.value), help);
    }
}

fn check_tags(tags: &[At<String>], problems: &mut Problems) {
    for tag in tags {
        check_name(tag, "a tag", problems);
    }
}

/// Backends that not every build has, and how to have one that does.
const OPTIONAL: &[(&str, &str)] =
    &[("xla-crate:cpu", "this build does not have it: build regrade with the feature `xla-crate` (docs/xla.md)")];

/// The help for a backend that is not known.
pub(super) fn instead_of(name: &str, known: &[&str]) -> String {
    match OPTIONAL.iter().find(|(optional, _)| *optional == name) {
        Some((_, remedy)) => (*remedy).to_owned(),
        None => suggest::did_you_mean(name, known.iter().copied(), "backends"),
    }
}

fn check_backends(named: Option<&[At<String>]>, known: &[&str], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for name in named.unwrap_or_default() {
        if !known.contains(&name.as_str()) {
            problems.add(&name.span, format!("unknown backend `{}`", name.value), instead_of(name, known));
        } else if !seen.insert(name.as_str()) {
            let message = format!("backend `{}` is listed twice", name.value);
            problems.add(&name.span, message, "list it once".to_owned());
        }
    }
}

/// Less than any process needs to start, bytes.
const LEAST_MEMORY: u64 = 1 << 20;

fn check_memory(limit: Option<&At<Bytes>>, problems: &mut Problems) {
    if let Some(limit) = limit.filter(|limit| limit.0 < LEAST_MEMORY) {
        let help = "as in \"4 GiB\"; leave it out for no limit".to_owned();
        problems.add(&limit.span, "`memory_limit` is less than 1 MiB, which no process can start in", help);
    }
}

/// No session and no launch lasts longer, seconds.
const LONGEST_S: f64 = 30.0 * 24.0 * 3600.0;

pub(super) fn positive(time: Option<&At<Seconds>>, what: &str, problems: &mut Problems) {
    if let Some(time) = time.filter(|time| time.0 <= 0.0) {
        problems.add(&time.span, format!("`{what}` must be longer than nothing"), None);
    }
    if let Some(time) = time.filter(|time| time.0 > LONGEST_S) {
        problems.add(&time.span, format!("`{what}` is longer than 30 days"), None);
    }
}

/// The metrics that a benchmark's command reports itself.
pub(super) fn metrics(benchmark: &BenchmarkTable, problems: &mut Problems) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for (name, table) in benchmark.metrics.iter() {
        check_name(name, "a metric's name", problems);
        if Metric::standard(name).is_some() {
            let message = format!("`{}` is a metric that regrade itself produces", name.value);
            problems.add(&name.span, message, "give the command's metric another name".to_owned());
        }
        if name.value == Target::SUCCESS_RATE {
            let message = format!("`{}` is what targets call the share of cases that were measured", name.value);
            problems.add(&name.span, message, "give the command's metric another name".to_owned());
        }
        let direction = match table.direction {
            Better::Lower => Direction::LowerIsBetter,
            Better::Higher => Direction::HigherIsBetter,
            Better::Unknown => Direction::Unknown,
        };
        let metric = Metric {
            name: name.value.clone(),
            unit: table.unit.clone(),
            direction,
            kind: table.kind,
            exact: table.exact,
            derived: false,
        };
        metrics.insert(name.value.clone(), metric);
    }
    metrics
}

fn check_metric_names<'a>(
    names: impl Iterator<Item = &'a At<String>>,
    declared: &BTreeMap<String, Metric>,
    problems: &mut Problems,
) {
    for name in names {
        if Metric::standard(name).is_none() && !declared.contains_key(&name.value) {
            let help = metric_help(name, declared);
            problems.add(&name.span, format!("unknown metric `{}`", name.value), help);
        }
    }
}

/// The help for a metric that nobody knows.
pub(super) fn metric_help(name: &str, declared: &BTreeMap<String, Metric>) -> String {
    let mut known: Vec<&str> = Metric::standard_names().collect();
    known.extend(declared.keys().map(String::as_str));
    format!(
        "{}; a command's own metric is described in the benchmark's `metrics`",
        suggest::did_you_mean(name, known, "metrics")
    )
}

fn check_threshold_names(table: &ThresholdsTable, declared: &BTreeMap<String, Metric>, problems: &mut Problems) {
    check_metric_names(table.metrics.iter().map(|(name, _)| name), declared, problems);
}

/// A metric that only restates another is never judged, so it cannot gate.
fn check_gate<'a>(names: impl Iterator<Item = &'a At<String>>, problems: &mut Problems) {
    for name in names {
        if Metric::standard(name).is_some_and(|metric| metric.derived) {
            let message = format!("`{}` restates the latency and is never judged", name.value);
            problems.add(&name.span, message, "gate on `latency`".to_owned());
        }
    }
}

fn sampling(layers: &[&SamplingTable], problems: &mut Problems) -> Sampling {
    let mut rules = Sampling::default();
    for layer in layers {
        for (given, rule, name) in [
            (&layer.min_samples, &mut rules.min_samples, "min_samples"),
            (&layer.max_samples, &mut rules.max_samples, "max_samples"),
        ] {
            let Some(given) = given else { continue };
            match u32::try_from(given.value) {
                Ok(count) if count >= 10 => *rule = count,
                _ => {
                    let help = "fewer than 10 samples say nothing about a launch's median".to_owned();
                    problems.add(&given.span, format!("`{name}` must be at least 10, got {}", given.value), help);
                }
            }
        }
        for (given, rule, name) in [
            (&layer.min_time, &mut rules.min_time_s, "min_time"),
            (&layer.max_time, &mut rules.max_time_s, "max_time"),
            (&layer.min_sample_time, &mut rules.min_sample_time_s, "min_sample_time"),
            (&layer.max_warmup, &mut rules.max_warmup_s, "max_warmup"),
        ] {
            positive(given.as_ref(), name, problems);
            *rule = given.as_ref().map_or(*rule, |time| time.0);
        }
        if let Some(precision) = &layer.precision {
            if precision.0 <= 0.0 || precision.0 >= 1.0 {
                let help = "a usual precision is \"1%\"".to_owned();
                problems.add(&precision.span, "`precision` must be above 0 % and below 100 %", help);
            }
            rules.precision = precision.0;
        }
        let last = [&layer.max_time, &layer.min_time].into_iter().flatten().next();
        if let Some(last) = last.filter(|_| rules.min_time_s > rules.max_time_s) {
            let message = format!("`min_time` ({} s) is above `max_time` ({} s)", rules.min_time_s, rules.max_time_s);
            problems.add(&last.span, message, "raise `max_time`".to_owned());
        }
        let last = [&layer.max_samples, &layer.min_samples].into_iter().flatten().next();
        if let Some(last) = last.filter(|_| rules.min_samples > rules.max_samples) {
            let message =
                format!("`min_samples` ({}) is above `max_samples` ({})", rules.min_samples, rules.max_samples);
            problems.add(&last.span, message, "raise `max_samples`".to_owned());
        }
    }
    rules
}

/// Limits by metric, the row `*` for all others.
fn thresholds(
    layers: &[&ThresholdsTable],
    declared: &BTreeMap<String, Metric>,
    problems: &mut Problems,
) -> BTreeMap<String, Thresholds> {
    let general = layers.iter().map(|layer| (&layer.general, None));
    let mut rows = BTreeMap::from([("*".to_owned(), row(general, problems))]);

    let mut units: BTreeMap<&str, &str> = BTreeMap::new();
    let standard: Vec<Metric> = Metric::standard_names().filter_map(Metric::standard).collect();
    for metric in standard.iter().chain(declared.values()) {
        units.insert(&metric.name, &metric.unit);
    }
    for layer in layers {
        if let Some(floor) = &layer.general.absolute_floor
            && ["s", "B"].iter().all(|unit| general_floor(&floor.value, unit).is_none())
        {
            let help = "give it a unit, as in \"10us\" or \"4 MiB\", or put it into a metric's own table".to_owned();
            problems.add(&floor.span, "a floor for every metric must be a duration or a size", help);
        }
    }
    for (name, unit) in units {
        let own = layers.iter().any(|layer| layer.metrics.iter().any(|(key, _)| key.value == name));
        let floors = layers.iter().filter_map(|layer| layer.general.absolute_floor.as_ref());
        if !own && !floors.into_iter().any(|floor| general_floor(&floor.value, unit).is_some()) {
            continue;
        }
        let stack = layers.iter().flat_map(|layer| {
            let metric = layer.metrics.iter().filter(|(key, _)| key.value == name);
            let general = (&layer.general, Some((unit, false)));
            std::iter::once(general).chain(metric.map(|(_, limits)| (limits, Some((unit, true)))))
        });
        rows.insert(name.to_owned(), row(stack, problems));
    }
    rows
}

/// A floor given for all metrics, where it is of a metric's dimension.
fn general_floor(floor: &Amount, unit: &str) -> Option<f64> {
    match (floor, unit) {
        (Amount::Text(text), "s") => quantity::seconds(text).ok(),
        (Amount::Text(text), "B") => quantity::bytes(text).ok().map(|bytes| bytes as f64),
        _ => None,
    }
}

/// A floor given for one metric, in its unit.
fn own_floor(floor: &Amount, unit: &str) -> Result<f64, String> {
    match (floor, unit) {
        (Amount::Number(number), _) => Ok(*number),
        (Amount::Text(text), "s") => quantity::seconds(text),
        (Amount::Text(text), "B") => quantity::bytes(text).map(|bytes| bytes as f64),
        (Amount::Text(_), _) => Err(format!("this metric is in {unit}: give a plain number")),
    }
}

/// Lays limits over each other, later ones on top. The second part of a layer is the metric's unit, and whether the
/// layer is the metric's own; absent for the row of all metrics, which has no unit and so no floor.
fn row<'a>(layers: impl Iterator<Item = (&'a Limits, Option<(&'a str, bool)>)>, problems: &mut Problems) -> Thresholds {
    let mut row = Thresholds::default();
    let mut last: Option<&Range<usize>> = None;
    for (limits, metric) in layers {
        for (given, limit) in
            [(&limits.minor, &mut row.minor), (&limits.moderate, &mut row.moderate), (&limits.severe, &mut row.severe)]
        {
            if let Some(given) = given {
                *limit = given.0;
                last = Some(&given.span);
            }
        }
        match (&limits.absolute_floor, metric) {
            (Some(floor), Some((unit, true))) => match own_floor(&floor.value, unit) {
                Ok(value) => row.absolute_floor = Some(value),
                Err(message) => problems.add(&floor.span, message, None),
            },
            (Some(floor), Some((unit, false))) => {
                row.absolute_floor = general_floor(&floor.value, unit).or(row.absolute_floor);
            }
            _ => {}
        }
    }
    if let (Some(span), Err(error)) = (last, row.validate()) {
        let help = "limits that are not given are 2 %, 5 % and 15 %, or those of the suite".to_owned();
        problems.add(span, error.to_string(), help);
    }
    row
}
