//! Targets: bounds of metrics as a suite writes them, read, checked, and laid on the cases that they are about. A target about
//! several cases together is laid on each of them.
//!
//! Must not know what was measured.

mod over;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use wildmatch::WildMatch;

use crate::domain::{Case, Comparison, Metric, Over, ParamValue, Target};
use crate::suite::at::At;
use crate::suite::condition::{BadCondition, Operator, bad, name_in, operator_in};
use crate::suite::error::Problems;
use crate::suite::format::{BenchmarkTable, Goal, GoalTable, SuiteFile, Texts};
use crate::suite::prices;
use crate::suite::quantity;
use crate::suite::settings;
use crate::suite::suggest;

const EXAMPLES: &str =
    "as in `latency <= 2 ms`, `peak_memory <= 4 GiB`, `flop_rate >= 1.6 TFLOP/s`, `throughput >= 950`";
const BOUNDS: &str = "use one of >=, <=, >, <";
/// What names of metrics and axes may have beside letters and digits.
const IN_NAMES: &[char] = &['_', '-', '.'];
/// The name that stands for the backend in conditions on a case.
const BACKEND: &str = "backend";
/// Characters of a source: it becomes a line of reports.
const LONGEST_SOURCE: usize = 300;
/// Values of an axis that a help names.
const NAMED: usize = 10;

/// Reads the targets of every benchmark and of the suite, and gives them to the cases that they are about. `currency` is that of
/// the suite's prices, where they are known.
pub(super) fn lay(file: &SuiteFile, text: &str, currency: Option<&str>, cases: &mut [Case], problems: &mut Problems) {
    let mut currency = currency.map(str::to_owned);
    for benchmark in file.benchmark.iter().filter(|benchmark| !benchmark.targets.is_empty()) {
        let declared = settings::metrics(benchmark, &mut Problems::default());
        let reader = Reader { file, text, benchmark, declared: &declared };
        for goal in &benchmark.targets {
            if let Some(wanted) = reader.wanted(&Given::of(goal), currency.as_deref(), problems) {
                currency = currency.or_else(|| wanted.currency.clone());
                reader.apply(&wanted, cases, problems);
            }
        }
    }
    for goal in &file.targets {
        over::lay(goal, file, text, cases, problems);
    }
    // Units of costs are in dollars where nobody says otherwise.
    for cost in [Metric::COST_PER_PFLOP, Metric::COST_PER_MILLION_ITEMS] {
        let metric = currency.as_deref().and_then(|currency| Metric::cost(cost, currency));
        if let Some(metric) = metric.filter(|metric| Metric::standard(cost).is_some_and(|usual| usual != *metric)) {
            for case in cases.iter_mut() {
                case.metrics.insert(cost.to_owned(), metric.clone());
            }
        }
    }
}

/// Gives a target to a case, unless it has it; whether it had not.
fn hold(case: &mut Case, target: Target, span: &Range<usize>, problems: &mut Problems) -> bool {
    let same = |known: &Target| known.that == target.that && known.of == target.of && known.over == target.over;
    if case.targets.iter().any(same) {
        let help = "write it once, or tell the two apart with `when`".to_owned();
        problems.add(span, format!("`{}` has the target `{target}` twice", case.id), help);
        return false;
    }
    case.targets.push(target);
    true
}

/// What is wrong with a source, and what to do: it is too long for a line.
fn long(source: Option<&str>) -> Option<(String, String)> {
    let length = source.map(|source| source.chars().count()).filter(|length| *length > LONGEST_SOURCE)?;
    Some((
        format!("the source has {length} characters"),
        format!("it becomes a line of reports: use at most {LONGEST_SOURCE}"),
    ))
}

/// The texts of a list, or the one.
fn listed(texts: &At<Texts>) -> Vec<(&str, &Range<usize>)> {
    match &texts.value {
        Texts::One(one) => vec![(one, &texts.span)],
        Texts::Several(list) => list.iter().map(|one| (one.value.as_str(), &one.span)).collect(),
    }
}

/// A cost in the currency that its bound names, which must be that of the prices; any other metric as it is.
fn in_currency(metric: Metric, clause: &Clause<'_>, prices: Option<&str>) -> Result<Metric, BadCondition> {
    if Metric::cost(&metric.name, "").is_none() {
        return Ok(metric);
    }
    let from = clause.value.find(|c: char| c.is_ascii_uppercase()).unwrap_or(clause.value.len());
    let named = clause.value[from..].split('/').next().unwrap_or_default().trim();
    let wrong = |message: String, help: String| Err(bad(clause.value_at.clone(), message, help));
    if !prices::is_currency(named) {
        let help = format!("as in `{} <= 0.005 {}`", metric.name, prices.unwrap_or("USD"));
        return wrong(format!("`{}` says no currency", clause.value), help);
    }
    if let Some(prices) = prices.filter(|prices| *prices != named) {
        let help = format!("write the bound in {prices}, or the prices in {named}");
        return wrong(format!("the bound is in {named}, and the suite's prices are in {prices}"), help);
    }
    Ok(Metric::cost(&metric.name, named).unwrap_or(metric))
}

/// A target as it is written, whichever way.
struct Given<'g> {
    that: (&'g str, &'g Range<usize>),
    of: Option<&'g At<String>>,
    over: Option<&'g At<Texts>>,
    when: Vec<(&'g str, &'g Range<usize>)>,
    source: Option<&'g str>,
    required: bool,
}

impl<'g> Given<'g> {
    fn of(goal: &'g At<Goal>) -> Self {
        match &goal.value {
            Goal::Bound(that) => {
                Self { that: (that, &goal.span), of: None, over: None, when: Vec::new(), source: None, required: true }
            }
            Goal::Table(GoalTable { that, of, over, when, source, required }) => Self {
                that: (&that.value, &that.span),
                of: of.as_ref(),
                over: over.as_ref(),
                when: when.as_ref().map(listed).unwrap_or_default(),
                source: source.as_deref(),
                required: required.unwrap_or(true),
            },
        }
    }
}

/// What follows the name in a bound.
struct Clause<'t> {
    symbol: &'static str,
    comparison: Comparison,
    value: &'t str,
    value_at: Range<usize>,
}

impl<'t> Clause<'t> {
    /// Reads the comparison and the value after a name which ends at `from`.
    fn after(text: &'t str, from: usize, name: &str) -> Result<Self, BadCondition> {
        let (symbol, operator, operator_at) =
            operator_in(text, from, name).map_err(|error| BadCondition { help: BOUNDS.to_owned(), ..error })?;
        let comparison = match operator {
            Operator::AtLeast => Comparison::AtLeast,
            Operator::AtMost => Comparison::AtMost,
            Operator::Above => Comparison::Above,
            Operator::Below => Comparison::Below,
            Operator::Equal | Operator::NotEqual => {
                return Err(bad(operator_at, "a target is a bound: nothing that is measured equals a number", BOUNDS));
            }
        };
        let value = text[operator_at.end..].trim();
        match text[operator_at.end..].find(value) {
            Some(offset) if !value.is_empty() => {
                let value_at = operator_at.end + offset..operator_at.end + offset + value.len();
                Ok(Self { symbol, comparison, value, value_at })
            }
            _ => Err(bad(operator_at, "expected a value after the comparison", EXAMPLES)),
        }
    }

    /// As a target, whose value was understood.
    fn target(&self, name: &str, value: f64) -> Target {
        Target {
            that: format!("{name} {} {}", self.symbol, self.value),
            metric: name.to_owned(),
            comparison: self.comparison,
            value,
            of: None,
            over: None,
            required: true,
            source: None,
        }
    }
}

/// A target that was understood.
struct Wanted<'g> {
    target: Target,
    /// That its value is in, where it bounds a cost.
    currency: Option<String>,
    /// Where it stands, for what only the cases show to be wrong.
    span: &'g Range<usize>,
    of: Option<&'g At<String>>,
    when: Vec<AxisCondition>,
    when_at: Option<&'g Range<usize>>,
}

/// The targets of one benchmark, and what they may name.
struct Reader<'r> {
    file: &'r SuiteFile,
    text: &'r str,
    benchmark: &'r BenchmarkTable,
    declared: &'r BTreeMap<String, Metric>,
}

impl Reader<'_> {
    fn wanted<'g>(&self, given: &Given<'g>, currency: Option<&str>, problems: &mut Problems) -> Option<Wanted<'g>> {
        let (that, span) = given.that;
        let mut understood = true;
        let mut refuse = |bad: BadCondition, text: &str, span: &Range<usize>| {
            problems.add(&inside(self.text, text, span, &bad.span), bad.message, bad.help);
            understood = false;
        };
        let bound = self.bound(that, given.of.is_some(), currency).map_err(|bad| refuse(bad, that, span)).ok();
        let when: Vec<AxisCondition> = given
            .when
            .iter()
            .filter_map(|(text, span)| self.condition(text).map_err(|bad| refuse(bad, text, span)).ok())
            .collect();
        if let Some((message, help)) = long(given.source) {
            problems.add(span, message, help);
            understood = false;
        }
        if let Some(over) = given.over {
            let help = "put the target into the `targets` of the suite, or leave out `over` for this benchmark's cases";
            problems.add(&over.span, "`over` names benchmarks, and this target is a benchmark's", help.to_owned());
            understood = false;
        }
        if let Some(of) = given.of {
            understood &= self.other(of, bound.as_ref().map(|(metric, _)| metric), problems);
        }
        let (metric, mut target) = bound?;
        let cost = Metric::cost(&metric.name, "").filter(|_| given.of.is_none());
        let currency = cost.and_then(|cost| Some(metric.unit.strip_suffix(&cost.unit)?.to_owned()));
        target.required = given.required;
        target.source = given.source.map(str::to_owned);
        let when_at = given.when.first().map(|(_, span)| *span);
        understood.then_some(Wanted { target, currency, span, of: given.of, when, when_at })
    }

    /// Reads a metric, a comparison and a value.
    fn bound(&self, text: &str, relative: bool, currency: Option<&str>) -> Result<(Metric, Target), BadCondition> {
        let at = name_in(text, IN_NAMES);
        let name = &text[at.clone()];
        if name.is_empty() {
            return Err(bad(0..text.len(), "expected the name of a metric", EXAMPLES));
        }
        if name == Target::SUCCESS_RATE && relative {
            let help = "it is about the cases of this benchmark together: leave out `of`";
            return Err(bad(at, "`success_rate` is no value of a case that another could have too", help));
        }
        if name == Target::SUCCESS_RATE {
            return Ok((Target::success_rate(), over::success_rate(text)?));
        }
        let known = self.declared.get(name).cloned().or_else(|| Metric::standard(name));
        let metric = known.ok_or_else(|| {
            bad(at.clone(), format!("unknown metric `{name}`"), settings::metric_help(name, self.declared))
        })?;
        let clause = Clause::after(text, at.end, name)?;
        if Metric::cost(name, "").is_some() && self.file.prices.is_none() {
            let help = "name a table of prices in the suite, such as `prices = \"prices/on-demand.toml\"`";
            return Err(bad(at, format!("`{name}` is made of prices, and this suite has none"), help));
        }
        let metric = if relative { metric } else { in_currency(metric, &clause, currency)? };
        let (unit, help) = if relative {
            ("1", "with `of` the value is a ratio of two cases: write it without a unit, such as 1.6")
        } else {
            (metric.unit.as_str(), EXAMPLES)
        };
        // A cost may leave out what it is for: its name says that.
        let short = metric.unit.split('/').next().filter(|_| !relative && Metric::cost(name, "").is_some());
        let value = short.and_then(|short| clause.value.strip_suffix(short)).map_or(clause.value, str::trim_end);
        let number = quantity::of_unit(value, unit).map_err(|what| bad(clause.value_at.clone(), what, help))?;
        let target = clause.target(name, number);
        Ok((metric, target))
    }

    /// Checks the benchmark that a target is relative to: it must be another one and have the metric.
    fn other(&self, of: &At<String>, metric: Option<&Metric>, problems: &mut Problems) -> bool {
        let Some(other) = self.file.benchmark.iter().find(|other| other.name.value == of.value) else {
            let names = self.file.benchmark.iter().map(|other| other.name.as_str());
            let help = suggest::did_you_mean(of, names, "benchmarks");
            problems.add(&of.span, format!("no benchmark is named `{}`", of.value), help);
            return false;
        };
        if other.name.value == self.benchmark.name.value {
            let help = "name another benchmark, or leave out `of` for a value of its own".to_owned();
            problems.add(&of.span, "a case beside itself is always 1", help);
            return false;
        }
        let Some(metric) = metric else { return false };
        let declared = settings::metrics(other, &mut Problems::default());
        let found = declared.get(&metric.name).cloned().or_else(|| Metric::standard(&metric.name));
        match found {
            None => {
                let help = settings::metric_help(&metric.name, &declared);
                problems.add(&of.span, format!("`{}` has no metric `{}`", of.value, metric.name), help);
                false
            }
            Some(found) if found.unit != metric.unit => {
                let message =
                    format!("`{}` is in {} here and in {} in `{}`", metric.name, metric.unit, found.unit, of.value);
                problems.add(&of.span, message, "a ratio needs one unit".to_owned());
                false
            }
            Some(_) => true,
        }
    }

    /// Reads a condition on the benchmark's axes.
    fn condition(&self, text: &str) -> Result<AxisCondition, BadCondition> {
        let example = "as in `m = 8192`, `seq >= 1024`, `precision = \"bf16\"`, `backend = \"nvidia\"`";
        let at = name_in(text, IN_NAMES);
        let name = &text[at.clone()];
        let known = || self.benchmark.axes.iter().map(|(axis, _)| axis.as_str()).chain([BACKEND]);
        if !known().any(|axis| axis == name) {
            let help = format!(
                "{}; conditions on the machine belong to the `when` of the benchmark",
                suggest::did_you_mean(name, known(), "axes")
            );
            let message = match name {
                "" => "expected the name of an axis".to_owned(),
                name => format!("`{}` has no axis `{name}`", self.benchmark.name.value),
            };
            return Err(bad(if at.is_empty() { 0..text.len() } else { at }, message, help));
        }
        let (symbol, operator, operator_at) = operator_in(text, at.end, name)?;
        let written = text[operator_at.end..].trim();
        let start = operator_at.end + text[operator_at.end..].find(written).unwrap_or(0);
        let value_at = start..start + written.len();
        let quoted = ['"', '\''].into_iter().find_map(|mark| written.strip_prefix(mark)?.strip_suffix(mark));
        let value = match (quoted, written.parse::<f64>(), written.parse::<bool>()) {
            (Some(glob), ..) => AxisValue::Text(glob.to_owned()),
            (None, Ok(number), _) if number.is_finite() => AxisValue::Number(number),
            (None, _, Ok(flag)) => AxisValue::Flag(flag),
            _ if written.is_empty() => {
                return Err(bad(operator_at, "expected a value after the comparison", example));
            }
            _ => {
                let message = format!("`{written}` is no number, no true or false, and no text in quotes");
                return Err(bad(value_at, message, example));
            }
        };
        if operator.orders() && !matches!(value, AxisValue::Number(_)) {
            return Err(bad(operator_at, format!("`{written}` has no order"), "compare it with = or !="));
        }
        Ok(AxisCondition { axis: name.to_owned(), operator, value, shown: format!("{name} {symbol} {written}") })
    }

    /// Gives a target to the cases that it is about.
    fn apply(&self, wanted: &Wanted<'_>, cases: &mut [Case], problems: &mut Problems) {
        let name = &self.benchmark.name.value;
        let own: Vec<usize> = (0..cases.len()).filter(|place| cases[*place].benchmark == *name).collect();
        let meant: Vec<usize> =
            own.iter().copied().filter(|place| wanted.when.iter().all(|when| when.holds(&cases[*place]))).collect();
        if let (Some(span), true, false) = (wanted.when_at, meant.is_empty(), own.is_empty()) {
            let shown: Vec<&str> = wanted.when.iter().map(|when| when.shown.as_str()).collect();
            let message = format!("no case of `{name}` has {}", shown.join(" and "));
            let takes = wanted.when.iter().map(|when| takes(&when.axis, own.iter().map(|place| &cases[*place])));
            problems.add(span, message, takes.collect::<Vec<_>>().join("; "));
            return;
        }
        let counterparts = match wanted.of {
            None => None,
            Some(of) => match self.counterparts(of, &meant, cases) {
                Ok(found) => Some(found),
                Err(None) => return,
                Err(Some((message, help))) => {
                    problems.add(&of.span, message, help);
                    return;
                }
            },
        };
        let over = (wanted.target.metric == Target::SUCCESS_RATE).then(|| {
            let shown: Vec<&str> = wanted.when.iter().map(|when| when.shown.as_str()).collect();
            let some = if shown.is_empty() { String::new() } else { format!(" where {}", shown.join(" and ")) };
            Over { name: format!("{name}{some}"), cases: meant.len() as u32 }
        });
        for (index, place) in meant.into_iter().enumerate() {
            let of = counterparts.as_ref().map(|found| cases[found[index]].id.clone());
            let target = Target { of, over: over.clone(), ..wanted.target.clone() };
            if !hold(&mut cases[place], target, wanted.span, problems) {
                return;
            }
        }
    }

    /// For each of the `meant` cases the one of the other benchmark that it is compared with: equal in the axes that both
    /// have, on the same backend where there is one. No words where the other benchmark has no case for reasons of its own.
    fn counterparts(&self, of: &At<String>, meant: &[usize], cases: &[Case]) -> Result<Vec<usize>, Unmatched> {
        let other = self.file.benchmark.iter().find(|other| other.name.value == of.value).ok_or(None)?;
        let mine = self.benchmark.axes.iter().map(|(axis, _)| axis.value.as_str());
        let shared: Vec<&str> = mine.filter(|axis| other.axes.iter().any(|(known, _)| known.value == *axis)).collect();
        let key = |case: &Case| -> String {
            shared.iter().filter_map(|axis| Some(format!("/{axis}={}", case.workload.params.get(*axis)?))).collect()
        };
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, case) in cases.iter().enumerate().filter(|(_, case)| case.benchmark == of.value) {
            by_key.entry(key(case)).or_default().push(place);
        }
        if by_key.is_empty() {
            return Err(None);
        }
        let found = meant.iter().map(|place| {
            let case = &cases[*place];
            let all = by_key.get(&key(case)).map_or(&[][..], Vec::as_slice);
            let near: Vec<usize> = all.iter().copied().filter(|at| cases[*at].backend == case.backend).collect();
            match if near.is_empty() { all } else { &near } {
                [one] => Ok(*one),
                [] => Err(Some((
                    format!("`{}` has no counterpart in `{}`", case.id, of.value),
                    format!(
                        "say with `when` which cases are meant, or give both the same values of {}",
                        shared.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ")
                    ),
                ))),
                [first, second, ..] => Err(Some((
                    format!(
                        "`{}` has several counterparts in `{}`: `{}`, `{}`",
                        case.id, of.value, cases[*first].id, cases[*second].id
                    ),
                    format!(
                        "what `{}` varies must be an axis of `{}` too; or make a benchmark of the one that is meant",
                        of.value, self.benchmark.name.value
                    ),
                ))),
            }
        });
        found.collect()
    }
}

/// What to say, and what to do about it.
type Unmatched = Option<(String, String)>;

/// `` `m` is 1024, 8192 ``
fn takes<'c>(axis: &str, cases: impl Iterator<Item = &'c Case>) -> String {
    let mut values: Vec<String> = Vec::new();
    for case in cases {
        let value = if axis == BACKEND {
            case.backend.clone()
        } else {
            case.workload.params.get(axis).map(ToString::to_string).unwrap_or_default()
        };
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let more = if values.len() > NAMED { ", …" } else { "" };
    values.truncate(NAMED);
    format!("`{axis}` is {}{more}", values.join(", "))
}

/// A condition on the axis values of a case.
struct AxisCondition {
    axis: String,
    operator: Operator,
    value: AxisValue,
    shown: String,
}

enum AxisValue {
    Number(f64),
    Flag(bool),
    Text(String),
}

impl AxisCondition {
    fn holds(&self, case: &Case) -> bool {
        let backend = ParamValue::Text(case.backend.clone());
        let seen = if self.axis == BACKEND { Some(&backend) } else { case.workload.params.get(&self.axis) };
        let equal = match (seen, &self.value) {
            (Some(ParamValue::Int(seen)), AxisValue::Number(wanted)) => {
                return self.operator.holds(*seen as f64, *wanted);
            }
            (Some(ParamValue::Float(seen)), AxisValue::Number(wanted)) => return self.operator.holds(*seen, *wanted),
            (Some(ParamValue::Bool(seen)), AxisValue::Flag(wanted)) => seen == wanted,
            (Some(ParamValue::Text(seen)), AxisValue::Text(glob)) => WildMatch::new(glob).matches(seen),
            _ => false,
        };
        match self.operator {
            Operator::Equal => equal,
            Operator::NotEqual => !equal,
            _ => false,
        }
    }
}

/// The bytes of the file that `part` of a text stands at, where the text stands at `span`: literally, unless it was written
/// with escapes.
pub(super) fn inside(file: &str, text: &str, span: &Range<usize>, part: &Range<usize>) -> Range<usize> {
    let raw = file.get(span.clone()).unwrap_or_default();
    match raw.find(text) {
        Some(offset) if !text.is_empty() => span.start + offset + part.start..span.start + offset + part.end,
        _ => span.clone(),
    }
}
