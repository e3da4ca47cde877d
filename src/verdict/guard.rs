//! Guards against a machine that misleads (STATISTICS.md section 8): what of a launch's evidence forbids to count it, and
//! a stream of pairs without any difference that watches the harness itself.

use crate::domain::Evidence;
use crate::stats::evidence::{Pairs, Side};
use crate::verdict::policy::PRIOR_SPREAD;

/// Share of the processors' time that another tenant of the host may take during a launch, percent (G5).
const MOST_STEAL: f64 = 2.0;
/// Level at which the control stream speaks, for both directions together (G4).
const CONTROL_ALPHA: f64 = 0.001;
/// Share of suspects among the screened cases from which one cause of the whole session is likely (G2).
const MASS: f64 = 0.25;
/// Fewer screened cases than this are no crowd.
const CROWD: usize = 8;
/// Share of dropped pairs from which the session is called noisy (G5).
const MOST_DROPPED: f64 = 0.2;

/// Why a launch must not count, by what disturbed it from outside. Only what no arm can cause itself: its own clocks,
/// memory or pressure are the measurement.
#[must_use]
pub fn disturbance(evidence: &[Evidence]) -> Option<String> {
    let steal =
        evidence.iter().filter_map(|evidence| evidence.facts.get("steal_percent")?.as_f64()).fold(0.0, f64::max);
    (steal > MOST_STEAL).then(|| format!("another tenant of the host took {steal:.1} % of the processors"))
}

/// Whether so many suspects have one cause in common (G2).
#[must_use]
pub fn is_mass(suspects: usize, screened: usize) -> bool {
    screened >= CROWD && suspects as f64 > MASS * screened as f64
}

/// One sentence where too many pairs had to be dropped.
#[must_use]
pub fn dropped_note(dropped: usize, made: usize) -> Option<String> {
    (dropped as f64 > MOST_DROPPED * made as f64).then(|| {
        format!(
            "noisy session: {dropped} of {made} pairs were disturbed from outside and did not count; a machine with \
             fewer neighbours decides sooner"
        )
    })
}

/// The base against itself, through the same coin and the same code as every comparison (G4).
#[derive(Debug)]
pub struct Control {
    pairs: Pairs,
    crossed: bool,
}

impl Control {
    /// No pair yet; `spread` is what is expected of one, log units.
    #[must_use]
    pub fn new(spread: Option<f64>) -> Self {
        Self { pairs: Pairs::new(spread.unwrap_or(PRIOR_SPREAD), 1e-4), crossed: false }
    }

    /// Takes the next difference, log units.
    pub fn take(&mut self, difference: f64) {
        self.pairs.push(difference);
        let needed = (2.0 / CONTROL_ALPHA).ln();
        let strongest = self.pairs.log_evidence(0.0, Side::Above).max(self.pairs.log_evidence(0.0, Side::Below));
        self.crossed |= strongest >= needed;
    }

    /// Pairs so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether the same program was told from itself: then no verdict of the session means anything.
    #[must_use]
    pub const fn crossed(&self) -> bool {
        self.crossed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_that_always_leans_to_one_side_is_told() {
        let mut control = Control::new(None);
        for _ in 0..40 {
            control.take(0.05);
        }
        assert!(control.crossed());
        let mut control = Control::new(None);
        for i in 0..40 {
            control.take(if i % 2 == 0 { 0.05 } else { -0.05 });
        }
        assert!(!control.crossed());
    }

    #[test]
    fn only_what_no_arm_can_cause_is_a_disturbance() {
        let evidence = |name: &str, value: f64| Evidence {
            source: "linux".to_owned(),
            facts: [(name.to_owned(), value.into())].into(),
        };
        assert!(disturbance(&[evidence("steal_percent", 7.0)]).is_some());
        assert_eq!(disturbance(&[evidence("steal_percent", 0.5)]), None);
        assert_eq!(disturbance(&[evidence("pressure_cpu_some_percent", 90.0)]), None);
        assert_eq!(disturbance(&[]), None);
    }

    #[test]
    fn a_crowd_of_suspects_has_one_cause() {
        assert!(is_mass(60, 200) && !is_mass(40, 200) && !is_mass(3, 4));
        assert!(dropped_note(3, 10).is_some() && dropped_note(2, 10).is_none() && dropped_note(0, 0).is_none());
    }
}
