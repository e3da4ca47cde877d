//! One file a verb, wiring only.

pub mod worker;
