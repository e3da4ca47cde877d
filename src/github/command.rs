//! What a comment on a pull request asks for: one line that begins with `/regrade`; everything else is for people.
//!
//! Whoever may comment writes this text. It is cut into words of known alphabets here, and what does not fit is a
//! [`Mistake`], so that nothing further on has to be careful with it. Must not know who wrote it, nor what will be done.

use crate::domain::{Direction, Metric};
use crate::suite::did_you_mean;
use crate::suite::waivers;

/// Characters of a case's id or of a glob.
pub const MOST_CASE: usize = 200;
/// Characters of a metric's name.
const MOST_METRIC: usize = 64;
/// Characters of a reason: it is repeated in the thread, and copied into a file for review.
pub const MOST_REASON: usize = 400;
/// The largest change that can be accepted, a fraction: what takes eleven times as long is no known regression.
pub const MOST_CHANGE: f64 = 10.0;
/// Digits of the shortest hash that names a commit, and of a full one.
const HASH: std::ops::RangeInclusive<usize> = 7..=40;
/// What a command begins with.
const WORD: &str = "/regrade";
const COMMANDS: [&str; 4] = ["compare", "rerun", "accept", "help"];

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Measure everything.
    Compare {
        /// The commit that was read: 7 to 40 hexadecimal digits in lower case.
        at: Option<String>,
    },
    /// Measure some cases once more.
    Rerun {
        /// A case's id or a glob; [`is_glob`] holds.
        case: String,
        /// As in [`Asked::Compare`].
        at: Option<String>,
    },
    /// Accept a known change of this pull request.
    Accept(Accept),
    /// Say what can be asked for.
    Help,
    /// It cannot be understood.
    Mistake(Mistake),
}

/// A change that somebody accepts.
#[derive(Debug, Clone, PartialEq)]
pub struct Accept {
    /// The case; [`is_case`] holds.
    pub case: String,
    /// The metric; [`is_metric`] holds.
    pub metric: String,
    /// The most that is accepted, a fraction of the base in the metric's own direction; absent: what was measured.
    pub change: Option<f64>,
    /// As in [`Asked::Compare`].
    pub at: Option<String>,
    /// Why: one line, not empty, at most [`MOST_REASON`] characters.
    pub reason: String,
}

/// What is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The word that is meant, as it was written: it must be escaped.
    pub word: Option<String>,
    /// What is wrong with it, and what would be right; our own words.
    pub what: String,
}

/// A mistake about a word.
fn about<T>(word: &str, what: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { word: Some(word.to_owned()), what: what.into() })
}

/// A mistake about what is not there.
fn lacks<T>(what: &str) -> Result<T, Mistake> {
    Err(Mistake { word: None, what: what.to_owned() })
}

/// A case's id as a command may name it: ASCII letters, digits and `/ = @ . _ - + , : %`, none of which means anything to
/// a shell, to Markdown inside backticks, or to a line of `GITHUB_OUTPUT`.
#[must_use]
pub fn is_case(text: &str) -> bool {
    is_glob(text) && !text.contains(['*', '?'])
}

/// The same, with `*` and `?`. It begins with none of the other characters, so that it is no option of a program.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*?".contains(&byte);
    text.len() <= MOST_CASE
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || b"/=@._-+,:%".contains(&byte))
}

/// A metric's name as a command may name it.
#[must_use]
pub fn is_metric(text: &str) -> bool {
    (1..=MOST_METRIC).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A login that may stand in a path. Accounts that a company manages have an underscore.
#[must_use]
pub fn is_login(text: &str) -> bool {
    (1..=39).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A reason that can be repeated: one line with something in it, that reads as it is stored, and neither ends nor begins
/// a hidden part.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !text.trim().is_empty()
        && text.chars().count() <= MOST_REASON
        && !text.contains(odd)
        && !["<!--", "-->", "--!>"].iter().any(|mark| text.contains(mark))
}

/// Whether a change can be accepted of this metric: worse in its own direction, and within bounds.
#[must_use]
pub fn is_change(change: f64, metric: &str) -> bool {
    let worse = match direction(metric) {
        Direction::LowerIsBetter => change > 0.0,
        Direction::HigherIsBetter => change < 0.0,
        Direction::Unknown => change != 0.0,
    };
    worse && change > -1.0 && change <= MOST_CHANGE
}

fn direction(metric: &str) -> Direction {
    Metric::standard(metric).map_or(Direction::Unknown, |metric| metric.direction)
}

/// Reads a comment; `None` where it is no command.
#[must_use]
pub fn parse(body: &str) -> Option<Asked> {
    let mut words = line(body)?.split_whitespace().skip(1);
    let Some(verb) = words.next() else { return Some(Asked::Help) };
    let words: Vec<&str> = words.collect();
    let asked = match verb.to_ascii_lowercase().as_str() {
        "compare" => compare(&words),
        "rerun" => rerun(&words),
        "accept" => accept(&words),
        "help" => Ok(Asked::Help),
        _ => about(verb, format!("is none of the commands; {}", did_you_mean(verb, COMMANDS, "commands"))),
    };
    Some(asked.unwrap_or_else(Asked::Mistake))
}

/// The command's line. What is shown as code or not shown at all is no command: nobody who reads the thread would take
/// it for one.
fn line(body: &str) -> Option<&str> {
    let mut fence: Option<&str> = None;
    let mut hidden = false;
    for line in body.lines() {
        let text = line.trim_start_matches(' ');
        if hidden {
            hidden = !line.contains("-->");
            continue;
        }
        if let Some(mark) = fence {
            let rest = text.trim_end().strip_prefix(mark);
            if rest.is_some_and(|rest| rest.chars().all(|c| mark.starts_with(c))) {
                fence = None;
            }
            continue;
        }
        if line.len() - text.len() > 3 {
            continue;
        }
        if let Some(rest) = text.strip_prefix("<!--") {
            hidden = !rest.contains("-->");
        } else if text.starts_with("```") || text.starts_with("~~~") {
            let first = text.chars().next()?;
            let length = text.chars().take_while(|c| *c == first).count();
            fence = Some(&text[..length]);
        } else if text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(WORD)) {
            return Some(text);
        }
    }
    None
}

fn compare(words: &[&str]) -> Result<Asked, Mistake> {
    Ok(Asked::Compare { at: at_end(words)? })
}

fn rerun(words: &[&str]) -> Result<Asked, Mistake> {
    let Some((case, rest)) = words.split_first() else {
        return lacks("which case? Give its id or a glob, such as `rerun gemm*@cpu`");
    };
    let case = bare(case);
    if !is_glob(case) {
        return about(
            case,
            "is no case's id or glob here: letters, digits and `/=@._-+,:%`, with `?` for any other character and `*` for several",
        );
    }
    Ok(Asked::Rerun { case: case.to_owned(), at: at_end(rest)? })
}

/// A word without the backticks that a comment shows it in.
fn bare(word: &str) -> &str {
    let inner = word.trim_matches('`');
    let marks = "`".repeat((word.len() - inner.len()) / 2);
    if word.strip_prefix(&*marks).and_then(|word| word.strip_suffix(&*marks)) == Some(inner) { inner } else { word }
}

fn accept(words: &[&str]) -> Result<Asked, Mistake> {
    let is = |word: &str, keyword: &str| word.eq_ignore_ascii_case(keyword);
    let keyword = |word: &str| ["up", "at", "because"].iter().any(|known| is(word, known));
    let Some((case, mut rest)) = words.split_first() else {
        return lacks("which case? As in `accept gemm/m=256@cpu up to 8% because of checked arithmetic`");
    };
    let case = bare(case);
    if !is_case(case) {
        return about(case, "is no case's id here: exactly one, without `*` and `?`, as the report spells it");
    }
    let mut metric = Metric::LATENCY;
    if let [word, after @ ..] = rest
        && !keyword(word)
    {
        let word = bare(word);
        if !is_metric(word) {
            return about(word, "is no metric's name, such as `latency` or `peak_memory`");
        }
        (metric, rest) = (word, after);
    }
    // Each once, in any order.
    let (mut change, mut at) = (None, None);
    loop {
        match rest {
            [up, to, after @ ..] if change.is_none() && is(up, "up") && is(to, "to") => {
                // `8%` and `8 %` alike.
                let (size, after) = match after {
                    [number, "%", after @ ..] => (format!("{number}%"), after),
                    [number, after @ ..] => ((*number).to_owned(), after),
                    [] => return lacks("up to how much? As in `up to 8%`"),
                };
                (change, rest) = (Some(bound(&size, metric)?), after);
            }
            [word, commit, after @ ..] if at.is_none() && is(word, "at") => (at, rest) = (Some(hash(commit)?), after),
            _ => break,
        }
    }
    let reason = match rest {
        [because, reason @ ..] if is(because, "because") => reason.join(" "),
        [word, ..] => {
            return about(word, "is not expected here; after the case: metric, `up to 8%`, `because` and why");
        }
        [] => return lacks("why? End with `because` and a reason"),
    };
    if !is_reason(&reason) {
        return lacks(&format!(
            "the reason must say something, in at most {MOST_REASON} characters and without HTML comments"
        ));
    }
    Ok(Asked::Accept(Accept { case: case.to_owned(), metric: metric.to_owned(), change, at, reason }))
}

/// How much is accepted. Without a sign it is what is worse for the metric; a sign must not contradict that.
fn bound(size: &str, metric: &str) -> Result<f64, Mistake> {
    let Ok(change) = waivers::change(size) else { return about(size, "is no size such as 8%") };
    let signed = size.starts_with(['+', '-']);
    let change = if signed || direction(metric) != Direction::HigherIsBetter { change } else { -change };
    if is_change(change, metric) {
        return Ok(change);
    }
    match direction(metric) {
        Direction::LowerIsBetter => {
            about(size, "cannot be accepted: more is worse here, as in `up to 8%`, at most 1000%")
        }
        Direction::HigherIsBetter => {
            about(size, "cannot be accepted: less is worse here, as in `up to 8%`, below 100%")
        }
        Direction::Unknown => about(size, "cannot be accepted: above -100%, and at most 1000%"),
    }
}

/// `at COMMIT` and nothing after it, or nothing.
fn at_end(words: &[&str]) -> Result<Option<String>, Mistake> {
    match words {
        [] => Ok(None),
        [at] if at.eq_ignore_ascii_case("at") => lacks("at which commit? Give its hash after `at`"),
        [at, commit] if at.eq_ignore_ascii_case("at") => hash(commit).map(Some),
        [at, _, word, ..] if at.eq_ignore_ascii_case("at") => about(word, "is not expected after the commit"),
        [word, ..] => about(word, "is not expected here; only `at` and a commit's hash may follow"),
    }
}

fn hash(text: &str) -> Result<String, Mistake> {
    let text = bare(text);
    if HASH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    about(text, "is no commit's hash: 7 to 40 hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn some(case: &str, at: Option<&str>) -> Asked {
        Asked::Rerun { case: case.to_owned(), at: at.map(str::to_owned) }
    }

    fn accepted(text: &str) -> Accept {
        match parse(text) {
            Some(Asked::Accept(accept)) => accept,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn mistake(text: &str) -> String {
        match parse(text) {
            Some(Asked::Mistake(Mistake { word, what })) => format!("{} {what}", word.unwrap_or_default()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_can_be_asked_for() {
        assert_eq!(parse("/regrade compare"), Some(Asked::Compare { at: None }));
        let at = Some(SHA.to_owned());
        assert_eq!(parse(&format!("/regrade compare at {SHA}")), Some(Asked::Compare { at: at.clone() }));
        assert_eq!(parse(&format!("  /Regrade\tCOMPARE  At {}\r\n", SHA.to_uppercase())), Some(Asked::Compare { at }));
        assert_eq!(parse("/regrade rerun gemm*batch=8?@cpu"), Some(some("gemm*batch=8?@cpu", None)));
        assert_eq!(parse("/regrade rerun a/n=1@cpu at 0123456"), Some(some("a/n=1@cpu", Some("0123456"))));
        for help in ["/regrade", "/regrade help", "/regrade  HELP me"] {
            assert_eq!(parse(help), Some(Asked::Help), "{help}");
        }
    }

    #[test]
    fn the_first_line_that_people_see_counts_and_talk_does_not() {
        assert_eq!(parse("Thanks!\n\n/regrade rerun b@cpu\n/regrade compare\n"), Some(some("b@cpu", None)));
        for talk in [
            "",
            "regrade compare",
            "/regraded compare",
            "please /regrade compare",
            "> /regrade compare",
            "`/regrade compare`",
            "    /regrade compare",
            "```\n/regrade compare\n```",
            "~~~~ sh\n~~~\n/regrade compare\n~~~~",
            "```\n/regrade compare",
            "<!--\n/regrade compare\n-->",
        ] {
            assert_eq!(parse(talk), None, "{talk}");
        }
        assert_eq!(parse("```\n/regrade compare\n```\n/regrade rerun c@cpu"), Some(some("c@cpu", None)));
        assert_eq!(parse("<!-- a -->\n/regrade rerun c@cpu"), Some(some("c@cpu", None)));
    }

    #[test]
    fn an_acceptance_names_case_metric_size_and_reason() {
        let all = accepted("/regrade accept gemm/m=1@cpu peak_memory up to 8 % because of  a cache");
        assert_eq!((all.case.as_str(), all.metric.as_str(), all.change), ("gemm/m=1@cpu", "peak_memory", Some(0.08)));
        assert_eq!(all.reason, "of a cache");
        let least = accepted("/regrade ACCEPT a@cpu BECAUSE why not");
        assert_eq!((least.metric.as_str(), least.change, least.at), ("latency", None, None));
        let at = accepted(&format!("/regrade accept a@cpu at {SHA} because r"));
        assert_eq!(at.at.as_deref(), Some(SHA));
        for order in [format!("up to 8% at {SHA}"), format!("at {SHA} up to 8 %"), format!("AT `{SHA}` Up To 8%")] {
            let both = accepted(&format!("/regrade accept a@cpu {order} because at up to"));
            assert_eq!((both.at.as_deref(), both.change, both.reason.as_str()), (Some(SHA), Some(0.08), "at up to"));
        }
        mistake("/regrade accept a@cpu up to 8% up to 9% because r");
        mistake(&format!("/regrade accept a@cpu at {SHA} at {SHA} because r"));
    }

    #[test]
    fn what_a_comment_shows_in_backticks_is_what_it_names() {
        assert_eq!(parse("/regrade rerun `gemm*@cpu`"), Some(some("gemm*@cpu", None)));
        assert_eq!(parse("/regrade rerun ``a@cpu`` at `0123456`"), Some(some("a@cpu", Some("0123456"))));
        let both = accepted("/regrade accept `a@cpu` `peak_memory` up to 8% because r");
        assert_eq!((both.case.as_str(), both.metric.as_str()), ("a@cpu", "peak_memory"));
        for odd in ["`a@cpu", "a@cpu`", "``a@cpu`", "`a`b`", "`", "``", "`id`;id|id"] {
            mistake(&format!("/regrade rerun {odd}"));
        }
    }

    #[test]
    fn a_size_is_what_is_worse_for_the_metric() {
        for (words, change) in [
            ("latency up to 8%", 0.08),
            ("latency up to +8%", 0.08),
            ("up to 0.5%", 0.005),
            ("throughput up to 8%", -0.08),
            ("throughput up to -8%", -0.08),
            ("accuracy up to 8%", 0.08),
            ("accuracy up to -8%", -0.08),
        ] {
            assert_eq!(accepted(&format!("/regrade accept a@cpu {words} because r")).change, Some(change), "{words}");
        }
        for words in [
            "up to -8%",
            "throughput up to +8%",
            "throughput up to 100%",
            "up to 1001%",
            "up to 0%",
            "up to 8",
            "up to 1e3%",
        ] {
            mistake(&format!("/regrade accept a@cpu {words} because r"));
        }
        mistake(&format!("/regrade accept a@cpu up to {}% because r", "9".repeat(400)));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (text, words) in [
            ("/regrade comprae", "comprae is none of the commands; did you mean `compare`?"),
            ("/regrade reruns", "did you mean `rerun`"),
            ("/regrade run", "known commands: compare, rerun, accept, help"),
            ("/regrade compare now", "now is not expected here"),
            ("/regrade compare at", "at which commit?"),
            ("/regrade compare at HEAD", "HEAD is no commit's hash"),
            ("/regrade compare at 0123456 please", "please is not expected after the commit"),
            ("/regrade rerun", "which case?"),
            ("/regrade rerun a;b", "a;b is no case's id or glob"),
            ("/regrade rerun --gate", "--gate is no case's id or glob"),
            ("/regrade rerun $(id)", "$(id) is no case's id or glob"),
            ("/regrade accept gemm* because r", "gemm* is no case's id"),
            ("/regrade accept a@cpu", "End with `because`"),
            ("/regrade accept a@cpu because", "the reason must say something"),
            ("/regrade accept a@cpu because --> <!-- x", "without HTML comments"),
            ("/regrade accept a@cpu up to", "up to how much?"),
            ("/regrade accept a@cpu up 8% because r", "up is not expected here"),
            ("/regrade accept a@cpu latency 8% because r", "8% is not expected here"),
            ("/regrade accept a@cpu la$ because r", "la$ is no metric's name"),
        ] {
            let said = mistake(text);
            assert!(said.contains(words), "{text}: {said}");
        }
        mistake(&format!("/regrade accept a@cpu because {}", "x".repeat(MOST_REASON + 1)));
        mistake(&format!("/regrade rerun {}", "x".repeat(MOST_CASE + 1)));
    }

    fn words() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "/regrade", "compare", "rerun", "accept", "at", "up", "to", "8%", "%", "because", "a@cpu", "*", "latency",
            "0123456", "`a@cpu`", "`", "```", "~~~", "<!--", "-->", "\n", "\r\n", " ", "é", "\u{0}", "\u{202e}",
            "@all", "=", "::",
        ]);
        prop::collection::vec(prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<String>()], 0..14)
            .prop_map(|words| words.join(" "))
    }

    proptest! {
        /// No text panics, and what comes out is of the alphabets that everything further on relies on.
        #[test]
        fn no_text_gets_out_of_its_alphabet(text in prop_oneof![any::<String>(), words(), words().prop_map(|words| format!("/regrade {words}"))]) {
            let is_hash = |at: &Option<String>| at.as_ref().is_none_or(|at| hash(at).as_ref() == Ok(at));
            match parse(&text) {
                None | Some(Asked::Help | Asked::Mistake(_)) => {}
                Some(Asked::Compare { at }) => prop_assert!(is_hash(&at)),
                Some(Asked::Rerun { case, at }) => prop_assert!(is_glob(&case) && is_hash(&at)),
                Some(Asked::Accept(Accept { case, metric, change, at, reason })) => {
                    prop_assert!(is_case(&case) && is_metric(&metric) && is_hash(&at) && is_reason(&reason));
                    prop_assert!(change.is_none_or(|change| is_change(change, &metric)));
                }
            }
        }
    }
}
