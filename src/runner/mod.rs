//! Starts workers.
pub mod process;
