//! What each format makes of the fixture reports.
//!
//! `cargo test --test render_snapshots -- --ignored look` writes every picture to `target/look` for looking at.
// Helpers are tests too, which clippy does not see.
#![allow(clippy::unwrap_used)]

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
            ("targeted", reports::targeted()),
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

#[test]
fn terminal_shows_a_run() {
    for width in [80, 120] {
        let view = reports::run_view();
        let style = Style { colour: false, width };
        let renderer = render::find("terminal").expect("the format is in the table");
        let drawn = renderer.run(&view, style).expect("it draws").expect("it has a view of a run");
        let text = String::from_utf8(drawn[0].bytes.clone()).expect("text is UTF-8");
        insta::assert_snapshot!(format!("terminal_run_{width}"), text);
    }
}

#[test]
fn markdown_shows_a_run() {
    let renderer = render::find("markdown").expect("the format is in the table");
    let drawn = renderer.run(&reports::run_view(), PLAIN).expect("it draws").expect("it has a view of a run");
    insta::assert_snapshot!("markdown_run", String::from_utf8(drawn[0].bytes.clone()).expect("text is UTF-8"));
}

#[test]
fn markdown() {
    for (name, report) in [
        ("small", reports::small()),
        ("troubled", reports::troubled()),
        ("first", reports::first()),
        ("targeted", reports::targeted()),
        ("hostile", reports::hostile()),
    ] {
        insta::assert_snapshot!(format!("markdown_{name}"), text("markdown", &report, PLAIN));
    }
}

fn every_fixture() -> Vec<(&'static str, Report)> {
    vec![
        ("small", reports::small()),
        ("crowded", reports::crowded()),
        ("troubled", reports::troubled()),
        ("outlier", reports::outlier()),
        ("first", reports::first()),
        ("targeted", reports::targeted()),
        ("hostile", reports::hostile()),
    ]
}

#[test]
fn the_table_names_every_format_once_and_files_stay_in_their_folder() {
    let names: Vec<&str> = render::RENDERERS.iter().map(|renderer| renderer.name()).collect();
    assert_eq!(names, ["terminal", "markdown", "json", "svg", "png"]);
    assert!(render::find("papyrus").is_none());
    for (fixture, report) in every_fixture() {
        for format in &names {
            let artifacts = draw(format, &report, PLAIN);
            let mut files: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
            for file in &files {
                let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
                assert!(file.chars().all(safe) && !file.contains("..") && !file.starts_with('/'), "{fixture}: {file}");
            }
            files.sort_unstable();
            let count = files.len();
            files.dedup();
            assert!(count > 0 && files.len() == count, "{fixture} {format}: {files:?}");
        }
    }
}

#[test]
fn the_terminal_is_plain_without_colour_and_never_wider_than_asked() {
    for (name, report) in every_fixture() {
        for width in [60, 80, 100, 120, 200] {
            let plain = text("terminal", &report, Style { colour: false, width });
            assert!(!plain.contains('\x1b'), "{name} at {width} has an escape");
            for line in plain.lines() {
                assert!(unicode_width::UnicodeWidthStr::width(line) <= width, "{name} at {width}: {line}");
            }
            let coloured = text("terminal", &report, Style { colour: true, width });
            assert!(coloured.contains('\x1b'), "{name} at {width} has no colour");
            assert_eq!(without_escapes(&coloured), plain, "{name} at {width}: colour moved something");
        }
    }
}

/// Drops `ESC [ … m`; anything else that starts with an escape would stay and fail the comparison.
fn without_escapes(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}

#[test]
fn json_is_lossless() {
    for (name, report) in every_fixture() {
        let again: Report = serde_json::from_str(&text("json", &report, PLAIN)).expect("it reads its own output");
        assert_eq!(again, report, "{name}");
    }
    let view = reports::run_view();
    let drawn = render::find("json").unwrap().run(&view, PLAIN).unwrap().expect("it has a view of a run");
    let again: regrade::report::RunView = serde_json::from_slice(&drawn[0].bytes).expect("it reads its own output");
    assert_eq!(again, view);
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/reports/report.schema.json");
    let generated = serde_json::to_string_pretty(&render::json::report_schema()).expect("a schema is JSON") + "\n";
    if std::env::var_os("REGRADE_UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &generated).expect("the schema can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == generated,
        "reports/report.schema.json is not the generated one; REGRADE_UPDATE_SCHEMA=1 cargo test --test render_snapshots"
    );
}

#[test]
fn hostile_names_break_no_markdown() {
    let page = text("markdown", &reports::hostile(), PLAIN);
    let mut columns = 0;
    for line in page.lines() {
        if line.starts_with('|') {
            // Whatever data holds, a bare pipe only ever separates columns.
            let now = line.matches('|').count();
            assert!(columns == 0 || columns == now, "a row of another width: {line}");
            columns = now;
        } else {
            columns = 0;
        }
        // Outside code spans nothing may be markup or a mention.
        for (index, prose) in line.split('`').enumerate() {
            if index % 2 == 0 {
                let bare = ["<details><summary>", "</summary>", "</details>", "<code>", "</code>"]
                    .iter()
                    .fold(prose.to_owned(), |text, tag| text.replace(tag, ""));
                assert!(!bare.contains('<'), "HTML got through: {line}");
                let mentions = bare.match_indices('@').all(|(at, _)| bare[at + 1..].starts_with('\u{200d}'));
                assert!(mentions, "a mention got through: {line}");
            }
        }
    }
    assert!(!page.contains("\n# owned"));
    assert!(page.lines().filter(|line| line.contains("&#124;")).count() > 3, "the names are shown, escaped");
}

#[test]
fn markdown_links_the_files_that_svg_writes() {
    for (name, report) in every_fixture().into_iter().filter(|(name, _)| *name != "first") {
        let page = text("markdown", &report, PLAIN);
        for artifact in draw("svg", &report, PLAIN) {
            assert!(page.contains(&format!("]({})", artifact.name)), "{name}: no link to {}", artifact.name);
        }
    }
}

#[test]
fn a_markdown_report_of_thousands_fits_a_comment() {
    let page = text("markdown", &reports::large(2000), PLAIN);
    assert!(page.len() < 65_000, "{} bytes", page.len());
}

/// A text of an SVG as it is placed: left end, right end (roughly), baseline, size, words.
fn placed_texts(svg: &str) -> Vec<(f64, f64, f64, f64, String)> {
    let view: f64 = attribute(svg, "viewBox").split(' ').nth(2).unwrap().parse().unwrap();
    let scale = attribute(svg, "width").parse::<f64>().unwrap() / view;
    svg.split("<text ")
        .skip(1)
        .map(|element| {
            let number = |name: &str| attribute(element, name).parse::<f64>().unwrap() * scale;
            let words = element.split_once(">\n").unwrap().1.split_once("\n</text>").unwrap().0.to_owned();
            let size = number("font-size");
            let shown = words.replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'").replace("&quot;", "\"");
            // DejaVu's letters are 0.6 em wide on average; narrower here, so that only real collisions count.
            let width = shown.replace("&amp;", "&").chars().count() as f64 * size * 0.5;
            let left = match attribute(element, "text-anchor") {
                "start" => number("x"),
                "end" => number("x") - width,
                _ => number("x") - width / 2.0,
            };
            (left, left + width, number("y") + 0.76 * size, size, words)
        })
        .collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let start = element.find(&format!("{name}=\"")).expect("the attribute is there") + name.len() + 2;
    element[start..].split('"').next().unwrap()
}

#[test]
fn svg_texts_are_large_enough_inside_and_apart() {
    for (name, report) in every_fixture() {
        for artifact in draw("svg", &report, PLAIN) {
            let svg = String::from_utf8(artifact.bytes).expect("text is UTF-8");
            assert_eq!(attribute(&svg, "width"), "900");
            let height: f64 = attribute(&svg, "height").parse().unwrap();
            let texts = placed_texts(&svg);
            assert!(texts.len() > 2, "{name} {}", artifact.name);
            for (index, (left, right, base, size, words)) in texts.iter().enumerate() {
                let what = format!("{name} {}: {words}", artifact.name);
                assert!(*size >= 12.0 - 1e-9, "{what} is {size} px");
                assert!(*left >= 0.0 && *right <= 900.0 && *base - size > 0.0 && *base + 3.0 < height, "{what} is cut");
                for (other_left, other_right, other_base, _, other) in &texts[index + 1..] {
                    let meet = left < other_right && other_left < right && (base - other_base).abs() < 12.0;
                    assert!(!meet, "{what} meets {other}");
                }
            }
        }
    }
}

#[test]
fn hostile_names_break_no_svg() {
    let known = ["svg", "rect", "polyline", "polygon", "circle", "text"];
    for artifact in draw("svg", &reports::hostile(), PLAIN) {
        let svg = String::from_utf8(artifact.bytes).expect("text is UTF-8");
        assert!(svg.contains("&lt;/code&gt;") || svg.contains("octocat"), "the name is shown");
        assert!(!svg.chars().any(|c| c.is_control() && c != '\n'), "control characters are not XML");
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (inside, _) = tag.split_once('>').expect("a tag ends");
            let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap();
            assert!(known.contains(&name), "<{inside}>");
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !inside.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty());
    }
}

#[test]
fn png_is_a_picture_of_twice_the_size() {
    let svg = text("svg", &reports::small(), PLAIN);
    let drawn = draw("png", &reports::small(), PLAIN).swap_remove(0);
    let mut reader = png::Decoder::new(std::io::Cursor::new(&drawn.bytes)).read_info().expect("a PNG header");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size that fits memory")];
    let frame = reader.next_frame(&mut pixels).expect("a PNG frame");
    assert_eq!(frame.width, 1800);
    assert_eq!(frame.height, 2 * attribute(&svg, "height").parse::<u32>().unwrap());
    let dark = pixels.chunks(3).filter(|pixel| pixel.iter().all(|channel| *channel < 60)).count();
    assert!(dark > 2000, "text and lines are drawn, not only a page: {dark}");
    assert_eq!(&pixels[..3], [255, 255, 255], "the page is opaque white");
}

#[test]
fn pictures_do_without_samples_and_with_a_single_launch() {
    let mut report = reports::small();
    for row in &mut report.rows {
        for side in [&mut row.base, &mut row.head].into_iter().flatten() {
            side.launches.truncate(1);
            side.launches[0].samples = None;
            side.launches[0].value = 0.25;
        }
    }
    let drawn = draw("svg", &report, PLAIN);
    assert_eq!(drawn.len(), 3);
    let svg = String::from_utf8(drawn[1].bytes.clone()).expect("text is UTF-8");
    assert!(svg.contains("Samples were not included"));
    assert!(!svg.contains("NaN") && svg.contains("250.0\u{a0}ms"));
}
