//! `regrade judge` through the binary: both formats in, both out, and what is refused.

mod support;

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::Place;

/// Launch samples around a level, without randomness: `wobble` parts in a thousand between launches.
fn launches(level: f64, wobble: f64) -> Vec<Vec<f64>> {
    let launch = |i: usize| level * (1.0 + wobble / 1000.0 * ((i * 7 % 11) as f64 / 11.0 - 0.5));
    (0..12).map(|i| (0..10_u8).map(|j| launch(i) * (1.0 + 0.001 * f64::from(j * 3 % 10))).collect()).collect()
}

fn pair(id: &str, base: f64, head: f64, lower_is_better: bool) -> Value {
    json!({
        "id": id, "unit": "s", "lower_is_better": lower_is_better, "interleaved": true,
        "base": launches(base, 4.0), "head": launches(head, 6.0),
    })
}

#[test]
fn a_recording_is_judged() {
    let place = Place::new();
    let level = |i: usize| if i < 20 { 1.0 } else { 1.2 };
    let values: Vec<f64> = (0..40).map(|i| level(i) + 0.01 * (i * 7 % 11) as f64).collect();
    let input = json!({
        "pairs": [
            pair("same", 1.0, 1.0, true),
            pair("slower", 1.0, 1.3, true),
            pair("faster", 1.0, 0.8, true),
            pair("throughput", 100.0, 80.0, false),
        ],
        "series": [{ "id": "history", "unit": "s", "lower_is_better": true, "values": values }],
    });
    place.write("in.json", &input.to_string());
    let ran = place.run(&["judge", "in.json", "out.json"]).expect(0);
    for words in ["slower", "regressed severe", "improved severe", "history: new level from index 20"] {
        assert!(ran.stdout.contains(words), "`{words}` is missing:\n{}", ran.stdout);
    }
    let out: Value =
        serde_json::from_str(&std::fs::read_to_string(place.file("out.json")).expect("written")).expect("JSON");
    let calls: Vec<(&str, &str, &str)> = out["pairs"]
        .as_array()
        .expect("pairs")
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().expect("a text");
            (text("id"), text("verdict"), text("severity"))
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("same", "unchanged", "none"),
            ("slower", "regressed", "severe"),
            ("faster", "improved", "severe"),
            ("throughput", "regressed", "severe"),
        ]
    );
    assert!((out["pairs"][1]["change"].as_f64().expect("a change") - 0.3).abs() < 0.01);
    assert_eq!(out["series"], json!([{ "id": "history", "change_points": [20] }]));

    place.run(&["judge", "in.json", "--gate", "moderate"]).expect(1);
    place.run(&["judge", "in.json", "--thresholds", "40%,50%,60%", "--gate", "moderate"]).expect(0);
    let again = place.run(&["judge", "in.json", "--format", "json"]).expect(0);
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).expect("JSON"), out, "identical input, identical output");
}

#[test]
fn a_table_of_comma_separated_values_is_the_same_recording() {
    let place = Place::new();
    let mut text = String::from("id,side,launch,value,unit,interleaved\n");
    for (side, level) in [("base", 1.0), ("head", 1.3)] {
        for (launch, samples) in launches(level, 5.0).iter().enumerate() {
            for sample in samples {
                writeln!(text, "a,{side},{launch},{sample},s,true").expect("memory");
            }
        }
    }
    place.write("in.csv", &text);
    let ran = place.run(&["judge", "in.csv"]).expect(0);
    assert!(ran.stdout.contains("regressed severe"), "{}", ran.stdout);
    place.write("series.csv", "id,value\nh,1\nh,2\n");
    assert!(place.run(&["judge", "series.csv"]).expect(0).stdout.contains("h: one level"));
}

/// Real launches beside two busy neighbours, with work that was really added.
#[test]
fn the_recording_that_is_shown_says_what_it_is_said_to() {
    let place = Place::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recordings/judge.json");
    let ran = place.run(&["judge", file, "--format", "json"]).expect(0);
    let out: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let severity = |row: &Value| row["severity"].as_str().expect("a word").to_owned();
    for row in out["pairs"].as_array().expect("rows") {
        let id = row["id"].as_str().expect("a name");
        let (said, call) = (severity(row), row["verdict"].as_str().expect("a word"));
        if id.contains("+0%") {
            assert_eq!(said, "none", "{id}");
        }
        if id.contains("+25%") {
            assert_eq!((said.as_str(), call), ("severe", "regressed"), "{id}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let place = Place::new();
    for (name, text, words) in [
        ("a.json", "{\"pairs\": [{\"id\": 3}]}", "line 1 column"),
        ("b.json", "{\"pears\": []}", "unknown field `pears`"),
        (
            "c.json",
            "{\"pairs\": [{\"id\": \"x\", \"interleaved\": true, \"base\": [[1]], \"head\": []}]}",
            "`x` is interleaved",
        ),
        ("d.csv", "id,side,launch,value\nx,bse,1,2\n", "`base` or `head`"),
        ("e.csv", "id,side,launch,value\nx,base,1,fast\n", "line: 2"),
        (
            "f.json",
            "{\"series\": [{\"id\": \"x\", \"values\": [1]}, {\"id\": \"x\", \"values\": [2]}]}",
            "two series are named `x`",
        ),
        ("g.csv", "id,side,launch,value,unit\nx,base,1,1,s\nx,head,1,1000,ms\n", "give all in one unit"),
        ("h.csv", "id,side,launch,value,interleaved\nx,base,1,1,true\nx,head,2,1,true\n", "not the same launches"),
    ] {
        place.write(name, text);
        let ran = place.run(&["judge", name]).expect(2);
        assert!(ran.stderr.contains(words) && ran.stderr.contains(name), "{name}: {}", ran.stderr);
    }
    // The samples are not replaced by their verdicts, whatever the file is called.
    place.write("in.json", "{\"series\": [{\"id\": \"x\", \"values\": [1]}]}");
    assert!(place.run(&["judge", "in.json", "./in.json"]).expect(2).stderr.contains("would replace"), "in place");
    place.write("none.json", "\u{feff}{}");
    place.run(&["judge", "none.json"]).expect(5);
    place.run(&["judge", "none.json", "--thresholds", "5%,2%,15%"]).expect(2);
    place.run(&["judge", "none.json", "--thresholds", "2,5,15"]).expect(2);
    place.run(&["judge", "none.json", "--alpha", "0.7"]).expect(2);
    place.run(&["judge", "in.json", "--alpha", "0.5%"]).expect(0);
    let empty = "{\"pairs\": [{\"id\": \"x\", \"base\": [[1]], \"head\": []}]}";
    place.write("empty.json", empty);
    place.run(&["judge", "empty.json"]).expect(5);
    // Beside a good pair, too: what cannot be judged passes no gate.
    let mixed = "{\"pairs\": [{\"id\": \"x\", \"base\": [[1], [1], [1], [1], [1]], \"head\": [[1], [1], [1], [1], [1]]}, \
                 {\"id\": \"y\", \"base\": [[1]], \"head\": [[-1]]}]}";
    place.write("mixed.json", mixed);
    place.run(&["judge", "mixed.json"]).expect(0);
    place.run(&["judge", "mixed.json", "--gate", "severe"]).expect(4);

    // A link stays one, and a device is written to.
    place.write("target.json", "");
    std::os::unix::fs::symlink(place.file("target.json"), place.file("link.json")).expect("a link");
    place.run(&["judge", "mixed.json", "link.json"]).expect(0);
    assert!(place.file("link.json").is_symlink());
    assert!(std::fs::read_to_string(place.file("target.json")).expect("a file").contains("pairs"));
    place.run(&["judge", "mixed.json", "/dev/null"]).expect(0);
    assert!(!std::fs::metadata("/dev/null").expect("a device").is_file());
    place.run(&["judge", "absent.json"]).expect(6);
}
