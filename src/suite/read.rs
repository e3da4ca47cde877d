//! TOML text → [`SuiteFile`]: syntax, unknown keys, types.
//!
//! Every unknown key is reported with the nearest known one; the lists of known keys are those of the serde types.
//! Must not know what the values mean.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, ValueDeserializer};

use crate::suite::at::At;
use crate::suite::error::Problems;
use crate::suite::format::{
    BenchmarkTable, BuildTable, GoalTable, Limits, MetricTable, PlainParam, RangeTable, SamplingTable, Scalar,
    SuiteFile,
};
use crate::suite::kernel::{ArgumentTable, KernelTable, ReferenceTable};
use crate::suite::known::keys_of;
use crate::suite::suggest;

/// Reads a text. `None` means that at least one problem was noted and the rest cannot be judged.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<SuiteFile> {
    let mut root = syntax(text, problems)?;
    let table = root.get_mut();
    if let Some((key, _)) = table.iter().find(|(key, value)| is(key, "benchmark") && is_table(value)) {
        let help = "write `[[benchmark]]`, in double brackets: a suite has a list of them".to_owned();
        problems.add(&key.span(), "`benchmark` must be a list of tables", help);
        return None;
    }
    sweep_suite(table, problems);

    let benchmarks = take_benchmarks(table);
    let suite = typed::<SuiteFile>(Deserializer::from(root), problems);
    let benchmarks: Vec<Option<BenchmarkTable>> =
        benchmarks.into_iter().map(|value| benchmark(value, problems)).collect();
    let mut suite = suite?;
    suite.benchmark = benchmarks.into_iter().collect::<Option<_>>()?;
    Some(suite)
}

fn is(key: &Spanned<Cow<'_, str>>, name: &str) -> bool {
    key.get_ref() == name
}

fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}

/// Takes the benchmarks out, so that each is read by itself and one bad benchmark does not hide the next.
fn take_benchmarks<'i>(table: &mut DeTable<'i>) -> Vec<Spanned<DeValue<'i>>> {
    let listed = table.iter_mut().find(|(key, _)| is(key, "benchmark"));
    match listed.map(|(_, value)| value.get_mut()) {
        Some(DeValue::Array(list)) => std::mem::replace(list, DeArray::new()).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn benchmark(mut value: Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<BenchmarkTable> {
    let params = match value.get_mut() {
        DeValue::Table(table) => take_params(table),
        _ => Vec::new(),
    };
    let Some(mut read) = typed::<BenchmarkTable>(ValueDeserializer::from(value), problems) else {
        // What is missing may be there, misspelt: parameters have other names than the format's own keys.
        for key in params.iter().map(|param| &param.key) {
            if let Some(near) = suggest::nearest(key, keys_of::<BenchmarkTable>().iter().copied()) {
                problems.add(&key.span, format!("unknown key `{}`", key.value), format!("did you mean `{near}`?"));
            }
        }
        return None;
    };
    read.params = params;
    Some(read)
}

/// Takes the keys out that are none of the format's own: parameters, and misspelt keys among them.
fn take_params(table: &mut DeTable<'_>) -> Vec<PlainParam> {
    let known = keys_of::<BenchmarkTable>();
    let mut params = Vec::new();
    for (key, value) in std::mem::take(table) {
        if known.contains(&key.get_ref().as_ref()) {
            table.insert(key, value);
            continue;
        }
        params.push(PlainParam {
            key: At { span: key.span(), value: key.into_inner().into_owned() },
            value: At::<Scalar>::deserialize(value.into_deserializer()).ok(),
        });
    }
    params.sort_by_key(|param| param.key.span.start);
    params
}

/// The tables of a text; nothing where it is not TOML, which is then noted.
fn syntax<'t>(text: &'t str, problems: &mut Problems) -> Option<Spanned<DeTable<'t>>> {
    match DeTable::parse(text) {
        Ok(root) => Some(root),
        Err(error) => {
            let help = "this is not valid TOML; see https://toml.io".to_owned();
            problems.add(&error.span().unwrap_or(0..0), error.message(), help);
            None
        }
    }
}

/// Reads a file of lists of tables that are all of one kind, `E`; nothing where it is not TOML or of other types, which is then noted.
pub(super) fn lists<F, E>(text: &str, problems: &mut Problems) -> Option<F>
where
    F: DeserializeOwned,
    E: DeserializeOwned,
{
    let mut root = syntax(text, problems)?;
    sweep(root.get_mut(), keys_of::<F>(), |_| false, problems);
    for (_, value) in root.get_mut().iter_mut() {
        let DeValue::Array(list) = value.get_mut() else { continue };
        for entry in list.iter_mut() {
            if let DeValue::Table(entry) = entry.get_mut() {
                sweep(entry, keys_of::<E>(), |_| false, problems);
            }
        }
    }
    typed(Deserializer::from(root), problems)
}

pub(super) fn typed<'de, T: Deserialize<'de>>(
    deserializer: impl serde::Deserializer<'de, Error = toml::de::Error>,
    problems: &mut Problems,
) -> Option<T> {
    match T::deserialize(deserializer) {
        Ok(value) => Some(value),
        Err(error) => {
            let missing = error.message().strip_prefix("missing field ");
            let message = missing.map_or_else(|| error.message().to_owned(), |key| format!("the key {key} is missing"));
            let help = missing.map(|key| match key {
                "`schema_version`" => "write `schema_version = 1` at the top of the file".to_owned(),
                key => format!("add {key} to this table"),
            });
            problems.add(&error.span().unwrap_or(0..0), message, help);
            None
        }
    }
}

fn sweep_suite(table: &mut DeTable<'_>, problems: &mut Problems) {
    sweep(table, keys_of::<SuiteFile>(), |_| false, problems);
    for (key, value) in table.iter_mut() {
        match (key.get_ref().as_ref(), value.get_mut()) {
            ("benchmark", DeValue::Array(benchmarks)) => {
                for benchmark in benchmarks.iter_mut() {
                    if let DeValue::Table(benchmark) = benchmark.get_mut() {
                        sweep_benchmark(benchmark, problems);
                    }
                }
            }
            ("sampling", DeValue::Table(inner)) => sweep(inner, keys_of::<SamplingTable>(), |_| false, problems),
            ("build", DeValue::Table(inner)) => sweep(inner, keys_of::<BuildTable>(), |_| false, problems),
            ("thresholds", DeValue::Table(inner)) => sweep_thresholds(inner, problems),
            ("targets", DeValue::Array(targets)) => sweep_targets(targets, problems),
            _ => {}
        }
    }
}

fn sweep_benchmark(table: &mut DeTable<'_>, problems: &mut Problems) {
    for (key, value) in table.iter_mut() {
        match (key.get_ref().as_ref(), value.get_mut()) {
            ("sampling", DeValue::Table(inner)) => sweep(inner, keys_of::<SamplingTable>(), |_| false, problems),
            ("thresholds", DeValue::Table(inner)) => sweep_thresholds(inner, problems),
            ("kernel", DeValue::Table(inner)) => sweep_kernel(inner, problems),
            ("axes", DeValue::Table(inner)) => sweep_each(inner, keys_of::<RangeTable>(), problems),
            ("metrics", DeValue::Table(inner)) => sweep_each(inner, keys_of::<MetricTable>(), problems),
            ("targets", DeValue::Array(targets)) => sweep_targets(targets, problems),
            _ => {}
        }
    }
}

fn sweep_targets(targets: &mut DeArray<'_>, problems: &mut Problems) {
    for target in targets.iter_mut() {
        if let DeValue::Table(inner) = target.get_mut() {
            sweep(inner, keys_of::<GoalTable>(), |_| false, problems);
        }
    }
}

fn sweep_kernel(table: &mut DeTable<'_>, problems: &mut Problems) {
    sweep(table, keys_of::<KernelTable>(), |_| false, problems);
    for (key, value) in table.iter_mut() {
        match (key.get_ref().as_ref(), value.get_mut()) {
            ("reference", DeValue::Table(inner)) => sweep(inner, keys_of::<ReferenceTable>(), |_| false, problems),
            ("arguments", DeValue::Array(arguments)) => {
                for argument in arguments.iter_mut() {
                    if let DeValue::Table(argument) = argument.get_mut() {
                        sweep(argument, keys_of::<ArgumentTable>(), |_| false, problems);
                    }
                }
            }
            _ => {}
        }
    }
}

fn sweep_thresholds(table: &mut DeTable<'_>, problems: &mut Problems) {
    let limits = keys_of::<Limits>();
    sweep(table, limits, is_table, problems);
    sweep_each(table, limits, problems);
}

fn sweep_each(table: &mut DeTable<'_>, known: &[&str], problems: &mut Problems) {
    for (_, value) in table.iter_mut() {
        if let DeValue::Table(inner) = value.get_mut() {
            sweep(inner, known, |_| false, problems);
        }
    }
}

/// Reports unknown keys and takes them out, so that the rest of the table can still be judged.
pub(super) fn sweep(
    table: &mut DeTable<'_>,
    known: &[&str],
    free: impl Fn(&Spanned<DeValue<'_>>) -> bool,
    problems: &mut Problems,
) {
    for (key, value) in std::mem::take(table) {
        if known.contains(&key.get_ref().as_ref()) || free(&value) {
            table.insert(key, value);
            continue;
        }
        let word = key.get_ref();
        let help = suggest::did_you_mean(word, known.iter().copied(), "keys here");
        problems.add(&key.span(), format!("unknown key `{word}`"), help);
    }
}
