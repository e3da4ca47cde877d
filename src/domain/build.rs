//! How a checked-out tree is made ready to run its benchmarks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The build step of a suite: run in each tree of a comparison of two git refs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Program and arguments; empty where nothing has to be built.
    pub command: Vec<String>,
    /// Environment variables of the build.
    pub env: BTreeMap<String, String>,
    /// The build is killed after this many seconds.
    pub timeout_s: f64,
    /// Program of the tree that runs its built-in workloads as `<program> worker`, relative to the folder in which the
    /// build starts; absent where the suite's benchmarks are commands.
    pub worker: Option<String>,
    /// Program and arguments that link the worker anew with its code in another order, `{layout}` standing for the number
    /// of the order; empty where only the build itself is measured.
    pub relink: Vec<String>,
    /// How many orders there are; one where there is no `relink`.
    pub layouts: u32,
}
