//! Pure functions on f64.
