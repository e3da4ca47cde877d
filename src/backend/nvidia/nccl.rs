//! The few calls of NCCL that measuring needs: one process and one thread that hold a communicator for each of several GPUs.
//!
//! Bindings of our own over the loaded library: cudarc's look for file names that NVIDIA's packages do not have. Every status is
//! checked and told in NCCL's own words. Must not know what is measured, nor how.

// Foreign calls throughout. Two invariants carry them: an `Api` exists only where every function of it was found in the library,
// which stays loaded for good, with the types of nccl.h (2.10 and later); and communicators live from `ncclCommInitAll` until
// the `Clique` that owns them destroys or aborts them, once.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::work::{Element, refuse};
use crate::hardware::cuda;

type Communicator = *mut c_void;
type RawStream = *mut c_void;
type Status = c_int;

const SUCCESS: Status = 0;
const IN_PROGRESS: Status = 7;
/// `ncclSum`.
const SUM: c_int = 0;

/// The functions, as the library has them.
#[derive(Debug, Clone, Copy)]
struct Api {
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    /// Since 2.13.
    last_error: Option<unsafe extern "C" fn(Communicator) -> *const c_char>,
    init_all: unsafe extern "C" fn(*mut Communicator, c_int, *const c_int) -> Status,
    destroy: unsafe extern "C" fn(Communicator) -> Status,
    abort: unsafe extern "C" fn(Communicator) -> Status,
    async_error: unsafe extern "C" fn(Communicator, *mut Status) -> Status,
    group_start: unsafe extern "C" fn() -> Status,
    group_end: unsafe extern "C" fn() -> Status,
    all_reduce:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Communicator, RawStream) -> Status,
    all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Communicator, RawStream) -> Status,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Communicator, RawStream) -> Status,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Communicator, RawStream) -> Status,
}

impl Api {
    fn load() -> Result<Self> {
        let handle =
            cuda::nccl().map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: the field that takes it gives it the type that nccl.h declares, and the handle is never closed.
                unsafe { handle.get(concat!($name, "\0").as_bytes()) }
                    .map(|symbol| *symbol)
                    .map_err(|error| CudaError::Library { call: $name, text: error.to_string() })
            };
        }
        Ok(Self {
            error_string: find!("ncclGetErrorString")?,
            last_error: find!("ncclGetLastError").ok(),
            init_all: find!("ncclCommInitAll")?,
            destroy: find!("ncclCommDestroy")?,
            abort: find!("ncclCommAbort")?,
            async_error: find!("ncclCommGetAsyncError")?,
            group_start: find!("ncclGroupStart")?,
            group_end: find!("ncclGroupEnd")?,
            all_reduce: find!("ncclAllReduce")?,
            all_gather: find!("ncclAllGather")?,
            send: find!("ncclSend")?,
            receive: find!("ncclRecv")?,
        })
    }

    fn checked(self, call: &'static str, status: Status) -> Result<()> {
        if status == SUCCESS { Ok(()) } else { Err(CudaError::Library { call, text: self.words(status) }) }
    }

    /// What NCCL says of a status, and the last warning that it wrote.
    fn words(self, status: Status) -> String {
        // SAFETY: no preconditions; the second ignores its argument.
        let (name, last) = unsafe { ((self.error_string)(status), self.last_error.map(|ask| ask(ptr::null_mut()))) };
        let text = |text: *const c_char| {
            // SAFETY: both give texts that end with a zero and stay until the next call, or null.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned())
        };
        let (name, last) = (text(name), last.and_then(text));
        let parts: Vec<String> = [name, last].into_iter().flatten().filter(|text| !text.is_empty()).collect();
        parts.join(": ")
    }
}

/// NCCL's number for an element type.
fn data_type(element: Element) -> Result<c_int> {
    match element {
        Element::F16 => Ok(6),
        Element::F32 => Ok(7),
        Element::Bf16 => Ok(9),
        other => refuse(format!("no collective in {other:?}")),
    }
}

/// A place among GPUs, as NCCL counts them.
fn rank(place: usize) -> c_int {
    c_int::try_from(place).expect("a host has few GPUs")
}

/// Communicators of several GPUs, one each, all held by this thread. Calls are enqueued and do not wait.
#[derive(Debug)]
pub struct Clique {
    api: Api,
    /// In the order of their ranks; empty once aborted.
    communicators: Vec<Communicator>,
}

impl Clique {
    /// Connects these GPUs, by CUDA's count; which of them is current afterwards is not said.
    ///
    /// # Errors
    /// Where there is no NCCL, or it refuses.
    pub fn new(ordinals: &[i32]) -> Result<Self> {
        let api = Api::load()?;
        let mut communicators: Vec<Communicator> = vec![ptr::null_mut(); ordinals.len()];
        // SAFETY: room for as many communicators as there are devices.
        let status = unsafe { (api.init_all)(communicators.as_mut_ptr(), rank(ordinals.len()), ordinals.as_ptr()) };
        api.checked("ncclCommInitAll", status)?;
        Ok(Self { api, communicators })
    }

    /// Sums over GPUs, in place.
    ///
    /// # Errors
    /// As NCCL refuses; when a buffer is too small.
    pub fn all_reduce(&self, buffers: &[Buffer], element: Element, count: usize, streams: &[Stream]) -> Result<()> {
        let kind = data_type(element)?;
        self.fits(&[(buffers, count)], element, streams)?;
        self.group(|rank, communicator| {
            let buffer = buffers[rank].address() as *mut c_void;
            let stream = streams[rank].raw().cast();
            // SAFETY: device memory of at least `count` elements, and a stream of the communicator's GPU.
            let status =
                unsafe { (self.api.all_reduce)(buffer.cast_const(), buffer, count, kind, SUM, communicator, stream) };
            self.api.checked("ncclAllReduce", status)
        })
    }

    /// Gathers `count` elements of each GPU on all.
    ///
    /// # Errors
    /// As NCCL refuses; when a buffer is too small.
    pub fn all_gather(
        &self,
        from: &[Buffer],
        to: &[Buffer],
        element: Element,
        count: usize,
        streams: &[Stream],
    ) -> Result<()> {
        let kind = data_type(element)?;
        self.fits(&[(from, count), (to, count * self.communicators.len())], element, streams)?;
        self.group(|rank, communicator| {
            let (from, to) = (from[rank].address() as *const c_void, to[rank].address() as *mut c_void);
            // SAFETY: as above; the output has room for every GPU's part.
            let status =
                unsafe { (self.api.all_gather)(from, to, count, kind, communicator, streams[rank].raw().cast()) };
            self.api.checked("ncclAllGather", status)
        })
    }

    /// Sends `count` elements from each GPU to the next, the last one's to the first.
    ///
    /// # Errors
    /// As NCCL refuses; when a buffer is too small.
    pub fn pass_on(
        &self,
        from: &[Buffer],
        to: &[Buffer],
        element: Element,
        count: usize,
        streams: &[Stream],
    ) -> Result<()> {
        let kind = data_type(element)?;
        self.fits(&[(from, count), (to, count)], element, streams)?;
        let gpus = self.communicators.len();
        self.group(|own, communicator| {
            let (from, to) = (from[own].address() as *const c_void, to[own].address() as *mut c_void);
            let (next, before) = (rank((own + 1) % gpus), rank((own + gpus - 1) % gpus));
            let stream = streams[own].raw().cast();
            // SAFETY: as above.
            let status = unsafe { (self.api.send)(from, count, kind, next, communicator, stream) };
            self.api.checked("ncclSend", status)?;
            // SAFETY: as above.
            let status = unsafe { (self.api.receive)(to, count, kind, before, communicator, stream) };
            self.api.checked("ncclRecv", status)
        })
    }

    /// Makes a call for every GPU and enqueues them together: one by one, the first would wait for the others.
    fn group(&self, mut call: impl FnMut(usize, Communicator) -> Result<()>) -> Result<()> {
        // SAFETY: no preconditions; each start has its end, whatever happens in between.
        self.api.checked("ncclGroupStart", unsafe { (self.api.group_start)() })?;
        let calls =
            self.communicators.iter().enumerate().try_for_each(|(rank, communicator)| call(rank, *communicator));
        // SAFETY: as above.
        let ended = self.api.checked("ncclGroupEnd", unsafe { (self.api.group_end)() });
        calls.and(ended)
    }

    /// Refuses calls that would reach beyond a buffer.
    fn fits(&self, uses: &[(&[Buffer], usize)], element: Element, streams: &[Stream]) -> Result<()> {
        let gpus = self.communicators.len();
        if gpus == 0 {
            return refuse("these GPUs are no longer connected");
        }
        let room = |buffers: &[Buffer], count: usize| {
            buffers.len() == gpus && buffers.iter().all(|buffer| buffer.bytes() / element.bytes() >= count)
        };
        if streams.len() == gpus && uses.iter().all(|(buffers, count)| room(buffers, *count)) {
            Ok(())
        } else {
            refuse(format!("a collective of {gpus} GPUs over too few or too small buffers"))
        }
    }

    /// What went wrong after the calls returned, such as a link that fell.
    ///
    /// # Errors
    /// In NCCL's words.
    pub fn trouble(&self) -> Result<()> {
        for communicator in &self.communicators {
            let mut state = SUCCESS;
            // SAFETY: a live communicator and room for its state.
            let status = unsafe { (self.api.async_error)(*communicator, &raw mut state) };
            self.api.checked("ncclCommGetAsyncError", status)?;
            if state != IN_PROGRESS {
                self.api.checked("ncclCommGetAsyncError", state)?;
            }
        }
        Ok(())
    }

    /// The last thing that NCCL wrote, for whoever waits in vain.
    pub fn last_words(&self) -> String {
        self.api.words(IN_PROGRESS)
    }

    /// Ends everything that is under way, so that its kernels do not wait for ever. Nothing can be enqueued afterwards.
    pub fn abort(&mut self) {
        for communicator in std::mem::take(&mut self.communicators) {
            // SAFETY: live until here, and taken out of reach.
            let _ = unsafe { (self.api.abort)(communicator) };
        }
    }
}

impl Drop for Clique {
    fn drop(&mut self) {
        for communicator in std::mem::take(&mut self.communicators) {
            // SAFETY: live until here, and taken out of reach.
            let _ = unsafe { (self.api.destroy)(communicator) };
        }
    }
}
