//! The launches of one row: base above head, a strip a launch, so that a difference between launches is not taken
//! for a difference between base and head.
//!
//! Must not know how a verdict is made.

use crate::domain::RunId;
use crate::render::format::{self, typographic};
use crate::render::plot::axis::Axis;
use crate::render::plot::palette::{self, BLACK, BLUE, GREY, LIGHT, STRIPE, WHITE};
use crate::render::plot::scene::{Anchor, Ink, Scene, Type};
use crate::render::plot::{font, verdict_words};
use crate::report::{LaunchValue, Report, Row, RunInfo};

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 16.0;
const PLOT: (f64, f64) = (214.0, 872.0);
const TOP: f64 = 96.0;
/// Height of a launch's strip.
const STRIP: f64 = 17.0;
/// Between sessions.
const GAP: f64 = 9.0;
/// Sessions of the base shown, the newest.
const SESSIONS: usize = 6;
/// Launches of a session shown.
const LAUNCHES: usize = 8;
/// Samples of a launch drawn; more would only blacken the strip and fatten the file.
const POINTS: usize = 150;
/// Samples beyond this share of all do not stretch the axis.
const USUAL: f64 = 0.985;

/// The launches of a side that belong to one run.
struct Session<'a> {
    title: String,
    /// Those that are shown.
    launches: Vec<&'a LaunchValue>,
    /// The middle of all launch values: a mark for the eye, not a statistic that decides.
    median: f64,
    ink: Ink,
    head: bool,
}

fn set(em: f64, anchor: Anchor) -> Type {
    Type { em, bold: false, ink: BLACK, anchor }
}

/// Lays the picture out.
pub fn scene(report: &Report, row: &Row) -> Scene {
    let (sessions, left_out) = sessions(report, row);
    let strips: usize = sessions.iter().map(|session| session.launches.len()).sum();
    let bottom = TOP + STRIP * strips as f64 + GAP * sessions.len() as f64;
    let axis = axis(&sessions);
    let notes = notes(&sessions, left_out);
    let mut scene = Scene::new(WIDTH, bottom + 42.0 + 18.0 * notes.len() as f64, WHITE);
    heading(&mut scene, row);
    grid(&mut scene, row, &axis, bottom);
    let mut y = TOP + GAP / 2.0;
    for (index, session) in sessions.iter().enumerate() {
        let height = STRIP * session.launches.len() as f64;
        if index % 2 == 0 {
            scene.rect(MARGIN / 2.0, y - GAP / 2.0, WIDTH - MARGIN / 2.0, y + height + GAP / 2.0, STRIPE);
        }
        draw_session(&mut scene, session, &axis, y);
        y += height + GAP;
    }
    for (index, note) in notes.iter().enumerate() {
        let font = Type { ink: GREY, ..set(12.0, Anchor::Left) };
        let line = font::fit(note, 12.0, false, WIDTH - 2.0 * MARGIN);
        scene.text(MARGIN, bottom + 42.0 + 18.0 * index as f64, line, font);
    }
    scene
}

/// Base sessions from old to new, then head; and how many sessions and launches are left out.
fn sessions<'a>(report: &Report, row: &'a Row) -> (Vec<Session<'a>>, (usize, usize)) {
    let mut cut = 0;
    let mut group = |launches: &'a [LaunchValue], runs: &[RunInfo], word: &str, ink: Ink| {
        let mut ids: Vec<RunId> = launches.iter().map(|launch| launch.run).collect();
        // Run ids sort by time.
        ids.sort_unstable();
        ids.dedup();
        let all: Vec<Session<'a>> = ids
            .into_iter()
            .map(|id| {
                let own: Vec<&LaunchValue> =
                    launches.iter().filter(|launch| launch.run == id && launch.value.is_finite()).collect();
                cut += own.len().saturating_sub(LAUNCHES);
                Session {
                    title: title(runs.iter().find(|run| run.id == id), word),
                    median: median(&own),
                    launches: own.into_iter().take(LAUNCHES).collect(),
                    ink,
                    head: word == "head",
                }
            })
            .filter(|session| !session.launches.is_empty())
            .collect();
        all
    };
    let launches = |side: &'a Option<crate::report::Side>| side.as_ref().map_or(&[][..], |side| &side.launches);
    let mut sessions = group(launches(&row.base), &report.base, "base", GREY);
    let older = sessions.len().saturating_sub(SESSIONS);
    sessions.drain(..older);
    let ink = palette::of(row.verdict.call, row.verdict.severity);
    // Yellow points would vanish on white.
    let ink = if ink == palette::YELLOW { palette::ORANGE } else { ink };
    let ink = if ink == GREY { BLUE } else { ink };
    sessions.extend(group(launches(&row.head), std::slice::from_ref(&report.head), "head", ink));
    (sessions, (older, cut))
}

fn title(run: Option<&RunInfo>, word: &str) -> String {
    let commit = run.and_then(|run| run.commit.as_deref());
    let commit = commit.map_or("", |hash| hash.get(..8).unwrap_or(hash));
    let day = run.map(|run| format::moment(run.started));
    let day = day.as_deref().and_then(|moment| moment.get(5..16)).unwrap_or("");
    format!("{word} {commit} {day}").trim_end().to_owned()
}

fn samples(launch: &LaunchValue) -> impl Iterator<Item = f64> + '_ {
    launch.samples.iter().flatten().copied().filter(|value| value.is_finite())
}

/// Covers every launch value that is shown, the medians, and nearly all samples.
fn axis(sessions: &[Session<'_>]) -> Axis {
    let launches = || sessions.iter().flat_map(|session| &session.launches);
    let mut values: Vec<f64> = launches().flat_map(|launch| samples(launch)).collect();
    values.sort_by(f64::total_cmp);
    let edge = |share: f64| values.get((values.len().saturating_sub(1) as f64 * share).round() as usize).copied();
    let judged = || launches().map(|launch| launch.value).chain(sessions.iter().map(|session| session.median));
    let low = judged().chain(edge(1.0 - USUAL)).fold(f64::INFINITY, f64::min);
    let high = judged().chain(edge(USUAL)).fold(f64::NEG_INFINITY, f64::max);
    // Cut outliers off only where showing them would cost the others their room.
    let (least, most) = (edge(0.0).unwrap_or(low), edge(1.0).unwrap_or(high));
    let near = |end: f64| (end - high).max(low - end) <= (high - low) / 3.0;
    let (low, high) = (if near(least) { low.min(least) } else { low }, if near(most) { high.max(most) } else { high });
    // Equal values everywhere still want an axis around them.
    let pad = ((high - low) * 0.04).max(high.abs().max(low.abs()) * 0.002).max(f64::MIN_POSITIVE);
    Axis { range: (low - pad, high + pad), pixels: PLOT, linear_up_to: None }
}

fn heading(scene: &mut Scene, row: &Row) {
    let room = WIDTH - 2.0 * MARGIN;
    let bold = Type { bold: true, ..set(15.0, Anchor::Left) };
    scene.text(MARGIN, 27.0, font::fit(row.case.as_str(), 15.0, true, room), bold);
    let value = |side: &Option<crate::report::Side>| {
        typographic(&format::optional(side.as_ref().map(|side| side.value), &row.metric))
    };
    let change = row.verdict.estimate.map_or_else(String::new, |estimate| {
        let (change, interval) = (format::change(estimate.change), format::interval(&estimate));
        format!(" · {} {}", typographic(&change), typographic(&interval))
    });
    let line = format!("{}: {} → {}{change}", row.metric.name, value(&row.base), value(&row.head));
    scene.text(MARGIN, 49.0, font::fit(&line, 13.0, false, room), set(13.0, Anchor::Left));
    let ink = palette::text_of(row);
    let verdict = Type { bold: true, ink, ..set(13.0, Anchor::Left) };
    scene.text(MARGIN, 69.0, verdict_words(row), verdict);
}

fn grid(scene: &mut Scene, row: &Row, axis: &Axis, bottom: f64) {
    let label = Type { ink: GREY, ..set(12.0, Anchor::Middle) };
    // Bytes are shown in powers of 1024, so that is what round numbers are round in.
    let base =
        if row.metric.unit == "B" { 1024_f64.powf(axis.range.1.abs().max(1.0).log(1024.0).floor()) } else { 1.0 };
    for tick in axis.ticks(base, 74.0) {
        let x = axis.at(tick);
        scene.line((x, TOP), (x, bottom + 5.0), LIGHT, 0.75);
        let text = typographic(&format::value(tick, &row.metric));
        let half = font::width(&text, 12.0, false) / 2.0;
        if x + half <= WIDTH - 4.0 {
            scene.text(x, bottom + 19.0, font::fit(&text, 12.0, false, 100.0), label);
        }
    }
    scene.line((PLOT.0, bottom), (PLOT.1, bottom), GREY, 1.0);
    for (side, ink, word) in [(&row.base, GREY, "base"), (&row.head, BLACK, "head")] {
        let Some(value) = side.as_ref().map(|side| side.value).filter(|value| axis.holds(*value)) else {
            continue;
        };
        let x = axis.at(value);
        scene.dashes(x, TOP - 2.0, bottom, ink, 1.25);
        let other = if word == "base" { &row.head } else { &row.base };
        let other = other.as_ref().map_or(x, |side| axis.at(side.value));
        // The two words stand on the far sides of their lines, so that they cannot meet.
        let before = x < other || (x == other && word == "base");
        let (anchor, shift) = if before { (Anchor::Right, 2.0) } else { (Anchor::Left, -2.0) };
        scene.text(x + shift, TOP - 6.0, word, Type { ink, ..set(12.0, anchor) });
    }
}

fn draw_session(scene: &mut Scene, session: &Session<'_>, axis: &Axis, top: f64) {
    let middle = top + STRIP * session.launches.len() as f64 / 2.0;
    let font = Type { bold: session.head, ..set(12.0, Anchor::Left) };
    scene.text(MARGIN, middle + 4.5, font::fit(&session.title, 12.0, session.head, PLOT.0 - MARGIN - 14.0), font);
    // Before the launches, one of which lies on it more often than not.
    let x = axis.at(session.median);
    let bar = STRIP * session.launches.len() as f64;
    if session.launches.len() > 1 {
        scene.line((x, top), (x, top + bar), session.ink, 1.5);
        scene.fill(vec![(x - 6.0, top - 4.5), (x + 6.0, top - 4.5), (x, top + 3.5)], session.ink);
    }
    let Ink(red, green, blue, _) = session.ink;
    for (index, launch) in session.launches.iter().enumerate() {
        let y = top + STRIP * (index as f64 + 0.5);
        scene.line((PLOT.0, y), (PLOT.1, y), LIGHT, 0.5);
        for (position, value) in thinned(launch).into_iter().enumerate() {
            if axis.holds(value) {
                scene.disc(axis.at(value), y + jitter(position), 1.7, Ink(red, green, blue, 0.4));
            }
        }
        let [below, above] = beyond(launch, axis);
        if below > 0 {
            let ink = Type { ink: GREY, ..set(12.0, Anchor::Left) };
            scene.text(PLOT.0 + 2.0, y + 4.0, format!("← +{below}"), ink);
        }
        if above > 0 {
            let ink = Type { ink: GREY, ..set(12.0, Anchor::Right) };
            scene.text(WIDTH - 4.0, y + 4.0, format!("+{above} →"), ink);
        }
        let x = axis.at(launch.value);
        scene.rect(x - 1.75, y - 7.5, x + 1.75, y + 7.5, WHITE);
        scene.rect(x - 1.0, y - 7.0, x + 1.0, y + 7.0, BLACK);
    }
}

/// Samples off either end of the axis.
fn beyond(launch: &LaunchValue, axis: &Axis) -> [usize; 2] {
    let count = |off: &dyn Fn(f64) -> bool| samples(launch).filter(|value| off(*value)).count();
    [count(&|value| value < axis.range.0), count(&|value| value > axis.range.1)]
}

/// The middle of the launch values; NaN for none.
fn median(launches: &[&LaunchValue]) -> f64 {
    let mut values: Vec<f64> = launches.iter().map(|launch| launch.value).collect();
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// All samples, or evenly spaced ranks of them where there are many: the shape stays.
fn thinned(launch: &LaunchValue) -> Vec<f64> {
    let mut values: Vec<f64> = samples(launch).collect();
    if values.len() <= POINTS {
        return values;
    }
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (0..POINTS).map(|index| values[index * last / (POINTS - 1)]).collect()
}

/// Spreads points over the strip; the golden ratio never clumps and needs no random numbers.
fn jitter(position: usize) -> f64 {
    let share = (position as f64 * 0.618_033_988_749_895).fract();
    (share - 0.5) * (STRIP - 7.0)
}

fn notes(sessions: &[Session<'_>], (older, cut): (usize, usize)) -> Vec<String> {
    let launches = || sessions.iter().flat_map(|session| &session.launches);
    let mut notes = vec![if launches().any(|launch| launch.samples.is_some()) {
        "A strip is a launch (one process): points are samples, the black tick is its launch value, ▼ the session's median.".to_owned()
    } else {
        "A strip is a launch (one process): the black tick is its launch value, ▼ the session's median. Samples were not included.".to_owned()
    }];
    if older > 0 {
        notes.push(format!(
            "{} of the base not shown.",
            format::plural(older, "older session is", "older sessions are")
        ));
    }
    if cut > 0 {
        notes.push(format!("{} not shown.", format::plural(cut, "further launch is", "further launches are")));
    }
    if launches().any(|launch| launch.samples.as_ref().is_some_and(|samples| samples.len() > POINTS)) {
        notes.push(format!("Of launches with more samples {POINTS} are drawn, evenly spaced by rank."));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LaunchId;

    fn launch(value: f64, samples: &[f64]) -> LaunchValue {
        LaunchValue { run: RunId::fresh(), launch: LaunchId::fresh(), value, n: 9, samples: Some(samples.to_vec()) }
    }

    fn session(launches: Vec<&LaunchValue>, median: f64) -> Session<'_> {
        Session { title: String::new(), launches, median, ink: GREY, head: false }
    }

    #[test]
    fn outliers_are_counted_at_both_ends_and_a_median_is_on_the_axis() {
        let usual: Vec<f64> = (0..200).map(|at| 10.0 + f64::from(at) / 1000.0).collect();
        let wild = launch(10.0, &[usual.as_slice(), &[1.0, 30.0, 40.0]].concat());
        let axis = axis(&[session(vec![&wild], 10.5)]);
        assert_eq!(beyond(&wild, &axis), [1, 2]);
        assert!(axis.holds(10.5), "launches that are not shown moved it");
    }
}
