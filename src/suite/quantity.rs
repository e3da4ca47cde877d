//! Quantities as people write them: durations, sizes, shares.
//!
//! Must not know which key of a suite a quantity belongs to.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A unit: its symbol, and by what a number is multiplied and divided. Powers of ten below one are divisors, because
/// `10.0 / 1e6` is the number nearest to 10 µs, and `10.0 * 1e-6` is not.
type Unit = (&'static str, f64, f64);

/// Units of time; the result is in seconds.
const TIME: &[Unit] = &[
    ("ns", 1.0, 1e9),    // nanoseconds
    ("us", 1.0, 1e6),    // microseconds
    ("µs", 1.0, 1e6),    // the same, with the micro sign
    ("ms", 1.0, 1e3),    // milliseconds
    ("s", 1.0, 1.0),     // seconds
    ("m", 60.0, 1.0),    // minutes
    ("min", 60.0, 1.0),  // the same
    ("h", 3_600.0, 1.0), // hours
];

/// Units of size; the result is in bytes (IEC 80000-13 for the binary ones).
const SIZE: &[Unit] = &[
    ("B", 1.0, 1.0),                   // bytes
    ("kB", 1e3, 1.0),                  // kilobytes
    ("KB", 1e3, 1.0),                  // the same, as often written
    ("MB", 1e6, 1.0),                  // megabytes
    ("GB", 1e9, 1.0),                  // gigabytes
    ("TB", 1e12, 1.0),                 // terabytes
    ("KiB", 1_024.0, 1.0),             // kibibytes, 2^10
    ("MiB", 1_048_576.0, 1.0),         // mebibytes, 2^20
    ("GiB", 1_073_741_824.0, 1.0),     // gibibytes, 2^30
    ("TiB", 1_099_511_627_776.0, 1.0), // tebibytes, 2^40
];

/// Units of shares; the result is a fraction.
const SHARE: &[Unit] = &[("%", 1.0, 100.0)]; // percent

/// Units of work a second; the result is in FLOP/s.
const FLOP_RATE: &[Unit] = &[
    ("FLOP/s", 1.0, 1.0),
    ("kFLOP/s", 1e3, 1.0),
    ("MFLOP/s", 1e6, 1.0),
    ("GFLOP/s", 1e9, 1.0),
    ("TFLOP/s", 1e12, 1.0),
    ("PFLOP/s", 1e15, 1.0),
];

/// Units of traffic; the result is in bytes a second.
const BYTE_RATE: &[Unit] = &[
    ("B/s", 1.0, 1.0),
    ("kB/s", 1e3, 1.0),
    ("MB/s", 1e6, 1.0),
    ("GB/s", 1e9, 1.0),
    ("TB/s", 1e12, 1.0),
    ("KiB/s", 1_024.0, 1.0),
    ("MiB/s", 1_048_576.0, 1.0),
    ("GiB/s", 1_073_741_824.0, 1.0),
    ("TiB/s", 1_099_511_627_776.0, 1.0),
];

/// Reads a duration with its unit, `10us`, `1.5 ms`, `3s`, `2m`, `1h`; the result is in seconds.
///
/// # Errors
/// In words, when there is no number, no unit, or an unknown unit.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    scaled(text, TIME, "a duration such as \"10us\", \"1.5 ms\", \"3s\" or \"2m\"")
}

/// Reads a size with its unit, `40 GiB`, `512 MB`; the result is in bytes, rounded to whole ones.
///
/// # Errors
/// In words, when there is no number, no unit, or an unknown unit.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, SIZE, "a size such as \"40 GiB\", \"512 MB\" or a whole number of bytes")
        .map(|bytes| bytes.round() as u64)
}

/// Reads a percentage, `2%`, `0.5 %`; the result is a fraction.
///
/// # Errors
/// In words, when it is no number followed by a percent sign.
pub(super) fn share(text: &str) -> Result<f64, String> {
    scaled(text, SHARE, SHARE_WANTED)
}

const SHARE_WANTED: &str = "a percentage such as \"2%\", or a fraction below one such as 0.02";

/// Reads a value of a metric whose values are in `unit`: durations, sizes and rates with a unit of theirs, shares as a
/// plain number or a percentage, everything else as a plain number, with or without that very unit.
///
/// # Errors
/// In words, when it is none.
pub(super) fn of_unit(text: &str, unit: &str) -> Result<f64, String> {
    let text = text.trim();
    match unit {
        "s" => seconds(text),
        "B" => bytes(text).map(|bytes| bytes as f64),
        "FLOP/s" => scaled(text, FLOP_RATE, "a rate such as \"1.6 TFLOP/s\""),
        "B/s" => scaled(text, BYTE_RATE, "a rate such as \"2.9 TB/s\""),
        "1" | "" if text.ends_with('%') => share(text),
        "1" | "" => plain(text).ok_or_else(|| format!("`{text}` is no number such as 0.85, nor a percentage")),
        _ => plain(text.strip_suffix(unit).unwrap_or(text))
            .ok_or_else(|| format!("`{text}` is no number of {unit}, such as `12.5 {unit}`")),
    }
}

/// A number of zero or more, without a unit.
fn plain(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.filter(|_| text.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

fn scaled(text: &str, units: &[Unit], wanted: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is not {wanted}"))?;
    let known = || units.iter().map(|(name, _, _)| *name).collect::<Vec<_>>().join(", ");
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit; known units: {}", known()));
    }
    match units.iter().find(|(name, _, _)| *name == unit) {
        Some((_, times, by)) => Ok(value * times / by),
        None => Err(format!("unknown unit `{unit}` in `{text}`; known units: {}", known())),
    }
}

/// A size for people: `23.4 GiB`.
pub(super) fn show_bytes(bytes: u64) -> String {
    let (unit, scale) = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >> shift > 0)
        .unwrap_or(("B", 0));
    let value = bytes as f64 / 2f64.powi(scale);
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A kind of quantity that a suite file may hold.
trait Quantity: Sized {
    const NAME: &'static str;
    const WANTED: &'static str;
    /// JSON types and pattern of the accepted values.
    fn schema() -> Schema;
    fn from_text(text: &str) -> Result<Self, String>;
    fn from_number(number: f64) -> Option<Self>;
}

struct QuantityVisitor<Q>(PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for QuantityVisitor<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Q::WANTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Q, E> {
        Q::from_text(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Q, E> {
        Q::from_number(number as f64).ok_or_else(|| E::custom(format!("expected {}, got `{number}`", Q::WANTED)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Q, E> {
        Q::from_number(number).ok_or_else(|| E::custom(format!("expected {}, got `{number}`", Q::WANTED)))
    }
}

macro_rules! quantity {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(QuantityVisitor(PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                <Self as Quantity>::NAME.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <Self as Quantity>::schema()
            }
        }
    };
}

/// A duration, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seconds(pub(super) f64);
quantity!(Seconds);

impl Quantity for Seconds {
    const NAME: &'static str = "Duration";
    const WANTED: &'static str = "a duration with its unit, such as \"10us\", \"1.5 ms\", \"3s\" or \"2m\"";

    fn schema() -> Schema {
        json_schema!({
            "description": "A duration with its unit: ns, us, ms, s, m (minutes), h.",
            "type": "string",
            "pattern": "^\\s*[0-9.]+\\s*(ns|us|µs|ms|s|m|min|h)\\s*$",
            "examples": ["10us", "1.5 ms", "3s", "2m"],
        })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        seconds(text).map(Self)
    }

    fn from_number(_: f64) -> Option<Self> {
        None
    }
}

/// A size, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);
quantity!(Bytes);

impl Quantity for Bytes {
    const NAME: &'static str = "Size";
    const WANTED: &'static str = "a size such as \"40 GiB\", \"512 MB\" or a whole number of bytes";

    fn schema() -> Schema {
        json_schema!({
            "description": "A size with its unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), or a whole number of bytes.",
            "type": ["string", "integer"],
            "pattern": "^\\s*[0-9.]+\\s*([kKMGT]?B|[KMGT]iB)\\s*$",
            "minimum": 0,
            "examples": ["40 GiB", "512 MB"],
        })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }

    fn from_number(number: f64) -> Option<Self> {
        (number >= 0.0 && number.fract() == 0.0).then_some(Self(number as u64))
    }
}

/// A share, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share(pub(super) f64);
quantity!(Share);

impl Quantity for Share {
    const NAME: &'static str = "Share";
    const WANTED: &'static str = SHARE_WANTED;

    fn schema() -> Schema {
        json_schema!({
            "description": "A percentage, or a fraction below one.",
            "type": ["string", "number"],
            "pattern": "^\\s*[0-9.]+\\s*%\\s*$",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "examples": ["2%", 0.02],
        })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        share(text).map(Self)
    }

    /// A bare `2` could mean 2 % or 200 %, so it is refused.
    fn from_number(number: f64) -> Option<Self> {
        (0.0..1.0).contains(&number).then_some(Self(number))
    }
}

/// A quantity whose dimension depends on the metric it is given for: text with a unit, or a plain number in the
/// metric's own unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Amount {
    /// With a unit.
    Text(String),
    /// In the metric's own unit.
    Number(f64),
}
quantity!(Amount);

impl Quantity for Amount {
    const NAME: &'static str = "Amount";
    const WANTED: &'static str = "an amount such as \"10us\", \"4 MiB\", or a number in the metric's own unit";

    fn schema() -> Schema {
        json_schema!({
            "description": "A duration or a size with its unit, or a number in the metric's own unit.",
            "type": ["string", "number"],
            "minimum": 0,
            "examples": ["10us", "4 MiB", 0.5],
        })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self::Text(text.to_owned()))
    }

    fn from_number(number: f64) -> Option<Self> {
        (number.is_finite() && number >= 0.0).then_some(Self::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_every_unit() {
        for (text, want) in [
            ("250ns", 2.5e-7),
            ("10us", 1e-5),
            ("10 µs", 1e-5),
            ("1.5 ms", 1.5e-3),
            ("3s", 3.0),
            ("2m", 120.0),
            ("2min", 120.0),
            (" 1h ", 3600.0),
        ] {
            assert_eq!(seconds(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_two_from_powers_of_ten() {
        assert_eq!(bytes("40 GiB"), Ok(40 << 30));
        assert_eq!(bytes("512 MB"), Ok(512_000_000));
        assert_eq!(bytes("1.5KiB"), Ok(1536));
        assert_eq!(bytes("7 B"), Ok(7));
    }

    #[test]
    fn values_of_a_metric_follow_its_unit() {
        for (text, unit, want) in [
            ("2 ms", "s", 0.002),
            ("40 GiB", "B", 42_949_672_960.0),
            ("1.6 TFLOP/s", "FLOP/s", 1.6e12),
            ("2.9TB/s", "B/s", 2.9e12),
            ("0.85", "1", 0.85),
            ("85 %", "1", 0.85),
            ("12.5 tokens/s", "tokens/s", 12.5),
            ("1.2e3", "tokens/s", 1200.0),
            ("0", "1", 0.0),
        ] {
            assert_eq!(of_unit(text, unit), Ok(want), "{text}");
        }
        for (text, unit) in [
            ("2", "s"),
            ("2 MiB", "s"),
            ("2 GB/s", "FLOP/s"),
            ("inf", "1"),
            ("-1", "1"),
            ("1 item", "tokens/s"),
            ("", "1"),
        ] {
            assert!(of_unit(text, unit).is_err(), "{text} {unit}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_known_units() {
        assert_eq!(
            seconds("3 sec"),
            Err("unknown unit `sec` in `3 sec`; known units: ns, us, µs, ms, s, m, min, h".to_owned())
        );
        assert!(seconds("3").unwrap_err().contains("has no unit"));
        for text in ["", "s", "-3s", "1.2.3s", "nan s", "inf s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(bytes("40 Gib").is_err());
        assert!(share("2").is_err());
        assert_eq!((share("2%"), share("7 %")), (Ok(0.02), Ok(0.07)));
    }

    #[test]
    fn sizes_are_shown_in_the_largest_fitting_unit() {
        assert_eq!(show_bytes(40 << 30), "40 GiB");
        assert_eq!(show_bytes(25_125_558_681), "23.4 GiB");
        assert_eq!(show_bytes(512), "512 B");
    }
}
