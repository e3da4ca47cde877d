//! `regrade hold-clocks` (hidden): locks GPU clocks for as long as somebody holds the other end of its standard input, and puts them
//! back.
//!
//! A process of its own, because the one that measures may be killed at any moment and a lock stays until it is taken back. However
//! that process ends, the kernel closes its end of the pipe. It is also the one that keeps the driver loaded: where nobody has the GPU
//! open, a driver without persistence mode is unloaded between launches and forgets the lock. Must not know what is measured.

use std::io::{Read, Write};
use std::sync::mpsc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::context::note;
use crate::exit::Exit;
use crate::hardware::lock::{Asked, Hold, Refusal, still_locked};

/// What it says on standard output, one JSON value a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The clocks are locked.
    Locked {
        /// At this, MHz.
        mhz: u32,
    },
    /// They are as they were, and why.
    Refused(Refusal),
    /// They are the driver's again.
    Restored,
    /// They could not be given back, in the driver's words.
    Stuck(String),
}

/// Holds.
pub fn run(asked: Asked) -> Result<Exit> {
    // Ctrl-C on a terminal goes to everything in its session; this must outlive whom it serves. Fails where it leads a group already,
    // and then the signal is handled below.
    let _ = rustix::process::setsid();
    let (end, ended) = mpsc::channel();
    let told = end.clone();
    // Who ends everything here (a service manager, the machine going down) means this process too, and kills what does not end.
    let heard = move || {
        let _ = told.send(());
    };
    ctrlc::set_handler(heard).context("cannot listen for signals")?;
    let mut hold = match Hold::take(asked) {
        Ok(hold) => hold,
        Err(refusal) => {
            say(&Word::Refused(refusal));
            return Ok(Exit::Environment);
        }
    };
    say(&Word::Locked { mhz: hold.mhz });
    std::thread::spawn(move || {
        // Nothing is ever sent: whatever ends the reading, an error too, is the other end's end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    let _ = ended.recv();
    Ok(match hold.put_back() {
        Ok(()) => {
            say(&Word::Restored);
            Exit::Pass
        }
        Err(why) => {
            if !say(&Word::Stuck(why.clone())) {
                note(&format!("error: {}", still_locked(&why)));
            }
            Exit::Environment
        }
    })
}

/// Whether somebody is there to hear it.
fn say(word: &Word) -> bool {
    let line = serde_json::to_string(word).expect("words are plain data");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
