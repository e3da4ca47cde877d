//! Why a suite is refused: problems found while reading, turned into diagnostics that show the offending line.
//!
//! Must not know the suite format.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// How many diagnostics are printed; the rest are counted.
const SHOWN: usize = 20;

/// Why a suite is refused, or why nothing of it can be planned.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("cannot read suite {}: {source}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The text is no valid suite: one diagnostic a problem, in file order, never empty.
    #[error("{}", render(.0))]
    Invalid(Vec<Diagnostic>),
    /// The selection matches no case.
    #[error("{message}\nhelp: {help}")]
    NothingSelected {
        /// What was asked for.
        message: String,
        /// What to ask for instead.
        help: String,
    },
}

/// One problem of a suite text. Its `Display` is the rendered form, without colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// File name, or what stands for it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole offending line.
    pub text: String,
    /// The offending bytes of [`Diagnostic::text`].
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snippet = Snippet::source(self.text.as_str())
            .line_start(self.line)
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(self.span.clone()));
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        f.write_str(&Renderer::plain().render(&[group]))
    }
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let mut parts: Vec<String> = diagnostics.iter().take(SHOWN).map(ToString::to_string).collect();
    if let [first, _, ..] = diagnostics {
        let hidden = diagnostics.len().saturating_sub(SHOWN);
        let more = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
        parts.push(format!("{} errors in {}{more}", diagnostics.len(), first.file));
    }
    parts.join("\n\n")
}

/// A problem at a place of the text that is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

/// Problems gathered while reading, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem at a byte range of the text.
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.0.push(Problem { span: span.clone(), message: message.into(), help: help.into() });
    }

    /// Whether nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error for a text with these problems; nothing where there are none.
    pub(super) fn into_error(mut self, file: &str, text: &str) -> Option<SuiteError> {
        // Defaults are checked once a benchmark, so one problem may have been noted many times.
        self.0.sort_by(|a, b| (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message)));
        self.0.dedup();
        let lines = line_starts(text);
        let diagnostics: Vec<Diagnostic> =
            self.0.into_iter().map(|problem| locate(file, text, &lines, problem)).collect();
        (!diagnostics.is_empty()).then_some(SuiteError::Invalid(diagnostics))
    }
}

/// Where each line begins, so that locating many problems in a long text stays cheap.
fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
}

fn locate(file: &str, text: &str, lines: &[usize], problem: Problem) -> Diagnostic {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    // A problem at the very end ("expected `=`") belongs to the last line that says anything.
    let start = floor(problem.span.start).min(text.trim_end().len());
    let end = floor(problem.span.end).max(start);
    let line = lines.partition_point(|&line_start| line_start <= start).max(1);
    let line_start = lines[line - 1];
    let line_end = lines.get(line).map_or(text.len(), |&next| next - 1);
    let line_text = text[line_start..line_end].trim_end_matches('\r');
    let within = |at: usize| (at - line_start).min(line_text.len());
    Diagnostic {
        file: file.to_owned(),
        line,
        column: text[line_start..start].chars().count() + 1,
        text: line_text.to_owned(),
        span: within(start)..within(end),
        message: problem.message,
        help: problem.help,
    }
}
