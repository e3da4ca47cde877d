//! D = op(A) op(B) through cuBLASLt, in every precision that it knows.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::backend::WorkCounts;
use crate::backend::nvidia::blas::{Blas, Choice, Epilogue, Operands, Product, Shape};
use crate::backend::nvidia::cuda::{Buffer, CudaError, Result, Stream};
use crate::backend::nvidia::work::{self, Arithmetic, Element, Site, Work};
use crate::domain::{Check, Workload};
use crate::hardware::cuda::Library;

/// Rows and columns of D that are compared.
const COMPARED: usize = 32;

/// How far TF32 results may be: ten bits of mantissa, inputs rounded once.
const TF32_TOLERANCE: f64 = 4e-3;
/// How far products of FP8 with fewer bits in their sums may be (about 14: measured on Hopper by others).
const FAST_TOLERANCE: f64 = 5e-2;

#[derive(Debug)]
struct Gemm {
    shape: Shape,
    a: Buffer,
    b: Buffer,
    d: Buffer,
    bias: Option<Buffer>,
    product: Product,
    precision: String,
    layout: String,
    want: Reference,
}

/// What the compared elements should be, from inputs that never change.
#[derive(Debug)]
struct Reference {
    places: Vec<u64>,
    values: Vec<f64>,
}

/// The unit that multiplies in a precision; none for those without tensor cores.
pub fn unit(precision: &str) -> Option<Arithmetic> {
    Some(match precision {
        "f32" => Arithmetic::Fp32,
        "tf32" => Arithmetic::Tf32,
        "bf16" | "f16" => Arithmetic::Half,
        "fp8-e4m3" | "fp8-e5m2" => Arithmetic::Fp8,
        "int8" => Arithmetic::Int8,
        _ => return None,
    })
}

/// Types of A, B and D. FP8 products come out as bf16, as PyTorch's do; E5M2 is what gradients have, which meet weights in E4M3.
fn elements(precision: &str) -> Result<[Element; 3]> {
    let element = Element::of(precision)
        .ok_or_else(|| CudaError::Parameter(format!("no matrix product in precision `{precision}`")))?;
    Ok(match element {
        Element::E4m3 => [element, element, Element::Bf16],
        Element::E5m2 => [element, Element::E4m3, Element::Bf16],
        Element::Int8 => [element, element, Element::Int32],
        element => [element; 3],
    })
}

/// Makes `gemm`.
pub fn make(site: &Site, workload: &Workload, seed: u64) -> Result<Box<dyn Work>> {
    let size = |name: &str| workload.size(name).map_err(CudaError::Parameter);
    let text = |name: &str| workload.text(name).map_err(CudaError::Parameter);
    let precision = text("precision")?;
    let elements = elements(precision)?;
    let one_byte = elements[0].bytes() == 1;
    let layout = match text("layout")? {
        "auto" if one_byte => "nt",
        "auto" => "nn",
        other if one_byte && other != "nt" => {
            return work::refuse(format!("{precision} products need layout = \"nt\" (or \"auto\"), not \"{other}\""));
        }
        other => other,
    };
    let epilogue = text("epilogue")?;
    let epilogue =
        Epilogue::named(epilogue).ok_or_else(|| CudaError::Parameter(format!("no epilogue is named `{epilogue}`")))?;
    let shape = Shape {
        m: size("m")?,
        n: size("n")?,
        k: size("k")?,
        batch: size("batch")?,
        elements,
        transposed: [layout.starts_with('t'), layout.ends_with('t')],
        tf32: precision == "tf32",
        fast: text("accumulation")? == "fast",
        epilogue,
        alpha: 1.0,
        beta: 0.0,
    };
    let choice = if text("algorithm")? == "exhaustive" { Choice::Exhaustive } else { Choice::Heuristic };
    let gemm = Gemm::new(site, shape, choice, seed, precision, layout)?;
    Ok(Box::new(gemm))
}

impl Gemm {
    fn new(site: &Site, shape: Shape, choice: Choice, seed: u64, precision: &str, layout: &str) -> Result<Self> {
        let Shape { m, n, k, batch, .. } = shape;
        let [of_a, of_b, of_d] =
            [[m, k], [k, n], [m, n]].map(|[rows, columns]| work::elements(&[batch, rows, columns]));
        let (of_a, of_b, of_d) = (of_a?, of_b?, of_d?);
        let blas = Blas::open(&site.device)?;
        let a = site.normal(shape.elements[0], of_a, seed, "a")?;
        let b = site.normal(shape.elements[1], of_b, seed, "b")?;
        let d = site.room(shape.elements[2], of_d)?;
        let bias = match shape.epilogue {
            Epilogue::None => None,
            _ => Some(site.normal(shape.elements[2], n, seed, "bias")?),
        };
        let operands = Operands { a: a.address(), b: b.address(), d: d.address() };
        let address = bias.as_ref().map(Buffer::address);
        let product = Product::new(&blas, &shape, address, choice, &operands, &site.stream)?;
        let want = reference(site, &shape, [&a, &b], bias.as_ref(), seed)?;
        let (precision, layout) = (precision.to_owned(), layout.to_owned());
        Ok(Self { shape, a, b, d, bias, product, precision, layout, want })
    }

    fn operands(&self) -> Operands {
        Operands { a: self.a.address(), b: self.b.address(), d: self.d.address() }
    }
}

/// Some elements of the first product, in double precision on the device, epilogue on the host.
fn reference(site: &Site, shape: &Shape, [a, b]: [&Buffer; 2], bias: Option<&Buffer>, seed: u64) -> Result<Reference> {
    let Shape { m, n, k, .. } = *shape;
    let rows = work::picks(seed, "rows", COMPARED, m);
    let columns = work::picks(seed, "columns", COMPARED, n);
    let pairs: Vec<(u64, u64)> =
        rows.iter().flat_map(|row| columns.iter().map(move |column| (*row, *column))).collect();
    let (all_rows, all_columns): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
    let a_steps = if shape.transposed[0] { [1, m] } else { [k, 1] };
    let b_steps = if shape.transposed[1] { [k, 1] } else { [1, n] };
    let mut values = site.dot_products(
        (a, shape.elements[0], a_steps),
        (b, shape.elements[1], b_steps),
        (&all_rows, &all_columns),
        k,
    )?;
    if let Some(bias) = bias {
        let bias = site.gather(bias, shape.elements[2], &all_columns)?;
        for (value, bias) in values.iter_mut().zip(bias) {
            *value = after(shape.epilogue, *value + bias);
        }
    }
    Ok(Reference { places: pairs.iter().map(|(row, column)| row * n as u64 + column).collect(), values })
}

/// The activation of an epilogue.
fn after(epilogue: Epilogue, x: f64) -> f64 {
    match epilogue {
        Epilogue::None | Epilogue::Bias | Epilogue::BiasGradient => x,
        Epilogue::BiasRelu => x.max(0.0),
        Epilogue::BiasGelu => gelu(x),
    }
}

/// GELU in its tanh form (Hendrycks and Gimpel 2016).
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

impl Work for Gemm {
    fn enqueue(&mut self, stream: &Stream) -> Result<()> {
        self.product.enqueue(&self.operands(), stream)
    }

    /// Split-k algorithms add a reduction.
    fn launches(&self) -> u32 {
        2
    }

    /// 2mnk operations; A, B and D moved once.
    fn counts(&self) -> WorkCounts {
        let Shape { m, n, k, batch, elements: [a, b, d], .. } = self.shape;
        let bytes = m * k * a.bytes() + k * n * b.bytes() + m * n * d.bytes();
        WorkCounts {
            flops: Some(2.0 * (batch * m) as f64 * n as f64 * k as f64),
            bytes: Some((batch * bytes) as f64),
            items: None,
        }
    }

    fn arithmetic(&self) -> Option<Arithmetic> {
        unit(&self.precision)
    }

    fn check(&mut self, site: &Site, stream: &Stream) -> Result<Vec<Check>> {
        // Nothing of an earlier iteration may pass for the result.
        self.d.fill(0xff, stream)?;
        self.enqueue(stream)?;
        stream.synchronize()?;
        let got = site.gather(&self.d, self.shape.elements[2], &self.want.places)?;
        let tolerance = match self.precision.as_str() {
            "tf32" => TF32_TOLERANCE,
            // The library's own tanh.
            "f64" if self.shape.epilogue == Epilogue::BiasGelu => Element::F32.tolerance(),
            _ if self.shape.fast => FAST_TOLERANCE,
            _ => self.shape.elements[2].tolerance(),
        };
        let error = work::error(&got, &self.want.values);
        Ok(vec![Check::new("output", "dot products in f64", error, tolerance)])
    }

    fn facts(&self) -> BTreeMap<String, Json> {
        let (tried, seconds) = self.product.tried();
        [
            ("algorithm", json!(self.product.algorithm())),
            ("algorithms_tried", json!(tried)),
            ("choosing_s", json!(seconds)),
            ("layout", json!(self.layout)),
            ("bias", json!(self.bias.is_some())),
            ("cublaslt", json!(Library::CublasLt.version())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// The rate of a large product in this unit, FLOP/s: what this very GPU reaches now. `None` where the library is absent, or there
/// is no room for it.
///
/// # Errors
/// As the device refuses.
pub fn rate(site: &Site, arithmetic: Arithmetic) -> Result<Option<f64>> {
    const SIDE: usize = 8192;
    const RUNS: usize = 8;
    let precision = match arithmetic {
        Arithmetic::Fp32 => "f32",
        Arithmetic::Tf32 => "tf32",
        Arithmetic::Half => "bf16",
        Arithmetic::Fp8 => "fp8-e4m3",
        Arithmetic::Int8 => "int8",
    };
    if crate::hardware::cuda::need(Library::CublasLt).is_err() {
        return Ok(None);
    }
    let elements = elements(precision)?;
    let shape = Shape {
        elements,
        tf32: precision == "tf32",
        ..Shape::plain(SIDE, SIDE, SIDE, elements[0], [false, elements[0].bytes() == 1])
    };
    let made = Blas::open(&site.device).and_then(|blas| {
        let a = site.normal(elements[0], SIDE * SIDE, 1, "a")?;
        let b = site.normal(elements[1], SIDE * SIDE, 1, "b")?;
        Ok((blas, a, b, site.room(elements[2], SIDE * SIDE)?))
    });
    let (blas, a, b, d) = match made {
        Err(error) if error.is_out_of_memory() => return Ok(None),
        made => made?,
    };
    let operands = Operands { a: a.address(), b: b.address(), d: d.address() };
    let product = Rc::new(Product::new(&blas, &shape, None, Choice::Heuristic, &operands, &site.stream)?);
    let seconds = super::median_time(site, RUNS, || product.enqueue(&operands, &site.stream))?;
    Ok(Some(2.0 * (SIDE as f64).powi(3) / seconds))
}
