//! One file a verb, wiring only.

pub mod baseline;
pub mod worker;
