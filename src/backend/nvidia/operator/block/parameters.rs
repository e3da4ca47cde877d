//! Sizes of a transformer block, its parameters, and where each of them lies in flat buffers.

use crate::backend::nvidia::cuda::{Buffer, Result};
use crate::backend::nvidia::work::{Element, Site};

/// Every part starts at a multiple of this many elements: 256 bytes of the smallest element there is, two bytes, which is the
/// alignment that cuBLASLt expects of its operands.
const ALIGNMENT: usize = 128;

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Sequences.
    pub batch: usize,
    /// Tokens in each.
    pub seq: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Heads of the attention, which share the width.
    pub heads: usize,
    /// Type of activations, and of the weights that products read.
    pub element: Element,
}

impl Sizes {
    /// Rows of every activation.
    pub const fn tokens(self) -> usize {
        self.batch * self.seq
    }

    /// Width of a head.
    pub const fn depth(self) -> usize {
        self.width / self.heads
    }

    /// Operations of one forward pass outside the attention: 2·T·W² for each of twelve W × W products (three for Q, K and V, one
    /// behind the attention, eight in the two layers).
    pub fn product_flops(self) -> f64 {
        24.0 * self.tokens() as f64 * (self.width as f64).powi(2)
    }

    /// Operations of the attention: 4·B·S²·W forward, of which the mask hides half.
    pub fn attention_flops(self) -> f64 {
        2.0 * self.batch as f64 * (self.seq as f64).powi(2) * self.width as f64
    }

    /// Operations of an iteration by the usual convention. Backward, each product is two, and the attention five halves of
    /// itself, because a fused one computes the scores again. Norms, activation, residuals and optimiser are not counted.
    pub fn flops(self, training: bool) -> f64 {
        let (products, attention) = if training { (3.0, 3.5) } else { (1.0, 1.0) };
        products * self.product_flops() + attention * self.attention_flops()
    }
}

/// A parameter tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Scale of the normalisation before the attention.
    Scale1,
    /// Its shift.
    Shift1,
    /// Weights of queries, keys and values, one below the other.
    Qkv,
    /// Their biases.
    QkvBias,
    /// Weights behind the attention.
    Out,
    /// Their bias.
    OutBias,
    /// Scale of the normalisation before the two layers.
    Scale2,
    /// Its shift.
    Shift2,
    /// Weights of the first layer, which widens.
    Up,
    /// Their bias.
    UpBias,
    /// Weights of the second layer, which narrows.
    Down,
    /// Their bias.
    DownBias,
}

impl Parameter {
    /// All, in the order of the flat buffers, which is that of the forward pass.
    pub const ALL: [Self; 12] = [
        Self::Scale1,
        Self::Shift1,
        Self::Qkv,
        Self::QkvBias,
        Self::Out,
        Self::OutBias,
        Self::Scale2,
        Self::Shift2,
        Self::Up,
        Self::UpBias,
        Self::Down,
        Self::DownBias,
    ];

    /// Its name: the stream that its first values are drawn from.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scale1 => "scale 1",
            Self::Shift1 => "shift 1",
            Self::Qkv => "Wqkv",
            Self::QkvBias => "bqkv",
            Self::Out => "Wo",
            Self::OutBias => "bo",
            Self::Scale2 => "scale 2",
            Self::Shift2 => "shift 2",
            Self::Up => "W1",
            Self::UpBias => "b1",
            Self::Down => "W2",
            Self::DownBias => "b2",
        }
    }

    /// Elements, in a block of this width.
    pub const fn count(self, width: usize) -> usize {
        match self {
            Self::Qkv => 3 * width * width,
            Self::Out => width * width,
            Self::Up | Self::Down => 4 * width * width,
            Self::QkvBias => 3 * width,
            Self::UpBias => 4 * width,
            Self::Scale1 | Self::Shift1 | Self::Scale2 | Self::Shift2 | Self::OutBias | Self::DownBias => width,
        }
    }

    /// Mean and deviation of its first values: products keep the size of what they multiply, and neither scales nor shifts are so
    /// small that leaving them out would not show.
    pub fn distribution(self, width: usize) -> (f32, f32) {
        match self {
            Self::Scale1 | Self::Scale2 => (1.0, 0.1),
            Self::Shift1 | Self::Shift2 | Self::QkvBias | Self::OutBias | Self::UpBias | Self::DownBias => (0.0, 0.1),
            Self::Qkv | Self::Out | Self::Up => (0.0, 1.0 / (width as f32).sqrt()),
            Self::Down => (0.0, 0.5 / (width as f32).sqrt()),
        }
    }

    /// The first of its elements in a flat buffer.
    pub fn offset(self, width: usize) -> usize {
        let before = Self::ALL.into_iter().take_while(|parameter| *parameter != self);
        before.map(|parameter| parameter.count(width).next_multiple_of(ALIGNMENT)).sum()
    }

    /// Elements of a flat buffer, those between the parts included.
    pub fn total(width: usize) -> usize {
        Self::ALL.into_iter().map(|parameter| parameter.count(width).next_multiple_of(ALIGNMENT)).sum()
    }

    /// Its part of a flat buffer.
    ///
    /// # Errors
    /// When the buffer is not one of this width.
    pub fn of(self, flat: &Buffer, element: Element, width: usize) -> Result<Buffer> {
        flat.part(self.offset(width) * element.bytes(), self.count(width) * element.bytes())
    }
}

/// All parameters, or something of their shapes, in one buffer.
#[derive(Debug)]
pub struct Flat {
    /// All of it, what lies between the parts included.
    pub whole: Buffer,
    /// The parts, in the order of [`Parameter::ALL`].
    pub parts: Vec<Buffer>,
}

impl Flat {
    /// Divides a buffer up.
    ///
    /// # Errors
    /// When it is not one of this width.
    pub fn new(whole: Buffer, element: Element, width: usize) -> Result<Self> {
        let parts =
            Parameter::ALL.iter().map(|parameter| parameter.of(&whole, element, width)).collect::<Result<_>>()?;
        Ok(Self { whole, parts })
    }

    /// First values. They are the same numbers in every element type, but for rounding.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn drawn(site: &Site, element: Element, width: usize, seed: u64) -> Result<Self> {
        let flat = Self::new(site.constant(element, Parameter::total(width), 0.0)?, element, width)?;
        for (parameter, part) in Parameter::ALL.iter().zip(&flat.parts) {
            let (mean, sigma) = parameter.distribution(width);
            let values = site.normal_of(element, parameter.count(width), seed, parameter.name(), mean, sigma)?;
            part.copy_from(&values, &site.stream)?;
            site.stream.synchronize()?;
        }
        Ok(flat)
    }

    /// One of the parts.
    pub fn of(&self, parameter: Parameter) -> &Buffer {
        &self.parts[parameter as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lie_one_behind_the_other_and_aligned() {
        for width in [8, 96, 768, 1024, 1600] {
            let mut end = 0;
            for parameter in Parameter::ALL {
                let offset = parameter.offset(width);
                assert!(offset >= end && offset - end < ALIGNMENT, "{} of {width}", parameter.name());
                assert!(offset.is_multiple_of(ALIGNMENT), "{} of {width}", parameter.name());
                end = offset + parameter.count(width);
            }
            assert!(Parameter::total(width) >= end && Parameter::total(width) - end < ALIGNMENT);
        }
        // 12·W² + 13·W, as every block of GPT-2 has.
        let count: usize = Parameter::ALL.into_iter().map(|parameter| parameter.count(768)).sum();
        assert_eq!(count, 7_087_872);
    }

    #[test]
    fn operations_are_counted_by_the_usual_convention() {
        let sizes = Sizes { batch: 8, seq: 1024, width: 1024, heads: 16, element: Element::Bf16 };
        assert_eq!((sizes.tokens(), sizes.depth()), (8192, 64));
        // Q, K and V; behind the attention; up; down; scores and sum under the mask.
        let gemm = |m: f64, n: f64, k: f64| 2.0 * m * n * k;
        let (t, w) = (8192.0, 1024.0);
        let products = gemm(t, 3.0 * w, w) + gemm(t, w, w) + gemm(t, 4.0 * w, w) + gemm(t, w, 4.0 * w);
        let attention = 0.5 * 8.0 * 16.0 * 2.0 * gemm(1024.0, 1024.0, 64.0);
        assert_eq!(sizes.flops(false), products + attention);
        assert_eq!(sizes.flops(true), 3.0 * products + 3.5 * attention);
    }
}
