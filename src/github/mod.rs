//! PORT: tells a code host what was decided. GitHub is reached through octocrab in `live`; `dry` prints what would be sent.
//!
//! Sends what it is given and decides nothing: bodies are made by `render`, verdicts by `verdict`. Everything it does can be
//! done again: what is there already is found and updated in place. Must not know how a comment looks.
//! `command` reads what a comment asks for, `accepted` what was accepted in a thread; who may ask is not decided here.

pub mod accepted;
#[cfg(feature = "github-app")]
pub mod app;
pub mod artifact;
pub mod check;
pub mod command;
pub mod comment;
pub mod dry;
pub mod event;
pub mod hub;
pub mod live;
pub mod picture;
pub mod status;

pub use hub::{Call, Hub, HubError, Method, promised};
