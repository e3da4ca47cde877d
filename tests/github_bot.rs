//! `regrade bot` against a server that knows who may do what, limits, fails and forgets: strangers start nothing, what was
//! edited or said twice does nothing, a fork is measured at the commit that was read and at no other, and whatever breaks,
//! a command is carried out once or not at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

#[path = "support/hub.rs"]
mod hub;
mod support;

use hub::{Hub, World, page};
use regrade::github::accepted::accepted;
use serde_json::{Value, json};
use support::{Place, Ran};
use wiremock::{Request, ResponseTemplate};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const OURS: &str = "github-actions[bot]";
const TOKEN: &str = "ghs_verysecrettoken";
/// The comment that the event is about.
const ID: u64 = 1001;

/// What the server knows.
#[derive(Debug)]
struct State {
    /// Comments of the pull request.
    comments: Vec<Value>,
    pull: Value,
    permission: Value,
    reactions: Vec<String>,
}

impl World for State {
    fn work(&mut self, method: &str, path: &str, request: &Request) -> ResponseTemplate {
        work(self, method, path, request)
    }
}

fn comment(id: u64, login: &str, body: &str) -> Value {
    let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
    json!({ "id": id, "body": body, "user": { "login": login, "type": kind }, "html_url": "http://x/c",
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z" })
}

/// What GitHub would do.
fn work(state: &mut State, method: &str, path: &str, request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let ok = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let none = || ResponseTemplate::new(404).set_body_json(json!({ "message": "Not Found" }));
    match (method, path.trim_start_matches("/repos/ada/engine")) {
        ("GET", "/collaborators/octo-boss/permission") => ok(state.permission.clone()),
        ("GET", "/issues/comments/1001") => {
            state.comments.iter().find(|comment| comment["id"] == ID).map_or_else(none, |found| ok(found.clone()))
        }
        ("GET", "/issues/7/comments") => page(&state.comments, request),
        ("POST", "/issues/7/comments") => {
            let made = comment(9000 + state.comments.len() as u64, OURS, body["body"].as_str().unwrap());
            state.comments.push(made.clone());
            ResponseTemplate::new(201).set_body_json(made)
        }
        ("POST", "/issues/comments/1001/reactions") => {
            state.reactions.push(body["content"].as_str().unwrap().to_owned());
            ResponseTemplate::new(201).set_body_json(json!({ "id": 1 }))
        }
        ("GET", "/pulls/7") => ok(state.pull.clone()),
        _ => none(),
    }
}

struct Server {
    hub: Hub<State>,
    place: Place,
    event: Value,
}

impl Server {
    /// A pull request of a branch, and a comment by somebody who may write.
    fn new(body: &str) -> Self {
        let said = comment(ID, "octo-boss", body);
        let hub = Hub::new(State {
            comments: vec![said.clone()],
            pull: json!({ "number": 7, "state": "open", "head": { "sha": SHA, "repo": { "full_name": "Ada/Engine" } } }),
            permission: json!({ "permission": "write", "role_name": "write", "user": { "login": "Octo-Boss" } }),
            reactions: Vec::new(),
        });
        let event = json!({ "action": "created", "issue": { "number": 7, "pull_request": {} }, "comment": said });
        Self { hub, place: Place::new(), event }
    }

    fn fork(body: &str) -> Self {
        let server = Self::new(body);
        server.change(|state| state.pull["head"]["repo"]["full_name"] = "eve/engine".into());
        server
    }

    fn bot(&self, more: &[&str]) -> Ran {
        self.place.write("event.json", &self.event.to_string());
        self.place.write("output", "");
        let mut words = vec!["bot"];
        words.extend(more);
        let mut command = self.place.command(&words);
        command
            .env("GITHUB_API_URL", self.hub.uri())
            .env("GITHUB_TOKEN", TOKEN)
            .env("GITHUB_REPOSITORY", "ada/engine")
            .env("GITHUB_EVENT_NAME", "issue_comment")
            .env("GITHUB_EVENT_PATH", self.place.file("event.json"))
            .env("GITHUB_OUTPUT", self.place.file("output"));
        let ran: Ran = command.output().unwrap().into();
        for text in [&ran.stdout, &ran.stderr, &self.output(), &self.replies().join("\n")] {
            assert!(!text.contains("verysecret"), "{text}");
        }
        ran
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.place.file("output")).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.hub.world(change);
    }

    fn fault(&self, method: &str, path: &str, done: bool, answer: ResponseTemplate) {
        self.hub.fault(method, path, done, answer);
    }

    fn state<T>(&self, read: impl Fn(&State) -> T) -> T {
        self.hub.world(|state| read(state))
    }

    /// What we wrote into the thread.
    fn replies(&self) -> Vec<String> {
        let body = |comment: &Value| comment["body"].as_str().unwrap().to_owned();
        self.state(|state| state.comments.iter().filter(|comment| comment["user"]["login"] == OURS).map(body).collect())
    }

    fn reactions(&self) -> Vec<String> {
        self.state(|state| state.reactions.clone())
    }

    fn asked(&self, what: &str) -> usize {
        self.hub.asked(what)
    }

    /// It ended well, started nothing and wrote nothing into the thread.
    #[track_caller]
    fn does_nothing(&self) -> Ran {
        let before = self.replies();
        let ran = self.bot(&[]).expect(0);
        assert_eq!((self.output().as_str(), self.replies()), ("command=\n", before), "{}", ran.stderr);
        ran
    }

    /// It answered, and started nothing.
    #[track_caller]
    fn refuses(&self, words: &str) -> String {
        let ran = self.bot(&[]).expect(0);
        let replies = self.replies();
        assert_eq!((self.output().as_str(), replies.len()), ("command=\n", 1), "{}", ran.stderr);
        assert!(replies[0].starts_with("<!-- regrade:bot:1001 -->\n") && replies[0].contains(words), "{}", replies[0]);
        assert_eq!(self.reactions(), ["confused"]);
        replies[0].clone()
    }
}

fn refused(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "message": message }))
}

#[test]
fn who_may_write_is_answered_and_the_workflow_is_told_what_to_start() {
    for (text, output, reaction) in [
        ("/regrade compare", format!("command=compare\npr=7\nsha={SHA}\n"), "rocket"),
        ("Please\n/regrade rerun gemm*@cpu", format!("command=rerun\npr=7\nsha={SHA}\ncase=gemm*@cpu\n"), "rocket"),
        ("/regrade compare at 0123456", format!("command=compare\npr=7\nsha={SHA}\n"), "rocket"),
        ("/regrade accept a@cpu up to 8% because r", format!("command=accept\npr=7\nsha={SHA}\n"), "+1"),
        ("/regrade help", "command=\n".to_owned(), "eyes"),
        ("/regrade comprae", "command=\n".to_owned(), "confused"),
    ] {
        let server = Server::new(text);
        server.bot(&[]).expect(0);
        assert_eq!((server.output(), server.reactions()), (output, vec![reaction.to_owned()]), "{text}");
        let replies = server.replies();
        assert!(replies.len() == 1 && replies[0].starts_with("<!-- regrade:bot:1001 -->\n"), "{text}: {replies:?}");
    }
}

#[test]
fn rights_are_asked_for_and_the_comment_s_own_word_is_not_believed() {
    let by = |login: &str, permission: &str, role: &str| {
        let user = json!({ "login": login });
        json!({ "permission": permission, "role_name": role, "user": user })
    };
    let role = |permission: &str, role: &str| by("Octo-Boss", permission, role);
    for (given, may) in [
        (role("admin", "admin"), true),
        (role("write", "maintain"), true),
        (role("write", "our-own-role"), true),
        (role("read", "triage"), false),
        (role("read", "read"), false),
        (role("none", "none"), false),
        // An organisation's own role may bear any name.
        (role("read", "write"), false),
        (role("read", "admin"), false),
        (json!({}), false),
        (json!({ "permission": "admin" }), false),
        (json!({ "permission": "admin", "user": null }), false),
        (by("somebody-else", "admin", "admin"), false),
    ] {
        let mut server = Server::new("/regrade compare");
        server.event["comment"]["author_association"] = "OWNER".into();
        server.change(|state| state.permission = given.clone());
        if may {
            server.bot(&[]).expect(0);
            assert!(server.output().starts_with("command=compare\n"), "{given}");
        } else {
            // A reaction, and not a word: answers to everybody would be a way to flood the thread.
            server.does_nothing();
            assert_eq!((server.reactions(), server.asked("/pulls/")), (vec!["-1".to_owned()], 0), "{given}");
        }
    }
    let nobody = Server::new("/regrade compare");
    nobody.fault("GET", "/permission", false, refused(404, "Not Found"));
    nobody.does_nothing();
}

#[test]
fn what_is_no_command_of_a_person_on_a_pull_request_asks_nothing() {
    let change = |change: &dyn Fn(&mut Value)| {
        let mut server = Server::new("/regrade compare");
        change(&mut server.event);
        server
    };
    for server in [
        change(&|event| event["action"] = "edited".into()),
        change(&|event| event["action"] = "deleted".into()),
        change(&|event| event["comment"]["user"]["type"] = "Bot".into()),
        change(&|event| event["issue"] = json!({ "number": 7 })),
        change(&|event| event["comment"]["user"]["login"] = "../../admin".into()),
        change(&|event| event["comment"]["user"]["login"] = "a?b=c".into()),
        change(&|event| event["comment"]["body"] = "I would write /regrade compare here".into()),
        change(&|event| event["comment"]["body"] = Value::Null),
    ] {
        server.does_nothing();
        assert_eq!(server.hub.log(), [""; 0]);
    }
}

#[test]
fn another_event_is_a_mistake_of_the_workflow() {
    let server = Server::new("/regrade compare");
    let mut command = server.place.command(&["bot"]);
    server.place.write("event.json", "{}");
    let ran: Ran = command
        .env("GITHUB_TOKEN", TOKEN)
        .env("GITHUB_REPOSITORY", "ada/engine")
        .env("GITHUB_EVENT_NAME", "schedule")
        .env("GITHUB_EVENT_PATH", server.place.file("event.json"))
        .output()
        .unwrap()
        .into();
    assert!(ran.expect(2).stderr.contains("issue_comment"));
}

#[test]
fn what_was_edited_or_deleted_meanwhile_is_not_done() {
    let edited = Server::new("/regrade compare");
    edited.change(|state| state.comments[0]["body"] = "/regrade compare at 0123456".into());
    assert!(edited.does_nothing().stderr.contains("edited"));
    assert_eq!(edited.reactions(), ["confused"]);
    let taken_over = Server::new("/regrade compare");
    taken_over.change(|state| state.comments[0]["user"]["login"] = "eve".into());
    taken_over.does_nothing();
    // What an app writes in somebody's name is not what they wrote, and nobody waits for an answer.
    let by_app = Server::new("/regrade compare");
    by_app.change(|state| state.comments[0]["performed_via_github_app"] = json!({ "id": 1, "slug": "helper" }));
    assert!(by_app.does_nothing().stderr.contains("an app wrote"));
    assert_eq!(by_app.asked("POST"), 0);
    let by_hand = Server::new("/regrade compare");
    by_hand.change(|state| state.comments[0]["performed_via_github_app"] = Value::Null);
    by_hand.bot(&[]).expect(0);
    assert!(by_hand.output().starts_with("command=compare\n"));
    let deleted = Server::new("/regrade compare");
    deleted.change(|state| state.comments.clear());
    assert!(deleted.does_nothing().stderr.contains("gone"));
    assert_eq!(deleted.asked("POST"), 0);
}

#[test]
fn the_same_comment_is_answered_once_however_often_it_is_delivered() {
    let server = Server::new("/regrade accept a@cpu because r");
    // Somebody who writes our marker silences nobody, and our answer is found on the second page.
    let planted = comment(2, "eve", "<!-- regrade:bot:1001 -->\nDone.");
    server.change(|state| state.comments.push(planted));
    for id in 3..150 {
        server.change(|state| state.comments.push(comment(id, "bob", "talk")));
    }
    server.bot(&[]).expect(0);
    assert!(server.output().starts_with("command=accept\n"));
    assert!(server.does_nothing().stderr.contains("has its answer already"));
    assert_eq!((server.replies().len(), server.reactions().len()), (1, 1));
    // Another comment's answer is none to this one.
    let other = Server::new("/regrade compare");
    other.change(|state| state.comments.push(comment(2, OURS, "<!-- regrade:bot:100 -->\nDone.")));
    other.bot(&[]).expect(0);
    assert!(other.output().starts_with("command=compare\n"));
}

#[test]
fn a_thread_too_long_to_be_read_whole_starts_nothing() {
    let server = Server::new("/regrade compare");
    // An answer to the comment may lie behind what can be read.
    server.change(|state| state.comments.extend((5001..=9000).map(|id| comment(id, "bob", "talk"))));
    let ran = server.bot(&[]).expect(6);
    assert!(ran.stderr.contains("more than 40 pages"), "{}", ran.stderr);
    assert_eq!((server.output().as_str(), server.asked("POST")), ("", 0));
}

#[test]
fn a_closed_pull_request_is_answered_and_that_is_all() {
    let server = Server::new("/regrade compare");
    server.change(|state| state.pull["state"] = "closed".into());
    server.refuses("is closed");
}

#[test]
fn a_fork_is_measured_at_the_commit_that_was_read_and_at_no_other() {
    let stale = "f".repeat(40);
    let line = format!("\n/regrade compare at {SHA}\n");
    for (text, words) in [
        ("/regrade compare".to_owned(), "comes from a fork"),
        (format!("/regrade compare at {}", &SHA[..39]), "short hashes can be forged"),
        (format!("/regrade compare at {stale}"), "is not the head"),
    ] {
        let reply = Server::fork(&text).refuses(words);
        assert!(reply.contains(&line) && reply.contains(&format!("/ada/engine/pull/7/commits/{SHA}")), "{reply}");
    }
    let reply = Server::fork("/regrade rerun a*@cpu").refuses("comes from a fork");
    assert!(reply.contains(&format!(" at {SHA}")), "{reply}");
    // It can show one number now and another later.
    for text in ["/regrade accept a@cpu because r".to_owned(), format!("/regrade accept a@cpu at {SHA} because r")] {
        let reply = Server::fork(&text).refuses("say how much is accepted");
        assert!(reply.contains("\n/regrade accept a@cpu latency up to 8% because r\n"), "{reply}");
    }
    let server = Server::fork(&format!("/regrade rerun a*@cpu at {}", SHA.to_uppercase()));
    server.bot(&[]).expect(0);
    assert_eq!(server.output(), format!("command=rerun\npr=7\nsha={SHA}\ncase=a*@cpu\n"));
    // A fork that was deleted is one all the same, and so is another repository of a similar name.
    for repo in [Value::Null, json!({ "full_name": "ada/engine2" })] {
        let server = Server::new("/regrade compare");
        server.change(|state| state.pull["head"]["repo"] = repo);
        server.refuses("comes from a fork");
    }
    // A bound says itself how much is accepted.
    let bounded = Server::fork("/regrade accept a@cpu up to 8% because r");
    bounded.bot(&[]).expect(0);
    assert!(bounded.output().starts_with("command=accept\n"));
    let reply = bounded.replies().concat();
    assert!(
        reply.contains(&format!("`/regrade compare at {SHA}` measures it")) && !reply.contains("posted anew"),
        "{reply}"
    );
    // One that is about a commit is about the head.
    Server::fork(&format!("/regrade accept a@cpu at {stale} up to 8% because r")).refuses("is not the head");
}

#[test]
fn a_push_between_reading_and_writing_is_noticed() {
    // What was read and named, and what the head has become since.
    for server in [Server::fork(&format!("/regrade compare at {SHA}")), Server::new("/regrade compare at 0123456")] {
        let now = "f".repeat(40);
        server.change(|state| state.pull["head"]["sha"] = now.as_str().into());
        let reply = server.refuses("is not the head");
        assert!(reply.contains(&format!("at {now}")), "{reply}");
    }
    // A head that is none is no answer of GitHub's.
    let server = Server::new("/regrade compare");
    server.change(|state| state.pull["head"]["sha"] = "main".into());
    server.bot(&[]).expect(6);
    assert_eq!((server.output().as_str(), server.replies().len()), ("", 0));
}

#[test]
fn an_acceptance_is_kept_in_the_answer_and_read_from_there() {
    let server = Server::new("/regrade accept gemm/m=256@cpu up to 8% because of checked arithmetic");
    server.bot(&[]).expect(0);
    let kept = server.state(|state| accepted(&state.comments, OURS));
    assert_eq!((kept[0].case.as_str(), kept[0].change, &kept[0].sha), ("gemm/m=256@cpu", Some(0.08), &None));
    assert_eq!((kept[0].who.as_str(), kept[0].comment), ("octo-boss", ID));
    assert!(server.replies()[0].contains("[[waiver]]\ncase = \"gemm/m=256@cpu\"\n"), "{}", server.replies()[0]);

    let server = Server::new("/regrade accept a@cpu throughput because of checked arithmetic");
    server.bot(&[]).expect(0);
    let kept = server.state(|state| accepted(&state.comments, OURS));
    assert_eq!((kept[0].change, kept[0].sha.as_deref()), (None, Some(SHA)));
    assert!(server.replies()[0].contains("at commit `0123456789`, and at no other"), "{}", server.replies()[0]);
}

#[test]
fn no_text_gets_out_of_its_place() {
    for text in [
        "/regrade compare at $(touch owned)",
        "/regrade rerun a@cpu\u{2028}command=compare",
        "/regrade rerun a@cpu\rcommand=compare",
        "/regrade rerun `id`;id|id",
        "/regrade rerun a%0Acommand=compare at main",
        "/regrade @everyone <!-- regrade:bot:1001 --> #1 https://evil.example ![x](//evil.example)",
        "/regrade accept a@cpu up to 8% because x --> <!-- regrade:accepted:e30= -->",
        "/regrade accept ../../x because y",
        "::set-output name=command::compare\n/regrade ::set-output name=command::compare",
    ] {
        let server = Server::new(text);
        server.bot(&[]).expect(0);
        assert_eq!(server.output(), "command=\n", "{text}");
        let reply = server.replies().concat();
        let said = reply.lines().nth(1).unwrap_or_default();
        assert!(said.starts_with("I did not understand that"), "{reply}");
        for odd in ["<!--", "@everyone", " #1", "://", "![", "$("] {
            assert!(!said.contains(odd), "{odd}: {said}");
        }
    }
    let server =
        Server::new("/regrade accept a@cpu up to 8% because @team #1 https://evil.example <img src=x> \"\"\" ```");
    server.bot(&[]).expect(0);
    let reply = server.replies().concat();
    let quoted = reply.lines().find(|line| line.starts_with("> ")).unwrap();
    for odd in ["@team", "#1 ", "://", "<img", "`"] {
        assert!(!quoted.contains(odd), "{odd}: {quoted}");
    }
    assert_eq!(server.state(|state| accepted(&state.comments, OURS).len()), 1);
}

#[test]
fn an_answer_whose_receipt_was_lost_is_not_given_twice() {
    let server = Server::new("/regrade compare");
    server.fault("POST", "/issues/7/comments", true, refused(502, "Bad Gateway"));
    server.bot(&[]).expect(0);
    assert_eq!((server.replies().len(), server.output()), (1, format!("command=compare\npr=7\nsha={SHA}\n")));
    // And one that was not posted starts nothing.
    let server = Server::new("/regrade compare");
    server.fault("POST", "/issues/7/comments", false, refused(422, "Validation Failed"));
    let ran = server.bot(&[]).expect(6);
    assert!(ran.stderr.contains("422"), "{}", ran.stderr);
    assert_eq!((server.replies().len(), server.output().as_str(), server.reactions().len()), (0, "", 0));
}

#[test]
fn outputs_that_cannot_be_written_start_nothing_and_are_not_tried_again() {
    let mut server = Server::new("/regrade compare");
    server.event["x"] = 1.into();
    server.place.write("event.json", &server.event.to_string());
    let mut command = server.place.command(&["bot"]);
    let ran: Ran = command
        .env("GITHUB_API_URL", server.hub.uri())
        .env("GITHUB_TOKEN", TOKEN)
        .env("GITHUB_REPOSITORY", "ada/engine")
        .env("GITHUB_EVENT_NAME", "issue_comment")
        .env("GITHUB_EVENT_PATH", server.place.file("event.json"))
        .env("GITHUB_OUTPUT", server.place.path())
        .output()
        .unwrap()
        .into();
    assert!(ran.expect(6).stderr.contains("GITHUB_OUTPUT"));
    assert_eq!(server.replies().len(), 1);
    server.does_nothing();
}

#[test]
fn a_reaction_is_no_reason_to_fail_and_every_other_permission_is() {
    let server = Server::new("/regrade compare");
    server.fault("POST", "/reactions", false, refused(403, "Resource not accessible by integration"));
    server.bot(&[]).expect(0);
    assert!(server.output().starts_with("command=compare\n"));
    for (method, path, needs) in [
        ("POST", "/issues/7/comments", "issues=write; pull_requests=write"),
        ("GET", "/pulls/7", "pull_requests=read"),
        ("GET", "/permission", "metadata=read"),
    ] {
        let server = Server::new("/regrade compare");
        let denied = refused(403, "Resource not accessible by integration");
        server.fault(method, path, false, denied.insert_header("x-accepted-github-permissions", needs));
        let ran = server.bot(&[]).expect(6);
        assert!(ran.stderr.contains("grant it to the job") && server.output().is_empty(), "{}", ran.stderr);
        assert_eq!(server.replies().len(), 0);
    }
}

#[test]
fn limits_are_waited_for_while_there_is_patience() {
    let limited =
        |after: &str| refused(403, "You have exceeded a secondary rate limit").insert_header("retry-after", after);
    let server = Server::new("/regrade compare");
    server.fault("GET", "/permission", false, limited("1"));
    server.fault("POST", "/issues/7/comments", false, limited("1"));
    server.bot(&[]).expect(0);
    assert_eq!(server.replies().len(), 1);
    let server = Server::new("/regrade compare");
    server.fault("GET", "/permission", false, limited("3600"));
    let ran = server.bot(&["--patience", "2s"]).expect(6);
    assert!(ran.stderr.contains("rate limited") && server.output().is_empty(), "{}", ran.stderr);
}

#[test]
fn a_dry_run_prints_requests_and_outputs_and_sends_none() {
    let server = Server::fork(&format!("/regrade rerun a*@cpu at {SHA}"));
    let ran = server.bot(&["--dry-run"]).expect(0);
    for line in [
        "GET /repos/ada/engine/collaborators/octo-boss/permission",
        "GET /repos/ada/engine/issues/comments/1001",
        "POST /repos/ada/engine/issues/7/comments",
        "POST /repos/ada/engine/issues/comments/1001/reactions",
        &format!("command=rerun\npr=7\nsha={SHA}\ncase=a*@cpu\n"),
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert_eq!((server.hub.log().len(), server.output().as_str()), (0, ""));
}
