//! Writes messages, one JSON object a line, flushed line by line so that a crash loses nothing that was said.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use thiserror::Error;

use crate::protocol::{Message, Request, VERSION};

/// Environment variable with the request's JSON text.
pub const REQUEST_VARIABLE: &str = "REGRADE_REQUEST";
/// Environment variable with the path of the file or pipe to append messages to.
pub const OUTPUT_VARIABLE: &str = "REGRADE_OUTPUT";
/// Environment variable with the path of a folder that the launches of one session share, empty in the beginning.
pub const SESSION_VARIABLE: &str = "REGRADE_SESSION_DIR";

/// Why a worker cannot talk.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// A variable is absent: the process was not started by a runner.
    #[error("{0} is not set: a worker is started by `regrade run`, not by hand")]
    NoVariable(&'static str),
    /// The request is not what this version expects.
    #[error("{REQUEST_VARIABLE}: {0}")]
    BadRequest(String),
    /// The output cannot be written.
    #[error("{path}: {source}")]
    Output {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The request of this process.
///
/// # Errors
/// When the variable is absent, not JSON of a [`Request`], or of a newer protocol.
pub fn request_from_env() -> Result<Request, ProtocolError> {
    let text = std::env::var(REQUEST_VARIABLE).map_err(|_| ProtocolError::NoVariable(REQUEST_VARIABLE))?;
    let request: Request = serde_json::from_str(&text).map_err(|error| ProtocolError::BadRequest(error.to_string()))?;
    if request.protocol > VERSION {
        return Err(ProtocolError::BadRequest(format!(
            "protocol version {} asked for, this worker speaks {VERSION}",
            request.protocol
        )));
    }
    Ok(request)
}

/// The way back to the runner.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// Opens what `REGRADE_OUTPUT` names and says hello.
    ///
    /// # Errors
    /// When the variable is absent or the file cannot be opened.
    pub fn from_env(client: &str, version: &str) -> Result<Self, ProtocolError> {
        let path = PathBuf::from(std::env::var_os(OUTPUT_VARIABLE).ok_or(ProtocolError::NoVariable(OUTPUT_VARIABLE))?);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| ProtocolError::Output { path: path.display().to_string(), source })?;
        let mut writer = Self { path, file };
        writer.send(&Message::Hello { protocol: VERSION, client: client.to_owned(), version: version.to_owned() })?;
        Ok(writer)
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn send(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let wrap = |source| ProtocolError::Output { path: self.path.display().to_string(), source };
        let mut line = serde_json::to_vec(message).map_err(|error| wrap(std::io::Error::other(error)))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(wrap)
    }
}
