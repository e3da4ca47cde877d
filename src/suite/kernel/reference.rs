//! What a kernel's outputs are compared with, and whether that can be computed from its buffers.
//!
//! Must not know how references are run.

use crate::domain::kernel::{KernelArgument, KernelCode, KernelReference};
use crate::suite::at::At;
use crate::suite::kernel::resolve::{MOST_BLOCKS, Resolver};
use crate::suite::kernel::{KernelTable, ReferenceTable};
use crate::suite::suggest;

/// Operators that serve as references, and how many inputs each has.
const OPERATORS: &[(&str, usize)] = &[("softmax", 1), ("layernorm", 3), ("rmsnorm", 2), ("gemm", 2), ("copy", 1)];

/// What an operator wants of its buffers.
fn needs(operator: &str) -> &'static str {
    match operator {
        "softmax" => "x and the output have the same rows and columns",
        "layernorm" => {
            "x and the output have the same rows and columns; gamma and beta have one element for each column"
        }
        "rmsnorm" => "x and the output have the same rows and columns; gamma has one element for each column",
        "gemm" => "the output is [m, n], a is [m, k], b is [k, n]",
        _ => "x and the output have equally many elements",
    }
}

fn shape_of<'a>(arguments: &'a [KernelArgument], wanted: &str) -> Option<&'a [u64]> {
    arguments.iter().find_map(|argument| match argument {
        KernelArgument::Buffer { name, shape, .. } if name == wanted => Some(shape.as_slice()),
        _ => None,
    })
}

/// Rows and columns: a row is the last dimension.
fn matrix(shape: &[u64]) -> [u128; 2] {
    let [rows, columns] = shape.split_last().map_or([&[][..], &[]], |(last, rest)| [rest, std::slice::from_ref(last)]);
    [rows, columns].map(|sizes| sizes.iter().map(|size| u128::from(*size)).product())
}

/// What of these shapes, the inputs' and then the output's, an operator cannot work with.
fn unfit(operator: &str, names: &[At<String>], shapes: &[&[u64]]) -> Option<String> {
    let (output, inputs) = shapes.split_last()?;
    let [rows, columns] = matrix(output);
    let differs = |place: usize, wanted: [u128; 2]| {
        let [r, c] = matrix(inputs[place]);
        let [wanted_r, wanted_c] = wanted;
        (wanted != [r, c]).then(|| format!("`{}` is {r} x {c} instead of {wanted_r} x {wanted_c}", names[place].value))
    };
    let holds = |place: usize, wanted: u128| {
        let count: u128 = inputs[place].iter().map(|size| u128::from(*size)).product();
        (wanted != count).then(|| format!("`{}` has {count} elements instead of {wanted}", names[place].value))
    };
    match operator {
        "copy" => holds(0, rows * columns),
        "gemm" => {
            let [_, depth] = matrix(inputs[0]);
            differs(0, [rows, depth]).or_else(|| differs(1, [depth, columns]))
        }
        _ => differs(0, [rows, columns]).or_else(|| (1..inputs.len()).find_map(|vector| holds(vector, columns))),
    }
}

impl Resolver<'_> {
    /// What the outputs are compared with; nothing where that cannot be told, which is then noted.
    pub(super) fn reference(
        &mut self,
        reference: &ReferenceTable,
        table: &KernelTable,
        code: &KernelCode,
        arguments: &[KernelArgument],
    ) -> Option<KernelReference> {
        let outputs: Vec<&At<String>> =
            table.arguments.iter().filter(|one| one.output).filter_map(|one| one.buffer.as_ref()).collect();
        if outputs.is_empty() {
            let help = "write `output = true` at the buffer that the kernel writes";
            self.wrong(&table.function.span, "nothing can be compared: no buffer is an output", help);
            return None;
        }
        let buffers: Vec<&str> =
            table.arguments.iter().filter_map(|one| one.buffer.as_ref()).map(|name| name.value.as_str()).collect();
        match (&reference.operator, &reference.function) {
            (Some(operator), None) => {
                let Some((_, count)) = OPERATORS.iter().find(|(name, _)| *name == operator.value) else {
                    let known = OPERATORS.iter().map(|(name, _)| *name);
                    let help = suggest::did_you_mean(operator, known, "reference operators");
                    self.wrong(&operator.span, format!("`{}` is no reference operator", operator.value), help);
                    return None;
                };
                if reference.inputs.len() != *count || outputs.len() != 1 {
                    let message = format!("`{}` reads {count} buffers and writes one", operator.value);
                    let help = "name them in the operator's order: inputs = [\"x\", …], and mark one output";
                    self.wrong(&operator.span, message, help);
                    return None;
                }
                for input in &reference.inputs {
                    if !buffers.contains(&input.as_str()) {
                        let help = suggest::did_you_mean(input, buffers.iter().copied(), "buffers");
                        self.wrong(&input.span, format!("no argument is a buffer `{}`", input.value), help);
                    }
                }
                let shapes: Option<Vec<&[u64]>> =
                    reference.inputs.iter().chain([outputs[0]]).map(|name| shape_of(arguments, name)).collect();
                // A buffer without a shape was noted before.
                if let Some(why) = shapes.and_then(|shapes| unfit(operator, &reference.inputs, &shapes)) {
                    let place = self.place();
                    self.wrong(
                        &operator.span,
                        format!("`{}` cannot compute this: {why}{place}", operator.value),
                        needs(operator),
                    );
                }
                Some(KernelReference::Operator {
                    name: operator.value.clone(),
                    inputs: reference.inputs.iter().map(|input| input.value.clone()).collect(),
                    output: outputs[0].value.clone(),
                })
            }
            (None, Some(function)) => {
                let grid = reference.grid.as_ref().map(|grid| self.directions(grid, MOST_BLOCKS));
                let block = reference.block.as_ref().map(|block| self.threads(block));
                Some(KernelReference::Kernel(Box::new(KernelCode {
                    source: reference.source.as_ref().map_or_else(|| code.source.clone(), |source| self.path(source)),
                    function: self.function(function),
                    grid: grid.unwrap_or(code.grid),
                    block: block.unwrap_or(code.block),
                    shared: self.shared(reference.shared.as_ref()),
                    cluster: [1; 3],
                    ..code.clone()
                })))
            }
            _ => {
                let help = "reference = { function = \"plain\" } or { operator = \"softmax\", inputs = [\"x\"] }";
                self.wrong(&table.function.span, "a reference is either a kernel or an operator", help);
                None
            }
        }
    }
}
