//! Traces of XLA's profilers (`XSpace`, tsl/profiler/protobuf/xplane.proto): how long a device worked.
//!
//! Must not know how a trace comes about.

/// Field numbers.
const PLANES: u64 = 1;
const ERRORS: u64 = 2;
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
/// Characters of an error that are told.
const LONGEST: usize = 300;
/// A GPU's lines, one a stream.
const STREAM: &str = "Stream";

/// Seconds in which the first device of a trace worked on anything, overlapping work counted once.
///
/// # Errors
/// When no device is in it, or one that did nothing: what is there instead, with the profiler's own first error.
pub fn busy_s(space: &[u8]) -> Result<f64, String> {
    let planes: Vec<Plane> = fields(space).filter_map(|field| Some(plane(field.within(PLANES)?))).collect();
    let names: Vec<&str> = planes.iter().map(|plane| plane.name.as_str()).collect();
    let error = fields(space).find_map(|field| field.within(ERRORS)).map(String::from_utf8_lossy);
    let error = error
        .map_or_else(String::new, |error| format!("; it says: {}", error.chars().take(LONGEST).collect::<String>()));
    let absent = |what: &str| format!("the profiler's trace has {what}, only {names:?}{error}");
    // Of several devices the one with the lowest number.
    let devices = planes.iter().filter(|plane| DEVICES.iter().any(|start| plane.name.starts_with(start)));
    let first = devices.min_by_key(|plane| (plane.name.len(), &plane.name)).ok_or_else(|| absent("no device"))?;
    let whole: Vec<&Line> = first.lines.iter().filter(|line| line.name == OPERATIONS).collect();
    let lines = if whole.is_empty() {
        first.lines.iter().filter(|line| line.name.starts_with(STREAM)).collect()
    } else {
        whole
    };
    let mut spans: Vec<(u64, u64)> = lines.into_iter().flat_map(|line| line.spans.iter().copied()).collect();
    spans.sort_unstable();
    let (mut busy_ps, mut until) = (0, 0);
    for (from, to) in spans {
        busy_ps += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    if busy_ps == 0 {
        return Err(absent("no work of a device"));
    }
    Ok(busy_ps as f64 * 1e-12)
}

struct Plane {
    name: String,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    /// From and to, picoseconds.
    spans: Vec<(u64, u64)>,
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
    let mut since_ps: u64 = 0;
    let mut events = Vec::new();
    for field in fields(bytes) {
        match (field.number, field.value) {
            (NAME, Value::Bytes(name)) => line.name = String::from_utf8_lossy(name).into_owned(),
            (TIMESTAMP_NS, Value::Number(ns)) => since_ps = ns.saturating_mul(1000),
            (EVENTS, Value::Bytes(event)) => events.push(event),
            _ => {}
        }
    }
    line.spans = events
        .into_iter()
        .map(|event| {
            let number = |wanted| {
                fields(event).find_map(|field| match field.value {
                    Value::Number(number) if field.number == wanted => Some(number),
                    _ => None,
                })
            };
            let from = since_ps.saturating_add(number(OFFSET_PS).unwrap_or(0));
            (from, from.saturating_add(number(DURATION_PS).unwrap_or(0)))
        })
        .collect();
    line
}

/// A field of a message in protobuf's wire format.
struct Field<'b> {
    number: u64,
    value: Value<'b>,
}

enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Of a fixed width: none is looked at.
    Other,
}

impl<'b> Field<'b> {
    fn within(&self, number: u64) -> Option<&'b [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }
}

/// The fields of a message, up to where it is whole.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => take(&mut bytes, 8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some(Field { number: key >> 3, value })
    })
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let [byte] = take(bytes, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(field: u64, mut value: u64) -> Vec<u8> {
        let mut out = vec![(field << 3) as u8];
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
        let body = parts.concat();
        let mut out = number(field, body.len() as u64);
        out[0] |= 2;
        out.extend(body);
        out
    }

    fn name(name: &str) -> Vec<u8> {
        message(NAME, &[name.as_bytes().to_vec()])
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
                line("Stream #13(Compute)", 1, &[(0, 500), (2000, 300)]),
                // From 1,000 + 400 ps: 100 of it beside the other stream, 100 alone.
                line("Stream #14(MemcpyD2D)", 1, &[(400, 200), (5000, long)]),
                line("Launch Stats", 0, &[(0, 1_000_000)]),
            ];
            message(PLANES, &[vec![name(device)], lines.to_vec()].concat())
        };
        let host = message(PLANES, &[name("/host:CPU"), line("python", 0, &[(0, 9_000_000)])]);
        let space = [host.clone(), gpu("/device:GPU:1", 7), gpu("/device:GPU:0", 50)].concat();
        assert_eq!(busy_s(&space), Ok(950e-12));
        let failed = [host, message(ERRORS, &[b"CUPTI: no permission".to_vec()])].concat();
        let reason = busy_s(&failed).expect_err("no device");
        assert!(reason.contains("no device, only [\"/host:CPU\"]; it says: CUPTI: no permission"), "{reason}");
        let idle = message(PLANES, &[name("/device:GPU:0")]);
        assert!(busy_s(&idle).expect_err("idle").contains("no work of a device"));
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
