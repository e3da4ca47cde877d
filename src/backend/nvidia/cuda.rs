//! The few things of CUDA's driver that measuring needs, with ownership and errors: memory, streams, events, modules,
//! launches, graphs.
//!
//! Thin on purpose: nothing here allocates or waits unless its name says so, because timing depends on it. Must not know what
//! is computed or measured. Everything belongs to the device's primary context and to the thread that opened it.

// Foreign calls throughout. Two invariants carry all of them: a `Device` exists only after the driver was found and its
// context made current, and every handle is destroyed by the value that owns it, which keeps its device alive.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;

use cudarc::driver::sys;
use thiserror::Error;

use crate::backend::nvidia::image;
use crate::domain::Skip;
use crate::hardware::cuda::{self, Library};

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CudaError {
    /// The driver refused.
    #[error("{call}: {name} ({text})")]
    Driver {
        /// Name of the function.
        call: &'static str,
        /// Name of the status, such as `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
        /// The driver's sentence.
        text: String,
    },
    /// Another of NVIDIA's libraries refused.
    #[error("{call}: {text}")]
    Library {
        /// Name of the function.
        call: &'static str,
        /// The library's word.
        text: String,
    },
    /// A kernel does not compile.
    #[error("{name} does not compile:\n{log}")]
    Compile {
        /// The source's name.
        name: String,
        /// The compiler's log.
        log: String,
    },
    /// What the workload did inside a timed region cannot be timed.
    #[error("{0}")]
    Untimeable(String),
    /// A parameter makes no sense here.
    #[error("{0}")]
    Parameter(String),
    /// More memory than can be counted.
    #[error("{0} needs more than 2^63 bytes")]
    TooLarge(String),
}

impl CudaError {
    /// Whether device memory ran out.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::TooLarge(_))
            || matches!(self, Self::Driver { name, .. } if name == "CUDA_ERROR_OUT_OF_MEMORY")
    }
}

/// The result of anything on a device.
pub type Result<T> = std::result::Result<T, CudaError>;

fn checked(call: &'static str, status: sys::CUresult) -> Result<()> {
    if status == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    // SAFETY: both calls write a pointer to a constant string, or null for a status they do not know.
    let word = |ask: unsafe fn(sys::CUresult, *mut *const std::ffi::c_char) -> sys::CUresult| unsafe {
        let mut text = ptr::null();
        let _ = ask(status, &raw mut text);
        if text.is_null() { "unknown".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(CudaError::Driver { call, name: word(sys::cuGetErrorName), text: word(sys::cuGetErrorString) })
}

/// Calls a function of the driver and checks its status.
macro_rules! cuda {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: see the head of this module; pointers passed are to live values of the right type.
        checked(stringify!($name), unsafe { sys::$name($($argument),*) })
    };
}

/// The first driver that has `cuFuncGetParamInfo` (CUDA 12.4).
const TELLS_PARAMETERS: i32 = 12_040;

/// A GPU with its primary context current on this thread.
pub struct Device {
    raw: sys::CUdevice,
    context: sys::CUcontext,
    /// Its number, by CUDA's count.
    pub ordinal: i32,
    allocated: Cell<u64>,
    highest: Cell<u64>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.ordinal)
    }
}

/// Where a GPU sits, in the form the management library understands: `00000000:0A:00.0`.
pub type BusId = String;

impl Device {
    /// Opens a GPU and makes its context current on this thread.
    ///
    /// # Errors
    /// Where there is no driver, no such GPU, or the driver refuses.
    pub fn open(ordinal: usize) -> Result<Rc<Self>> {
        cuda::need(Library::Driver)
            .map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
        cuda!(cuInit(0))?;
        let mut count = 0;
        cuda!(cuDeviceGetCount(&raw mut count))?;
        let ordinal = i32::try_from(ordinal).ok().filter(|ordinal| *ordinal < count).ok_or_else(|| {
            CudaError::Parameter(format!("there is no GPU {ordinal} here; the driver shows {count}, counted from 0"))
        })?;
        let mut raw = 0;
        cuda!(cuDeviceGet(&raw mut raw, ordinal))?;
        let mut context = ptr::null_mut();
        cuda!(cuDevicePrimaryCtxRetain(&raw mut context, raw))?;
        let device = Rc::new(Self { raw, context, ordinal, allocated: Cell::new(0), highest: Cell::new(0) });
        cuda!(cuCtxSetCurrent(context))?;
        Ok(device)
    }

    /// How many GPUs the driver shows.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn count() -> Result<usize> {
        let mut count = 0;
        cuda!(cuInit(0))?;
        cuda!(cuDeviceGetCount(&raw mut count))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Whether the driver tells the sizes of a kernel's parameters. The bindings look its function up at the first call and end
    /// the process where it is absent.
    fn tells_parameters() -> bool {
        static VERSION: OnceLock<i32> = OnceLock::new();
        let version = VERSION.get_or_init(|| {
            let mut version = 0;
            cuda!(cuDriverGetVersion(&raw mut version)).map_or(0, |()| version)
        });
        *version >= TELLS_PARAMETERS
    }

    /// Makes its context current again, after another device was used on this thread.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn make_current(&self) -> Result<()> {
        cuda!(cuCtxSetCurrent(self.context))
    }

    /// Product name.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn name(&self) -> Result<String> {
        let mut name = [0; 256];
        cuda!(cuDeviceGetName(name.as_mut_ptr(), 255, self.raw))?;
        // SAFETY: the driver ends the name with a zero within the length given.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Where it sits.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn bus_id(&self) -> Result<BusId> {
        let mut text = [0; 32];
        cuda!(cuDeviceGetPCIBusId(text.as_mut_ptr(), 31, self.raw))?;
        // SAFETY: as for the name.
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    fn attribute(&self, which: sys::CUdevice_attribute) -> Result<usize> {
        let mut value = 0;
        cuda!(cuDeviceGetAttribute(&raw mut value, which, self.raw))?;
        Ok(usize::try_from(value).unwrap_or(0))
    }

    /// Streaming multiprocessors.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn multiprocessors(&self) -> Result<usize> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    }

    /// Second-level cache, bytes.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn l2_bytes(&self) -> Result<usize> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)
    }

    /// Largest dynamic shared memory that a kernel may ask for, bytes.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn shared_limit(&self) -> Result<usize> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
    }

    /// Most threads resident on a multiprocessor.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn threads_per_multiprocessor(&self) -> Result<usize> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)
    }

    /// Compute capability, major and minor.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn compute_capability(&self) -> Result<(usize, usize)> {
        Ok((
            self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ))
    }

    /// Gives back the part of the cache that an earlier program may have set aside for data that stays.
    ///
    /// # Errors
    /// As the driver refuses to make the device current.
    pub fn reset_persisting_cache(&self) -> Result<()> {
        self.make_current()?;
        // A device without that feature refuses, and then there is nothing to give back.
        let _ = cuda!(cuCtxResetPersistingL2Cache());
        let _ = cuda!(cuCtxSetLimit(sys::CUlimit::CU_LIMIT_PERSISTING_L2_CACHE_SIZE, 0));
        Ok(())
    }

    /// The highest sum of buffers that were alive at one time, bytes: exact, and the same in every process.
    #[must_use]
    pub fn highest_allocated(&self) -> u64 {
        self.highest.get()
    }

    /// Waits for everything.
    ///
    /// # Errors
    /// As the driver refuses, an earlier fault of a kernel included.
    pub fn synchronize(&self) -> Result<()> {
        self.make_current()?;
        cuda!(cuCtxSynchronize())
    }

    /// Uninitialised device memory. Waits for nothing, but may take long.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn allocate(self: &Rc<Self>, bytes: usize) -> Result<Buffer> {
        let mut pointer = 0;
        // The driver refuses sizes of zero, and vectorised kernels want room to round up.
        let rounded = bytes.checked_next_multiple_of(256).ok_or_else(|| CudaError::TooLarge("a buffer".to_owned()))?;
        cuda!(cuMemAlloc_v2(&raw mut pointer, rounded.max(256)))?;
        self.allocated.set(self.allocated.get() + bytes as u64);
        self.highest.set(self.highest.get().max(self.allocated.get()));
        Ok(Buffer { pointer, bytes, whole: Rc::new(Allocation { pointer, bytes, device: Rc::clone(self) }) })
    }

    /// Device memory with these values, there for every stream. Waits.
    ///
    /// # Errors
    /// When there is not enough, or the copy fails.
    pub fn upload<T: Plain>(self: &Rc<Self>, values: &[T]) -> Result<Buffer> {
        let buffer = self.allocate(size_of_val(values))?;
        cuda!(cuMemcpyHtoD_v2(buffer.pointer, values.as_ptr().cast(), size_of_val(values)))?;
        // The copy returns once the values are staged (seen with half a megabyte on an H100), and ours are streams that do not
        // wait for the default one, on which it goes on.
        cuda!(cuStreamSynchronize(ptr::null_mut()))?;
        Ok(buffer)
    }

    /// A stream that does not wait for the default one.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn stream(self: &Rc<Self>) -> Result<Stream> {
        let mut raw = ptr::null_mut();
        cuda!(cuStreamCreate(&raw mut raw, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32))?;
        Ok(Stream { raw, _device: Rc::clone(self) })
    }

    /// An event that keeps time.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn event(self: &Rc<Self>) -> Result<Event> {
        let mut raw = ptr::null_mut();
        cuda!(cuEventCreate(&raw mut raw, sys::CUevent_flags::CU_EVENT_DEFAULT as u32))?;
        Ok(Event { raw, _device: Rc::clone(self) })
    }

    /// Loads compiled code: a cubin, a fat binary, or PTX.
    ///
    /// # Errors
    /// When it is not whole, or not for this device.
    pub fn module(self: &Rc<Self>, image: &[u8]) -> Result<Rc<Module>> {
        let mut raw = ptr::null_mut();
        let image = image::whole(image).map_err(CudaError::Parameter)?;
        cuda!(cuModuleLoadData(&raw mut raw, image.as_ptr().cast()))?;
        Ok(Rc::new(Module { raw, device: Rc::clone(self) }))
    }

    /// Host memory that the kernels of every GPU see: words, zero at first.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn words(self: &Rc<Self>, count: usize) -> Result<Words> {
        let mut host: *mut c_void = ptr::null_mut();
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        cuda!(cuMemHostAlloc(&raw mut host, count.max(1) * size_of::<u32>(), flags))?;
        let words = Words { host: host.cast(), count, _device: Rc::clone(self) };
        (0..count).for_each(|place| words.set(place, 0));
        Ok(words)
    }

    /// Whether its kernels can read another GPU's memory without the host between.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn reaches(&self, other: &Self) -> Result<bool> {
        let mut can = 0;
        cuda!(cuDeviceCanAccessPeer(&raw mut can, self.raw, other.raw))?;
        Ok(can != 0)
    }

    /// Free and total memory, bytes.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.make_current()?;
        let (mut free, mut total) = (0, 0);
        cuda!(cuMemGetInfo_v2(&raw mut free, &raw mut total))?;
        Ok((free, total))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = cuda!(cuDevicePrimaryCtxRelease_v2(self.raw));
    }
}

/// Types whose bytes mean the same on the device.
pub trait Plain: Copy + Default {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for i32 {}
impl Plain for u64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// Device memory, or a part of it.
#[derive(Debug)]
pub struct Buffer {
    pointer: sys::CUdeviceptr,
    bytes: usize,
    whole: Rc<Allocation>,
}

/// What the driver gave.
#[derive(Debug)]
struct Allocation {
    pointer: sys::CUdeviceptr,
    bytes: usize,
    device: Rc<Device>,
}

impl Buffer {
    /// Its address on the device.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.pointer
    }

    /// Its size, bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets every byte, in the stream's order.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn fill(&self, byte: u8, stream: &Stream) -> Result<()> {
        cuda!(cuMemsetD8Async(self.pointer, byte, self.bytes, stream.raw))
    }

    /// Copies from the beginning of another, in the stream's order.
    ///
    /// # Errors
    /// As the driver refuses; when the other is smaller.
    pub fn copy_from(&self, other: &Self, stream: &Stream) -> Result<()> {
        if other.bytes < self.bytes {
            return Err(CudaError::Parameter(format!("a copy of {} bytes from {}", self.bytes, other.bytes)));
        }
        cuda!(cuMemcpyDtoDAsync_v2(self.pointer, other.pointer, self.bytes, stream.raw))
    }

    /// Its values, once everything before is done. Waits.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn read<T: Plain>(&self) -> Result<Vec<T>> {
        self.whole.device.synchronize()?;
        let mut values = vec![T::default(); self.bytes / size_of::<T>()];
        cuda!(cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), self.pointer, values.len() * size_of::<T>()))?;
        Ok(values)
    }

    /// A part of it, which keeps the whole alive.
    ///
    /// # Errors
    /// When it reaches beyond the end.
    pub fn part(&self, offset: usize, bytes: usize) -> Result<Self> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(CudaError::Parameter(format!("{bytes} bytes from {offset} of a buffer of {}", self.bytes)));
        }
        Ok(Self { pointer: self.pointer + offset as u64, bytes, whole: Rc::clone(&self.whole) })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.device.allocated.set(self.device.allocated.get().saturating_sub(self.bytes as u64));
        let _ = cuda!(cuMemFree_v2(self.pointer));
    }
}

/// A queue of work.
#[derive(Debug)]
pub struct Stream {
    raw: sys::CUstream,
    _device: Rc<Device>,
}

impl Stream {
    /// The handle, for NVIDIA's other libraries.
    #[must_use]
    pub const fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Waits until its work is done.
    ///
    /// # Errors
    /// As the driver refuses, a fault of its kernels included.
    pub fn synchronize(&self) -> Result<()> {
        cuda!(cuStreamSynchronize(self.raw))
    }

    /// Whether its work is done. Does not wait.
    ///
    /// # Errors
    /// As the driver refuses, a fault of its kernels included.
    pub fn is_done(&self) -> Result<bool> {
        // SAFETY: see the head of this module.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => checked("cuStreamQuery", status).map(|()| true),
        }
    }

    /// Records what `work` enqueues here instead of running it.
    ///
    /// # Errors
    /// When the work does what a graph cannot hold (waiting, allocating), or fails itself.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        cuda!(cuStreamBeginCapture_v2(self.raw, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))?;
        let done = work();
        let mut graph = ptr::null_mut();
        let ended = cuda!(cuStreamEndCapture(self.raw, &raw mut graph));
        done?;
        ended?;
        let mut executable = ptr::null_mut();
        let made = cuda!(cuGraphInstantiateWithFlags(&raw mut executable, graph, 0));
        let _ = cuda!(cuGraphDestroy(graph));
        made?;
        let graph = Graph { raw: executable };
        cuda!(cuGraphUpload(graph.raw, self.raw))?;
        Ok(graph)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = cuda!(cuStreamDestroy_v2(self.raw));
    }
}

/// A recorded piece of work.
#[derive(Debug)]
pub struct Graph {
    raw: sys::CUgraphExec,
}

impl Graph {
    /// Enqueues it.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        cuda!(cuGraphLaunch(self.raw, stream.raw))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = cuda!(cuGraphExecDestroy(self.raw));
    }
}

/// A moment in a stream.
#[derive(Debug)]
pub struct Event {
    raw: sys::CUevent,
    _device: Rc<Device>,
}

impl Event {
    /// Marks this moment of the stream.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        cuda!(cuEventRecord(self.raw, stream.raw))
    }

    /// Seconds from an earlier event to this one, once both are past.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn since(&self, earlier: &Self) -> Result<f64> {
        let mut milliseconds = 0.0_f32;
        cuda!(cuEventElapsedTime_v2(&raw mut milliseconds, earlier.raw, self.raw))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = cuda!(cuEventDestroy_v2(self.raw));
    }
}

/// Words of host memory that the kernels of every GPU see.
#[derive(Debug)]
pub struct Words {
    host: *mut u32,
    count: usize,
    _device: Rc<Device>,
}

impl Words {
    /// The address of a word for kernels of a GPU, which is current afterwards.
    ///
    /// # Errors
    /// As the driver refuses; beyond the last word.
    pub fn address_on(&self, device: &Device, place: usize) -> Result<u64> {
        if place >= self.count {
            return Err(CudaError::Parameter(format!("word {place} of {}", self.count)));
        }
        device.make_current()?;
        let mut address = 0;
        cuda!(cuMemHostGetDevicePointer_v2(&raw mut address, self.host.cast(), 0))?;
        Ok(address + (place * size_of::<u32>()) as u64)
    }

    /// Writes one; kernels that poll see it.
    pub fn set(&self, place: usize, value: u32) {
        assert!(place < self.count, "word {place} of {}", self.count);
        // SAFETY: within the words, which are ours and aligned; kernels may use them at the same time, hence volatile.
        unsafe { self.host.add(place).write_volatile(value) }
    }

    /// Reads one.
    #[must_use]
    pub fn get(&self, place: usize) -> u32 {
        assert!(place < self.count, "word {place} of {}", self.count);
        // SAFETY: as in `set`.
        unsafe { self.host.add(place).read_volatile() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let _ = cuda!(cuMemFreeHost(self.host.cast()));
    }
}

/// Loaded code.
#[derive(Debug)]
pub struct Module {
    raw: sys::CUmodule,
    device: Rc<Device>,
}

impl Module {
    /// A kernel of it.
    ///
    /// # Errors
    /// When it has none of this name.
    pub fn kernel(self: &Rc<Self>, name: &str) -> Result<Kernel> {
        let symbol = CString::new(name).map_err(|_| CudaError::Parameter(format!("`{name}` is no kernel's name")))?;
        let mut raw = ptr::null_mut();
        cuda!(cuModuleGetFunction(&raw mut raw, self.raw, symbol.as_ptr()))?;
        let parameters = if Device::tells_parameters() { parameters(raw) } else { None };
        Ok(Kernel { raw, parameters, module: Rc::clone(self) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = cuda!(cuModuleUnload(self.raw));
    }
}

/// Sizes of a kernel's parameters in their order, bytes; `None` where the driver does not tell, which is no reason to refuse it.
fn parameters(kernel: sys::CUfunction) -> Option<Vec<usize>> {
    let mut sizes = Vec::new();
    // No kernel has more: their parameters take at most so many bytes in all.
    while sizes.len() <= SPARE * ARGUMENT {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the driver has the function, and writes two numbers.
        match unsafe { sys::cuFuncGetParamInfo(kernel, sizes.len(), &raw mut offset, &raw mut size) } {
            sys::CUresult::CUDA_SUCCESS => sizes.push(size),
            // Beyond the last.
            sys::CUresult::CUDA_ERROR_INVALID_VALUE => return Some(sizes),
            _ => return None,
        }
    }
    None
}

/// How many blocks, of how many threads, with how much dynamic shared memory, in which clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads in each direction.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, bytes.
    pub shared: u32,
    /// Blocks of a cluster in each direction; all ones for none.
    pub cluster: [u32; 3],
}

impl Geometry {
    /// Blocks and threads along one direction.
    #[must_use]
    pub const fn linear(blocks: u32, threads: u32) -> Self {
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0, cluster: [1; 3] }
    }

    /// The same with dynamic shared memory.
    #[must_use]
    pub const fn with_shared(self, shared: u32) -> Self {
        Self { shared, ..self }
    }
}

/// Arguments of a kernel, in their order. Every value takes eight bytes, of which a kernel reads as many as it declares:
/// CUDA's devices and hosts are little-endian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    values: Vec<u64>,
    /// Bytes that each was given as.
    sizes: Vec<usize>,
}

/// What an argument takes here, bytes: no kernel may read more.
const ARGUMENT: usize = size_of::<u64>();

impl Arguments {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: Vec::new(), sizes: Vec::new() }
    }

    fn with(mut self, value: u64, size: usize) -> Self {
        self.values.push(value);
        self.sizes.push(size);
        self
    }

    /// What of them a kernel with parameters of these sizes would misread.
    fn misread(&self, parameters: &[usize]) -> Option<String> {
        if self.sizes.len() != parameters.len() {
            return Some(format!("it takes {} arguments, and {} are given", parameters.len(), self.sizes.len()));
        }
        // Narrow whole numbers (`bool`, `char`, `short`) are passed as words, whose low bytes they are.
        let differs = |(given, taken): (&usize, &usize)| given != taken && !(*given == 4 && *taken < 4);
        let differ = self.sizes.iter().zip(parameters).position(differs);
        differ.map(|place| {
            format!(
                "its argument {} takes {} bytes, and {} are given: the types differ",
                place + 1,
                parameters[place],
                self.sizes[place]
            )
        })
    }

    /// Whether a kernel with parameters of these sizes reads nothing beyond them.
    fn suffice(&self, parameters: &[usize]) -> bool {
        self.sizes.len() >= parameters.len() && parameters.iter().all(|size| *size <= ARGUMENT)
    }

    /// A buffer's address.
    #[must_use]
    pub fn buffer(self, buffer: &Buffer) -> Self {
        self.u64(buffer.address())
    }

    /// Eight bytes: a size or an address.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.with(value, 8)
    }

    /// A size.
    #[must_use]
    pub fn size(self, value: usize) -> Self {
        self.u64(value as u64)
    }

    /// Four bytes without a sign.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.with(u64::from(value), 4)
    }

    /// A number in single precision.
    #[must_use]
    pub fn f32(self, value: f32) -> Self {
        self.u32(value.to_bits())
    }

    /// A number in double precision.
    #[must_use]
    pub fn f64(self, value: f64) -> Self {
        self.u64(value.to_bits())
    }
}

/// What the compiler made of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Registers a thread.
    pub registers: usize,
    /// Static shared memory a block, bytes.
    pub shared: usize,
    /// Local memory a thread, bytes: spilled registers and arrays.
    pub local: usize,
    /// Most threads of a block.
    pub threads: usize,
}

/// A function that runs on the device.
#[derive(Debug)]
pub struct Kernel {
    raw: sys::CUfunction,
    /// Sizes of its parameters, where the driver tells: since CUDA 12.4.
    parameters: Option<Vec<usize>>,
    module: Rc<Module>,
}

/// Words behind the arguments where the driver does not tell what a kernel reads: as much as the parameters of any kernel take
/// (CUDA C++ Programming Guide: 32,764 bytes), so that one that reads more than it was given finds zeros.
const SPARE: usize = 32_768 / ARGUMENT;

impl Kernel {
    fn attribute(&self, which: sys::CUfunction_attribute) -> Result<usize> {
        let mut value = 0;
        cuda!(cuFuncGetAttribute(&raw mut value, which, self.raw))?;
        Ok(usize::try_from(value).unwrap_or(0))
    }

    /// What the compiler made of it.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn footprint(&self) -> Result<Footprint> {
        use sys::CUfunction_attribute as Attribute;
        Ok(Footprint {
            registers: self.attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            shared: self.attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local: self.attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            threads: self.attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    /// Allows it this much dynamic shared memory; beyond 48 KiB a kernel must ask. Never takes back what was allowed before:
    /// whoever has the same kernel of the same module may need it.
    ///
    /// # Errors
    /// When the device has less.
    pub fn allow_shared(&self, bytes: u32) -> Result<()> {
        let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if self.attribute(which)? >= bytes as usize {
            return Ok(());
        }
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        cuda!(cuFuncSetAttribute(self.raw, which, bytes))
    }

    /// Allows it clusters of more than the eight blocks that every device with clusters can place.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn allow_large_clusters(&self) -> Result<()> {
        let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        cuda!(cuFuncSetAttribute(self.raw, which, 1))
    }

    /// Share of a multiprocessor's threads that can be resident at once at this geometry: theoretical occupancy.
    ///
    /// # Errors
    /// As the driver refuses.
    pub fn occupancy(&self, geometry: &Geometry) -> Result<f64> {
        let threads: u32 = geometry.block.iter().product();
        let mut blocks = 0;
        cuda!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &raw mut blocks,
            self.raw,
            i32::try_from(threads).unwrap_or(i32::MAX),
            geometry.shared as usize
        ))?;
        let most = self.module.device.threads_per_multiprocessor()?;
        Ok(f64::from(blocks) * f64::from(threads) / most as f64)
    }

    /// Checks that its parameters are as many and as large as these arguments. Drivers before CUDA 12.4 do not tell: nothing is
    /// refused there.
    ///
    /// # Errors
    /// What differs.
    pub fn takes(&self, arguments: &Arguments) -> Result<()> {
        let misread = self.parameters.as_deref().and_then(|parameters| arguments.misread(parameters));
        misread.map_or(Ok(()), |what| Err(CudaError::Parameter(what)))
    }

    /// Enqueues it.
    ///
    /// # Errors
    /// When it would read more arguments than these, or the geometry is impossible; faults of the kernel show when somebody waits
    /// for it.
    pub fn launch(&self, geometry: &Geometry, arguments: &Arguments, stream: &Stream) -> Result<()> {
        let padded: Vec<u64>;
        let values = match &self.parameters {
            Some(parameters) if arguments.suffice(parameters) => &arguments.values,
            Some(_) => return self.takes(arguments),
            None => {
                padded = arguments.values.iter().copied().chain(std::iter::repeat_n(0, SPARE)).collect();
                &padded
            }
        };
        let mut pointers: Vec<*mut c_void> =
            values.iter().map(|value| ptr::from_ref(value).cast_mut().cast()).collect();
        let [grid, block] = [geometry.grid, geometry.block];
        // SAFETY: an attribute is plain data, for which zeros are valid; the union's field is the one its id names.
        let mut cluster: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        cluster.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        cluster.value.clusterDim.x = geometry.cluster[0];
        cluster.value.clusterDim.y = geometry.cluster[1];
        cluster.value.clusterDim.z = geometry.cluster[2];
        let clustered = geometry.cluster != [1; 3];
        let config = sys::CUlaunchConfig {
            gridDimX: grid[0],
            gridDimY: grid[1],
            gridDimZ: grid[2],
            blockDimX: block[0],
            blockDimY: block[1],
            blockDimZ: block[2],
            sharedMemBytes: geometry.shared,
            hStream: stream.raw,
            attrs: &raw mut cluster,
            numAttrs: u32::from(clustered),
        };
        cuda!(cuLaunchKernelEx(&raw const config, self.raw, pointers.as_mut_ptr(), ptr::null_mut()))
    }
}

/// What a missing library means for a workload.
#[must_use]
pub fn skip(absent: crate::hardware::Absent) -> Skip {
    Skip { reason: absent.reason, remedy: absent.remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_held_against_the_parameters_of_a_kernel() {
        let arguments = Arguments::new().u64(1).f32(2.0).size(3);
        assert_eq!(arguments.misread(&[8, 4, 8]), None);
        let misread = |parameters: &[usize]| arguments.misread(parameters).expect("something differs");
        assert_eq!(misread(&[8, 4]), "it takes 2 arguments, and 3 are given");
        assert_eq!(misread(&[8, 4, 8, 8]), "it takes 4 arguments, and 3 are given");
        assert_eq!(arguments.misread(&[8, 1, 8]), None, "a `bool`");
        assert!(misread(&[8, 8, 8]).starts_with("its argument 2 takes 8 bytes, and 4 are given"));
        assert!(arguments.suffice(&[8, 4, 8]) && arguments.suffice(&[8, 4]) && arguments.suffice(&[8, 8, 4]));
        assert!(!arguments.suffice(&[8, 4, 8, 1]), "one more than there are");
        assert!(!arguments.suffice(&[8, 16, 8]), "a structure of two words");
    }

    #[test]
    fn more_than_can_be_counted_is_out_of_memory() {
        let error = CudaError::TooLarge("a buffer".to_owned());
        assert!(error.is_out_of_memory() && error.to_string().contains("more than 2^63 bytes"));
        assert!(!CudaError::Parameter(String::new()).is_out_of_memory());
    }
}
