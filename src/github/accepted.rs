//! What people accepted in the thread of a pull request: the bot's own replies are the record, and nothing else is.
//!
//! A reply begins with the bot's marker; the line after it is this record, hidden from readers. A comment counts only by
//! its author, its beginning, and as it was made: what was edited since may say something else than it did to those who
//! read it. Must not know what a reply looks like, nor what a verdict is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{CaseId, Waiver};
use crate::github::command::{Accept, is_case, is_change, is_login, is_metric, is_reason};
use crate::github::event::full_hash;

const BOT: &str = "<!-- regrade:bot:";
const RECORD: &str = "<!-- regrade:accepted:";
const END: &str = " -->";
/// Characters of a record: several times what the parts may have.
const MOST_RECORD: usize = 8192;

/// One acceptance of a pull request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedHere {
    /// The case, by its exact id.
    pub case: String,
    /// Metric name.
    pub metric: String,
    /// Largest change covered, a fraction of the base in the metric's own direction; absent: what was measured at `sha`.
    #[serde(deserialize_with = "said")]
    pub change: Option<f64>,
    /// The only commit that is covered, full hash; absent: every commit of the pull request.
    #[serde(deserialize_with = "said")]
    pub sha: Option<String>,
    /// Why.
    pub reason: String,
    /// Login of who accepted it.
    pub who: String,
    /// Id of their comment.
    pub comment: u64,
}

/// A field that may be null and must be there.
fn said<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

impl AcceptedHere {
    /// What `who` accepts in comment `comment`. Without a bound it covers the commit `head` and no other.
    #[must_use]
    pub fn new(accept: &Accept, who: &str, comment: u64, head: &str) -> Self {
        Self {
            case: accept.case.clone(),
            metric: accept.metric.clone(),
            change: accept.change,
            sha: accept.change.is_none().then(|| head.to_owned()),
            reason: accept.reason.clone(),
            who: who.to_owned(),
            comment,
        }
    }

    /// Its hidden line in the reply, after [`marker`].
    #[must_use]
    pub fn record(&self) -> String {
        let json = serde_json::to_vec(self).expect("texts and numbers become JSON");
        format!("{RECORD}{}{END}", STANDARD.encode(json))
    }

    /// As a waiver for a report on commit `head`, in which `measured` is the estimated change of this case and metric.
    /// `None` where it does not cover that commit, or where nothing was measured and no bound says what is covered.
    #[must_use]
    pub fn waiver(&self, head: &str, measured: Option<f64>) -> Option<Waiver> {
        if self.sha.as_ref().is_some_and(|sha| !sha.eq_ignore_ascii_case(head)) {
            return None;
        }
        Some(Waiver {
            suite: None,
            case: CaseId::from(self.case.as_str()),
            metric: self.metric.clone(),
            change: self.change.or(measured)?,
            reason: self.reason.clone(),
            who: self.who.clone(),
            until: None,
        })
    }

    /// Whether every part is what the parser of commands lets through, and one of bound and commit is there.
    fn is_sound(&self) -> bool {
        is_case(&self.case)
            && is_metric(&self.metric)
            && is_reason(&self.reason)
            && is_login(&self.who)
            && self.change.is_some() != self.sha.is_some()
            && self.change.is_none_or(|change| is_change(change, &self.metric))
            && self.sha.as_ref().is_none_or(|sha| full_hash(sha).as_ref() == Some(sha))
    }
}

/// The first line of the bot's reply to comment `id`.
#[must_use]
pub fn marker(id: u64) -> String {
    format!("{BOT}{id}{END}")
}

/// Whether a comment is ours and answers comment `id`. Anyone can write the marker: only the author's counts.
#[must_use]
pub fn answers(comment: &Value, author: &str, id: u64) -> bool {
    is_by(comment, author) && comment["body"].as_str().is_some_and(|body| body.lines().next() == Some(&marker(id)))
}

/// The acceptances that the comments of a pull request hold, in their order.
#[must_use]
pub fn accepted(comments: &[Value], author: &str) -> Vec<AcceptedHere> {
    let as_made = |comment: &&Value| comment["created_at"] == comment["updated_at"];
    comments.iter().filter(|comment| is_by(comment, author)).filter(as_made).filter_map(read).collect()
}

fn is_by(comment: &Value, author: &str) -> bool {
    comment["user"]["login"].as_str().is_some_and(|login| login.eq_ignore_ascii_case(author))
}

fn read(comment: &Value) -> Option<AcceptedHere> {
    let mut lines = comment["body"].as_str()?.lines();
    let between = |line: &'_ str, start: &str| line.strip_prefix(start)?.strip_suffix(END).map(str::to_owned);
    let answered = between(lines.next()?, BOT)?;
    let record = between(lines.next()?, RECORD).filter(|record| record.len() <= MOST_RECORD)?;
    let found: AcceptedHere = serde_json::from_slice(&STANDARD.decode(record).ok()?).ok()?;
    // The same reply, and not another's line copied beneath this marker.
    (found.comment.to_string() == answered && found.is_sound()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    const OURS: &str = "github-actions[bot]";

    fn bounded() -> AcceptedHere {
        let accept = Accept {
            case: "gemm/m=256@cpu".to_owned(),
            metric: "latency".to_owned(),
            change: Some(0.08),
            at: None,
            reason: "checked arithmetic; \"quoted\" – ünïcode".to_owned(),
        };
        AcceptedHere::new(&accept, "octo-boss", 1001, SHA)
    }

    fn open() -> AcceptedHere {
        AcceptedHere { change: None, sha: Some(SHA.to_owned()), ..bounded() }
    }

    fn body(record: &str) -> String {
        format!("{}\n{record}\n\n**Accepted** …", marker(1001))
    }

    fn by(login: &str, body: &str) -> Value {
        json!({ "id": 1, "body": body, "user": { "login": login }, "created_at": "a", "updated_at": "a" })
    }

    fn raw(json: &str) -> String {
        body(&format!("{RECORD}{}{END}", STANDARD.encode(json)))
    }

    #[test]
    fn what_is_written_is_read_back_in_order() {
        let talk = by("octo-boss", "/regrade accept …");
        let comments = [by(OURS, &body(&open().record())), talk, by(OURS, &body(&bounded().record()))];
        assert_eq!(accepted(&comments, "GitHub-Actions[bot]"), [open(), bounded()]);
        assert!(answers(&comments[0], OURS, 1001) && !answers(&comments[0], OURS, 100));
        assert!(!answers(&comments[1], OURS, 1001));
    }

    #[test]
    fn nobody_else_can_write_one() {
        let good = body(&bounded().record());
        assert_eq!(accepted(&[by(OURS, &good)], OURS).len(), 1);
        let mut edited = by(OURS, &good);
        edited["updated_at"] = "b".into();
        let mut nobody = by(OURS, &good);
        nobody["user"] = Value::Null;
        for forged in [
            by("eve", &good),
            by("github-actions", &good),
            edited,
            nobody,
            by(OURS, &format!("As said:\n{good}")),
            by(OURS, &format!(" {good}")),
            by(OURS, &good.replacen("bot:1001", "bot:1002", 1)),
            by(OURS, &good.replacen('\n', "\n\n", 1)),
            by(OURS, &format!("{}\ntext\n{}", marker(1001), bounded().record())),
            by(OURS, &bounded().record()),
            by(OURS, &good.replacen("accepted:", "accepted:!", 1)),
            by(OURS, &body(&format!("{RECORD}{END}"))),
            json!({ "body": 7, "user": { "login": OURS } }),
            Value::Null,
        ] {
            assert_eq!(accepted(std::slice::from_ref(&forged), OURS), [], "{forged}");
        }
    }

    #[test]
    fn a_record_that_no_command_could_have_made_is_none() {
        let good = serde_json::to_value(bounded()).expect("JSON");
        assert_eq!(accepted(&[by(OURS, &raw(&good.to_string()))], OURS).len(), 1);
        let with = |key: &str, value: Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove("sha");
        for wrong in [
            without.to_string(),
            with("more", json!(1)),
            with("case", json!("gemm*")),
            with("case", json!("a\nb")),
            with("metric", json!("")),
            with("change", json!(-0.08)),
            with("change", json!(1e9)),
            with("change", json!("8%")),
            with("change", Value::Null),
            with("sha", json!(SHA)),
            with("sha", json!("0123456")),
            with("reason", json!("a\n<!-- regrade:bot:1 -->")),
            with("reason", json!("x".repeat(5000))),
            with("who", json!("a b")),
            with("comment", json!(1002)),
            with("comment", json!(-1)),
            format!("{good} {good}"),
            "[]".to_owned(),
        ] {
            assert_eq!(accepted(&[by(OURS, &raw(&wrong))], OURS), [], "{wrong}");
        }
        let long = format!("{}{good}", " ".repeat(MOST_RECORD));
        assert_eq!(accepted(&[by(OURS, &raw(&long))], OURS), []);
    }

    #[test]
    fn a_bound_holds_for_every_commit_and_what_was_measured_for_one() {
        let other = "f".repeat(40);
        assert_eq!(bounded().waiver(&other, None).map(|waiver| waiver.change), Some(0.08));
        assert_eq!(bounded().waiver(&other, Some(0.3)).map(|waiver| waiver.change), Some(0.08));
        assert_eq!(open().waiver(SHA, Some(0.3)).map(|waiver| waiver.change), Some(0.3));
        assert_eq!(open().waiver(SHA, None), None);
        assert_eq!(open().waiver(&other, Some(0.3)), None);
    }
}
