//! A table of prices: what an hour of each device costs, edited by people and read with the suites' diagnostics.
//!
//! Must not know which devices are here, nor what day it is.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, offset};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::Price;
use crate::hardware::tpu::Version;
use crate::suite::at::At;
use crate::suite::error::{Problems, SuiteError};
use crate::suite::read::lists;

/// An hour of a device costs less, in any currency.
const DEAREST: f64 = 1e9;
/// Characters of terms and of a source: they become a line of reports.
const LONGEST: usize = 300;

/// What devices cost. People edit this: prices change, and yours are others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table of prices")]
#[schemars(title = "regrade prices")]
pub(super) struct PricesFile {
    /// Code of the currency of all of them, such as `USD`.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    currency: At<String>,
    /// The prices, each written as `[[price]]`.
    #[serde(default)]
    price: Vec<PriceTable>,
}

/// What an hour of one device costs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a price")]
struct PriceTable {
    /// The device exactly as its driver or PJRT names it (`NVIDIA H100 80GB HBM3`; of the CPU backend the processor's own name), or
    /// a TPU by its version (`v5e`): the price of a chip then, of which a device of PJRT may be half.
    device: At<String>,
    /// What an hour of one costs.
    #[schemars(with = "f64", range(min = 0))]
    per_hour: At<toml::Value>,
    /// What is paid for: on demand or reserved, where, as a part of what.
    terms: At<String>,
    /// Where the price was read.
    source: At<String>,
    /// The day on which it was read there, such as `2026-08-31`.
    #[schemars(with = "String")]
    date: At<toml::Value>,
}

/// Reads the table that a suite in `folder` names. `None` where the file cannot be read, which is noted at the name.
///
/// # Errors
/// With file, line and remedy for everything that is wrong in it.
pub(super) fn beside(
    named: &At<String>,
    folder: &Path,
    problems: &mut Problems,
) -> Result<Option<Vec<Price>>, SuiteError> {
    let path = folder.join(&named.value);
    // The day begins first in the far east.
    let latest = Timestamp::now().to_zoned(TimeZone::fixed(offset(14))).date();
    match std::fs::read(&path) {
        Ok(bytes) => parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes), latest).map(Some),
        Err(error) => {
            let help = "a path of prices starts from the folder of the suite".to_owned();
            problems.add(&named.span, format!("cannot read the prices {}: {error}", path.display()), help);
            Ok(None)
        }
    }
}

/// Reads a text; `origin` stands for the file name in errors. No price was read after the day `latest`.
fn parse(origin: &str, text: &str, latest: Date) -> Result<Vec<Price>, SuiteError> {
    let mut problems = Problems::default();
    let prices = read(text, latest, &mut problems);
    problems.into_error(origin, text).map_or(Ok(prices), Err)
}

fn read(text: &str, latest: Date, problems: &mut Problems) -> Vec<Price> {
    let Some(file) = lists::<PricesFile, PriceTable>(text, problems) else { return Vec::new() };
    if !is_currency(&file.currency) {
        let help = "write the three letters of its code, such as \"USD\"".to_owned();
        problems.add(&file.currency.span, format!("`{}` is no currency", file.currency.value), help);
    }
    if file.price.is_empty() {
        let help = "add a `[[price]]` with `device`, `per_hour`, `terms`, `source` and `date`".to_owned();
        problems.add(&file.currency.span, "there is no price in this table", help);
    }
    let mut devices = BTreeSet::new();
    for entry in &file.price {
        if !devices.insert(entry.device.as_str()) {
            let help = "keep the price that you pay; several terms are several tables".to_owned();
            problems.add(&entry.device.span, format!("`{}` has two prices", entry.device.value), help);
        }
    }
    file.price.into_iter().filter_map(|entry| price(entry, &file.currency, latest, problems)).collect()
}

/// Whether a text is the code of a currency.
pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.chars().all(|c| c.is_ascii_uppercase())
}

fn price(entry: PriceTable, currency: &str, latest: Date, problems: &mut Problems) -> Option<Price> {
    for (name, text) in [("device", &entry.device), ("terms", &entry.terms), ("source", &entry.source)] {
        if text.trim().is_empty() {
            let help = "reports show it, so that a cost can be looked up".to_owned();
            problems.add(&text.span, format!("`{name}` is empty"), help);
        }
        if text.chars().count() > LONGEST {
            let help = format!("it becomes a line of reports: use at most {LONGEST} characters");
            problems.add(&text.span, format!("`{name}` is too long"), help);
        }
    }
    if let Some(version) = Version::of_kind(&entry.device) {
        let help =
            format!("write `{}`: TPUs are priced by the chip, and a device of PJRT may be half of one", version.name());
        problems.add(&entry.device.span, format!("`{}` is a device of PJRT", entry.device.value), help);
    }
    let per_hour = match &entry.per_hour.value {
        toml::Value::Float(number) => Some(*number),
        toml::Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    let per_hour = per_hour.filter(|number| *number > 0.0 && *number < DEAREST);
    if per_hour.is_none() {
        let help = format!("write a number above zero and below {DEAREST:e}, such as 4.29, in {currency}");
        problems.add(&entry.per_hour.span, format!("`{}` is no price", entry.per_hour.value), help);
    }
    let date: Option<Date> = match &entry.date.value {
        toml::Value::String(text) => text.parse().ok(),
        toml::Value::Datetime(at) if at.time.is_none() => at.to_string().parse().ok(),
        _ => None,
    };
    if date.is_none() {
        let help = "write the day on which you read the price, such as 2026-08-31".to_owned();
        problems.add(&entry.date.span, format!("`{}` is no day", entry.date.value), help);
    }
    if let Some(date) = date.filter(|date| *date > latest) {
        let help = "write the day on which you read the price, and see that this machine's clock is right".to_owned();
        problems.add(&entry.date.span, format!("{date} is yet to come"), help);
    }
    Some(Price {
        device: entry.device.value,
        per_hour: per_hour?,
        currency: currency.to_owned(),
        terms: entry.terms.value,
        source: entry.source.value,
        date: date?,
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const LATEST: Date = date(2026, 10, 1);
    const H100: &str = "currency = \"USD\"\n[[price]]\ndevice = \"NVIDIA H100 80GB HBM3\"\nper_hour = 4.29\n\
        terms = \"on demand\"\nsource = \"a page\"\ndate = 2026-09-20\n";

    #[test]
    fn a_table_is_read() {
        let more = "[[price]]\ndevice = \"v5e\"\nper_hour = 1\nterms = \"x\"\nsource = \"y\"\ndate = \"2025-02-01\"\n";
        let prices = parse("prices.toml", &format!("{H100}{more}"), LATEST).expect("nothing is wrong with it");
        let told: Vec<(&str, f64, &str, Date)> = prices
            .iter()
            .map(|price| (price.device.as_str(), price.per_hour, price.currency.as_str(), price.date))
            .collect();
        assert_eq!(
            told,
            [("NVIDIA H100 80GB HBM3", 4.29, "USD", date(2026, 9, 20)), ("v5e", 1.0, "USD", date(2025, 2, 1))]
        );
    }

    #[test]
    fn mistakes_are_shown_with_their_line_and_remedy() {
        for (from, to, line, message, help) in [
            ("\"USD\"", "\"dollars\"", 1, "`dollars` is no currency", "such as \"USD\""),
            ("4.29", "\"4.29\"", 4, "is no price", "a number above zero"),
            ("4.29", "1e308", 4, "is no price", "below 1e9, such as 4.29"),
            ("4.29", "-1", 4, "`-1` is no price", "in USD"),
            ("4.29", "0.0", 4, "is no price", ""),
            ("2026-09-20", "\"yesterday\"", 7, "is no day", "2026-08-31"),
            ("2026-09-20", "2026-09-20T10:00:00Z", 7, "is no day", ""),
            ("2026-09-20", "2026-10-02", 7, "2026-10-02 is yet to come", "this machine's clock"),
            ("NVIDIA H100 80GB HBM3", "TPU v5 lite", 3, "is a device of PJRT", "write `v5e`"),
            ("\"a page\"", "\" \"", 6, "`source` is empty", ""),
            ("date =", "dat =", 7, "unknown key `dat`", "did you mean `date`?"),
            ("date = 2026-09-20", "", 2, "the key `date` is missing", "add `date`"),
            ("[[price]]", "[[prise]]", 2, "unknown key `prise`", "did you mean `price`?"),
        ] {
            let error = parse("prices.toml", &H100.replace(from, to), LATEST).expect_err(to);
            let SuiteError::Invalid(list) = &error else { panic!("{error}") };
            let found = list.iter().any(|one| {
                one.line == line
                    && one.message.contains(message)
                    && one.help.as_deref().unwrap_or_default().contains(help)
            });
            assert!(found, "{to}: wanted line {line}, `{message}`, `{help}`, got\n{error}");
        }
        let twice = H100.replace("currency = \"USD\"\n", "");
        let error = parse("prices.toml", &format!("{H100}{twice}"), LATEST).expect_err("two").to_string();
        assert!(error.contains("has two prices") && error.contains("prices.toml:9:"), "{error}");
        let error = parse("prices.toml", "currency = \"USD\"\n", LATEST).expect_err("none").to_string();
        assert!(error.contains("there is no price"), "{error}");
    }
}
