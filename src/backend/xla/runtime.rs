//! What libtpu tells of its chips while a program has them: how busy they are, their memory, how long programs took. It serves that in
//! the very process (gRPC, `RuntimeMetricService` of `tpu_info/proto/tpu_metric_service.proto` in cloud-accelerator-diagnostics).
//!
//! Must not know programs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::net::TcpStream;

use crate::backend::xla::wire::{self, Value};

/// The variable with the ports of libtpu's services, one a process of the program.
const PORTS: &str = "TPU_RUNTIME_METRICS_PORTS";
/// The port where none is given.
const PORT: u16 = 8431;
/// It is in this process; what takes longer is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is not longer, bytes: a host has 8 chips, and a distribution some hundred buckets.
const LONGEST: usize = 1 << 20;
const METHOD: &str = "/tpu.monitoring.runtime.RuntimeMetricService/GetRuntimeMetric";

/// Facts of evidence with libtpu's names of what they are made from.
const ASKED: [(&str, &str); 4] = [
    ("duty_cycle_percent", "tpu.runtime.tensorcore.dutycycle.percent"),
    ("memory_bytes", "tpu.runtime.hbm.memory.usage.bytes"),
    ("memory_total_bytes", "tpu.runtime.hbm.memory.total.bytes"),
    ("execution_mean_us", "hlo.execution.timing.distribution.microseconds"),
];

/// Field numbers of `tpu_metric_service.proto`.
mod field {
    pub const REQUEST_NAME: u64 = 1;
    pub const RESPONSE_METRIC: u64 = 1;
    pub const METRICS: u64 = 3;
    pub const ATTRIBUTE: u64 = 1;
    pub const GAUGE: u64 = 3;
    pub const DISTRIBUTION: u64 = 5;
    pub const GAUGE_DOUBLE: u64 = 1;
    pub const GAUGE_INT: u64 = 2;
    pub const DISTRIBUTION_MEAN: u64 = 2;
    pub const KEY: u64 = 1;
    pub const VALUE: u64 = 2;
    pub const TEXT: u64 = 1;
    pub const INT: u64 = 3;
    pub const LIST: u64 = 6;
    pub const LIST_ATTRIBUTES: u64 = 1;
}

/// Asks libtpu in this process: facts by name, each a list by device (the duty cycle by chip). A name that it does not know is absent.
///
/// # Errors
/// Why it tells nothing at all.
pub fn facts() -> Result<BTreeMap<String, Json>, String> {
    let told = std::env::var(PORTS).unwrap_or_default();
    let first = told.split(',').next().unwrap_or_default().trim();
    let port = match first {
        "" => PORT,
        port => port.parse().map_err(|_| format!("{PORTS} is `{told}`: `{port}` is no port"))?,
    };
    asked(port, PATIENCE)
}

fn asked(port: u16, patience: Duration) -> Result<BTreeMap<String, Json>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot ask libtpu: {error}"))?;
    let all = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())?;
        let handshake = h2::client::Builder::new().handshake::<_, Framed>(stream);
        let (client, connection) = handshake.await.map_err(|error| error.to_string())?;
        // Runs beside the calls; how it ends, they tell.
        tokio::spawn(connection);
        let (mut facts, mut refused) = (BTreeMap::new(), None);
        for (fact, name) in ASKED {
            match call(client.clone(), &request(name)).await {
                Ok(answer) => _ = facts.insert(fact.to_owned(), json!(by_device(&answer))),
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        match refused {
            Some(error) if facts.is_empty() => Err(error),
            _ => Ok(facts),
        }
    };
    let limited = runtime.block_on(async { tokio::time::timeout(patience, all).await });
    let answered = limited.unwrap_or_else(|_| Err(format!("no answer in {} s", patience.as_secs_f64())));
    answered.map_err(|error| format!("libtpu's runtime metrics at localhost:{port}: {error}"))
}

/// One call: the message of the answer.
async fn call(client: h2::client::SendRequest<Framed>, message: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: h2::Error| error.to_string();
    let request = http::Request::post(format!("http://localhost{METHOD}"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(())
        .expect("fixed texts make a request");
    let (response, mut out) = client.ready().await.map_err(failed)?.send_request(request, false).map_err(failed)?;
    out.send_data(framed(message), true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("HTTP status {}", response.status()));
    }
    // A refusal has no body, and its status in the headers.
    status(response.headers())?;
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(failed)?;
        body.flow_control().release_capacity(chunk.len()).map_err(failed)?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(format!("an answer of more than {LONGEST} bytes"));
        }
    }
    if let Some(trailers) = body.trailers().await.map_err(failed)? {
        status(&trailers)?;
    }
    let message = bytes.split_first_chunk::<5>().filter(|([compressed, length @ ..], message)| {
        *compressed == 0 && u32::from_be_bytes(*length) as usize == message.len()
    });
    message.map(|(_, message)| message.to_vec()).ok_or_else(|| "an answer that is no gRPC message".to_owned())
}

/// Bytes as `h2` sends them.
type Framed = std::io::Cursor<Vec<u8>>;

/// A message as gRPC sends it: not compressed, with its length.
fn framed(message: &[u8]) -> Framed {
    let length = u32::try_from(message.len()).expect("a name of a metric is short");
    std::io::Cursor::new([&[0], length.to_be_bytes().as_slice(), message].concat())
}

/// The call's own status.
fn status(headers: &http::HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => Err(format!("gRPC status {code}: {}", text("grpc-message").unwrap_or_default())),
    }
}

fn request(name: &str) -> Vec<u8> {
    let mut request = Vec::new();
    wire::put_bytes(&mut request, field::REQUEST_NAME, name.as_bytes());
    request
}

/// Values of a metric, in the devices' order.
fn by_device(response: &[u8]) -> Vec<f64> {
    let metrics = wire::all(response, field::RESPONSE_METRIC).flat_map(|metric| wire::all(metric, field::METRICS));
    let mut values: Vec<(u64, f64)> = metrics.filter_map(|metric| Some((device(metric), value(metric)?))).collect();
    values.sort_by_key(|(device, _)| *device);
    values.into_iter().map(|(_, value)| value).collect()
}

fn value(metric: &[u8]) -> Option<f64> {
    let double = |message, number| match wire::first(message, number)? {
        Value::Double(value) => Some(value),
        _ => None,
    };
    if let Some(distribution) = wire::all(metric, field::DISTRIBUTION).next() {
        return double(distribution, field::DISTRIBUTION_MEAN);
    }
    let gauge = wire::all(metric, field::GAUGE).next()?;
    match wire::first(gauge, field::GAUGE_INT) {
        Some(Value::Number(value)) => Some(value as f64),
        _ => double(gauge, field::GAUGE_DOUBLE),
    }
}

/// Which device a value is of: a number, or in a list of attributes the one called `device_ordinal`, a number or, of late, a text.
fn device(metric: &[u8]) -> u64 {
    let of = |attribute| wire::all(attribute, field::VALUE).next();
    let number = |value| match wire::first(value, field::INT) {
        Some(Value::Number(number)) => Some(number),
        _ => wire::all(value, field::TEXT).next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()),
    };
    let found = wire::all(metric, field::ATTRIBUTE).next().and_then(of).and_then(|value| {
        let listed = wire::all(value, field::LIST).flat_map(|list| wire::all(list, field::LIST_ATTRIBUTES));
        let named = |attribute: &&[u8]| wire::all(attribute, field::KEY).next() == Some(b"device_ordinal");
        number(value).or_else(|| listed.filter(named).find_map(of).and_then(number))
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests;
