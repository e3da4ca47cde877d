//! The only formatter of values: numbers in, words with units out.
//!
//! Everything is plain text with an ASCII hyphen as minus sign; [`typographic`] dresses it up where a page can take
//! it. Must not know which format is being written, nor any verdict.

use jiff::Timestamp;

use crate::domain::{Estimate, Metric, Price};
use crate::render::text;
use crate::report::PriceRow;

/// Stands where there is no number.
pub const NOTHING: &str = "-";

const SI_STEPS: [(f64, &str); 6] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];

/// Steps of a unit from large to small: the factor in base units and the symbol.
type Steps<'a> = &'a [(f64, &'a str)];

const DURATION_STEPS: Steps<'static> = &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")];

const ENERGY_STEPS: Steps<'static> = &[(1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")];

const BYTE_STEPS: Steps<'static> =
    &[(1_099_511_627_776.0, "TiB"), (1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];

/// A value in the unit of its metric: `12.34 ms`, `1.5 GiB`, `84.2 GFLOP/s`.
#[must_use]
pub fn value(value: f64, metric: &Metric) -> String {
    quantity(value, &metric.unit)
}

/// As [`value`], where there may be none.
#[must_use]
pub fn optional(number: Option<f64>, metric: &Metric) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| value(number, metric))
}

/// A value in a unit given by its symbol. Unknown symbols are kept as they are.
#[must_use]
pub fn quantity(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    match unit {
        "s" => duration(value),
        "B" => bytes(value),
        "J" => with_steps(value, ENERGY_STEPS),
        "1" | "" => plain(value),
        "FLOP/s" | "FLOP" | "B/s" | "Hz" => with_steps(value, &prefixed(unit)),
        _ => counted(value, unit),
    }
}

/// Seconds as `ns`, `us`, `ms` or `s` with four significant digits.
#[must_use]
pub fn duration(seconds: f64) -> String {
    with_steps(seconds, DURATION_STEPS)
}

/// Bytes in powers of 1024.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    with_steps(bytes, BYTE_STEPS)
}

/// A relative change as a percentage with its sign: `+30.1 %`, `-0.4 %`, `+412 %`.
#[must_use]
pub fn change(fraction: f64) -> String {
    if !fraction.is_finite() {
        return NOTHING.to_owned();
    }
    let percent = fraction * 100.0;
    let size = percent.abs();
    if size == 0.0 {
        return "0.0 %".to_owned();
    }
    let sign = if percent < 0.0 { '-' } else { '+' };
    if size < 0.005 {
        return format!("{sign}<0.01 %");
    }
    // Between 0.05 and 0.1 one digit would still say 0.1; below that it would say 0.0, which a change is not.
    let digits = match size {
        ..0.095 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    if size >= 99_999.5 {
        return format!("{sign}{size:.1e} %");
    }
    format!("{sign}{size:.digits$} %")
}

/// The interval of an estimate: `[+28.0 %, +32.2 %]`. An open end is an infinity.
#[must_use]
pub fn interval(estimate: &Estimate) -> String {
    let end = |bound: Option<f64>, open: &str| match bound {
        Some(bound) if bound.is_finite() => change(bound),
        _ => open.to_owned(),
    };
    format!("[{}, {}]", end(estimate.lower, "-∞"), end(estimate.upper, "+∞"))
}

/// Half the distance of two values against a middle one: `±1.2 %`, the spread of launches.
#[must_use]
pub fn spread(low: f64, middle: f64, high: f64) -> String {
    let half = (high - low).abs() / 2.0 / middle.abs();
    let digits = if half > 0.0 && half < 0.000_95 { 2 } else { 1 };
    if half.is_finite() { format!("±{:.digits$} %", half * 100.0) } else { NOTHING.to_owned() }
}

/// A share as a percentage without sign, for limits and confidence: `90 %`, `2.5 %`.
#[must_use]
pub fn share(fraction: f64) -> String {
    if fraction.is_finite() { format!("{} %", (fraction * 1e4).round() / 100.0) } else { NOTHING.to_owned() }
}

/// Data as one harmless line: control characters and direction overrides become spaces.
#[must_use]
pub fn line(text: &str) -> String {
    text::clean(text)
}

/// A moment as `2026-08-14 09:30 UTC`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    // RFC 3339 in UTC has a fixed layout: date, `T`, time, fraction, `Z`.
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// How long before `now` something was: `3 days earlier`.
#[must_use]
pub fn earlier(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    let say = |count: i64, unit: &str| format!("{count} {unit}{} earlier", if count == 1 { "" } else { "s" });
    match seconds {
        ..60 => "just before".to_owned(),
        60..3600 => say(seconds / 60, "minute"),
        3600..86_400 => say(seconds / 3600, "hour"),
        86_400.. => say(seconds / 86_400, "day"),
    }
}

/// How long something took: `48 s`, `12 min 5 s`, `2 h 3 min`.
#[must_use]
pub fn elapsed(from: Timestamp, to: Timestamp) -> String {
    let seconds = (to.as_second() - from.as_second()).max(0);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A count with its noun: `1 launch`, `3 launches`.
#[must_use]
pub fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Real minus signs and dashes in a *formatted number*, and no break between number and unit.
///
/// Never apply it to text that holds data: names may contain hyphens that mean something.
#[must_use]
pub fn typographic(number: &str) -> String {
    if number == NOTHING {
        return "–".to_owned();
    }
    let number = number.strip_suffix(" us").map_or_else(|| number.to_owned(), |rest| format!("{rest} µs"));
    number.replace('-', "\u{2212}").replace(' ', "\u{a0}").replace(",\u{a0}", ", ")
}

/// The largest step that leaves at least 1 before the decimal point after rounding to four digits.
fn with_steps(value: f64, steps: Steps<'_>) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    let (largest, smallest) = (steps[0], steps[steps.len() - 1]);
    if value == 0.0 {
        return spaced("0".to_owned(), smallest.1);
    }
    let (factor, symbol) =
        steps.iter().copied().find(|(factor, _)| rounded(value / factor).abs() >= 1.0).unwrap_or(smallest);
    if value.abs() >= largest.0 * 1e6 {
        return spaced(format!("{:.3e}", value / factor), symbol);
    }
    // Whole bytes have no decimals.
    if symbol == "B" && (value / factor).fract() == 0.0 {
        return spaced(format!("{}", value / factor), symbol);
    }
    spaced(digits(value / factor), symbol)
}

fn prefixed(unit: &str) -> Vec<(f64, &'static str)> {
    let names: [&'static str; 6] = match unit {
        "FLOP/s" => ["PFLOP/s", "TFLOP/s", "GFLOP/s", "MFLOP/s", "kFLOP/s", "FLOP/s"],
        "FLOP" => ["PFLOP", "TFLOP", "GFLOP", "MFLOP", "kFLOP", "FLOP"],
        "Hz" => ["PHz", "THz", "GHz", "MHz", "kHz", "Hz"],
        _ => ["PB/s", "TB/s", "GB/s", "MB/s", "kB/s", "B/s"],
    };
    SI_STEPS.iter().map(|(factor, _)| *factor).zip(names).collect()
}

/// Things by the piece: the prefix stands at the number, `12.35k tokens/s`, for `ktokens` is no word.
fn counted(value: f64, unit: &str) -> String {
    if value.abs() < 1e5 {
        return spaced(plain(value), unit);
    }
    if value.abs() >= 1e18 {
        return spaced(format!("{value:.3e}"), unit);
    }
    let steps: Vec<(f64, &str)> = SI_STEPS.to_vec();
    let number = with_steps(value, &steps).replace(' ', "");
    spaced(number, unit)
}

/// A number without unit: whole ones as they are, others with four significant digits.
fn plain(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 {
        format!("{value}")
    } else if (1e-4..1e5).contains(&size) {
        digits(value)
    } else {
        format!("{value:.3e}")
    }
}

/// Four significant digits, as many of them after the point as it takes.
fn digits(value: f64) -> String {
    let size = rounded(value).abs();
    let decimals = if size == 0.0 { 0 } else { (3 - size.log10().floor() as i32).clamp(0, 8) };
    format!("{value:.*}", decimals as usize)
}

/// Rounded to four significant digits, so that 999.96 counts as 1000 when a unit is chosen.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn spaced(number: String, unit: &str) -> String {
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// A price with where and when it was read: `v5e: 1.2 USD an hour (on demand, us-west4), read 2026-09-27 at example.org`; and how
/// old it was, where that is too old.
#[must_use]
pub fn price(row: &PriceRow) -> String {
    let Price { device, per_hour, currency, terms, source, date } = &row.price;
    let old = format!("; that was {} days before the run: look whether it still holds", row.age_days);
    let old = if row.old { old.as_str() } else { "" };
    format!("{device}: {per_hour} {currency} an hour ({terms}), read {date} at {source}{old}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units_and_four_digits() {
        for (number, unit, expected) in [
            (0.012_345, "s", "12.35 ms"),
            (1.5e-7, "s", "150.0 ns"),
            (0.999_96, "s", "1.000 s"),
            (4.2e-5, "s", "42.00 us"),
            (75.31, "s", "75.31 s"),
            (3e-10, "s", "0.3000 ns"),
            (0.0, "s", "0 ns"),
            (512.0, "B", "512 B"),
            (1_610_612_736.0, "B", "1.500 GiB"),
            (8.42e10, "FLOP/s", "84.20 GFLOP/s"),
            (9.9999e8, "B/s", "1.000 GB/s"),
            (3.446e10, "FLOP", "34.46 GFLOP"),
            (1.98e9, "Hz", "1.980 GHz"),
            (1234.0, "tokens/s", "1234 tokens/s"),
            (12.345_67, "images/s", "12.35 images/s"),
            (123_456.0, "tokens/s", "123.5k tokens/s"),
            (0.853, "1", "0.8530"),
            (7.0, "1", "7"),
            (f64::NAN, "s", "-"),
            (f64::INFINITY, "B", "-"),
        ] {
            assert_eq!(quantity(number, unit), expected, "{number} {unit}");
        }
    }

    #[test]
    fn changes_have_a_sign_and_sensible_digits() {
        for (fraction, expected) in [
            (0.301, "+30.1 %"),
            (-0.004, "-0.4 %"),
            (0.0, "0.0 %"),
            (-0.0, "0.0 %"),
            (4.12, "+412 %"),
            (0.9996, "+100 %"),
            (0.0004, "+0.04 %"),
            (-0.000_01, "-<0.01 %"),
            (5e5, "+5.0e7 %"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(change(fraction), expected, "{fraction}");
        }
    }

    #[test]
    fn intervals_say_which_end_is_open() {
        let estimate = |lower, upper| Estimate { change: 0.3, lower, upper, confidence: 0.9 };
        assert_eq!(interval(&estimate(Some(0.28), Some(0.322))), "[+28.0 %, +32.2 %]");
        assert_eq!(interval(&estimate(None, Some(0.1))), "[-∞, +10.0 %]");
        assert_eq!(interval(&estimate(Some(-0.1), None)), "[-10.0 %, +∞]");
    }

    #[test]
    fn times_are_told_in_words() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a valid timestamp");
        let now = at("2026-08-14T09:30:59.5Z");
        assert_eq!(moment(now), "2026-08-14 09:30 UTC");
        assert_eq!(earlier(at("2026-08-11T09:00:00Z"), now), "3 days earlier");
        assert_eq!(earlier(at("2026-08-14T08:30:00Z"), now), "1 hour earlier");
        assert_eq!(earlier(at("2026-08-15T08:30:00Z"), now), "just before");
        assert_eq!(elapsed(at("2026-08-14T09:18:54Z"), now), "12 min 5 s");
    }

    #[test]
    fn dressing_up_touches_signs_and_spaces_only() {
        assert_eq!(typographic("-0.4 %"), "\u{2212}0.4\u{a0}%");
        assert_eq!(typographic("[-1.0 %, +2.0 %]"), "[\u{2212}1.0\u{a0}%, +2.0\u{a0}%]");
        assert_eq!(typographic(NOTHING), "–");
        assert_eq!(typographic("42.00 us"), "42.00\u{a0}µs");
    }

    #[test]
    fn spreads_and_shares() {
        assert_eq!(spread(0.98, 1.0, 1.02), "±2.0 %");
        assert_eq!(spread(0.0, 0.0, 0.0), "-");
        assert_eq!(share(0.9), "90 %");
        assert_eq!(share(0.025), "2.5 %");
        assert_eq!(plural(1, "launch", "launches"), "1 launch");
    }
}
