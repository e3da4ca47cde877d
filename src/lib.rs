//! regrade grades performance regressions in CI: none, minor, moderate or severe.
//!
//! Data flows one way: a suite file is parsed and expanded into a plan ([`suite`]); the [`runner`] starts one worker
//! process a launch in shuffled order; a worker drives one [`backend`] through [`measure`] and streams samples and
//! evidence back over the [`protocol`]; the [`store`] keeps them launch by launch; [`verdict`] compares head with its
//! base by the functions of [`stats`]; [`report`] builds one view model; [`render`] turns it into bytes, and [`github`]
//! takes them to the pull request.
//!
//! ARCHITECTURE.md has the code map and the invariants; `tests/structure.rs` keeps the dependency rule true.

pub mod backend;
pub mod cli;
pub mod command;
pub mod domain;
pub mod exit;
pub mod github;
pub mod hardware;
pub mod measure;
pub mod protocol;
pub mod render;
pub mod report;
pub mod runner;
pub mod stats;
pub mod store;
pub mod suite;
pub mod verdict;
