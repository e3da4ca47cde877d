//! The pinned programs that watch the machine: they run in every session, and when they move, the machine moved.
//!
//! Pinned means that their results compare across versions of regrade. Whoever changes what one of them executes
//! (counts, sizes, the order of operations) starts a new epoch and raises [`VERSION`], which is a fact of their
//! device. They ignore the seed and every parameter. Must not know how samples are taken.

use std::hint::black_box;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::backend::cpu::this_device;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::{Check, DeviceInfo, Workload};
use crate::measure::{Subject, SubjectError};

/// The epoch of these programs.
const VERSION: u32 = 1;

/// Loads a reference workload.
///
/// # Errors
/// For a name that is none of the three, or when the second thread cannot be started.
pub fn load(workload: &Workload, _seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    match workload.name.as_str() {
        "reference-compute" => Ok(Box::new(Compute::new())),
        "reference-memory" => Ok(Box::new(Memory::new(MEMORY_WORDS))),
        "reference-launch" => Ok(Box::new(HandOver::new()?)),
        other => Err(BackendError::Unsupported(format!(
            "no reference workload `{other}`; there are `reference-compute`, `reference-memory` and `reference-launch`"
        ))),
    }
}

fn device() -> DeviceInfo {
    let mut device = this_device(rayon::current_num_threads());
    device.facts.insert("reference_version".to_owned(), VERSION.into());
    device
}

/// A check that allows nothing but the expected value.
fn exact(name: &str, reference: &str, equal: bool) -> Vec<Check> {
    vec![Check::new(name, reference, f64::from(u8::from(!equal)), 0.0)]
}

/// Multiply-add steps of an iteration: one to two milliseconds on processors of about 3 GHz.
const COMPUTE_STEPS: u32 = 1_000_000;
/// Independent chains, so that the multipliers are busy while each chain waits for its own last step.
const CHAINS: usize = 8;
/// Sum of the chains after one iteration: exact, because IEEE 754 fixes every step.
const COMPUTE_EXPECTED: f64 = 3.852_852_089_831_248_6;

/// Multiply-adds in registers: eight independent chains, each step depending on the one before. A multiplication and
/// an addition rather than a fused one, which a baseline build would take from the C library.
#[derive(Debug)]
struct Compute {
    result: f64,
}

impl Compute {
    fn new() -> Self {
        Self { result: f64::NAN }
    }
}

/// The contraction x ← x·a + b: it swings ever closer to b / (1 − a) and never reaches denormal numbers, which some
/// processors handle slowly.
fn chains(steps: u32) -> f64 {
    let mut x: [f64; CHAINS] = black_box([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]);
    let (a, b) = black_box((-0.999_999, 1.000_001));
    for _ in 0..steps {
        for value in &mut x {
            *value = *value * a + b;
        }
    }
    x.iter().sum()
}

impl Subject for Compute {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            self.result = black_box(chains(COMPUTE_STEPS));
        }
        Ok(())
    }
}

impl Prepared for Compute {
    fn device(&self) -> DeviceInfo {
        device()
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { flops: Some(2.0 * f64::from(COMPUTE_STEPS) * CHAINS as f64), ..WorkCounts::default() }
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        Ok(exact("chains", "the pinned sum", self.result == COMPUTE_EXPECTED))
    }
}

/// 64 MiB: beyond the last-level cache of most machines, and the same on all.
const MEMORY_WORDS: usize = (64 << 20) / size_of::<u64>();
/// Spreads the word's index over all of its bits (2⁶⁴ divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Copies one buffer to another, both touched beforehand.
#[derive(Debug)]
struct Memory {
    from: Vec<u64>,
    to: Vec<u64>,
}

impl Memory {
    fn new(words: usize) -> Self {
        Self {
            from: (0..words as u64).map(|i| i.wrapping_mul(SPREAD)).collect(),
            // Not zeros, which the system would leave untouched.
            to: vec![u64::MAX; words],
        }
    }
}

impl Subject for Memory {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        for _ in 0..iterations {
            black_box(&mut self.to).copy_from_slice(black_box(&self.from));
        }
        Ok(())
    }
}

impl Prepared for Memory {
    fn device(&self) -> DeviceInfo {
        device()
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { bytes: Some(2.0 * size_of_val(self.from.as_slice()) as f64), ..WorkCounts::default() }
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let n = self.to.len() as u64;
        let sum = self.to.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
        // Sum of i·SPREAD over i < n; one of n and n − 1 is even.
        let pairs = if n.is_multiple_of(2) { (n / 2).wrapping_mul(n - 1) } else { n.wrapping_mul(n / 2) };
        Ok(exact("copied words", "the closed form of their sum", sum == pairs.wrapping_mul(SPREAD)))
    }
}

/// Hand-overs of an iteration: half there, half back.
const HAND_OVERS: u32 = 100;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Here,
    There,
    Over,
}

#[derive(Debug)]
struct Table {
    turn: Turn,
    /// How often the other thread has had its turn.
    served: u64,
}

/// What the two threads share.
#[derive(Debug)]
struct Net {
    table: Mutex<Table>,
    changed: Condvar,
}

impl Net {
    /// Nobody panics while holding the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(&self, table: MutexGuard<'a, Table>, turn: Turn) -> MutexGuard<'a, Table> {
        self.changed.wait_while(table, |table| table.turn == turn).unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, table: &mut Table, turn: Turn) {
        table.turn = turn;
        self.changed.notify_one();
    }
}

/// Passes the turn to another thread and back; the thread lives as long as this does.
#[derive(Debug)]
struct HandOver {
    net: Arc<Net>,
    other: Option<JoinHandle<()>>,
    expected: u64,
}

impl HandOver {
    fn new() -> Result<Self, BackendError> {
        let net = Arc::new(Net { table: Mutex::new(Table { turn: Turn::Here, served: 0 }), changed: Condvar::new() });
        let theirs = Arc::clone(&net);
        let other = std::thread::Builder::new()
            .name("reference-launch".to_owned())
            .spawn(move || serve(&theirs))
            .map_err(|source| BackendError::Engine {
                context: "starting the second thread of reference-launch".to_owned(),
                source: Box::new(source),
            })?;
        Ok(Self { net, other: Some(other), expected: 0 })
    }
}

/// The other thread: counts each turn and hands it back, until the game is over.
fn serve(net: &Net) {
    let mut table = net.lock();
    loop {
        table = net.wait_while(table, Turn::Here);
        if table.turn == Turn::Over {
            return;
        }
        table.served += 1;
        net.pass(&mut table, Turn::Here);
    }
}

impl Subject for HandOver {
    fn run(&mut self, iterations: u64) -> Result<(), SubjectError> {
        let rounds = iterations * u64::from(HAND_OVERS / 2);
        let mut table = self.net.lock();
        for _ in 0..rounds {
            self.net.pass(&mut table, Turn::There);
            table = self.net.wait_while(table, Turn::There);
        }
        drop(table);
        self.expected += rounds;
        Ok(())
    }
}

impl Prepared for HandOver {
    fn device(&self) -> DeviceInfo {
        device()
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { items: Some((f64::from(HAND_OVERS), "handovers")), ..WorkCounts::default() }
    }

    fn check(&mut self) -> Result<Vec<Check>, BackendError> {
        let served = self.net.lock().served;
        Ok(exact("turns served", "the number asked for", served == self.expected && served > 0))
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        {
            let mut table = self.net.lock();
            self.net.pass(&mut table, Turn::Over);
        }
        if let Some(other) = self.other.take() {
            // It has nothing to say; a panic in it would already have failed the check.
            drop(other.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WorkloadKind;
    use crate::domain::workload::CATALOGUE;

    fn passes(subject: &mut dyn Prepared) -> bool {
        subject.check().expect("references can always be checked").iter().all(|check| check.pass)
    }

    #[test]
    fn the_catalogue_and_this_file_agree() {
        for entry in CATALOGUE.iter().filter(|entry| entry.kind == WorkloadKind::Reference) {
            let workload = Workload {
                kind: entry.kind,
                name: entry.name.to_owned(),
                params: [].into(),
                command: Vec::new(),
                kernel: None,
            };
            let mut subject = load(&workload, 0).expect("every reference loads");
            assert!(!passes(subject.as_mut()), "{}: nothing ran, nothing may pass", entry.name);
            subject.run(2).expect("references cannot fail");
            assert!(passes(subject.as_mut()), "{}", entry.name);
            assert_eq!(subject.device().facts["reference_version"], VERSION, "{}", entry.name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let workload = Workload {
            kind: WorkloadKind::Reference,
            name: "reference-luck".to_owned(),
            params: [].into(),
            command: Vec::new(),
            kernel: None,
        };
        let error = load(&workload, 0).err().expect("no such reference");
        assert!(error.to_string().contains("reference-luck"), "{error}");
    }

    #[test]
    fn a_wrong_word_fails_the_memory_check() {
        for words in [1000, 1001] {
            let mut memory = Memory::new(words);
            memory.run(1).expect("copying cannot fail");
            assert!(passes(&mut memory));
            memory.to[500] ^= 1;
            assert!(!passes(&mut memory));
        }
    }

    #[test]
    fn every_hand_over_is_served() {
        let mut subject = HandOver::new().expect("a thread can be started");
        subject.run(3).expect("handing over cannot fail");
        assert_eq!(subject.net.lock().served, u64::from(3 * HAND_OVERS / 2));
        subject.expected += 1;
        assert!(!passes(&mut subject));
    }
}
