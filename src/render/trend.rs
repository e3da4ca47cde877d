//! A picture of one metric through its sessions, as SVG and PNG: every session, the levels, what is pending. Must not
//! know how levels were found.

use jiff::Timestamp;

use crate::domain::Metric;
use crate::render::plot::trend;
use crate::render::{Artifact, RenderError, png, svg};

/// Longest file name, without its ending: some file systems and archives stop at 100 to 255.
const LONGEST_STEM: usize = 100;

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// The case's id.
    pub case: String,
    /// The metric.
    pub metric: Metric,
    /// When each session began, and its value in the metric's unit; the oldest first.
    pub points: Vec<(Timestamp, f64)>,
    /// Levels: first point, number of points, value in the metric's unit.
    pub levels: Vec<(usize, usize, f64)>,
    /// Points to mark, with words.
    pub marks: Vec<(usize, String)>,
}

/// Two files for each trend: `trend-<case>-<metric>` of letters, digits, `.`, `-` and `_` alone.
///
/// # Errors
/// When drawing fails.
pub fn pictures(trends: &[Trend]) -> Result<Vec<Artifact>, RenderError> {
    let mut artifacts: Vec<Artifact> = Vec::new();
    for one in trends.iter().filter(|one| !one.points.is_empty()) {
        let wanted = stem(one);
        let mut name = wanted.clone();
        // Different ids may become equal when made safe.
        let mut number = 1;
        while artifacts.iter().any(|artifact| artifact.name == format!("{name}.svg")) {
            number += 1;
            name = format!("{wanted}-{number}");
        }
        let scene = trend::scene(one);
        let failed = |what| RenderError::Draw { context: name.clone(), what };
        let text = svg::draw(&scene).map_err(failed)?;
        let bytes = png::draw(&scene).map_err(failed)?;
        artifacts.push(Artifact { name: format!("{name}.svg"), bytes: text.into_bytes() });
        artifacts.push(Artifact { name: format!("{name}.png"), bytes });
    }
    Ok(artifacts)
}

fn stem(one: &Trend) -> String {
    let mut safe = String::from("trend-");
    for c in format!("{}-{}", one.case, one.metric.name).chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        if !(c == '-' && safe.ends_with('-')) {
            safe.push(c);
        }
    }
    safe.truncate(LONGEST_STEM);
    safe.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_apart_and_both_formats_are_drawn() {
        let at = |hour: i64| Timestamp::from_second(1_790_000_000 + 3600 * hour).expect("in range");
        let one = |case: &str| Trend {
            case: case.to_owned(),
            metric: Metric::standard(Metric::LATENCY).expect("in the table"),
            points: (0..20).map(|hour| (at(hour), if hour < 12 { 0.010 } else { 0.013 })).collect(),
            levels: vec![(0, 12, 0.010), (12, 8, 0.013)],
            marks: vec![(12, "pending +30.0 %".to_owned())],
        };
        let drawn = pictures(&[one("a/b@cpu"), one("a b@cpu")]).expect("drawn");
        let names: Vec<&str> = drawn.iter().map(|artifact| artifact.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "trend-a-b-cpu-latency.svg",
                "trend-a-b-cpu-latency.png",
                "trend-a-b-cpu-latency-2.svg",
                "trend-a-b-cpu-latency-2.png"
            ]
        );
        let text = String::from_utf8(drawn[0].bytes.clone()).expect("UTF-8");
        assert!(text.contains("pending +30.0 %") && text.contains("11.00 ms"), "{text}");
        assert!(drawn[1].bytes.starts_with(b"\x89PNG"));
    }
}
