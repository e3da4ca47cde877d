//! What the bot writes into the thread. Every word of a stranger's is escaped here, or is of an alphabet that needs none.
//!
//! Must not know whom it may answer: that is decided.

use crate::cli::COMMENTS;
use crate::domain::{CaseId, Waiver};
use crate::github::accepted::AcceptedHere;
use crate::github::command::{Accept, Asked, Mistake};
use crate::render::{code, prose};
use crate::suite::waivers;

/// Characters of a word that was not understood that are repeated.
const WORD: usize = 60;
/// Digits of a commit's hash in a sentence.
const SHORT: usize = 10;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Markdown.
    pub(super) text: String,
    /// What is put on the comment, as the API spells it.
    pub(super) reaction: &'static str,
}

/// What can be asked for.
pub(super) fn help() -> Reply {
    Reply { text: usage(), reaction: "eyes" }
}

fn usage() -> String {
    format!(
        "In a comment here, on a line of its own:\n\n{}\n\n\
         `compare` measures the head of this pull request anew, `rerun` some cases of it: CASE is an id or a glob such as \
         `gemm*`. `accept` takes a known change of a case (METRIC is `latency` if you say none): with `up to 8%` for every \
         commit of this pull request, without it for what was measured at the present one. Where the pull request comes from a \
         fork, `at` names the commit that you have read, with all 40 digits, and `accept` needs `up to 8%`.",
        fenced("", COMMENTS)
    )
}

/// What was not understood.
pub(super) fn mistake(mistake: &Mistake) -> Reply {
    let word = mistake.word.as_ref().map_or_else(String::new, |word| {
        let cut = word.chars().count() > WORD;
        let word: String = word.chars().take(WORD).collect();
        format!("“{}{}” ", prose(&word), if cut { "…" } else { "" })
    });
    Reply { text: format!("I did not understand that: {word}{}.\n\n{}", mistake.what, usage()), reaction: "confused" }
}

/// Nothing is done for a pull request that is over.
pub(super) fn closed() -> Reply {
    Reply {
        text: "This pull request is closed: nothing is measured or accepted for it.".to_owned(),
        reaction: "confused",
    }
}

/// Another commit is meant, or none was named where one must be. `why` is our own words.
pub(super) fn refused(asked: &Asked, why: &str, head: &str, page: &str) -> Reply {
    let line = match asked {
        Asked::Rerun { case, .. } => format!("/regrade rerun {case} at {head}"),
        Asked::Accept(Accept { case, metric, change, reason, .. }) => {
            let bound = change.map_or_else(String::new, |change| format!(" up to {}", waivers::show_change(change)));
            format!("/regrade accept {case} {metric}{bound} at {head} because {reason}")
        }
        _ => format!("/regrade compare at {head}"),
    };
    let text = format!(
        "{why}. The head is [`{short}`]({page}/commits/{head}) now; once you have read that:\n\n{line}",
        short = short(head),
        line = fenced("", &line)
    );
    Reply { text, reaction: "confused" }
}

/// How much is accepted of a fork must be said.
pub(super) fn unbounded(accept: &Accept) -> Reply {
    let Accept { case, metric, reason, .. } = accept;
    let text = format!(
        "This pull request comes from a fork, whose code could show one number now and another later: say how much is \
         accepted. With the size that you mean:\n\n{}",
        fenced("", &format!("/regrade accept {case} {metric} up to 8% because {reason}"))
    );
    Reply { text, reaction: "confused" }
}

/// All cases are measured.
pub(super) fn compare(who: &str, head: &str) -> Reply {
    let text = format!(
        "Commit {} is measured now, as {} asked. The benchmarks tell this pull request when they are done.",
        code(short(head)),
        code(who)
    );
    Reply { text, reaction: "rocket" }
}

/// Some cases are measured.
pub(super) fn rerun(who: &str, head: &str, case: &str) -> Reply {
    let text = format!(
        "What matches {} is measured at commit {} now, as {} asked. A comment of its own says what came out; no check changes.",
        code(case),
        code(short(head)),
        code(who)
    );
    Reply { text, reaction: "rocket" }
}

/// A change is accepted; `fork` is the head of one. This text is the record: its second line is what programs read, after the
/// bot's own marker.
pub(super) fn accepted(accepted: &AcceptedHere, fork: Option<&String>) -> Reply {
    let what = format!("{} of {}", code(&accepted.metric), code(&accepted.case));
    let (terms, keep) = match (accepted.change, &accepted.sha) {
        (Some(change), _) => {
            let waiver = Waiver {
                suite: None,
                case: CaseId::from(accepted.case.as_str()),
                metric: accepted.metric.clone(),
                change,
                reason: accepted.reason.clone(),
                who: accepted.who.clone(),
                until: None,
            };
            let entry = waivers::entry(&waiver);
            let keep = format!(
                "\n\nIt ends with this pull request. To keep it after the merge, add to `{}`:\n\n{}",
                waivers::FILE,
                fenced("toml", entry.trim())
            );
            let size = waivers::show_change(change);
            (format!("{what} may change by up to `{size}` in this pull request, whatever is pushed to it"), keep)
        }
        (None, sha) => {
            let head = sha.as_deref().map_or("", short);
            let keep =
                "\n\nThe next push asks again. With `up to 8%` it would hold for every commit of this pull request.";
            (format!("what was measured of {what} at commit {}, and at no other", code(head)), keep.to_owned())
        }
    };
    // What a fork's own run measured turns no check green.
    let then = fork.map_or_else(
        || "The check is posted anew.".to_owned(),
        |head| format!("`/regrade compare at {head}` measures it with that, and the check changes then."),
    );
    let text = format!(
        "{}\n\n**Accepted** by {}: {terms}.\n\n> {}\n\n\
         {then} This reply is the record: delete it to take the acceptance back; edited, it does not count.{keep}",
        accepted.record(),
        code(&accepted.who),
        prose(&accepted.reason)
    );
    Reply { text, reaction: "+1" }
}

fn short(hash: &str) -> &str {
    hash.get(..SHORT).unwrap_or(hash)
}

/// A block of code, between more backticks than there are in it.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{text}\n{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::command::parse;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    const NASTY: &str = "@team <b>see</b> [x](http://evil.example) #1 ``` `x` | www.evil.example ![i](//e)";

    #[test]
    fn nothing_of_a_stranger_s_text_is_markup() {
        let word = NASTY.replace(' ', "");
        let Some(Asked::Mistake(found)) = parse(&format!("/regrade {word}")) else { panic!("a mistake") };
        let Some(Asked::Accept(accept)) = parse(&format!("/regrade accept a@cpu up to 8% because {NASTY}")) else {
            panic!("an acceptance")
        };
        let accepted = accepted(&AcceptedHere::new(&accept, "octo-boss", 7, SHA), None);
        let quoted = accepted.text.lines().find(|line| line.starts_with("> ")).expect("the reason").to_owned();
        for text in [mistake(&found).text.lines().next().expect("a line").to_owned(), quoted] {
            let text = text.replace("&#", "");
            for odd in ["@team", "<b>", "](http", "://", "#1", "www.evil", "![", "| "] {
                assert!(!text.contains(odd), "{odd}: {text}");
            }
        }
        // The entry lies in a block of code that its text cannot end.
        assert!(accepted.text.contains("\n````toml\n") && accepted.text.ends_with("\n````"), "{}", accepted.text);
        assert!(!refused(&Asked::Accept(accept), "Why", SHA, "https://x").text.contains("\n```\n"));
    }

    #[test]
    fn what_is_copied_out_of_an_answer_is_understood_and_the_answer_itself_is_no_command() {
        for (text, copied) in [
            ("/regrade compare", format!("/regrade compare at {SHA}")),
            ("/regrade rerun gemm*@cpu", format!("/regrade rerun gemm*@cpu at {SHA}")),
            ("/regrade accept a@cpu because why", format!("/regrade accept a@cpu latency at {SHA} because why")),
        ] {
            let asked = parse(text).expect("a command");
            let reply = refused(&asked, "Why", SHA, "https://x").text;
            assert!(reply.contains(&format!("\n{copied}\n")), "{reply}");
            assert_eq!(parse(&reply), None, "{reply}");
            assert!(!matches!(parse(&copied), None | Some(Asked::Mistake(_) | Asked::Help)), "{copied}");
        }
        assert_eq!(parse(&help().text), None);
        let Some(Asked::Accept(accept)) = parse("/regrade accept a@cpu throughput because of ``` a cache") else {
            panic!("an acceptance")
        };
        let reply = unbounded(&accept).text;
        let copied = "/regrade accept a@cpu throughput up to 8% because of ``` a cache";
        assert!(reply.contains(&format!("\n{copied}\n")) && parse(&reply).is_none(), "{reply}");
        assert!(matches!(parse(copied), Some(Asked::Accept(Accept { change: Some(_), .. }))));
    }

    #[test]
    fn an_acceptance_says_what_it_covers_and_how_to_keep_it() {
        let reply = |text: &str| {
            let Some(Asked::Accept(accept)) = parse(text) else { panic!("{text}") };
            accepted(&AcceptedHere::new(&accept, "octo-boss", 7, SHA), None).text
        };
        let bounded = reply("/regrade accept a@cpu up to 8% because of a cache");
        for words in
            ["by `octo-boss`", "`latency` of `a@cpu`", "`+8.0%`", "> of a cache", "[[waiver]]\ncase = \"a@cpu\""]
        {
            assert!(bounded.contains(words), "{words}: {bounded}");
        }
        let open = reply("/regrade accept a@cpu because of a cache");
        assert!(open.contains("at commit `0123456789`, and at no other") && !open.contains("[[waiver]]"), "{open}");
    }
}
