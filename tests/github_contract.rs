//! `regrade post` and `regrade bot` against a GitHub that remembers, held to GitHub's own description
//! (`tests/github/README.md`): every request that is made is valid there, and what it leaves behind is what was meant.
//!
//! Ignored by plain `cargo test`, which needs nothing but Rust: `tests/github/check.sh` installs what these need and
//! runs them; without Node and Prism they fail.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use regrade::github::accepted::accepted;
use serde_json::{Value, json};
use support::{Place, Ran};

/// The server; it ends when its input closes.
struct GitHub {
    child: Child,
    base: String,
    place: Place,
}

impl GitHub {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/github/serve.sh");
        let mut child = Command::new(script)
            .arg("--until-eof")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/github/serve.sh starts");
        let mut base = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut base).unwrap();
        assert!(base.starts_with("http://"), "the server did not start: {base:?}");
        Self { child, base: base.trim().to_owned(), place: Place::new() }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let host = self.base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    fn state(&self) -> Value {
        self.ask("GET", "/__state", "")
    }

    /// The commit of a pull request's head.
    fn head(&self, number: u64) -> String {
        self.state()["pulls"][number.to_string()]["sha"].as_str().unwrap().to_owned()
    }

    /// Comments on a pull request that carry our marker.
    fn ours(&self, number: u64) -> Vec<Value> {
        let state = self.state();
        let all: Vec<Value> = match &state["comments"] {
            Value::Array(items) => items.clone(),
            Value::Object(fields) => fields.values().cloned().collect(),
            other => panic!("{other}"),
        };
        let is_ours = |comment: &Value| {
            comment["body"].as_str().is_some_and(|body| body.starts_with("<!-- regrade:"))
                && comment["issue"].to_string().trim_matches('"') == number.to_string()
        };
        all.into_iter().filter(is_ours).collect()
    }

    /// Posts the committed example report as if `sha` had been measured, in a job started by an event.
    fn post(&self, event: &str, payload: &str, sha: &str, more: &[&str]) -> Ran {
        self.post_as("ghs_x", event, payload, sha, more)
    }

    /// The same with another token.
    fn post_as(&self, token: &str, event: &str, payload: &str, sha: &str, more: &[&str]) -> Ran {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("tests/fixtures/report.json")).unwrap();
        let mut report: Value = serde_json::from_str(&text).unwrap();
        report["head"]["commit"] = sha.into();
        report.as_object_mut().unwrap().remove("paired");
        report["suite_file"] = "suites/quickstart.toml".into();
        for (row, line) in report["rows"].as_array_mut().unwrap().iter_mut().zip(1..) {
            row["line"] = line.into();
        }
        self.place.write("report.json", &report.to_string());
        let mut words = vec!["post"];
        words.extend(more);
        if !more.contains(&"--start") {
            words.push("report.json");
        }
        self.job_as(token, event, payload, &words)
    }

    /// Runs regrade in a job started by an event.
    fn job(&self, event: &str, payload: &str, words: &[&str]) -> Ran {
        self.job_as("ghs_x", event, payload, words)
    }

    fn job_as(&self, token: &str, event: &str, payload: &str, words: &[&str]) -> Ran {
        self.command(token, event, payload, words).output().unwrap().into()
    }

    fn command(&self, token: &str, event: &str, payload: &str, words: &[&str]) -> Command {
        let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/github/events");
        let mut command = self.place.command(words);
        command
            .env("GITHUB_API_URL", &self.base)
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "octo-org/octo-repo")
            .env("GITHUB_EVENT_NAME", event)
            .env("GITHUB_EVENT_PATH", events.join(payload))
            .env("GITHUB_SHA", "f".repeat(40))
            .env("GITHUB_RUN_ID", "7001")
            .env("GITHUB_STEP_SUMMARY", self.place.file("summary.md"))
            .env("GITHUB_TOKEN", token);
        command
    }

    /// Somebody has just written the comment of an event; what the bot puts out, and what it did.
    fn bot(&self, payload: &str) -> (String, Ran) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/github/events").join(payload);
        let event: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let said = json!({ "id": event["comment"]["id"], "issue": event["issue"]["number"],
                           "login": event["comment"]["user"]["login"], "body": event["comment"]["body"] });
        // The world's first comment has the id that is in the events.
        self.ask("POST", "/__set", &json!({ "path": ["comments", 0], "value": said }).to_string());
        self.place.write("output", "");
        let mut command = self.place.command(&["bot"]);
        command
            .env("GITHUB_API_URL", &self.base)
            .env("GITHUB_REPOSITORY", "octo-org/octo-repo")
            .env("GITHUB_EVENT_NAME", "issue_comment")
            .env("GITHUB_EVENT_PATH", path)
            .env("GITHUB_OUTPUT", self.place.file("output"))
            .env("GITHUB_TOKEN", "ghs_x");
        let ran: Ran = command.output().unwrap().into();
        (std::fs::read_to_string(self.place.file("output")).unwrap(), ran.expect(0))
    }

    fn keeps_to_the_description(&self) {
        assert_eq!(self.ask("GET", "/__violations", ""), json!([]));
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body.as_bytes(), Vec::new());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        whole.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[(end + 4 + size).min(rest.len())..];
        if size == 0 {
            break;
        }
    }
    String::from_utf8(whole).unwrap()
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn a_pull_request_gets_one_comment_a_check_a_status_a_summary_and_its_plots() {
    let github = GitHub::start();
    let sha = github.head(7);
    let started = github.post("pull_request", "pull_request.synchronize.json", &sha, &["--start", "--status", "on"]);
    started.expect(0);
    for _ in 0..2 {
        github.post("pull_request", "pull_request.synchronize.json", &sha, &["--status", "on"]).expect(0);
    }
    let state = github.state();
    let ours = github.ours(7);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    let body = ours[0]["body"].as_str().unwrap();
    assert!(body.lines().nth(1).unwrap().starts_with("## "), "{body}");
    assert!(body.contains("/raw/") && body.contains("/plots/") && !body.contains("mermaid"), "{body}");
    assert!(state["branches"].to_string().contains("regrade-plots"), "{}", state["branches"]);
    let checks = state["checks"].to_string();
    assert!(checks.contains("completed") && checks.contains("annotation"), "{checks}");
    assert!(state["statuses"].to_string().contains("regrade"), "{}", state["statuses"]);
    let summary = std::fs::read_to_string(github.place.file("summary.md")).unwrap();
    assert!(summary.contains("## "), "{summary}");
    github.keeps_to_the_description();
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn without_the_permission_to_write_contents_a_chart_stands_in() {
    let github = GitHub::start();
    let narrow =
        json!({ "token": "ghs_x", "permissions": { "checks": "write", "pull_requests": "write", "issues": "write" } });
    github.ask("POST", "/__token", &narrow.to_string());
    let sha = github.head(7);
    let ran = github.post("pull_request", "pull_request.opened.json", &sha, &[]).expect(0);
    assert!(ran.stderr.contains("no pictures"), "{}", ran.stderr);
    let ours = github.ours(7);
    charts_parse(&github, ours[0]["body"].as_str().unwrap());
    github.keeps_to_the_description();
    // What a status needs is missing, and is named with the line that grants it; nothing else suffers.
    let ran = github.post("pull_request", "pull_request.opened.json", &sha, &["--status", "on"]).expect(6);
    assert!(
        ran.stderr.contains("the status was not posted") && ran.stderr.contains("`statuses: write`"),
        "{}",
        ran.stderr
    );
    assert_eq!(github.ours(7).len(), 1);
}

/// What a fork's benchmark left, as its artifact is stored: about this commit.
fn artifact(sha: &str) -> String {
    let report: Value = serde_json::from_str(include_str!("fixtures/strangers/demo.json")).unwrap();
    let old = report["paired"]["head_commit"].as_str().unwrap().to_owned();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("report.json", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(report.to_string().replace(&old, sha).as_bytes()).unwrap();
    BASE64_STANDARD.encode(zip.finish().unwrap().into_inner())
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn what_a_fork_measured_is_fetched_decided_again_and_blesses_nothing() {
    let github = GitHub::start();
    let suite = json!({ "path": "suites/demo.toml", "text": include_str!("fixtures/strangers/demo.toml") });
    github.ask("POST", "/__file", &suite.to_string());
    let left = json!({ "run": 8001, "base64": artifact(&github.head(8)) });
    github.ask("POST", "/__artifact", &left.to_string());
    let run = |id: &str, payload: &str| {
        let words = ["post", "--run-id", id, "--suite", "suites/demo.toml", "--status", "on", "--pictures", "off"];
        github.job("workflow_run", payload, &words)
    };
    for _ in 0..2 {
        run("8001", "workflow_run.fork.json").expect(0);
    }
    let ours = github.ours(8);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    let body = ours[0]["body"].as_str().unwrap();
    assert!(body.contains("Untrusted measurement") && body.contains("1 metric regressed"), "{body}");
    charts_parse(&github, body);
    let state = github.state();
    assert!(state["checks"].to_string().contains("\"failure\""), "{}", state["checks"]);
    assert!(!state["checks"].to_string().contains("\"success\""), "{}", state["checks"]);
    github.keeps_to_the_description();

    // The event and the command line must agree.
    run("8000", "workflow_run.fork.json").expect(2);
    // Pushed to since: nothing is posted.
    let moved = json!({ "path": ["pulls", "8", "sha"], "value": github.head(7) });
    github.ask("POST", "/__set", &moved.to_string());
    let ran = run("8001", "workflow_run.fork.json").expect(0);
    assert!(ran.stderr.contains("nothing is posted"), "{}", ran.stderr);
    assert_eq!(github.ours(8), ours);
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn a_push_has_no_comment() {
    let github = GitHub::start();
    let payload =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/github/events/push.json")).unwrap();
    let payload: Value = serde_json::from_str(&payload).unwrap();
    let after = payload["after"].as_str().unwrap();
    let ran = github.post("push", "push.json", after, &[]).expect(0);
    assert!(ran.stderr.contains("no pull request"), "{}", ran.stderr);
    github.keeps_to_the_description();
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn what_is_accepted_in_a_comment_is_kept_in_one_answer() {
    let github = GitHub::start();
    // What the workflow's job is given, and no more.
    let narrow =
        json!({ "token": "ghs_x", "permissions": { "contents": "read", "issues": "write", "pull_requests": "write" } });
    github.ask("POST", "/__token", &narrow.to_string());
    let (output, _) = github.bot("issue_comment.accept.json");
    assert_eq!(output, format!("command=accept\npr=7\nsha={}\n", github.head(7)));
    let (replayed, ran) = github.bot("issue_comment.accept.json");
    assert_eq!(replayed, "command=\n", "{}", ran.stderr);
    let ours = github.ours(7);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    let login = "github-actions[bot]";
    let kept = accepted(&[json!({ "body": ours[0]["body"], "user": { "login": login } })], login);
    assert_eq!((kept[0].case.as_str(), kept[0].change, kept[0].who.as_str()), ("loop@cpu", Some(0.8), "keeper"));
    assert_eq!(github.state()["reactions"].as_array().unwrap().len(), 1);
    github.keeps_to_the_description();
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn a_fork_is_measured_for_who_may_write_and_has_read_it() {
    let github = GitHub::start();
    let (stranger, _) = github.bot("issue_comment.stranger.json");
    assert_eq!((stranger.as_str(), github.ours(8).len()), ("command=\n", 0));
    let (unread, _) = github.bot("issue_comment.unread.json");
    assert_eq!((unread.as_str(), github.ours(8).len()), ("command=\n", 1));
    github.ask("POST", "/__reset", "");
    let (read, _) = github.bot("issue_comment.fork.json");
    assert_eq!(read, format!("command=compare\npr=8\nsha={}\n", github.head(8)));
    for nothing in ["issue_comment.issue.json", "issue_comment.edited.json"] {
        assert_eq!(github.bot(nothing).0, "command=\n");
    }
    github.keeps_to_the_description();
}

#[test]
#[ignore = "needs Node and Prism: tests/github/check.sh runs it"]
fn a_person_s_token_finds_the_person_s_comment() {
    let github = GitHub::start();
    let sha = github.head(7);
    for _ in 0..2 {
        // No check: those are for Apps alone.
        let words = ["--check", "off", "--pictures", "off"];
        github.post_as("ghp_hubot", "pull_request", "pull_request.opened.json", &sha, &words).expect(0);
    }
    let ours = github.ours(7);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    assert_eq!(ours[0]["login"], "hubot");
    github.keeps_to_the_description();
}

#[test]
#[cfg(feature = "github-app")]
#[ignore = "needs Node, Prism and openssl: tests/github/check.sh runs it"]
fn an_app_signs_in_and_finds_its_own_comment() {
    let github = GitHub::start();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(github.place.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    openssl(&["genrsa", "-out", "key.pem", "2048"]);
    let public = openssl(&["rsa", "-in", "key.pem", "-pubout"]);
    let app = json!({ "id": 12, "slug": "bench", "key": public });
    github.ask("POST", "/__app", &app.to_string());
    let sha = github.head(7);
    let key = std::fs::read_to_string(github.place.file("key.pem")).unwrap();
    github.post("pull_request", "pull_request.opened.json", &sha, &["--dry-run"]).expect(0);
    let post = |id: &str, key: &str| -> Ran {
        let mut command = github.command("ghs_x", "pull_request", "pull_request.opened.json", &["post", "report.json"]);
        command.env("REGRADE_APP_ID", id).env("REGRADE_APP_KEY", key).output().unwrap().into()
    };
    for _ in 0..2 {
        post("12", &key).expect(0);
    }
    let ours = github.ours(7);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    assert_eq!(ours[0]["login"], "bench[bot]");
    github.keeps_to_the_description();

    let ran = post("12", "no key").expect(6);
    assert!(ran.stderr.contains("no RSA key in PEM") && !ran.stderr.contains("no key\""), "{}", ran.stderr);
    assert!(post("twelve", &key).expect(2).stderr.contains("REGRADE_APP_ID"));
    assert!(post("13", &key).expect(6).stderr.contains("may not"));
}

/// GitHub's own parser of charts takes them.
fn charts_parse(github: &GitHub, body: &str) {
    assert!(body.contains("```mermaid"), "{body}");
    github.place.write("comment.md", body);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/github/markdown.mjs");
    let output = Command::new("node").arg(script).arg(github.place.file("comment.md")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
