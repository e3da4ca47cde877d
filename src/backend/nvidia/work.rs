//! What every workload on a GPU has in common: it can be enqueued, counted and checked. And the place where it is made: a
//! device with a compiler, seeded inputs, and plain references for the checks.
//!
//! Must not know how time is taken.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::backend::WorkCounts;
use crate::backend::nvidia::compile::{Compiled, compile};
use crate::backend::nvidia::cuda::{
    Arguments, Buffer, CudaError, Device, Footprint, Geometry, Kernel, Module, Result, Stream,
};
pub use crate::backend::relative_error as error;
use crate::domain::{Check, Metric};

const REFERENCE: &str = include_str!("kernels/reference.cu");

/// Element types, numbered as the kernels number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32 = 0,
    /// bfloat16.
    Bf16 = 1,
    /// Half precision.
    F16 = 2,
    /// FP8 with four bits of exponent.
    E4m3 = 3,
    /// FP8 with five bits of exponent.
    E5m2 = 4,
    /// Signed bytes.
    Int8 = 5,
    /// Signed words.
    Int32 = 6,
    /// Double precision.
    F64 = 7,
}

impl Element {
    /// Size, bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::E4m3 | Self::E5m2 | Self::Int8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::Int32 => 4,
            Self::F64 => 8,
        }
    }

    /// The type of a precision's name, as suites write it; TF32 is stored in single precision.
    pub fn of(precision: &str) -> Option<Self> {
        Some(match precision {
            "f32" | "tf32" => Self::F32,
            "bf16" => Self::Bf16,
            "f16" => Self::F16,
            "fp8-e4m3" => Self::E4m3,
            "fp8-e5m2" => Self::E5m2,
            "int8" => Self::Int8,
            "i32" | "int32" => Self::Int32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// The largest error that passes where results have this type and sums are kept in single precision: the largest difference
    /// over the largest value, about 5 to 170 roundings as on the CPU.
    pub const fn tolerance(self) -> f64 {
        match self {
            Self::F64 => 1e-12,
            Self::F32 => 1e-5,
            Self::F16 => 4e-3,
            Self::Bf16 => 2e-2,
            Self::E4m3 => 0.1,
            Self::E5m2 => 0.2,
            Self::Int8 | Self::Int32 => 0.0,
        }
    }
}

/// The unit whose datasheet rate bounds a workload's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Single precision outside the tensor cores.
    Fp32,
    /// TF32 on tensor cores.
    Tf32,
    /// BF16 or FP16 on tensor cores.
    Half,
    /// FP8 on tensor cores.
    Fp8,
    /// INT8 on tensor cores.
    Int8,
}

/// What one workload is.
pub trait Work: fmt::Debug {
    /// Enqueues one iteration. Neither waits nor allocates.
    ///
    /// # Errors
    /// As the device refuses.
    fn enqueue(&mut self, stream: &Stream) -> Result<()>;

    /// Kernels and copies of one iteration, at most.
    fn launches(&self) -> u32 {
        1
    }

    /// What one iteration amounts to.
    fn counts(&self) -> WorkCounts;

    /// Which unit does its arithmetic; `None` where bandwidth alone bounds it.
    fn arithmetic(&self) -> Option<Arithmetic> {
        None
    }

    /// Compares what an iteration leaves with a reference.
    ///
    /// # Errors
    /// When the comparison could not be made.
    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>>;

    /// Single-valued metrics of its own, such as registers and compile time.
    fn values(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Facts for the record, such as the algorithm chosen.
    fn facts(&self) -> BTreeMap<String, Json> {
        BTreeMap::new()
    }
}

/// A device with what making and checking workloads needs.
#[derive(Debug)]
pub struct Site {
    /// The GPU.
    pub device: Rc<Device>,
    /// What its code is compiled for: `sm_90`.
    pub architecture: String,
    /// For filling, checking and choosing; never for timing.
    pub stream: Stream,
    tools: Rc<Module>,
    built: Kept<Source, Built>,
}

/// What decides what the compiler makes: name, text, architecture, options.
type Source = (String, String, String, Vec<String>);

/// Things that take long to make, made once each.
#[derive(Debug)]
struct Kept<K, V>(RefCell<BTreeMap<K, Rc<V>>>);

impl<K: Ord, V> Kept<K, V> {
    const fn new() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    /// What was made for this key, or is made now. A failure is not kept.
    fn get(&self, key: K, make: impl FnOnce(&K) -> Result<V>) -> Result<Rc<V>> {
        if let Some(kept) = self.0.borrow().get(&key) {
            return Ok(Rc::clone(kept));
        }
        let made = Rc::new(make(&key)?);
        self.0.borrow_mut().insert(key, Rc::clone(&made));
        Ok(made)
    }
}

/// Threads of the reference kernels.
const THREADS: u32 = 256;

impl Site {
    /// Opens a GPU.
    ///
    /// # Errors
    /// Where there is no such GPU, or no compiler.
    pub fn open(ordinal: usize) -> Result<Self> {
        let device = Device::open(ordinal)?;
        let (major, minor) = device.compute_capability()?;
        let architecture = format!("sm_{major}{minor}");
        let compiled = compile("reference.cu", REFERENCE, &architecture, &[])?;
        let tools = device.module(&compiled.image)?;
        Ok(Self { stream: device.stream()?, device, architecture, tools, built: Kept::new() })
    }

    /// Compiles one of our own kernels for this device.
    ///
    /// # Errors
    /// As [`Self::build_for`].
    pub fn build(&self, name: &str, source: &str, options: &[String]) -> Result<Rc<Built>> {
        self.build_for(&self.architecture, name, source, options)
    }

    /// Compiles a source for an architecture and loads it: once, however many sets of buffers it is to run on. The code is the same
    /// each time, and the seconds that it takes are those of the one time.
    ///
    /// # Errors
    /// With the compiler's log, or the driver's reason why it does not load.
    pub fn build_for(&self, architecture: &str, name: &str, source: &str, options: &[String]) -> Result<Rc<Built>> {
        let key = (name.to_owned(), source.to_owned(), architecture.to_owned(), options.to_vec());
        self.built.get(key, |(name, source, architecture, options)| {
            let Compiled { image, seconds, log } = compile(name, source, architecture, options)?;
            Ok(Built { module: self.loaded(name, &image)?, seconds, log })
        })
    }

    /// Loads code that was compiled before.
    ///
    /// # Errors
    /// When it is not whole, or not for this device.
    pub fn loaded(&self, name: &str, image: &[u8]) -> Result<Rc<Module>> {
        self.device.module(image).map_err(|error| match error {
            error if error.is_out_of_memory() => error,
            error => {
                CudaError::Parameter(format!("`{name}` does not load on this device ({}): {error}", self.architecture))
            }
        })
    }

    /// Blocks of a loop over the grid that keep the device busy.
    fn blocks(count: u64) -> u32 {
        count.div_ceil(u64::from(THREADS)).clamp(1, 4096) as u32
    }

    /// Enqueues a reference kernel that takes any grid.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn tool(&self, name: &str, threads: u64, arguments: &Arguments) -> Result<()> {
        self.tool_on(name, &Geometry::linear(Self::blocks(threads), THREADS), arguments)
    }

    /// Enqueues a reference kernel on a grid of its own.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn tool_on(&self, name: &str, geometry: &Geometry, arguments: &Arguments) -> Result<()> {
        self.tools.kernel(name)?.launch(geometry, arguments, &self.stream)
    }

    /// A buffer of elements.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn room(&self, element: Element, count: usize) -> Result<Buffer> {
        let bytes = count.checked_mul(element.bytes());
        self.device.allocate(bytes.ok_or_else(|| too_large(&[count, element.bytes()]))?)
    }

    /// A buffer of normal values, a stream of its own for each name; whole numbers have a deviation of 24.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn normal(&self, element: Element, count: usize, seed: u64, name: &str) -> Result<Buffer> {
        let sigma = if matches!(element, Element::Int8 | Element::Int32) { 24.0 } else { 1.0 };
        self.normal_of(element, count, seed, name, 0.0, sigma)
    }

    /// As [`Self::normal`], with mean and deviation.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn normal_of(
        &self,
        element: Element,
        count: usize,
        seed: u64,
        name: &str,
        mean: f32,
        sigma: f32,
    ) -> Result<Buffer> {
        let buffer = self.room(element, count)?;
        let arguments = Arguments::new()
            .buffer(&buffer)
            .u32(element as u32)
            .size(count)
            .u64(stream_of(seed, name))
            .f32(mean)
            .f32(sigma);
        self.tool("fill_normal", count as u64, &arguments)?;
        self.stream.synchronize()?;
        Ok(buffer)
    }

    /// A buffer of uniform values.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn uniform(&self, element: Element, count: usize, seed: u64, name: &str, range: [f32; 2]) -> Result<Buffer> {
        let buffer = self.room(element, count)?;
        let arguments = Arguments::new()
            .buffer(&buffer)
            .u32(element as u32)
            .size(count)
            .u64(stream_of(seed, name))
            .f32(range[0])
            .f32(range[1]);
        self.tool("fill_uniform", count as u64, &arguments)?;
        self.stream.synchronize()?;
        Ok(buffer)
    }

    /// A buffer of one value.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn constant(&self, element: Element, count: usize, value: f32) -> Result<Buffer> {
        let buffer = self.room(element, count)?;
        let arguments = Arguments::new().buffer(&buffer).u32(element as u32).size(count).f32(value);
        self.tool("fill_constant", count as u64, &arguments)?;
        self.stream.synchronize()?;
        Ok(buffer)
    }

    /// Elements of a buffer at these places, in double precision.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn gather(&self, buffer: &Buffer, element: Element, places: &[u64]) -> Result<Vec<f64>> {
        let out = self.device.allocate(size_of_val(places).max(8))?;
        let at = self.device.upload(places)?;
        let arguments = Arguments::new().buffer(buffer).u32(element as u32).buffer(&at).size(places.len()).buffer(&out);
        self.tool("gather", places.len() as u64, &arguments)?;
        let mut values = out.read::<f64>()?;
        values.truncate(places.len());
        Ok(values)
    }

    /// A whole row-major part of a buffer.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn range(&self, buffer: &Buffer, element: Element, from: u64, count: u64) -> Result<Vec<f64>> {
        self.gather(buffer, element, &(from..from + count).collect::<Vec<_>>())
    }

    /// Single elements of a matrix product in double precision.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn dot_products(
        &self,
        (a, a_element, a_steps): (&Buffer, Element, [usize; 2]),
        (b, b_element, b_steps): (&Buffer, Element, [usize; 2]),
        (rows, columns): (&[u64], &[u64]),
        depth: usize,
    ) -> Result<Vec<f64>> {
        let count = rows.len().min(columns.len());
        let out = self.device.allocate(count * size_of::<f64>())?;
        let (at_rows, at_columns) = (self.device.upload(rows)?, self.device.upload(columns)?);
        let arguments = Arguments::new()
            .buffer(a)
            .u32(a_element as u32)
            .size(a_steps[0])
            .size(a_steps[1])
            .buffer(b)
            .u32(b_element as u32)
            .size(b_steps[0])
            .size(b_steps[1])
            .buffer(&at_rows)
            .buffer(&at_columns)
            .size(count)
            .size(depth)
            .buffer(&out);
        let geometry = Geometry::linear((count as u32).div_ceil(THREADS / 32).max(1), THREADS);
        self.tools.kernel("dot_products")?.launch(&geometry, &arguments, &self.stream)?;
        out.read()
    }

    /// The sum of a buffer's elements.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn total(&self, buffer: &Buffer, element: Element, count: usize) -> Result<f64> {
        let out = self.device.upload(&[0.0_f64])?;
        let arguments = Arguments::new().buffer(buffer).u32(element as u32).size(count).buffer(&out);
        self.tool("total", count as u64, &arguments)?;
        Ok(out.read::<f64>()?.first().copied().unwrap_or(f64::NAN))
    }

    /// How many bytes of two buffers differ.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn differences(&self, a: &Buffer, b: &Buffer) -> Result<u64> {
        let out = self.device.upload(&[0_u64])?;
        let count = a.bytes().min(b.bytes());
        let arguments = Arguments::new().buffer(a).buffer(b).size(count).buffer(&out);
        self.tool("differences", count as u64, &arguments)?;
        Ok(out.read::<u64>()?.first().copied().unwrap_or(u64::MAX))
    }
}

/// One head of an attention, for the reference kernels: matrices `[length, depth]` inside larger buffers of one element type.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Queries.
    pub q: &'a Buffer,
    /// Keys.
    pub k: &'a Buffer,
    /// Values.
    pub v: &'a Buffer,
    /// Gradient of the output, in a backward pass.
    pub slope: Option<&'a Buffer>,
    /// Their type.
    pub element: Element,
    /// Elements before this head's queries, and before its keys.
    pub offsets: [usize; 2],
    /// Places in the sequence.
    pub length: usize,
    /// Width.
    pub depth: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Whether a query sees no key behind its own place.
    pub causal: bool,
}

/// What queries of a head should come to: their outputs, and their gradients where there are any.
pub type Queries = [Vec<f64>; 2];

impl Site {
    /// Widest head that the reference kernels hold.
    pub const MOST_DEPTH: usize = 512;

    /// Outputs and gradients of these queries, and the sums that [`Self::attention_keys`] wants.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn attention_queries(&self, head: &Head<'_>, queries: &[u64]) -> Result<(Queries, [Buffer; 2])> {
        const THREADS: u32 = 128;
        let sums = [self.room(Element::F64, head.length)?, self.room(Element::F64, head.length)?];
        let arguments = head.arguments().buffer(&sums[0]).buffer(&sums[1]);
        let rows = Geometry::linear(head.length as u32, THREADS);
        self.tools.kernel("attention_rows")?.launch(&rows, &arguments, &self.stream)?;
        let at = self.device.upload(queries)?;
        let [out, dq] = [0, 1].map(|_| self.room(Element::F64, queries.len() * head.depth));
        let (out, dq) = (out?, dq?);
        let arguments = head.arguments().buffer(&sums[0]).buffer(&sums[1]).buffer(&at).buffer(&out).buffer(&dq);
        let geometry = Geometry::linear(queries.len() as u32, THREADS);
        self.tools.kernel("attention_queries")?.launch(&geometry, &arguments, &self.stream)?;
        Ok(([out.read()?, dq.read()?], sums))
    }

    /// Adds a head's part of the gradients of these keys and values to two matrices `[keys, depth]`.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn attention_keys(
        &self,
        head: &Head<'_>,
        sums: &[Buffer; 2],
        keys: &[u64],
        [dk, dv]: [&Buffer; 2],
    ) -> Result<()> {
        let at = self.device.upload(keys)?;
        let arguments = head.arguments().buffer(&sums[0]).buffer(&sums[1]).buffer(&at).buffer(dk).buffer(dv);
        self.tools.kernel("attention_keys")?.launch(
            &Geometry::linear(keys.len() as u32, 128),
            &arguments,
            &self.stream,
        )?;
        self.stream.synchronize()
    }
}

impl Head<'_> {
    fn arguments(&self) -> Arguments {
        Arguments::new()
            .buffer(self.q)
            .buffer(self.k)
            .buffer(self.v)
            .u64(self.slope.map_or(0, Buffer::address))
            .u32(self.element as u32)
            .size(self.offsets[0])
            .size(self.offsets[1])
            .size(self.length)
            .size(self.depth)
            .f64(self.scale)
            .u32(u32::from(self.causal))
    }
}

/// A module with what compiling it took.
#[derive(Debug)]
pub struct Built {
    /// Loaded.
    pub module: Rc<Module>,
    /// Compile time, seconds.
    pub seconds: f64,
    /// The compiler's warnings, usually empty.
    pub log: String,
}

/// Mixes a name into a seed (FNV-1a, 64 bits), so that every input has values of its own.
fn stream_of(seed: u64, name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Up to `count` places below `bound`, spread by the seed: first and last always among them.
pub fn picks(seed: u64, name: &str, count: usize, bound: usize) -> Vec<u64> {
    if bound <= count {
        return (0..bound as u64).collect();
    }
    let start = stream_of(seed, name);
    let mut places: Vec<u64> = (0..count as u64)
        .map(|i| {
            let bits = stream_of(start ^ i, "pick");
            ((u128::from(bits) * bound as u128) >> 64) as u64
        })
        .collect();
    places[0] = 0;
    places[count - 1] = bound as u64 - 1;
    places
}

/// What the compiler made of a kernel, as metrics: registers, shared memory, spilled bytes and occupancy at a geometry.
///
/// # Errors
/// As the device refuses.
pub fn footprint(kernel: &Kernel, geometry: &Geometry, compile_s: Option<f64>) -> Result<Vec<(&'static str, f64)>> {
    let Footprint { registers, shared, local, .. } = kernel.footprint()?;
    let mut values = vec![
        (Metric::REGISTERS, registers as f64),
        (Metric::SHARED_MEMORY, (shared + geometry.shared as usize) as f64),
        (Metric::LOCAL_MEMORY, local as f64),
        (Metric::OCCUPANCY, kernel.occupancy(geometry)?),
    ];
    values.extend(compile_s.map(|seconds| (Metric::COMPILE_TIME, seconds)));
    Ok(values)
}

/// No tensor has more elements: so many of any type, several of them, still have a number of bytes.
const MOST_ELEMENTS: usize = 1 << 56;

/// Elements of a tensor of these sizes.
///
/// # Errors
/// As out of memory, where they are more than any memory holds: a product that wrapped around would ask for too little.
pub fn elements(sizes: &[usize]) -> Result<usize> {
    let product = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    product.filter(|product| *product <= MOST_ELEMENTS).ok_or_else(|| too_large(sizes))
}

fn too_large(sizes: &[usize]) -> CudaError {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    CudaError::TooLarge(format!("a buffer of {} elements", sizes.join(" x ")))
}

/// A parameter that makes no sense.
pub fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(CudaError::Parameter(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_hold_both_ends_and_stay_within() {
        let places = picks(7, "rows", 32, 1 << 40);
        assert_eq!((places[0], places[31], places.len()), (0, (1 << 40) - 1, 32));
        assert_eq!(places, picks(7, "rows", 32, 1 << 40));
        assert_ne!(places, picks(7, "columns", 32, 1 << 40));
        assert_eq!(picks(7, "rows", 32, 3), [0, 1, 2]);
    }

    #[test]
    fn nothing_wrong_passes_for_right() {
        assert_eq!(error(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert_eq!(error(&[1.0, -1.0], &[1.0, -2.0]), 0.5);
        assert!(error(&[f64::NAN, 1.0], &[1.0, 1.0]).is_nan());
        assert!(error(&[1.0], &[f64::NAN]).is_nan());
        assert!(error(&[], &[]).is_nan() && error(&[1.0], &[1.0, 2.0]).is_nan());
        assert_eq!(error(&[1.0], &[0.0]), f64::INFINITY);
    }

    #[test]
    fn sizes_that_no_memory_holds_are_out_of_memory() {
        assert_eq!(elements(&[3, 4, 5]), Ok(60));
        assert_eq!(elements(&[]), Ok(1));
        for sizes in [&[1 << 40, 1 << 40][..], &[1 << 32, 1 << 32], &[1 << 57]] {
            let error = elements(sizes).expect_err("too large");
            assert!(error.is_out_of_memory(), "{error}");
        }
        let error = elements(&[1 << 40, 1 << 40]).expect_err("too large").to_string();
        assert_eq!(error, "a buffer of 1099511627776 x 1099511627776 elements needs more than 2^63 bytes");
    }

    #[test]
    fn what_was_made_once_is_not_made_again() {
        let (kept, made) = (Kept::new(), std::cell::Cell::new(0));
        let get = |key: &'static str, ok: bool| {
            kept.get(key, |key| {
                made.set(made.get() + 1);
                if ok { Ok(key.len()) } else { refuse("no") }
            })
        };
        assert!(get("abc", false).is_err());
        assert_eq!(
            (get("abc", true), get("abc", true), get("ab", true)),
            (Ok(Rc::new(3)), Ok(Rc::new(3)), Ok(Rc::new(2)))
        );
        assert_eq!(made.get(), 3, "a failure, and each key once");
    }

    #[test]
    fn every_precision_of_the_catalogue_has_an_element() {
        for precision in crate::domain::workload::PRECISIONS {
            assert!(Element::of(precision).is_some(), "{precision}");
        }
        assert_eq!(Element::of("f33"), None);
    }
}
