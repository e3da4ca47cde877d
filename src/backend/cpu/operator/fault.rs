//! A workload that goes wrong in a chosen way, so that users and tests see how each ending is reported.
//!
//! Must not know who watches.

use std::hint::black_box;
use std::time::Duration;

use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Workload};
use crate::measure::{Subject, SubjectError};

/// Status of `exit`: no outcome was told, so the runner must say that the worker died.
const EXIT_STATUS: i32 = 3;
/// Memory taken at a time, bytes.
const STEP: usize = 64 << 20;
/// Where `out-of-memory` gives up if nobody stopped it, bytes.
const LIMIT: usize = 8 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Error,
    Panic,
    Abort,
    Exit,
    Hang,
    OutOfMemory,
    WrongNumbers,
}

#[derive(Debug)]
struct Fault(Kind);

/// Loads `fault`; what goes wrong does so in the first iteration or, for `wrong-numbers`, in the check.
pub fn load(workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let kind = match workload.text("kind").map_err(BackendError::Unsupported)? {
        "none" => Kind::None,
        "error" => Kind::Error,
        "panic" => Kind::Panic,
        "abort" => Kind::Abort,
        "exit" => Kind::Exit,
        "hang" => Kind::Hang,
        "out-of-memory" => Kind::OutOfMemory,
        "wrong-numbers" => Kind::WrongNumbers,
        other => return Err(BackendError::Unsupported(format!("no fault of kind `{other}`"))),
    };
    Ok(Box::new(Fault(kind)))
}

impl Subject for Fault {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        match self.0 {
            Kind::None | Kind::WrongNumbers => {
                for iteration in 0..iterations {
                    work(iteration);
                }
                Ok(())
            }
            Kind::Error => Err(injected("the iteration failed, as asked for")),
            Kind::Panic => panic!("panicked, as asked for"),
            Kind::Abort => std::process::abort(),
            Kind::Exit => leave(),
            Kind::Hang => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Kind::OutOfMemory => Err(exhaust(STEP, LIMIT)),
        }
    }
}

/// About two microseconds: a generator whose steps depend on each other (Marsaglia 2003).
fn work(iteration: u64) {
    let mut x = black_box(iteration);
    for _ in 0..1000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
}

#[expect(clippy::disallowed_methods, reason = "ending without a word is what was asked for")]
fn leave() -> ! {
    std::process::exit(EXIT_STATUS)
}

/// Takes memory in steps and touches it until there is no more or the limit is reached.
fn exhaust(step: usize, limit: usize) -> SubjectError {
    let mut taken = Vec::new();
    while taken.len() * step < limit {
        // Not zeros, which the system would leave untouched.
        taken.push(black_box(vec![1u8; step]));
    }
    injected(&format!("took {} bytes and was not stopped", taken.len() * step))
}

fn injected(what: &str) -> SubjectError {
    SubjectError { context: "fault".to_owned(), source: what.into() }
}

impl Prepared for Fault {
    fn device(&self) -> DeviceInfo {
        this_device(rayon::current_num_threads())
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts::default()
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let error = if self.0 == Kind::WrongNumbers { 1.0 } else { 0.0 };
        Ok(vec![Check::new("result", "what was asked for", error, 1e-6)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_from_the_first_iteration() {
        let error = Fault(Kind::Error).run(1).expect_err("asked for");
        assert!(error.to_string().starts_with("fault: "), "{error}");
    }

    #[test]
    #[should_panic(expected = "as asked for")]
    fn a_panic_is_one() {
        drop(Fault(Kind::Panic).run(1));
    }

    #[test]
    fn memory_nobody_limits_ends_as_an_error() {
        assert!(exhaust(10, 35).to_string().contains("took 40 bytes"));
    }

    #[test]
    fn wrong_numbers_run_but_do_not_pass() {
        for (kind, pass) in [(Kind::None, true), (Kind::WrongNumbers, false)] {
            let mut fault = Fault(kind);
            fault.run(2).expect("this kind runs");
            let checks = fault.check().expect("can be checked");
            assert_eq!(checks[0].pass, pass, "{kind:?}");
        }
    }
}
