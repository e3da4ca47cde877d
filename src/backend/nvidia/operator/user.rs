//! Kernels of the user's: compiled at run time or loaded as they are, launched with declared arguments, compared with a reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::cuda::{Arguments, Buffer, CudaError, Geometry, Kernel, Result, Stream};
use crate::backend::nvidia::operator::once;
use crate::backend::nvidia::work::{self, Arithmetic, Element, Site, Work};
use crate::backend::plain;
use crate::domain::kernel::{
    Kernel as Spec, KernelArgument, KernelArithmetic, KernelCode, KernelFill, KernelReference,
};
use crate::domain::{Check, Workload};
use crate::hardware::cuda;

/// Elements of an output that are compared, at most.
const COMPARED: usize = 1 << 20;
/// Blocks of a cluster that need no permission (CUDA C++ Programming Guide, thread block clusters).
const PORTABLE_CLUSTER: u32 = 8;
/// Rows of an output that an operator in double precision is compared on.
const ROWS: usize = 32;

/// Code that is loaded, with its geometry.
#[derive(Debug)]
struct Loaded {
    kernel: Kernel,
    geometry: Geometry,
    compile_s: Option<f64>,
    log: String,
}

#[derive(Debug)]
struct User {
    spec: Spec,
    loaded: Loaded,
    reference: Option<Loaded>,
    buffers: Buffers,
    arguments: Arguments,
    seed: u64,
}

/// Buffers by name, in the order of the arguments.
type Buffers = Vec<(String, Element, Buffer)>;

/// Makes a kernel of the user's.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let Some(spec) = workload.kernel.as_deref() else {
        return work::refuse(format!("`{}` has no kernel", workload.name));
    };
    let loaded = load(site, &spec.code)?;
    let reference = match &spec.reference {
        Some(KernelReference::Kernel(code)) => Some(load(site, code)?),
        _ => None,
    };
    let (buffers, arguments) = allocate(site, spec, seed)?;
    fits(&loaded, &spec.code, &arguments)?;
    if let (Some(reference), Some(KernelReference::Kernel(code))) = (&reference, &spec.reference) {
        fits(reference, code, &arguments)?;
    }
    Ok(Box::new(User { spec: spec.clone(), loaded, reference, buffers, arguments, seed }))
}

/// Reads, compiles and loads code.
fn load(site: &Site, code: &KernelCode) -> Result<Loaded> {
    let path = Path::new(&code.source);
    let bytes = std::fs::read(path).map_err(|error| {
        let folder = std::env::current_dir().unwrap_or_default();
        CudaError::Parameter(format!(
            "cannot read the kernel `{}` in {}: {error}; paths of a suite start from the current folder",
            code.source,
            folder.display()
        ))
    })?;
    let (module, compile_s, log) = if path.extension().is_some_and(|extension| extension == "cu") {
        let source = String::from_utf8(bytes)
            .map_err(|_| CudaError::Parameter(format!("`{}` is not a text in UTF-8", code.source)))?;
        let architecture = code.architecture.as_deref().unwrap_or(&site.architecture);
        let built = site.build_for(architecture, &code.source, &source, &options(path, code))?;
        (Rc::clone(&built.module), Some(built.seconds), built.log.clone())
    } else {
        (site.loaded(&code.source, &bytes)?, None, String::new())
    };
    let kernel = module.kernel(&code.function).map_err(|_| {
        CudaError::Parameter(format!(
            "`{}` has no kernel `{}`: declare it extern \"C\" __global__, or give its mangled name",
            code.source, code.function
        ))
    })?;
    if code.shared > 0 {
        kernel.allow_shared(code.shared)?;
    }
    if code.cluster.iter().product::<u32>() > PORTABLE_CLUSTER {
        kernel.allow_large_clusters()?;
    }
    let geometry = Geometry { grid: code.grid, block: code.block, shared: code.shared, cluster: code.cluster };
    Ok(Loaded { kernel, geometry, compile_s, log })
}

/// Checks that the kernel's parameters are those that the suite declares, where the driver tells them.
fn fits(loaded: &Loaded, code: &KernelCode, arguments: &Arguments) -> Result<()> {
    loaded.kernel.takes(arguments).map_err(|error| {
        CudaError::Parameter(format!(
            "`{}` of `{}`: {error}; list in `arguments` what its declaration takes, in that order",
            code.function, code.source
        ))
    })
}

/// The compiler's options: the user's, then folders with headers.
fn options(source: &Path, code: &KernelCode) -> Vec<String> {
    let own =
        source.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    let folders = code.include.iter().map(PathBuf::from).chain([own]).chain(cuda::include_folders());
    code.options.iter().cloned().chain(folders.map(|folder| format!("-I{}", folder.display()))).collect()
}

fn element(name: &str) -> Result<Element> {
    Element::of(name).ok_or_else(|| CudaError::Parameter(format!("no element type `{name}`")))
}

/// A buffer as it is before the first launch.
fn filled(site: &Site, element: Element, count: usize, fill: KernelFill, seed: u64, name: &str) -> Result<Buffer> {
    match fill {
        KernelFill::Normal => site.normal(element, count, seed, name),
        KernelFill::Uniform => site.uniform(element, count, seed, name, [-1.0, 1.0]),
        KernelFill::Constant(value) => site.constant(element, count, value as f32),
    }
}

/// Every buffer, filled, and the arguments that name them.
fn allocate(site: &Site, spec: &Spec, seed: u64) -> Result<(Buffers, Arguments)> {
    let (mut buffers, mut arguments) = (Vec::new(), Arguments::new());
    for argument in &spec.arguments {
        arguments = match argument {
            KernelArgument::Buffer { name, element: of, shape, fill, .. } => {
                let of = element(of)?;
                let sizes: Vec<usize> = shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
                let count = work::elements(&sizes)?;
                let buffer = filled(site, of, count, *fill, seed, name)?;
                let arguments = arguments.buffer(&buffer);
                buffers.push((name.clone(), of, buffer));
                arguments
            }
            KernelArgument::Value { element, value } => match element.as_str() {
                "i32" | "u32" => arguments.u32(value.bits() as u32),
                "i64" | "u64" => arguments.u64(value.bits()),
                "f32" => arguments.f32(value.real() as f32),
                _ => arguments.f64(value.real()),
            },
        };
    }
    Ok((buffers, arguments))
}

impl User {
    /// Fills every buffer anew.
    fn refill(&self, site: &Site, stream: &Stream) -> Result<()> {
        for (name, element, buffer) in &self.buffers {
            let fill = self.spec.arguments.iter().find_map(|argument| match argument {
                KernelArgument::Buffer { name: other, fill, .. } if other == name => Some(*fill),
                _ => None,
            });
            let count = buffer.bytes() / element.bytes();
            let fresh = filled(site, *element, count, fill.unwrap_or(KernelFill::Normal), self.seed, name)?;
            buffer.copy_from(&fresh, stream)?;
            stream.synchronize()?;
        }
        Ok(())
    }

    fn outputs(&self) -> Vec<&str> {
        let named = self.spec.arguments.iter().filter_map(|argument| match argument {
            KernelArgument::Buffer { name, output: true, .. } => Some(name.as_str()),
            _ => None,
        });
        named.collect()
    }

    fn buffer(&self, name: &str) -> Result<&(String, Element, Buffer)> {
        self.buffers
            .iter()
            .find(|(other, ..)| other == name)
            .ok_or_else(|| CudaError::Parameter(format!("no argument is a buffer `{name}`")))
    }

    fn tolerance(&self, element: Element) -> f64 {
        self.spec.tolerance.unwrap_or_else(|| element.tolerance())
    }

    /// Sizes of a buffer as rows of the last dimension.
    fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        let shape = self.spec.arguments.iter().find_map(|argument| match argument {
            KernelArgument::Buffer { name: other, shape, .. } if other == name => Some(shape),
            _ => None,
        });
        let shape = shape.ok_or_else(|| CudaError::Parameter(format!("no argument is a buffer `{name}`")))?;
        let cols = shape.last().copied().unwrap_or(1) as usize;
        Ok([shape.iter().product::<u64>() as usize / cols, cols])
    }

    /// Outputs of the reference kernel, launched on inputs of its own.
    fn against_kernel(&self, site: &Site, stream: &Stream, reference: &Loaded) -> Result<Vec<Check>> {
        let (buffers, arguments) = allocate(site, &self.spec, self.seed)?;
        reference.kernel.launch(&reference.geometry, &arguments, stream)?;
        stream.synchronize()?;
        let outputs = self.outputs();
        let mut checks = Vec::new();
        for (name, element, want) in buffers.iter().filter(|(name, ..)| outputs.contains(&name.as_str())) {
            let (_, _, got) = self.buffer(name)?;
            let places = work::picks(self.seed, name, COMPARED, want.bytes() / element.bytes());
            let error = work::error(&site.gather(got, *element, &places)?, &site.gather(want, *element, &places)?);
            checks.push(Check::new(name, "the reference kernel", error, self.tolerance(*element)));
        }
        Ok(checks)
    }

    /// The output against an operator's plain loops, on some rows. Inputs are read from fresh buffers: the kernel may have
    /// written over its own.
    fn against_operator(&self, site: &Site, operator: &str, inputs: &[String], output: &str) -> Result<Vec<Check>> {
        let (fresh, _) = allocate(site, &self.spec, self.seed)?;
        let input = |place: usize| -> Result<&(String, Element, Buffer)> {
            let name = &inputs[place];
            fresh
                .iter()
                .find(|(other, ..)| other == name)
                .ok_or_else(|| CudaError::Parameter(format!("no argument is a buffer `{name}`")))
        };
        let (_, element, got) = self.buffer(output)?;
        let [rows, cols] = self.matrix(output)?;
        let (mut compared, mut want) = (Vec::new(), Vec::new());
        let row_of = |(_, element, buffer): &(String, Element, Buffer), row: u64| {
            site.range(buffer, *element, row * cols as u64, cols as u64)
        };
        for row in work::picks(self.seed, "rows", ROWS, rows) {
            compared.extend(site.range(got, *element, row * cols as u64, cols as u64)?);
            let vector = |place: usize| row_of(input(place)?, 0);
            want.extend(match operator {
                "softmax" => plain::softmax(&row_of(input(0)?, row)?),
                "layernorm" => plain::layernorm(&row_of(input(0)?, row)?, &vector(1)?, &vector(2)?),
                "rmsnorm" => plain::rmsnorm(&row_of(input(0)?, row)?, &vector(1)?),
                "copy" => row_of(input(0)?, row)?,
                "gemm" => {
                    let (a, b) = (input(0)?, input(1)?);
                    let [_, depth] = self.matrix(&a.0)?;
                    let columns: Vec<u64> = (0..cols as u64).collect();
                    site.dot_products(
                        (&a.2, a.1, [depth, 1]),
                        (&b.2, b.1, [1, cols]),
                        (&vec![row; cols], &columns),
                        depth,
                    )?
                }
                other => return work::refuse(format!("no reference operator `{other}`")),
            });
        }
        let error = work::error(&compared, &want);
        Ok(vec![Check::new(output, &format!("{operator} in f64"), error, self.tolerance(*element))])
    }
}

impl Work for User {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.loaded.kernel.launch(&self.loaded.geometry, &self.arguments, stream)
    }

    fn counts(&self) -> WorkCounts {
        WorkCounts { flops: self.spec.flops, bytes: self.spec.bytes, items: None }
    }

    fn arithmetic(&self) -> Option<Arithmetic> {
        Some(match self.spec.arithmetic? {
            KernelArithmetic::Fp32 => Arithmetic::Fp32,
            KernelArithmetic::Tf32 => Arithmetic::Tf32,
            KernelArithmetic::Half => Arithmetic::Half,
            KernelArithmetic::Fp8 => Arithmetic::Fp8,
            KernelArithmetic::Int8 => Arithmetic::Int8,
        })
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        self.refill(site, stream)?;
        once(stream, |stream| self.enqueue(stream))?;
        match (&self.reference, &self.spec.reference) {
            (Some(reference), _) => self.against_kernel(site, stream, reference),
            (None, Some(KernelReference::Operator { name, inputs, output })) => {
                self.against_operator(site, name, inputs, output)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let Loaded { kernel, geometry, compile_s, .. } = &self.loaded;
        work::footprint(kernel, geometry, *compile_s).unwrap_or_default()
    }

    fn facts(&self) -> BTreeMap<String, Json> {
        let geometry = &self.loaded.geometry;
        [
            ("grid", json!(geometry.grid)),
            ("block", json!(geometry.block)),
            ("compiler_log", json!(self.loaded.log)),
            ("checked", json!(self.spec.reference.is_some())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
