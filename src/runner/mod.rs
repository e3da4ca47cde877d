//! Starts workers.
