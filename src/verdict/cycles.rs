//! Time against cycles: a device's clock that moved between the sides must not pose as a change of code.
//!
//! Where a case has both, a call about its latency that its cycles do not share says so. The call itself stands: a kernel that
//! draws so much power that its clock falls is slower. Must not know where cycles come from.

use crate::domain::{Call, CaseId, Metric};
use crate::verdict::Judged;

/// Adds to the notes of latencies and cycles that disagree.
pub fn hold_against(rows: &mut [Judged<'_>]) {
    let calls = |name: &str, rows: &[Judged<'_>]| -> Vec<(CaseId, Call)> {
        rows.iter()
            .filter(|row| row.metric.name == name && row.verdict.call != Call::NotComparable)
            .map(|row| (row.case.clone(), row.verdict.call))
            .collect()
    };
    let (latencies, cycles) = (calls(Metric::LATENCY, rows), calls(Metric::CYCLES, rows));
    for row in rows.iter_mut().filter(|row| row.verdict.call != Call::NotComparable) {
        let others = match row.metric.name.as_str() {
            Metric::LATENCY => &cycles,
            Metric::CYCLES => &latencies,
            _ => continue,
        };
        let Some((_, other)) = others.iter().find(|(case, _)| *case == row.case) else { continue };
        let Some(remark) = remark(&row.metric.name, row.verdict.call, *other) else { continue };
        let note = &mut row.verdict.note;
        *note = if note.is_empty() { remark } else { format!("{note}; {remark}") };
    }
}

/// What to say of a metric's call beside the other's.
fn remark(metric: &str, own: Call, other: Call) -> Option<String> {
    let decided = |call: Call| matches!(call, Call::Regressed | Call::Improved);
    if own == other || !(decided(own) || decided(other)) {
        return None;
    }
    Some(if metric == Metric::LATENCY {
        match (own, other) {
            (_, Call::Unchanged) => {
                "in cycles it is unchanged: the device's clock moved, so look at power and cooling, and at what the code draws"
                    .to_owned()
            }
            (_, Call::Inconclusive) => "its cycles are inconclusive: part of this may be the device's clock".to_owned(),
            _ => format!("in cycles it is {other}: the device's clock moved the other way"),
        }
    } else {
        format!("in time it is {other}: the device's clock moved between the sides")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Reason, Severity, Thresholds, Verdict};

    fn row(case: &str, metric: &str, call: Call) -> Judged<'static> {
        Judged {
            case: CaseId::from(case),
            metric: Metric::standard(metric).expect("standard"),
            gating: false,
            fails: false,
            thresholds: Thresholds::default(),
            base: None,
            head: None,
            outcome: None,
            verdict: Verdict {
                call,
                severity: Severity::None,
                reason: Reason::Established,
                provisional: false,
                estimate: None,
                note: String::new(),
            },
            smallest_detectable: None,
            paired: None,
        }
    }

    fn notes(latency: Call, cycles: Call) -> [String; 2] {
        let mut rows = [row("a", "latency", latency), row("b", "cycles", Call::Improved), row("a", "cycles", cycles)];
        hold_against(&mut rows);
        assert_eq!(rows[1].verdict.note, "", "another case");
        [rows[0].verdict.note.clone(), rows[2].verdict.note.clone()]
    }

    #[test]
    fn calls_that_agree_need_no_word() {
        for call in [Call::Regressed, Call::Improved, Call::Unchanged, Call::Inconclusive] {
            assert_eq!(notes(call, call), ["", ""]);
        }
        assert_eq!(notes(Call::Unchanged, Call::Inconclusive), ["", ""]);
        assert_eq!(notes(Call::Regressed, Call::NotComparable), ["", ""]);
    }

    #[test]
    fn a_call_that_flips_between_time_and_cycles_says_so_on_both() {
        let [latency, cycles] = notes(Call::Regressed, Call::Unchanged);
        assert!(latency.contains("in cycles it is unchanged") && cycles.contains("in time it is regressed"));
        let [latency, cycles] = notes(Call::Unchanged, Call::Regressed);
        assert!(latency.contains("in cycles it is regressed") && cycles.contains("in time it is unchanged"));
        assert!(notes(Call::Improved, Call::Inconclusive)[0].contains("may be the device's clock"));
    }
}
