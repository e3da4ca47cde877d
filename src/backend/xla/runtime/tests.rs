//! Against a real HTTP/2 server that answers as libtpu's does, refuses, or is silent.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::*;
use crate::backend::xla::wire::build::{double, message, number, text};

/// What the server does with a call.
enum Reply {
    Message(Vec<u8>),
    /// A body as it is.
    Raw(Vec<u8>),
    /// A status in the headers, with no body.
    Refusal(&'static str),
    /// A status in the trailers.
    Late(&'static str),
    Status(u16),
    Silence,
}

type Replies = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// Serves one connection, as `reply` says by the metric's name; the port.
fn served(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> u16 {
    let (tell, port) = std::sync::mpsc::channel();
    let reply: Replies = Arc::new(reply);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            tell.send(listener.local_addr().expect("its address").port()).expect("the test waits");
            let (socket, _) = listener.accept().await.expect("a connection");
            let mut connection = h2::server::Builder::new().handshake::<_, Framed>(socket).await.expect("HTTP/2");
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond, reply.clone()));
            }
        });
    });
    port.recv().expect("the port")
}

async fn answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Framed>, reply: Replies) {
    assert_eq!(request.uri().path(), METHOD);
    assert_eq!(
        (&request.headers()["content-type"], &request.headers()["te"]),
        (&"application/grpc".parse().expect("a header"), &"trailers".parse().expect("a header"))
    );
    let mut body = request.into_body();
    let mut asked = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        asked.extend_from_slice(&chunk);
    }
    assert_eq!(asked[..5], [0, 0, 0, 0, (asked.len() - 5) as u8]);
    let name = wire::all(&asked[5..], 1).next().map(String::from_utf8_lossy).expect("a name");
    let ok = http::Response::builder().header("content-type", "application/grpc");
    let trailers = |status: &str| {
        http::HeaderMap::from_iter([("grpc-status".parse().expect("a name"), status.parse().expect("a value"))])
    };
    let (bytes, late) = match reply(&name) {
        Reply::Message(message) => (framed(&message).into_inner(), "0"),
        Reply::Raw(bytes) => (bytes, "0"),
        Reply::Late(status) => (Vec::new(), status),
        Reply::Refusal(status) => {
            let refused =
                ok.header("grpc-status", status).header("grpc-message", "not today").body(()).expect("headers");
            return drop(respond.send_response(refused, true).expect("sent"));
        }
        Reply::Status(status) => {
            let refused = http::Response::builder().status(status).body(()).expect("headers");
            return drop(respond.send_response(refused, true).expect("sent"));
        }
        Reply::Silence => return std::future::pending().await,
    };
    let mut out = respond.send_response(ok.body(()).expect("headers"), false).expect("sent");
    out.send_data(std::io::Cursor::new(bytes), false).expect("sent");
    out.send_trailers(trailers(late)).expect("sent");
}

/// `MetricResponse` with these metrics.
fn response(metrics: &[Vec<u8>]) -> Reply {
    let of_one: Vec<Vec<u8>> = metrics.iter().map(|metric| message(3, std::slice::from_ref(metric))).collect();
    Reply::Message(message(1, &[vec![text(1, "name")], of_one].concat()))
}

fn of_device(id: u64) -> Vec<u8> {
    message(1, &[text(1, "device-id"), message(2, &[number(3, id)])])
}

/// As the metrics of programs name a device, by a text.
fn of_ordinal(id: &str) -> Vec<u8> {
    let attribute = |key: &str, value: Vec<u8>| message(1, &[text(1, key), message(2, &[value])]);
    let list = [attribute("core_type", text(1, "tensor_core")), attribute("device_ordinal", text(1, id))];
    message(1, &[text(1, "attributes"), message(2, &[message(6, &list)])])
}

fn all(name: &str) -> Reply {
    match name {
        // Out of order, as a map's values come.
        "tpu.runtime.tensorcore.dutycycle.percent" => response(&[
            [of_device(1), message(2, &[number(1, 9)]), message(3, &[double(1, 12.5)])].concat(),
            [of_device(0), message(3, &[double(1, 99.0)])].concat(),
        ]),
        "tpu.runtime.hbm.memory.usage.bytes" => {
            response(&[[of_device(0), message(3, &[number(2, 17 << 30)])].concat()])
        }
        "tpu.runtime.hbm.memory.total.bytes" => Reply::Refusal("5"),
        "hlo.execution.timing.distribution.microseconds" => response(&[
            [of_ordinal("1"), message(5, &[number(1, 4), double(2, 20.25)])].concat(),
            [of_ordinal("0"), message(5, &[number(1, 4), double(2, 10.0)])].concat(),
        ]),
        other => panic!("nobody asked for {other}"),
    }
}

#[test]
fn what_libtpu_tells_is_a_list_by_device_and_what_it_does_not_know_is_absent() {
    let facts = asked(served(all), Duration::from_secs(60)).expect("facts");
    let expected = json!({
        "duty_cycle_percent": [99.0, 12.5],
        "memory_bytes": [18_253_611_008.0],
        "execution_mean_us": [10.0, 20.25],
    });
    assert_eq!(json!(facts), expected);
}

#[test]
fn silence_refusals_and_rubbish_are_reasons() {
    let minute = Duration::from_secs(60);
    let reason = |reply: fn(&str) -> Reply| asked(served(reply), minute).expect_err("no facts");
    assert!(reason(|_| Reply::Refusal("12")).ends_with("gRPC status 12: not today"));
    assert!(reason(|_| Reply::Late("14")).contains("gRPC status 14"));
    assert!(reason(|_| Reply::Status(503)).contains("HTTP status 503"));
    assert!(reason(|_| Reply::Raw(b"hello".to_vec())).contains("no gRPC message"));
    assert!(
        reason(|_| Reply::Raw(vec![1, 0, 0, 0, 0])).contains("no gRPC message"),
        "compressed, which nobody asked for"
    );
    assert!(reason(|_| Reply::Raw(vec![0, 0, 0, 0, 9, 1])).contains("no gRPC message"), "shorter than it says");
    assert!(reason(|_| Reply::Raw(vec![0; LONGEST + 1])).contains("an answer of more than"));
    let silent = asked(served(|_| Reply::Silence), Duration::from_millis(200)).expect_err("no facts");
    assert!(silent.contains("no answer in 0.2 s"), "{silent}");
    // A port where nobody listens: it was free a moment ago.
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("it").port();
    assert!(asked(free, minute).expect_err("no facts").contains("refused"));
    // Somebody else's service.
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = other.local_addr().expect("it").port();
    std::thread::spawn(move || drop(other.accept()));
    asked(port, minute).expect_err("it hung up");
}

#[test]
fn a_response_that_is_cut_short_never_panics() {
    for name in ASKED.map(|(_, name)| name) {
        let Reply::Message(whole) = all(name) else { continue };
        for end in 0..whole.len() {
            assert!(by_device(&whole[..end]).len() <= by_device(&whole).len());
        }
    }
}
