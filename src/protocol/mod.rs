//! The worker protocol: one JSON request in the environment, JSON Lines back through a file or pipe.
//!
//! Must not know who starts workers, what they run, or where results go. Unknown messages and fields are kept or
//! ignored, so that clients may be newer than the harness.

mod message;
mod reader;
mod writer;

pub use message::{Message, Request};
pub use reader::{ReadError, Reading, read_messages};
pub use writer::{OUTPUT_VARIABLE, ProtocolError, REQUEST_VARIABLE, SESSION_VARIABLE, Writer, request_from_env};

/// Version of the protocol spoken here.
pub const VERSION: u32 = 1;
