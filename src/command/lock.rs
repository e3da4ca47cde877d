//! The clocks of a session's GPUs, locked while it measures and put back when it ends, however it ends.
//!
//! The locking itself is done by a guardian, `regrade hold-clocks`, which puts the clocks back when this process lets go of a pipe or
//! dies. Must not know what is measured.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::command::context::{Context, note};
use crate::command::hold_clocks::Word;
use crate::command::session::{CANCELLED, own_program};
use crate::command::usage;
use crate::domain::Case;
use crate::hardware::lock::{Asked, Locked, Refusal, still_locked};
use crate::runner::clocks;

/// How long the guardian may take to lock: loading the driver where it is not loaded takes seconds a GPU.
const LOCKING: Duration = Duration::from_secs(60);
/// How long it may take to put back.
const RESTORING: Duration = Duration::from_secs(20);
/// How often Ctrl-C is looked for meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Locked clocks. Dropping this puts them back.
#[derive(Debug)]
pub struct Lock {
    guardian: Guardian,
    locked: Arc<Locked>,
}

impl Lock {
    /// Locks, where it was asked for. What is to be measured must have to do with GPUs, or the lock would be for nothing.
    ///
    /// # Errors
    /// Where clocks may not be locked here, or are not: nothing is to be measured then.
    pub fn take<'a>(
        asked: Option<Asked>,
        mut cases: impl Iterator<Item = &'a Case>,
        context: &Context,
    ) -> Result<Option<Self>> {
        let Some(asked) = asked else { return Ok(None) };
        if !cases.any(|case| case.skip.is_none() && clocks::concern(case)) {
            return Err(usage(
                "nothing of this selection can run on an NVIDIA GPU here, and --lock-clocks is about its clocks: leave it out, \
                 and REGRADE_LOCK_CLOCKS unset",
            ));
        }
        let mut guardian = Guardian::start(asked)?;
        let mhz = match guardian.hear(LOCKING, true) {
            Some(Word::Locked { mhz }) => mhz,
            Some(Word::Refused(refusal)) => {
                // It holds nothing, and ends.
                guardian.pipe = None;
                let _ = guardian.process.wait();
                return Err(refused(&refusal));
            }
            _ if CANCELLED.load(Ordering::SeqCst) => anyhow::bail!("interrupted while GPU clocks were being locked"),
            _ => anyhow::bail!(
                "GPU clocks could not be locked: the process that does it gave no answer; look what `nvidia-smi` says, or \
                 leave --lock-clocks out"
            ),
        };
        context.tell(&format!("GPU clocks are locked at {mhz} MHz, and go back to the driver afterwards"));
        Ok(Some(Self { guardian, locked: Arc::new(Locked::at(asked, mhz)) }))
    }

    /// What the clocks are locked at.
    pub fn locked(&self) -> Arc<Locked> {
        Arc::clone(&self.locked)
    }

    /// Puts the clocks back. What goes wrong is told at once, whatever else went wrong.
    ///
    /// # Errors
    /// Where they are still locked, where that is not known, and where they were not locked all the time.
    pub fn put_back(mut self) -> Result<()> {
        self.guardian.let_go().map_err(|why| {
            note(&format!("error: {why}"));
            anyhow::anyhow!("the clocks were not locked and put back as they should be; what was measured is stored")
        })
    }
}

/// The process that holds the clocks.
#[derive(Debug)]
struct Guardian {
    process: Child,
    /// The end of the pipe whose closing puts the clocks back. No child inherits it.
    pipe: Option<ChildStdin>,
    words: Receiver<Word>,
}

impl Guardian {
    fn start(asked: Asked) -> Result<Self> {
        let mut process = Command::new(own_program()?)
            .args(["hold-clocks", &asked.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process that locks GPU clocks and puts them back")?;
        let (pipe, out) = (process.stdin.take(), process.stdout.take().expect("it is piped"));
        let (tell, words) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            for word in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                // Nobody listens any more once it took too long.
                let _ = tell.send(word);
            }
        });
        Ok(Self { process, pipe, words })
    }

    /// The next word; nothing where it takes too long, the guardian has died, or, if that counts, Ctrl-C was pressed.
    fn hear(&self, patience: Duration, interruptible: bool) -> Option<Word> {
        let start = Instant::now();
        loop {
            match self.words.recv_timeout(POLL) {
                Ok(word) => return Some(word),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if start.elapsed() >= patience || (interruptible && CANCELLED.load(Ordering::SeqCst)) {
                return None;
            }
        }
    }

    fn let_go(&mut self) -> Result<(), String> {
        let Some(pipe) = self.pipe.take() else { return Ok(()) };
        let early = self.words.try_recv().ok();
        drop(pipe);
        let mut said = early.clone().or_else(|| self.hear(RESTORING, false));
        if let Some(Word::Locked { .. }) = said {
            // Nobody waited for that any more.
            said = self.hear(RESTORING, false);
        }
        if said.is_some() {
            // It ends as soon as it has said this.
            let _ = self.process.wait();
        }
        let why = match said {
            Some(Word::Restored) if early == Some(Word::Restored) => {
                return Err(
                    "GPU clocks were given back to the driver before the session ended, because a signal ended the \
                            process that held them; measure again"
                        .to_owned(),
                );
            }
            Some(Word::Restored | Word::Refused(_)) => return Ok(()),
            Some(Word::Stuck(why)) => why,
            Some(Word::Locked { .. }) | None => "no answer from the process that held them".to_owned(),
        };
        Err(still_locked(&why))
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Err(why) = self.let_go() {
            note(&format!("error: {why}"));
        }
    }
}

fn refused(refusal: &Refusal) -> anyhow::Error {
    let text = format!("GPU clocks cannot be locked: {}; {}", refusal.reason, refusal.remedy);
    if refusal.asked_wrongly { usage(text) } else { anyhow::anyhow!("{text}") }
}
