//! Pure functions on `f64`: order statistics, Student's t, and the predictive bound of a history.
//!
//! Must not know what the numbers mean: no project types, no I/O, no randomness, no clocks. Sums run in a fixed order,
//! so that identical input gives bit-identical output.

pub mod predictive;
pub mod quantile;
pub mod student;
