//! What a benchmark runs: its entry of the catalogue with fixed parameters, or its command.
//!
//! Must not know how cases are made of it.

use std::collections::BTreeMap;

use crate::domain::workload::{CATALOGUE, COMMON, Entry, PROGRAM, Param, ParamKind, find};
use crate::domain::{ParamValue, Workload, WorkloadKind};
use crate::suite::at::At;
use crate::suite::error::Problems;
use crate::suite::format::{BenchmarkTable, Scalar, SuiteFile};
use crate::suite::kernel::{self, KernelTable};
use crate::suite::known::keys_of;
use crate::suite::settings::check_name;
use crate::suite::suggest;
use crate::suite::template::{self, Template};

/// A workload without its axis values.
#[derive(Debug)]
pub(super) enum Work {
    /// A model or operator.
    BuiltIn {
        /// Its row.
        entry: &'static Entry,
        /// Every parameter that no axis sets.
        params: BTreeMap<String, ParamValue>,
        /// Those of them that the benchmark itself sets, and not the suite's defaults, which are for whom they suit.
        own: Vec<String>,
    },
    /// A kernel of the user's.
    Kernel {
        /// Name of the benchmark.
        name: String,
        /// As written.
        table: Box<KernelTable>,
        /// Parameters of measuring that no axis sets.
        params: BTreeMap<String, ParamValue>,
    },
    /// A program.
    Command {
        /// Name of the benchmark.
        name: String,
        /// Program and arguments.
        command: Vec<Template>,
        /// Environment variables.
        env: Vec<(String, Template)>,
    },
}

impl Work {
    /// The workload and the environment variables of a backend at axis values; nothing where a formula has no value there,
    /// which is then noted.
    pub(super) fn at(
        &self,
        axes: &[(&str, &ParamValue)],
        backend: &str,
        problems: &mut Problems,
    ) -> Option<(Workload, BTreeMap<String, String>)> {
        let values = axes.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone()));
        match self {
            Self::BuiltIn { entry, params, own } => {
                let mut params = params.clone();
                let asked =
                    |name: &str| own.iter().any(|own| own == name) || axes.iter().any(|(axis, _)| *axis == name);
                params.extend(values);
                // What only says how to measure means nothing elsewhere; what asks for other work stays, and the plan skips it.
                params.retain(|name, value| {
                    let foreign = entry.all_params().find(|param| param.name == name && !param.applies_to(backend));
                    foreign.is_none_or(|param| param.work && asked(name) && default_of(param).as_ref() != Some(value))
                });
                let workload = Workload {
                    kind: entry.kind,
                    name: entry.name.to_owned(),
                    params,
                    command: Vec::new(),
                    kernel: None,
                };
                Some((workload, BTreeMap::new()))
            }
            Self::Kernel { name, table, params } => {
                let mut params = params.clone();
                params.extend(values);
                let kernel = kernel::resolve(table, axes, problems)?;
                let workload = Workload {
                    kind: WorkloadKind::Kernel,
                    name: name.clone(),
                    params,
                    command: Vec::new(),
                    kernel: Some(Box::new(kernel)),
                };
                Some((workload, BTreeMap::new()))
            }
            Self::Command { name, command, env } => {
                let workload = Workload {
                    kind: WorkloadKind::Command,
                    name: name.clone(),
                    params: values.collect(),
                    command: command.iter().map(|part| part.fill(axes)).collect(),
                    kernel: None,
                };
                Some((workload, env.iter().map(|(name, value)| (name.clone(), value.fill(axes))).collect()))
            }
        }
    }
}

/// The row of a benchmark's model or operator.
pub(super) fn entry(benchmark: &BenchmarkTable) -> Option<&'static Entry> {
    let model = benchmark.model.as_ref().map(|name| (WorkloadKind::Model, name));
    let operator = benchmark.operator.as_ref().map(|name| (WorkloadKind::Operator, name));
    if runs_program(benchmark) {
        return Some(&PROGRAM);
    }
    model.or(operator).and_then(|(kind, name)| find(kind, name))
}

/// Whether a benchmark runs a program for XLA: one, or several along an axis.
fn runs_program(benchmark: &BenchmarkTable) -> bool {
    benchmark.program.is_some() || program_axis(benchmark)
}

fn program_axis(benchmark: &BenchmarkTable) -> bool {
    benchmark.axes.iter().any(|(key, _)| key.value == PROGRAM.name)
}

/// Checks the suite's defaults that no benchmark could understand.
pub(super) fn check_defaults(file: &SuiteFile, problems: &mut Problems) {
    for (key, _) in file.defaults.iter() {
        let known = || CATALOGUE.iter().flat_map(Entry::all_params).map(|param| param.name);
        if !known().any(|name| name == key.value) {
            let mut names: Vec<&str> = known().collect();
            names.sort_unstable();
            names.dedup();
            let help = suggest::did_you_mean(key, names, "parameters");
            problems.add(&key.span, format!("no workload has a parameter `{}`", key.value), help);
        }
    }
}

/// What a benchmark runs; nothing where that cannot be told, which is then noted.
pub(super) fn work(
    file: &SuiteFile,
    benchmark: &BenchmarkTable,
    backends: &[String],
    problems: &mut Problems,
) -> Option<Work> {
    let kinds = [
        (WorkloadKind::Model, "model", benchmark.model.as_ref()),
        (WorkloadKind::Operator, "operator", benchmark.operator.as_ref()),
    ];
    let given = kinds.iter().filter(|(_, _, name)| name.is_some()).count()
        + usize::from(runs_program(benchmark))
        + usize::from(benchmark.command.is_some())
        + usize::from(benchmark.kernel.is_some());
    if given != 1 {
        let help = "give exactly one of `model`, `operator`, `program`, `kernel`, `command`".to_owned();
        let message = match given {
            0 => format!("benchmark `{}` runs nothing", benchmark.name.value),
            _ => format!("benchmark `{}` runs several things", benchmark.name.value),
        };
        problems.add(&benchmark.name.span, message, help);
        unknown_params(benchmark, None, problems);
        return None;
    }
    if let Some(parts) = &benchmark.command {
        unknown_params(benchmark, None, problems);
        return command(benchmark, parts, problems);
    }
    for (keys, what) in [
        (benchmark.metrics.first().map(|(key, _)| key), "metrics"),
        (benchmark.env.first().map(|(key, _)| key), "env"),
        (benchmark.working_dir.as_ref(), "working_dir"),
    ] {
        if let Some(key) = keys {
            problems.add(&key.span, format!("only a command takes `{what}`"), "remove it".to_owned());
        }
    }
    if runs_program(benchmark) {
        return Some(program(file, benchmark, problems));
    }
    if let Some(table) = &benchmark.kernel {
        return Some(kernel(benchmark, table, backends, problems));
    }
    let (kind, word, name) = kinds.into_iter().find_map(|(kind, word, name)| Some((kind, word, name?)))?;
    let Some(entry) = find(kind, name) else {
        unknown_workload(kind, word, name, problems);
        return None;
    };
    check_reach(benchmark, entry, backends, problems);
    Some(Work::BuiltIn { entry, params: params(file, benchmark, entry, problems), own: own(benchmark) })
}

/// Notes parameters that none of the benchmark's backends understands: they would do nothing.
fn check_reach(benchmark: &BenchmarkTable, entry: &Entry, backends: &[String], problems: &mut Problems) {
    let plain = benchmark.params.iter().map(|param| &param.key);
    for key in plain.chain(benchmark.axes.iter().map(|(key, _)| key)) {
        let param = entry.all_params().find(|param| param.name == key.value);
        let only = param.and_then(|param| param.only);
        if let Some(only) = only.filter(|only| !backends.iter().any(|backend| backend == only)) {
            let message = format!("only the {only} backend understands `{}`", key.value);
            let help = format!("add \"{only}\" to the benchmark's `backends`, or remove it");
            problems.add(&key.span, message, help);
        }
    }
}

fn unknown_workload(kind: WorkloadKind, word: &str, name: &At<String>, problems: &mut Problems) {
    let other = match kind {
        WorkloadKind::Model => (WorkloadKind::Operator, "operator"),
        _ => (WorkloadKind::Model, "model"),
    };
    let help = if find(other.0, name).is_some() {
        format!("`{}` is of the other kind: write `{} = \"{}\"`", name.value, other.1, name.value)
    } else {
        let known = CATALOGUE.iter().filter(|entry| entry.kind == kind).map(|entry| entry.name);
        suggest::did_you_mean(name, known, &format!("{word}s"))
    };
    problems.add(&name.span, format!("unknown {word} `{}`", name.value), help);
}

/// Notes plain keys that are no parameters of the entry (of none, where there is no entry).
fn unknown_params(benchmark: &BenchmarkTable, entry: Option<&Entry>, problems: &mut Problems) {
    for param in &benchmark.params {
        let word = param.key.as_str();
        let params: Vec<&str> = entry.iter().flat_map(|entry| entry.all_params()).map(|param| param.name).collect();
        if params.contains(&word) {
            continue;
        }
        let near = suggest::nearest(word, params.iter().chain(keys_of::<BenchmarkTable>()).copied());
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let known = match entry {
            Some(entry) => format!("known parameters of `{}`: {}", entry.name, params.join(", ")),
            None if benchmark.command.is_some() => "parameters of a command are written as `axes`".to_owned(),
            None => format!("known keys here: {}", keys_of::<BenchmarkTable>().join(", ")),
        };
        let message = format!("unknown key `{word}` in benchmark `{}`", benchmark.name.value);
        problems.add(&param.key.span, message, format!("{near}{known}"));
    }
}

fn params(
    file: &SuiteFile,
    benchmark: &BenchmarkTable,
    entry: &Entry,
    problems: &mut Problems,
) -> BTreeMap<String, ParamValue> {
    unknown_params(benchmark, Some(entry), problems);
    let mut values = BTreeMap::new();
    for param in entry.all_params() {
        let axis = benchmark.axes.iter().any(|(key, _)| key.value == param.name);
        let plain = benchmark.params.iter().find(|plain| plain.key.value == param.name);
        if let Some(plain) = plain.filter(|_| axis) {
            let message = format!("`{}` is set here and by an axis", param.name);
            problems.add(&plain.key.span, message, "keep one of the two".to_owned());
            continue;
        }
        if axis {
            continue;
        }
        let default = || file.defaults.iter().find(|(key, _)| key.value == param.name).map(|(_, value)| value);
        let given = plain.map_or_else(default, |plain| plain.value.as_ref());
        if let Some(plain) = plain.filter(|plain| plain.value.is_none()) {
            let message = format!("`{}` takes one value here", param.name);
            let help = format!("several values go under `axes`: {} = [...]", param.name);
            problems.add(&plain.key.span, message, help);
        }
        match given {
            Some(value) => {
                if check_value(entry, param, value, problems) {
                    values.insert(param.name.to_owned(), value.0.clone());
                }
            }
            None => values.extend(default_of(param).map(|value| (param.name.to_owned(), value))),
        }
    }
    values
}

fn own(benchmark: &BenchmarkTable) -> Vec<String> {
    benchmark.params.iter().map(|param| param.key.value.clone()).collect()
}

/// The value of a parameter that nobody sets.
pub(super) fn default_of(param: &Param) -> Option<ParamValue> {
    match param.kind {
        ParamKind::Size { default } => Some(ParamValue::Int(default)),
        ParamKind::Flag { default } => Some(ParamValue::Bool(default)),
        ParamKind::Choice(choices) => choices.first().map(|choice| ParamValue::Text((*choice).to_owned())),
        ParamKind::Index => Some(ParamValue::Int(0)),
        ParamKind::OptionalText | ParamKind::OptionalSize => None,
    }
}

/// No size or count of a built-in workload is larger: 2^40.
const LARGEST: i64 = 1 << 40;

/// Whether a value suits a parameter; what does not is noted.
pub(super) fn check_value(entry: &Entry, param: &Param, value: &At<Scalar>, problems: &mut Problems) -> bool {
    let wanted = match (param.kind, &value.0) {
        (ParamKind::Size { .. } | ParamKind::OptionalSize, ParamValue::Int(1..=LARGEST))
        | (ParamKind::Index, ParamValue::Int(0..=LARGEST))
        | (ParamKind::Flag { .. }, ParamValue::Bool(_))
        | (ParamKind::OptionalText, ParamValue::Text(_)) => return true,
        (ParamKind::Choice(choices), ParamValue::Text(text)) if choices.contains(&text.as_str()) => return true,
        (ParamKind::Size { .. } | ParamKind::OptionalSize | ParamKind::Index, ParamValue::Int(1..)) => {
            format!("at most {LARGEST}")
        }
        (ParamKind::Size { .. } | ParamKind::OptionalSize, _) => "a whole number of at least 1".to_owned(),
        (ParamKind::Index, _) => "a whole number of at least 0".to_owned(),
        (ParamKind::Flag { .. }, _) => "true or false".to_owned(),
        (ParamKind::OptionalText, _) => "a text".to_owned(),
        (ParamKind::Choice(choices), _) => format!("one of {}", choices.join(", ")),
    };
    let near = match (param.kind, &value.0) {
        (ParamKind::Choice(choices), ParamValue::Text(text)) => suggest::nearest(text, choices.iter().copied()),
        _ => None,
    };
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let message = format!("`{}` of `{}` must be {wanted}, got `{}`", param.name, entry.name, value.0);
    problems.add(&value.span, message, format!("{near}`{}` is: {}", param.name, param.help));
    false
}

/// Parameters that say how something is measured on a GPU, whatever it is.
fn measuring() -> impl Iterator<Item = &'static Param> {
    COMMON.iter().filter(|param| param.only.is_some())
}

/// Whether a value is one that the axis of a kernel's benchmark may have; a problem is noted. Axes of other names are the user's
/// own.
pub(super) fn check_kernel_axis(name: &str, value: &At<Scalar>, problems: &mut Problems) -> bool {
    let param = measuring().find(|param| param.name == name);
    param.is_none_or(|param| check_value(&KERNEL, param, value, problems))
}

/// A kernel takes the parameters that say how it is measured; everything else about it is in its table.
fn kernel(benchmark: &BenchmarkTable, table: &At<KernelTable>, backends: &[String], problems: &mut Problems) -> Work {
    if backends != ["nvidia"] {
        let help = "write backends = [\"nvidia\"] in this benchmark or at the top of the suite".to_owned();
        problems.add(&table.span, "kernels run on the nvidia backend alone", help);
    }
    let mut params = BTreeMap::new();
    for param in measuring() {
        let axis = benchmark.axes.iter().any(|(key, _)| key.value == param.name);
        let given = benchmark.params.iter().find(|plain| plain.key.value == param.name);
        if let Some(plain) = given.filter(|plain| axis || plain.value.is_none()) {
            let (message, help) = if axis {
                (format!("`{}` is set here and by an axis", param.name), "keep one of the two".to_owned())
            } else {
                let help = format!("several values go under `axes`: {} = [...]", param.name);
                (format!("`{}` takes one value here", param.name), help)
            };
            problems.add(&plain.key.span, message, help);
        }
        if axis {
            continue;
        }
        match given.and_then(|plain| plain.value.as_ref()) {
            Some(value) if check_value(&KERNEL, param, value, problems) => {
                params.insert(param.name.to_owned(), value.0.clone());
            }
            Some(_) => {}
            None => params.extend(default_of(param).map(|value| (param.name.to_owned(), value))),
        }
    }
    for plain in benchmark.params.iter().filter(|plain| !measuring().any(|param| param.name == plain.key.value)) {
        let names: Vec<&str> = measuring().map(|param| param.name).collect();
        let help = format!("a kernel takes {}; its sizes are written as `axes`", names.join(", "));
        problems.add(
            &plain.key.span,
            format!("unknown key `{}` in benchmark `{}`", plain.key.value, benchmark.name.value),
            help,
        );
    }
    Work::Kernel { name: benchmark.name.value.clone(), table: Box::new(table.value.clone()), params }
}

/// A program from a file, or one of several along an axis.
fn program(file: &SuiteFile, benchmark: &BenchmarkTable, problems: &mut Problems) -> Work {
    let mut params = params(file, benchmark, &PROGRAM, problems);
    if let Some(path) = &benchmark.program {
        if program_axis(benchmark) {
            let help = "keep one of the two".to_owned();
            problems.add(&path.span, "`program` is set here and by an axis".to_owned(), help);
        }
        params.insert(PROGRAM.name.to_owned(), ParamValue::Text(path.value.clone()));
    }
    Work::BuiltIn { entry: &PROGRAM, params, own: own(benchmark) }
}

/// Stands in messages for what a benchmark's kernel is.
const KERNEL: Entry = Entry { kind: WorkloadKind::Kernel, name: "kernel", help: "", params: &[] };

fn command(benchmark: &BenchmarkTable, parts: &At<Vec<At<String>>>, problems: &mut Problems) -> Option<Work> {
    if parts.first().is_none_or(|program| program.trim().is_empty()) {
        let help = "write the program and its arguments, as in [\"python3\", \"bench.py\", \"{batch}\"]".to_owned();
        problems.add(&parts.span, "the command names no program", help);
        return None;
    }
    for (name, _) in benchmark.env.iter() {
        check_name(name, "an environment variable's name", problems);
    }
    let axes: Vec<&str> = benchmark.axes.iter().map(|(key, _)| key.as_str()).collect();
    let mut template = |text: &At<String>| {
        let template = Template::parse(text);
        for name in template.names().filter(|name| !axes.contains(name)) {
            let (message, help) = template::unknown(name, &axes);
            problems.add(&text.span, message, help);
        }
        template
    };
    Some(Work::Command {
        name: benchmark.name.value.clone(),
        command: parts.iter().map(&mut template).collect(),
        env: benchmark.env.iter().map(|(name, value)| (name.value.clone(), template(value))).collect(),
    })
}
