//! `regrade worker` (hidden): runs one case in this process and speaks the protocol.

use crate::exit::Exit;

/// Measures the case that the environment asks for.
///
/// # Errors
/// When the request cannot be read or answered; everything else is told through the protocol.
pub fn run() -> anyhow::Result<Exit> {
    todo!()
}
