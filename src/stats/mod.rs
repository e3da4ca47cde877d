//! Pure functions on f64.

pub mod quantile;
