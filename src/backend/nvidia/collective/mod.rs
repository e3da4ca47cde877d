//! Collectives of several GPUs of one host through NCCL: `allreduce`, `allgather`, `p2p`.
//!
//! Layers, from the bottom: `exchange` (what goes where, and whether it arrived) · `stopwatch` (timing on several GPUs) ·
//! `timed` (the whole as the port wants it). This file has what can be said without a GPU: sizes, rates, and what cannot run.

use crate::backend::nvidia::collective::exchange::Exchange;
use crate::backend::nvidia::collective::timed::Timed;
use crate::backend::nvidia::cuda::{CudaError, Device, Result};
use crate::backend::nvidia::stopwatch::Method;
use crate::backend::nvidia::timed::How;
use crate::backend::nvidia::work::{Element, Site, refuse};
use crate::backend::nvidia::{cuda, operator};
use crate::domain::{Skip, Workload, WorkloadKind};
use crate::hardware;
use crate::hardware::cuda::{Library, need};

mod exchange;
mod stopwatch;
mod timed;

/// Element types that NCCL sums and that our fillings know.
const PRECISIONS: [&str; 3] = ["f32", "bf16", "f16"];

/// A collective alone on its GPU would exchange nothing.
const LEAST_GPUS: usize = 2;

/// Which collective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sum over GPUs, in place.
    AllReduce,
    /// Each GPU's part to all.
    AllGather,
    /// From each GPU to the next.
    PeerToPeer,
}

/// Elements of one GPU's part in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// That it gives.
    pub given: usize,
    /// That it has in the end.
    pub received: usize,
}

impl Kind {
    const ALL: [Self; 3] = [Self::AllReduce, Self::AllGather, Self::PeerToPeer];

    /// The collective that a workload asks for, if it is one.
    pub fn of(workload: &Workload) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == workload.name);
        named.filter(|_| workload.kind == WorkloadKind::Operator)
    }

    /// Its name in suites.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "allreduce",
            Self::AllGather => "allgather",
            Self::PeerToPeer => "p2p",
        }
    }

    /// What each GPU's link must carry at least, as a share of the buffer (nccl-tests, PERFORMANCE.md): by it a rate can be
    /// compared with the link's, whatever the collective and the number of GPUs.
    pub fn bus_factor(self, gpus: usize) -> f64 {
        let n = gpus as f64;
        match self {
            Self::AllReduce => 2.0 * (n - 1.0) / n,
            Self::AllGather => (n - 1.0) / n,
            Self::PeerToPeer => 1.0,
        }
    }

    /// Elements for a buffer of `bytes`: what does not divide is left out at the end, as nccl-tests do. The buffer of an
    /// all-gather is its output.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn share(self, bytes: usize, element: Element, gpus: usize) -> Result<Share> {
        let whole = bytes / element.bytes();
        let given = if self == Self::AllGather { whole / gpus } else { whole };
        if given == 0 {
            return refuse(format!("{bytes} bytes are not one element for each of {gpus} GPUs: raise `bytes`"));
        }
        Ok(Share { given, received: if self == Self::AllGather { given * gpus } else { given } })
    }
}

/// The GPUs that take part, by CUDA's count: as many as were asked for, or all, from the first on.
fn chosen(first: usize, asked: Option<usize>, there: usize) -> Result<Vec<usize>> {
    let count = asked.unwrap_or_else(|| there.saturating_sub(first));
    if count < LEAST_GPUS {
        let why = match asked {
            Some(asked) => format!("gpus = {asked}"),
            None if first > 0 => format!("device = {first} leaves {count} of {there}"),
            None => format!("the driver shows {there}"),
        };
        return refuse(format!("a collective needs at least two GPUs: {why}"));
    }
    if first + count > there {
        let from = if first > 0 { format!(" from GPU {first} on") } else { String::new() };
        return refuse(format!("gpus = {count}{from}: there are not so many, the driver shows {there}"));
    }
    Ok((first..first + count).collect())
}

/// Whether a collective can run here as asked for.
///
/// # Errors
/// What cannot, and what can instead or what to install.
pub fn supports(workload: &Workload) -> std::result::Result<(), Skip> {
    for library in [Library::Driver, Library::Nvrtc, Library::Nccl] {
        need(library).map_err(cuda::skip)?;
    }
    let gpus = hardware::gpus().map_err(cuda::skip)?.len();
    if gpus < LEAST_GPUS {
        return Err(Skip {
            reason: format!("`{}` needs at least two GPUs; there is one", workload.name),
            remedy: "run it on a host with several, or pass more of them in".to_owned(),
        });
    }
    let unable = |reason: String, remedy: String| Skip { reason, remedy };
    let asked = workload.text("precision").map_err(|reason| unable(reason, "give one".to_owned()))?;
    if !PRECISIONS.contains(&asked) {
        let reason = format!("`{}` has no {asked} on the nvidia backend", workload.name);
        return Err(unable(reason, format!("use one of {}", PRECISIONS.join(", "))));
    }
    if workload.text("timing") == Ok(Method::Graph.name()) {
        let reason = format!("`{}` is not timed from graphs", workload.name);
        return Err(unable(reason, "use timing = \"batch\": back to back, as nccl-tests do".to_owned()));
    }
    Ok(())
}

/// Loads a collective: opens its GPUs, fills their buffers, connects them.
///
/// # Errors
/// When there are too few GPUs, a parameter makes no sense, memory runs out, or NCCL refuses.
pub fn load(kind: Kind, workload: &Workload, seed: u64, how: How) -> Result<Timed> {
    need(Library::Driver).map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
    let size = |name| workload.size(name).map_err(CudaError::Parameter);
    let asked = workload.optional_size("gpus").map_err(CudaError::Parameter)?;
    let first = size("device")?;
    let ordinals = chosen(first, asked, Device::count()?)?;
    let element = operator::element_of(workload)?;
    let share = kind.share(size("bytes")?, element, ordinals.len())?;
    Timed::load(&ordinals, how, |sites: &[Site]| Exchange::new(kind, element, share, sites, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_factors_are_those_of_nccl_tests() {
        let factors = |kind: Kind| [2, 4, 8].map(|gpus| kind.bus_factor(gpus));
        assert_eq!(factors(Kind::AllReduce), [1.0, 1.5, 1.75]);
        assert_eq!(factors(Kind::AllGather), [0.5, 0.75, 0.875]);
        assert_eq!(factors(Kind::PeerToPeer), [1.0; 3]);
    }

    #[test]
    fn what_does_not_divide_is_left_out() {
        let share = |kind: Kind, bytes, element, gpus| {
            kind.share(bytes, element, gpus).map(|share| (share.given, share.received))
        };
        assert_eq!(share(Kind::AllReduce, 1024, Element::F32, 3), Ok((256, 256)));
        assert_eq!(share(Kind::AllReduce, 1027, Element::Bf16, 8), Ok((513, 513)));
        assert_eq!(share(Kind::AllGather, 1024, Element::F32, 2), Ok((128, 256)));
        // 256 elements are 85 for each of three, and one is left over.
        assert_eq!(share(Kind::AllGather, 1024, Element::F32, 3), Ok((85, 255)));
        assert_eq!(share(Kind::PeerToPeer, 6, Element::F32, 2), Ok((1, 1)));
        for (kind, bytes) in [(Kind::AllReduce, 3), (Kind::AllGather, 7), (Kind::PeerToPeer, 0)] {
            let error = share(kind, bytes, Element::F32, 2).expect_err("not one element each");
            assert!(error.to_string().contains("raise `bytes`"), "{error}");
        }
    }

    #[test]
    fn the_gpus_are_those_asked_for_or_all() {
        assert_eq!(chosen(0, None, 4), Ok(vec![0, 1, 2, 3]));
        assert_eq!(chosen(1, None, 4), Ok(vec![1, 2, 3]));
        assert_eq!(chosen(2, Some(2), 4), Ok(vec![2, 3]));
        let refused = |first, asked, there| chosen(first, asked, there).expect_err("refused").to_string();
        assert_eq!(refused(0, Some(8), 2), "gpus = 8: there are not so many, the driver shows 2");
        assert_eq!(refused(1, Some(2), 2), "gpus = 2 from GPU 1 on: there are not so many, the driver shows 2");
        assert_eq!(refused(0, Some(1), 2), "a collective needs at least two GPUs: gpus = 1");
        assert_eq!(refused(0, None, 1), "a collective needs at least two GPUs: the driver shows 1");
        assert_eq!(refused(1, None, 2), "a collective needs at least two GPUs: device = 1 leaves 1 of 2");
    }

    #[test]
    fn every_collective_is_in_the_catalogue() {
        for kind in Kind::ALL {
            assert!(crate::domain::workload::find(WorkloadKind::Operator, kind.name()).is_some(), "{}", kind.name());
        }
    }
}
