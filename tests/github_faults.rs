//! `regrade post` against a server that limits, fails, hangs and forgets: nothing is posted twice, waiting is bounded, and
//! one surface that fails stops no other.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

#[path = "support/hub.rs"]
mod hub;
mod support;

use std::time::Duration;

use hub::{Hub, World, page};
use serde_json::{Value, json};
use support::{Place, Ran};
use wiremock::{Request, ResponseTemplate};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server knows.
#[derive(Debug, Default)]
struct State {
    comments: Vec<Value>,
    checks: Vec<Value>,
    /// Somebody else's post of the same comment, which arrives just before ours.
    rival: Option<Value>,
    next: u64,
}

impl World for State {
    fn work(&mut self, method: &str, path: &str, request: &Request) -> ResponseTemplate {
        work(self, method, path, request)
    }
}

/// What GitHub would do.
fn work(state: &mut State, method: &str, path: &str, request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let id = || path.rsplit('/').next().unwrap().parse::<u64>().unwrap();
    let ok = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    state.next += 1;
    let user = json!({ "login": "github-actions[bot]", "type": "Bot" });
    match (method, path) {
        ("GET", path) if path.ends_with("/comments") => page(&state.comments, request),
        ("POST", path) if path.ends_with("/comments") => {
            let comment =
                json!({ "id": 10_000 + state.next, "body": body["body"], "user": user, "html_url": "http://x/c" });
            state.comments.extend(state.rival.take());
            state.comments.push(comment.clone());
            ResponseTemplate::new(201).set_body_json(comment)
        }
        ("PATCH", path) if path.contains("/issues/comments/") => {
            let found = state.comments.iter_mut().find(|comment| comment["id"] == id()).unwrap();
            found["body"] = body["body"].clone();
            ok(found.clone())
        }
        ("DELETE", path) if path.contains("/issues/comments/") => {
            state.comments.retain(|comment| comment["id"] != id());
            ResponseTemplate::new(204)
        }
        ("GET", path) if path.ends_with("/check-runs") => ok(json!({ "check_runs": state.checks })),
        ("POST", path) if path.ends_with("/check-runs") => {
            let mut check = body;
            count(&mut check, 0);
            check["id"] = (20_000 + state.next).into();
            state.checks.push(check.clone());
            ResponseTemplate::new(201).set_body_json(check)
        }
        ("PATCH", path) if path.contains("/check-runs/") => {
            let found = state.checks.iter_mut().find(|check| check["id"] == id()).unwrap();
            let before = found["output"]["annotations_count"].as_u64().unwrap_or(0);
            for (key, value) in body.as_object().unwrap() {
                found[key] = value.clone();
            }
            count(found, before);
            ok(found.clone())
        }
        ("POST", path) if path.contains("/statuses/") => ResponseTemplate::new(201).set_body_json(json!({ "id": 1 })),
        ("GET", path) if path.contains("/pulls/") => ok(json!({ "number": 7, "head": { "sha": SHA } })),
        _ => ResponseTemplate::new(404).set_body_json(json!({ "message": "Not Found" })),
    }
}

/// Annotations are added up, and answers say how many there are.
fn count(check: &mut Value, before: u64) {
    if let Some(output) = check["output"].as_object_mut() {
        let new = output.remove("annotations").map_or(0, |list| list.as_array().map_or(0, Vec::len));
        output.insert("annotations_count".to_owned(), (before + new as u64).into());
    }
}

struct Server {
    hub: Hub<State>,
    place: Place,
}

impl Server {
    fn new() -> Self {
        let place = Place::new();
        let mut report: Value = serde_json::from_str(
            &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/report.json")).unwrap(),
        )
        .unwrap();
        report["head"]["commit"] = SHA.into();
        place.write("report.json", &report.to_string());
        Self { hub: Hub::new(State::default()), place }
    }

    fn fault(&self, method: &str, path: &str, done: bool, answer: ResponseTemplate) {
        self.hub.fault(method, path, done, answer);
    }

    fn post(&self, more: &[&str]) -> Ran {
        let mut words =
            vec!["post", "report.json", "--repo", "ada/engine", "--sha", SHA, "--pr", "7", "--pictures", "off"];
        words.extend(more);
        let mut command = self.place.command(&words);
        command.env("GITHUB_API_URL", self.hub.uri()).env("GITHUB_TOKEN", "ghs_verysecrettoken");
        command.output().unwrap().into()
    }

    fn state<T>(&self, read: impl Fn(&State) -> T) -> T {
        self.hub.world(|state| read(state))
    }

    fn asked(&self, what: &str) -> usize {
        self.hub.asked(what)
    }
}

fn refused(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "message": message }))
}

fn comments(server: &Server) -> usize {
    server.state(|state| {
        let ours = |comment: &&Value| comment["body"].as_str().is_some_and(|body| body.contains("<!-- regrade:"));
        state.comments.iter().filter(ours).count()
    })
}

#[test]
fn posting_twice_makes_one_comment_and_one_check() {
    let server = Server::new();
    server.post(&[]).expect(0);
    server.post(&["--status", "on"]).expect(0);
    assert_eq!(comments(&server), 1);
    assert_eq!(server.state(|state| state.checks.len()), 1);
    assert_eq!(server.asked("PATCH /repos/ada/engine/issues/comments/"), 1);
    let check = server.state(|state| state.checks[0].clone());
    assert_eq!((check["status"].as_str(), check["head_sha"].as_str()), (Some("completed"), Some(SHA)));
}

#[test]
fn two_that_post_at_once_leave_one_comment() {
    let server = Server::new();
    let user = json!({ "login": "github-actions[bot]", "type": "Bot" });
    let rival = json!({ "id": 5, "body": "<!-- regrade:regrade:0 -->\ntheirs", "user": user });
    server.hub.world(|state| state.rival = Some(rival));
    server.post(&[]).expect(0);
    assert_eq!(comments(&server), 1);
    let left = server.state(|state| state.comments[0].clone());
    assert_eq!(left["id"], 5, "everybody keeps the oldest");
    assert!(left["body"].as_str().unwrap().contains("## "), "{left}");
}

#[test]
fn a_check_that_says_something_else_is_another_one() {
    let server = Server::new();
    server.post(&[]).expect(0);
    let first = server.state(|state| state.checks[0].clone());
    let path = server.place.file("report.json");
    let mut report: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    report["outcome"]["headline"] = "something else".into();
    server.place.write("report.json", &report.to_string());
    server.post(&[]).expect(0);
    let checks = server.state(|state| state.checks.clone());
    assert_eq!(checks.len(), 2, "annotations of the first would stay");
    assert_eq!(checks[0], first);
    assert_eq!(checks[1]["output"]["title"], "something else");
}

#[test]
fn the_bot_s_own_markers_are_no_keys() {
    let server = Server::new();
    for key in ["bot", "accepted", "a--b", ""] {
        assert!(server.post(&["--key", key]).expect(2).stderr.contains("--key"), "{key}");
    }
    assert_eq!(server.hub.log().len(), 0);
}

#[test]
fn ours_is_found_on_the_second_page_and_a_planted_marker_is_left_alone() {
    let server = Server::new();
    let stranger =
        json!({ "id": 1, "body": "<!-- regrade:regrade:0 -->\nmine", "user": { "login": "eve", "type": "User" } });
    server.hub.world(|state| state.comments.push(stranger.clone()));
    for id in 2..150 {
        let talk = json!({ "id": id, "body": "talk", "user": { "login": "bob", "type": "User" } });
        server.hub.world(|state| state.comments.push(talk));
    }
    server.post(&[]).expect(0);
    server.post(&[]).expect(0);
    assert_eq!(server.state(|state| state.comments.len()), 150);
    assert_eq!(server.state(|state| state.comments[0].clone()), stranger);
}

#[test]
fn what_was_made_although_the_answer_was_lost_is_not_made_again() {
    let server = Server::new();
    server.fault("POST", "/comments", true, refused(502, "Bad Gateway"));
    server.fault("POST", "/check-runs", true, refused(502, "Bad Gateway"));
    server.post(&[]).expect(0);
    assert_eq!(comments(&server), 1);
    assert_eq!(server.state(|state| state.checks.len()), 1);
    // And what was not made is made.
    let server = Server::new();
    server.fault("POST", "/comments", false, refused(502, "Bad Gateway"));
    server.post(&[]).expect(0);
    assert_eq!((comments(&server), server.asked("POST /repos/ada/engine/issues/7/comments")), (1, 2));
}

#[test]
fn limits_are_waited_for_while_there_is_patience() {
    let server = Server::new();
    let limited = |status: u16, after: &str| {
        refused(status, "You have exceeded a secondary rate limit").insert_header("retry-after", after)
    };
    server.fault("GET", "/comments", false, limited(403, "1"));
    server.fault("POST", "/comments", false, limited(429, "1"));
    server.post(&[]).expect(0);
    assert_eq!(comments(&server), 1);

    // An hour is too long, whichever way the server says it; the other surfaces are made all the same.
    let later = (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
        + Duration::from_secs(3600))
    .as_secs();
    let primary = refused(403, "API rate limit exceeded")
        .insert_header("x-ratelimit-remaining", "0")
        .insert_header("x-ratelimit-reset", later.to_string().as_str());
    for fault in [limited(403, "3600"), primary, limited(429, "Fri, 31 Dec 2199 23:59:59 GMT")] {
        let server = Server::new();
        server.fault("GET", "/comments", false, fault);
        let ran = server.post(&["--patience", "2s"]).expect(6);
        assert!(
            ran.stderr.contains("the comment was not posted") && ran.stderr.contains("rate limited"),
            "{}",
            ran.stderr
        );
        assert_eq!(server.state(|state| state.checks.len()), 1);
    }
}

#[test]
fn a_missing_permission_is_named_with_the_line_that_grants_it() {
    let server = Server::new();
    let denied = refused(403, "Resource not accessible by integration")
        .insert_header("x-accepted-github-permissions", "checks=write");
    server.fault("GET", "/check-runs", false, denied);
    let ran = server.post(&[]).expect(6);
    assert!(
        ran.stderr.contains("the check was not posted") && ran.stderr.contains("`checks: write`"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("verysecret"), "{}", ran.stderr);
    assert_eq!((comments(&server), server.asked("check-runs")), (1, 1));
}

#[test]
fn refusals_are_told_and_not_repeated() {
    for (status, word) in [(404, "Not Found"), (410, "Gone"), (422, "Validation Failed")] {
        let server = Server::new();
        server.fault("POST", "/comments", false, refused(status, word));
        let ran = server.post(&[]).expect(6);
        assert!(ran.stderr.contains(&format!("{status} {word}")), "{}", ran.stderr);
        assert_eq!((comments(&server), server.asked("POST /repos/ada/engine/issues/7/comments")), (0, 1));
    }
}

#[test]
fn a_server_that_is_down_for_good_ends_the_waiting() {
    let server = Server::new();
    for _ in 0..100 {
        server.fault("GET", "", false, refused(503, "Service Unavailable"));
    }
    let ran = server.post(&["--patience", "3s"]).expect(6);
    assert!(
        ran.stderr.contains("comment was not posted") && ran.stderr.contains("check was not posted"),
        "{}",
        ran.stderr
    );
    assert!(server.asked("GET") < 12, "{}", server.asked("GET"));
}

#[test]
fn nobody_there_and_answers_that_break_off_are_no_success() {
    let server = Server::new();
    // Announces more than it sends.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let talk = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n[{\"id\":",
            );
        }
    });
    let words = [
        "post",
        "report.json",
        "--repo",
        "ada/engine",
        "--sha",
        SHA,
        "--check",
        "off",
        "--pr",
        "7",
        "--pictures",
        "off",
        "--patience",
        "1s",
    ];
    let mut command = server.place.command(&words);
    let ran: Ran =
        command.env("GITHUB_API_URL", &address).env("GITHUB_TOKEN", "ghs_verysecrettoken").output().unwrap().into();
    assert!(ran.expect(6).stderr.contains("the comment was not posted"));
    drop(talk);
}

#[test]
fn a_pull_request_that_moved_on_gets_no_comment() {
    let server = Server::new();
    server.fault(
        "GET",
        "/pulls/7",
        false,
        ResponseTemplate::new(200).set_body_json(json!({ "head": { "sha": "f".repeat(40) } })),
    );
    let ran = server.post(&[]).expect(0);
    assert!(ran.stderr.contains("moved on"), "{}", ran.stderr);
    assert_eq!((comments(&server), server.state(|state| state.checks.len())), (0, 1));
}

#[test]
fn a_dry_run_prints_every_request_and_sends_none() {
    let server = Server::new();
    let ran = server.post(&["--dry-run", "--status", "on"]).expect(0);
    for line in [
        "POST /repos/ada/engine/issues/7/comments",
        "POST /repos/ada/engine/check-runs",
        "POST /repos/ada/engine/statuses/",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert_eq!(server.hub.log().len(), 0);
}
