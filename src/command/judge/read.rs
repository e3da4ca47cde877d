//! Recorded samples, as JSON or CSV. Every problem names its place and a remedy.

use std::collections::BTreeMap;
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
    let shown = path.display();
    let input = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        from_csv(&bytes).map_err(|what| usage(format!("{shown}: {what}")))?
    } else {
        serde_json::from_slice(&bytes).map_err(|error| {
            usage(format!(
                "{shown}: {error}; expected {{\"pairs\": [{{\"id\", \"unit\", \"lower_is_better\", \"interleaved\", \
                 \"base\": [[samples of a launch], …], \"head\": …}}], \"series\": [{{\"id\", \"values\": […]}}]}}"
            ))
        })?
    };
    for pair in input.pairs.iter().filter(|pair| pair.interleaved) {
        let (base, head) = (pair.base.len(), pair.head.len());
        if base != head {
            return Err(usage(format!(
                "{shown}: `{}` is interleaved, but base has {base} launches and head has {head}; give both the same, or \
                 set `interleaved` to false",
                pair.id
            )));
        }
    }
    Ok(input)
}

fn from_csv(bytes: &[u8]) -> Result<Input, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let mut pairs: Vec<(Pair, [BTreeMap<u64, usize>; 2])> = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|error| {
            format!(
                "{error}; the columns are id, side (base or head), launch, value, and if you like unit, \
                     lower_is_better, interleaved; a series has id and value alone"
            )
        })?;
        let line = || format!("`{}`", row.id);
        let Some(side) = row.side.as_deref().filter(|side| !side.is_empty()) else {
            if !row.value.is_finite() {
                return Err(format!("{}: {} is no measurement", line(), row.value));
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
            other => return Err(format!("{}: side `{other}`; it is `base` or `head`", line())),
        };
        let launch = row.launch.ok_or_else(|| format!("{}: no launch; number the processes of each side", line()))?;
        let at = pairs.iter().position(|(pair, _)| pair.id == row.id).unwrap_or_else(|| {
            let pair = Pair {
                id: row.id.clone(),
                unit: row.unit.clone().unwrap_or_default(),
                lower_is_better: row.lower_is_better.unwrap_or(true),
                interleaved: row.interleaved.unwrap_or(false),
                base: Vec::new(),
                head: Vec::new(),
            };
            pairs.push((pair, Default::default()));
            pairs.len() - 1
        });
        let (pair, known) = &mut pairs[at];
        let launches = if side == 0 { &mut pair.base } else { &mut pair.head };
        let place = *known[side].entry(launch).or_insert_with(|| {
            launches.push(Vec::new());
            launches.len() - 1
        });
        launches[place].push(row.value);
    }
    Ok(Input { pairs: pairs.into_iter().map(|(pair, _)| pair).collect(), series })
}
