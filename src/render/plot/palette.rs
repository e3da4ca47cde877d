//! Colours and markers. The colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with
//! any common colour vision tell apart; severity is also the marker's shape, so that grey prints still tell it.

use crate::domain::{Call, Severity};
use crate::render::group::Group;
use crate::render::plot::scene::{Ink, Scene};
use crate::report::Row;

/// The page: opaque, because GitHub shows pictures on dark pages too.
pub const WHITE: Ink = Ink(255, 255, 255, 1.0);
/// Text.
pub const BLACK: Ink = Ink(26, 26, 26, 1.0);
/// Secondary text; 4.5:1 against white and more.
pub const GREY: Ink = Ink(95, 95, 95, 1.0);
/// Grid lines.
pub const LIGHT: Ink = Ink(216, 216, 216, 1.0);
/// Every second row.
pub const STRIPE: Ink = Ink(0, 0, 0, 0.035);
/// Vermillion.
pub const VERMILLION: Ink = Ink(213, 94, 0, 1.0);
/// Orange.
pub const ORANGE: Ink = Ink(230, 159, 0, 1.0);
/// Yellow.
pub const YELLOW: Ink = Ink(240, 228, 66, 1.0);
/// Blue.
pub const BLUE: Ink = Ink(0, 114, 178, 1.0);
/// Sky blue.
pub const SKY: Ink = Ink(86, 180, 233, 1.0);
/// Reddish purple.
pub const PURPLE: Ink = Ink(204, 121, 167, 1.0);

/// The colour of a decision.
pub fn of(call: Call, severity: Severity) -> Ink {
    match (call, severity) {
        (Call::Regressed, Severity::Severe) => VERMILLION,
        (Call::Regressed, Severity::Moderate) => ORANGE,
        (Call::Regressed, _) => YELLOW,
        (Call::Improved, _) => BLUE,
        (Call::Inconclusive, _) => PURPLE,
        (Call::Unchanged | Call::NotComparable, _) => GREY,
    }
}

/// The colour of a row's texts: dark enough to read, red where it demands attention.
pub fn text_of(row: &Row) -> Ink {
    match (Group::of(row), row.verdict.severity) {
        (Group::Regressed, Severity::Severe | Severity::Moderate) | (Group::Failed, _) => Ink(168, 62, 0, 1.0),
        (Group::Improved, _) => Ink(0, 90, 145, 1.0),
        (Group::Unchanged, _) => GREY,
        _ => BLACK,
    }
}

/// How dark the band of a severity is; `worse` in orange, better in blue.
pub fn band(severity: Severity, worse: bool) -> Ink {
    let alpha = match severity {
        Severity::None => 0.0,
        Severity::Minor => 0.10,
        Severity::Moderate => 0.20,
        Severity::Severe => 0.32,
    };
    let Ink(red, green, blue, _) = if worse { ORANGE } else { SKY };
    Ink(red, green, blue, alpha)
}

/// The marker of a decision at a point: the shape says the severity, hollow says provisional.
pub fn marker(scene: &mut Scene, (x, y): (f64, f64), call: Call, severity: Severity, hollow: bool) {
    let fill = if hollow { WHITE } else { of(call, severity) };
    // Yellow on white needs an edge; hollow ones show their colour by it.
    let edge = if hollow && severity != Severity::Minor { of(call, severity) } else { BLACK };
    let rim = if hollow { 2.0 } else { 1.0 };
    for (ink, size) in [(edge, 6.5), (fill, 6.5 - rim)] {
        match severity {
            Severity::None => scene.disc(x, y, size * 0.8, ink),
            Severity::Minor => scene.fill(triangle(x, y, size, if size < 6.5 { 1.3 } else { 1.0 }), ink),
            Severity::Moderate => scene.fill(diamond(x, y, size * 1.1), ink),
            Severity::Severe => scene.rect(x - size * 0.85, y - size * 0.85, x + size * 0.85, y + size * 0.85, ink),
        }
    }
}

fn diamond(x: f64, y: f64, size: f64) -> Vec<(f64, f64)> {
    vec![(x, y - size), (x + size, y), (x, y + size), (x - size, y)]
}

/// `shrink` draws the corners of an inner triangle in, so that its rim is even.
fn triangle(x: f64, y: f64, size: f64, shrink: f64) -> Vec<(f64, f64)> {
    let half = size / shrink.sqrt();
    vec![(x, y - size / shrink), (x + half, y + size * 0.75), (x - half, y + size * 0.75)]
}
