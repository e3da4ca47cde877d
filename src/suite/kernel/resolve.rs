//! What becomes of a kernel's table at axis values.
//!
//! Must not know how kernels are compiled or run.

use std::ops::RangeInclusive;

use crate::domain::ParamValue;
use crate::domain::kernel::{Kernel, KernelArgument, KernelArithmetic, KernelCode, KernelFill, Number};
use crate::domain::workload::PRECISIONS;
use crate::suite::at::At;
use crate::suite::error::Problems;
use crate::suite::formula::Formula;
use crate::suite::kernel::{ArgumentTable, KernelTable};
use crate::suite::suggest;
use crate::suite::template::{self, Template};

/// Types of values.
const VALUES: &[&str] = &["i32", "u32", "i64", "u64", "f32", "f64"];

/// The whole numbers that a type of values holds; for those with a point, those that formulas may come to.
fn range_of(element: &str) -> RangeInclusive<i128> {
    match element {
        "i32" => i32::MIN.into()..=i32::MAX.into(),
        "u32" => 0..=u32::MAX.into(),
        "i64" => i64::MIN.into()..=i64::MAX.into(),
        "u64" => 0..=u64::MAX.into(),
        _ => i64::MIN.into()..=u64::MAX.into(),
    }
}

/// CUDA's limits of blocks and threads in each direction (CUDA C++ Programming Guide, technical specifications).
pub(super) const MOST_BLOCKS: [i128; 3] = [(1 << 31) - 1, 65_535, 65_535];
const MOST_THREADS: [i128; 3] = [1024, 1024, 64];
/// Threads of a block in all.
const MOST_OF_A_BLOCK: u32 = 1024;
/// Blocks of a cluster in all: 8 everywhere where there are clusters, 16 where a kernel asks and the device has room (Hopper).
const MOST_OF_A_CLUSTER: u32 = 16;
/// Largest dynamic shared memory that any device has, bytes.
const MOST_SHARED: i128 = 1 << 20;
/// No dimension of a buffer is larger.
const MOST_ELEMENTS: i128 = 1 << 40;
/// No buffer is larger, bytes: 128 TiB, as much as an address of 47 bits reaches.
const MOST_BYTES: i128 = 1 << 47;

/// Bytes of an element type.
fn bytes_of(element: &str) -> i128 {
    match element {
        "f64" => 8,
        "f32" | "int32" => 4,
        "bf16" | "f16" => 2,
        _ => 1,
    }
}

/// Works a table out at axis values; nothing where that cannot be done, which is then noted.
pub(in crate::suite) fn resolve(
    table: &KernelTable,
    axes: &[(&str, &ParamValue)],
    problems: &mut Problems,
) -> Option<Kernel> {
    let mut resolver = Resolver { axes, problems, failed: false };
    let code = resolver.code(table);
    resolver.names(table);
    let arguments: Vec<KernelArgument> = table.arguments.iter().filter_map(|one| resolver.argument(one)).collect();
    let kernel = Kernel {
        flops: table.flops.as_ref().and_then(|flops| resolver.number(flops, 0..=i128::MAX)).map(|flops| flops as f64),
        bytes: table.bytes.as_ref().and_then(|bytes| resolver.number(bytes, 0..=i128::MAX)).map(|bytes| bytes as f64),
        reference: table
            .reference
            .as_ref()
            .and_then(|reference| resolver.reference(reference, table, &code, &arguments)),
        arithmetic: resolver.arithmetic(table),
        tolerance: resolver.tolerance(table.tolerance.as_ref()),
        code,
        arguments,
    };
    (!resolver.failed).then_some(kernel)
}

/// A formula as messages have it: not at any length.
fn shown(formula: &At<Formula>) -> String {
    const MOST: usize = 60;
    let text = &formula.value.0;
    let cut = if text.chars().count() > MOST { "…" } else { "" };
    text.chars().take(MOST).chain(cut.chars()).collect()
}

/// Works one table out.
pub(super) struct Resolver<'a> {
    axes: &'a [(&'a str, &'a ParamValue)],
    problems: &'a mut Problems,
    failed: bool,
}

impl Resolver<'_> {
    pub(super) fn wrong(&mut self, span: &std::ops::Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.failed = true;
        self.problems.add(span, message.into(), help.into());
    }

    fn axis(&self, name: &str) -> Option<i64> {
        self.axes.iter().find(|(axis, _)| *axis == name).and_then(|(_, value)| match value {
            ParamValue::Int(value) => Some(*value),
            _ => None,
        })
    }

    /// At which axis values something is wrong.
    pub(super) fn place(&self) -> String {
        let at: Vec<String> = self.axes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        if at.is_empty() { String::new() } else { format!(" where {}", at.join(", ")) }
    }

    /// The value of a formula within limits.
    fn number(&mut self, formula: &At<Formula>, limits: RangeInclusive<i128>) -> Option<i128> {
        match formula.value.value(&|name| self.axis(name)) {
            Ok(value) if limits.contains(&value) => Some(value),
            Ok(value) => {
                let message = format!("`{}` is {value}{}", shown(formula), self.place());
                self.wrong(&formula.span, message, format!("from {} to {}", limits.start(), limits.end()));
                None
            }
            Err(what) => {
                let names: Vec<&str> = self.axes.iter().map(|(name, _)| *name).collect();
                let help = if names.is_empty() {
                    "the benchmark has no axes: write a number".to_owned()
                } else {
                    format!("its axes are {}", names.join(", "))
                };
                self.wrong(&formula.span, format!("`{}`: {what}", shown(formula)), help);
                None
            }
        }
    }

    pub(super) fn directions(&mut self, given: &At<Vec<At<Formula>>>, most: [i128; 3]) -> [u32; 3] {
        let mut sizes = [1; 3];
        if given.is_empty() || given.len() > 3 {
            self.wrong(&given.span, "one to three directions are possible", "as in [\"ceil(n, 256)\"] or [16, 16]");
            return sizes;
        }
        for (place, formula) in given.iter().enumerate() {
            if let Some(size) = self.number(formula, 1..=most[place]) {
                sizes[place] = size as u32;
            }
        }
        sizes
    }

    pub(super) fn threads(&mut self, given: &At<Vec<At<Formula>>>) -> [u32; 3] {
        let block = self.directions(given, MOST_THREADS);
        if block.iter().product::<u32>() > MOST_OF_A_BLOCK {
            let message = format!("a block of {} threads", block.iter().product::<u32>());
            self.wrong(&given.span, message, format!("at most {MOST_OF_A_BLOCK} in all"));
        }
        block
    }

    pub(super) fn shared(&mut self, given: Option<&At<Formula>>) -> u32 {
        given.and_then(|shared| self.number(shared, 0..=MOST_SHARED)).unwrap_or(0) as u32
    }

    /// A text with axis values in their places.
    pub(super) fn filled(&mut self, text: &At<String>) -> String {
        let template = Template::parse(text);
        let names: Vec<&str> = self.axes.iter().map(|(name, _)| *name).collect();
        for name in template.names().filter(|name| !names.contains(name)) {
            let (message, help) = template::unknown(name, &names);
            self.wrong(&text.span, message, help);
        }
        template.fill(self.axes)
    }

    /// The unit that `flops` are of.
    fn arithmetic(&mut self, table: &KernelTable) -> Option<KernelArithmetic> {
        let given = table.arithmetic.as_ref()?;
        if table.flops.is_none() {
            let help = "say `flops` too, or leave it out: it names the peak that they are held against";
            self.wrong(&given.span, "`arithmetic` without `flops`", help);
        }
        let named = KernelArithmetic::NAMED.iter().find(|(name, _)| *name == given.value);
        if named.is_none() {
            let known = KernelArithmetic::NAMED.iter().map(|(name, _)| *name);
            let help = suggest::did_you_mean(given, known, "units");
            self.wrong(&given.span, format!("unknown unit `{}`", given.value), help);
        }
        named.map(|(_, unit)| *unit)
    }

    /// The largest error that passes.
    fn tolerance(&mut self, given: Option<&At<f64>>) -> Option<f64> {
        let given = given?;
        if !given.value.is_finite() || given.value <= 0.0 {
            let help = "a finite number above 0, as in 1e-5; 1e-300 lets nothing but equal numbers pass";
            self.wrong(&given.span, format!("a tolerance of {}", given.value), help);
        }
        Some(given.value)
    }

    /// A function's name.
    pub(super) fn function(&mut self, given: &At<String>) -> String {
        let name = self.filled(given);
        if name.trim().is_empty() {
            let help = "declare it extern \"C\" __global__ and write its name, or give the mangled one";
            self.wrong(&given.span, "the function has no name", help);
        }
        name
    }

    /// Blocks of a cluster, which the grid must be made of.
    fn cluster(&mut self, given: Option<&At<Vec<At<Formula>>>>, grid: [u32; 3]) -> [u32; 3] {
        let Some(given) = given else { return [1; 3] };
        let cluster = self.directions(given, [MOST_OF_A_CLUSTER.into(); 3]);
        let blocks: u32 = cluster.iter().product();
        if blocks > MOST_OF_A_CLUSTER {
            let message = format!("a cluster of {blocks} blocks{}", self.place());
            self.wrong(&given.span, message, format!("at most {MOST_OF_A_CLUSTER} in all, and 8 on most devices"));
        }
        if !grid.iter().zip(cluster).all(|(blocks, cluster)| blocks.is_multiple_of(cluster)) {
            let message = format!("a grid of {grid:?} blocks is not made of clusters of {cluster:?}{}", self.place());
            self.wrong(&given.span, message, "each direction of the grid must be a multiple of the cluster's");
        }
        cluster
    }

    fn code(&mut self, table: &KernelTable) -> KernelCode {
        let grid = self.directions(&table.grid, MOST_BLOCKS);
        KernelCode {
            source: self.path(&table.source),
            function: self.function(&table.function),
            options: table.options.iter().map(|option| self.filled(option)).collect(),
            include: table.include.iter().map(|folder| self.filled(folder)).collect(),
            architecture: table.architecture.as_ref().map(|architecture| self.filled(architecture)),
            grid,
            block: self.threads(&table.block),
            shared: self.shared(table.shared.as_ref()),
            cluster: self.cluster(table.cluster.as_ref(), grid),
        }
    }

    pub(super) fn path(&mut self, source: &At<String>) -> String {
        let path = self.filled(source);
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        if !["cu", "ptx", "cubin", "fatbin"].contains(&extension) {
            let message = format!("`{path}` is no kernel's file");
            self.wrong(&source.span, message, "give a .cu, .ptx, .cubin or .fatbin file");
        }
        path
    }

    /// Buffers are told apart by their names.
    fn names(&mut self, table: &KernelTable) {
        let names: Vec<&At<String>> = table.arguments.iter().filter_map(|one| one.buffer.as_ref()).collect();
        for (place, name) in names.iter().enumerate() {
            if names[..place].iter().any(|other| other.value == name.value) {
                let help = "references and checks go by the name: give each buffer its own";
                self.wrong(&name.span, format!("two buffers are named `{}`", name.value), help);
            }
        }
    }

    fn argument(&mut self, table: &ArgumentTable) -> Option<KernelArgument> {
        let element = table.element.value.clone();
        match (&table.buffer, &table.value) {
            (Some(name), None) => {
                let known = PRECISIONS.iter().copied().filter(|known| *known != "tf32").chain(["int32"]);
                if !known.clone().any(|known| known == element) {
                    let help = suggest::did_you_mean(&element, known, "element types");
                    self.wrong(&table.element.span, format!("unknown element type `{element}`"), help);
                }
                if table.shape.is_empty() {
                    self.wrong(&name.span, format!("buffer `{}` has no shape", name.value), "as in shape = [\"n\"]");
                }
                let shape = table.shape.iter().map(|size| self.number(size, 1..=MOST_ELEMENTS).unwrap_or(1) as u64);
                let shape: Vec<u64> = shape.collect();
                let bytes = shape.iter().fold(bytes_of(&element), |bytes, size| bytes.saturating_mul((*size).into()));
                if bytes > MOST_BYTES {
                    let message = format!("buffer `{}` of shape {shape:?}{} is too large", name.value, self.place());
                    self.wrong(
                        &name.span,
                        message,
                        format!("at most {MOST_BYTES} bytes, and less than the device has"),
                    );
                }
                let fill = self.fill(table.fill.as_ref());
                Some(KernelArgument::Buffer { name: name.value.clone(), element, shape, fill, output: table.output })
            }
            (None, Some(value)) => {
                if !VALUES.contains(&element.as_str()) {
                    let help = suggest::did_you_mean(&element, VALUES.iter().copied(), "types of values");
                    self.wrong(&table.element.span, format!("unknown type `{element}` of a value"), help);
                }
                let value = self.value(value, &element)?;
                Some(KernelArgument::Value { element, value })
            }
            _ => {
                let help = "{ buffer = \"x\", type = \"f32\", shape = [\"n\"] } or { value = \"n\", type = \"i32\" }";
                self.wrong(&table.element.span, "an argument is either a buffer or a value", help);
                None
            }
        }
    }

    /// A value that its type holds.
    fn value(&mut self, given: &At<Formula>, element: &str) -> Option<Number> {
        let text = given.value.0.trim();
        if !element.starts_with('f') {
            return self.number(given, range_of(element)).and_then(Number::whole);
        }
        let real = match text.replace('_', "").parse::<f64>() {
            Ok(number) if self.axis(text).is_none() => number,
            _ => self.number(given, range_of(element))? as f64,
        };
        let fits = if element == "f32" { (real as f32).is_finite() } else { real.is_finite() };
        if !fits {
            self.wrong(&given.span, format!("`{text}` is no value of type {element}"), format!("a finite {element}"));
        }
        fits.then_some(Number::Real(real))
    }

    fn fill(&mut self, word: Option<&At<String>>) -> KernelFill {
        match word.map_or("normal", |word| word.as_str()) {
            "normal" => KernelFill::Normal,
            "uniform" => KernelFill::Uniform,
            "zeros" => KernelFill::Constant(0.0),
            "ones" => KernelFill::Constant(1.0),
            other => {
                if let Some(word) = word {
                    let help = suggest::did_you_mean(other, ["normal", "uniform", "zeros", "ones"], "fills");
                    self.wrong(&word.span, format!("unknown fill `{other}`"), help);
                }
                KernelFill::Normal
            }
        }
    }
}
