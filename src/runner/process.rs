//! Starts one child process, bounds its time and memory, and says how it ended and what it used.
//!
//! Must not know what the child is or what its output means. No child, whatever it does, may hang or crash the
//! harness: the child leads its own process group, which is killed as a whole, and its output goes through a capped
//! log that never blocks it.
//!
//! What is known of a finished child, and how well:
//! - wall time is taken by a thread that blocks in `waitid`, so it does not depend on the polling interval;
//! - user and system time come with its status when it is reaped, in microseconds, and include the descendants it has
//!   waited for; their sum is what the scheduler counted, how it is shared between the two is seen by ticks;
//! - peak memory is polled (every 2 ms at first, every 50 ms later), because the kernel drops a process's high-water
//!   mark when it exits: a peak in the last moments may be missed, and pages shared by several processes of the
//!   group count once for each. A worker that reports its own peak knows better.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use wait4::{ResUse, Wait4};

use crate::hardware::{self, ProcessStat};

#[cfg(test)]
mod tests;

/// First and longest pause between two looks at a running child.
const POLL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// First and longest pause between two listings of the child's group (each reads a file for every process there is).
const LIST: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a child may tidy up after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_millis(500);
/// How long a killed child may take to disappear; longer means that it hangs in the kernel.
const DEATH: Duration = Duration::from_secs(10);
/// How long to wait for the end of the output after the whole group is dead; only a process that left the group can
/// keep the pipe open longer, and that one is not waited for.
const DRAIN: Duration = Duration::from_millis(500);
/// Bytes of output kept from its beginning.
const HEAD: usize = 8 << 10;
/// Bytes of output kept from its end.
const TAIL: usize = 24 << 10;

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Wall time until it is killed.
    pub timeout: Duration,
    /// Resident bytes of its whole process group above which it is killed.
    pub memory: Option<u64>,
    /// A file it writes to, and the bytes above which it is killed.
    pub output: Option<(&'a File, u64)>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// A signal that we did not send killed it.
    Signalled(i32),
    /// It was killed at its deadline.
    TimedOut,
    /// It was killed at its memory limit, or by the kernel for want of memory.
    OverMemory {
        /// The most that was seen resident, bytes.
        peak: u64,
    },
    /// It was killed for writing too much to the file that was watched.
    OverOutput,
    /// It was killed because the run was cancelled.
    Cancelled,
}

/// A child that has ended and been reaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// How.
    pub ended: Ended,
    /// From just before it was started until it ended.
    pub wall: Duration,
    /// User time of it and of the descendants it waited for, seconds.
    pub user_s: f64,
    /// System time, likewise.
    pub system_s: f64,
    /// The most that was seen resident in its process group, bytes; absent if it ended before the first look.
    pub peak_rss: Option<u64>,
    /// Standard output and error in the order they were written, without the middle if they are long.
    pub log: String,
}

/// Why a child could not be run.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start `{program}`: {source}; check that it exists, is executable, and is on PATH")]
    Start {
        /// As given.
        program: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for `{program}`: {source}")]
    Wait {
        /// As given.
        program: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// It survives SIGKILL, which means that it hangs inside the kernel (a driver, a dead network file system).
    #[error(
        "`{program}` (process {pid}) does not die: it hangs inside the kernel; see `cat /proc/{pid}/stack` as root"
    )]
    Immortal {
        /// As given.
        program: String,
        /// Its process id.
        pid: u32,
    },
}

/// Runs a command to its end, or to the end that the limits or `cancel` put to it.
///
/// The command's standard streams and process group are set here. When this returns, every process that was still in
/// the child's group is dead.
///
/// # Errors
/// When the child cannot be started, waited for, or killed.
pub fn run(mut command: Command, limits: Limits<'_>, cancel: &AtomicBool) -> Result<Finished, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start_error = |source| ProcessError::Start { program: program.clone(), source };
    let (reader, writer) = std::io::pipe().map_err(start_error)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(start_error)?).stderr(writer).process_group(0);
    let oom_kills = hardware::oom_kills();
    let start = Instant::now();
    let mut child = command.spawn().map_err(start_error)?;
    // The command still holds our copies of the pipe's writing end, which would keep it open for ever.
    drop(command);
    let output = Output::collect(reader);
    let deaths = notify_of_death(&child);

    let mut group = Group::new(&child);
    let (death, killed) = match watch(&deaths, &mut group, limits, start, cancel) {
        Stop::Died(death) => (Some(death), None),
        Stop::Limit(ended) => (group.kill(&deaths, ended), Some(ended)),
    };
    let Some(death) = death else {
        return Err(ProcessError::Immortal { program, pid: child.id() });
    };
    let wait_error = |source| ProcessError::Wait { program: program.clone(), source };
    // The zombie still holds its process id, so the group's id cannot have been given to others.
    group.signal(Signal::KILL);
    let died = death.map_err(wait_error)?;
    let ResUse { status, rusage } = child.wait4().map_err(wait_error)?;

    let oom_killed = || matches!((oom_kills, hardware::oom_kills()), (Some(was), Some(is)) if is > was);
    let ended = match (killed, status.code(), status.signal()) {
        (Some(ended), ..) => ended,
        (None, Some(code), _) => Ended::Exited(code),
        (None, None, Some(signal)) if signal == Signal::KILL.as_raw() && oom_killed() => {
            Ended::OverMemory { peak: group.peak.unwrap_or(0) }
        }
        (None, None, signal) => Ended::Signalled(signal.unwrap_or(0)),
    };
    Ok(Finished {
        ended,
        wall: died - start,
        user_s: rusage.utime.as_secs_f64(),
        system_s: rusage.stime.as_secs_f64(),
        peak_rss: group.peak,
        log: output.take(),
    })
}

/// When a child was seen dead, or why that cannot be told.
type Death = std::io::Result<Instant>;

/// Why watching ended.
enum Stop {
    Died(Death),
    Limit(Ended),
}

/// Waits in a thread until the child is a zombie, without reaping it.
fn notify_of_death(child: &Child) -> Receiver<Death> {
    let pid = Pid::from_child(child);
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let death = loop {
            match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => break Ok(Instant::now()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        // Nobody listens any more once the child was given up as immortal.
        let _ = tell.send(death);
    });
    hear
}

/// Looks at the child from time to time until it dies or must be killed.
fn watch(deaths: &Receiver<Death>, group: &mut Group, limits: Limits<'_>, start: Instant, cancel: &AtomicBool) -> Stop {
    let deadline = start + limits.timeout;
    let (mut pause, longest) = POLL;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match deaths.recv_timeout(pause.min(left)) {
            Ok(death) => return Stop::Died(death),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Stop::Died(Err(std::io::Error::other("the waiting thread has ended")));
            }
        }
        group.look();
        if let (Some(limit), Some(peak)) = (limits.memory, group.peak)
            && peak > limit
        {
            return Stop::Limit(Ended::OverMemory { peak });
        }
        if let Some((file, most)) = limits.output
            && file.metadata().is_ok_and(|metadata| metadata.len() > most)
        {
            return Stop::Limit(Ended::OverOutput);
        }
        if cancel.load(Ordering::Relaxed) {
            return Stop::Limit(Ended::Cancelled);
        }
        if Instant::now() >= deadline {
            return Stop::Limit(Ended::TimedOut);
        }
        pause = (pause * 2).min(longest);
    }
}

/// The child's process group.
struct Group {
    leader: Pid,
    /// Processes seen at the last listing.
    members: Vec<ProcessStat>,
    listed: Instant,
    /// Until the next listing; grows.
    list_pause: Duration,
    peak: Option<u64>,
}

impl Group {
    fn new(child: &Child) -> Self {
        Self {
            leader: Pid::from_child(child),
            members: Vec::new(),
            listed: Instant::now(),
            list_pause: LIST.0,
            peak: None,
        }
    }

    /// Refreshes the peak: the leader is looked at every time, the list of members only now and then.
    fn look(&mut self) {
        let leader = self.leader.as_raw_pid().cast_unsigned();
        if self.listed.elapsed() >= self.list_pause {
            self.members = hardware::processes()
                .into_iter()
                .filter(|process| process.group == leader && process.pid != leader)
                .collect();
            self.listed = Instant::now();
            self.list_pause = (self.list_pause * 2).min(LIST.1);
        }
        let page = rustix::param::page_size() as u64;
        // A member may have ended and its id gone to another process since the listing.
        let listed = self
            .members
            .iter()
            .filter_map(|member| hardware::process(member.pid).filter(|now| now.started == member.started));
        // Direct children are seen at every look: whether they count must not depend on how long the leader runs.
        let children = hardware::children(leader)
            .into_iter()
            .filter(|child| self.members.iter().all(|member| member.pid != *child))
            .filter_map(hardware::process);
        let others: u64 = listed.chain(children).map(|process| process.resident * page).sum();
        if let Some((resident, high_water)) = hardware::resident_bytes(leader) {
            let now = high_water.max(resident + others);
            self.peak = Some(self.peak.map_or(now, |peak| peak.max(now)));
        }
    }

    /// Ends a child that broke a limit; `None` if it does not die.
    fn kill(&self, deaths: &Receiver<Death>, why: Ended) -> Option<Death> {
        // What eats memory or disk must not go on eating while it tidies up.
        if !matches!(why, Ended::OverMemory { .. } | Ended::OverOutput) {
            self.signal(Signal::TERM);
            if let Ok(death) = deaths.recv_timeout(GRACE) {
                return Some(death);
            }
        }
        self.signal(Signal::KILL);
        deaths.recv_timeout(DEATH).ok()
    }

    fn signal(&self, signal: Signal) {
        // Fails only where nobody is left to receive it.
        let _ = rustix::process::kill_process_group(self.leader, signal);
    }
}

/// Output of the child as it comes in.
struct Output {
    log: Arc<Mutex<Log>>,
    done: Receiver<()>,
}

impl Output {
    /// Reads in a thread, so that a chatty child is never blocked and a lingering grandchild blocks only that thread.
    fn collect(mut pipe: PipeReader) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let (tell, done) = mpsc::channel();
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => shared.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // Nobody listens any more if draining took too long.
            let _ = tell.send(());
        });
        Self { log, done }
    }

    /// What was written, as far as it has come in.
    fn take(self) -> String {
        let _ = self.done.recv_timeout(DRAIN);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

/// The beginning and the end of a stream.
#[derive(Debug, Default)]
struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Log {
    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend(head);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.cut += surplus as u64;
    }

    fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.cut > 0 {
            bytes.extend(format!("\n[… {} bytes cut …]\n", self.cut).into_bytes());
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
