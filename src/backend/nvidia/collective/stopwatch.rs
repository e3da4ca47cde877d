//! Timing work of several GPUs by their own events, with everything queued before anything runs.
//!
//! A gate holds the stream of every GPU while the host queues, and all poll one word of the host's. Before each timed interval
//! the GPUs *meet*: each waits for the others on the device, within a microsecond or two, so that no interval holds another
//! GPU's delay. An interval's time is that of the GPU where it took longest. The methods are the single GPU's, without graphs;
//! in a batch the GPUs meet once and then keep each other in step.
//!
//! Whoever waits here polls, and asks the work whether it is in trouble: a collective that lost a GPU never ends by itself.
//! Must not know what is computed, nor when a sample is good.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backend::nvidia::compile::compile;
use crate::backend::nvidia::cuda::{
    Arguments, Buffer, CudaError, Device, Event, Geometry, Kernel, Result, Stream, Words,
};
use crate::backend::nvidia::stopwatch::{
    EMPTY_ITERATIONS, FLUSH, GATE_NS, Method, QUEUED_LAUNCHES, SOURCE, Stamps, difference,
};
use crate::backend::nvidia::work::{Site, refuse};

/// Between two looks at whether the GPUs are done.
const POLL: Duration = Duration::from_micros(20);
/// Looks between two questions for trouble.
const ASK_EVERY: u32 = 64;
/// How long the first iterations may take, which load code and connect GPUs, seconds.
const FIRST_S: f64 = 30.0;
/// How long later ones may take: a time that no hiccup reaches, and a multiple of what was seen.
const LATER_S: f64 = 10.0;
const LATER_TIMES: f64 = 10.0;

/// The words that host and GPUs share: two, and one for each GPU.
const OPEN: usize = 0;
const EXPIRED: usize = 1;
const ARRIVED: usize = 2;

/// Work of several GPUs that belongs together.
pub trait Several: fmt::Debug {
    /// Enqueues one iteration on all GPUs. Neither waits nor allocates.
    ///
    /// # Errors
    /// As a device or a library refuses.
    fn enqueue(&mut self, streams: &[Stream]) -> Result<()>;

    /// What one iteration puts into a stream, at most.
    fn launches(&self) -> u64;

    /// Whether something went wrong that no stream shows.
    ///
    /// # Errors
    /// What it is.
    fn trouble(&self) -> Result<()> {
        Ok(())
    }

    /// What the library said last, for whoever waits in vain.
    fn last_words(&self) -> String {
        String::new()
    }

    /// Ends what is under way, for good.
    fn abort(&mut self) {}
}

/// Kernels that do nothing: what a method's own cost is seen by.
#[derive(Debug)]
struct Nothing(Vec<(Rc<Device>, Kernel)>);

impl Several for Nothing {
    fn enqueue(&mut self, streams: &[Stream]) -> Result<()> {
        self.0.iter().zip(streams).try_for_each(|((device, kernel), stream)| {
            device.make_current()?;
            kernel.launch(&Geometry::linear(1, 32), &Arguments::new(), stream)
        })
    }

    fn launches(&self) -> u64 {
        1
    }
}

/// What one sample took.
#[derive(Debug, Clone, PartialEq)]
pub struct Lap {
    /// Of all iterations together, each interval on the GPU where it took longest, seconds.
    pub seconds: f64,
    /// Average clock of each GPU's multiprocessors meanwhile, Hz.
    pub clocks_hz: Vec<Option<f64>>,
}

impl Lap {
    /// The slowest GPU's clock, which the others wait for.
    pub fn lowest_hz(&self) -> Option<f64> {
        self.clocks_hz.iter().copied().flatten().reduce(f64::min)
    }
}

/// What timing needs on one GPU.
#[derive(Debug)]
struct Hand {
    device: Rc<Device>,
    gate: Kernel,
    meet: Kernel,
    stamp: Kernel,
    /// Addresses of the shared words there.
    open: u64,
    expired: u64,
    arrived: u64,
    stamps: [Buffer; 2],
    multiprocessors: u32,
    flush: Option<Buffer>,
    events: Vec<[Event; 2]>,
}

/// Times work of several GPUs.
#[derive(Debug)]
pub struct Stopwatch {
    hands: Vec<Hand>,
    streams: Vec<Stream>,
    words: Words,
    method: Method,
    /// How often the GPUs have met.
    round: u32,
    /// What an iteration takes, seconds; unknown at first.
    each_s: Option<f64>,
    /// What a kernel that does nothing takes by this method, seconds.
    empty_s: f64,
}

impl Stopwatch {
    /// Everything that timing needs, allocated once.
    ///
    /// # Errors
    /// When a device refuses, or there is no compiler.
    pub fn new(sites: &[Site], method: Method) -> Result<Self> {
        let Some(first) = sites.first() else { return refuse("no GPU to time") };
        if method == Method::Graph {
            return refuse("work of several GPUs is not timed from graphs");
        }
        first.device.make_current()?;
        let words = first.device.words(ARRIVED + sites.len())?;
        let (mut hands, mut streams, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
        for site in sites {
            let device = &site.device;
            device.make_current()?;
            let module = device.module(&compile("clock.cu", SOURCE, &site.architecture, &[])?.image)?;
            let multiprocessors = u32::try_from(device.multiprocessors()?).unwrap_or(1);
            let room = multiprocessors as usize * 2 * size_of::<u64>();
            device.reset_persisting_cache()?;
            let flush = match method {
                Method::Cold => Some(device.allocate(FLUSH * device.l2_bytes()?.max(1 << 20))?),
                _ => None,
            };
            nothing.push((Rc::clone(device), module.kernel("nothing")?));
            streams.push(device.stream()?);
            hands.push(Hand {
                device: Rc::clone(device),
                gate: module.kernel("gate")?,
                meet: module.kernel("meet")?,
                stamp: module.kernel("stamp")?,
                open: words.address_on(device, OPEN)?,
                expired: words.address_on(device, EXPIRED)?,
                arrived: words.address_on(device, ARRIVED)?,
                stamps: [device.allocate(room)?, device.allocate(room)?],
                multiprocessors,
                flush,
                events: Vec::new(),
            });
        }
        let mut watch = Self { hands, streams, words, method, round: 0, each_s: None, empty_s: 0.0 };
        let mut nothing = Nothing(nothing);
        watch.load_code(&nothing)?;
        watch.run(&mut nothing, 2)?;
        watch.time(&mut nothing, EMPTY_ITERATIONS)?;
        watch.empty_s = watch.time(&mut nothing, EMPTY_ITERATIONS)?.seconds / EMPTY_ITERATIONS as f64;
        // What nothing takes says nothing about the work.
        watch.each_s = None;
        Ok(watch)
    }

    /// Launches every kernel once where none waits: code is loaded at the first launch, which may itself wait.
    fn load_code(&mut self, nothing: &Nothing) -> Result<()> {
        self.words.set(OPEN, 1);
        self.round = 1;
        (0..self.hands.len()).for_each(|rank| self.words.set(ARRIVED + rank, 1));
        for rank in 0..self.hands.len() {
            self.hands[rank].device.make_current()?;
            self.close(rank)?;
            self.look(rank, 0)?;
            self.look(rank, 1)?;
            self.meet(rank)?;
        }
        self.wait(1, nothing)
    }

    /// What a kernel that does nothing takes by this method, seconds.
    pub const fn empty_s(&self) -> f64 {
        self.empty_s
    }

    /// Runs iterations without timing them, and waits.
    ///
    /// # Errors
    /// When the work fails; it is aborted then.
    pub fn run(&mut self, work: &mut dyn Several, iterations: u64) -> Result<()> {
        let most = self.most_queued(work);
        let mut left = iterations;
        while left > 0 {
            let now = left.min(most);
            let done = (0..now).try_for_each(|_| work.enqueue(&self.streams)).and_then(|()| self.wait(now, work));
            abort_unless(done, work)?;
            left -= now;
        }
        Ok(())
    }

    /// Times iterations.
    ///
    /// # Errors
    /// When the work fails, or waits for a device while the gates are closed; it is aborted then.
    pub fn time(&mut self, work: &mut dyn Several, iterations: u64) -> Result<Lap> {
        let most = self.most_queued(work);
        let mut seconds = 0.0;
        let mut clocks = vec![(0.0, 0.0); self.hands.len()];
        let mut left = iterations;
        while left > 0 {
            let now = left.min(most);
            let passed = self.pass(work, now);
            let (took, looks) = abort_unless(passed, work)?;
            self.each_s = Some(took / now as f64);
            seconds += took;
            for ((cycles, nanoseconds), [before, after]) in clocks.iter_mut().zip(looks) {
                if let Some((c, ns)) = difference(&before, &after) {
                    *cycles += c;
                    *nanoseconds += ns;
                }
            }
            left -= now;
        }
        let clock = |(cycles, nanoseconds): (f64, f64)| (nanoseconds > 0.0).then(|| cycles / nanoseconds * 1e9);
        Ok(Lap { seconds, clocks_hz: clocks.into_iter().map(clock).collect() })
    }

    /// Iterations that fit behind the gates.
    fn most_queued(&self, work: &dyn Several) -> u64 {
        let own = match self.method {
            Method::Cold => 4,
            Method::Hot => 3,
            Method::Batch | Method::Graph => 0,
        };
        (QUEUED_LAUNCHES / (work.launches() + own)).max(1)
    }

    /// Queues iterations behind the gates, opens them and waits.
    fn pass(&mut self, work: &mut dyn Several, iterations: u64) -> Result<(f64, Vec<[Stamps; 2]>)> {
        let intervals = if self.method == Method::Batch { 1 } else { iterations as usize };
        for hand in &mut self.hands {
            hand.device.make_current()?;
            while hand.events.len() < intervals {
                hand.events.push([hand.device.event()?, hand.device.event()?]);
            }
        }
        self.words.set(EXPIRED, 0);
        self.words.set(OPEN, 0);
        let queued = self.queue(work, iterations);
        self.words.set(OPEN, 1);
        queued?;
        self.wait(iterations, work)?;
        if self.words.get(EXPIRED) != 0 {
            return Err(CudaError::Untimeable(format!(
                "the work waited for a GPU inside the timed region: a gate that holds its kernels opened itself after {} s; {}",
                GATE_NS / 1_000_000_000,
                work.last_words()
            )));
        }
        let mut longest = vec![0.0_f64; intervals];
        let mut looks = Vec::new();
        for hand in &self.hands {
            hand.device.make_current()?;
            for (longest, [begin, end]) in longest.iter_mut().zip(&hand.events) {
                *longest = longest.max(end.since(begin)?);
            }
            looks.push([hand.stamps[0].read()?, hand.stamps[1].read()?]);
        }
        Ok((longest.iter().sum(), looks))
    }

    fn queue(&mut self, work: &mut dyn Several, iterations: u64) -> Result<()> {
        let gpus = self.hands.len();
        for rank in 0..gpus {
            self.hands[rank].device.make_current()?;
            self.close(rank)?;
            // A multiprocessor that one of the looks misses has zeros there and is left out.
            for stamps in &self.hands[rank].stamps {
                stamps.fill(0, &self.streams[rank])?;
            }
            self.look(rank, 0)?;
        }
        match self.method {
            Method::Batch => {
                self.begin(0)?;
                (0..iterations).try_for_each(|_| work.enqueue(&self.streams))?;
                self.end(0)?;
            }
            _ => {
                for i in 0..iterations as usize {
                    self.begin(i)?;
                    work.enqueue(&self.streams)?;
                    self.end(i)?;
                }
            }
        }
        (0..gpus).try_for_each(|rank| {
            self.hands[rank].device.make_current()?;
            self.look(rank, 1)
        })
    }

    /// Begins an interval on every GPU, at the same time by all.
    fn begin(&mut self, interval: usize) -> Result<()> {
        self.round = self.round.wrapping_add(1);
        for (rank, (hand, stream)) in self.hands.iter().zip(&self.streams).enumerate() {
            hand.device.make_current()?;
            if let Some(flush) = &hand.flush {
                flush.fill(interval as u8, stream)?;
            }
            self.meet(rank)?;
            hand.events[interval][0].record(stream)?;
        }
        Ok(())
    }

    fn end(&self, interval: usize) -> Result<()> {
        self.hands.iter().zip(&self.streams).try_for_each(|(hand, stream)| {
            hand.device.make_current()?;
            hand.events[interval][1].record(stream)
        })
    }

    fn close(&self, rank: usize) -> Result<()> {
        let hand = &self.hands[rank];
        let arguments = Arguments::new().u64(hand.open).u64(hand.expired).u64(GATE_NS);
        hand.gate.launch(&Geometry::linear(1, 1), &arguments, &self.streams[rank])
    }

    fn meet(&self, rank: usize) -> Result<()> {
        let hand = &self.hands[rank];
        let arguments =
            Arguments::new().u64(hand.arrived).u32(rank as u32).u32(self.round).u64(hand.expired).u64(GATE_NS);
        hand.meet.launch(&Geometry::linear(1, self.hands.len() as u32), &arguments, &self.streams[rank])
    }

    fn look(&self, rank: usize, which: usize) -> Result<()> {
        let hand = &self.hands[rank];
        let geometry = Geometry::linear(hand.multiprocessors, 1);
        let arguments = Arguments::new().buffer(&hand.stamps[which]).u32(hand.multiprocessors);
        hand.stamp.launch(&geometry, &arguments, &self.streams[rank])
    }

    /// Waits until every GPU is done, or the work is in trouble, or it is clear that it never will be.
    fn wait(&self, iterations: u64, work: &dyn Several) -> Result<()> {
        let allowed = allowance_s(self.each_s, iterations);
        let start = Instant::now();
        for look in 1_u32.. {
            let mut waiting = Vec::new();
            for (hand, stream) in self.hands.iter().zip(&self.streams) {
                hand.device.make_current()?;
                if !stream.is_done()? {
                    waiting.push(hand.device.ordinal.to_string());
                }
            }
            if waiting.is_empty() {
                break;
            }
            if look % ASK_EVERY == 0 {
                work.trouble()?;
                if start.elapsed().as_secs_f64() > allowed {
                    let text = format!(
                        "GPU {} did not finish within {allowed:.0} s: a deadlock; {}",
                        waiting.join(", "),
                        work.last_words()
                    );
                    return Err(CudaError::Library { call: "waiting for a collective", text });
                }
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// How long iterations may take before they never will be done, seconds.
fn allowance_s(each_s: Option<f64>, iterations: u64) -> f64 {
    each_s.map_or(FIRST_S, |each_s| LATER_S + LATER_TIMES * each_s * iterations as f64)
}

/// Ends the work where it failed: kernels that wait for another GPU would wait for ever, and so would whoever frees their memory.
fn abort_unless<T>(done: Result<T>, work: &mut dyn Several) -> Result<T> {
    if done.is_err() {
        work.abort();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_the_work() {
        assert_eq!(allowance_s(None, 2), FIRST_S);
        assert_eq!(allowance_s(Some(1e-5), 100), LATER_S + 0.01);
        assert_eq!(allowance_s(Some(2.0), 10), LATER_S + 200.0);
    }

    #[test]
    fn the_slowest_clock_counts() {
        let lap = |clocks_hz: Vec<Option<f64>>| Lap { seconds: 1.0, clocks_hz };
        assert_eq!(lap(vec![Some(2e9), Some(1e9), None]).lowest_hz(), Some(1e9));
        assert_eq!(lap(vec![None]).lowest_hz(), None);
    }
}
