//! Whether the GPUs do what their datasheets say: a copy and a matrix product on each, in processes of their own, by the same code
//! as any launch.
//!
//! A card that is hot, badly seated, shared or broken is slow without an error anywhere; a baseline made on it would poison every
//! later comparison.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use crate::backend::Availability;
use crate::cli::Select;
use crate::command::session;
use crate::domain::{Launch, Metric, Outcome, OutcomeKind, ParamValue, Value};
use crate::hardware::{Finding, Level};
use crate::runner::{self, Settings, Shared};
use crate::suite::Suite;

/// What is measured and read.
struct Probed {
    benchmark: &'static str,
    text: &'static str,
    utilization: &'static str,
    rate: &'static str,
    unit: &'static str,
    /// Shares of the datasheet below which something is amiss, and is badly so. Copies reach 0.85 to 0.93 everywhere; products are
    /// held down by the power limit of many a card.
    amiss: (f64, f64),
}

const PROBED: [Probed; 2] = [
    Probed {
        benchmark: "copy",
        text: "copies",
        utilization: Metric::HBM_UTILIZATION,
        rate: Metric::BYTE_RATE,
        unit: "TB/s",
        amiss: (0.7, 0.5),
    },
    Probed {
        benchmark: "product",
        text: "multiplies in bf16",
        utilization: Metric::FLOPS_UTILIZATION,
        rate: Metric::FLOP_RATE,
        unit: "TFLOP/s",
        amiss: (0.5, 0.25),
    },
];

/// One finding for each GPU and each thing that was measured there; none where there is no GPU. Takes some five seconds a GPU.
///
/// # Errors
/// When no process can be started.
pub fn findings(machine: &[(&'static str, Availability)]) -> anyhow::Result<Vec<Finding>> {
    let gpus = machine.iter().find_map(|(name, availability)| match availability {
        Availability::Ready { devices, .. } if *name == "nvidia" => Some(devices.len()),
        _ => None,
    });
    let Some(gpus) = gpus else { return Ok(Vec::new()) };
    let suite = Suite::parse("health", &text(gpus), &["nvidia"])?;
    let plan = session::plan(&suite, &Select::default(), machine, 0, None)?;
    let items: Vec<_> = (0..).zip(plan.order.iter().copied()).collect();
    let cancel = AtomicBool::new(false);
    let settings = Settings {
        harness: session::own_program()?,
        tree: session::Subject::here()?.programs,
        seed: 0,
        inject: std::collections::BTreeMap::new(),
        budget: None,
        shared: Shared::new()?,
        locked: None,
        secrets: Vec::new(),
        prices: Vec::new(),
        cancel: &cancel,
    };
    let mut found = Vec::new();
    let mut keep = |launch: &Launch| {
        let case = plan.cases.iter().find(|case| case.id == launch.case).expect("a launch of the plan");
        let device = match case.workload.params.get("device") {
            Some(ParamValue::Int(device)) => *device,
            _ => 0,
        };
        found.extend(
            PROBED
                .iter()
                .find(|one| one.benchmark == case.benchmark)
                .map(|one| finding(device, one, &launch.outcome, &launch.values)),
        );
        Ok(())
    };
    runner::run(&plan, &items, &settings, &mut keep, &mut |_| ())?;
    found.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(found)
}

fn text(gpus: usize) -> String {
    let devices: Vec<String> = (0..gpus).map(|device| device.to_string()).collect();
    let mut text = "schema_version = 1\nname = \"health\"\nbackends = [\"nvidia\"]\nlaunches = 1\ntimeout = \"1m\"\n\
        reference_workloads = false\n[sampling]\nmax_time = \"500ms\"\nmax_warmup = \"500ms\"\n"
        .to_owned();
    let works = [
        ("copy", "operator = \"copy\"\nbytes = 1073741824\nwhen = ['memory >= \"4 GiB\"']"),
        (
            "product",
            "operator = \"gemm\"\nprecision = \"bf16\"\nm = 8192\nn = 8192\nk = 8192\nwhen = [\"compute_capability >= 8.0\", 'memory >= \"4 GiB\"']",
        ),
    ];
    for (name, work) in works {
        let devices = devices.join(", ");
        let _ = write!(text, "[[benchmark]]\nname = \"{name}\"\n{work}\n[benchmark.axes]\ndevice = [{devices}]\n");
    }
    text
}

/// What one launch says of its GPU.
fn finding(device: i64, probed: &Probed, outcome: &Outcome, values: &[Value]) -> Finding {
    let value = |name: &str| values.iter().find(|value| value.metric.name == name).map(|value| value.value);
    let rate = value(probed.rate).map(|rate| format!(" at {:.3} {}", rate / 1e12, probed.unit)).unwrap_or_default();
    let share = value(probed.utilization);
    let (level, what) = match share {
        _ if outcome.kind != OutcomeKind::Measured && share.is_none() => {
            let reason = outcome.reason.as_deref().unwrap_or("it did not say why");
            (Level::Bad, format!("does not measure: {reason}"))
        }
        Some(share) => {
            let level = if share < probed.amiss.1 {
                Level::Bad
            } else if share < probed.amiss.0 {
                Level::Warn
            } else {
                Level::Good
            };
            (level, format!("{}{rate}, {:.0} % of its datasheet", probed.text, 100.0 * share))
        }
        None => (Level::Info, format!("{}{rate}; its datasheet is not known here", probed.text)),
    };
    Finding {
        id: "gpu health",
        level,
        text: format!("{device}: {what}"),
        remedy: (level >= Level::Warn).then(|| {
            "see what else runs there, its temperature and power limit (`nvidia-smi -q -d PERFORMANCE`), and keep its figures out of baselines"
                .to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(probed: &Probed, outcome: &Outcome, values: &[(&str, f64)]) -> (Level, String) {
        let standard = |name: &str| Metric::standard(name).expect("a standard name");
        let values: Vec<Value> =
            values.iter().map(|(name, value)| Value { metric: standard(name), value: *value }).collect();
        let finding = finding(1, probed, outcome, &values);
        assert_eq!(finding.remedy.is_some(), finding.level >= Level::Warn);
        (finding.level, finding.text)
    }

    #[test]
    fn a_gpu_is_as_well_as_its_share_of_the_datasheet() {
        let copy = |share: f64| {
            of(
                &PROBED[0],
                &Outcome::measured(),
                &[(Metric::BYTE_RATE, share * 3.35e12), (Metric::HBM_UTILIZATION, share)],
            )
        };
        assert_eq!(copy(0.9), (Level::Good, "1: copies at 3.015 TB/s, 90 % of its datasheet".to_owned()));
        assert_eq!(copy(0.6).0, Level::Warn);
        assert_eq!(copy(0.3).0, Level::Bad);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let unknown = of(&PROBED[1], &Outcome::measured(), &[(Metric::FLOP_RATE, 4e14)]);
        assert_eq!(
            unknown,
            (Level::Info, "1: multiplies in bf16 at 400.000 TFLOP/s; its datasheet is not known here".to_owned())
        );
        let hung = Outcome::because(OutcomeKind::TimedOut, "no answer for 60 s");
        assert_eq!(of(&PROBED[0], &hung, &[]), (Level::Bad, "1: does not measure: no answer for 60 s".to_owned()));
    }

    #[test]
    fn the_suite_has_a_copy_and_a_product_for_every_gpu() {
        let suite = Suite::parse("health", &text(2), &["nvidia"]).expect("a suite");
        let machine =
            [("nvidia", Availability::Ready { devices: Vec::new(), facts: std::collections::BTreeMap::new() })];
        let plan = session::plan(&suite, &Select::default(), &machine, 0, None).expect("a plan");
        assert_eq!(plan.cases.len(), 4);
        assert!(plan.cases.iter().all(|case| PROBED.iter().any(|probed| probed.benchmark == case.benchmark)));
    }
}
