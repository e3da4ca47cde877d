//! The pictures of a report: which there are, how their files are called, and what is on them.
//!
//! `svg` and `png` paint the same scenes, so the two formats cannot differ. Must not decide what is a regression.

mod axis;
mod distribution;
mod font;
mod forest;
mod palette;
mod scene;
pub mod trend;

use crate::domain::Call;
use crate::render::group::{self, Group};
use crate::report::{Report, Row};

pub use scene::{Scene, Target};

/// At most so many pictures of distributions.
const DISTRIBUTIONS: usize = 12;
/// Longest file name, without its ending: some file systems and archives stop at 100 to 255.
const LONGEST_STEM: usize = 100;

/// A picture that a report has.
#[derive(Debug, Clone)]
pub struct Picture<'a> {
    /// File name with folder and without ending: `plots/forest`.
    pub stem: String,
    /// What it shows, in words, for those who cannot see it. Holds data: escape it.
    pub title: String,
    report: &'a Report,
    row: Option<&'a Row>,
}

impl Picture<'_> {
    /// Lays it out.
    #[must_use]
    pub fn scene(&self) -> Scene {
        match self.row {
            None => forest::scene(self.report),
            Some(row) => distribution::scene(self.report, row),
        }
    }
}

/// The pictures of a report: the forest plot, then one for each flagged row that has launches on both sides.
#[must_use]
pub fn pictures(report: &Report) -> Vec<Picture<'_>> {
    let mut pictures = vec![Picture {
        stem: "plots/forest".to_owned(),
        title: format!("Changes of {} with their intervals", report.suite),
        report,
        row: None,
    }];
    for row in report.rows.iter().filter(|row| is_flagged(row)).take(DISTRIBUTIONS) {
        let wanted = stem(row);
        let taken = |name: &str| pictures.iter().any(|picture| picture.stem == name);
        let mut name = wanted.clone();
        // Different ids may become equal when made safe.
        let mut number = 1;
        while taken(&name) {
            number += 1;
            name = format!("{wanted}-{number}");
        }
        pictures.push(Picture {
            stem: name,
            title: format!("Launches of {}, {}", row.case, row.metric.name),
            report,
            row: Some(row),
        });
    }
    pictures
}

/// Whether a row deserves a picture of its own: it moved, or it may have moved and nobody can tell.
fn is_flagged(row: &Row) -> bool {
    let launches = |side: &Option<crate::report::Side>| side.as_ref().is_some_and(|side| !side.launches.is_empty());
    let wide = row.verdict.estimate.is_some_and(|estimate| estimate.change.abs() >= row.thresholds.minor);
    let flagged = match row.verdict.call {
        Call::Regressed | Call::Improved => true,
        Call::Inconclusive => wide,
        Call::Unchanged | Call::NotComparable => false,
    };
    flagged && launches(&row.base) && launches(&row.head)
}

/// `plots/distribution-<case>-<metric>` of letters, digits, `.`, `-` and `_` alone.
fn stem(row: &Row) -> String {
    let mut safe = String::from("distribution-");
    for c in format!("{}-{}", row.case, row.metric.name).chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        if !(c == '-' && safe.ends_with('-')) {
            safe.push(c);
        }
    }
    safe.truncate(LONGEST_STEM);
    format!("plots/{}", safe.trim_end_matches(['-', '.']))
}

/// `regressed severe (provisional)`, or what befell a row without numbers.
fn verdict_words(row: &Row) -> String {
    let words = match Group::of(row) {
        Group::Failed => "failed".to_owned(),
        Group::Missing => "missing".to_owned(),
        _ => format!("{} {}", row.verdict.call, group::severity(row)).trim_end().to_owned(),
    };
    if row.verdict.provisional { format!("{words} (provisional)") } else { words }
}
