//! What the table of a single run shows, whatever draws it: its columns, their values, and the line beneath a case. Must not know of
//! comparisons, nor what a table looks like.

use crate::domain::{Metric, MetricKind};
use crate::render::format;
use crate::report::{CaseView, MetricView};

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// Its heading.
    pub title: &'static str,
    /// May be left out where there is no room; the first of a table goes first.
    pub optional: bool,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// The median of a metric.
    Median(&'static str),
    /// How far a metric's launches lie apart.
    Spread(&'static str),
    /// Throughput says most to a person; a kernel without items still has a rate of some kind.
    Rate,
}

/// Of work that ran.
const TIMED: [Shown; 5] = [
    shown("latency", What::Median(Metric::LATENCY), false),
    shown("spread", What::Spread(Metric::LATENCY), true),
    shown("CPU time", What::Median(Metric::CPU_TIME), true),
    shown("rate", What::Rate, true),
    shown("peak memory", What::Median(Metric::PEAK_MEMORY), true),
];

/// Of programs that were compiled and did not run.
const COMPILED: [Shown; 6] = [
    shown("compile time", What::Median(Metric::COMPILE_TIME), false),
    shown("spread", What::Spread(Metric::COMPILE_TIME), true),
    shown("bytes/run", What::Median(Metric::COMPILED_BYTES), true),
    shown("FLOP/run", What::Median(Metric::COMPILED_FLOPS), true),
    shown("memory/run", What::Median(Metric::PROGRAM_MEMORY), true),
    shown("code", What::Median(Metric::CODE_SIZE), true),
];

const fn shown(title: &'static str, what: What, optional: bool) -> Shown {
    Shown { title, optional, what }
}

/// The columns of a run: how fast its work ran or, where nothing ran and programs were compiled, what compiling took and made. A
/// column that may be left out and is empty is.
#[must_use]
pub fn columns(cases: &[CaseView]) -> Vec<Shown> {
    let has = |name: &str| cases.iter().any(|case| !case.reference && metric(case, name).is_some());
    let all: &[Shown] = if !has(Metric::LATENCY) && has(Metric::COMPILE_TIME) { &COMPILED } else { &TIMED };
    let told = |column: &&Shown| !column.optional || cases.iter().any(|case| column.of(case) != format::NOTHING);
    all.iter().filter(told).copied().collect()
}

impl Shown {
    /// What stands in this column for a case; [`format::NOTHING`] where it has nothing of that.
    #[must_use]
    pub fn of(&self, case: &CaseView) -> String {
        let made_of_counts = |view: &&MetricView| view.metric.kind == MetricKind::Rate && view.metric.derived;
        let median = |view: Option<&MetricView>| {
            view.map_or_else(|| format::NOTHING.to_owned(), |view| format::value(view.median, &view.metric))
        };
        match self.what {
            What::Median(name) => median(metric(case, name)),
            What::Rate => median(metric(case, Metric::THROUGHPUT).or_else(|| case.metrics.iter().find(made_of_counts))),
            What::Spread(name) => metric(case, name)
                .filter(|_| case.launches > 1)
                .map_or_else(|| format::NOTHING.to_owned(), |view| format::spread(view.low, view.median, view.high)),
        }
    }

    /// Whether it tells this metric already.
    fn tells(&self, name: &str) -> bool {
        matches!(self.what, What::Median(told) if told == name)
    }
}

/// What else was measured of a case that a person looks for: shares of what the device can do, its memory, what compiling took and
/// made, and what held it back. Nothing where there is nothing of that, or the `columns` tell it all.
#[must_use]
pub fn further(case: &CaseView, columns: &[Shown]) -> Option<String> {
    const FURTHER: [(&str, &str); 18] = [
        (Metric::FLOPS_UTILIZATION, "of the datasheet's FLOP/s"),
        (Metric::HBM_UTILIZATION, "of its bandwidth"),
        (Metric::COST_PER_PFLOP, ""),
        (Metric::COST_PER_MILLION_ITEMS, ""),
        (Metric::DEVICE_MEMORY, "of device memory"),
        (Metric::ENERGY, "an iteration"),
        (Metric::BUS_RATE, "on the bus"),
        (Metric::COMPILE_TIME, "to compile"),
        (Metric::RELOAD_TIME, "to reload"),
        (Metric::FIRST_STEP_TIME, "for the first step"),
        (Metric::DEVICE_TIME, "of the device's own time"),
        (Metric::CODE_SIZE, "of code"),
        (Metric::PROGRAM_MEMORY, "for a run"),
        (Metric::COMPILED_FLOPS, "compiled"),
        (Metric::COMPILED_BYTES, "moved"),
        (Metric::REGISTERS, "a thread"),
        (Metric::LOCAL_MEMORY, "spilled"),
        (Metric::OCCUPANCY, "occupancy"),
    ];
    let told = FURTHER.iter().filter(|(name, _)| !columns.iter().any(|column| column.tells(name))).filter_map(
        |(name, words)| {
            let view = metric(case, name)?;
            let share = [Metric::FLOPS_UTILIZATION, Metric::HBM_UTILIZATION, Metric::OCCUPANCY].contains(name);
            let number =
                if share { format!("{:.1} %", 100.0 * view.median) } else { format::value(view.median, &view.metric) };
            Some(format!("{number} {words}").trim_end().to_owned())
        },
    );
    let told: Vec<String> = told.chain(case.labels.iter().cloned()).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn metric<'a>(case: &'a CaseView, name: &str) -> Option<&'a MetricView> {
    case.metrics.iter().find(|view| view.metric.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CaseId, Outcome, OutcomeKind};

    fn case(metrics: &[(&str, f64)]) -> CaseView {
        let view = |(name, median): &(&str, f64)| MetricView {
            metric: Metric::standard(name).expect("a standard metric"),
            median: *median,
            low: *median,
            high: *median,
            n: 1,
        };
        CaseView {
            case: CaseId("a@cpu".to_owned()),
            outcome: Outcome { kind: OutcomeKind::Measured, reason: None },
            launches: 2,
            reference: false,
            metrics: metrics.iter().map(view).collect(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn columns_are_those_of_what_was_done() {
        let titles = |cases: &[CaseView]| columns(cases)[0].title;
        let ran = case(&[(Metric::LATENCY, 1.0), (Metric::COMPILE_TIME, 2.0)]);
        let compiled = case(&[(Metric::COMPILE_TIME, 2.0), (Metric::CODE_SIZE, 1024.0), (Metric::REGISTERS, 40.0)]);
        let watching = CaseView { reference: true, ..ran.clone() };
        assert_eq!(titles(&[compiled.clone(), ran.clone()]), "latency");
        assert_eq!(titles(&[]), "latency");
        assert_eq!(titles(&[compiled.clone(), watching]), "compile time");
        let told = |case: &CaseView| {
            let columns = columns(std::slice::from_ref(case));
            columns.iter().map(|column| format!("{} {}", column.title, column.of(case))).collect::<Vec<_>>()
        };
        assert_eq!(told(&compiled), ["compile time 2.000 s", "spread ±0.0 %", "code 1.000 KiB"]);
        assert_eq!(told(&CaseView { launches: 1, ..compiled.clone() }), ["compile time 2.000 s", "code 1.000 KiB"]);
        // What a column tells is not told again.
        assert_eq!(further(&compiled, &COMPILED).as_deref(), Some("40 registers a thread"));
        assert!(further(&compiled, &TIMED).expect("more").starts_with("2.000 s to compile"));
        assert!(further(&ran, &TIMED).is_some_and(|told| !told.contains("1.000 s")));
    }
}
