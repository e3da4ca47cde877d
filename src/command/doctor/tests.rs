//! The parts that need neither a quiet machine nor a backend.

use super::*;
use crate::domain::Skip;

fn finding(id: &'static str, level: Level, remedy: Option<&str>) -> Finding {
    Finding { id, level, text: format!("text of {id}"), remedy: remedy.map(str::to_owned) }
}

fn written(findings: &[Finding], colour: bool) -> String {
    let mut bytes = Vec::new();
    text(findings, &judge(findings), colour, &mut bytes).expect("memory can be written");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn the_worst_finding_judges() {
    let good = finding("cpu", Level::Good, None);
    let info = finding("aslr", Level::Info, None);
    let warn = finding("clock_source", Level::Warn, None);
    let bad = finding("steal", Level::Bad, None);
    assert_eq!(judge(&[good.clone(), info.clone()]).fitness, Fitness::Fit);
    assert_eq!(
        judge(&[good.clone(), warn.clone(), info]),
        Judgement { fitness: Fitness::UsableWithCare, reason: "clock source".to_owned() }
    );
    assert_eq!(
        judge(&[bad.clone(), warn, good, bad]),
        Judgement { fitness: Fitness::Unfit, reason: "steal, steal".to_owned() }
    );
}

#[test]
fn text_is_aligned_and_ends_with_the_judgement() {
    let findings = [finding("cpu", Level::Good, None), finding("clock_source", Level::Warn, Some("boot otherwise"))];
    let expected = "\
good  cpu           text of cpu
warn  clock source  text of clock_source
                    → boot otherwise

usable with care: clock source
";
    assert_eq!(written(&findings, false), expected);
    let coloured = written(&findings, true);
    assert!(coloured.contains("\u{1b}[33mwarn\u{1b}[0m"), "{coloured:?}");
}

#[test]
fn json_holds_the_same() {
    let findings = [finding("governor", Level::Warn, Some("change it"))];
    let mut bytes = Vec::new();
    json(&findings, &judge(&findings), &mut bytes).expect("memory can be written");
    let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["findings"][0]["id"], "governor");
    assert_eq!(value["findings"][0]["level"], "warn");
    assert_eq!(value["findings"][0]["remedy"], "change it");
    assert_eq!(value["judgement"]["fitness"], "usable_with_care");
    assert_eq!(value["facts"]["timing.method"], "process-launch/1");
}

#[test]
fn an_absent_backend_is_told_with_its_remedy_and_spoils_nothing() {
    let absent = Skip { reason: "no beads".to_owned(), remedy: "thread some".to_owned() };
    let finding = backend_finding("abacus", &Availability::Unavailable(absent));
    assert!(finding.text.starts_with("abacus unavailable: "), "{}", finding.text);
    assert!(finding.remedy.is_some());
    assert_eq!(judge(&[finding]).fitness, Fitness::Fit);
}

#[test]
fn the_disk_is_found_where_baselines_do_not_exist_yet() {
    let finding = disk(Path::new("no/such/folder")).expect("this folder is on a disk");
    assert!(finding.text.contains("GiB free"), "{}", finding.text);
    assert_eq!(finding.remedy.is_some(), finding.level >= Level::Warn);
}
