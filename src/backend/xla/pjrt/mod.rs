//! A safe layer over the PJRT C API, the interface through which XLA's compilers and run times are had as plugins: one shared
//! library for each kind of device, opened at run time.
//!
//! From the bottom: `sys` (the header as bindgen sees it) · `api` (the table of functions, arguments, errors) · `client` (devices,
//! uploads) · `buffer` · `executable` (compiled programs, with or without a device) · `topology` (devices that are not here) ·
//! `options` (what a compilation is told) · `profiler` (what devices did meanwhile). Must not know what a workload is.
//!
//! What carries it, found by trying every plugin there is:
//! - A plugin refuses an argument struct that is *smaller* than its own and takes a larger one. So every struct is followed by
//!   zeroed room that is counted in its size: fields that a later header adds read as "not set".
//! - The table of functions is copied at the smaller of both sizes. What the plugin lacks is an error, never a wild call.
//! - Nothing is unloaded: plugins start threads and register state of the process.
//! - Whoever holds a part of a client holds the client; parts may go in any order.
//! - Nothing is donated unless the caller says which arguments may be.

mod api;
mod buffer;
mod client;
mod executable;
#[cfg(test)]
mod fake;
mod options;
mod profiler;
#[rustfmt::skip]
mod sys;
#[cfg(test)]
mod tests;
mod topology;

use thiserror::Error;

pub use api::{Plugin, Value};
pub use buffer::{Buffer, Event};
pub use client::{Client, Device};
pub use executable::{Compiled, Executable};
pub use options::{Flag, Options};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PjrtError {
    /// The library cannot be loaded: no such file, no library, a library of a vendor missing.
    #[error("cannot load the plugin: {0}")]
    Load(String),
    /// The library is no plugin that can be talked to, or breaks its contract.
    #[error("the plugin breaks the interface: {0}")]
    Contract(String),
    /// The plugin is older than a function.
    #[error("the plugin has no {0}")]
    Missing(&'static str),
    /// The plugin's own error.
    #[error("{call}: {} ({code}): {message}", code_name(*code))]
    Plugin {
        /// Which function.
        call: &'static str,
        /// Status code of abseil.
        code: u32,
        /// Its words.
        message: String,
    },
    /// What the caller gave does not fit.
    #[error("{0}")]
    Argument(String),
}

/// A result of this layer.
pub type Result<T> = std::result::Result<T, PjrtError>;

/// Status code of "the device's memory is used up".
const RESOURCE_EXHAUSTED: u32 = 8;
/// Status code of "not implemented".
const UNIMPLEMENTED: u32 = 12;

impl PjrtError {
    /// Whether the device has too little memory.
    #[must_use]
    pub const fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Plugin { code: RESOURCE_EXHAUSTED, .. })
    }

    /// Whether this plugin just cannot do it, which is a value and no failure.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Plugin { code: UNIMPLEMENTED, .. })
    }
}

/// A value, or nothing where the plugin does not offer it.
pub fn offered<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("unknown status")
}
