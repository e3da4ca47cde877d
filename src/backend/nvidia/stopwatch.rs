//! Timing work on a GPU by its own events, with everything queued before anything runs.
//!
//! A *gate* kernel holds the stream while the host queues a sample (nvbench calls it a blocking kernel), so that the cost of
//! launching never shows as time of the work. Four methods:
//!
//! * *cold*: every iteration by itself, the second-level cache flushed before it by writing a buffer of twice its size;
//! * *hot*: every iteration by itself, with whatever the one before left in the cache;
//! * *batch*: iterations back to back between one pair of events;
//! * *graph*: as a batch, replayed from CUDA graphs, iterations taking turns on several sets of buffers.
//!
//! Each sample also yields the average clock of the multiprocessors while it ran, from their own cycle counters. Must not know
//! what is computed, nor when a sample is good.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::backend::WorkCounts;
use crate::backend::nvidia::compile;
use crate::backend::nvidia::cuda::{
    Arguments, Buffer, CudaError, Device, Event, Geometry, Graph, Kernel, Result, Stream, Words,
};
use crate::backend::nvidia::work::{Site, Work};
use crate::domain::Check;

/// The kernels that timing needs.
pub const SOURCE: &str = include_str!("kernels/clock.cu");

/// How long the gate holds, nanoseconds: queueing takes milliseconds, whatever takes longer is waiting for the gate.
pub const GATE_NS: u64 = 5_000_000_000;

/// Launches queued behind the gate: the driver's queue holds about a thousand, and a full one would wait for the gate.
pub const QUEUED_LAUNCHES: u64 = 448;

/// Places of the gate's words.
const OPEN: usize = 0;
const EXPIRED: usize = 1;

/// How often the flushed cache's size is written.
pub const FLUSH: usize = 2;

/// Iterations by which an empty kernel is timed.
pub const EMPTY_ITERATIONS: u64 = 64;

/// Iterations of one graph.
const GRAPH_ITERATIONS: u64 = 64;

/// How iterations are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One by one, cache flushed.
    Cold,
    /// One by one, cache as it is.
    Hot,
    /// Back to back.
    Batch,
    /// Back to back from a graph, on rotating buffers.
    Graph,
}

impl Method {
    const ALL: [Self; 4] = [Self::Cold, Self::Hot, Self::Batch, Self::Graph];

    /// The method of this name in suites.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Its name in suites.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Hot => "hot",
            Self::Batch => "batch",
            Self::Graph => "graph",
        }
    }

    /// What the clock is called in records.
    pub const fn clock(self) -> &'static str {
        match self {
            Self::Cold => "cuda-events/cold",
            Self::Hot => "cuda-events/hot",
            Self::Batch => "cuda-events/batch",
            Self::Graph => "cuda-events/graph",
        }
    }
}

/// What one sample took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lap {
    /// Of all iterations together, seconds; flushes are not in it.
    pub seconds: f64,
    /// Average clock of the multiprocessors from the first iteration to the last, Hz; flushes are in it.
    pub clock_hz: Option<f64>,
}

/// A kernel that does nothing: what a method's own cost is seen by.
#[derive(Debug)]
struct Nothing(Kernel);

impl Work for Nothing {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.0.launch(&Geometry::linear(1, 32), &Arguments::new(), stream)
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts::default()
    }

    fn check(&mut self, _site: &Site, _stream: &Stream) -> Result<Vec<Check>> {
        Ok(Vec::new())
    }
}

/// Cycles and nanoseconds of every multiprocessor at one moment.
pub type Stamps = Vec<u64>;

/// Times work.
#[derive(Debug)]
pub struct Stopwatch {
    device: Rc<Device>,
    stream: Stream,
    method: Method,
    gate: Kernel,
    stamp: Kernel,
    /// Whether the gate stands open, and whether it opened itself.
    words: Words,
    words_at: [u64; 2],
    stamps: [Buffer; 2],
    multiprocessors: u32,
    flush: Option<Buffer>,
    events: Vec<[Event; 2]>,
    graphs: BTreeMap<(u64, usize), Graph>,
    /// Which set of buffers comes next in a batch.
    turn: usize,
    /// What a kernel that does nothing takes by this method, seconds.
    empty_s: f64,
}

impl Stopwatch {
    /// Everything that timing needs, allocated once.
    ///
    /// # Errors
    /// When the device refuses, or there is no compiler.
    pub fn new(device: &Rc<Device>, method: Method, architecture: &str) -> Result<Self> {
        let compiled = compile::compile("clock.cu", SOURCE, architecture, &[])?;
        let module = device.module(&compiled.image)?;
        let multiprocessors = u32::try_from(device.multiprocessors()?).unwrap_or(1);
        let stamps_bytes = multiprocessors as usize * 2 * size_of::<u64>();
        device.reset_persisting_cache()?;
        let flush = match method {
            Method::Cold => Some(device.allocate(FLUSH * device.l2_bytes()?.max(1 << 20))?),
            _ => None,
        };
        let words = device.words(2)?;
        let mut watch = Self {
            device: Rc::clone(device),
            stream: device.stream()?,
            method,
            gate: module.kernel("gate")?,
            stamp: module.kernel("stamp")?,
            words_at: [words.address_on(device, OPEN)?, words.address_on(device, EXPIRED)?],
            words,
            stamps: [device.allocate(stamps_bytes)?, device.allocate(stamps_bytes)?],
            multiprocessors,
            flush,
            events: Vec::new(),
            graphs: BTreeMap::new(),
            turn: 0,
            empty_s: 0.0,
        };
        // Code is loaded at the first launch, which waits: with the gate closed it would wait for ever.
        watch.close_gate()?;
        watch.words.set(OPEN, 1);
        watch.look(0)?;
        watch.look(1)?;
        watch.stream.synchronize()?;
        let mut nothing: [Box<dyn Work>; 1] = [Box::new(Nothing(module.kernel("nothing")?))];
        watch.run(&mut nothing, 2)?;
        watch.time(&mut nothing, EMPTY_ITERATIONS)?;
        watch.empty_s = watch.time(&mut nothing, EMPTY_ITERATIONS)?.seconds / EMPTY_ITERATIONS as f64;
        watch.graphs.clear();
        Ok(watch)
    }

    /// What a kernel that does nothing takes by this method, seconds.
    pub const fn empty_s(&self) -> f64 {
        self.empty_s
    }

    /// Where work is enqueued.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Runs iterations without timing them, and waits.
    ///
    /// # Errors
    /// When the work fails.
    pub fn run(&mut self, works: &mut [Box<dyn Work>], iterations: u64) -> Result<()> {
        for _ in 0..iterations {
            self.enqueue_next(works)?;
        }
        self.stream.synchronize()
    }

    /// Times iterations.
    ///
    /// # Errors
    /// When the work fails, or waits for the device while the gate is closed.
    pub fn time(&mut self, works: &mut [Box<dyn Work>], iterations: u64) -> Result<Lap> {
        let mut lap = Lap { seconds: 0.0, clock_hz: None };
        let (mut cycles, mut nanoseconds) = (0.0, 0.0);
        let mut left = iterations;
        while left > 0 {
            let now = left.min(self.most_queued(works));
            let (seconds, before, after) = self.pass(works, now)?;
            lap.seconds += seconds;
            if let Some((c, ns)) = difference(&before, &after) {
                cycles += c;
                nanoseconds += ns;
            }
            left -= now;
        }
        lap.clock_hz = (nanoseconds > 0.0).then(|| cycles / nanoseconds * 1e9);
        Ok(lap)
    }

    /// Iterations that fit behind the gate.
    fn most_queued(&self, works: &[Box<dyn Work>]) -> u64 {
        let launches = u64::from(works.first().map_or(1, |work| work.launches()).max(1));
        match self.method {
            Method::Cold => QUEUED_LAUNCHES / (launches + 3),
            Method::Hot => QUEUED_LAUNCHES / (launches + 2),
            // Graphs of one kernel take little of the queue. Others take as much as their kernels do, it seems: with more than a
            // thousand of a transformer block's, launching graphs waited for the gate (seen on an H100).
            Method::Graph if launches == 1 => GRAPH_ITERATIONS * QUEUED_LAUNCHES / 4,
            Method::Batch | Method::Graph => QUEUED_LAUNCHES / launches,
        }
        .max(1)
    }

    /// Queues iterations behind the gate, opens it and waits.
    fn pass(&mut self, works: &mut [Box<dyn Work>], iterations: u64) -> Result<(f64, Stamps, Stamps)> {
        let pairs = if matches!(self.method, Method::Cold | Method::Hot) { iterations as usize } else { 1 };
        while self.events.len() < pairs {
            self.events.push([self.device.event()?, self.device.event()?]);
        }
        // A graph is recorded before the gate closes: recording may allocate.
        let replays = if self.method == Method::Graph { self.replays(works, iterations)? } else { Vec::new() };
        self.close_gate()?;
        let queued = self.queue(works, iterations, &replays);
        self.words.set(OPEN, 1);
        queued?;
        self.stream.synchronize()?;
        if self.words.get(EXPIRED) != 0 {
            return Err(CudaError::Untimeable(format!(
                "the workload waited for the device inside the timed region: the gate that holds its kernels opened itself \
                 after {} s; take the synchronisation (or allocation) out of it, or measure it as a command",
                GATE_NS / 1_000_000_000
            )));
        }
        let mut seconds = 0.0;
        for [begin, end] in &self.events[..pairs] {
            seconds += end.since(begin)?;
        }
        Ok((seconds, self.stamps[0].read()?, self.stamps[1].read()?))
    }

    fn close_gate(&self) -> Result<()> {
        self.words.set(OPEN, 0);
        self.words.set(EXPIRED, 0);
        let [open, expired] = self.words_at;
        let arguments = Arguments::new().u64(open).u64(expired).u64(GATE_NS);
        self.gate.launch(&Geometry::linear(1, 1), &arguments, &self.stream)
    }

    fn look(&self, which: usize) -> Result<()> {
        let geometry = Geometry::linear(self.multiprocessors, 1);
        let arguments = Arguments::new().buffer(&self.stamps[which]).u32(self.multiprocessors);
        self.stamp.launch(&geometry, &arguments, &self.stream)
    }

    fn queue(&mut self, works: &mut [Box<dyn Work>], iterations: u64, replays: &[(u64, usize)]) -> Result<()> {
        // A multiprocessor that one of the looks misses has zeros there and is left out.
        for stamps in &self.stamps {
            stamps.fill(0, &self.stream)?;
        }
        self.look(0)?;
        match self.method {
            Method::Cold | Method::Hot => {
                for i in 0..iterations as usize {
                    if let Some(flush) = &self.flush {
                        flush.fill(i as u8, &self.stream)?;
                    }
                    self.events[i][0].record(&self.stream)?;
                    self.enqueue_next(works)?;
                    self.events[i][1].record(&self.stream)?;
                }
            }
            Method::Batch => {
                self.events[0][0].record(&self.stream)?;
                for _ in 0..iterations {
                    self.enqueue_next(works)?;
                }
                self.events[0][1].record(&self.stream)?;
            }
            Method::Graph => {
                self.events[0][0].record(&self.stream)?;
                for key in replays {
                    self.graphs[key].launch(&self.stream)?;
                }
                self.events[0][1].record(&self.stream)?;
            }
        }
        self.look(1)
    }

    fn enqueue_next(&mut self, works: &mut [Box<dyn Work>]) -> Result<()> {
        let count = works.len();
        works[self.turn % count].enqueue(&self.stream)?;
        self.turn = (self.turn + 1) % count;
        Ok(())
    }

    /// Graphs that make up so many iterations, recorded where they are not yet.
    fn replays(&mut self, works: &mut [Box<dyn Work>], iterations: u64) -> Result<Vec<(u64, usize)>> {
        let mut replays = Vec::new();
        let mut left = iterations;
        while left > 0 {
            let length = left.min(GRAPH_ITERATIONS);
            let key = (length, self.turn);
            let count = works.len();
            if !self.graphs.contains_key(&key) {
                let (stream, turn) = (&self.stream, self.turn);
                let graph = stream
                    .capture(|| (0..length as usize).try_for_each(|i| works[(turn + i) % count].enqueue(stream)))?;
                self.graphs.insert(key, graph);
            }
            self.turn = (self.turn + length as usize) % count;
            replays.push(key);
            left -= length;
        }
        Ok(replays)
    }
}

/// Mean cycles and nanoseconds of a multiprocessor between two looks, over those that both saw.
pub fn difference(before: &[u64], after: &[u64]) -> Option<(f64, f64)> {
    let (mut cycles, mut nanoseconds, mut seen) = (0.0, 0.0, 0.0);
    for (was, is) in before.chunks_exact(2).zip(after.chunks_exact(2)) {
        if was[1] != 0 && is[1] > was[1] && is[0] > was[0] {
            cycles += (is[0] - was[0]) as f64;
            nanoseconds += (is[1] - was[1]) as f64;
            seen += 1.0;
        }
    }
    (seen > 0.0).then(|| (cycles / seen, nanoseconds / seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiprocessors_that_a_look_missed_are_left_out() {
        let before = [100, 1000, 0, 0, 500, 1000];
        let after = [1900, 2000, 77, 2000, 2500, 2000];
        assert_eq!(difference(&before, &after), Some((1900.0, 1000.0)));
        assert_eq!(difference(&[0, 0], &[5, 5]), None);
    }

    #[test]
    fn every_method_has_a_name_and_a_clock_of_its_own() {
        let named = |name: &&str| Method::named(name).expect("every name of the catalogue");
        let methods: Vec<Method> = crate::domain::workload::TIMINGS.iter().map(named).collect();
        let clocks: std::collections::BTreeSet<&str> = methods.iter().map(|method| method.clock()).collect();
        assert_eq!(clocks.len(), 4);
        assert_eq!(Method::named("lukewarm"), None);
    }
}
