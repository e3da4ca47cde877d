//! Targets over cases: the share of them that shall succeed. A benchmark has one among its `targets`; those of the suite are read here.
//!
//! Must not know what was measured.

use std::ops::Range;

use crate::domain::{Case, Over, Target};
use crate::suite::at::At;
use crate::suite::condition::{BadCondition, bad, name_in};
use crate::suite::error::Problems;
use crate::suite::format::{Goal, SuiteFile};
use crate::suite::quantity;
use crate::suite::suggest;
use crate::suite::target::{Clause, Given, IN_NAMES, hold, inside, listed, long};

/// What a target of the suite that names no benchmark is about. No benchmark can be called so.
const ALL: &str = "all cases";
/// Benchmarks that the name of several cases tells.
const TOLD: usize = 3;

/// Lays a target of the suite on the cases that it is about together.
pub(super) fn lay(goal: &At<Goal>, file: &SuiteFile, text: &str, cases: &mut [Case], problems: &mut Problems) {
    let given = Given::of(goal);
    let (that, span) = given.that;
    let name = &that[name_in(that, IN_NAMES)];
    if name != Target::SUCCESS_RATE {
        let message = format!("a target of the suite is about its cases together, and `{name}` is not");
        let help = "put it into the `targets` of a benchmark; for all cases together write `success_rate >= 95 %`";
        return problems.add(span, message, help.to_owned());
    }
    let mut target = match success_rate(that) {
        Ok(target) => target,
        Err(bad) => return problems.add(&inside(text, that, span, &bad.span), bad.message, bad.help),
    };
    if let Some(place) = given.of.map(|of| &of.span).or(given.when.first().map(|(_, span)| *span)) {
        let help = "name benchmarks with `over`; conditions on axes go into the `targets` of a benchmark".to_owned();
        return problems.add(place, "a target of the suite has neither `of` nor `when`", help);
    }
    let over: Vec<(&str, &Range<usize>)> = given.over.map(listed).unwrap_or_default();
    for (name, span) in &over {
        if file.benchmark.iter().all(|benchmark| benchmark.name.value != *name) {
            let names = file.benchmark.iter().map(|benchmark| benchmark.name.as_str());
            let help = suggest::did_you_mean(name, names, "benchmarks");
            return problems.add(span, format!("no benchmark is named `{name}`"), help);
        }
    }
    if let Some(source) = long(given.source) {
        return problems.add(span, source.0, source.1);
    }
    let meant = |case: &Case| over.is_empty() || over.iter().any(|(name, _)| case.benchmark == *name);
    let count = cases.iter().filter(|case| meant(case)).count() as u32;
    let told: Vec<&str> = over.iter().map(|(name, _)| *name).take(TOLD).collect();
    let name = match over.len() {
        0 => ALL.to_owned(),
        few if few <= TOLD => told.join(", "),
        many => format!("{} and {} more benchmarks", told.join(", "), many - TOLD),
    };
    target.over = Some(Over { name, cases: count });
    target.required = given.required;
    target.source = given.source.map(str::to_owned);
    for case in cases.iter_mut().filter(|case| meant(case)) {
        if !hold(case, target.clone(), span, problems) {
            return;
        }
    }
}

/// Reads a bound of the share of cases that succeed.
pub(super) fn success_rate(text: &str) -> Result<Target, BadCondition> {
    let clause = Clause::after(text, name_in(text, IN_NAMES).end, Target::SUCCESS_RATE)?;
    let help = "a share of the cases, as in `success_rate >= 95 %` or `success_rate >= 0.95`";
    let number = quantity::of_unit(clause.value, "1").map_err(|what| bad(clause.value_at.clone(), what, help))?;
    if number > 1.0 {
        return Err(bad(clause.value_at, format!("`{}` is more than all cases", clause.value), help));
    }
    Ok(clause.target(Target::SUCCESS_RATE, number))
}
