//! What goes from which GPU to which, and whether it arrived.
//!
//! Must not know how time is taken.

use crate::backend::nvidia::collective::stopwatch::Several;
use crate::backend::nvidia::collective::{Kind, Share};
use crate::backend::nvidia::cuda::{Buffer, Result, Stream};
use crate::backend::nvidia::nccl::Clique;
use crate::backend::nvidia::work::{self, Element, Site};
use crate::domain::Check;

/// Elements of each GPU that are compared with what they should be.
const COMPARED: usize = 4096;

/// A collective with its buffers, ready to be enqueued.
#[derive(Debug)]
pub struct Exchange {
    // First: whatever NCCL still does with the buffers ends before they go.
    clique: Clique,
    kind: Kind,
    element: Element,
    share: Share,
    seed: u64,
    /// What each GPU gives; empty where it gives what it has in `to`.
    from: Vec<Buffer>,
    /// What each GPU gets.
    to: Vec<Buffer>,
}

impl Exchange {
    /// Fills buffers from the seed, other values on each GPU, and connects the GPUs.
    ///
    /// # Errors
    /// When memory runs out, or NCCL refuses.
    pub fn new(kind: Kind, element: Element, share: Share, sites: &[Site], seed: u64) -> Result<Self> {
        let ordinals: Vec<i32> = sites.iter().map(|site| site.device.ordinal).collect();
        let (from, to) = (Vec::new(), Vec::new());
        let mut exchange = Self { clique: Clique::new(&ordinals)?, kind, element, share, seed, from, to };
        exchange.fill(sites)?;
        Ok(exchange)
    }

    /// Fills the inputs anew. In place, sums have grown with every iteration, beyond all bounds in the end: NCCL takes the same
    /// time for any values.
    fn fill(&mut self, sites: &[Site]) -> Result<()> {
        // Before new ones are made: there may not be room for both.
        self.from.clear();
        self.to.clear();
        for (rank, site) in sites.iter().enumerate() {
            site.device.make_current()?;
            let given = site.normal(self.element, self.share.given, self.seed, &format!("gpu {rank}"))?;
            if self.kind == Kind::AllReduce {
                self.to.push(given);
                continue;
            }
            self.from.push(given);
            let to = site.room(self.element, self.share.received)?;
            // No number at all, so that what never arrives is found out.
            to.fill(0xff, &site.stream)?;
            site.stream.synchronize()?;
            self.to.push(to);
        }
        Ok(())
    }

    /// Which collective it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of each GPU's buffer.
    pub const fn bytes(&self) -> usize {
        self.share.received * self.element.bytes()
    }

    /// Runs one iteration by `run` on fresh inputs and compares samples of what it leaves on every GPU.
    ///
    /// # Errors
    /// When the comparison could not be made.
    pub fn check(&mut self, sites: &[Site], run: impl FnOnce(&mut Self) -> Result<()>) -> Result<Vec<Check>> {
        self.fill(sites)?;
        let places = work::picks(self.seed, "compared", COMPARED, self.share.received);
        let gpus = sites.len();
        // What each GPU should have at these places, from what all gave.
        let mut want: Vec<Vec<f64>> = vec![Vec::new(); gpus];
        match self.kind {
            Kind::AllReduce => {
                let mut sums = vec![0.0; places.len()];
                for (site, given) in sites.iter().zip(&self.to) {
                    site.device.make_current()?;
                    let values = site.gather(given, self.element, &places)?;
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                want.fill(sums);
            }
            Kind::AllGather => {
                // Places are not in order, so each GPU's are put where they belong.
                let mut all = vec![f64::NAN; places.len()];
                for (rank, (site, given)) in sites.iter().zip(&self.from).enumerate() {
                    let part = self.share.given as u64;
                    let own: Vec<usize> = (0..places.len()).filter(|at| places[*at] / part == rank as u64).collect();
                    let within: Vec<u64> = own.iter().map(|at| places[*at] % part).collect();
                    if within.is_empty() {
                        continue;
                    }
                    site.device.make_current()?;
                    let values = site.gather(given, self.element, &within)?;
                    own.iter().zip(values).for_each(|(at, value)| all[*at] = value);
                }
                want.fill(all);
            }
            Kind::PeerToPeer => {
                for (rank, (site, given)) in sites.iter().zip(&self.from).enumerate() {
                    site.device.make_current()?;
                    want[(rank + 1) % gpus] = site.gather(given, self.element, &places)?;
                }
            }
        }
        run(self)?;
        let (reference, tolerance) = match self.kind {
            Kind::AllReduce => ("sums in f64 of what every GPU gave", self.element.tolerance()),
            Kind::AllGather => ("what every GPU gave", 0.0),
            Kind::PeerToPeer => ("what the GPU before gave", 0.0),
        };
        sites
            .iter()
            .zip(&self.to)
            .zip(want)
            .map(|((site, to), want)| {
                site.device.make_current()?;
                let got = site.gather(to, self.element, &places)?;
                let name = format!("values on GPU {}", site.device.ordinal);
                Ok(Check::new(&name, reference, work::error(&got, &want), tolerance))
            })
            .collect()
    }
}

impl Several for Exchange {
    fn enqueue(&mut self, streams: &[Stream]) -> Result<()> {
        let (clique, element, count) = (&self.clique, self.element, self.share.given);
        match self.kind {
            Kind::AllReduce => clique.all_reduce(&self.to, element, count, streams),
            Kind::AllGather => clique.all_gather(&self.from, &self.to, element, count, streams),
            Kind::PeerToPeer => clique.pass_on(&self.from, &self.to, element, count, streams),
        }
    }

    /// One kernel, and waits between the user's stream and NCCL's own.
    fn launches(&self) -> u64 {
        4
    }

    fn trouble(&self) -> Result<()> {
        self.clique.trouble()
    }

    fn last_words(&self) -> String {
        self.clique.last_words()
    }

    fn abort(&mut self) {
        self.clique.abort();
    }
}
