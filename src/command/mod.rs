//! One file a verb, wiring only.

pub mod doctor;
pub mod worker;
