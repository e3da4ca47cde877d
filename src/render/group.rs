//! The sections that the text formats share, in the order they are shown. Sorts by the verdict and never makes one.

use std::collections::HashMap;

use crate::domain::{Call, Reason, Severity};
use crate::render::format;
use crate::report::{PairedInfo, Report, Row};

/// A section of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Worse.
    Regressed,
    /// Worse, and a waiver covers it.
    Waived,
    /// Worse, as the base branch itself is by now.
    Inherited,
    /// Head could not measure it.
    Failed,
    /// In the base, gone from head.
    Missing,
    /// The data cannot say.
    Inconclusive,
    /// May not be compared, for another reason than the groups around this one.
    NotComparable,
    /// Better.
    Improved,
    /// The same.
    Unchanged,
    /// The data cannot say, and it could not fail CI either.
    Open,
    /// Without an earlier result.
    New,
    /// Not attempted here.
    Skipped,
}

impl Group {
    /// All, in the order they are shown.
    pub const ALL: [Self; 12] = [
        Self::Regressed,
        Self::Waived,
        Self::Inherited,
        Self::Failed,
        Self::Missing,
        Self::Inconclusive,
        Self::NotComparable,
        Self::Improved,
        Self::Unchanged,
        Self::Open,
        Self::New,
        Self::Skipped,
    ];

    /// Where a row belongs.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        match (row.verdict.call, row.verdict.reason) {
            (Call::Regressed, Reason::Waived) => Self::Waived,
            (Call::Regressed, Reason::Inherited) => Self::Inherited,
            (Call::Regressed, _) => Self::Regressed,
            (Call::Improved, _) => Self::Improved,
            (Call::Unchanged, _) => Self::Unchanged,
            (Call::Inconclusive, reason) if !row.gating && reason == Reason::WideInterval => Self::Open,
            (Call::Inconclusive, _) => Self::Inconclusive,
            (Call::NotComparable, Reason::HeadFailed) => Self::Failed,
            (Call::NotComparable, Reason::Missing) => Self::Missing,
            (Call::NotComparable, Reason::New) => Self::New,
            (Call::NotComparable, Reason::HeadSkipped) => Self::Skipped,
            (Call::NotComparable, _) => Self::NotComparable,
        }
    }

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Regressed => "Regressed",
            Self::Waived => "Regressed, and waived",
            Self::Inherited => "Regressed, inherited from the base branch",
            Self::Failed => "Failed in head",
            Self::Missing => "Missing in head",
            Self::Inconclusive => "Inconclusive",
            Self::NotComparable => "Not comparable",
            Self::Improved => "Improved",
            Self::Unchanged => "Unchanged",
            Self::Open => "Inconclusive, and not gated",
            Self::New => "New, nothing to compare with",
            Self::Skipped => "Skipped here",
        }
    }

    /// Whether its rows are told by a sentence because the numbers alone do not say what happened.
    #[must_use]
    pub const fn wants_reason(self) -> bool {
        matches!(
            self,
            Self::Waived
                | Self::Inherited
                | Self::Failed
                | Self::Missing
                | Self::Inconclusive
                | Self::NotComparable
                | Self::Skipped
        )
    }

    /// Its rows, worst first as the report has them.
    #[must_use]
    pub fn rows(self, report: &Report) -> Vec<&Row> {
        report.rows.iter().filter(|row| Self::of(row) == self).collect()
    }
}

/// Brings the rows of a case together, at the place of its worst row; the order is kept otherwise.
#[must_use]
pub fn by_case(mut rows: Vec<&Row>) -> Vec<&Row> {
    let mut place: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        let next = place.len();
        place.entry(row.case.as_str()).or_insert(next);
    }
    rows.sort_by_key(|row| place[row.case.as_str()]);
    rows
}

/// Why a row is what it is, in one sentence: head's own words where it failed, else the verdict's.
#[must_use]
pub fn reason(row: &Row) -> String {
    let own = row.outcome.as_ref().and_then(|outcome| {
        let why = outcome.reason.as_ref()?;
        Some(format!("{}: {why}", outcome.kind))
    });
    match (Group::of(row), own) {
        (Group::Failed | Group::Skipped, Some(own)) => own,
        _ if row.verdict.note.is_empty() => row.verdict.reason.code().to_owned(),
        _ => row.verdict.note.clone(),
    }
}

/// Whether a row is told by a sentence: where the numbers alone do not say what happened, and where pairs say how sure
/// it is.
#[must_use]
pub const fn tells_why(row: &Row, group: Group) -> bool {
    group.wants_reason() || row.paired.is_some() && matches!(group, Group::Regressed | Group::Improved)
}

/// What the intervals of a report cover; `None` where it has none.
#[must_use]
pub fn coverage(report: &Report) -> Option<String> {
    let covered = report.rows.iter().filter_map(|row| row.verdict.estimate).map(|estimate| estimate.confidence);
    let (least, most) = covered.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
    if least > most {
        return None;
    }
    let usual = format::share(most);
    Some(if least < most { format!("{usual}, {} where few pairs decided", format::share(least)) } else { usual })
}

/// What a paired session took, in one sentence.
#[must_use]
pub fn paired(info: &PairedInfo) -> String {
    let saved = info
        .launches_saved
        .map_or_else(String::new, |saved| format!(", about {saved} saved by screening with history"));
    let control = match info.control_pairs {
        0 => String::new(),
        pairs => format!("; {} of the base against itself", format::plural(pairs as usize, "pair", "pairs")),
    };
    format!(
        "{} of {} in coin-ordered turns, {} made{saved}{control}",
        format::plural(info.pairs as usize, "pair", "pairs"),
        format::plural(info.cases as usize, "case", "cases"),
        format::plural(info.launches as usize, "launch", "launches")
    )
}

/// The severity's word; empty where there is none to tell.
#[must_use]
pub fn severity(row: &Row) -> &'static str {
    match row.verdict.severity {
        Severity::None => "",
        other => other.as_str(),
    }
}
