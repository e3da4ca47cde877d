//! The picture of a series: one dot a session in the order they were measured, a line for each level, a dashed line
//! where something is pending. Sessions are spaced evenly: what counts is their order, nights without one mean nothing.

use crate::render::format;
use crate::render::plot::axis::Axis;
use crate::render::plot::font;
use crate::render::plot::palette::{BLACK, BLUE, GREY, LIGHT, ORANGE, VERMILLION, WHITE};
use crate::render::plot::scene::{Anchor, Scene, Type};
use crate::render::trend::Trend;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
/// Room for the values' ticks.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 40.0;
/// Pixels between two ticks.
const ROOM: f64 = 44.0;

/// Lays it out. There must be a point.
pub fn scene(trend: &Trend) -> Scene {
    let mut scene = Scene::new(WIDTH, HEIGHT, WHITE);
    let title = format!("{} {}", trend.case, trend.metric.name);
    scene.text(14.0, 24.0, font::fit(&title, 15.0, true, WIDTH - 28.0), set(15.0, true, Anchor::Left));
    let values = || trend.points.iter().map(|(_, value)| *value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    // A quiet series is shown as quiet: at least five percent of its value fill the height.
    let middle = f64::midpoint(low, high);
    let half = ((high - low) * 0.55).max(middle.abs() * 0.025).max(f64::MIN_POSITIVE);
    let axis = Axis { range: (middle - half, middle + half), pixels: (0.0, HEIGHT - TOP - BOTTOM), linear_up_to: None };
    let y = |value: f64| HEIGHT - BOTTOM - axis.at(value);
    let step = (WIDTH - LEFT - RIGHT) / trend.points.len() as f64;
    let x = |place: usize| LEFT + step * (place as f64 + 0.5);
    for tick in axis.ticks(1.0, ROOM) {
        scene.line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), LIGHT, 1.0);
        let label = font::fit(&format::value(tick, &trend.metric), 12.0, false, LEFT - 16.0);
        scene.text(LEFT - 8.0, y(tick) + 4.0, label, Type { ink: GREY, ..set(12.0, false, Anchor::Right) });
    }
    for (first, sessions, value) in &trend.levels {
        let (from, to) = (x(*first) - step / 2.0, x(first + sessions - 1) + step / 2.0);
        scene.line((from, y(*value)), (to, y(*value)), ORANGE, 2.5);
    }
    for (place, (_, value)) in trend.points.iter().enumerate() {
        scene.disc(x(place), y(*value), 3.2, BLUE);
    }
    for (place, words) in &trend.marks {
        let at = x(*place) - step / 2.0;
        scene.dashes(at, TOP - 8.0, HEIGHT - BOTTOM, VERMILLION, 1.5);
        // Beside the line, on the side where there is more room.
        let (anchor, shift) = if at > WIDTH / 2.0 { (Anchor::Right, -6.0) } else { (Anchor::Left, 6.0) };
        let words = font::fit(words, 12.0, true, WIDTH / 2.0);
        scene.text(at + shift, TOP - 10.0, words, Type { ink: VERMILLION, ..set(12.0, true, anchor) });
    }
    let day = |place: usize| format::moment(trend.points[place].0).chars().take(10).collect::<String>();
    let last = trend.points.len() - 1;
    let foot = HEIGHT - BOTTOM + 22.0;
    scene.text(LEFT, foot, day(0), Type { ink: GREY, ..set(12.0, false, Anchor::Left) });
    scene.text(WIDTH - RIGHT, foot, day(last), Type { ink: GREY, ..set(12.0, false, Anchor::Right) });
    let count = format::plural(trend.points.len(), "session", "sessions");
    scene.text(f64::midpoint(LEFT, WIDTH - RIGHT), foot, count, Type { ink: GREY, ..set(12.0, false, Anchor::Middle) });
    scene
}

const fn set(em: f64, bold: bool, anchor: Anchor) -> Type {
    Type { em, bold, ink: BLACK, anchor }
}
