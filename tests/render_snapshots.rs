//! What each format makes of the fixture reports.

#[path = "fixtures/reports/mod.rs"]
mod reports;

use regrade::render::{self, Artifact, Style};
use regrade::report::Report;

const PLAIN: Style = Style { colour: false, width: 80 };

fn draw(format: &str, report: &Report, style: Style) -> Vec<Artifact> {
    render::find(format).expect("the format is in the table").report(report, style).expect("it draws")
}

fn text(format: &str, report: &Report, style: Style) -> String {
    let mut artifacts = draw(format, report, style);
    String::from_utf8(artifacts.swap_remove(0).bytes).expect("text is UTF-8")
}

#[test]
fn terminal() {
    for width in [80, 120] {
        let style = Style { colour: false, width };
        for (name, report) in [
            ("small", reports::small()),
            ("crowded", reports::crowded()),
            ("troubled", reports::troubled()),
            ("outlier", reports::outlier()),
            ("first", reports::first()),
        ] {
            insta::assert_snapshot!(format!("terminal_{name}_{width}"), text("terminal", &report, style));
        }
    }
}

#[test]
#[ignore = "writes the pictures for looking at"]
fn look() {
    for (name, report) in [
        ("small", reports::small()),
        ("crowded", reports::crowded()),
        ("troubled", reports::troubled()),
        ("outlier", reports::outlier()),
        ("first", reports::first()),
        ("hostile", reports::hostile()),
    ] {
        for format in ["png", "svg"] {
            for artifact in draw(format, &report, PLAIN) {
                let path = std::path::Path::new("target/look").join(name).join(&artifact.name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, artifact.bytes).unwrap();
            }
        }
    }
}
