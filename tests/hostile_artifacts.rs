//! Artifacts that somebody made to do harm: what is wrong in itself is refused with its reason and nothing is posted; what is
//! only a wicked text is posted as text.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

#[path = "support/hub.rs"]
mod hub;
mod support;

use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hub::Hub;
use serde_json::{Value, json};
use support::{Place, Ran};
use wiremock::{Request, ResponseTemplate};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const SUITE: &str = include_str!("fixtures/strangers/demo.toml");
const REPORT: &str = include_str!("fixtures/strangers/demo.json");
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// What the server answers, and what it was told.
#[derive(Debug, Clone)]
struct World {
    run: Value,
    pulls: Value,
    artifacts: Value,
    archive: Vec<u8>,
    /// The suite as it stands on the base branch.
    suite: String,
    checks: Vec<Value>,
    written: Vec<Value>,
}

impl World {
    /// A fork's pull request whose benchmark left an honest report.
    fn honest() -> Self {
        let report = report();
        let sha = &report["paired"]["head_commit"];
        Self {
            run: json!({
                "id": 7001, "event": "pull_request", "status": "completed", "conclusion": "success", "head_sha": sha,
                "head_branch": "tiles", "head_repository": { "full_name": "eve/engine" },
                "path": ".github/workflows/bench-pr.yml", "html_url": "https://github.com/ada/engine/actions/runs/7001",
            }),
            pulls: json!([{
                "number": 8, "state": "open", "base": { "ref": "main" },
                "head": { "sha": sha, "ref": "tiles", "repo": { "full_name": "eve/engine" } },
            }]),
            artifacts: json!([{ "id": 1, "name": "regrade-report", "size_in_bytes": 1000, "expired": false }]),
            archive: zipped(REPORT.as_bytes()),
            suite: SUITE.to_owned(),
            checks: Vec::new(),
            written: Vec::new(),
        }
    }

    fn with_archive(archive: Vec<u8>) -> Self {
        Self { archive, ..Self::honest() }
    }

    fn with_report(report: &Value) -> Self {
        Self::with_archive(zipped(report.to_string().as_bytes()))
    }

    fn with_text(text: &str) -> Self {
        Self::with_archive(zipped(text.as_bytes()))
    }
}

fn report() -> Value {
    serde_json::from_str(REPORT).unwrap()
}

fn changed(change: impl FnOnce(&mut Value)) -> World {
    let mut report = report();
    change(&mut report);
    World::with_report(&report)
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    archive(|zip| {
        zip.start_file("report.json", deflated()).unwrap();
        zip.write_all(bytes).unwrap();
    })
}

fn deflated() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn archive(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut zip);
    zip.finish().unwrap().into_inner()
}

/// An archive of the honest report under another name.
fn named(name: &str) -> Vec<u8> {
    let mut bytes = archive(|zip| {
        zip.start_file("x".repeat(name.len()), deflated()).unwrap();
        zip.write_all(REPORT.as_bytes()).unwrap();
    });
    // The library writes no such names; attackers do.
    let placeholder = "x".repeat(name.len());
    while let Some(at) = bytes.windows(name.len()).position(|window| window == placeholder.as_bytes()) {
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    bytes
}

/// An archive with two entries of the same name, which the library would not write.
fn doubled() -> Vec<u8> {
    let mut bytes = archive(|zip| {
        for name in ["report.json", "report.jsom"] {
            zip.start_file(name, deflated()).unwrap();
            zip.write_all(REPORT.as_bytes()).unwrap();
        }
    });
    while let Some(at) = bytes.windows(11).position(|window| window == b"report.jsom") {
        bytes[at + 10] = b'n';
    }
    bytes
}

/// Changes the four bytes that lie `offset` after the central directory's header.
fn directory(offset: usize, value: u32) -> Vec<u8> {
    let mut bytes = zipped(REPORT.as_bytes());
    let at = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap() + offset;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// A target of the first row's case and metric, as a report tells it.
fn target(report: &Value) -> Value {
    let row = &report["rows"][0];
    json!({
        "case": row["case"], "benchmark": row["benchmark"], "metric": row["metric"], "head": row["head"], "fails": false,
        "target": { "that": "latency <= 1 h", "metric": "latency", "comparison": "at_most", "value": 3600.0, "required": true },
        "verdict": { "call": "met", "reason": "established", "reading": null, "note": "reached" },
    })
}

type Change = fn(&mut Value);
type WorldChange = fn(&mut World);

impl hub::World for World {
    fn work(&mut self, method: &str, path: &str, request: &Request) -> ResponseTemplate {
        let ok = |body: Value| ResponseTemplate::new(200).set_body_json(body);
        if method != "GET" {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            self.written.push(json!({ "path": path, "body": body }));
            return ResponseTemplate::new(201).set_body_json(json!({ "id": 5, "html_url": "http://x/c" }));
        }
        match path.strip_prefix("/repos/ada/engine").unwrap_or("?").trim_start_matches('/') {
            "" => ok(json!({ "default_branch": "main" })),
            "actions/runs/7001" => ok(self.run.clone()),
            "pulls" => ok(self.pulls.clone()),
            "pulls/8" => ok(self.pulls[0].clone()),
            "actions/runs/7001/artifacts" => ok(json!({ "total_count": 1, "artifacts": self.artifacts })),
            "actions/artifacts/1/zip" => ResponseTemplate::new(200).set_body_bytes(self.archive.clone()),
            "contents/suites/demo.toml" => ok(
                json!({ "type": "file", "encoding": "base64", "size": self.suite.len(), "content": BASE64_STANDARD.encode(&self.suite) }),
            ),
            "issues/8/comments" => ok(json!([])),
            path if path.ends_with("/check-runs") => ok(json!({ "check_runs": self.checks })),
            _ => ResponseTemplate::new(404).set_body_json(json!({ "message": "Not Found" })),
        }
    }
}

struct Server {
    hub: Hub<World>,
    place: Place,
}

impl Server {
    fn new() -> Self {
        Self { hub: Hub::new(World::honest()), place: Place::new() }
    }

    /// Posts what the world's workflow run left; what was done, and what was written.
    fn post(&self, world: World) -> (Ran, Vec<Value>) {
        self.post_with(world, &["--suite", "suites/demo.toml"])
    }

    fn post_with(&self, world: World, more: &[&str]) -> (Ran, Vec<Value>) {
        self.hub.world(|now| *now = world);
        let mut words = vec!["post", "--repo", "ada/engine", "--run-id", "7001", "--status", "on", "--pictures", "off"];
        words.extend(more);
        let mut command = self.place.command(&words);
        command.env("GITHUB_API_URL", self.hub.uri()).env("GITHUB_TOKEN", "ghs_verysecrettoken");
        let ran = command.output().unwrap().into();
        (ran, self.hub.world(|now| now.written.clone()))
    }

    /// Posts a file that a maintainer's workflow fetched.
    fn post_file(&self, report: &str, sha: &str) -> (Ran, Vec<Value>) {
        self.place.write("untrusted/report.json", report);
        self.post_file_as_it_is(sha)
    }

    fn post_file_as_it_is(&self, sha: &str) -> (Ran, Vec<Value>) {
        self.hub.world(|now| *now = World::honest());
        let event = json!({ "inputs": { "pr": "8", "sha": sha } });
        self.place.write("event.json", &event.to_string());
        let mut command =
            self.place.command(&["post", "untrusted/report.json", "--suite", "suites/demo.toml", "--pictures", "off"]);
        command.env("GITHUB_API_URL", self.hub.uri()).env("GITHUB_TOKEN", "ghs_verysecrettoken");
        command.env("GITHUB_EVENT_NAME", "workflow_dispatch").env("GITHUB_REPOSITORY", "ada/engine");
        command.env("GITHUB_EVENT_PATH", self.place.file("event.json")).env("GITHUB_SHA", OTHER);
        let ran = command.output().unwrap().into();
        (ran, self.hub.world(|now| now.written.clone()))
    }

    /// What is wrong where it is not refused with these words, or anything is written.
    fn lets_through(&self, what: &str, world: World, words: &str) -> Option<String> {
        let (ran, written) = self.post(world);
        harmless_log(what, &ran);
        let refused = (ran.code == 2 || ran.code == 6) && ran.stderr.contains("error: ");
        (!refused || !written.is_empty() || !ran.stderr.contains(words))
            .then(|| format!("{what}: {} {written:?} {}", ran.code, ran.stderr))
    }
}

/// Nothing that a runner takes for a command, a terminal for movement, or anybody for the token.
#[track_caller]
fn harmless_log(what: &str, ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        assert!(text.lines().all(|line| !line.trim_start().starts_with("::")), "{what}: {text}");
        assert!(!text.contains("##["), "{what}: {text}");
        let odd = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(odd), "{what}: {text:?}");
        assert!(!text.contains("verysecret"), "{what}: {text}");
    }
}

/// Texts of requests, with what stands in code taken out: there it means nothing.
fn live_texts(written: &[Value]) -> Vec<String> {
    fn texts(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for request in written {
        texts(&request["body"], &mut found);
    }
    found
        .into_iter()
        .map(|text| {
            let outside: Vec<&str> = text.split("```").step_by(2).collect();
            outside.join("").lines().map(|line| line.split('`').step_by(2).collect::<String>() + "\n").collect()
        })
        .collect()
}

/// Archives that are none, or not what they say.
fn archives() -> Vec<(String, World, &'static str)> {
    let honest = zipped(REPORT.as_bytes());
    let mut all: Vec<(String, Vec<u8>, &str)> = vec![
        ("nothing".into(), Vec::new(), "no usable zip file"),
        ("a text".into(), REPORT.as_bytes().to_vec(), "no usable zip file"),
        ("a gzip".into(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), "no usable zip file"),
        ("an empty archive".into(), archive(|_| {}), "holds 0 entries"),
        (
            "a directory".into(),
            archive(|zip| zip.add_directory("report.json", deflated()).unwrap()),
            "`report.json` alone is expected",
        ),
        (
            "a link".into(),
            archive(|zip| zip.add_symlink("report.json", "/proc/self/environ", deflated()).unwrap()),
            "no regular file",
        ),
        (
            "two entries".into(),
            archive(|zip| {
                for name in ["report.json", "x.json"] {
                    zip.start_file(name, deflated()).unwrap();
                    zip.write_all(REPORT.as_bytes()).unwrap();
                }
            }),
            "holds 2 entries",
        ),
        ("two entries of one name".into(), doubled(), "holds 2 entries"),
        (
            "something before it".into(),
            [b"#!/bin/sh\n".to_vec(), zipped(REPORT.as_bytes())].concat(),
            "begins with something else",
        ),
        ("a bomb of nothing".into(), zipped(&vec![b' '; 40 << 20]), "times its size"),
        ("a larger bomb".into(), zipped(&vec![b'0'; 70 << 20]), "holds more than"),
        ("a bomb of brackets".into(), zipped(&vec![b'['; 30 << 20]), "times its size"),
        ("another sum".into(), directory(16, 0xdead_beef), "cannot be unpacked"),
        ("encrypted".into(), directory(8, 0x0008_0001), "no usable zip file"),
        ("an unknown method".into(), directory(10, 99), "method not supported"),
        ("said to be smaller".into(), directory(24, 10), ""),
        ("said to be larger".into(), directory(24, 1 << 20), ""),
        ("said to be huge".into(), directory(24, u32::MAX - 1), "holds more than"),
        ("said to lie elsewhere".into(), directory(42, 0x00ff_ffff), "no usable zip file"),
    ];
    for name in [
        "../report.json",
        "../../etc/passwd",
        "/report.json",
        "/etc/cron.d/x",
        "a/report.json",
        "./report.json",
        "report.json/",
        "REPORT.JSON",
        "report.json ",
        "report.jsonx",
        "report.json\0.png",
        "..\\report.json",
        "C:report.json",
        "report\u{202e}nosj.",
        "-rf",
        "$(id).json",
        "report.json\n::error::x",
        "con",
        "\u{1b}[2Jreport.json",
    ] {
        all.push((format!("the name {name:?}"), named(name), "`report.json` alone is expected"));
    }
    for share in 1..10 {
        all.push((
            format!("{share} tenths of an archive"),
            honest[..honest.len() * share / 10].to_vec(),
            "no usable zip file",
        ));
    }
    for byte in [0, 10, 60, 200, 1000] {
        let mut broken = honest.clone();
        broken[30 + 11 + byte] ^= 0x55;
        all.push((format!("byte {byte} flipped"), broken, ""));
    }
    all.into_iter().map(|(what, archive, words)| (what, World::with_archive(archive), words)).collect()
}

/// Texts that are no report.
fn reports() -> Vec<(String, World, &'static str)> {
    let mut all: Vec<(String, World, &str)> = Vec::new();
    let mut text =
        |what: &str, text: &str, words: &'static str| all.push((what.to_owned(), World::with_text(text), words));
    text("nothing in it", "", "cannot be read");
    text("null", "null", "cannot be read");
    text("a list", "[]", "cannot be read");
    text("two documents", &format!("{REPORT}{REPORT}"), "cannot be read");
    text("200 levels", &("[".repeat(200) + &"]".repeat(200)), "cannot be read");
    text("100,000 levels", &("[".repeat(100_000) + &"]".repeat(100_000)), "");
    text(
        "levels in a known place",
        &REPORT.replacen("\"notes\":", &format!("\"notes\":{}1{},\"x\":", "[".repeat(500), "]".repeat(500)), 1),
        "cannot be read",
    );
    text("no UTF-8", "{\"suite\":\"\\ud800\"}", "cannot be read");
    text("a key twice", &REPORT.replacen('{', "{\"suite\":\"demo\",", 1), "duplicate field");
    text("a comment", &format!("/* hello */{REPORT}"), "cannot be read");
    for share in 1..10 {
        text("cut off", &REPORT[..REPORT.len() * share / 10], "cannot be read");
    }
    for number in
        ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "null", "\"1\"", "true", "[]", "1.0e"]
    {
        let first = REPORT.find("\"value\":").unwrap() + "\"value\":".len();
        let end = first + REPORT[first..].find([',', '}']).unwrap();
        text(
            &format!("the number {number}"),
            &format!("{}{number}{}", &REPORT[..first], &REPORT[end..]),
            "cannot be read",
        );
    }
    let mut bytes = REPORT.as_bytes().to_vec();
    let at = REPORT.find("demo").unwrap();
    bytes[at] = 0xff;
    all.push(("no UTF-8 in a text".into(), World::with_archive(zipped(&bytes)), "cannot be read"));

    let honest = report();
    for key in honest.as_object().unwrap().keys() {
        all.push((format!("{key} of another type"), changed(|report| report[key] = json!({ "x": [1] })), ""));
    }
    for key in ["schema_version", "suite", "gate", "testbed", "head", "base", "outcome", "rows", "notes", "generated"] {
        let without = changed(|report| {
            report.as_object_mut().unwrap().remove(key);
        });
        all.push((format!("without {key}"), without, ""));
    }
    let changes: [(&str, Change, &str); 41] = [
        ("an unknown key", |r| r["x"] = 1.into(), "unknown key `x`"),
        ("a key that is a command", |r| r["##[error]x"] = 1.into(), "unknown key"),
        ("a unit that is a command", |r| r["rows"][0]["metric"]["unit"] = "##[stop-commands]x".into(), "instead of s"),
        ("300 runs as base", |r| r["base"] = vec![r["base"][0].clone(); 300].into(), "more than 100 runs"),
        ("an unknown key of a row", |r| r["rows"][0]["x"] = 1.into(), "unknown key `rows.0.x`"),
        ("an unknown key of a side", |r| r["rows"][0]["base"]["x"] = 1.into(), "unknown key"),
        ("an unknown key of a launch", |r| r["rows"][0]["base"]["launches"][0]["x"] = 1.into(), "unknown key"),
        ("an unknown key of a verdict", |r| r["rows"][0]["verdict"]["x"] = 1.into(), "unknown key"),
        ("an unknown key of head", |r| r["head"]["__proto__"] = json!({}), "unknown key"),
        ("version 0", |r| r["schema_version"] = 0.into(), "has version 0"),
        ("version 2", |r| r["schema_version"] = 2.into(), "has version 2"),
        ("version -1", |r| r["schema_version"] = (-1).into(), "cannot be read"),
        ("a row twice", |r| r["rows"][1] = r["rows"][0].clone(), "twice"),
        ("10,000 rows", |r| r["rows"] = vec![r["rows"][0].clone(); 10_000].into(), ""),
        (
            "a launch twice",
            |r| r["rows"][0]["base"]["launches"][1] = r["rows"][0]["base"]["launches"][0].clone(),
            "twice",
        ),
        ("10,000 targets", |r| r["targets"] = vec![target(r); 10_000].into(), ""),
        (
            "a target with a launch twice",
            |r| {
                r["targets"] = json!([target(r)]);
                let launches = r["targets"][0]["head"]["launches"].as_array_mut().unwrap();
                launches.push(launches[0].clone());
            },
            "counts a launch twice",
        ),
        (
            "a target with launches of the base",
            |r| {
                r["targets"] = json!([target(r)]);
                r["targets"][0]["head"] = r["rows"][0]["base"].clone();
            },
            "a launch of another run",
        ),
        (
            "a target of many lines",
            |r| {
                r["targets"] = json!([target(r)]);
                r["targets"][0]["target"]["that"] = "latency\n::error::x".into();
            },
            "impossible name",
        ),
        (
            "a target with an unknown key",
            |r| {
                r["targets"] = json!([target(r)]);
                r["targets"][0]["target"]["x"] = 1.into();
            },
            "unknown key",
        ),
        ("base is head", |r| r["rows"][0]["base"] = r["rows"][0]["head"].clone(), "as base and as head"),
        (
            "a side without its last launch",
            |r| {
                r["rows"][0]["base"]["launches"].as_array_mut().unwrap().pop();
            },
            "without a base or a head",
        ),
        ("too few samples", |r| r["rows"][0]["base"]["launches"][0]["samples"] = json!([]), "samples"),
        (
            "another number of samples",
            |r| r["rows"][0]["base"]["launches"][0]["samples"] = json!([1.0, 2.0, 3.0]),
            "samples",
        ),
        ("samples that are texts", |r| r["rows"][0]["base"]["launches"][0]["samples"] = json!(["1"]), "cannot be read"),
        ("no launch id", |r| r["rows"][0]["base"]["launches"][0]["launch"] = "../../x".into(), "cannot be read"),
        ("another severity", |r| r["rows"][0]["verdict"]["severity"] = "mild".into(), "cannot be read"),
        ("another call", |r| r["rows"][0]["verdict"]["call"] = "pass".into(), "cannot be read"),
        ("a time in the year 999999", |r| r["generated"] = "+999999-01-01T00:00:00Z".into(), "cannot be read"),
        ("synthetic", |r| r["head"]["synthetic"] = "--inject".into(), "slower on purpose"),
        ("a long name", |r| r["rows"][0]["case"] = "x".repeat(500).into(), "impossible name"),
        ("a name of two lines", |r| r["rows"][0]["case"] = "a\n::error::b".into(), "impossible name"),
        ("a unit of two lines", |r| r["rows"][0]["metric"]["unit"] = "s\n\n# x".into(), "impossible name"),
        ("a long text", |r| r["rows"][0]["verdict"]["note"] = "x".repeat(100_000).into(), "too long"),
        ("a unit of its own", |r| r["rows"][0]["metric"]["unit"] = "ms".into(), "in ms instead of s"),
        ("another suite", |r| r["suite"] = "other".into(), "is about the suite"),
        ("another commit", |r| r["paired"]["head_commit"] = OTHER.into(), "is about 89abcdef01"),
        ("no commit", |r| r["paired"]["head_commit"] = "HEAD; id".into(), "names no commit"),
        ("no base", |r| r["paired"]["base_commit"] = "main".into(), "names a base that is no commit"),
        (
            "without pairs, another commit",
            |r| {
                r["paired"] = Value::Null;
                r["head"]["commit"] = OTHER.into();
            },
            "is about 89abcdef01",
        ),
        (
            "1,500 launches",
            |r| {
                let launch = r["rows"][0]["base"]["launches"][0].clone();
                let fresh = |n: u32| {
                    let mut one = launch.clone();
                    one["launch"] = format!("00000000-0000-7000-8000-{n:012x}").into();
                    one
                };
                r["rows"][0]["base"]["launches"] = (0..1500).map(fresh).collect::<Vec<_>>().into();
            },
            "launches",
        ),
    ];
    all.extend(changes.map(|(what, change, words)| (what.to_owned(), changed(change), words)));
    let fields =
        ["/suite", "/rows/0/case", "/rows/0/metric/name", "/rows/0/verdict/note", "/head/toolchain", "/notes/0"];
    for (what, text) in [
        ("a NUL", "a\0b"),
        ("an escape", "a\u{1b}[31mb"),
        ("a return", "a\rb"),
        ("turned text", "a\u{202e}b"),
        ("isolates", "a\u{2066}b"),
        ("nothing to see", "a\u{200b}b"),
        ("a byte order mark", "\u{feff}a"),
        ("tags", "a\u{e0041}b"),
    ] {
        for field in fields {
            let odd = changed(|report| {
                report["notes"] = json!(["x"]);
                *report.pointer_mut(field).unwrap() = text.into();
            });
            all.push((format!("{what} in {field}"), odd, "holds a text"));
        }
    }
    all
}

/// Runs and pull requests that are not what the artifact would have them be.
fn identities() -> Vec<(String, World, &'static str)> {
    let with = |change: WorldChange| {
        let mut world = World::honest();
        change(&mut world);
        world
    };
    vec![
        ("of a push".into(), with(|w| w.run["event"] = "push".into()), "was started by `push`"),
        ("of a dispatch".into(), with(|w| w.run["event"] = "workflow_dispatch".into()), "was started by"),
        ("of an odd event".into(), with(|w| w.run["event"] = "\u{1b}]0;x\n::error::".into()), "was started by"),
        ("not completed".into(), with(|w| w.run["status"] = "in_progress".into()), "not completed"),
        ("without a commit".into(), with(|w| w.run["head_sha"] = "HEAD".into()), "no commit"),
        ("of two pull requests".into(), with(|w| w.pulls = vec![w.pulls[0].clone(); 2].into()), "2 open pull requests"),
        ("expired".into(), with(|w| w.artifacts[0]["expired"] = true.into()), "expired"),
        ("of a gigabyte".into(), with(|w| w.artifacts[0]["size_in_bytes"] = (1_u64 << 30).into()), "bytes"),
        ("gone".into(), with(|w| w.artifacts[0]["id"] = 2.into()), "404"),
    ]
}

#[test]
fn an_honest_artifact_is_posted_as_an_untrusted_measurement() {
    let server = Server::new();
    let (ran, written) = server.post(World::honest());
    let ran = ran.expect(0);
    assert_eq!(written.len(), 3, "a comment, a check, a status: {written:?}");
    let comment = written[0]["body"]["body"].as_str().unwrap();
    assert!(comment.contains("## ❌") && comment.contains("Untrusted measurement"), "{comment}");
    assert!(comment.contains("`regrade compare suites/demo.toml"), "{comment}");
    assert_eq!(written[1]["body"]["conclusion"], "failure");
    let annotation = &written[1]["body"]["output"]["annotations"][0];
    assert_eq!((annotation["path"].as_str(), annotation["start_line"].as_u64()), (Some("suites/demo.toml"), Some(12)));
    harmless_log("honest", &ran);
    let (again, _) = server.post_file(REPORT, report()["paired"]["head_commit"].as_str().unwrap());
    again.expect(0);
}

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    let server = Server::new();
    let mut all = archives();
    all.extend(reports());
    all.extend(identities());
    assert!(all.len() >= 200, "{}", all.len());
    let through: Vec<String> =
        all.into_iter().filter_map(|(what, world, words)| server.lets_through(&what, world, words)).collect();
    assert!(through.is_empty(), "{} get through:\n{}", through.len(), through.join("\n"));
}

/// A target is judged by the suite of the base branch, whatever the report says that it wants and reached.
#[test]
fn targets_are_those_of_the_base_branch_and_decided_again() {
    let server = Server::new();
    let world = |goal: &str| {
        let mut world = changed(|report| {
            // Nothing else keeps it from success.
            let rows = report["rows"].as_array_mut().unwrap();
            rows.retain(|row| row["benchmark"] == "loop" && row["metric"]["name"] == "latency");
            let mut aim = target(report);
            let row = &mut report["rows"][0];
            let base = row["base"]["launches"].clone();
            for (place, launch) in row["head"]["launches"].as_array_mut().unwrap().iter_mut().enumerate() {
                for key in ["value", "n", "samples"] {
                    launch[key] = base[place][key].clone();
                }
            }
            aim["head"] = row["head"].clone();
            aim["verdict"]["note"] = "@octocat <img src=x> all is well".into();
            report["targets"] = json!([aim]);
        });
        let only = SUITE.split("[[benchmark]]\nname = \"steady\"").next().unwrap();
        world.suite = only.replace("name = \"loop\"", &format!("name = \"loop\"\ntargets = [{goal}]"));
        world
    };
    for (goal, conclusion, words) in [
        ("\"latency <= 1 h\"", "action_required", "1 target met"),
        ("\"latency <= 1 ns\"", "failure", "1 target missed"),
        ("{ that = \"latency <= 1 ns\", required = false }", "action_required", "1 target missed and not required"),
        ("\"cpu_time <= 1 h\"", "action_required", "decides nothing about 1 target that is required"),
    ] {
        let (ran, written) = server.post(world(goal));
        ran.expect(0);
        let check = written.iter().find(|one| !one["body"]["conclusion"].is_null()).unwrap();
        assert_eq!(check["body"]["conclusion"], conclusion, "{goal}: {check}");
        assert!(check["body"]["output"]["title"].as_str().unwrap().contains(words), "{goal}: {check}");
        let comment = written[0]["body"]["body"].as_str().unwrap();
        assert!(!comment.contains("octocat"), "{comment}");
        if conclusion == "failure" {
            assert!(comment.contains("### Targets missed (1)"), "{comment}");
            let annotation = &check["body"]["output"]["annotations"][0];
            assert_eq!(
                (annotation["path"].as_str(), annotation["start_line"].as_u64()),
                (Some("suites/demo.toml"), Some(12))
            );
            assert_eq!(annotation["title"], "loop@cpu target missed");
            assert!(annotation["message"].as_str().unwrap().contains("latency <= 1 ns: "), "{annotation}");
        }
    }
}

#[test]
fn what_would_hide_a_regression_turns_nothing_green() {
    let server = Server::new();
    // Without the case that crashes: nothing but what is forged keeps it from success.
    let of = |owner: &str, change: Change| {
        let mut world = changed(|report| {
            report["rows"].as_array_mut().unwrap().retain(|row| row["benchmark"] != "broken");
            change(report);
        });
        let name = Value::from(format!("{owner}/engine"));
        world.run["head_repository"]["full_name"] = name.clone();
        world.pulls[0]["head"]["repo"]["full_name"] = name;
        world
    };
    let forgeries: [(&str, Change); 6] = [
        ("the row is left out", |r| {
            let is_it = |row: &Value| row["benchmark"] == "loop" && row["metric"]["name"] == "latency";
            r["rows"].as_array_mut().unwrap().retain(|row| !is_it(row));
        }),
        ("the case is left out", |r| r["rows"].as_array_mut().unwrap().retain(|row| row["benchmark"] != "loop")),
        ("the metric has another name", |r| {
            for row in r["rows"].as_array_mut().unwrap() {
                if row["metric"]["name"] == "latency" {
                    row["metric"]["name"] = "Latency".into();
                }
            }
        }),
        ("it is said to be new", |r| {
            for row in r["rows"].as_array_mut().unwrap() {
                if row["benchmark"] == "loop" {
                    row["base"] = Value::Null;
                    row.as_object_mut().unwrap().remove("paired");
                    row["verdict"]["call"] = "not_comparable".into();
                    row["verdict"]["reason"] = "new".into();
                }
            }
        }),
        ("the session is said to be void", |r| {
            for row in r["rows"].as_array_mut().unwrap() {
                row["verdict"]["reason"] = "control-moved".into();
            }
        }),
        ("there is nothing", |r| r["rows"] = json!([])),
    ];
    for (what, change) in forgeries {
        for (owner, fine) in [("ada", ["neutral", "failure"]), ("eve", ["action_required", "failure"])] {
            let (ran, written) = server.post(of(owner, change));
            ran.expect(0);
            let conclusion = written.iter().find_map(|one| one["body"]["conclusion"].as_str()).unwrap();
            assert!(fine.contains(&conclusion), "{what}, by {owner}: {conclusion}");
            let title = written[0]["body"]["body"].as_str().unwrap().lines().nth(1).unwrap();
            assert!(!title.contains('✅'), "{what}, by {owner}: {title}");
        }
    }
}

#[test]
fn a_fork_replaces_nothing_that_people_here_have_measured() {
    let server = Server::new();
    for by in ["own", "reviewed"] {
        let mut world = World::honest();
        let id = format!("regrade:regrade:{by}");
        world.checks = vec![
            json!({ "id": 99, "name": "regrade", "status": "completed", "conclusion": "failure", "external_id": id }),
        ];
        let (ran, written) = server.post(world);
        assert!(ran.expect(0).stderr.contains("does not replace"));
        assert!(written.is_empty(), "{written:?}");
    }
}

#[test]
fn the_report_chooses_neither_suite_nor_base() {
    let server = Server::new();
    let lax = changed(|report| report["suite_file"] = "suites/lax.toml".into());
    let (ran, written) = server.post_with(lax.clone(), &[]);
    assert!(ran.expect(2).stderr.contains("--suite is missing"));
    assert!(written.is_empty());
    let (ran, _) = server.post_with(lax.clone(), &["--suite", "suites/gone.toml"]);
    assert!(ran.expect(2).stderr.contains("is not on `main`"));
    let odd = [
        "../demo.toml",
        "/etc/passwd",
        ".github/x.toml",
        "suites/demo.toml?ref=evil",
        "suites/%2e%2e/x.toml",
        "x.json",
        "",
    ];
    for path in odd {
        let (ran, written) = server.post_with(lax.clone(), &["--suite", path]);
        ran.expect(2);
        assert!(written.is_empty(), "{path}");
    }
    let (ran, written) = server.post(lax.clone());
    ran.expect(0);
    assert_eq!(written[1]["body"]["conclusion"], "failure", "by the suite that was named");
    // Whoever opens a pull request chooses what it is to be merged into.
    let mut elsewhere = lax;
    elsewhere.pulls[0]["base"]["ref"] = "gh-pages".into();
    let (ran, written) = server.post(elsewhere.clone());
    assert!(ran.expect(0).stderr.contains("is not judged"));
    assert!(written.is_empty(), "{written:?}");
    let (ran, written) = server.post_with(elsewhere, &["--suite", "suites/demo.toml", "--base", "gh-*"]);
    ran.expect(0);
    assert_eq!(written.len(), 3);
}

#[test]
fn a_run_that_left_nothing_is_told() {
    let server = Server::new();
    let mut world = World::honest();
    world.artifacts = json!([]);
    world.run["conclusion"] = "timed_out".into();
    let (ran, written) = server.post(world.clone());
    ran.expect(0);
    assert!(written[0]["body"]["body"].as_str().unwrap().contains("nothing was measured"), "{written:?}");
    assert_eq!(written[1]["body"]["conclusion"], "failure");
    assert_eq!(written[2]["body"]["state"], "failure");
    // What goes on is not over: it can be announced, and no more.
    world.run["status"] = "in_progress".into();
    let (ran, written) = server.post(world.clone());
    assert!(ran.expect(2).stderr.contains("not completed"));
    assert!(written.is_empty());
    let (ran, written) = server.post_with(world, &["--start"]);
    ran.expect(0);
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!(
        (&written[0]["body"]["status"], &written[1]["body"]["state"]),
        (&json!("in_progress"), &json!("pending"))
    );
    // A run that was started again left two: the newer counts.
    let mut again = World::honest();
    let newer = again.artifacts[0].clone();
    again.artifacts = json!([{ "id": 0, "name": "regrade-report", "size_in_bytes": 1000, "expired": false }, newer]);
    server.post(again).0.expect(0);
}

#[test]
fn numbers_that_nobody_measures_end_nothing() {
    let server = Server::new();
    for value in [5e-324, 1e-310, 1e-300, 0.0, -1.0, 1e308] {
        for (side, metric) in
            [("base", "peak_memory"), ("head", "peak_memory"), ("base", "latency"), ("head", "user_time")]
        {
            let world = changed(|report| {
                for row in report["rows"].as_array_mut().unwrap() {
                    if row["metric"]["name"] == metric && !row[side].is_null() {
                        row[side]["launches"][0]["value"] = value.into();
                        row[side]["launches"][0].as_object_mut().unwrap().remove("samples");
                    }
                }
            });
            let (ran, written) = server.post(world);
            assert!(!ran.stderr.contains("panicked"), "{value} {side} {metric}: {}", ran.stderr);
            ran.expect(0);
            assert_eq!(written.len(), 3, "{value} {side} {metric}");
        }
    }
}

#[test]
fn a_merge_queue_s_commit_gets_a_check_and_no_comment() {
    let server = Server::new();
    let mut world = World::honest();
    world.run["event"] = "merge_group".into();
    world.run["head_branch"] = format!("gh-readonly-queue/main/pr-8-{OTHER}").into();
    world.run["head_repository"]["full_name"] = "ada/engine".into();
    let (ran, written) = server.post(world.clone());
    ran.expect(0);
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!(written[0]["body"]["conclusion"], "failure");
    world.run["head_repository"]["full_name"] = "eve/engine".into();
    server.post(world).0.expect(2);
}

#[test]
fn a_file_is_believed_where_nobody_else_s_code_can_have_written_it_and_nowhere_else() {
    let server = Server::new();
    let sha = report()["paired"]["head_commit"].as_str().unwrap().to_owned();
    let mut forged = report();
    forged["rows"].as_array_mut().unwrap().clear();
    forged["outcome"] = json!({ "exit_code": 0, "headline": "FORGED", "next": null, "counts": {} });
    server.place.write("report.json", &forged.to_string());
    let post = |event: &str, payload: &Value, more: &[&str]| -> (Ran, String) {
        server.hub.world(|now| *now = World::honest());
        server.place.write("event.json", &payload.to_string());
        let mut words = vec!["post", "report.json", "--pictures", "off"];
        words.extend(more);
        let mut command = server.place.command(&words);
        command.env("GITHUB_API_URL", server.hub.uri()).env("GITHUB_TOKEN", "ghs_verysecrettoken");
        command.env("GITHUB_EVENT_NAME", event).env("GITHUB_REPOSITORY", "ada/engine");
        command.env("GITHUB_EVENT_PATH", server.place.file("event.json")).env("GITHUB_SHA", OTHER);
        let ran = command.output().unwrap().into();
        (ran, Value::Array(server.hub.world(|now| now.written.clone())).to_string())
    };
    let comment = json!({
        "issue": { "number": 8, "pull_request": {} }, "action": "created",
        "comment": { "id": 1, "user": { "login": "ada", "type": "User" }, "body": "x" },
    });
    let of = |owner: &str| {
        let repo = json!({ "full_name": format!("{owner}/engine") });
        json!({ "pull_request": { "number": 8, "head": { "sha": sha, "repo": repo } } })
    };
    let suite = ["--suite", "suites/demo.toml"];
    let said = ["--repo", "ada/engine", "--sha", &sha, "--pr", "8"];
    for (event, payload, more) in [
        ("issue_comment", comment, &suite[..]),
        ("workflow_dispatch", json!({ "inputs": { "pr": "8" } }), &suite[..]),
        ("pull_request_target", of("eve"), &suite[..]),
        ("pull_request", of("eve"), &suite[..]),
        // Not about the commit that was pushed.
        ("push", json!({ "before": OTHER, "after": OTHER }), &[][..]),
        ("schedule", json!({}), &[][..]),
        ("merge_group", json!({ "merge_group": { "head_sha": OTHER, "base_sha": OTHER } }), &[][..]),
        // An event that nobody knows, or that cannot be read, says nothing of whose code it is.
        ("pull_request_review", json!({}), &said[..]),
        ("pull_request", json!({}), &said[..]),
    ] {
        let (_, written) = post(event, &payload, more);
        assert!(!written.contains("\"success\"") && !written.contains("FORGED"), "{event}: {written}");
    }
    let (ran, written) = post("pull_request", &of("ada"), &[]);
    ran.expect(0);
    assert!(written.contains("FORGED"), "people of the repository may say what they like: {written}");
}

#[test]
fn a_pull_request_that_has_moved_on_gets_no_post() {
    let server = Server::new();
    let stale: [(&str, WorldChange); 5] = [
        ("pushed to", |w| w.pulls[0]["head"]["sha"] = OTHER.into()),
        ("closed", |w| w.pulls = json!([])),
        ("of another fork", |w| w.pulls[0]["head"]["repo"]["full_name"] = "mallory/engine".into()),
        ("of nobody", |w| w.pulls[0]["head"]["repo"] = Value::Null),
        ("of a fork that is gone", |w| w.run["head_repository"] = Value::Null),
    ];
    for (what, change) in stale {
        let mut world = World::honest();
        change(&mut world);
        let (ran, written) = server.post(world);
        assert!(ran.expect(0).stderr.contains("nothing is posted"), "{what}");
        assert!(written.is_empty(), "{what}: {written:?}");
    }
    let (ran, written) = server.post_file(REPORT, OTHER);
    assert!(ran.expect(0).stderr.contains("has moved on"));
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn a_file_that_a_maintainer_s_workflow_fetched_is_believed_no_more() {
    let server = Server::new();
    let head = report()["paired"]["head_commit"].as_str().unwrap().to_owned();
    let mut forged = report();
    for row in forged["rows"].as_array_mut().unwrap() {
        row["verdict"]["call"] = "unchanged".into();
        row["fails"] = false.into();
    }
    forged["outcome"] = json!({ "exit_code": 0, "headline": "no regression", "next": null, "counts": {} });
    let (ran, written) = server.post_file(&forged.to_string(), &head);
    ran.expect(0);
    assert!(written[0]["body"]["body"].as_str().unwrap().contains("1 metric regressed"), "{written:?}");
    std::fs::remove_file(server.place.file("untrusted/report.json")).unwrap();
    let (ran, written) = server.post_file_as_it_is(&head);
    ran.expect(0);
    assert!(written[0]["body"]["body"].as_str().unwrap().contains("nothing was measured"), "{written:?}");
    for broken in ["{}", "[", &REPORT.replace(&head, OTHER)] {
        let (ran, written) = server.post_file(broken, &head);
        ran.expect(2);
        assert!(written.is_empty(), "{written:?}");
    }
}

#[test]
fn wicked_texts_are_only_texts() {
    let server = Server::new();
    let texts = [
        "@ada",
        "@ada/engineers",
        "fixes #12",
        "ada/engine#12",
        "<img src=x onerror=alert(1)>",
        "<script>x</script>",
        "</details></details>",
        "<!-- regrade:regrade:0 -->",
        "-->",
        "![](http://evil.example/x.png)",
        "[a](javascript:alert(1))",
        "http://evil.example",
        "www.evil.example",
        "`x` ``` y",
        "| a | b |",
        "::error::x",
        "%0A::set-output name=x::y",
        "$(touch owned)",
        "${{ secrets.X }}",
        "$\\href{x}{y}$",
        "&lt;img&gt;",
        "```mermaid",
        "\"] --> x",
        "graph TD; a-->b",
        "* * *",
        "# heading",
        "\\@ada",
        "<a href=x>y</a>",
        "~~x~~",
        ":+1: <br>",
    ];
    let fields = ["/rows/reason", "/rows/note", "/rows/case", "/testbed/facts/cpu.model", "/head/toolchain"];
    let mut tried = 0;
    for text in texts {
        for field in fields {
            let world = changed(|report| {
                let rows = report["rows"].as_array_mut().unwrap();
                let failed = rows.iter_mut().find(|row| row["benchmark"] == "broken").unwrap();
                match field {
                    "/rows/reason" => failed["outcome"]["reason"] = text.into(),
                    "/rows/note" => failed["verdict"]["note"] = text.into(),
                    "/rows/case" => failed["case"] = format!("{text}@cpu").into(),
                    "/testbed/facts/cpu.model" => report["testbed"]["facts"]["cpu.model"] = text.into(),
                    _ => report["head"]["toolchain"] = text.into(),
                }
            });
            let (ran, written) = server.post(world);
            let ran = ran.expect(0);
            harmless_log(text, &ran);
            for said in live_texts(&written) {
                // Characters as entities are no references.
                let said = said.replace("&#", "&");
                for live in [
                    "@ada",
                    "#12",
                    "<img",
                    "<script",
                    "<a ",
                    "<br",
                    "](http:",
                    "](javascript",
                    "![](",
                    "://evil",
                    "www.evil",
                    "${{",
                    "\n::",
                    "~~x",
                ] {
                    assert!(!said.contains(live), "{live} of {text} in {field}: {said}");
                }
                assert!(said.matches("<!--").count() <= 1, "{text} in {field}: {said}");
                assert_eq!(said.matches("<details").count(), said.matches("</details>").count(), "{text} in {field}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 150);
    assert!(!server.place.file("owned").exists());
}
