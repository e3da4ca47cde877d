//! Operators of the catalogue as programs, written out in StableHLO when they are asked for, so that one case runs on every backend. Some
//! rows of each result are known from plain loops over the same inputs.
//!
//! Must not know plugins.

use crate::backend::plain;
use crate::backend::program::{Element, Made, Program};
use crate::domain::{Skip, Workload};

/// Rows of a result that are compared.
const COMPARED: usize = 32;
/// Columns of each of those rows.
const WIDE: usize = 256;

/// What can be written out.
const OPERATORS: &[(&str, Write)] =
    &[("gemm", gemm), ("attention", attention), ("layernorm", layernorm), ("rmsnorm", rmsnorm), ("softmax", softmax)];

type Write = fn(&Asked<'_>) -> Result<Program, String>;

/// An operator with the element type of its arrays.
struct Asked<'w> {
    workload: &'w Workload,
    element: Element,
    seed: u64,
}

/// Whether there is a program for an operator.
///
/// # Errors
/// What cannot be written out, and what can.
pub fn supports(workload: &Workload) -> Result<(), Skip> {
    if !OPERATORS.iter().any(|(name, _)| *name == workload.name) {
        let names: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
        return Err(Skip {
            reason: format!("operator `{}` is not there as a program of XLA", workload.name),
            remedy: format!("use one of {}, or write a `program`", names.join(", ")),
        });
    }
    element(workload).map_err(|reason| Skip { reason, remedy: "use one of f32, bf16, f16, f64".to_owned() })?;
    match workload.text("implementation") {
        Ok(other) if other != "naive" => Err(Skip {
            reason: format!("`{}` with implementation = {other} is not there as a program of XLA", workload.name),
            remedy: "use implementation = \"naive\", and let the compiler fuse it; or write a `program`".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The program of an operator.
///
/// # Errors
/// When a parameter is missing or sizes are too large.
pub fn program(workload: &Workload, seed: u64) -> Result<Program, String> {
    let (_, write) = OPERATORS
        .iter()
        .find(|(name, _)| *name == workload.name)
        .ok_or_else(|| format!("operator `{}` is not there as a program of XLA", workload.name))?;
    write(&Asked { workload, element: element(workload)?, seed })
}

fn element(workload: &Workload) -> Result<Element, String> {
    match workload.text("precision")? {
        name @ ("f32" | "bf16" | "f16" | "f64") => Ok(Element::named(name).unwrap_or(Element::F32)),
        other => Err(format!("`{}` in {other} is not there as a program of XLA", workload.name)),
    }
}

impl Asked<'_> {
    fn size(&self, name: &str) -> Result<usize, String> {
        self.workload.size(name)
    }

    /// Type of an array in the program's text: `tensor<2x3xf32>`.
    fn array(&self, shape: &[usize]) -> String {
        array(shape, self.element)
    }

    /// Sums and exponentials of short types are in single precision, as every framework has them.
    fn wide(&self) -> Element {
        if self.element == Element::F64 { Element::F64 } else { Element::F32 }
    }

    fn program(
        &self,
        code: String,
        inputs: &[&[usize]],
        output: &[usize],
        flops: Option<f64>,
        items: Option<(f64, &'static str)>,
    ) -> Result<Program, String> {
        Program::made(Made {
            name: self.workload.name.clone(),
            code,
            precision: self.workload.text("precision")?.to_owned(),
            element: self.element,
            inputs: inputs.iter().map(|shape| shape.to_vec()).collect(),
            output: output.to_vec(),
            flops,
            items,
            seed: self.seed,
            tolerance: match self.element {
                // Products on tensor units in several passes (TPU), and sums in any order.
                Element::F32 => 1e-4,
                Element::F64 => 1e-10,
                Element::F16 => 4e-3,
                Element::Bf16 | Element::I32 => 2e-2,
            },
        })
    }
}

fn array(shape: &[usize], element: Element) -> String {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).chain([element.name().to_owned()]).collect();
    format!("tensor<{}>", sizes.join("x"))
}

/// A number as the program's text has it, which wants a point in it.
fn literal(number: f64) -> String {
    format!("{number:.17e}")
}

/// Up to `count` places below `bound`, evenly, both ends among them.
fn spread(count: usize, bound: usize) -> impl Iterator<Item = usize> {
    let count = count.min(bound);
    (0..count).map(move |i| if count < 2 { 0 } else { i * (bound - 1) / (count - 1) })
}

fn gemm(asked: &Asked<'_>) -> Result<Program, String> {
    let (m, n, k) = (asked.size("m")?, asked.size("n")?, asked.size("k")?);
    let [left, right, product] = [[m, k], [k, n], [m, n]].map(|shape| asked.array(&shape));
    // Full precision, as the other backends have it: TF32 and single bf16 passes are other cases.
    let code = format!(
        "module @gemm {{
  func.func public @main(%a: {left}, %b: {right}) -> {product} {{
    %c = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0], precision = [HIGHEST, HIGHEST] : ({left}, {right}) -> {product}
    return %c : {product}
  }}
}}
"
    );
    let mut program =
        asked.program(code, &[&[m, k], &[k, n]], &[m, n], Some(2.0 * m as f64 * n as f64 * k as f64), None)?;
    let known = spread(COMPARED, m).zip(spread(COMPARED, n)).map(|(row, column)| {
        let products = (0..k).map(|i| program.input(0, row * k + i) * program.input(1, i * n + column));
        (row * n + column, products.sum())
    });
    let known = known.collect();
    program.learn(known);
    Ok(program)
}

/// A softmax of `%x` over its last dimension in the text of a program; the result is `%y`, of the same type.
fn softmax_of(shape: &[usize], element: Element) -> String {
    let (last, outer) = (shape.len() - 1, &shape[..shape.len() - 1]);
    let (whole, rows, one) = (array(shape, element), array(outer, element), array(&[], element));
    let kept: Vec<String> = (0..last).map(|dimension| dimension.to_string()).collect();
    let kept = kept.join(", ");
    let lowest = if element == Element::F64 { "0xFFF0000000000000" } else { "0xFF800000" };
    format!(
        "    %lowest = stablehlo.constant dense<{lowest}> : {one}
    %zero = stablehlo.constant dense<0.0> : {one}
    %most = stablehlo.reduce(%x init: %lowest) applies stablehlo.maximum across dimensions = [{last}] : ({whole}, {one}) -> {rows}
    %mosts = stablehlo.broadcast_in_dim %most, dims = [{kept}] : ({rows}) -> {whole}
    %less = stablehlo.subtract %x, %mosts : {whole}
    %weights = stablehlo.exponential %less : {whole}
    %total = stablehlo.reduce(%weights init: %zero) applies stablehlo.add across dimensions = [{last}] : ({whole}, {one}) -> {rows}
    %totals = stablehlo.broadcast_in_dim %total, dims = [{kept}] : ({rows}) -> {whole}
    %y = stablehlo.divide %weights, %totals : {whole}
"
    )
}

fn softmax(asked: &Asked<'_>) -> Result<Program, String> {
    let shape = [asked.size("rows")?, asked.size("cols")?];
    let (own, wide) = (asked.array(&shape), array(&shape, asked.wide()));
    let code = format!(
        "module @softmax {{
  func.func public @main(%in: {own}) -> {own} {{
    %x = stablehlo.convert %in : ({own}) -> {wide}
{}    %out = stablehlo.convert %y : ({wide}) -> {own}
    return %out : {own}
  }}
}}
",
        softmax_of(&shape, asked.wide())
    );
    rows(asked, code, shape, 0, |x, _, _| plain::softmax(x))
}

fn layernorm(asked: &Asked<'_>) -> Result<Program, String> {
    normalised(asked, true, plain::layernorm)
}

fn rmsnorm(asked: &Asked<'_>) -> Result<Program, String> {
    normalised(asked, false, |x, gamma, _| plain::rmsnorm(x, gamma))
}

/// A normalisation, with or without a mean that is taken away and a shift.
fn normalised(
    asked: &Asked<'_>,
    centred: bool,
    plain: impl Fn(&[f64], &[f64], &[f64]) -> Vec<f64>,
) -> Result<Program, String> {
    let shape @ [height, width] = [asked.size("rows")?, asked.size("cols")?];
    let wide = asked.wide();
    let (own, vector) = (asked.array(&shape), asked.array(&[width]));
    let (whole, row, column, one) =
        (array(&shape, wide), array(&[width], wide), array(&[height], wide), array(&[], wide));
    let mean_of = |of: &str, name: &str| {
        format!(
            "    %{name}_sum = stablehlo.reduce(%{of} init: %zero) applies stablehlo.add across dimensions = [1] : ({whole}, {one}) -> {column}
    %{name} = stablehlo.divide %{name}_sum, %count : {column}
"
        )
    };
    let centre = if centred {
        format!(
            "{}    %means = stablehlo.broadcast_in_dim %mean, dims = [0] : ({column}) -> {whole}
    %c = stablehlo.subtract %x, %means : {whole}
",
            mean_of("x", "mean")
        )
    } else {
        format!("    %c = stablehlo.convert %x : ({whole}) -> {whole}\n")
    };
    let (beta, shift, result) = if centred {
        let shift = format!(
            "    %beta_w = stablehlo.convert %beta : ({vector}) -> {row}
    %betas = stablehlo.broadcast_in_dim %beta_w, dims = [1] : ({row}) -> {whole}
    %y = stablehlo.add %scaled, %betas : {whole}
"
        );
        (format!(", %beta: {vector}"), shift, "y")
    } else {
        (String::new(), String::new(), "scaled")
    };
    let code = format!(
        "module @{name} {{
  func.func public @main(%in: {own}, %gamma: {vector}{beta}) -> {own} {{
    %zero = stablehlo.constant dense<0.0> : {one}
    %count = stablehlo.constant dense<{width}.0> : {column}
    %epsilon = stablehlo.constant dense<{epsilon}> : {column}
    %x = stablehlo.convert %in : ({own}) -> {whole}
{centre}    %squares = stablehlo.multiply %c, %c : {whole}
{mean_square}    %more = stablehlo.add %square, %epsilon : {column}
    %scale = stablehlo.rsqrt %more : {column}
    %scales = stablehlo.broadcast_in_dim %scale, dims = [0] : ({column}) -> {whole}
    %normal = stablehlo.multiply %c, %scales : {whole}
    %gamma_w = stablehlo.convert %gamma : ({vector}) -> {row}
    %gammas = stablehlo.broadcast_in_dim %gamma_w, dims = [1] : ({row}) -> {whole}
    %scaled = stablehlo.multiply %normal, %gammas : {whole}
{shift}    %out = stablehlo.convert %{result} : ({whole}) -> {own}
    return %out : {own}
  }}
}}
",
        name = asked.workload.name,
        epsilon = literal(f64::from(plain::EPSILON)),
        mean_square = mean_of("squares", "square"),
    );
    rows(asked, code, shape, if centred { 2 } else { 1 }, plain)
}

/// A program over the rows of a matrix with so many vectors beside it, and some rows of its result.
fn rows(
    asked: &Asked<'_>,
    code: String,
    [height, width]: [usize; 2],
    vectors: usize,
    plain: impl Fn(&[f64], &[f64], &[f64]) -> Vec<f64>,
) -> Result<Program, String> {
    let (matrix, vector) = ([height, width], [width]);
    let inputs: Vec<&[usize]> = [&matrix[..]].into_iter().chain((0..vectors).map(|_| &vector[..])).collect();
    let mut program = asked.program(code, &inputs, &matrix, None, Some((height as f64, "rows")))?;
    let vector = |place: usize| -> Vec<f64> {
        if place > vectors { Vec::new() } else { (0..width).map(|i| program.input(place, i)).collect() }
    };
    let (gamma, beta) = (vector(1), vector(2));
    let known = spread(COMPARED, height)
        .flat_map(|row| {
            let x: Vec<f64> = (0..width).map(|i| program.input(0, row * width + i)).collect();
            let y = plain(&x, &gamma, &beta);
            spread(WIDE, width).map(|column| (row * width + column, y[column])).collect::<Vec<_>>()
        })
        .collect();
    program.learn(known);
    Ok(program)
}

fn attention(asked: &Asked<'_>) -> Result<Program, String> {
    let [batch, heads, seq, depth] =
        [asked.size("batch")?, asked.size("heads")?, asked.size("seq")?, asked.size("head_dim")?];
    let causal = asked.workload.flag("causal")?;
    let (shape, square) = ([batch, heads, seq, depth], [batch, heads, seq, seq]);
    let wide = asked.wide();
    let (own, scores, whole) = (asked.array(&shape), asked.array(&square), array(&square, wide));
    let places = array(&square, Element::I32);
    let truths = format!("tensor<{batch}x{heads}x{seq}x{seq}xi1>");
    let scale = 1.0 / (depth as f64).sqrt();
    let (masked, mask) = if causal {
        let lowest = if wide == Element::F64 { "0xFFF0000000000000" } else { "0xFF800000" };
        let mask = format!(
            "    %query = stablehlo.iota dim = 2 : {places}
    %key = stablehlo.iota dim = 3 : {places}
    %past = stablehlo.compare GE, %query, %key, SIGNED : ({places}, {places}) -> {truths}
    %never = stablehlo.constant dense<{lowest}> : {whole}
    %x = stablehlo.select %past, %scaled, %never : {truths}, {whole}
"
        );
        ("scaled", mask)
    } else {
        ("x", String::new())
    };
    let code = format!(
        "module @attention {{
  func.func public @main(%q: {own}, %k: {own}, %v: {own}) -> {own} {{
    %s = stablehlo.dot_general %q, %k, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [3], precision = [HIGHEST, HIGHEST] : ({own}, {own}) -> {scores}
    %sw = stablehlo.convert %s : ({scores}) -> {whole}
    %by = stablehlo.constant dense<{scale}> : {whole}
    %{masked} = stablehlo.multiply %sw, %by : {whole}
{mask}{softmax}    %p = stablehlo.convert %y : ({whole}) -> {scores}
    %o = stablehlo.dot_general %p, %v, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2], precision = [HIGHEST, HIGHEST] : ({scores}, {own}) -> {own}
    return %o : {own}
  }}
}}
",
        scale = literal(scale),
        softmax = softmax_of(&square, wide),
    );
    let flops = 4.0 * (batch * heads) as f64 * plain::seen(seq, causal) * depth as f64;
    let mut program = asked.program(
        code,
        &[&shape; 3].map(|shape| &shape[..]),
        &shape,
        Some(flops),
        Some(((batch * seq) as f64, "tokens")),
    )?;
    let known = spread(COMPARED, batch * heads * seq)
        .flat_map(|row| {
            let (head, query) = (row / seq, row % seq);
            let seen = if causal { query + 1 } else { seq };
            let value = |place: usize, row: usize, column: usize| program.input(place, row * depth + column);
            let score =
                |key: usize| (0..depth).map(|i| value(0, row, i) * value(1, head * seq + key, i)).sum::<f64>() * scale;
            let scores: Vec<f64> = (0..seen).map(score).collect();
            let values: Vec<f64> = (0..seen * depth).map(|i| value(2, head * seq + i / depth, i % depth)).collect();
            let mean = plain::attended(&scores, &values, depth);
            (0..depth).map(|i| (row * depth + i, mean[i])).collect::<Vec<_>>()
        })
        .collect();
    program.learn(known);
    Ok(program)
}
