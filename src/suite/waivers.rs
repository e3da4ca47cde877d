//! `regrade-waivers.toml`: reading it with the suites' diagnostics, and the text of one more entry.
//!
//! People edit and review the file, so an entry is appended as text and nothing else is touched. Must not know which
//! regressions there are, nor what day it is.

use std::fmt::Write as _;
use std::path::Path;

use jiff::civil::Date;
use serde::Deserialize;

use crate::domain::{Metric, Waiver};
use crate::suite::at::At;
use crate::suite::error::{Problems, SuiteError};
use crate::suite::quantity;
use crate::suite::read::lists;

/// Its name, in the folder where regrade is started.
pub const FILE: &str = "regrade-waivers.toml";

/// What a new file begins with.
pub const PREAMBLE: &str = "\
# Known regressions that do not fail the gate, for review. `regrade accept` appends, people edit and remove.
# An entry covers the named case and metric up to the named change, and until the end of the named day (UTC).
";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    waiver: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    suite: Option<String>,
    case: At<String>,
    metric: Option<String>,
    change: At<toml::Value>,
    reason: At<String>,
    who: At<String>,
    until: Option<At<toml::Value>>,
}

/// Reads a file; `None` where there is none.
///
/// # Errors
/// With file, line and remedy for everything that is wrong in it.
pub fn load(path: &Path) -> Result<Option<Vec<Waiver>>, SuiteError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes)).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SuiteError::Read { path: path.to_owned(), source }),
    }
}

/// Reads a text; `origin` stands for the file name in errors.
///
/// # Errors
/// As [`load`].
pub fn parse(origin: &str, text: &str) -> Result<Vec<Waiver>, SuiteError> {
    let mut problems = Problems::default();
    let waivers = read(text, &mut problems);
    problems.into_error(origin, text).map_or(Ok(waivers), Err)
}

fn read(text: &str, problems: &mut Problems) -> Vec<Waiver> {
    let file: File = lists::<_, Entry>(text, problems).unwrap_or_default();
    file.waiver.into_iter().filter_map(|entry| waiver(entry, problems)).collect()
}

fn waiver(entry: Entry, problems: &mut Problems) -> Option<Waiver> {
    for (name, text) in [("case", &entry.case), ("reason", &entry.reason), ("who", &entry.who)] {
        if text.trim().is_empty() {
            problems.add(&text.span, format!("`{name}` is empty"), "a waiver is for review: say it".to_owned());
        }
    }
    let size = match &entry.change.value {
        toml::Value::String(text) => change(text),
        toml::Value::Float(fraction) if *fraction > -1.0 && *fraction != 0.0 && fraction.is_finite() => Ok(*fraction),
        other => Err(format!("`{other}` is no change")),
    };
    let last = entry.until.as_ref().map(|until| match &until.value {
        toml::Value::String(text) => text.parse::<Date>().map_err(|_| format!("`{text}` is no day")),
        toml::Value::Datetime(at) if at.time.is_none() => {
            at.to_string().parse().map_err(|_| format!("`{at}` is no day"))
        }
        other => Err(format!("`{other}` is no day")),
    });
    if let (Some(Err(what)), Some(until)) = (&last, &entry.until) {
        problems.add(&until.span, what.clone(), "write the last day that counts, such as 2026-12-31".to_owned());
    }
    match (size, last.transpose()) {
        (Err(what), _) => {
            let help = "write the change with its sign and a percent sign, such as \"+8%\"".to_owned();
            problems.add(&entry.change.span, what, help);
            None
        }
        (_, Err(_)) => None,
        (Ok(change), Ok(until)) => Some(Waiver {
            suite: entry.suite,
            case: entry.case.value.as_str().into(),
            metric: entry.metric.unwrap_or_else(|| Metric::LATENCY.to_owned()),
            change,
            reason: entry.reason.value,
            who: entry.who.value,
            until,
        }),
    }
}

/// Reads a change as people write it, `+8%`, `-3.5 %`; the result is a fraction.
///
/// # Errors
/// In words, when it is none, or says that nothing changed or that more was lost than there is.
pub fn change(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let (sign, size) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let fraction = sign * quantity::share(size.trim()).map_err(|_| format!("`{text}` is no change such as +8%"))?;
    if fraction == 0.0 || fraction <= -1.0 {
        return Err(format!("`{text}` is no change: it must differ from 0 % and be above -100 %"));
    }
    Ok(fraction)
}

/// A change as [`change`] reads it, rounded away from zero to a tenth of a percent.
#[must_use]
pub fn show_change(fraction: f64) -> String {
    let tenths = (fraction * 1000.0 - fraction.signum() * 1e-9).abs().ceil() * fraction.signum();
    format!("{:+.1}%", tenths / 10.0)
}

/// The text of an entry, to be appended to a file.
#[must_use]
pub fn entry(waiver: &Waiver) -> String {
    let mut text = String::from("\n[[waiver]]\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    let quoted = |words: &str| toml::Value::String(words.to_owned()).to_string();
    if let Some(suite) = &waiver.suite {
        line("suite", quoted(suite));
    }
    line("case", quoted(waiver.case.as_str()));
    line("metric", quoted(&waiver.metric));
    line("change", quoted(&show_change(waiver.change)));
    line("reason", quoted(&waiver.reason));
    line("who", quoted(&waiver.who));
    if let Some(until) = waiver.until {
        line("until", until.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiver() -> Waiver {
        Waiver {
            suite: Some("quickstart".to_owned()),
            case: "softmax/n=\"1\"@cpu".into(),
            metric: "latency".to_owned(),
            change: 0.08,
            reason: "first line\nsecond, with a \"quote\" and a \\".to_owned(),
            who: "Ada <ada@example.invalid>".to_owned(),
            until: Some("2026-12-31".parse().expect("a day")),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let open = Waiver { suite: None, until: None, change: -0.125, ..waiver() };
        let text = format!("{PREAMBLE}{}{}", entry(&waiver()), entry(&open));
        assert_eq!(parse("f", &text).expect("valid"), [waiver(), open]);
    }

    #[test]
    fn a_day_may_be_a_text_and_the_metric_may_be_left_out() {
        let text = "[[waiver]]\ncase = 'a@cpu'\nchange = 0.08\nreason = 'r'\nwho = 'w'\nuntil = '2026-12-31'\n";
        let read = parse("f", text).expect("valid");
        assert_eq!((read[0].metric.as_str(), read[0].until), ("latency", waiver().until));
    }

    #[test]
    fn mistakes_are_shown_with_their_line_and_remedy() {
        let good = "[[waiver]]\ncase = 'a'\nchange = '+8%'\nreason = 'r'\nwho = 'w'\n";
        for (text, line, words) in [
            ("[[waiver]]\ncase = 'a'\n", "f:1", "the key `change` is missing"),
            (&good.replace("+8%", "eight"), "f:3", "such as \"+8%\""),
            (&good.replace("'r'", "' '"), "f:4", "`reason` is empty"),
            (&format!("{good}until = 'soon'\n"), "f:6", "the last day that counts"),
            (&format!("{good}util = 2026-12-31\n"), "f:6", "did you mean `until`?"),
            (&good.replace("[[waiver]]", "[[waivers]]"), "f:1", "did you mean `waiver`?"),
            ("[[waiver\n", "f:1", "not valid TOML"),
        ] {
            let error = parse("f", text).expect_err(text).to_string();
            assert!(error.contains(line) && error.contains(words), "{text}\n{error}");
        }
    }

    #[test]
    fn changes_have_a_sign_and_a_percent_sign() {
        assert_eq!(change("+8%"), Ok(0.08));
        assert_eq!(change("8 %"), Ok(0.08));
        assert_eq!(change(" -3.5%"), Ok(-0.035));
        for wrong in ["8", "+0%", "-100%", "%", "+-8%", ""] {
            assert!(change(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (show_change(0.08), show_change(0.0801), show_change(-0.0801)),
            ("+8.0%".into(), "+8.1%".into(), "-8.1%".into())
        );
    }
}
