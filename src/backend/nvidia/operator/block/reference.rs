//! A transformer block in double precision, forward only: plain kernels that share nothing with those under test.
//!
//! Gradients are checked without a backward pass. Along any direction d the loss L = sum(dz · z) rises by <g, d> if g is its
//! gradient; how much it does rise, central differences of two forward passes say. Along g itself, whatever is wrong with its size,
//! sign or direction shows, and rounding hardly does. What is missing from g, zeros where there should be something, shows only
//! along noise, and rounding does too. Must not know how g was computed.

use crate::backend::nvidia::cuda::{Arguments, Buffer, Geometry, Result};
use crate::backend::nvidia::operator::block::parameters::{Parameter, Sizes};
use crate::backend::nvidia::work::{self, Element, Site};
use crate::backend::plain;

/// How far a tensor is moved along its gradient, as a share of its own length: the error of the difference is of the order of its
/// square, the loss in double precision good to 1e-12.
const STEP: f64 = 1e-4;
/// Operations that one check may take, by the counts of a forward pass; a few seconds where a GPU does 5 TFLOP/s of them.
const BUDGET: f64 = 2e13;
/// Elements of the scores that are in memory at one time: 1 GiB.
const SCORES: usize = 1 << 27;

const F64: usize = Element::F64.bytes();

/// A tensor whose gradient is checked.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// As the check is named.
    pub name: &'static str,
    /// What it is a part of; `None` for the input.
    parameter: Option<Parameter>,
    /// Which of how many equal parts. Gradients of values are so much larger than those of queries and keys that a check of all
    /// three together would see only them.
    part: (usize, usize),
    /// Where the forward pass has to begin again after it was moved.
    from: Stage,
}

impl Tensor {
    const fn whole(name: &'static str, parameter: Parameter, from: Stage) -> Self {
        Self { name, parameter: Some(parameter), part: (0, 1), from }
    }

    /// Those of a training step, last stage first: what a tensor's check leaves behind is behind its own stage, so that the
    /// activations before the next one's are still those of the unmoved block.
    pub const ALL: [Self; 15] = [
        Self::whole("gradient of W2", Parameter::Down, Stage::Down),
        Self::whole("gradient of b2", Parameter::DownBias, Stage::Down),
        Self::whole("gradient of W1", Parameter::Up, Stage::Up),
        Self::whole("gradient of b1", Parameter::UpBias, Stage::Up),
        Self::whole("gradient of scale 2", Parameter::Scale2, Stage::Up),
        Self::whole("gradient of shift 2", Parameter::Shift2, Stage::Up),
        Self::whole("gradient of Wo", Parameter::Out, Stage::Out),
        Self::whole("gradient of bo", Parameter::OutBias, Stage::Out),
        Self { name: "gradient of Wq", parameter: Some(Parameter::Qkv), part: (0, 3), from: Stage::Qkv },
        Self { name: "gradient of Wk", parameter: Some(Parameter::Qkv), part: (1, 3), from: Stage::Qkv },
        Self { name: "gradient of Wv", parameter: Some(Parameter::Qkv), part: (2, 3), from: Stage::Qkv },
        Self::whole("gradient of bqkv", Parameter::QkvBias, Stage::Qkv),
        Self::whole("gradient of scale 1", Parameter::Scale1, Stage::Qkv),
        Self::whole("gradient of shift 1", Parameter::Shift1, Stage::Qkv),
        Self { name: "gradient of x", parameter: None, part: (0, 1), from: Stage::Qkv },
    ];
}

/// How far a gradient is off.
#[derive(Debug, Clone, Copy)]
pub struct Off {
    /// As the check of the gradient is named.
    pub name: &'static str,
    /// The difference of the loss's rise along it from its square, over that: about the square of its relative error, unless that
    /// has a part along the gradient.
    pub along_itself: f64,
    /// The difference of the loss's rise along noise from what it should be, over what is typical: about its relative error.
    pub along_noise: f64,
}

/// Parts of the forward pass, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Normalisation, queries, keys and values, attention.
    Qkv,
    /// The product behind the attention, and the residual.
    Out,
    /// Normalisation, the layer that widens, and the activation.
    Up,
    /// The layer that narrows, and the residual.
    Down,
}

/// A block that computes in double precision, on all or some of the sequences.
#[derive(Debug)]
pub struct Reference<'a> {
    site: &'a Site,
    sizes: Sizes,
    seed: u64,
    /// Which sequences of the batch it has.
    pub sequences: Vec<u64>,
    weights: Buffer,
    x: Buffer,
    hidden: Buffer,
    qkv: Buffer,
    scores: Buffer,
    o: Buffer,
    y: Buffer,
    f: Buffer,
    /// Its output, `[tokens, width]`, sequences in their order.
    pub z: Buffer,
}

/// A matrix as stored: elements before it, and from row to row, column to column, and matrix to matrix of a batch.
#[derive(Debug, Clone, Copy)]
struct Matrix<'a> {
    buffer: &'a Buffer,
    from: usize,
    steps: [usize; 3],
}

impl<'a> Matrix<'a> {
    const fn rows(buffer: &'a Buffer, width: usize) -> Self {
        Self { buffer, from: 0, steps: [width, 1, 0] }
    }

    const fn turned(self) -> Self {
        let [row, column, batch] = self.steps;
        Self { steps: [column, row, batch], ..self }
    }

    const fn address(self) -> u64 {
        self.buffer.address() + (self.from * F64) as u64
    }
}

/// Which sequences a check takes on, so that it stays within its budget: they do not depend on each other, and where the
/// gradient of an output is zero it adds nothing to any parameter's.
fn sequences(sizes: Sizes, training: bool, seed: u64) -> Vec<u64> {
    let passes = if training { 1.0 + 4.0 * Tensor::ALL.len() as f64 } else { 1.0 };
    let each = sizes.flops(false) / sizes.batch as f64 * passes;
    let mut picked = work::picks(seed, "sequences", ((BUDGET / each) as usize).clamp(1, sizes.batch), sizes.batch);
    picked.sort_unstable();
    picked.dedup();
    picked
}

impl<'a> Reference<'a> {
    /// Takes over an input `[batch * seq, width]` and flat weights, and computes what comes out.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn new(
        site: &'a Site,
        sizes: Sizes,
        x: &Buffer,
        weights: &Buffer,
        training: bool,
        seed: u64,
    ) -> Result<Reference<'a>> {
        let sequences = sequences(sizes, training, seed);
        let narrow = sequences.len() * sizes.seq * sizes.width;
        let room = |count: usize| site.room(Element::F64, count);
        let square = sizes.seq * sizes.seq;
        let reference = Self {
            site,
            sizes,
            seed,
            weights: widened(site, weights, sizes.element, 0, Parameter::total(sizes.width))?,
            x: chosen(site, sizes, &sequences, x)?,
            hidden: room(narrow)?,
            qkv: room(3 * narrow)?,
            scores: room((SCORES / square).clamp(1, sizes.heads) * square)?,
            o: room(narrow)?,
            y: room(narrow)?,
            f: room(4 * narrow)?,
            z: room(narrow)?,
            sequences,
        };
        reference.forward(Stage::Qkv)?;
        Ok(reference)
    }

    /// How far gradients are off, in the order of [`Tensor::ALL`]: of all parameters, flat, and of the input. `dz` is the gradient
    /// of the output, zero in sequences that the reference does not have.
    ///
    /// # Errors
    /// As the device refuses.
    pub fn gradients(&self, dz: &Buffer, parameters: &Buffer, dx: &Buffer) -> Result<Vec<Off>> {
        let Sizes { width, element, .. } = self.sizes;
        let dz = chosen(self.site, self.sizes, &self.sequences, dz)?;
        let dx = chosen(self.site, self.sizes, &self.sequences, dx)?;
        let parameters = widened(self.site, parameters, element, 0, Parameter::total(width))?;
        let mut all = Vec::new();
        for tensor in Tensor::ALL {
            let ((value, along), (index, parts)) = match tensor.parameter {
                Some(parameter) => {
                    let of = |flat| parameter.of(flat, Element::F64, width);
                    ((of(&self.weights)?, of(&parameters)?), tensor.part)
                }
                None => ((self.x.part(0, self.x.bytes())?, dx.part(0, dx.bytes())?), tensor.part),
            };
            let bytes = value.bytes() / parts;
            let (value, along) = (value.part(index * bytes, bytes)?, along.part(index * bytes, bytes)?);
            all.push(self.off(tensor, &value, &along, &dz)?);
        }
        Ok(all)
    }

    fn off(&self, tensor: Tensor, value: &Buffer, gradient: &Buffer, dz: &Buffer) -> Result<Off> {
        let count = value.bytes() / F64;
        let square = self.inner(gradient, gradient)?;
        let along_itself = (self.rise(tensor, value, gradient, dz)? - square).abs() / square;
        let noise = self.site.normal(Element::F64, count, self.seed, tensor.name)?;
        let difference = self.rise(tensor, value, &noise, dz)? - self.inner(gradient, &noise)?;
        // The part of a vector along noise is its length over the root of its elements, on average.
        let typical = (square * self.inner(&noise, &noise)? / count as f64).sqrt();
        Ok(Off { name: tensor.name, along_itself, along_noise: difference.abs() / typical })
    }

    /// How much the loss rises along a direction, by central difference.
    fn rise(&self, tensor: Tensor, value: &Buffer, along: &Buffer, dz: &Buffer) -> Result<f64> {
        let count = value.bytes() / F64;
        let step = STEP * (self.inner(value, value)? / self.inner(along, along)?).sqrt();
        if !step.is_finite() {
            return Ok(f64::NAN);
        }
        let unmoved = self.site.room(Element::F64, count)?;
        unmoved.copy_from(value, &self.site.stream)?;
        let mut losses = [0.0; 2];
        for (loss, step) in losses.iter_mut().zip([step, -step]) {
            let arguments = Arguments::new().buffer(&unmoved).buffer(along).f64(step).size(count).buffer(value);
            self.site.tool("moved", count as u64, &arguments)?;
            self.forward(tensor.from)?;
            *loss = self.inner(dz, &self.z)?;
        }
        value.copy_from(&unmoved, &self.site.stream)?;
        self.site.stream.synchronize()?;
        Ok((losses[0] - losses[1]) / (2.0 * step))
    }

    fn inner(&self, a: &Buffer, b: &Buffer) -> Result<f64> {
        let out = self.site.device.upload(&[0.0_f64])?;
        let count = a.bytes() / F64;
        let arguments = Arguments::new().buffer(a).buffer(b).size(count).buffer(&out);
        self.site.tool("inner", count as u64, &arguments)?;
        Ok(out.read::<f64>()?.first().copied().unwrap_or(f64::NAN))
    }

    /// Computes from a stage on, with what the stages before have left.
    fn forward(&self, from: Stage) -> Result<()> {
        let width = self.sizes.width;
        let tokens = self.sequences.len() * self.sizes.seq;
        if from <= Stage::Qkv {
            self.normalise(&self.x, [Parameter::Scale1, Parameter::Shift1])?;
            self.layer(
                &self.hidden,
                [Parameter::Qkv, Parameter::QkvBias],
                [tokens, 3 * width, width],
                None,
                &self.qkv,
            )?;
            self.attention()?;
        }
        if from <= Stage::Out {
            let parameters = [Parameter::Out, Parameter::OutBias];
            self.layer(&self.o, parameters, [tokens, width, width], Some(&self.x), &self.y)?;
        }
        if from <= Stage::Up {
            self.normalise(&self.y, [Parameter::Scale2, Parameter::Shift2])?;
            self.layer(&self.hidden, [Parameter::Up, Parameter::UpBias], [tokens, 4 * width, width], None, &self.f)?;
            let count = 4 * tokens * width;
            self.site.tool("activated", count as u64, &Arguments::new().buffer(&self.f).size(count))?;
        }
        let parameters = [Parameter::Down, Parameter::DownBias];
        self.layer(&self.f, parameters, [tokens, width, 4 * width], Some(&self.y), &self.z)
    }

    fn weight(&self, parameter: Parameter) -> Result<Buffer> {
        parameter.of(&self.weights, Element::F64, self.sizes.width)
    }

    fn normalise(&self, x: &Buffer, [scale, shift]: [Parameter; 2]) -> Result<()> {
        let width = self.sizes.width;
        let arguments = Arguments::new()
            .buffer(x)
            .buffer(&self.weight(scale)?)
            .buffer(&self.weight(shift)?)
            .buffer(&self.hidden)
            .size(width)
            .f64(f64::from(plain::EPSILON));
        self.site.tool_on("normalised", &Geometry::linear((x.bytes() / F64 / width) as u32, 128), &arguments)
    }

    /// out = x Wᵀ + b, and what is added to it.
    fn layer(
        &self,
        x: &Buffer,
        [weights, bias]: [Parameter; 2],
        [m, n, k]: [usize; 3],
        addend: Option<&Buffer>,
        out: &Buffer,
    ) -> Result<()> {
        let (weights, bias) = (self.weight(weights)?, self.weight(bias)?);
        let operands = [Matrix::rows(x, k), Matrix::rows(&weights, k).turned(), Matrix::rows(out, n)];
        self.product(operands, [m, n, k], 1, 1.0, [Some(&bias), addend])
    }

    /// Of all heads of a sequence together, if their scores are not too many.
    fn attention(&self) -> Result<()> {
        let Sizes { seq, width, heads, .. } = self.sizes;
        let depth = self.sizes.depth();
        let together = self.scores.bytes() / F64 / (seq * seq);
        for sequence in 0..self.sequences.len() {
            for head in (0..heads).step_by(together) {
                let count = together.min(heads - head);
                let of_qkv = |which: usize| Matrix {
                    buffer: &self.qkv,
                    from: sequence * seq * 3 * width + which * width + head * depth,
                    steps: [3 * width, 1, depth],
                };
                let [q, k, v] = [0, 1, 2].map(of_qkv);
                let scores = Matrix { buffer: &self.scores, from: 0, steps: [seq, 1, seq * seq] };
                let from = sequence * seq * width + head * depth;
                let o = Matrix { buffer: &self.o, from, steps: [width, 1, depth] };
                let scale = 1.0 / (depth as f64).sqrt();
                self.product([q, k.turned(), scores], [seq, seq, depth], count, scale, [None; 2])?;
                let rows = Geometry::linear((count * seq) as u32, 128);
                let arguments = Arguments::new().buffer(&self.scores).size(seq);
                self.site.tool_on("masked_softmax", &rows, &arguments)?;
                self.product([scores, v, o], [seq, depth, seq], count, 1.0, [None; 2])?;
            }
        }
        Ok(())
    }

    fn product(
        &self,
        [left, right, out]: [Matrix<'_>; 3],
        [rows, columns, depth]: [usize; 3],
        batch: usize,
        scale: f64,
        [bias, addend]: [Option<&Buffer>; 2],
    ) -> Result<()> {
        const TILE: usize = 64;
        let stored = |arguments: Arguments, matrix: Matrix<'_>| {
            matrix.steps.into_iter().fold(arguments.u64(matrix.address()), Arguments::size)
        };
        let operands = [left, right].into_iter().fold(Arguments::new(), stored);
        let [row, _, matrix] = out.steps;
        let sizes = [row, matrix, rows, columns, depth].into_iter();
        let arguments = sizes.fold(operands.u64(out.address()), Arguments::size);
        let address = |buffer: Option<&Buffer>| buffer.map_or(0, Buffer::address);
        let arguments = arguments.f64(scale).u64(address(bias)).u64(address(addend));
        let grid = [columns.div_ceil(TILE) as u32, rows.div_ceil(TILE) as u32, batch as u32];
        self.site.tool_on("product", &Geometry { grid, ..Geometry::linear(1, 256) }, &arguments)
    }
}

/// Elements of a buffer in double precision.
fn widened(site: &Site, buffer: &Buffer, element: Element, from: usize, count: usize) -> Result<Buffer> {
    let out = site.room(Element::F64, count)?;
    widen(site, buffer, element, from, &out)?;
    Ok(out)
}

fn widen(site: &Site, buffer: &Buffer, element: Element, from: usize, out: &Buffer) -> Result<()> {
    let count = out.bytes() / F64;
    let arguments = Arguments::new().buffer(buffer).u32(element as u32).size(from).size(count).buffer(out);
    site.tool("widened", count as u64, &arguments)
}

/// These sequences of an activation `[batch * seq, width]`, in double precision.
fn chosen(site: &Site, sizes: Sizes, sequences: &[u64], buffer: &Buffer) -> Result<Buffer> {
    let each = sizes.seq * sizes.width;
    let all = site.room(Element::F64, sequences.len() * each)?;
    for (place, sequence) in sequences.iter().enumerate() {
        let out = all.part(place * each * F64, each * F64)?;
        widen(site, buffer, sizes.element, *sequence as usize * each, &out)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_takes_on_as_many_sequences_as_it_can_afford() {
        let sizes = Sizes { batch: 8, seq: 1024, width: 1024, heads: 16, element: Element::Bf16 };
        assert_eq!(sequences(sizes, true, 1), [0, 1, 2, 3, 4, 5, 6, 7]);
        let large = Sizes { batch: 64, seq: 2048, width: 4096, heads: 32, ..sizes };
        assert_eq!(sequences(large, true, 1).len(), 1);
        let forward = sequences(large, false, 1);
        assert!(forward.len() > 3 && forward.contains(&0) && forward.contains(&63), "{forward:?}");
    }

    #[test]
    fn no_check_disturbs_what_the_next_one_starts_from() {
        assert!(Tensor::ALL.windows(2).all(|pair| pair[0].from >= pair[1].from));
        for parameter in Parameter::ALL {
            let parts = Tensor::ALL.iter().filter(|tensor| tensor.parameter == Some(parameter));
            let shares: f64 = parts.map(|tensor| 1.0 / tensor.part.1 as f64).sum();
            assert_eq!(shares, 1.0, "{}", parameter.name());
        }
    }
}
