//! `--inject 'GLOB=PERCENT'`.

use std::collections::BTreeMap;

use anyhow::Result;
use wildmatch::WildMatch;

use crate::command::usage;
use crate::domain::{CaseId, Plan, WorkloadKind};

/// Largest injection: ten times the work.
const MOST: f64 = 9.0;

/// Extra work by case, as fractions. Reference workloads are never touched: they watch the machine.
pub fn parse(arguments: &[String], plan: &Plan) -> Result<BTreeMap<CaseId, f64>> {
    let mut extra = BTreeMap::new();
    for argument in arguments {
        let (glob, fraction) = one(argument)?;
        let pattern = WildMatch::new(glob);
        let mut matched = false;
        for case in plan.cases.iter().filter(|case| !case.reference && pattern.matches(case.id.as_str())) {
            if case.workload.kind == WorkloadKind::Command {
                return Err(usage(format!(
                    "--inject '{argument}': `{}` is a command; only built-in workloads can be made to do more work",
                    case.id
                )));
            }
            extra.insert(case.id.clone(), fraction);
            matched = true;
        }
        if !matched {
            return Err(usage(format!(
                "--inject '{argument}': no case matches `{glob}`; `regrade list --cases` shows them"
            )));
        }
    }
    Ok(extra)
}

/// What marks a run whose cases did more work than the suite says; nothing for an honest one.
pub fn stamp(arguments: &[String]) -> Option<String> {
    (!arguments.is_empty()).then(|| format!("--inject {}", arguments.join(" --inject ")))
}

fn one(argument: &str) -> Result<(&str, f64)> {
    let wrong = || {
        usage(format!(
            "--inject '{argument}': expected GLOB=PERCENT, more than 0 % and at most 900 %, e.g. 'gemm*=30%'"
        ))
    };
    let (glob, percent) = argument.rsplit_once('=').ok_or_else(wrong)?;
    let number: f64 = percent.trim().trim_end_matches('%').trim().parse().map_err(|_| wrong())?;
    let fraction = number / 100.0;
    if glob.is_empty() || !(fraction > 0.0 && fraction <= MOST) {
        return Err(wrong());
    }
    Ok((glob, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_may_hold_equal_signs() {
        assert_eq!(one("bert*batch=8*=30%").expect("valid"), ("bert*batch=8*", 0.3));
        assert_eq!(one("*= 2.5 %").expect("valid"), ("*", 0.025));
    }

    #[test]
    fn nonsense_is_refused_with_the_form_expected() {
        for text in ["gemm", "gemm=fast", "=30%", "gemm=0%", "gemm=-5%", "gemm=901%", "gemm=NaN", "gemm=inf"] {
            let error = one(text).expect_err(text).to_string();
            assert!(error.contains("GLOB=PERCENT"), "{error}");
        }
    }
}
