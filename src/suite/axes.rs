//! Axes → the combinations of values that a benchmark expands to.
//!
//! Must not know what the values mean beyond the catalogue's rules.

use std::collections::HashSet;
use std::ops::Range;

use crate::domain::ParamValue;
use crate::domain::workload::Entry;
use crate::suite::at::At;
use crate::suite::error::Problems;
use crate::suite::expand::MOST_CASES;
use crate::suite::format::{Axis, BenchmarkTable, RangeTable, Scalar};
use crate::suite::settings::check_name;
use crate::suite::suggest;
use crate::suite::work::{check_kernel_axis, check_value};

/// The axes of a benchmark, checked.
#[derive(Debug)]
pub(super) struct Axes {
    /// Names and values, in the order of the file.
    axes: Vec<(String, Vec<ParamValue>)>,
    /// Axes that advance together, as indices; every axis is in exactly one group.
    groups: Vec<Vec<usize>>,
}

impl Axes {
    /// How many combinations there are; no more than fit.
    pub(super) fn combinations(&self) -> usize {
        self.groups.iter().map(|group| self.len(group)).fold(1, usize::saturating_mul)
    }

    /// The axis values of a combination, in the order of the file. The last group advances fastest.
    pub(super) fn combination(&self, mut index: usize) -> Vec<(&str, &ParamValue)> {
        let mut at = vec![0; self.axes.len()];
        for group in self.groups.iter().rev() {
            let len = self.len(group);
            for &axis in group {
                at[axis] = index % len;
            }
            index /= len;
        }
        self.axes.iter().zip(at).map(|((name, values), at)| (name.as_str(), &values[at])).collect()
    }

    fn len(&self, group: &[usize]) -> usize {
        group.first().map_or(1, |&axis| self.axes[axis].1.len())
    }
}

/// Checks and expands the axes of a benchmark; nothing where that cannot be done, which is then noted.
pub(super) fn axes(benchmark: &BenchmarkTable, entry: Option<&Entry>, problems: &mut Problems) -> Option<Axes> {
    let mut axes = Vec::new();
    let mut complete = true;
    for (key, axis) in benchmark.axes.iter() {
        match values(key, axis, entry, benchmark.kernel.is_some(), problems) {
            Some(values) => axes.push((key.value.clone(), values)),
            None => complete = false,
        }
    }
    let groups = groups(benchmark, problems)?;
    let axes = Axes { axes, groups };
    (complete && same_lengths(benchmark, &axes, problems) && distinct(benchmark, &axes, problems)).then_some(axes)
}

fn values(
    key: &At<String>,
    axis: &At<Axis>,
    entry: Option<&Entry>,
    kernel: bool,
    problems: &mut Problems,
) -> Option<Vec<ParamValue>> {
    check_name(key, "an axis", problems);
    let list = match &axis.value {
        Axis::List(list) => list.clone(),
        Axis::Range(range) => match range_values(range) {
            Ok(numbers) => numbers
                .into_iter()
                .map(|number| At { value: Scalar(ParamValue::Int(number)), span: axis.span.clone() })
                .collect(),
            Err(message) => {
                problems.add(&axis.span, message, "as in { from = 64, to = 512, step = 64 }".to_owned());
                return None;
            }
        },
    };
    if list.is_empty() {
        let help = "give it at least one value, or remove it".to_owned();
        problems.add(&axis.span, format!("axis `{}` is empty", key.value), help);
        return None;
    }
    let mut good = match entry {
        Some(entry) => {
            let Some(param) = entry.all_params().find(|param| param.name == key.value) else {
                let known = entry.all_params().map(|param| param.name);
                let help = suggest::did_you_mean(key, known, &format!("parameters of `{}`", entry.name));
                problems.add(&key.span, format!("`{}` has no parameter `{}`", entry.name, key.value), help);
                return None;
            };
            let bad = list.iter().filter(|value| !check_value(entry, param, value, problems)).count();
            bad == 0
        }
        None if kernel => list.iter().filter(|value| !check_kernel_axis(key, value, problems)).count() == 0,
        None => true,
    };
    for value in &list {
        if let ParamValue::Text(text) = &value.0
            && (text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || "/@*?".contains(c)))
        {
            let help = "the value becomes part of case ids: use no spaces and none of / @ * ?".to_owned();
            problems.add(&value.span, format!("`{text}` cannot be a value of axis `{}`", key.value), help);
            good = false;
        }
    }
    good.then(|| list.into_iter().map(|value| value.value.0).collect())
}

fn range_values(range: &RangeTable) -> Result<Vec<i64>, String> {
    let RangeTable { from, to, step, factor } = *range;
    if from > to {
        return Err(format!("the range is empty: `from` ({from}) is above `to` ({to})"));
    }
    let next: Box<dyn Fn(i64) -> Option<i64>> = match (step, factor) {
        (Some(step), None) if step >= 1 => Box::new(move |value| value.checked_add(step)),
        (None, Some(factor)) if factor >= 2 && from >= 1 => Box::new(move |value| value.checked_mul(factor)),
        (Some(step), None) => return Err(format!("`step` must be at least 1, got {step}")),
        (None, Some(factor)) if factor < 2 => return Err(format!("`factor` must be at least 2, got {factor}")),
        (None, Some(_)) => return Err(format!("a range with a `factor` begins at 1 or above, got {from}")),
        _ => return Err("a range needs exactly one of `step` and `factor`".to_owned()),
    };
    let values: Vec<i64> = std::iter::successors(Some(from), |&value| next(value))
        .take_while(|&value| value <= to)
        .take(MOST_CASES + 1)
        .collect();
    if values.len() > MOST_CASES {
        return Err(format!("the range has more than {MOST_CASES} values"));
    }
    Ok(values)
}

/// The groups of axes, as indices into the file's order, in the order of their first axes.
fn groups(benchmark: &BenchmarkTable, problems: &mut Problems) -> Option<Vec<Vec<usize>>> {
    let names: Vec<&str> = benchmark.axes.iter().map(|(key, _)| key.as_str()).collect();
    let mut group_of: Vec<Option<usize>> = vec![None; names.len()];
    let mut good = true;
    for (number, group) in benchmark.zip.iter().enumerate() {
        if group.len() < 2 {
            let help = "name at least two axes that advance together".to_owned();
            problems.add(&group.span, "a `zip` group of fewer than two axes does nothing", help);
            good = false;
        }
        for name in &group.value {
            let (message, help) = match names.iter().position(|axis| *axis == name.value) {
                None => (
                    format!("no axis is named `{}`", name.value),
                    suggest::did_you_mean(name, names.iter().copied(), "axes"),
                ),
                Some(axis) if group_of[axis].is_some() => {
                    (format!("axis `{}` is zipped twice", name.value), "name it once".to_owned())
                }
                Some(axis) => {
                    group_of[axis] = Some(number);
                    continue;
                }
            };
            problems.add(&name.span, message, help);
            good = false;
        }
    }
    let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
    for (axis, group) in group_of.into_iter().enumerate() {
        match groups.iter_mut().find(|(number, _)| number.is_some() && *number == group) {
            Some((_, members)) => members.push(axis),
            None => groups.push((group, vec![axis])),
        }
    }
    good.then(|| groups.into_iter().map(|(_, members)| members).collect())
}

fn same_lengths(benchmark: &BenchmarkTable, axes: &Axes, problems: &mut Problems) -> bool {
    let mut good = true;
    for group in &axes.groups {
        let lengths: Vec<String> =
            group.iter().map(|&axis| format!("`{}` has {}", axes.axes[axis].0, axes.axes[axis].1.len())).collect();
        let len = axes.len(group);
        if group.iter().any(|&axis| axes.axes[axis].1.len() != len) {
            let help = "axes that advance together need equally many values".to_owned();
            let message = format!("zipped axes differ in length: {}", lengths.join(", "));
            problems.add(&place(benchmark, group), message, help);
            good = false;
        }
    }
    good
}

/// Checks that no group repeats itself: repeated values would make equal case ids.
fn distinct(benchmark: &BenchmarkTable, axes: &Axes, problems: &mut Problems) -> bool {
    let mut good = true;
    for group in &axes.groups {
        let mut seen = HashSet::new();
        for index in 0..axes.len(group) {
            let shown: Vec<String> =
                group.iter().map(|&axis| format!("{}={}", axes.axes[axis].0, axes.axes[axis].1[index])).collect();
            let shown = shown.join("/");
            if !seen.insert(shown.clone()) {
                let help = "every case needs its own id: list each value once".to_owned();
                problems.add(&place(benchmark, group), format!("`{shown}` occurs twice"), help);
                good = false;
            }
        }
    }
    good
}

/// Where a group is written: its axis, or its entry in `zip`.
fn place(benchmark: &BenchmarkTable, group: &[usize]) -> Range<usize> {
    match group {
        [axis] => benchmark.axes[*axis].1.span.clone(),
        [axis, ..] => {
            let name = &benchmark.axes[*axis].0.value;
            let zip = benchmark.zip.iter().find(|zip| zip.iter().any(|member| member.value == *name));
            zip.map_or(0..0, |zip| zip.span.clone())
        }
        [] => 0..0,
    }
}
