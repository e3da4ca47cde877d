//! A waiver: a person's reviewed word, kept in a file beside the code, that a known regression does not fail the gate.

use jiff::civil::Date;

use crate::domain::CaseId;

/// One entry of the file: what may be worse, by how much at most, why, who says so, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiver {
    /// Suite name; absent: every suite that has the case.
    pub suite: Option<String>,
    /// The case, by its exact id.
    pub case: CaseId,
    /// Metric name.
    pub metric: String,
    /// Largest change covered, a fraction of the base in the metric's own direction.
    pub change: f64,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
    /// The last day it counts, in UTC; absent: until it is taken out.
    pub until: Option<Date>,
}

impl Waiver {
    /// Whether its last day lies before `today` (UTC).
    #[must_use]
    pub fn has_expired(&self, today: Date) -> bool {
        self.until.is_some_and(|until| until < today)
    }
}
