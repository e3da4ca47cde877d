//! Programs on disk: a portable artifact and the manifest that says what goes in and what must come out (suites/models/README.md).
//!
//! Of the port, because every engine for XLA's programs reads them. Must not know what compiles or runs one.

mod element;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use element::Element;

use crate::backend::{WorkCounts, relative_error};
use crate::domain::{Check, hex};

/// Version of the manifest's format.
const FORMAT: u32 = 1;
/// No artifact is larger, bytes.
const MOST_CODE: u64 = 1 << 30;
/// No array of a program is larger, bytes.
const MOST_ARRAY: usize = 1 << 37;

/// What an artifact is written in, which is read from its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// StableHLO, as a portable artifact or as text.
    StableHlo,
    /// HLO, XLA's own form, as text: `x.hlo.txt`.
    HloText,
    /// HLO as a protocol buffer: `x.hlo.pb`.
    HloProto,
}

impl Language {
    /// That of a file.
    #[must_use]
    pub fn of(file: &str) -> Self {
        match file {
            _ if file.ends_with(".hlo.txt") => Self::HloText,
            _ if file.ends_with(".hlo.pb") => Self::HloProto,
            _ => Self::StableHlo,
        }
    }
}

/// Why a program cannot be used: which file, and what about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {what}", path.display())]
pub struct ProgramError {
    path: PathBuf,
    what: String,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// For people.
    pub name: String,
    /// For people too, and for whoever exports it again.
    #[serde(default, rename = "description")]
    _description: Text,
    #[serde(default, rename = "source_sha256")]
    _source: Text,
    /// The artifact's file, beside the manifest.
    program: String,
    /// Hash of its bytes.
    pub sha256: String,
    /// Versions of what made it.
    #[serde(default)]
    pub made_with: String,
    /// Of the matrix products.
    #[serde(default)]
    pub precision: String,
    /// Where it runs; everywhere if empty.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Operations of a run.
    pub flops: Option<f64>,
    /// Items of a run, and what they are.
    pub items: Option<f64>,
    /// What an item is.
    pub item: Option<String>,
    /// The first so many results are the first arguments of the next run.
    #[serde(default)]
    pub carry: usize,
    /// Of the arguments.
    #[serde(default)]
    pub seed: u64,
    /// Largest difference over the largest value of a result.
    #[serde(default = "tolerance")]
    tolerance: f64,
    /// Arguments, in order.
    pub inputs: Vec<Input>,
    /// Results, in order.
    #[serde(default)]
    pub outputs: Vec<Output>,
}

/// A text that is not read here.
type Text = Option<String>;

const fn tolerance() -> f64 {
    1e-3
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// For people.
    pub name: String,
    dtype: String,
    /// Sizes, slowest first.
    pub shape: Vec<i64>,
    fill: Fill,
    scale: f64,
}

/// What an argument holds at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fill {
    /// Nearly normal values.
    Normal,
    /// One value.
    Constant,
    /// Whole numbers from 0 up to the scale.
    Index,
}

/// A result, and values of it that are known.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    dtype: String,
    /// Sizes, slowest first.
    pub shape: Vec<i64>,
    /// Largest absolute value in the whole result.
    largest: Option<f64>,
    /// Places in it, counted row by row.
    #[serde(default)]
    at: Vec<usize>,
    /// Values there.
    #[serde(default)]
    values: Vec<f64>,
}

/// A program that is written out here, with one result and arguments of one element type.
#[derive(Debug)]
pub struct Made {
    /// For people.
    pub name: String,
    /// Its text.
    pub code: String,
    /// Of the matrix products.
    pub precision: String,
    /// Of arguments and result.
    pub element: Element,
    /// Sizes of the arguments, which hold nearly normal values of deviation 1.
    pub inputs: Vec<Vec<usize>>,
    /// Sizes of the result.
    pub output: Vec<usize>,
    /// Operations of a run.
    pub flops: Option<f64>,
    /// Items of a run, and what they are.
    pub items: Option<(f64, &'static str)>,
    /// Of the arguments.
    pub seed: u64,
    /// Largest difference over the largest known value.
    pub tolerance: f64,
}

/// A program, read and found whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// What is said of it.
    pub manifest: Manifest,
    /// The artifact.
    pub code: Vec<u8>,
}

impl Program {
    /// The file of a program: as the suite writes it, from where regrade was started or from `suites/`, where `models/gpt2.vhlo`
    /// lies; and `gpt2` alone is that file.
    #[must_use]
    pub fn found(word: &str) -> PathBuf {
        let beside = Path::new("suites");
        let short = beside.join("models").join(word).with_extension("vhlo");
        let places = [PathBuf::from(word), beside.join(word)];
        let short = (!word.contains(['/', '.'])).then_some(short);
        let all = short.into_iter().chain(places);
        all.into_iter().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(word))
    }

    /// Reads `path`, an artifact, and the manifest of the same name beside it.
    ///
    /// # Errors
    /// When either cannot be read, they do not belong together, or the manifest makes no sense.
    pub fn read(path: &Path) -> Result<Self, ProgramError> {
        let code = bytes(path)?;
        let beside = path.with_extension("json");
        Self::of(code, &manifest_bytes(&beside)?).map_err(|what| ProgramError { path: beside, what })
    }

    /// A program and its manifest.
    pub fn of(code: Vec<u8>, manifest: &[u8]) -> Result<Self, String> {
        let manifest = Manifest::parse(manifest)?;
        let hash = hex(&Sha256::digest(&code));
        if hash != manifest.sha256 {
            return Err(format!(
                "describes another program: `sha256` is {}, {} has {hash}; export both again",
                manifest.sha256, manifest.program
            ));
        }
        Ok(Self { manifest, code })
    }

    /// A program that is written out here; of its result nothing is known yet.
    ///
    /// # Errors
    /// When an array is too large.
    pub fn made(made: Made) -> Result<Self, String> {
        let dtype = made.element.name();
        let sizes = |shape: &[usize]| shape.iter().map(|size| *size as i64).collect::<Vec<i64>>();
        let input = |(number, shape): (usize, &Vec<usize>)| Input {
            name: format!("argument {number}"),
            dtype: dtype.to_owned(),
            shape: sizes(shape),
            fill: Fill::Normal,
            scale: 1.0,
        };
        let manifest = Manifest {
            format: FORMAT,
            name: made.name,
            _description: None,
            _source: None,
            program: String::new(),
            sha256: hex(&Sha256::digest(made.code.as_bytes())),
            made_with: concat!("regrade ", env!("CARGO_PKG_VERSION")).to_owned(),
            precision: made.precision,
            platforms: Vec::new(),
            flops: made.flops,
            items: made.items.map(|(items, _)| items),
            item: made.items.map(|(_, item)| item.to_owned()),
            carry: 0,
            seed: made.seed,
            tolerance: made.tolerance,
            inputs: made.inputs.iter().enumerate().map(input).collect(),
            outputs: vec![Output {
                dtype: dtype.to_owned(),
                shape: sizes(&made.output),
                largest: None,
                at: Vec::new(),
                values: Vec::new(),
            }],
        };
        manifest.validate()?;
        Ok(Self { manifest, code: made.code.into_bytes() })
    }

    /// Value `i` of argument `place`, as it is in its type.
    pub fn input(&self, place: usize, i: usize) -> f64 {
        self.manifest.inputs[place].value(self.manifest.seed, place, i as u64)
    }

    /// Takes values of the first result that are known, by place.
    pub fn learn(&mut self, known: Vec<(usize, f64)>) {
        (self.manifest.outputs[0].at, self.manifest.outputs[0].values) = known.into_iter().unzip();
    }

    /// Bytes that a run must read and write at least: every argument and result once.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        let inputs = self.manifest.inputs.iter().map(Input::bytes);
        let outputs =
            self.manifest.outputs.iter().map(|output| element(&output.dtype).bytes_of(&output.shape).unwrap_or(0));
        inputs.chain(outputs).sum::<usize>() as f64
    }

    /// What a run on so many devices amounts to, by the manifest.
    #[must_use]
    pub fn counts(&self, devices: usize) -> WorkCounts {
        let unit = match self.manifest.item.as_deref() {
            Some("tokens") => "tokens",
            Some("images") => "images",
            Some("samples") => "samples",
            Some("rows") => "rows",
            _ => "items",
        };
        WorkCounts {
            flops: self.manifest.flops.map(|flops| flops * devices as f64),
            bytes: Some(self.bytes() * devices as f64),
            items: self.manifest.items.map(|items| (items * devices as f64, unit)),
        }
    }

    /// Holds a result's type and sizes against what the manifest says of it.
    ///
    /// # Errors
    /// When they differ.
    pub fn is_of(&self, number: usize, dtype: Option<Element>, shape: &[i64]) -> Result<(), String> {
        let Some(declared) = self.manifest.outputs.get(number) else { return Ok(()) };
        if dtype == Some(element(&declared.dtype)) && shape == declared.shape {
            return Ok(());
        }
        let is = dtype.map_or("another type", Element::name);
        Err(format!(
            "result {number} of the program is {is} {shape:?}, and its manifest says {} {:?}",
            declared.dtype, declared.shape
        ))
    }

    /// Compares results with what is known of them, each as dense bytes.
    pub fn check(&self, results: &[Vec<u8>]) -> Vec<Check> {
        let known = self
            .manifest
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| output.largest.is_some() || !output.at.is_empty());
        let errors: Vec<(usize, f64)> = known
            .map(|(number, output)| {
                let got = results.get(number).map_or_else(Vec::new, |bytes| values(element(&output.dtype), bytes));
                (number, output.error(&got))
            })
            .collect();
        let check = |name: String, reference: &str, error: f64, tolerance: f64| Check {
            name,
            reference: reference.to_owned(),
            error,
            tolerance,
            pass: error <= tolerance,
        };
        if errors.is_empty() {
            // Nothing is known: at least the numbers must be numbers.
            let finite = self
                .manifest
                .outputs
                .iter()
                .zip(results)
                .all(|(output, bytes)| values(element(&output.dtype), bytes).iter().all(|value| value.is_finite()));
            let error = if finite { 0.0 } else { f64::NAN };
            return vec![check("results are numbers".to_owned(), "none is known", error, 0.0)];
        }
        // Of hundreds of results the worst is told.
        let worst = errors
            .iter()
            .copied()
            .fold(errors[0], |worst, one| if one.1 > worst.1 || one.1.is_nan() { one } else { worst });
        let name = format!("result {} of {}", worst.0, self.manifest.outputs.len());
        vec![check(name, "the manifest's values", worst.1, self.manifest.tolerance)]
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, ProgramError> {
    let error = |what: String| ProgramError { path: path.to_owned(), what };
    match std::fs::metadata(path).map(|metadata| metadata.len()) {
        Ok(length) if length > MOST_CODE => Err(error(format!("{length} bytes are too many"))),
        _ => std::fs::read(path).map_err(|cause| error(format!("cannot be read: {cause}"))),
    }
}

fn manifest_bytes(path: &Path) -> Result<Vec<u8>, ProgramError> {
    bytes(path).map_err(|cause| ProgramError {
        what: format!(
            "{}; a program has a manifest beside it: suites/models/README.md says how it is made",
            cause.what
        ),
        ..cause
    })
}

impl Manifest {
    /// The manifest beside `path`, an artifact that is not looked at.
    ///
    /// # Errors
    /// When it cannot be read, or makes no sense.
    pub fn beside(path: &Path) -> Result<Self, ProgramError> {
        let path = path.with_extension("json");
        Self::parse(&manifest_bytes(&path)?).map_err(|what| ProgramError { path, what })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|cause| format!("is no manifest: {cause}"))?;
        manifest.validate()?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("has format {}; this version of regrade reads {FORMAT}", self.format));
        }
        if self.carry > self.inputs.len() || self.carry > self.outputs.len() {
            return Err(format!(
                "carries {} results over, of {} arguments and {} results",
                self.carry,
                self.inputs.len(),
                self.outputs.len()
            ));
        }
        if self.outputs.is_empty() {
            return Err("has no `outputs`: what a run gives could not be checked".to_owned());
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return Err(format!(
                "has a tolerance of {}: write a share of the largest value, such as 1e-3",
                self.tolerance
            ));
        }
        for (name, count) in [("flops", self.flops), ("items", self.items)] {
            if count.is_some_and(|count| !count.is_finite() || count <= 0.0) {
                return Err(format!("has {} {name}: leave it out where it is not known", count.unwrap_or_default()));
            }
        }
        let arrays = self.inputs.iter().map(|input| (&input.dtype, &input.shape));
        for (dtype, shape) in arrays.chain(self.outputs.iter().map(|output| (&output.dtype, &output.shape))) {
            let bytes = Element::named(dtype).ok_or_else(|| format!("has an array of `{dtype}`"))?.bytes_of(shape);
            if bytes.is_none_or(|bytes| bytes > MOST_ARRAY) {
                let most = MOST_ARRAY >> 30;
                return Err(format!("has an array of {shape:?} {dtype}, which is no size or more than {most} GiB"));
            }
        }
        for (number, input) in self.inputs.iter().enumerate() {
            let index = input.fill == Fill::Index;
            if !input.scale.is_finite() || (index && (input.dtype != "i32" || input.scale < 1.0)) {
                return Err(format!(
                    "fills argument {number} (`{}`) with {} of scale {}",
                    input.name, input.dtype, input.scale
                ));
            }
        }
        for (number, (input, output)) in self.inputs.iter().zip(&self.outputs).take(self.carry).enumerate() {
            if (&input.dtype, &input.shape) != (&output.dtype, &output.shape) {
                return Err(format!("carries result {number} over to an argument of another type or shape"));
            }
        }
        for (number, output) in self.outputs.iter().enumerate() {
            let count = element(&output.dtype).bytes_of(&output.shape).unwrap_or(0) / element(&output.dtype).bytes();
            if output.at.len() != output.values.len() || output.at.iter().any(|place| *place >= count) {
                return Err(format!("knows values of result {number} that it does not have"));
            }
        }
        Ok(())
    }
}

/// The type of a name that was validated.
fn element(name: &str) -> Element {
    Element::named(name).unwrap_or(Element::F32)
}

impl Input {
    /// Element type.
    #[must_use]
    pub fn element(&self) -> Element {
        element(&self.dtype)
    }

    fn bytes(&self) -> usize {
        self.element().bytes_of(&self.shape).unwrap_or(0)
    }

    /// Its values, dense bytes: a function of the seed and its place alone, the same in the exporter.
    #[must_use]
    pub fn values(&self, seed: u64, place: usize) -> Vec<u8> {
        let start = start(seed, place);
        let (element, scale) = (self.element(), self.scale);
        let count = self.bytes() / element.bytes();
        let mut bytes = Vec::with_capacity(self.bytes());
        let whole = scale as u64;
        for i in 0..count as u64 {
            match self.fill {
                Fill::Constant => push(&mut bytes, element, scale as f32),
                Fill::Normal => push(&mut bytes, element, normal(mix(start, i), scale)),
                Fill::Index => bytes.extend_from_slice(&((mix(start, i) % whole.max(1)) as i32).to_le_bytes()),
            }
        }
        bytes
    }

    /// Element `i` of them, where they are nearly normal.
    fn value(&self, seed: u64, place: usize, i: u64) -> f64 {
        let value = normal(mix(start(seed, place), i), self.scale);
        match self.element() {
            Element::Bf16 => half::bf16::from_f32(value).to_f64(),
            Element::F16 => half::f16::from_f32(value).to_f64(),
            Element::F32 | Element::F64 | Element::I32 => f64::from(value),
        }
    }
}

/// Where the generator of an argument starts.
const fn start(seed: u64, place: usize) -> u64 {
    seed.wrapping_add((place as u64 + 1) << 32)
}

/// Element `i` of `SplitMix64` from a start (Steele, Lea and Flood 2014).
const fn mix(start: u64, i: u64) -> u64 {
    let z = start.wrapping_add((i.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The sum of four uniform values, which is nearly normal; its deviation is `scale`.
fn normal(z: u64, scale: f64) -> f32 {
    let sum: u64 = (0..4).map(|part| (z >> (16 * part)) & 0xffff).sum();
    ((sum as f64 - 131_070.0) / 37_837.2 * scale) as f32
}

fn push(bytes: &mut Vec<u8>, element: Element, value: f32) {
    match element {
        Element::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
        Element::Bf16 => bytes.extend_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        Element::F16 => bytes.extend_from_slice(&half::f16::from_f32(value).to_le_bytes()),
        Element::F64 => bytes.extend_from_slice(&f64::from(value).to_le_bytes()),
        Element::I32 => bytes.extend_from_slice(&(value as i32).to_le_bytes()),
    }
}

/// Dense bytes as numbers.
fn values(element: Element, bytes: &[u8]) -> Vec<f64> {
    fn chunks<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    match element {
        Element::F32 => chunks(bytes, |chunk| f64::from(f32::from_le_bytes(chunk))),
        Element::Bf16 => chunks(bytes, |chunk| half::bf16::from_le_bytes(chunk).to_f64()),
        Element::F16 => chunks(bytes, |chunk| half::f16::from_le_bytes(chunk).to_f64()),
        Element::F64 => chunks(bytes, f64::from_le_bytes),
        Element::I32 => chunks(bytes, |chunk| f64::from(i32::from_le_bytes(chunk))),
    }
}

impl Output {
    /// How wrong a whole result is, by its known values and its largest one; NaN where there is none to compare or one is no
    /// number.
    fn error(&self, got: &[f64]) -> f64 {
        if got.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        let Some(at) = self.at.iter().map(|place| got.get(*place).copied()).collect::<Option<Vec<f64>>>() else {
            return f64::NAN;
        };
        let Some(largest) = self.largest else { return relative_error(&at, &self.values) };
        // The largest value stands at the end of both, so that errors are relative to it.
        let highest = got.iter().fold(0.0_f64, |highest, value| highest.max(value.abs()));
        let got: Vec<f64> = at.into_iter().chain([highest]).collect();
        let want: Vec<f64> = self.values.iter().copied().chain([largest]).collect();
        relative_error(&got, &want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/models")
    }

    #[test]
    fn every_committed_program_is_whole() {
        let mut count = 0;
        for entry in std::fs::read_dir(models()).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "vhlo") {
                let program = Program::read(&path).unwrap_or_else(|error| panic!("{error}"));
                assert!(program.bytes() > 0.0 && program.manifest.flops.is_some(), "{}", path.display());
                count += 1;
            }
        }
        assert!(count >= 15, "{count}");
    }

    #[test]
    fn sizes_that_overflow_are_no_sizes() {
        assert_eq!(Element::F32.bytes_of(&[2, 3]), Some(24));
        assert_eq!(Element::Bf16.bytes_of(&[]), Some(2));
        assert_eq!(Element::F32.bytes_of(&[i64::MAX, 2]), None);
        assert_eq!(Element::F32.bytes_of(&[-1]), None);
        for element in Element::ALL {
            assert_eq!(Element::named(element.name()), Some(element));
        }
    }

    #[test]
    fn a_file_s_name_says_what_it_is_written_in() {
        for (file, language) in [
            ("models/gpt2.vhlo", Language::StableHlo),
            ("gpt2", Language::StableHlo),
            ("notes.txt", Language::StableHlo),
            ("a/b.hlo.txt", Language::HloText),
            ("b.hlo.pb", Language::HloProto),
        ] {
            assert_eq!(Language::of(file), language, "{file}");
        }
    }

    #[test]
    fn the_generator_is_the_exporter_s() {
        // suites/models/README.md: GPT-2's first input, seed 1.
        let input =
            Input { name: String::new(), dtype: "f32".to_owned(), shape: vec![3], fill: Fill::Normal, scale: 0.02 };
        assert_eq!(
            values(Element::F32, &input.values(1, 0)),
            ["0.0092961425", "0.00427991478", "-0.00575835444"]
                .map(|text| f64::from(text.parse::<f32>().expect("a number")))
        );
        let labels = Input { dtype: "i32".to_owned(), shape: vec![100], fill: Fill::Index, scale: 16.0, ..input };
        assert!(values(Element::I32, &labels.values(1, 3)).iter().all(|value| (0.0..16.0).contains(value)));
    }

    #[test]
    fn manifests_that_make_no_sense_are_refused() {
        let program = Program::read(&models().join("mlp-train.vhlo")).expect("a program");
        let with = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = program.manifest.clone();
            change(&mut manifest);
            manifest.validate().expect_err("refused")
        };
        assert!(with(&|manifest| manifest.format = 2).contains("format 2"));
        assert!(with(&|manifest| manifest.tolerance = -1.0).contains("a tolerance of -1"));
        assert!(with(&|manifest| manifest.carry = 1000).contains("carries 1000"));
        assert!(with(&|manifest| manifest.inputs[0].shape = vec![i64::MAX, 8]).contains("array"));
        assert!(with(&|manifest| manifest.inputs[0].dtype = "f8".to_owned()).contains("`f8`"));
        assert!(with(&|manifest| manifest.inputs[0].shape = vec![2]).contains("carries result 0"));
        assert!(with(&|manifest| manifest.outputs[0].at = vec![usize::MAX; 4]).contains("result 0"));
        assert!(Program::of(vec![1], b"{").expect_err("no JSON").contains("is no manifest"));
    }

    #[test]
    fn wrong_numbers_and_missing_results_fail_the_check() {
        let program = Program::read(&models().join("mlp-train.vhlo")).expect("a program");
        let zeros: Vec<Vec<u8>> = program
            .manifest
            .outputs
            .iter()
            .map(|output| vec![0; element(&output.dtype).bytes_of(&output.shape).unwrap_or(0)])
            .collect();
        assert!(program.check(&zeros).iter().any(|check| !check.pass));
        assert!(program.check(&[]).iter().any(|check| !check.pass));
    }
}
