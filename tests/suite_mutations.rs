//! Suites through the public interface: every committed suite parses, every fixture does what its folder says, and
//! a thousand mutated texts are accepted or refused with a place, never with a panic.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use regrade::suite::{Suite, SuiteError};

const BACKENDS: &[&str] = &["cpu", "nvidia", "xla:cpu", "xla:cuda", "xla:rocm", "xla:oneapi", "xla:tpu", "xla:compile"];

fn suites_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no suites", folder.display());
    paths
}

#[test]
fn every_committed_suite_is_valid() {
    for path in suites_in("suites").into_iter().chain(suites_in("tests/fixtures/suites/valid")) {
        let suite = Suite::load(&path, BACKENDS).unwrap_or_else(|error| panic!("{error}"));
        assert!(!suite.cases.is_empty());
        assert_eq!(suite.info.name, path.file_stem().unwrap().to_str().unwrap(), "named as its file");
    }
}

#[test]
fn every_suite_users_copy_from_names_the_schema() {
    for path in suites_in("suites") {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().next(), Some("#:schema ./suite.schema.json"), "{}", path.display());
    }
}

#[test]
fn every_invalid_fixture_is_refused_with_its_place() {
    for path in suites_in("tests/fixtures/suites/invalid") {
        let error = Suite::load(&path, BACKENDS).expect_err(&path.display().to_string());
        assert_names_a_line(&error, &path.display().to_string());
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let error = Suite::load(&missing, BACKENDS).unwrap_err().to_string();
    assert!(error.contains("missing.toml"), "{error}");

    let binary = folder.path().join("binary.toml");
    fs::write(&binary, b"schema_version = 1\nname = \"\xff\xfe\"\n").unwrap();
    let error = Suite::load(&binary, BACKENDS).unwrap_err().to_string();
    assert!(error.contains("not UTF-8") && error.contains("binary.toml:2:"), "{error}");
}

fn assert_names_a_line(error: &SuiteError, file: &str) {
    let SuiteError::Invalid(diagnostics) = error else { panic!("not about the text: {error}") };
    let text = error.to_string();
    let first = diagnostics.first().expect("a rejection has a reason");
    assert!(first.line >= 1 && first.column >= 1);
    assert!(text.contains(&format!("{file}:{}:", first.line)), "no place in:\n{text}");
    assert!(diagnostics.iter().all(|diagnostic| !diagnostic.message.is_empty()));
}

/// One change to a text, by positions in thousandths of its length, so that shrinking keeps its meaning.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Delete(usize, usize),
    Duplicate(usize, usize),
    SwapLines(usize, usize),
    DropLine(usize),
    ReplaceToken(usize, String),
    Insert(usize, String),
}

/// Words and values that are at home somewhere in a suite, or nowhere.
const TOKENS: &[&str] = &[
    "1",
    "0",
    "-1",
    "9223372036854775807",
    "99999999999999999999",
    "1e400",
    "nan",
    "inf",
    "0.5",
    "true",
    "\"\"",
    "\"cpu\"",
    "\"2%\"",
    "\"3s\"",
    "\"40 GiB\"",
    "\"é\"",
    "[]",
    "{}",
    "[[]]",
    "[1, 1]",
    "{ from = 1, to = 9, step = 0 }",
    "{ from = 1, to = 9223372036854775807, step = 1 }",
    "{ from = 5, to = 1, factor = 2 }",
    "1979-05-27",
    "name",
    "model",
    "operator",
    "command",
    "axes",
    "zip",
    "when",
    "benchmark",
    "[benchmark]",
    "[[benchmark]]",
    "thresholds",
    "\"gemm\"",
    "\"gpt2\"",
    "'memory >= \"x\"'",
    "'é < 1'",
    "\"\\u0000\"",
    "\"\"\"\n\n\"\"\"",
    "{batch}",
    "\u{2028}",
    "\u{feff}",
    "\r\n",
    "#",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = || 0..1000usize;
    let token = || proptest::sample::select(TOKENS).prop_map(str::to_owned);
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        (place(), 1..40usize).prop_map(|(at, len)| Mutation::Delete(at, len)),
        (place(), 1..80usize).prop_map(|(at, len)| Mutation::Duplicate(at, len)),
        (place(), place()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        place().prop_map(Mutation::DropLine),
        (place(), token()).prop_map(|(at, token)| Mutation::ReplaceToken(at, token)),
        (place(), token()).prop_map(|(at, token)| Mutation::Insert(at, token)),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = |place: usize| place * bytes.len() / 1000;
    let line = |place: usize| place * lines.len() / 1000;
    match mutation {
        _ if text.is_empty() => {}
        Mutation::Flip(place, byte) => {
            let at = at(*place);
            bytes[at] = *byte;
        }
        Mutation::Delete(place, len) => {
            let at = at(*place);
            bytes.drain(at..(at + len).min(bytes.len()));
        }
        Mutation::Duplicate(place, len) => {
            let at = at(*place);
            let part = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Mutation::SwapLines(a, b) => {
            let (a, b) = (line(*a), line(*b));
            lines.swap(a, b);
            return lines.concat();
        }
        Mutation::DropLine(place) => {
            lines.remove(line(*place));
            return lines.concat();
        }
        Mutation::ReplaceToken(place, token) => {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'"' | b'%');
            let start = at(*place);
            let start = bytes[..start].iter().rposition(|byte| !is_part(byte)).map_or(0, |before| before + 1);
            let end = bytes[start..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |len| start + len);
            bytes.splice(start..end, token.bytes());
        }
        Mutation::Insert(place, token) => {
            let at = at(*place);
            bytes.splice(at..at, token.bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn valid_texts() -> Vec<String> {
    let paths = suites_in("suites").into_iter().chain(suites_in("tests/fixtures/suites/valid"));
    paths.map(|path| fs::read_to_string(path).expect("a suite is readable")).collect()
}

proptest! {
    // Failures shrink to a text one can add as a fixture; regression files would only repeat that.
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_suites_are_accepted_or_refused_with_a_place(
        text in proptest::sample::select(valid_texts()),
        mutations in proptest::collection::vec(mutation(), 1..6),
    ) {
        let text = mutations.iter().fold(text, |text, mutation| mutate(&text, mutation));
        match Suite::parse("mutated.toml", &text, BACKENDS) {
            Ok(suite) => prop_assert!(!suite.cases.is_empty()),
            Err(error) => assert_names_a_line(&error, "mutated.toml"),
        }
    }
}
