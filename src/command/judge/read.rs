//! Recorded samples, as JSON or CSV. Every problem names its place and a remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::command::usage;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Comparisons.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// Histories.
    #[serde(default)]
    pub series: Vec<Series>,
}

/// Base and head of one metric.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Names it in the output.
    pub id: String,
    /// Unit symbol, such as `s`.
    #[serde(default)]
    pub unit: String,
    /// Whether less is better.
    #[serde(default = "yes")]
    pub lower_is_better: bool,
    /// Whether launch `i` of both sides ran next to each other.
    #[serde(default)]
    pub interleaved: bool,
    /// Samples of each launch of base.
    pub base: Vec<Vec<f64>>,
    /// Samples of each launch of head.
    pub head: Vec<Vec<f64>>,
}

/// A metric over time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Names it in the output.
    pub id: String,
    /// Unit symbol; not needed to find steps.
    #[serde(default, rename = "unit")]
    _unit: String,
    /// Which way is better; not needed to find steps.
    #[serde(default = "yes", rename = "lower_is_better")]
    _lower_is_better: bool,
    /// In order.
    pub values: Vec<f64>,
}

const fn yes() -> bool {
    true
}

/// One line of a CSV file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    /// `base` or `head`; absent in a series.
    side: Option<String>,
    /// Which launch; absent in a series.
    launch: Option<u64>,
    value: f64,
    unit: Option<String>,
    lower_is_better: Option<bool>,
    interleaved: Option<bool>,
}

/// Reads a file: CSV by its ending, JSON otherwise.
pub fn read(path: &Path) -> Result<Input> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Spreadsheets and some editors begin a file with a mark that is no part of what it says.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let shown = path.display();
    let wrong = |what: String| usage(format!("{shown}: {what}"));
    let input = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        from_csv(bytes).map_err(wrong)?
    } else {
        serde_json::from_slice(bytes).map_err(|error| {
            wrong(format!(
                "{error}; expected {{\"pairs\": [{{\"id\", \"unit\", \"lower_is_better\", \"interleaved\", \
                 \"base\": [[samples of a launch], …], \"head\": …}}], \"series\": [{{\"id\", \"values\": […]}}]}}"
            ))
        })?
    };
    check(&input).map_err(wrong)?;
    Ok(input)
}

fn check(input: &Input) -> Result<(), String> {
    let names = [
        ("pairs", input.pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>()),
        ("series", input.series.iter().map(|series| series.id.as_str()).collect()),
    ];
    for (kind, names) in names {
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.into_iter().find(|name| !seen.insert(*name)) {
            return Err(format!(
                "two {kind} are named `{twice}`; verdicts are found by their id, so give each its own"
            ));
        }
    }
    for pair in input.pairs.iter().filter(|pair| pair.interleaved) {
        let (base, head) = (pair.base.len(), pair.head.len());
        if base != head {
            return Err(format!(
                "`{}` is interleaved, but base has {base} launches and head has {head}; give both the same, or set \
                 `interleaved` to false",
                pair.id
            ));
        }
    }
    Ok(())
}

/// A comparison as its lines come in.
#[derive(Debug)]
struct Lines {
    unit: String,
    lower_is_better: bool,
    interleaved: bool,
    /// Samples by launch, of base and head.
    sides: [BTreeMap<u64, Vec<f64>>; 2],
}

fn from_csv(bytes: &[u8]) -> Result<Input, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    // In the order in which they first appear.
    let (mut order, mut pairs): (Vec<String>, BTreeMap<String, Lines>) = Default::default();
    let mut series: Vec<Series> = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|error| {
            format!(
                "{error}; the columns are id, side (base or head), launch, value, and if you like unit, \
                 lower_is_better, interleaved; a series has id and value alone"
            )
        })?;
        let name = format!("`{}`", row.id);
        let Some(side) = row.side.as_deref().filter(|side| !side.is_empty()) else {
            if !row.value.is_finite() {
                return Err(format!("{name}: {} is no measurement", row.value));
            }
            match series.iter_mut().find(|series| series.id == row.id) {
                Some(series) => series.values.push(row.value),
                None => series.push(Series {
                    id: row.id,
                    _unit: String::new(),
                    _lower_is_better: true,
                    values: vec![row.value],
                }),
            }
            continue;
        };
        let side = match side {
            "base" => 0,
            "head" => 1,
            other => return Err(format!("{name}: side `{other}`; it is `base` or `head`")),
        };
        let launch = row.launch.ok_or_else(|| format!("{name}: no launch; number the processes of each side"))?;
        let (unit, lower_is_better, interleaved) = (
            row.unit.clone().unwrap_or_default(),
            row.lower_is_better.unwrap_or(true),
            row.interleaved.unwrap_or(false),
        );
        let lines = pairs.entry(row.id.clone()).or_insert_with(|| {
            order.push(row.id.clone());
            Lines { unit: unit.clone(), lower_is_better, interleaved, sides: Default::default() }
        });
        if lines.unit != unit {
            return Err(format!("{name}: a line in `{}` and a line in `{unit}`; give all in one unit", lines.unit));
        }
        if (lines.lower_is_better, lines.interleaved) != (lower_is_better, interleaved) {
            return Err(format!("{name}: lower_is_better and interleaved must be the same on all of its lines"));
        }
        lines.sides[side].entry(launch).or_default().push(row.value);
    }
    let pair = |id: String| {
        let Lines { unit, lower_is_better, interleaved, sides: [base, head] } =
            pairs.remove(&id).expect("put there with the order");
        if interleaved && !base.keys().eq(head.keys()) {
            return Err(format!(
                "`{id}` is interleaved, but base and head have not the same launches; launch 3 of head is the one that \
                 ran beside launch 3 of base"
            ));
        }
        let [base, head] = [base, head].map(|side| side.into_values().collect());
        Ok(Pair { id, unit, lower_is_better, interleaved, base, head })
    };
    Ok(Input { pairs: order.into_iter().map(pair).collect::<Result<_, _>>()?, series })
}
