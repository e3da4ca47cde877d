//! Traces of XLA's profilers (`XSpace`, tsl/profiler/protobuf/xplane.proto): how long a device worked.
//!
//! Must not know how a trace comes about.

use crate::backend::xla::wire::{self, Value, fields};

/// Field numbers.
const PLANES: u64 = 1;
const ERRORS: u64 = 2;
const WARNINGS: u64 = 3;
const NAME: u64 = 2;
const LINES: u64 = 3;
const TIMESTAMP_NS: u64 = 3;
const EVENTS: u64 = 4;
const OFFSET_PS: u64 = 2;
const DURATION_PS: u64 = 3;

/// A TPU's line with every operation; its other lines tell the same time again by steps and modules.
const OPERATIONS: &str = "XLA Ops";
/// How the planes of devices are named; the host's are not.
const DEVICES: [&str; 2] = ["/device:GPU:", "/device:TPU:"];
/// Characters of a reason.
const LONGEST: usize = 500;
/// A GPU's lines, one a stream.
const STREAM: &str = "Stream";

/// Seconds in which the first device of a trace that worked did, overlapping work counted once.
///
/// # Errors
/// When no device is in it, or one that did nothing: what is there instead, with the profiler's own words.
pub fn busy_s(space: &[u8]) -> Result<f64, String> {
    let planes: Vec<Plane> = wire::all(space, PLANES).map(plane).collect();
    let absent = |what: &str| {
        let there: Vec<String> = planes.iter().map(Plane::summary).collect();
        let said =
            [ERRORS, WARNINGS].into_iter().flat_map(|field| wire::all(space, field)).map(String::from_utf8_lossy);
        let parts: Vec<String> = std::iter::once(there.join(", ")).chain(said.map(Into::into)).collect();
        let text = format!("the profiler's trace has {what}, only {}", parts.join("; it says: "));
        text.chars().take(LONGEST).collect::<String>()
    };
    let mut devices: Vec<&Plane> =
        planes.iter().filter(|plane| DEVICES.iter().any(|start| plane.name.starts_with(start))).collect();
    if devices.is_empty() {
        return Err(absent("no device"));
    }
    // Of several that worked the one with the lowest number: a profiler has a plane for every GPU of the host.
    devices.sort_by_key(|plane| (plane.name.len(), &plane.name));
    let busy_ps = devices.into_iter().map(Plane::busy_ps).find(|busy| *busy > 0);
    busy_ps.map(|busy| busy as f64 * 1e-12).ok_or_else(|| absent("no work of a device"))
}

struct Plane {
    name: String,
    lines: Vec<Line>,
}

impl Plane {
    /// Picoseconds in which it worked on anything.
    fn busy_ps(&self) -> u128 {
        let whole: Vec<&Line> = self.lines.iter().filter(|line| line.name == OPERATIONS).collect();
        let lines = if whole.is_empty() {
            self.lines.iter().filter(|line| line.name.starts_with(STREAM)).collect()
        } else {
            whole
        };
        let mut spans: Vec<(u128, u128)> = lines.into_iter().flat_map(|line| line.spans.iter().copied()).collect();
        spans.sort_unstable();
        let (mut busy, mut until) = (0, 0);
        for (from, to) in spans {
            busy += to.saturating_sub(from.max(until));
            until = until.max(to);
        }
        busy
    }

    /// What is in it, for people: `/device:GPU:0 (40 events in "Stream #14(Compute)")`.
    fn summary(&self) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|line| format!("{} events in {:?}", line.spans.len(), line.name)).collect();
        if lines.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, lines.join(", ")) }
    }
}

struct Line {
    name: String,
    /// From and to, picoseconds since 1970: more than 64 bits hold.
    spans: Vec<(u128, u128)>,
}

fn plane(bytes: &[u8]) -> Plane {
    let mut plane = Plane { name: String::new(), lines: Vec::new() };
    for field in fields(bytes) {
        if let Some(name) = field.within(NAME) {
            plane.name = String::from_utf8_lossy(name).into_owned();
        } else if let Some(bytes) = field.within(LINES) {
            plane.lines.push(line(bytes));
        }
    }
    plane
}

fn line(bytes: &[u8]) -> Line {
    let mut line = Line { name: String::new(), spans: Vec::new() };
    let mut since_ps: u128 = 0;
    let mut events = Vec::new();
    for field in fields(bytes) {
        match (field.number, field.value) {
            (NAME, Value::Bytes(name)) => line.name = String::from_utf8_lossy(name).into_owned(),
            (TIMESTAMP_NS, Value::Number(ns)) => since_ps = u128::from(ns) * 1000,
            (EVENTS, Value::Bytes(event)) => events.push(event),
            _ => {}
        }
    }
    line.spans = events
        .into_iter()
        .map(|event| {
            let number = |wanted| match wire::first(event, wanted) {
                Some(Value::Number(number)) => Some(number),
                _ => None,
            };
            let from = since_ps + u128::from(number(OFFSET_PS).unwrap_or(0));
            (from, from + u128::from(number(DURATION_PS).unwrap_or(0)))
        })
        .collect();
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::xla::wire::build::{message, number, text};

    /// A day of 2026: its picoseconds take more than 64 bits.
    const NOW_NS: u64 = 1_795_000_000_000_000_000;

    fn name(name: &str) -> Vec<u8> {
        text(NAME, name)
    }

    /// A line with events: picoseconds after its beginning, and how long.
    fn line(called: &str, since_ns: u64, events: &[(u64, u64)]) -> Vec<u8> {
        let events = events.iter().map(|(at, long)| message(EVENTS, &[number(1, 7), number(2, *at), number(3, *long)]));
        let mut parts = vec![name(called), number(TIMESTAMP_NS, since_ns)];
        parts.extend(events);
        message(LINES, &parts)
    }

    #[test]
    fn what_overlaps_counts_once() {
        let gpu = |device: &str, long: u64| {
            let lines = [
                line("Stream #13(Compute)", NOW_NS, &[(0, 500), (2000, 300)]),
                // From 400 ps on: 100 of it beside the other stream, 100 alone.
                line("Stream #14(MemcpyD2D)", NOW_NS, &[(400, 200), (5000, long)]),
                line("Launch Stats", 0, &[(0, 1_000_000)]),
            ];
            message(PLANES, &[vec![name(device)], lines.to_vec()].concat())
        };
        let host = message(PLANES, &[name("/host:CPU"), line("python", 0, &[(0, 9_000_000)])]);
        let space = [host.clone(), gpu("/device:GPU:1", 7), gpu("/device:GPU:0", 50)].concat();
        assert_eq!(busy_s(&space), Ok(950e-12));
        let failed = [host, message(ERRORS, &[b"CUPTI: no permission".to_vec()])].concat();
        let reason = busy_s(&failed).expect_err("no device");
        assert!(
            reason.contains("no device, only /host:CPU (1 events in \"python\"); it says: CUPTI: no permission"),
            "{reason}"
        );
        let idle = message(PLANES, &[name("/device:GPU:0")]);
        assert!(busy_s(&idle).expect_err("idle").contains("no work of a device"));
        // A process that uses the second GPU alone: the first has a plane too.
        assert_eq!(busy_s(&[idle, gpu("/device:GPU:1", 50)].concat()), Ok(950e-12));
        // A trace that is cut short counts as far as it is whole, and never panics.
        for end in 0..space.len() {
            let _ = busy_s(&space[..end]);
        }
    }

    #[test]
    fn a_tpu_s_operations_are_not_counted_twice() {
        let lines = [line("XLA Modules", 0, &[(0, 1000)]), line("XLA Ops", 0, &[(0, 300), (600, 200)])];
        let space = message(PLANES, &[vec![name("/device:TPU:0")], lines.to_vec()].concat());
        assert_eq!(busy_s(&space), Ok(500e-12));
    }
}
