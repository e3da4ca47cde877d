//! Programs of `StableHLO` through PJRT plugins. So far: which plugins are here, and how they come here.

pub mod plugins;
