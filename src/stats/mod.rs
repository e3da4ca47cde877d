//! Pure functions on `f64`: order statistics, Student's t, the predictive bound of a history, evidence from pairs,
//! tests by relabelling, many comparisons at once, and steps in a series.
//!
//! Must not know what the numbers mean: no project types, no I/O, no randomness, no clocks. Sums run in a fixed order,
//! so that identical input gives bit-identical output.

pub mod evidence;
pub mod level;
pub mod multiplicity;
pub mod predictive;
pub mod quantile;
pub mod rank_scan;
pub mod relabel;
// The count that relabelling is checked against.
#[cfg(test)]
mod signed_rank;
pub mod student;
pub mod typical;
