//! From an estimate and its half-widths to a verdict: the dual criterion, the margin, the absolute floor.

use crate::domain::{Call, Direction, Estimate, Metric, Reason, Severity, Thresholds, Verdict};
use crate::verdict::kind::{share, sign};
use crate::verdict::policy::{ALPHA_REPORT, KAPPA, NONE_MARGIN};

/// What a history says about head, on the badness scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Head minus prediction; positive is worse.
    pub shift: f64,
    /// Half-width at the level that severity needs (the suite's false-alarm budget, split).
    pub strict: f64,
    /// Half-width at the level of suspicion, and of each side of "unchanged".
    pub screen: f64,
    /// Half-width of the interval that is shown.
    pub report: f64,
    /// The base's value in the metric's unit.
    pub base: f64,
}

impl Finding {
    /// The shown estimate, in the metric's own direction.
    pub fn estimate(&self, metric: &Metric) -> Estimate {
        let d = sign(metric);
        let ends = [d * (self.shift - self.report), d * (self.shift + self.report)];
        Estimate {
            change: (d * self.shift).exp_m1(),
            lower: Some(ends[0].min(ends[1]).exp_m1()),
            upper: Some(ends[0].max(ends[1]).exp_m1()),
            confidence: 1.0 - 2.0 * ALPHA_REPORT,
        }
    }

    /// The class whose threshold the estimate reaches and whose share the near bound reaches, on the worse side
    /// (`side = 1`) or the better side (`side = -1`).
    fn class(&self, limits: [f64; 3], side: f64) -> Severity {
        let (estimate, near) = (side * self.shift, side * self.shift - self.strict);
        let reached = |limit: f64| estimate >= limit && near >= KAPPA * limit;
        match limits {
            [_, _, severe] if reached(severe) => Severity::Severe,
            [_, moderate, _] if reached(moderate) => Severity::Moderate,
            [minor, _, _] if reached(minor) => Severity::Minor,
            _ => Severity::None,
        }
    }

    /// Smallest change, as a fraction of the base, whose class could have been established as minor here.
    pub fn smallest_detectable(&self, thresholds: &Thresholds) -> f64 {
        let minor = thresholds.log()[0];
        minor.max(KAPPA * minor + self.strict).exp_m1()
    }

    /// Decides, unless the machine of a `noisy` session moved too much for its history to say anything (STATISTICS.md
    /// section 8, G1).
    pub fn decide(&self, metric: &Metric, thresholds: &Thresholds, noisy: bool) -> Verdict {
        let limits = thresholds.log();
        let estimate = self.estimate(metric);
        let verdict = |call, severity, reason, note: String| Verdict {
            call,
            severity,
            reason,
            provisional: true,
            estimate: Some(estimate),
            note,
        };
        if noisy {
            let note = "the machine itself moved too much for a call by history; pairs or a quieter session decide";
            return verdict(Call::Inconclusive, Severity::None, Reason::NoisySession, note.to_owned());
        }
        let reach = self.shift.abs() + self.screen;
        if let Some(floor) = thresholds.absolute_floor {
            let absolute = |shift: f64| self.base * share(metric, shift);
            if absolute(self.shift - self.screen).max(absolute(self.shift + self.screen)) < floor {
                let note = format!("a difference of {floor} {} or more, the absolute floor, is excluded", metric.unit);
                return verdict(Call::Unchanged, Severity::None, Reason::BelowFloor, note);
            }
            if absolute(self.shift) < floor {
                let note = format!(
                    "the estimate is below the absolute floor of {floor} {}, and more is not excluded",
                    metric.unit
                );
                return verdict(Call::Inconclusive, Severity::None, Reason::WideInterval, note);
            }
        }
        let (worse, better) = (self.class(limits, 1.0), self.class(limits, -1.0));
        if worse > Severity::None || better > Severity::None {
            return self.changed(metric, worse, better, verdict);
        }
        // Besides what history alone would be surprised by: where noise is so large that a moderate regression is not
        // excluded, it must not pass the screen either, or a noisy benchmark could regress unseen.
        let surprising = self.shift > self.screen || reach > limits[1];
        let suspicious = self.shift > limits[0] / 2.0 && surprising;
        // The tight margin first; a short history can often exclude no more than a moderate change, and says so.
        let margins = [(NONE_MARGIN * thresholds.minor).ln_1p().min(limits[1]), limits[1]];
        if let (false, Some(margin)) = (suspicious, margins.iter().find(|margin| reach <= **margin)) {
            let note = format!("a change beyond {} is excluded", percent(margin.exp_m1()));
            return verdict(Call::Unchanged, Severity::None, Reason::WithinMargin, note);
        }
        if suspicious {
            let note = format!(
                "suspicious: worse by {} at the estimate; more sessions or a paired run decide",
                percent(share(metric, self.shift))
            );
            return verdict(Call::Inconclusive, Severity::None, Reason::Suspect, note);
        }
        let note = format!(
            "changes up to {} are not excluded; more sessions or launches decide",
            percent(share(metric, reach.copysign(self.shift)))
        );
        verdict(Call::Inconclusive, Severity::None, Reason::WideInterval, note)
    }

    fn changed(
        &self,
        metric: &Metric,
        worse: Severity,
        better: Severity,
        verdict: impl Fn(Call, Severity, Reason, String) -> Verdict,
    ) -> Verdict {
        let near = percent(share(metric, (self.shift.abs() - self.strict).copysign(self.shift)));
        if metric.direction == Direction::Unknown {
            let note = format!("changed by {near} or more; which way is better is unknown, so it cannot fail");
            return verdict(Call::Inconclusive, Severity::None, Reason::UnknownDirection, note);
        }
        let (call, severity, word) =
            if worse > Severity::None { (Call::Regressed, worse, "worse") } else { (Call::Improved, better, "better") };
        let note = format!("{word} by at least {near} with the suite's false-alarm budget split over its comparisons");
        verdict(call, severity, Reason::Established, note)
    }
}

/// Values without noise: any difference is a change, and its class is that of its size (STATISTICS.md section 6).
pub fn exact(base: f64, head: f64, metric: &Metric, thresholds: &Thresholds) -> Verdict {
    let verdict =
        |call, severity, reason, estimate, note| Verdict { call, severity, reason, provisional: false, estimate, note };
    let sure = |change| {
        Some(Estimate { change, lower: Some(change), upper: Some(change), confidence: 1.0 - 2.0 * ALPHA_REPORT })
    };
    let nil = Severity::None;
    if head == base {
        return verdict(Call::Unchanged, nil, Reason::ExactEqual, sure(0.0), "equal in every launch".to_owned());
    }
    let became = format!("without noise: {base} became {head}");
    if thresholds.absolute_floor.is_some_and(|floor| (head - base).abs() < floor) {
        return verdict(
            Call::Unchanged,
            nil,
            Reason::BelowFloor,
            None,
            format!("{became}, less than the absolute floor"),
        );
    }
    let worse = match metric.direction {
        Direction::Unknown => None,
        Direction::LowerIsBetter => Some(head > base),
        Direction::HigherIsBetter => Some(head < base),
    };
    let call = match worse {
        None => Call::Inconclusive,
        Some(true) => Call::Regressed,
        Some(false) => Call::Improved,
    };
    if base <= 0.0 || head <= 0.0 {
        // A change from or to nothing has no percentage; without noise it is as large as a change can be.
        let severity = if worse.is_some() { Severity::Severe } else { nil };
        return verdict(call, severity, Reason::ZeroBase, None, became);
    }
    let shift = (head / base).ln().abs();
    let severity = Severity::ALL.into_iter().skip(1).zip(thresholds.log()).rfind(|(_, limit)| shift >= *limit);
    let severity = severity.map_or(nil, |(severity, _)| severity);
    let estimate = sure(head / base - 1.0);
    match (severity, worse) {
        (Severity::None, _) => verdict(Call::Unchanged, nil, Reason::ExactChange, estimate, became),
        (_, None) => verdict(call, nil, Reason::UnknownDirection, estimate, became),
        (severity, Some(_)) => verdict(call, severity, Reason::ExactChange, estimate, became),
    }
}

/// `4.2 %`, for notes.
fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency() -> Metric {
        Metric::standard(Metric::LATENCY).expect("in the table")
    }

    fn finding(shift: f64, strict: f64) -> Finding {
        Finding { shift, strict, screen: strict / 2.0, report: strict / 1.5, base: 1.0 }
    }

    fn call(finding: Finding) -> (Call, Severity, Reason) {
        let verdict = finding.decide(&latency(), &Thresholds::default(), false);
        (verdict.call, verdict.severity, verdict.reason)
    }

    #[test]
    fn severity_is_earned_twice() {
        let severe = 0.15_f64.ln_1p();
        // The estimate is there, the near bound is at just half the threshold.
        assert_eq!(call(finding(severe, KAPPA * severe)).1, Severity::Severe);
        // The estimate alone is not enough.
        assert_eq!(call(finding(severe, KAPPA * severe + 1e-6)).1, Severity::Moderate);
        // The near bound alone is not enough.
        assert_eq!(call(finding(severe - 1e-6, 0.01)).1, Severity::Moderate);
    }

    #[test]
    fn improvements_mirror_regressions() {
        for shift in [0.01, 0.03, 0.08, 0.3] {
            for strict in [0.001, 0.02, 0.1] {
                let (worse, better) = (call(finding(shift, strict)), call(finding(-shift, strict)));
                assert_eq!(worse.1, better.1, "{shift} {strict}");
                assert_eq!(worse.0 == Call::Regressed, better.0 == Call::Improved);
            }
        }
    }

    #[test]
    fn want_of_precision_is_never_a_pass() {
        assert_eq!(call(finding(0.0, 0.2)).0, Call::Inconclusive);
        assert_eq!(call(finding(0.08, 0.12)), (Call::Inconclusive, Severity::None, Reason::Suspect));
        assert_eq!(call(finding(0.0, 0.01)), (Call::Unchanged, Severity::None, Reason::WithinMargin));
    }

    #[test]
    fn a_suspicious_shift_is_never_unchanged() {
        // Within the margin of 5 %, and clearly not zero.
        let found = Finding { shift: 0.034, strict: 0.0245, screen: 0.0124, report: 0.015, base: 1.0 };
        assert_eq!(call(found), (Call::Inconclusive, Severity::None, Reason::Suspect));
    }

    #[test]
    fn a_difference_below_the_floor_is_no_change() {
        let thresholds = Thresholds { absolute_floor: Some(0.5), ..Thresholds::default() };
        let verdict = finding(0.4, 0.01).decide(&latency(), &thresholds, false);
        assert_eq!((verdict.call, verdict.reason), (Call::Unchanged, Reason::BelowFloor));
        let wide = finding(0.3, 0.5).decide(&latency(), &thresholds, false);
        assert_eq!(wide.call, Call::Inconclusive, "0.5 and more is not excluded");
    }

    #[test]
    fn a_floor_is_met_by_the_difference_itself_whichever_way_is_better() {
        let thresholds = Thresholds { absolute_floor: Some(25.0), ..Thresholds::default() };
        let rate = Metric { direction: Direction::HigherIsBetter, ..latency() };
        let to = |metric: &Metric, head: f64| {
            let shift = sign(metric) * (head / 100.0_f64).ln();
            let found = Finding { shift, strict: 0.01, screen: 0.005, report: 0.007, base: 100.0 };
            found.decide(metric, &thresholds, false).reason
        };
        for metric in [&rate, &latency()] {
            for near in [78.0, 122.0] {
                assert_eq!(to(metric, near), Reason::BelowFloor, "{near}: 22 of 25");
            }
            for far in [70.0, 130.0] {
                assert_eq!(to(metric, far), Reason::Established, "{far}: 30 of 25");
            }
        }
    }

    #[test]
    fn notes_speak_in_the_metric_s_own_direction() {
        let rate = Metric { direction: Direction::HigherIsBetter, ..latency() };
        let note = |metric: &Metric, shift: f64, strict: f64| {
            finding(shift, strict).decide(metric, &Thresholds::default(), false).note
        };
        let fall = -(0.7_f64.ln());
        assert!(note(&rate, fall, 0.0).starts_with("worse by at least 30.0 %"), "{}", note(&rate, fall, 0.0));
        assert!(note(&rate, fall, 0.35).starts_with("suspicious: worse by 30.0 %"), "{}", note(&rate, fall, 0.35));
        assert!(note(&latency(), -fall, 0.0).starts_with("better by at least 30.0 %"));
    }

    #[test]
    fn a_noisy_session_decides_nothing() {
        for found in [finding(0.4, 0.01), finding(0.0, 0.001), finding(-0.4, 0.01)] {
            let verdict = found.decide(&latency(), &Thresholds::default(), true);
            assert_eq!((verdict.call, verdict.reason), (Call::Inconclusive, Reason::NoisySession));
        }
    }

    #[test]
    fn the_estimate_speaks_in_the_metric_s_own_direction() {
        let mut metric = latency();
        metric.direction = Direction::HigherIsBetter;
        let estimate = finding(0.2, 0.03).estimate(&metric);
        assert!((estimate.change - (-0.2_f64).exp_m1()).abs() < 1e-12);
        assert!(estimate.lower < Some(estimate.change) && Some(estimate.change) < estimate.upper);
    }
}
