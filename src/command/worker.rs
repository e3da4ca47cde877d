//! `regrade worker` (hidden): runs one case in this process and speaks the protocol.
//!
//! The outcome message is authoritative: once it is delivered the process exits with status 0, whatever the outcome.
//! Another status means that the runner was not told how it ended. Must not know who reads the messages, nor judge
//! what was measured.

use std::time::Instant;

use anyhow::Context;

use crate::backend::{self, Availability, Backend, BackendError, Counted, Prepared, WorkCounts};
use crate::domain::{Evidence, Metric, Outcome, OutcomeKind, Samples, Skip, Value};
use crate::exit::Exit;
use crate::measure::{self, MeasureError, Measurement};
use crate::protocol::{self, Message, ProtocolError, Request, Writer};

#[cfg(test)]
mod tests;

/// Measures the case that the environment asks for.
///
/// # Errors
/// When the messages cannot be written; everything else, an unreadable request included, is told through them.
pub fn run() -> anyhow::Result<Exit> {
    end_with_parent();
    let mut writer = Writer::from_env("regrade", env!("CARGO_PKG_VERSION"))?;
    let mut send = |message: Message| writer.send(&message);
    let outcome = match protocol::request_from_env() {
        Ok(request) => {
            perform(&request, backend::find(&request.case.backend), &mut send).context("telling what was measured")?
        }
        Err(error) => failed(error.to_string()),
    };
    send(Message::Outcome(outcome)).context("telling how the launch ended")?;
    Ok(Exit::Pass)
}

/// Ends this process with the one that started it: a worker whose runner was killed would go on loading the machine unseen. Where the
/// system cannot promise this, the runner's own time-out is all there is.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// A share of a hard ceiling above which a measurement is wrong; datasheets are rounded, by up to half a percent.
const MOST_UTILIZATION: f64 = 1.005;

/// Where messages go.
type Tell<'a> = &'a mut (dyn FnMut(Message) -> Result<(), ProtocolError> + Send);

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::because(OutcomeKind::Failed, reason)
}

fn skipped(skip: &Skip) -> Outcome {
    Outcome::because(OutcomeKind::Skipped, format!("{}; {}", skip.reason, skip.remedy))
}

/// Does what the request asks for, telling everything but the outcome, which it returns.
fn perform(request: &Request, backend: Option<&dyn Backend>, send: Tell<'_>) -> Result<Outcome, ProtocolError> {
    let workload = &request.case.workload;
    let Some(backend) = backend else {
        let known: Vec<_> = backend::BACKENDS.iter().map(|backend| backend.name()).collect();
        return Ok(failed(format!("no backend `{}`; there are {}", request.case.backend, known.join(", "))));
    };
    if let Availability::Unavailable(skip) = backend.availability() {
        return Ok(skipped(&skip));
    }
    if let Err(skip) = backend.supports(workload) {
        return Ok(skipped(&skip));
    }

    let mut outcome = None;
    backend.on_its_thread(workload, &mut || outcome = Some(load_and_measure(request, backend, send)));
    outcome.unwrap_or_else(|| Ok(failed("the backend did not do its job")))
}

fn load_and_measure(request: &Request, backend: &dyn Backend, send: Tell<'_>) -> Result<Outcome, ProtocolError> {
    let workload = &request.case.workload;
    let start = Instant::now();
    let loaded = backend.load(workload, request.seed);
    let loaded_s = start.elapsed().as_secs_f64();
    let mut prepared = match loaded {
        Ok(prepared) => prepared,
        Err(BackendError::OutOfMemory(what)) => {
            return Ok(Outcome::because(OutcomeKind::OutOfMemory, format!("loading `{}`: {what}", workload.name)));
        }
        Err(error) => return Ok(failed(format!("loading `{}`: {error}", workload.name))),
    };
    send(Message::Device(prepared.device()))?;
    send(value(Metric::LOAD_TIME, loaded_s - prepared.once_s()))?;

    if !prepared.is_timed() {
        return untimed(prepared.as_mut(), send);
    }
    if let Err(error) = prepared.settle(request.case.sampling.max_warmup_s) {
        return Ok(failed(format!("warming up `{}`: {error}", workload.name)));
    }
    let measurement = match measure::measure(prepared.as_mut(), &request.case.sampling, request.inject) {
        Ok(measurement) => measurement,
        Err(error) => {
            for evidence in prepared.evidence() {
                send(Message::Evidence(evidence))?;
            }
            let kind = match &error {
                MeasureError::Disturbed { .. } => OutcomeKind::Invalid,
                MeasureError::Subject(error) if error.is_out_of_memory() => OutcomeKind::OutOfMemory,
                _ => OutcomeKind::Failed,
            };
            return Ok(Outcome::because(kind, format!("measuring `{}`: {error}", workload.name)));
        }
    };
    tell(&measurement, prepared.as_ref(), send)?;
    let doubt = tell_more(&measurement, prepared.as_mut(), send)?;
    // Before the check, which may need as much memory as the workload itself.
    if let Some(bytes) = peak_memory() {
        send(value(Metric::PEAK_MEMORY, bytes))?;
    }
    let checked = check(prepared.as_mut(), send)?;
    // Wrong numbers are worse than a time that means nothing.
    Ok(match doubt {
        Some(doubt) if checked.kind == OutcomeKind::Measured => doubt,
        _ => checked,
    })
}

/// A workload that is made and not run: what was learnt by making it.
fn untimed(prepared: &mut dyn Prepared, send: Tell<'_>) -> Result<Outcome, ProtocolError> {
    let values = prepared.values(f64::NAN);
    for evidence in prepared.evidence() {
        send(Message::Evidence(evidence))?;
    }
    let values = match values {
        Ok(values) => values,
        Err(error) => return Ok(failed(error.to_string())),
    };
    for (name, number) in values {
        send(value(name, number))?;
    }
    if let Some(bytes) = peak_memory() {
        send(value(Metric::PEAK_MEMORY, bytes))?;
    }
    check(prepared, send)
}

/// Samples, values made of them, and how they came about.
fn tell(measurement: &Measurement, prepared: &dyn Prepared, send: Tell<'_>) -> Result<(), ProtocolError> {
    let samples = |name, clock: &str, values: &[f64]| {
        Message::Samples(Samples {
            metric: standard(name),
            iterations: measurement.iterations,
            clock: Some(clock.to_owned()),
            values: values.to_vec(),
        })
    };
    send(samples(Metric::LATENCY, prepared.clock(), &measurement.latency))?;
    if let Some(cpu_time) = &measurement.cpu_time {
        send(samples(Metric::CPU_TIME, measure::PROCESS_CPU_CLOCK, cpu_time))?;
    }
    if let Some(clocks) = &measurement.clock_hz {
        let cycles: Vec<f64> = measurement.latency.iter().zip(clocks).map(|(seconds, hz)| seconds * hz).collect();
        send(samples(Metric::CYCLES, prepared.clock(), &cycles))?;
        send(samples(Metric::SM_CLOCK, prepared.clock(), clocks))?;
    }
    for rate in rates(&prepared.counts(), measurement.median_latency_s()) {
        send(Message::Value(rate))?;
    }
    send(Message::Warmup(measurement.warmup.clone()))?;
    send(Message::Stop { reason: measurement.stop })?;
    send(Message::Evidence(evidence(measurement)))
}

/// Utilisation, the backend's own values and what the device did; an outcome where a rate is beyond what can be.
fn tell_more(
    measurement: &Measurement,
    prepared: &mut dyn Prepared,
    send: Tell<'_>,
) -> Result<Option<Outcome>, ProtocolError> {
    let latency_s = measurement.median_latency_s();
    let mut told = Vec::new();
    let more = prepared.ceilings().and_then(|ceilings| Ok((ceilings, prepared.values(latency_s)?)));
    for evidence in prepared.evidence() {
        send(Message::Evidence(evidence))?;
    }
    let (ceilings, values) = match more {
        Ok(more) => more,
        Err(error) => return Ok(Some(broken("after measuring", &error))),
    };
    let counts = prepared.counts();
    let mut impossible = prepared.doubt(latency_s);
    for ceiling in ceilings {
        let count = match ceiling.of {
            Counted::Flops => counts.flops,
            Counted::Bytes => counts.bytes,
        };
        let Some(share) = count.map(|count| count / latency_s / ceiling.rate) else { continue };
        told.push((ceiling.metric, share));
        if ceiling.hard && share > MOST_UTILIZATION {
            impossible = Some(format!(
                "{} is {:.1} %: no such device does more than its datasheet says, so the work was not done or not all timed",
                ceiling.metric,
                100.0 * share
            ));
        }
    }
    for (name, number) in told.into_iter().chain(values) {
        send(value(name, number))?;
    }
    Ok(impossible.map(|reason| Outcome::because(OutcomeKind::Invalid, reason)))
}

/// How a launch ends where the backend could not go on.
fn broken(doing: &str, error: &BackendError) -> Outcome {
    let kind = match error {
        BackendError::OutOfMemory(_) => OutcomeKind::OutOfMemory,
        _ => OutcomeKind::Failed,
    };
    Outcome::because(kind, format!("{doing}: {error}"))
}

/// Compares the numbers with their reference; the launch is measured only if all of them are right.
fn check(prepared: &mut dyn Prepared, send: Tell<'_>) -> Result<Outcome, ProtocolError> {
    let checks = match prepared.check() {
        Ok(checks) => checks,
        Err(error @ BackendError::OutOfMemory(_)) => {
            return Ok(broken("no room for the reference that the numbers are compared with", &error));
        }
        Err(error) => return Ok(failed(format!("checking the numbers: {error}"))),
    };
    let wrong: Vec<String> = checks
        .iter()
        .filter(|check| !check.pass)
        .map(|check| {
            let (name, reference) = (&check.name, &check.reference);
            format!("{name} is off by {:.3e} (at most {:.3e}) from {reference}", check.error, check.tolerance)
        })
        .collect();
    for check in checks {
        send(Message::Check(check))?;
    }
    Ok(if wrong.is_empty() { Outcome::measured() } else { failed(format!("wrong numbers: {}", wrong.join("; "))) })
}

/// Achieved rates: the declared counts of an iteration over its median latency.
fn rates(counts: &WorkCounts, latency_s: f64) -> Vec<Value> {
    let rate = |name, count: f64| Value { metric: standard(name), value: count / latency_s };
    let throughput = counts.items.map(|(items, unit)| {
        let mut value = rate(Metric::THROUGHPUT, items);
        value.metric.unit = format!("{unit}/s");
        value
    });
    let flop_rate = counts.flops.map(|flops| rate(Metric::FLOP_RATE, flops));
    let byte_rate = counts.bytes.map(|bytes| rate(Metric::BYTE_RATE, bytes));
    [throughput, flop_rate, byte_rate].into_iter().flatten().collect()
}

/// What only the worker knows about how it measured.
fn evidence(measurement: &Measurement) -> Evidence {
    Evidence {
        source: "worker".to_owned(),
        facts: [
            ("iterations".to_owned(), measurement.iterations.into()),
            ("samples_discarded".to_owned(), measurement.discarded.into()),
            ("iterations_executed".to_owned(), measurement.executed.into()),
            ("injected".to_owned(), measurement.injected().into()),
            ("clock_resolution_s".to_owned(), measurement.clock_resolution_s.into()),
            ("engine_threads".to_owned(), rayon::current_num_threads().into()),
            ("allocator".to_owned(), std::env::var("GLIBC_TUNABLES").unwrap_or_else(|_| "default".to_owned()).into()),
        ]
        .into(),
    }
}

fn standard(name: &str) -> Metric {
    Metric::standard(name).expect("a name of the table, spelt by its own constant")
}

fn value(name: &str, value: f64) -> Message {
    Message::Value(Value { metric: standard(name), value })
}

/// The highest resident set of this process so far, bytes; `None` where the system does not tell.
fn peak_memory() -> Option<f64> {
    parse_peak_memory(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The `VmHWM` line of Linux's process status, which counts in KiB.
fn parse_peak_memory(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib * 1024) as f64)
}
